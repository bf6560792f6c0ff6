//! The mail that a notice becomes.

use jiff::Timestamp;
use lettre::{
    Address, Message,
    address::Envelope,
    message::{
        Mailbox,
        header::{ContentType, HeaderName, HeaderValue},
    },
};

use super::{
    backoff::Failure,
    digest,
    facts::Facts,
    harmless::{self, SUBJECT},
    template::Rendered,
};

/// What stands in each notice, so that whoever reads complaints from the same mailbox knows it.
pub const NOTICE_HEADER: &str = "X-Limiter-Notice";

/// The mail for `to`, of one notice or of several about one tenant.
///
/// The same notices give the same `Message-ID` each time, so that a repeat is known for one; mails
/// about one case refer to one thread.
///
/// # Errors
/// When an address is none.
pub fn mail(
    notices: &[Facts],
    text: Rendered,
    from: &str,
    to: &str,
) -> Result<(Envelope, Vec<u8>), Failure> {
    let address = |text: &str| {
        text.parse::<Address>().map_err(|error| Failure {
            refused: true,
            error: format!("{text:?} is not a mail address: {error}"),
        })
    };
    let (from, to) = (address(from)?, address(to)?);
    let wrong =
        |error: lettre::error::Error| Failure::again(format!("cannot build the mail: {error}"));
    let ids: Vec<&str> = notices.iter().map(|facts| facts.id.as_str()).collect();
    let first = notices
        .first()
        .ok_or_else(|| Failure::again("there is nothing to tell"))?;
    let domain = domain(&first.node);
    let id = match ids.as_slice() {
        [id] => format!("<notice.{}@{domain}>", atom(id)),
        ids => format!(
            "<digest.{}@{domain}>",
            &digest::hex(ids.join("\n").as_bytes())[..32]
        ),
    };
    let mut builder = Message::builder()
        .from(Mailbox::new(Some("limiter".to_owned()), from.clone()))
        .to(Mailbox::new(None, to.clone()))
        .subject(harmless::line(&text.subject, SUBJECT))
        .date(system_time(first.time))
        .message_id(Some(id))
        .raw_header(header("Auto-Submitted", "auto-generated"))
        // Exchange does not know the above.
        .raw_header(header("X-Auto-Response-Suppress", "All"))
        .raw_header(header(NOTICE_HEADER, &ids.join(" ")));
    if let Some(operator) = first.operator.first()
        && let Ok(operator) = operator.parse::<Address>()
        && operator != from
    {
        builder = builder.reply_to(Mailbox::new(None, operator));
    }
    if let Some(thread) = thread(first, &domain) {
        builder = builder.in_reply_to(thread.clone()).references(thread);
    }
    let message = builder
        .header(ContentType::TEXT_PLAIN)
        .body(text.body)
        .map_err(wrong)?;
    let envelope = Envelope::new(Some(from), vec![to]).map_err(wrong)?;
    Ok((envelope, message.formatted()))
}

/// What all mails about a case refer to. No mail has it: it ties them together all the same.
fn thread(facts: &Facts, domain: &str) -> Option<String> {
    let (policy, case) = (facts.policy.as_ref()?, facts.case?);
    let key = digest::hex(format!("{}\n{policy}\n{case}", facts.tenant).as_bytes());
    Some(format!("<case.{case}.{}@{domain}>", &key[..16]))
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

/// The node's name as the right half of a message id.
pub(super) fn domain(node: &str) -> String {
    let name: String = node
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c
            } else if c == '.' {
                '.'
            } else {
                '-'
            }
        })
        .collect();
    let name = name.trim_matches(['.', '-']).replace("..", ".");
    if name.is_empty() {
        "localhost".to_owned()
    } else {
        name
    }
}

/// `text` as a part of the left half: as it is, or a digest of it.
fn atom(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !text.is_empty() && text.len() <= 64 && text.chars().all(plain) {
        text.to_owned()
    } else {
        digest::hex(text.as_bytes())[..32].to_owned()
    }
}

/// The sender where none is set.
#[must_use]
pub fn default_from(node: &str) -> String {
    format!("limiter@{}", domain(node))
}

fn system_time(time: Timestamp) -> std::time::SystemTime {
    time.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        notice::template::{Templates, sample},
        offence::{Audience, How, NoticeEvent, Sanction},
    };

    fn lifted() -> Facts {
        let event = NoticeEvent::Lifted {
            sanction: Sanction::BlockSmtp,
            how: How::Rule,
            still: Vec::new(),
        };
        sample::facts(Audience::Contact, event, true)
    }

    fn text(notices: &[Facts], subject: &str) -> String {
        let text = Rendered {
            subject: subject.to_owned(),
            body: "Grüße\n.\nFrom me\n".to_owned(),
        };
        let (envelope, bytes) = mail(notices, text, "abuse@host.example", "o@example.org").unwrap();
        assert_eq!(envelope.from().unwrap().to_string(), "abuse@host.example");
        assert_eq!(envelope.to().len(), 1);
        String::from_utf8(bytes).unwrap()
    }

    fn value<'t>(text: &'t str, name: &str) -> Option<&'t str> {
        let head = text.split("\r\n\r\n").next()?;
        head.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    #[test]
    fn it_says_that_a_machine_wrote_it_and_is_the_same_each_time() {
        let facts = lifted();
        let one = text(std::slice::from_ref(&facts), "a");
        assert_eq!(one, text(std::slice::from_ref(&facts), "a"));
        assert_eq!(value(&one, "Auto-Submitted"), Some("auto-generated"));
        assert_eq!(value(&one, "Message-ID"), Some("<notice.web-17-1@web-17>"));
        assert_eq!(value(&one, NOTICE_HEADER), Some("web-17-1"));
        let thread = value(&one, "In-Reply-To").unwrap();
        assert!(
            thread.starts_with("<case.3.") && thread.ends_with("@web-17>"),
            "{thread}"
        );
        assert_eq!(value(&one, "References"), Some(thread));
        let other = Facts {
            id: "x y".to_owned(),
            ..facts.clone()
        };
        assert!(
            value(&text(&[other], "a"), "Message-ID")
                .unwrap()
                .ends_with("@web-17>")
        );
        let digest = text(&[facts.clone(), facts], "a");
        assert!(
            value(&digest, "Message-ID")
                .unwrap()
                .starts_with("<digest.")
        );
    }

    #[test]
    fn nobody_smuggles_a_header_in() {
        let facts = lifted();
        let (rendered, _) = Templates::default().render(&facts);
        for hostile in [
            "a\r\nBcc: all@example.org",
            "a\nBcc: b@c.de\n\nd",
            "ä\u{2028}\r\nX: y",
        ] {
            let all = text(std::slice::from_ref(&facts), hostile);
            let head = all.split("\r\n\r\n").next().unwrap();
            let names: Vec<&str> = head
                .split("\r\n")
                .filter(|line| !line.starts_with([' ', '\t']))
                .filter_map(|line| line.split_once(':'))
                .map(|(name, _)| name)
                .collect();
            assert!(!names.contains(&"Bcc") && !names.contains(&"X"), "{head}");
            assert!(!head.contains("\nBcc"), "{head}");
        }
        let bad = mail(
            &[facts],
            rendered,
            "abuse@host.example",
            "a@b.de>\r\nRCPT TO:<c@d.ef",
        );
        assert!(bad.unwrap_err().refused);
    }
}
