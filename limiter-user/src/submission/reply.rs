//! What a client is told whose mail may not go.

use std::time::Duration;

use super::Reply;
use crate::policy::services::{Placeholder, Text};

/// What is put into a text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'f> {
    /// The tenant.
    pub tenant: &'f str,
    /// The limit, for people.
    pub limit: &'f str,
    /// How long until it is worth another try; `None`: nobody knows.
    pub again: Option<Duration>,
    /// The reason, as events name it.
    pub reason: &'f str,
}

/// A reply of this enhanced status, from a text.
#[must_use]
pub fn reply(status: &str, text: &Text, facts: &Facts<'_>) -> Reply {
    let text = text.fill(|placeholder| match placeholder {
        Placeholder::Tenant => facts.tenant.to_owned(),
        Placeholder::Limit => facts.limit.to_owned(),
        Placeholder::Again => facts.again.map_or_else(|| "later".to_owned(), in_words),
        Placeholder::Reason => facts.reason.to_owned(),
    });
    Reply {
        status: status.to_owned(),
        text,
    }
}

/// `in 40 s`, `in 12 min`, `in 3 h`, `in 2 d`: rounded up, so that it is not too soon.
#[must_use]
pub fn in_words(time: Duration) -> String {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    let (number, unit) = match seconds.max(1) {
        seconds @ 0..=119 => (seconds, "s"),
        seconds @ 120..=7_199 => (seconds.div_ceil(60), "min"),
        seconds @ 7_200..=172_799 => (seconds.div_ceil(3_600), "h"),
        seconds => (seconds.div_ceil(86_400), "d"),
    };
    format!("in {number} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::services::Texts;

    #[test]
    fn a_reply_is_one_line_of_ascii() {
        let facts = Facts {
            tenant: "shöp\r\n250 ok",
            limit: "300 recipients in 1h",
            again: Some(Duration::from_millis(61_200)),
            reason: "limit",
        };
        let said = reply("4.7.1", &Texts::default().limit, &facts);
        assert_eq!(
            said.text,
            "sh?p??250 ok has used up 300 recipients in 1h; try again in 62 s"
        );
        assert_eq!(said.code(), 450);
    }

    #[test]
    fn times_are_never_too_short() {
        for (seconds, words) in [
            (0, "in 1 s"),
            (119, "in 119 s"),
            (121, "in 3 min"),
            (7_201, "in 3 h"),
            (172_801, "in 3 d"),
        ] {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }
}
