//! Logs of both mail servers, honest and not.

use std::{fs, path::Path};

use super::*;

const POSTFIX: &str = "\
Nov 20 10:00:00 node postfix/pickup[100]: 4F2C81A0B3: uid=2001 from=<news@alice.example>
Nov 20 10:00:00 node postfix/cleanup[101]: 4F2C81A0B3: message-id=<m1@node.example.net>
Nov 20 10:00:00 node postfix/qmgr[102]: 4F2C81A0B3: from=<news@alice.example>, size=812, nrcpt=1 (queue active)
Nov 20 10:00:04 node postfix/smtp[103]: 4F2C81A0B3: to=<x@mailbox.test>, relay=mx1.mailbox.test[198.51.100.12]:25, delay=4, delays=0/0/1/3, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 9A8B7C)
Nov 20 10:00:05 node postfix/submission/smtpd[104]: 5A2C81A0B4: client=home.test[192.0.2.9], sasl_method=PLAIN, sasl_username=bob@bob.example
Nov 20 10:00:05 node postfix/cleanup[101]: 5A2C81A0B4: message-id=<m2@bob.example>
Nov 20 10:00:06 node postfix/smtpd[105]: 6B2C81A0B5: client=mail.carol.example[203.0.113.7]
Nov 20 10:00:06 node postfix/cleanup[101]: 6B2C81A0B5: message-id=<m3@carol.example>
Nov 20 10:00:07 node postfix/cleanup[101]: 7C2C81A0B6: message-id=<uid=2002 from=x>
";
const EXIM: &str = "\
2026-11-20 10:00:00 1vMabc-0001xy-2Q <= news@alice.example U=alice P=local S=812 id=m1@node.example.net T=\"hi A=login:victim id=m9@x\"
2026-11-20 10:00:02 1vMabc-0001xy-2Q => x@mailbox.test R=dnslookup T=remote_smtp H=mx1.mailbox.test [198.51.100.12]:25 X=TLS1.3 C=\"250 OK\"
2026-11-20 10:00:03 1vMabd-0001xz-3R <= bob@bob.example H=(me) [192.0.2.9]:5000 P=esmtpsa X=TLS1.3:DN=\"CN=a A=plain:victim\" A=dovecot_login:bob@bob.example S=1 id=m2@bob.example
2026-11-20 10:00:04 1vMabe-0001y0-4S <= x@evil.test H=([203.0.113.99]) [203.0.113.7] U=victim P=esmtp S=1 id=m3@evil.test A=plain:victim
2026-11-20 10:00:05 1vMabf-0001y1-5T <= <> R=1vMabe-0001y0-4S U=Debian-exim P=local S=1
";

fn query(id: &str) -> LogQuery {
    LogQuery {
        message_id: Some(id.to_owned()),
        from: "2026-11-20T00:00:00Z".parse().unwrap(),
        until: "2026-11-21T00:00:00Z".parse().unwrap(),
        ..LogQuery::default()
    }
}

fn write(directory: &Path, name: &str, text: &str) -> LogFile {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    LogFile {
        path,
        direct: false,
    }
}

fn accounts(found: &LogFound) -> Vec<Account> {
    found
        .entries
        .iter()
        .flat_map(|entry| entry.accounts.iter().cloned())
        .collect()
}

#[test]
fn postfix_names_whose_a_message_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "mail.log", POSTFIX);
    let files = [file];
    let found = look_up(&files, &query("m1@node.example.net")).unwrap();
    assert_eq!(accounts(&found), [Account::Uid(2001)]);
    let entry = &found.entries[0];
    assert_eq!(entry.queue_id, "4F2C81A0B3");
    assert!(!entry.direct, "anybody can write to syslog");
    assert_eq!(
        entry.deliveries[0].relay,
        Some("198.51.100.12".parse().unwrap())
    );
    let found = look_up(&files, &query("m2@bob.example")).unwrap();
    assert_eq!(accounts(&found), [Account::Login("bob@bob.example".into())]);
    let found = look_up(&files, &query("m3@carol.example")).unwrap();
    assert_eq!(
        accounts(&found),
        [Account::Address("203.0.113.7".parse().unwrap())]
    );
    // A Message-ID that looks like another kind of line is none.
    let found = look_up(&files, &query("uid=2002 from=x")).unwrap();
    assert_eq!(accounts(&found), []);
    let found = look_up(&files, &query("nobody@nowhere")).unwrap();
    assert_eq!(found, LogFound::default());
}

#[test]
fn a_forged_line_makes_a_second_account() {
    let directory = tempfile::tempdir().unwrap();
    let forged = format!(
        "{POSTFIX}Nov 20 10:00:09 node postfix/pickup[100]: 4F2C81A0B3: uid=2002 from=<x>\n"
    );
    let file = write(directory.path(), "mail.log", &forged);
    let found = look_up(&[file], &query("m1@node.example.net")).unwrap();
    assert_eq!(accounts(&found), [Account::Uid(2001), Account::Uid(2002)]);
}

#[test]
fn exim_names_whose_a_message_is_and_believes_no_client() {
    let directory = tempfile::tempdir().unwrap();
    let files = [write(directory.path(), "mainlog", EXIM)];
    let found = look_up(&files, &query("m1@node.example.net")).unwrap();
    assert_eq!(accounts(&found), [Account::User("alice".into())]);
    assert!(found.entries[0].direct, "only Exim writes this");
    assert_eq!(found.entries[0].deliveries.len(), 1);
    assert_eq!(
        found.entries[0].deliveries[0].relay,
        Some("198.51.100.12".parse().unwrap())
    );
    let found = look_up(&files, &query("m2@bob.example")).unwrap();
    assert_eq!(accounts(&found), [Account::Login("bob@bob.example".into())]);
    let found = look_up(&files, &query("m3@evil.test")).unwrap();
    assert_eq!(
        accounts(&found),
        [Account::Address("203.0.113.7".parse().unwrap())]
    );
    assert!(
        look_up(&files, &query("m9@x")).unwrap().entries.is_empty(),
        "an id in a subject is none"
    );
}

#[test]
fn a_queue_id_is_found_across_a_rotation() {
    let directory = tempfile::tempdir().unwrap();
    let (before, after) = POSTFIX.split_at(POSTFIX.find("Nov 20 10:00:04").unwrap());
    write(directory.path(), "mail.log.1", before);
    let file = write(directory.path(), "mail.log", after);
    let query = LogQuery {
        queue_ids: ["4F2C81A0B3".to_owned()].into(),
        message_id: None,
        ..query("")
    };
    let found = look_up(&[file], &query).unwrap();
    assert_eq!(accounts(&found), [Account::Uid(2001)]);
    assert_eq!(found.entries[0].deliveries.len(), 1);
}

#[test]
fn a_long_log_is_read_where_it_matters() {
    let directory = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for day in 1..=28 {
        for line in 0..3_000 {
            text.push_str(&format!(
                "2026-11-{day:02}T{:02}:{:02}:00+00:00 node postfix/qmgr[1]: AAAAAA{line:04}: removed\n",
                line / 125,
                line % 60
            ));
            if day == 20 && line == 1_500 {
                text.push_str("2026-11-20T12:30:00.5+00:00 node postfix/pickup[1]: 4F2C81A0B3: uid=7 from=<x>\n");
                text.push_str("2026-11-20T12:30:00.6+00:00 node postfix/cleanup[1]: 4F2C81A0B3: message-id=<needle@x>\n");
            }
        }
    }
    assert!(text.len() > 4 << 20);
    let file = write(directory.path(), "mail.log", &text);
    let narrow = LogQuery {
        from: "2026-11-20T12:00:00Z".parse().unwrap(),
        until: "2026-11-20T13:00:00Z".parse().unwrap(),
        ..query("needle@x")
    };
    let found = look_up(std::slice::from_ref(&file), &narrow).unwrap();
    assert_eq!(accounts(&found), [Account::Uid(7)]);
    assert!(!found.partial);
    let mut seen = 0;
    scan::lines(&file.path, &narrow, |_| seen += 1).unwrap();
    assert!(seen < 1_000, "only the lines of that hour, not {seen}");
    let later = LogQuery {
        from: "2026-11-21T12:00:00Z".parse().unwrap(),
        until: "2026-11-21T13:00:00Z".parse().unwrap(),
        ..query("needle@x")
    };
    assert!(look_up(&[file], &later).unwrap().entries.is_empty());
}

#[test]
fn lines_without_end_and_without_sense_are_skipped() {
    let directory = tempfile::tempdir().unwrap();
    let mut bytes = vec![b'x'; 100_000];
    bytes.push(b'\n');
    bytes.extend([0xff, 0xfe, 0, b'\n']);
    bytes.extend("Feb 30 99:99:99 node postfix/pickup[1]: A: uid=\n".as_bytes());
    bytes.extend("2026-13-40 10:00:00 1vMabc-0001xy-2Q <= \n".as_bytes());
    bytes.extend(POSTFIX.as_bytes());
    bytes.extend(vec![b'y'; 16 << 10]);
    let path = directory.path().join("mail.log");
    fs::write(&path, bytes).unwrap();
    let file = LogFile { path, direct: true };
    let found = look_up(&[file], &query("m1@node.example.net")).unwrap();
    assert_eq!(accounts(&found), [Account::Uid(2001)]);
    assert!(found.entries[0].direct);
}
