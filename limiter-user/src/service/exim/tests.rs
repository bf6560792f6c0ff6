use proptest::prelude::*;

use super::*;
use crate::submission::Reply;

fn b64(text: &str) -> String {
    STANDARD.encode(text)
}

fn key() -> Key {
    Key::Exim("4711.1766".to_owned())
}

#[test]
fn a_recipient_is_asked_for() {
    let line = format!(
        "limiter 1 rcpt key=4711.1766 client=127.0.0.1 cport=54321 server=127.0.0.1 sport=25 uid=0 \
         login= sender={} to={}",
        b64("alice@shop.example"),
        b64("\"a b\"@elsewhere.example\n")
    );
    assert_eq!(
        question(line.as_bytes()),
        Ok(Question::Recipient {
            key: key(),
            envelope: Envelope {
                login: None,
                client: Some("127.0.0.1:54321".parse().unwrap()),
                server: Some("127.0.0.1:25".parse().unwrap()),
                uid: Some(0),
                sender: Some("alice@shop.example".to_owned()),
            },
            recipient: "\"a b\"@elsewhere.example\n".to_owned(),
        })
    );
}

#[test]
fn a_message_is_asked_for_and_dropped() {
    let line = format!(
        "limiter 1 data key=4711.1766 id=1vMabc-0001xy-2Q client=2001:db8::7 cport= server= sport= login={} sender= count=3\r",
        b64("info@shop.example")
    );
    assert_eq!(
        question(line.as_bytes()),
        Ok(Question::Message {
            key: key(),
            envelope: Envelope {
                login: Some("info@shop.example".to_owned()),
                client: Some("[2001:db8::7]:0".parse().unwrap()),
                server: None,
                uid: None,
                sender: Some(String::new()),
            },
            recipients: 3,
            queued: Some(Key::Queued("1vMabc-0001xy-2Q".to_owned())),
        })
    );
    assert_eq!(
        question(b"limiter 1 drop key=4711.1766"),
        Ok(Question::Drop { key: key() })
    );
}

#[test]
fn a_message_from_the_command_line_has_all_its_recipients() {
    let ask = |count: usize, all: &str| {
        let all = b64(all);
        let line = format!(
            "limiter 1 local key=4711.1766 uid=2001 login=Y2Fyb2w= sender= count={count} all={all}"
        );
        match question(line.as_bytes()) {
            Ok(Question::Whole {
                envelope,
                recipients,
                count: said,
                ..
            }) => {
                assert_eq!(usize::try_from(said), Ok(count));
                assert_eq!((envelope.uid, envelope.client), (Some(2001), None));
                assert_eq!(envelope.login, None, "whatever -oMai says");
                recipients
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        ask(2, "a@b.example, c@d.example"),
        ["a@b.example", "c@d.example"]
    );
    let odd = r#""x, y"@b.example, "\", z"@c.example, d@e.example"#;
    assert_eq!(
        ask(3, odd),
        [r#""x, y"@b.example"#, r#""\", z"@c.example"#, "d@e.example"]
    );
    assert_eq!(ask(0, ""), Vec::<String>::new());
    // However it is read, the count is there.
    assert_eq!(ask(3, "\"a@b.example, c@d.example").len(), 1);
    assert_eq!(ask(1, "a@b.example, c@d.example").len(), 2);
}

#[test]
fn what_is_no_question_is_none() {
    use QuestionError as E;
    for (line, error) in [
        ("", E::Version),
        ("limiter", E::Version),
        ("limiter 2 drop key=1", E::Version),
        ("limiter 1", E::Version),
        ("limiter 1 open key=1", E::Version),
        ("limiter  1 drop key=1", E::Version),
        ("limiter 1 drop", E::Missing("key")),
        ("limiter 1 drop key=", E::Missing("key")),
        ("limiter 1 drop key=a/b", E::Malformed("key")),
        ("limiter 1 drop key=1 key=2", E::Twice("key")),
        ("limiter 1 drop key=1 ", E::Field),
        ("limiter 1 drop key=1 x=2", E::Field),
        ("limiter 1 rcpt key=1", E::Missing("to")),
        ("limiter 1 rcpt key=1 to=YQ", E::Malformed("to")),
        ("limiter 1 rcpt key=1 to=YQ== uid=-1", E::Malformed("uid")),
        (
            "limiter 1 rcpt key=1 to=YQ== client=x",
            E::Malformed("client"),
        ),
        (
            "limiter 1 rcpt key=1 to=YQ== client=::1 cport=65536",
            E::Malformed("cport"),
        ),
        ("limiter 1 data key=1", E::Missing("count")),
        ("limiter 1 data key=1 count=1 id=../x", E::Malformed("id")),
        ("limiter 1 data key=1 count=+1", E::Malformed("count")),
        ("limiter 1 data key=1 count=100001", E::TooMany),
        ("limiter 1 local key=1 count=4294967295", E::TooMany),
    ] {
        assert_eq!(question(line.as_bytes()), Err(error), "{line}");
    }
    let long = format!("limiter 1 drop key={}", "a".repeat(65));
    assert_eq!(question(long.as_bytes()), Err(E::Malformed("key")));
}

#[test]
fn answers_are_one_line() {
    let reply = |status: &str, text: &str| Reply {
        status: status.to_owned(),
        text: text.to_owned(),
    };
    assert_eq!(answer(&Answer::Accept), "ok");
    assert_eq!(
        answer(&Answer::Defer(reply("4.7.1", "later\nok"))),
        "defer 450 4.7.1 later?ok"
    );
    assert_eq!(
        answer(&Answer::Refuse(reply("5.7.1", "no"))),
        "deny 550 5.7.1 no"
    );
}

proptest! {
    #[test]
    fn no_question_is_too_odd(
        at in 0..120_usize,
        with in proptest::collection::vec(any::<u8>(), 0..8),
        cut in 0..8_usize,
    ) {
        let mut bytes = b"limiter 1 local key=1.2 uid=2001 login= sender=YUBi count=2 all=YUBiLCBjQGQ=".to_vec();
        let at = at.min(bytes.len());
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, with);
        if let Ok(Question::Whole { recipients, .. }) = question(&bytes) {
            prop_assert!(recipients.len() <= MOST_RECIPIENTS);
        }
    }

    #[test]
    fn noise_is_no_question(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(question(&bytes).is_err());
    }

    #[test]
    fn what_senders_write_stays_in_its_field(sender in any::<String>(), to in ".+") {
        let line = format!("limiter 1 rcpt key=1 uid=7 sender={} to={}", b64(&sender), b64(&to));
        prop_assert!(!line.contains('\n'));
        let Ok(Question::Recipient { envelope, recipient, .. }) = question(line.as_bytes()) else {
            return Err(TestCaseError::fail(line));
        };
        prop_assert_eq!(envelope.sender, Some(sender));
        prop_assert_eq!(recipient, to);
        prop_assert_eq!(envelope.uid, Some(7));
    }
}
