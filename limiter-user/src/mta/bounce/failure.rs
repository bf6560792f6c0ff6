//! Which failures are bounces, and which of those are hard.
//!
//! By the enhanced status code (RFC 3463) where there is one; its second number says what it is about:
//!
//! | | |
//! |---|---|
//! | X.1.0 to X.1.4, X.1.6, X.1.9, X.1.10 | the recipient's address: **hard**. X.1.5 is no failure, X.1.7 and X.1.8 are about the sender |
//! | X.2.1 | the mailbox is disabled: **hard** |
//! | X.4.4 | there is no such domain, or nobody who takes its mail: **hard** |
//! | X.7.Y | a policy: of no recipient. At the end of the message another host has judged *it*: a bounce, not hard. Before that it can only have judged this node, whose address its tenants share: none |
//! | all else | a bounce, not hard, if another host refused |
//!
//! Without a status (5.0.0) the answer to RCPT decides: 550, 551, 553 (RFC 5321), 521 and 556 (RFC 7504)
//! are hard, unless the text speaks of lists and reputation.
//!
//! What this node refuses itself (a filter on loopback, a broken configuration) is nobody's bounce, except
//! for what is wrong with the address.

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no such recipient.
    Hard,
    /// It came back for another reason.
    Other,
}

/// Who refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Another host.
    Remote,
    /// This node, or nobody could be asked.
    Nobody,
}

/// An enhanced status code: 5.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    class: u16,
    subject: u16,
    detail: u16,
}

impl Status {
    /// Reads `5.1.1`, and nothing else.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(|number| {
            let fits =
                (1..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
            fits.then(|| number.parse().ok()).flatten()
        });
        let status = Self {
            class: numbers.next()??,
            subject: numbers.next()??,
            detail: numbers.next()??,
        };
        (numbers.next().is_none() && matches!(status.class, 2 | 4 | 5)).then_some(status)
    }
}

/// What was answered, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reply<'t> {
    /// The code of three digits.
    pub(super) code: Option<u16>,
    /// It answered RCPT.
    pub(super) to_recipient: bool,
    /// It answered the message.
    pub(super) to_message: bool,
    /// Its text.
    pub(super) text: &'t str,
}

/// Words by which servers speak of where mail comes from, and not of whom it is for.
const LISTS: [&str; 10] = [
    "spam",
    "block",
    "blacklist",
    "listed",
    "reputation",
    "policy",
    "rbl",
    "dnsbl",
    "denied",
    "banned",
];

/// Whether a permanent failure is a bounce.
pub(super) fn judge(asked: Asked, status: Option<Status>, reply: &Reply<'_>) -> Option<Failure> {
    let known = status.filter(|status| (status.subject, status.detail) != (0, 0));
    let remote = asked == Asked::Remote;
    match known.map(|status| (status.subject, status.detail)) {
        Some((1, 0..=4 | 6 | 9 | 10) | (2, 1) | (4, 4)) => Some(Failure::Hard),
        _ if !remote => None,
        Some((7, _)) => reply.to_message.then_some(Failure::Other),
        Some(_) => Some(Failure::Other),
        None if reply.to_recipient && matches!(reply.code, Some(521 | 550 | 551 | 553 | 556)) => {
            let text = reply.text.to_lowercase();
            let is_listed = LISTS.iter().any(|word| text.contains(word));
            (!is_listed).then_some(Failure::Hard)
        }
        None if reply.to_recipient || reply.to_message => Some(Failure::Other),
        // Greeted with a refusal: it does not know yet what comes.
        None => None,
    }
}

/// Whether a temporary failure is this node's own: a filter or a transport that is away.
pub(super) fn is_ours(asked: Asked, status: Option<Status>) -> bool {
    asked == Asked::Nobody && status.is_none_or(|status| status.subject == 3)
}

/// The code that a reply begins with.
pub(super) fn code(text: &str) -> Option<u16> {
    let digits = text.get(..3)?;
    let ends = text
        .as_bytes()
        .get(3)
        .is_none_or(|byte| b" -".contains(byte));
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    (ends && plain).then(|| digits.parse().ok()).flatten()
}
