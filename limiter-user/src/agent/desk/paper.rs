//! What the record book keeps of a report, beside what tells where it stands.

use std::fmt::Write as _;

use ring::digest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    complaint::{Attribution, Report},
    ledger::ComplaintRow,
};

/// How much is kept of a report's own text, bytes: its headers and what it begins with. The Maildir,
/// or whoever handed it in, has all of it.
const MOST_RAW: usize = 64 << 10;

/// The report as it came.
pub(super) struct Raw<'r> {
    /// Its beginning.
    pub kept: &'r [u8],
    whole: &'r [u8],
}

impl<'r> Raw<'r> {
    pub fn of(whole: &'r [u8]) -> Self {
        Self {
            kept: whole.get(..MOST_RAW).unwrap_or(whole),
            whole,
        }
    }

    /// What tells it from all others.
    pub fn digest(&self) -> String {
        let digest = digest::digest(&digest::SHA256, self.whole);
        digest
            .as_ref()
            .iter()
            .take(20)
            .fold(String::new(), |mut hex, byte| {
                // Writing into a text cannot fail.
                let _never = write!(hex, "{byte:02x}");
                hex
            })
    }
}

/// What the record book keeps. Queries look at `about` and `reporter`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Paper {
    /// How long it was, bytes.
    pub bytes: u64,
    /// What it says; null: it cannot be read.
    pub report: Option<Report>,
    /// Whose it may be, and what speaks for them.
    pub attribution: Option<Attribution>,
    /// What tells the mail that it is about from others, where it counts.
    pub about: Option<String>,
    /// Who sent it, if nobody vouches for that.
    pub reporter: Option<String>,
    /// What people said of it.
    pub said: Vec<Saying>,
}

/// What a person said of a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Saying {
    /// When: the wall clock, milliseconds since 1970.
    pub wall: i64,
    /// Who.
    pub by: Value,
    /// What: the command.
    pub said: String,
    /// Of whom, or which clock.
    pub what: Option<String>,
    /// Why.
    pub reason: String,
}

impl Paper {
    pub fn of(report: &Report, attribution: &Attribution, raw: &Raw<'_>) -> Self {
        Self {
            report: Some(report.clone()),
            attribution: Some(attribution.clone()),
            ..Self::unread(raw)
        }
    }

    pub fn unread(raw: &Raw<'_>) -> Self {
        Self {
            bytes: u64::try_from(raw.whole.len()).unwrap_or(u64::MAX),
            ..Self::default()
        }
    }

    /// What a row holds; nothing, where an earlier version wrote what is not understood.
    pub fn read(row: &ComplaintRow) -> Self {
        serde_json::from_value(row.report.clone()).unwrap_or_default()
    }

    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or(Value::Null)
    }

    /// What the case rests on.
    pub fn evidence(&self) -> Value {
        let Some(report) = &self.report else {
            return Value::Null;
        };
        let original = report.original.as_ref();
        json!({
            "id": report.id,
            "format": report.format.as_str(),
            "feedback": report.feedback.as_str(),
            "reporter": report.reporter,
            "sent": report.sent,
            "arrival": report.arrival,
            "source": report.source,
            "source_port": report.source_port,
            "destination": report.destination,
            "mail_from": report.mail_from,
            "recipients": report.recipients,
            "message_id": original.and_then(|original| original.message_id.as_deref()),
            "subject": original.and_then(|original| original.subject.as_deref()),
            "attribution": self.attribution,
            "said": self.said,
        })
    }
}
