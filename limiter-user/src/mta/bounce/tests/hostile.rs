//! What strangers and customers can bring into a log.

use proptest::prelude::*;

use super::super::*;

fn near() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn postfix(to: &str, status: &str, reply: &str) -> String {
    format!(
        "Nov 22 10:00:00 node postfix/smtp[1]: 4F2C81A0B3: to=<{to}>, relay=mx.a.test[198.51.100.2]:25, \
         delay=1, delays=0/0/0/1, dsn=2.0.0, status={status} ({reply})"
    )
}

#[test]
fn a_reply_is_no_field() {
    let forged = "250 ok), dsn=5.1.1, status=bounced (host x[1.2.3.4] said: 550 5.1.1 no";
    let said = read(&postfix("x@a.test", "sent", forged), near()).unwrap();
    assert_eq!(said.heard, Heard::Delivered("x@a.test".into()));
    // What a remote server says of where it refused, Postfix says behind it.
    let line = postfix(
        "x@a.test",
        "bounced",
        "host mx.a.test[198.51.100.2] said: 550 no (in reply to RCPT TO command) (in reply to MAIL FROM command)",
    )
    .replace("dsn=2.0.0", "dsn=5.0.0");
    let said = read(&line, near()).unwrap();
    let to = "x@a.test".to_owned();
    assert_eq!(said.heard, Heard::Failed { to, failure: None });
}

#[test]
fn a_recipient_is_no_field() {
    let to = "\"x>, relay=none, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (y\\\"\"@a.test";
    let line = postfix(
        to,
        "bounced",
        "host mx.a.test[198.51.100.2] said: 550 5.1.1 no (in reply to RCPT TO command)",
    )
    .replace("dsn=2.0.0, status=bounced", "dsn=5.1.1, status=bounced");
    let said = read(&line, near()).unwrap();
    let failure = Some(Failure::Hard);
    assert_eq!(
        said.heard,
        Heard::Failed {
            to: to.to_owned(),
            failure
        }
    );
    let exim = "2026-11-22 10:00:00 1vMabc-0001xy-2Q ** \"a: SMTP error from remote mail server after end of data: 250 x\"@a.test R=r T=t H=mx [198.51.100.2]: SMTP error from remote mail server after RCPT TO:<\"a: SMTP error from remote mail server after end of data: 250 x\"@a.test>: 550 5.1.1 no";
    let said = read(exim, near()).unwrap();
    assert!(
        matches!(
            said.heard,
            Heard::Failed {
                failure: Some(Failure::Hard),
                ..
            }
        ),
        "{said:?}"
    );
}

#[test]
fn only_those_say_it_who_know() {
    for line in [
        // A Message-ID, a subject, a greeting.
        "Nov 22 10:00:00 node postfix/cleanup[1]: 4F2C81A0B3: message-id=<uid=2002 from=<x>>",
        "Nov 22 10:00:00 node postfix/cleanup[1]: 4F2C81A0B3: warning: header Subject: to=<x@a.test>, relay=none, dsn=5.1.1, status=bounced (x) from y[192.0.2.1]",
        "Nov 22 10:00:00 node evil/smtp[1]: 4F2C81A0B3: to=<x@a.test>, relay=none, delay=0, delays=0/0/0/0, dsn=5.1.1, status=bounced (x)",
        "Nov 22 10:00:00 node postfix/smtp[1]: 4F2C81A0B3 : to=<x@a.test>, relay=none, dsn=5.1.1, status=bounced (x)",
        "Nov 22 10:00:00 node postfix/smtp[1]: ../../etc: to=<x@a.test>, relay=none, dsn=5.1.1, status=bounced (x)",
        "Nov 22 10:00:00 node postfix/smtp[1]: 4F2C81A0B3: host mx[198.51.100.2] said: 450 to=<x@a.test>, dsn=5.1.1, status=bounced (x)",
        "2026-11-22 10:00:00 H=evil [192.0.2.1] rejected RCPT <1vMabc-0001xy-2Q ** x@a.test: Unrouteable address>",
    ] {
        assert_eq!(read(line, near()), None, "{line}");
    }
}

proptest! {
    #[test]
    fn no_line_is_too_strange(line in any::<String>()) {
        let _ = read(&line, near());
        let _ = read(&format!("Nov 22 10:00:00 n postfix/smtp[1]: 4F2C81A0B3: {line}"), near());
        let _ = read(&format!("Nov 22 10:00:00 n postfix/qmgr[1]: 4F2C81A0B3: from=<{line}"), near());
        let _ = read(&format!("Nov 22 10:00:00 n postfix/smtpd[1]: 4F2C81A0B3: client={line}"), near());
        let _ = read(&format!("2026-11-22 10:00:00 1vMabc-0001xy-2Q ** {line}"), near());
        let _ = read(&format!("2026-11-22 10:00:00 1vMabc-0001xy-2Q <= {line}"), near());
        let _ = journal::read(line.as_bytes());
    }

    #[test]
    fn no_bytes_are_an_entry_that_falls_over(bytes in any::<Vec<u8>>()) {
        let _ = journal::read(&bytes);
    }

    #[test]
    fn whatever_is_answered_a_delivery_is_one(reply in "[ -~]{0,200}") {
        let said = read(&postfix("x@a.test", "sent", &reply), near()).unwrap();
        prop_assert_eq!(said.heard, Heard::Delivered("x@a.test".into()));
        let exim = format!("2026-11-22 10:00:00 1vMabc-0001xy-2Q => x@a.test R=r T=t H=mx [198.51.100.2] C=\"{reply}\"");
        let said = read(&exim, near()).unwrap();
        prop_assert_eq!(said.heard, Heard::Delivered("x@a.test".into()));
    }

    #[test]
    fn whatever_is_answered_it_is_about_this_message_and_recipient(
        local in "[a-z\"\\\\ ,=<>()]{1,20}",
        reply in "[ -~]{0,200}",
    ) {
        let quoted: String = local.chars().flat_map(|c| match c {
            '"' | '\\' => vec!['\\', c],
            c => vec![c],
        }).collect();
        let to = format!("\"{quoted}\"@a.test");
        let said = read(&postfix(&to, "bounced", &reply), near()).unwrap();
        prop_assert_eq!(&said.id, "4F2C81A0B3");
        let is_it = matches!(&said.heard, Heard::Failed { to: said, .. } if *said == to);
        prop_assert!(is_it, "{:?}", said);
    }
}
