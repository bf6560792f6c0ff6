//! What lines of real logs say.

use super::super::{Failure::*, *};

fn near() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn heard(line: &str) -> Option<Heard> {
    read(line, near()).map(|said| said.heard)
}

fn postfix(rest: &str) -> Option<Heard> {
    heard(&format!("Nov 22 10:00:00 node postfix/{rest}"))
}

fn failed(line: &str) -> Option<Option<Failure>> {
    match heard(line) {
        Some(Heard::Failed { failure, .. }) => Some(failure),
        _ => None,
    }
}

fn exim(rest: &str) -> String {
    format!("2026-11-22 10:00:00 1vMabc-0001xy-2Q {rest}")
}

#[test]
fn postfix_says_who_brought_a_message() {
    for (line, expected) in [
        (
            "pickup[1]: 4F2C81A0B3: uid=2001 from=<news@alice.example>",
            Source::By(Account::Uid(2001)),
        ),
        (
            "submission/smtpd[1]: 4cXyZw0sB1z9rZ4: client=home.test[192.0.2.9], sasl_method=PLAIN, sasl_username=bob@bob.example",
            Source::By(Account::Login("bob@bob.example".into())),
        ),
        (
            "smtpd[1]: 4F2C81A0B3: client=mx.test[2001:db8::1]",
            Source::By(Account::Address("2001:db8::1".parse().unwrap())),
        ),
        (
            "smtpd[1]: 4F2C81A0B3: client=localhost[127.0.0.1]",
            Source::Node,
        ),
        (
            "smtpd[1]: 4F2C81A0B3: client=localhost[127.0.0.1], orig_queue_id=5A2C81A0B4, orig_client=home.test[192.0.2.9]",
            Source::Message("5A2C81A0B4".into()),
        ),
    ] {
        assert_eq!(postfix(line), Some(Heard::Brought(expected)), "{line}");
    }
    assert_eq!(
        postfix("qmgr[1]: 4F2C81A0B3: from=<news@alice.example>, size=812, nrcpt=1 (queue active)"),
        Some(Heard::From("news@alice.example".into()))
    );
    assert_eq!(
        postfix("qmgr[1]: 4F2C81A0B3: from=<>, size=2812, nrcpt=1 (queue active)"),
        Some(Heard::From(String::new()))
    );
    assert_eq!(
        postfix(
            "qmgr[1]: 4F2C81A0B3: from=<news@alice.example>, status=expired, returned to sender"
        ),
        Some(Heard::Expired)
    );
    assert_eq!(postfix("qmgr[1]: 4F2C81A0B3: removed"), Some(Heard::Gone));
    let iso = "2026-11-22T10:00:00.123456+01:00 node postfix/qmgr[1]: 4F2C81A0B3: removed";
    assert_eq!(heard(iso), Some(Heard::Gone));
}

#[test]
fn postfix_says_what_failed_and_how() {
    let cases: &[(&str, Option<Failure>)] = &[
        // No such user.
        (
            "smtp[1]: 4F2C81A0B3: to=<x@gmail.test>, relay=mx.gmail.test[198.51.100.2]:25, delay=0.9, delays=0.1/0/0.4/0.4, dsn=5.1.1, status=bounced (host mx.gmail.test[198.51.100.2] said: 550-5.1.1 The email account that you tried to reach does not exist. 550 5.1.1 https://support.test/ - gsmtp (in reply to RCPT TO command))",
            Some(Hard),
        ),
        (
            "smtp[1]: 4F2C81A0B3: to=<x@a.test>, orig_to=<alias@b.test>, relay=mx[2001:db8::2]:25, conn_use=3, delay=1, delays=0/0/0/1, dsn=5.2.1, status=bounced (host mx[2001:db8::2] said: 550 5.2.1 disabled (in reply to RCPT TO command))",
            Some(Hard),
        ),
        // No such domain, found out without asking.
        (
            "smtp[1]: 4F2C81A0B3: to=<x@nowhere.test>, relay=none, delay=0.1, delays=0/0/0.1/0, dsn=5.4.4, status=bounced (Host or domain name not found. Name service error for name=nowhere.test type=A: Host not found)",
            Some(Hard),
        ),
        (
            "smtp[1]: 4F2C81A0B3: to=<x@null.test>, relay=none, delay=0.1, delays=0/0/0.1/0, dsn=5.1.0, status=bounced (Domain null.test does not accept mail (nullMX))",
            Some(Hard),
        ),
        // A bare 550, as to a recipient, and as to a blacklisted host.
        (
            "smtp[1]: 4F2C81A0B3: to=<x@a.test>, relay=mx[198.51.100.2]:25, delay=1, delays=0/0/0/1, dsn=5.0.0, status=bounced (host mx[198.51.100.2] said: 550 sorry, no mailbox here by that name (in reply to RCPT TO command))",
            Some(Hard),
        ),
        (
            "smtp[1]: 4F2C81A0B3: to=<x@a.test>, relay=mx[198.51.100.2]:25, delay=1, delays=0/0/0/1, dsn=5.0.0, status=bounced (host mx[198.51.100.2] said: 550 Mail from 203.0.113.1 blocked by RBL (in reply to RCPT TO command))",
            None,
        ),
        (
            "smtp[1]: 4F2C81A0B3: to=<x@a.test>, relay=mx[198.51.100.2]:25, delay=1, delays=0/0/0/1, dsn=5.0.0, status=bounced (host mx[198.51.100.2] refused to talk to me: 554 go away)",
            None,
        ),
        // A policy: of this host before the message, of the message behind it.
        (
            "smtp[1]: 4F2C81A0B3: to=<x@a.test>, relay=mx[198.51.100.2]:25, delay=1, delays=0/0/0/1, dsn=5.7.1, status=bounced (host mx[198.51.100.2] said: 554 5.7.1 listed by zen (in reply to RCPT TO command))",
            None,
        ),
        (
            "smtp[1]: 4F2C81A0B3: to=<x@a.test>, relay=mx[198.51.100.2]:25, delay=1, delays=0/0/0/1, dsn=5.7.1, status=bounced (host mx[198.51.100.2] said: 550 5.7.1 this is spam (in reply to end of DATA command))",
            Some(Other),
        ),
        (
            "smtp[1]: 4F2C81A0B3: to=<x@a.test>, relay=mx[198.51.100.2]:25, delay=1, delays=0/0/0/1, dsn=5.2.2, status=bounced (host mx[198.51.100.2] said: 552 5.2.2 over quota (in reply to RCPT TO command))",
            Some(Other),
        ),
        (
            "smtp[1]: 4F2C81A0B3: to=<x@a.test>, relay=mx[198.51.100.2]:25, delay=1, delays=0/0/0/1, dsn=5.1.8, status=bounced (host mx[198.51.100.2] said: 550 5.1.8 bad sender (in reply to MAIL FROM command))",
            Some(Other),
        ),
        // This node's own.
        (
            "local[1]: 4F2C81A0B3: to=<nobody@node.test>, relay=local, delay=0, delays=0/0/0/0, dsn=5.1.1, status=bounced (unknown user: \"nobody\")",
            Some(Hard),
        ),
        (
            "lmtp[1]: 4F2C81A0B3: to=<x@node.test>, relay=node.test[private/dovecot-lmtp], delay=0, delays=0/0/0/0, dsn=5.1.1, status=bounced (host node.test[private/dovecot-lmtp] said: 550 5.1.1 <x@node.test> User doesn't exist: x@node.test (in reply to RCPT TO command))",
            Some(Hard),
        ),
        (
            "smtp[1]: 4F2C81A0B3: to=<x@a.test>, relay=127.0.0.1[127.0.0.1]:10024, delay=0, delays=0/0/0/0, dsn=5.7.0, status=bounced (host 127.0.0.1[127.0.0.1] said: 554 5.7.0 Reject, id=1 - spam (in reply to end of DATA command))",
            None,
        ),
        (
            "error[1]: 4F2C81A0B3: to=<x@a.test>, relay=none, delay=0, delays=0/0/0/0, dsn=5.4.6, status=bounced (mail for a.test loops back to myself)",
            None,
        ),
        (
            "pipe[1]: 4F2C81A0B3: to=<x@a.test>, relay=spamd, delay=0, delays=0/0/0/0, dsn=5.3.0, status=bounced (Command died with status 1)",
            None,
        ),
    ];
    for (line, expected) in cases {
        let line = format!("Nov 22 10:00:00 node postfix/{line}");
        assert_eq!(failed(&line), Some(*expected), "{line}");
    }
    let deferred = "smtp[1]: 4F2C81A0B3: to=<x@a.test>, relay=none, delay=30, delays=0/0/30/0, dsn=4.4.1, status=deferred (connect to mx[198.51.100.2]:25: Connection timed out)";
    assert_eq!(postfix(deferred), Some(Heard::Deferred("x@a.test".into())));
    let away = "qmgr[1]: 4F2C81A0B3: to=<x@a.test>, relay=none, delay=30, delays=0/0/30/0, dsn=4.3.0, status=deferred (mail transport unavailable)";
    assert_eq!(postfix(away), None, "qmgr says other things");
    let away = "error[1]: 4F2C81A0B3: to=<x@a.test>, relay=none, delay=30, delays=0/0/30/0, dsn=4.3.0, status=deferred (mail transport unavailable)";
    assert_eq!(postfix(away), Some(Heard::Nothing));
    let sent = "smtp[1]: 4F2C81A0B3: to=<x@a.test>, relay=mx[198.51.100.2]:25, delay=4, delays=0/0/1/3, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 9A8B7C)";
    assert_eq!(postfix(sent), Some(Heard::Delivered("x@a.test".into())));
    // Refused at the door: it never came in.
    let refused = "smtpd[1]: NOQUEUE: reject: RCPT from x[192.0.2.1]: 550 5.7.1 <a@b>: Recipient address rejected; from=<c@d> to=<a@b> proto=SMTP helo=<x>";
    assert_eq!(postfix(refused), None);
}

#[test]
fn exim_says_who_brought_a_message() {
    let accepted = |rest: &str| match heard(&exim(rest)) {
        Some(Heard::Accepted { source, sender }) => (source, sender),
        other => panic!("{rest}: {other:?}"),
    };
    assert_eq!(
        accepted("<= news@alice.example U=alice P=local S=812 id=m1@node T=\"x A=login:bob\""),
        (
            Source::By(Account::User("alice".into())),
            "news@alice.example".into()
        )
    );
    assert_eq!(
        accepted(
            "<= bob@bob.example H=(me) [192.0.2.9]:5000 P=esmtpsa X=TLS1.3:a:256 A=dovecot_login:bob@bob.example S=1"
        ),
        (
            Source::By(Account::Login("bob@bob.example".into())),
            "bob@bob.example".into()
        )
    );
    assert_eq!(
        accepted("<= www@shop.example H=localhost (me) [127.0.0.1]:5000 P=esmtp S=1"),
        (Source::Node, "www@shop.example".into())
    );
    assert_eq!(
        accepted("<= <> R=1vMabe-0001y0-4S U=Debian-exim P=local S=1").1,
        ""
    );
    assert_eq!(
        accepted("<= \"A=login:bob x\"@evil.test U=alice P=local S=1"),
        (
            Source::By(Account::User("alice".into())),
            "\"A=login:bob x\"@evil.test".into()
        )
    );
    assert_eq!(heard(&exim("Completed")), Some(Heard::Gone));
    assert_eq!(heard(&exim("Completed QT=3s")), Some(Heard::Gone));
    let long = "2026-11-22 10:00:00.123 +0100 [4711] 1vMabc-000000001xy-2QAB Completed";
    assert_eq!(heard(long), Some(Heard::Gone));
}

#[test]
fn exim_says_what_failed_and_how() {
    let cases: &[(&str, Option<Failure>)] = &[
        (
            "** x@a.test F=<news@alice.example> R=dnslookup T=remote_smtp H=mx.a.test [198.51.100.12] X=TLS1.3:TLS_AES_256_GCM_SHA384:256 CV=yes DN=\"CN=a: b\": SMTP error from remote mail server after RCPT TO:<x@a.test>: 550 5.1.1 <x@a.test>: Recipient address rejected: User unknown",
            Some(Hard),
        ),
        (
            "** x@a.test R=dnslookup T=remote_smtp H=mx.a.test [2001:db8::12]: SMTP error from remote mail server after pipelined RCPT TO:<x@a.test>: 550-no such user",
            Some(Hard),
        ),
        (
            "** x@a.test R=dnslookup T=remote_smtp: SMTP error from remote mail server after RCPT TO:<x@a.test>: host mx.a.test [198.51.100.12]: 550 5.1.1 unknown",
            Some(Hard),
        ),
        (
            "** x@a.test R=dnslookup T=remote_smtp H=mx.a.test [198.51.100.12]: SMTP error from remote mail server after end of data: 554 5.7.1 spam",
            Some(Other),
        ),
        (
            "** x@a.test R=dnslookup T=remote_smtp H=mx.a.test [198.51.100.12]: SMTP error from remote mail server after MAIL FROM:<a@b> SIZE=1832: 550 5.7.1 listed",
            None,
        ),
        (
            "** x@a.test R=dnslookup T=remote_smtp H=mx.a.test [198.51.100.12]: SMTP error from remote mail server after initial connection: 554 no",
            None,
        ),
        (
            "** x@a.test R=filter T=remote_smtp H=127.0.0.1 [127.0.0.1]: SMTP error from remote mail server after end of data: 554 5.7.0 spam",
            None,
        ),
        ("** x@nowhere.test: Unrouteable address", Some(Hard)),
        (
            "** x@nowhere.test F=<a@b.example> R=dnslookup: all relevant MX records point to non-existent hosts",
            Some(Hard),
        ),
        (
            "** x@a.test R=dnslookup T=remote_smtp: retry timeout exceeded",
            Some(Other),
        ),
        (
            "** x@a.test <orig@a.test> R=r T=t: message is too big (transport limit = 1)",
            None,
        ),
    ];
    for (rest, expected) in cases {
        assert_eq!(failed(&exim(rest)), Some(*expected), "{rest}");
    }
    assert_eq!(
        heard(&exim(
            "=> x@a.test R=dnslookup T=remote_smtp H=mx [198.51.100.12] C=\"250 OK\""
        )),
        Some(Heard::Delivered("x@a.test".into()))
    );
    assert_eq!(
        heard(&exim("== x@a.test R=r T=t defer (-44): SMTP error")),
        None
    );
}

#[test]
fn entries_of_the_journal_are_read() {
    let line = br#"{"__CURSOR":"s=1;i=2","__REALTIME_TIMESTAMP":"1795341600000000","_UID":"109","SYSLOG_IDENTIFIER":"postfix/qmgr","MESSAGE":"4F2C81A0B3: removed","_BOOT_ID":"x"}"#;
    let entry = journal::read(line).unwrap();
    assert_eq!((entry.cursor.as_str(), entry.uid), ("s=1;i=2", Some(109)));
    let said = read_entry(&entry.tag, &entry.text, entry.time).unwrap();
    assert_eq!((said.id.as_str(), said.heard), ("4F2C81A0B3", Heard::Gone));
    let users = [109].into();
    assert!(journal::is_mail_server(&entry, &users));
    let forged = journal::Entry {
        uid: Some(2001),
        ..entry.clone()
    };
    assert!(
        !journal::is_mail_server(&forged, &users),
        "logger -t postfix/qmgr"
    );
    let nobody = journal::Entry { uid: None, ..entry };
    assert!(!journal::is_mail_server(&nobody, &users));
    // What is no UTF-8 stands there as bytes.
    let line = br#"{"__CURSOR":"c","__REALTIME_TIMESTAMP":"1","SYSLOG_IDENTIFIER":"exim","MESSAGE":[97,255]}"#;
    assert_eq!(journal::read(line).unwrap().text, "a\u{fffd}");
    for broken in [&b""[..], b"{", b"null", b"[]", br#"{"MESSAGE":null}"#] {
        assert_eq!(journal::read(broken), None);
    }
}
