//! What Dovecot asks: JSON over HTTP.

use std::net::IpAddr;

use serde::Deserialize;

/// Longer names are nobody's.
const MOST_LOGIN: usize = 512;
/// Longer ones are as good as none.
const MOST_SESSION: usize = 128;

/// A question or a report, by the attributes that Dovecot sends if nobody chose others. Whatever else it
/// sends is passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Body {
    login: Option<String>,
    remote: Option<String>,
    protocol: Option<String>,
    session_id: Option<String>,
    success: Option<bool>,
    policy_reject: Option<bool>,
}

/// Somebody logs in, or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// The account, in lower case: letters of either case may reach the same one.
    pub(super) account: String,
    /// The client; none if Dovecot knows no address.
    pub(super) client: Option<IpAddr>,
    /// The session, which is one connection of the client; none if Dovecot does not say.
    pub(super) session: Option<String>,
    /// Whether mailboxes are read this way. Dovecot logs people in for mail servers too.
    pub(super) is_mailbox: bool,
    /// In a report: how it ended.
    pub(super) outcome: Outcome,
}

/// How a login ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// They are in.
    Success,
    /// They were refused here.
    Refused,
    /// Their password was wrong, or something else.
    Failure,
}

/// Why it is no question.
#[derive(Debug, thiserror::Error)]
pub(super) enum QuestionError {
    /// It is not JSON, or something in it is of another kind.
    #[error("not the JSON of a login: {0}")]
    Json(#[from] serde_json::Error),
    /// Nobody logs in.
    #[error("there is no login in it, or one of more than {MOST_LOGIN} bytes")]
    Login,
}

impl Question {
    pub(super) fn read(body: &[u8]) -> Result<Self, QuestionError> {
        // A name is bytes that a client sent.
        let body: Body = serde_json::from_str(&String::from_utf8_lossy(body))?;
        let account = body
            .login
            .filter(|login| (1..=MOST_LOGIN).contains(&login.len()))
            .ok_or(QuestionError::Login)?
            .to_lowercase();
        let client = body.remote.as_deref().and_then(|text| text.parse().ok());
        let session = body
            .session_id
            .filter(|session| (1..=MOST_SESSION).contains(&session.len()));
        let is_mailbox = body.protocol.is_none_or(|protocol| {
            let mailbox = ["imap", "pop3"];
            protocol.is_empty() || mailbox.iter().any(|it| protocol.eq_ignore_ascii_case(it))
        });
        let outcome = match (body.success, body.policy_reject) {
            (Some(true), _) => Outcome::Success,
            (_, Some(true)) => Outcome::Refused,
            _ => Outcome::Failure,
        };
        Ok(Self {
            account,
            client: client.map(|client: IpAddr| client.to_canonical()),
            session,
            is_mailbox,
            outcome,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As Dovecot 2.3 sends it.
    const ALLOW: &str = r#"{"device_id":"","login":"Alice@host.example","protocol":"imap","pwhash":"0c1f","remote":"192.0.2.7","session_id":"K+wTVbTsJsTAAAIH","tls":false}"#;

    #[test]
    fn what_dovecot_sends() {
        let expected = Question {
            account: "alice@host.example".to_owned(),
            client: Some("192.0.2.7".parse().unwrap()),
            session: Some("K+wTVbTsJsTAAAIH".to_owned()),
            is_mailbox: true,
            outcome: Outcome::Failure,
        };
        assert_eq!(Question::read(ALLOW.as_bytes()).unwrap(), expected);
        for (more, outcome) in [
            ("\"success\":true,\"policy_reject\":false", Outcome::Success),
            ("\"success\":false,\"policy_reject\":true", Outcome::Refused),
            (
                "\"success\":false,\"policy_reject\":false",
                Outcome::Failure,
            ),
        ] {
            let body = ALLOW.replace("\"tls\":false", more);
            let question = Question::read(body.as_bytes()).unwrap();
            assert_eq!(question.outcome, outcome);
        }
    }

    #[test]
    fn some_of_it_may_be_missing() {
        let read = |body: &str| Question::read(body.as_bytes());
        let bare = read(r#"{"login":"a"}"#).unwrap();
        assert!(bare.is_mailbox && bare.session.is_none() && bare.client.is_none());
        let odd =
            read(r#"{"login":"a","remote":"::ffff:192.0.2.7","protocol":"smtp","x":{"y":[]}}"#);
        let odd = odd.unwrap();
        assert_eq!(odd.client, Some("192.0.2.7".parse().unwrap()));
        assert!(!odd.is_mailbox);
        assert!(
            read(r#"{"login":"a","remote":"/run/x","protocol":"POP3"}"#)
                .unwrap()
                .is_mailbox
        );
        for bad in [
            "",
            "{}",
            "[]",
            "{\"login\":\"\"}",
            "{\"login\":1}",
            "{\"login\":\"a\"",
            "null",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let long = format!("{{\"login\":\"{}\"}}", "a".repeat(513));
        assert!(matches!(read(&long), Err(QuestionError::Login)));
        let deep = format!("{{\"login\":\"a\",\"x\":{}", "[".repeat(10_000));
        assert!(read(&deep).is_err());
        // A name that is no text.
        assert!(Question::read(b"{\"login\":\"a\xff\"}").is_ok());
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let _ = Question::read(&bytes);
        }

        #[test]
        fn what_is_read_is_bounded(
            at in 0..ALLOW.len(),
            remove in 0..30_usize,
            insert in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut bytes = ALLOW.as_bytes().to_vec();
            let end = (at + remove).min(bytes.len());
            bytes.splice(at..end, insert);
            if let Ok(question) = Question::read(&bytes) {
                prop_assert!(!question.account.is_empty());
                // Replacement characters are longer than what they replace.
                prop_assert!(question.account.len() <= 3 * MOST_LOGIN);
            }
        }
    }
}
