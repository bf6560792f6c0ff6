//! What each message of the corpus yields.

use std::collections::BTreeMap;

use super::{names, sample};
use crate::complaint::{Limits, Report, Trust, parse};

/// `format type source:port(how) arrival message-id from-domains parts verified`, `-` where there is
/// none; or `refused WORD`.
const EXPECTED: &[(&str, &str)] = &[
    (
        "01-hotmail-jmrp.eml",
        "arf abuse 203.0.113.7(FirstHop) 2026-11-20T10:00:09Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "02-hotmail-jmrp-attachment.eml",
        "mail abuse 203.0.113.7(FirstHop) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received -",
    ),
    (
        "03-yahoo-cfl.eml",
        "arf abuse 203.0.113.25(FirstHop) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated arf.mail.yahoo.com",
    ),
    (
        "04-aol-scomp.eml",
        "arf abuse 203.0.113.25(Stated) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "05-comcast.eml",
        "arf abuse 203.0.113.25(Stated) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "06-spamcop.eml",
        "mail abuse 203.0.113.25(Stated) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "07-xarf-bare.json",
        "xarf abuse 203.0.113.25/41234(Stated) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "08-xarf-mail.eml",
        "xarf fraud 203.0.113.25/41234(Stated) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "09-xarf-body.eml",
        "xarf abuse 203.0.113.25(Stated) 2026-11-20T10:00:04Z - - received,violated -",
    ),
    (
        "10-xarf-class-draft.json",
        "xarf abuse 2001:db8:7::25/41234(Stated) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "11-xarf-domain.json",
        "xarf abuse - 2026-11-20T10:00:04Z - - received,violated -",
    ),
    (
        "12-fastmail.eml",
        "arf abuse 203.0.113.25(Stated) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "13-google-summary.eml",
        "arf abuse - 2026-11-20T00:00:00Z - - received,violated -",
    ),
    (
        "14-rfc5965-minimal.eml",
        "arf abuse 203.0.113.7(FirstHop) 2026-03-08T18:00:00Z 8787KJKJ3K4J3K4J3K4J3.mail@alice.example alice.example headers,message,received,violated -",
    ),
    (
        "15-rfc5965-full.eml",
        "arf abuse 203.0.113.7/40123(Stated) 2026-03-08T18:00:00Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "16-rfc6591-dmarc.eml",
        "arf auth-failure 203.0.113.25(Stated) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net bob.example headers,received,violated -",
    ),
    (
        "17-rfc6591-dkim.eml",
        "arf auth-failure 203.0.113.25(Stated) 2026-10-08T20:15:58Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,received,violated -",
    ),
    (
        "18-not-spam.eml",
        "arf not-spam 203.0.113.25(Stated) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "19-fraud-headers-only.eml",
        "arf fraud 203.0.113.7(Stated) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,received,violated -",
    ),
    (
        "20-virus-ipv6.eml",
        "arf virus 2001:db8:7::25/50001(Stated) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "21-google-forwarded.eml",
        "mail abuse 203.0.113.25(FirstHop) 2026-11-20T10:00:05Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "22-inline-full-headers.eml",
        "mail abuse 203.0.113.25(FirstHop) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "23-inline-quoted.eml",
        "mail abuse 203.0.113.25(FirstHop) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "24-inline-gmail-style.eml",
        "mail abuse - - - alice.example violated -",
    ),
    (
        "25-exim-local.eml",
        "arf abuse 203.0.113.25(Stated) 2026-11-20T10:00:04Z E1vMabc-0001xy-2Q@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "26-exim-received-style.eml",
        "mail abuse 203.0.113.7(FirstHop) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "27-opt-out.eml",
        "arf opt-out 203.0.113.25(FirstHop) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "28-other-type.eml",
        "arf miscategorized 203.0.113.25(Stated) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received -",
    ),
    (
        "29-no-final-boundary.eml",
        "arf abuse 203.0.113.25(Stated) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "30-lf-only-uppercase.eml",
        "arf abuse 203.0.113.25(Stated) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "31-wrong-charset.eml",
        "arf abuse 203.0.113.25(Stated) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "32-broken-base64.eml",
        "arf abuse 203.0.113.25(Stated) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "33-nul-in-fields.eml",
        "arf abuse 203.0.113.25(Stated) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "34-base64-feedback-part.eml",
        "arf abuse 203.0.113.25(Stated) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "35-resent-other-boundary.eml",
        "arf abuse 203.0.113.25(Stated) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "36-unreadable-source.eml",
        "arf abuse 203.0.113.25(FirstHop) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "37-exchange-eml-octets.eml",
        "mail abuse 203.0.113.25(FirstHop) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "38-mbox-line.eml",
        "arf abuse 203.0.113.25(Stated) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "39-spammer-forged-hops.eml",
        "arf abuse 192.0.2.66(FirstHop) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    (
        "40-spammer-internal-name.eml",
        "arf abuse 203.0.113.25(Deeper) 2026-11-20T10:00:04Z 20261120100001.4F2C81A0B3@node.example.net alice.example headers,message,received,violated -",
    ),
    ("r01-empty.eml", "refused empty"),
    ("r02-blank.eml", "refused empty"),
    ("r03-binary.eml", "refused not_mail"),
    ("r04-plain-mail.eml", "refused no_report"),
    ("r05-bounce.eml", "refused delivery_notice"),
    ("r06-dmarc-aggregate.eml", "refused aggregate"),
    ("r07-no-feedback-type.eml", "refused no_feedback_type"),
    ("r08-two-sources.eml", "refused contradiction"),
    ("r09-nested-multiparts.eml", "refused too_deep"),
    ("r10-thousand-parts.eml", "refused too_many_parts"),
    ("r11-many-headers.eml", "refused too_many_headers"),
    ("r12-xarf-v3.json", "refused xarf_version"),
    ("r13-xarf-no-id.json", "refused bad_xarf"),
    ("r14-xarf-ddos.json", "refused not_about_mail"),
    ("r15-xarf-torn.json", "refused bad_xarf"),
    ("r16-xarf-port-as-text.json", "refused bad_xarf"),
    ("r17-xarf-bad-source.json", "refused bad_xarf"),
    ("r18-digest-of-three.eml", "refused several"),
    ("r19-spam-that-looks-like-a-report.eml", "refused nested"),
    ("r20-parts-of-a-spam-passed-on.eml", "refused nested"),
    ("r21-deep-json.json", "refused bad_xarf"),
    ("r22-receipt.eml", "refused delivery_notice"),
    (
        "r23-report-without-its-part.eml",
        "refused no_feedback_type",
    ),
    ("r24-contradicting-types.eml", "refused contradiction"),
];

fn summary(report: &Report) -> String {
    let dash = || "-".to_owned();
    let source = report.source.map_or_else(dash, |address| {
        let port = report
            .source_port
            .map_or(String::new(), |port| format!("/{port}"));
        format!("{address}{port}({:?})", report.source_from)
    });
    let original = report.original.as_ref();
    let domains: Vec<&str> = original
        .map(|original| original.from_domains.iter().map(String::as_str).collect())
        .unwrap_or_default();
    let parts: Vec<&str> = report.parts.iter().map(|part| part.as_str()).collect();
    [
        report.format.as_str().to_owned(),
        report.feedback.as_str().to_owned(),
        source,
        report.arrival.map_or_else(dash, |time| time.to_string()),
        original
            .and_then(|original| original.message_id.clone())
            .unwrap_or_else(dash),
        if domains.is_empty() {
            dash()
        } else {
            domains.join(",")
        },
        if parts.is_empty() {
            dash()
        } else {
            parts.join(",")
        },
        report.reporter.verified.clone().unwrap_or_else(dash),
    ]
    .join(" ")
}

#[test]
fn every_message_yields_what_it_must() {
    let expected: BTreeMap<&str, &str> = EXPECTED.iter().copied().collect();
    let trust = Trust {
        authserv_ids: vec!["mx.node.example.net".to_owned()],
        reporters: vec!["yahoo.com".to_owned()],
    };
    let mut wrong = Vec::new();
    for name in names() {
        let found = match parse(&sample(&name), &Limits::default(), &trust) {
            Ok(report) => summary(&report),
            Err(refusal) => {
                assert!(!refusal.to_string().is_empty() && !refusal.advice().is_empty());
                format!("refused {}", refusal.word())
            }
        };
        if expected.get(name.as_str()) != Some(&found.as_str()) {
            wrong.push(format!("    (\"{name}\", \"{found}\"),"));
        }
    }
    assert!(wrong.is_empty(), "not as expected:\n{}", wrong.join("\n"));
    assert_eq!(
        expected.len(),
        names().len(),
        "a file of the corpus is missing"
    );
}
