use proptest::prelude::*;

use super::*;
use crate::submission::Reply;

/// What a Postfix 3.7 sends.
const RCPT: &str = "\
request=smtpd_access_policy
protocol_state=RCPT
protocol_name=ESMTP
client_address=127.0.0.1
client_name=localhost
client_port=54321
reverse_client_name=localhost
server_address=127.0.0.1
server_port=25
helo_name=web.example
sender=alice@shop.example
recipient=carol@elsewhere.example
recipient_count=0
queue_id=
instance=1a2b.65f0a1b2.c3d4e.0
size=0
etrn_domain=
stress=
sasl_method=
sasl_username=
sasl_sender=
ccert_subject=
ccert_issuer=
ccert_fingerprint=
ccert_pubkey_fingerprint=
encryption_protocol=
encryption_cipher=
encryption_keysize=0
policy_context=
";

fn parse(text: &[u8]) -> Result<Question, RequestError> {
    let mut request = Request::default();
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    lines.pop();
    for line in lines {
        request.take(line)?;
    }
    request.question()
}

fn with(changes: &[(&str, &str)]) -> Result<Question, RequestError> {
    let lines = RCPT.lines().map(|line| {
        let (name, value) = line.split_once('=').unwrap();
        let new = changes.iter().find(|(changed, _)| *changed == name);
        format!("{name}={}\n", new.map_or(value, |(_, value)| value))
    });
    parse(lines.collect::<String>().as_bytes())
}

fn envelope() -> Envelope {
    Envelope {
        login: None,
        client: Some("127.0.0.1:54321".parse().unwrap()),
        server: Some("127.0.0.1:25".parse().unwrap()),
        uid: None,
        sender: Some("alice@shop.example".to_owned()),
    }
}

#[test]
fn a_recipient_is_asked_for() {
    let question = Question::Recipient {
        instance: "1a2b.65f0a1b2.c3d4e.0".to_owned(),
        envelope: envelope(),
        recipient: "carol@elsewhere.example".to_owned(),
    };
    assert_eq!(parse(RCPT.as_bytes()), Ok(question));
}

#[test]
fn a_message_is_asked_for() {
    for state in ["DATA", "END-OF-MESSAGE", "BDAT"] {
        let question = with(&[
            ("protocol_state", state),
            ("sasl_username", "info@shop.example"),
            ("recipient", ""),
            ("recipient_count", "3"),
            ("queue_id", "4XyZ"),
            ("client_address", "2001:db8::7"),
            ("client_port", "unknown"),
            ("server_address", "unknown"),
            ("sender", ""),
        ]);
        assert_eq!(
            question,
            Ok(Question::Message {
                instance: "1a2b.65f0a1b2.c3d4e.0".to_owned(),
                envelope: Envelope {
                    login: Some("info@shop.example".to_owned()),
                    client: Some("[2001:db8::7]:0".parse().unwrap()),
                    server: None,
                    uid: None,
                    sender: Some(String::new()),
                },
                recipients: Some(3),
                queued: Some(Key::Queued("4XyZ".to_owned())),
            })
        );
    }
}

#[test]
fn other_stages_are_nobodys_business() {
    for state in ["CONNECT", "EHLO", "MAIL", "VRFY", "ETRN"] {
        let instance = "1a2b.65f0a1b2.c3d4e.0".to_owned();
        assert_eq!(
            with(&[("protocol_state", state)]),
            Ok(Question::Other { instance })
        );
    }
}

#[test]
fn what_is_no_request_is_none() {
    use RequestError as E;
    assert_eq!(with(&[("request", "junk")]), Err(E::Kind));
    assert_eq!(with(&[("instance", "")]), Err(E::Missing("instance")));
    assert_eq!(
        with(&[("protocol_state", "")]),
        Err(E::Missing("protocol_state"))
    );
    assert_eq!(with(&[("recipient", "")]), Err(E::Missing("recipient")));
    assert_eq!(parse(b""), Err(E::Kind));
    assert_eq!(parse(b"request\n"), Err(E::NoAttribute));
    let twice = format!("{RCPT}sasl_username=bob\n");
    assert_eq!(parse(twice.as_bytes()), Err(E::Twice("sasl_username")));
    // What does not matter may come as often as it likes, within bounds.
    let many = format!("{RCPT}{}", "x=y\n".repeat(200));
    assert!(parse(many.as_bytes()).is_ok());
    let many = format!("{RCPT}{}", "x=y\n".repeat(300));
    assert_eq!(parse(many.as_bytes()), Err(E::TooMuch));
    let long = format!("{RCPT}{}", format!("x={}\n", "y".repeat(8_000)).repeat(9));
    assert_eq!(parse(long.as_bytes()), Err(E::TooMuch));
}

#[test]
fn answers_are_one_line() {
    let reply = |status: &str, text: &str| Reply {
        status: status.to_owned(),
        text: text.to_owned(),
    };
    assert_eq!(answer(&Answer::Accept), "action=DUNNO\n\n");
    assert_eq!(
        answer(&Answer::Defer(reply("4.7.1", "alice has used up it"))),
        "action=450 4.7.1 alice has used up it\n\n"
    );
    assert_eq!(
        answer(&Answer::Refuse(reply("5.7.1", "no\n\naction=OK\r"))),
        "action=550 5.7.1 no??action=OK?\n\n"
    );
}

proptest! {
    #[test]
    fn no_request_is_too_odd(
        at in 0..RCPT.len(),
        with in proptest::collection::vec(any::<u8>(), 0..12),
        cut in 0..12_usize,
    ) {
        let mut bytes = RCPT.as_bytes().to_vec();
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, with);
        if let Ok(Question::Recipient { instance, recipient, .. }) = parse(&bytes) {
            prop_assert!(!instance.is_empty() && !recipient.is_empty());
        }
    }

    #[test]
    fn noise_is_no_request(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        prop_assert!(parse(&bytes).is_err());
    }
}
