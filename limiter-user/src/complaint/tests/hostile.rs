//! Reports that are made to do harm.

use std::time::{Duration, Instant};

use crate::complaint::{Limits, Refusal, Report, Trust, parse, read_bounded};

/// No report of the largest size may take longer, unoptimised, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

fn read(bytes: &[u8]) -> Result<Report, Refusal> {
    let begun = Instant::now();
    let result = parse(bytes, &Limits::default(), &Trust::default());
    assert!(begun.elapsed() < PATIENCE, "took {:?}", begun.elapsed());
    result
}

fn filled(head: &str, line: &str) -> Vec<u8> {
    let size = Limits::default().bytes;
    let mut bytes = head.as_bytes().to_vec();
    let room = (size - bytes.len()) / line.len();
    bytes.extend(line.as_bytes().repeat(room));
    bytes
}

#[test]
fn an_endless_source_is_not_read_to_its_end() {
    let limits = Limits::default();
    let begun = Instant::now();
    let result = read_bounded(std::io::repeat(b'x'), &limits).unwrap();
    assert!(matches!(result, Err(Refusal::TooLarge { .. })));
    assert!(begun.elapsed() < PATIENCE);
    let fits = read_bounded(&b"Subject: x\n\n"[..], &limits).unwrap();
    assert_eq!(fits.unwrap().len(), 12);
    let exact = Limits {
        bytes: 12,
        ..limits
    };
    assert!(
        read_bounded(&b"Subject: x\n\n"[..], &exact)
            .unwrap()
            .is_ok()
    );
    assert!(
        read_bounded(&b"Subject: xx\n\n"[..], &exact)
            .unwrap()
            .is_err()
    );
}

#[test]
fn whatever_fills_twenty_five_megabytes_ends_soon() {
    let multipart = "From: a@b.c\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n";
    for (head, line, words) in [
        ("", "x", "too_many_headers"),
        ("", "\n", "empty"),
        ("", "a:b\n", "too_many_headers"),
        ("a: b\n", " folded\n", "too_many_headers"),
        ("From: a@b.c\n\n", "From: a\n", "no_report"),
        ("From: a@b.c\n\n", "> ", "no_report"),
        ("From: a@b.c\n\n", "From: a\nTo: b\nx\n", "no_report"),
        (multipart, "--b\n", "too_many_parts"),
        (multipart, "--b\n\n", "too_many_parts"),
        (multipart, "--b", "no_report"),
        (multipart, "-", "no_report"),
        ("{\"xarf_version\":", "[", "bad_xarf"),
        ("{\"evidence\":[", "{},", "bad_xarf"),
        ("{\"xarf_version\":\"4.0.0\",\"tags\":[", "1,", "bad_xarf"),
        (
            "From: a@b.c\nContent-Type: message/rfc822\n\n",
            "Content-Type: message/rfc822\n\n",
            "no_report",
        ),
    ] {
        let result = read(&filled(head, line));
        let word = result.as_ref().err().map_or("read", Refusal::word);
        let passes = word == words || (words == "no_report" && word == "read");
        assert!(passes, "{head:?} and {line:?}: {word}");
    }
}

#[test]
fn the_original_may_be_as_monstrous_as_its_sender_likes() {
    let head = "From: fbl@provider.test\nMIME-Version: 1.0\n\
                Content-Type: multipart/report; report-type=feedback-report; boundary=b\n\n\
                --b\nContent-Type: message/feedback-report\n\n\
                Feedback-Type: abuse\nUser-Agent: P/1\nVersion: 1\nSource-IP: 203.0.113.7\n\n\
                --b\nContent-Type: message/rfc822\n\n\
                Received: from x ([203.0.113.7]) by mx id 1; Fri, 20 Nov 2026 10:00:04 +0000\n\
                From: spam@alice.example\n";
    for line in [
        "X-Long: y\n",
        " folded\n",
        "Received: from a by b; c\n",
        "(((((((",
        "Content-Type: multipart/mixed; boundary=x\n\n--x\n",
        "Content-Type: message/rfc822\n\n",
    ] {
        let report = read(&filled(head, line)).unwrap();
        let original = report.original.unwrap();
        assert!(original.headers.len() <= 3 * Limits::default().original_header_bytes);
        assert!(
            original
                .from_domains
                .iter()
                .any(|domain| domain.starts_with("alice.example"))
        );
        assert!(report.parts.contains(&crate::offence::Part::Headers));
    }
}

#[test]
fn what_is_shown_to_people_moves_no_cursor() {
    let report = read(
        b"From: a@b.c\nMIME-Version: 1.0\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\n\n\
          --b\nContent-Type: message/feedback-report\n\nFeedback-Type: \x1b[2Jabuse\x07\nUser-Agent: \xe2\x80\xaeevil\n\
          Source-IP: \x1b]0;x\n\n--b\nContent-Type: message/rfc822\n\nSubject: =?utf-8?B?G1sySg==?=\nFrom: a@b.c\n\nx\n--b--\n",
    )
    .unwrap();
    let shown = serde_json::to_string(&report).unwrap();
    for bad in ["\\u001b", "\\u0007", "\u{202e}"] {
        assert!(!shown.contains(bad), "{shown}");
    }
}
