//! Reports of abuse as commands show them: the JSON models. Their text is in the command.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What became of a report of abuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComplaintState {
    /// It counts against a tenant.
    Attributed,
    /// It may be about several; a person decides.
    Ambiguous,
    /// Nobody knows whose mail it is about; a person may.
    Unknown,
    /// It cannot be read.
    Refused,
    /// Another one about the same mail counts.
    Duplicate,
    /// It accuses nobody, or is one too many of its reporter's.
    NotCounted,
    /// A person said that nothing is to be done.
    Dismissed,
}

impl ComplaintState {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Attributed,
        Self::Ambiguous,
        Self::Unknown,
        Self::Refused,
        Self::Duplicate,
        Self::NotCounted,
        Self::Dismissed,
    ];
    /// What `waiting` stands for: a person has to say whose mail it is about.
    pub const WAITING: [Self; 2] = [Self::Ambiguous, Self::Unknown];

    /// The word in the record book, in JSON and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attributed => "attributed",
            Self::Ambiguous => "ambiguous",
            Self::Unknown => "unknown",
            Self::Refused => "refused",
            Self::Duplicate => "duplicate",
            Self::NotCounted => "not_counted",
            Self::Dismissed => "dismissed",
        }
    }

    /// The state with this word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether a person has to say whose mail it is about.
    #[must_use]
    pub fn waits(self) -> bool {
        Self::WAITING.contains(&self)
    }
}

/// What became of a report that was handed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComplaintOutcome {
    /// What tells it from all others.
    pub id: String,
    /// Its state now.
    pub state: ComplaintState,
    /// Whether it was known already: nothing counts twice.
    pub known: bool,
    /// About whom.
    pub tenant: Option<String>,
    /// Why it is in this state, for people.
    pub why: String,
    /// What followed, for people: an opened case, a sanction, what a policy finds missing in it.
    pub followed: Vec<String>,
}

/// A report of abuse, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComplaintSummary {
    /// What tells it from all others.
    pub id: String,
    /// When it came in.
    pub received: Timestamp,
    /// Its state.
    pub state: ComplaintState,
    /// About whom.
    pub tenant: Option<String>,
    /// Why it is in this state, for people.
    pub why: String,
    /// Who sent it, as it says.
    pub reporter: Option<String>,
    /// What it says was done: abuse, fraud…
    pub feedback: Option<String>,
    /// What is to be done about it, and by when.
    pub clocks: Vec<ComplaintClock>,
}

/// Something that a policy wants done about a complaint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComplaintClock {
    /// What: acknowledge, act, answer.
    pub clock: String,
    /// By when; null: a person did it, or it was told that nobody did.
    pub due: Option<Timestamp>,
    /// When a person did it.
    pub done: Option<Timestamp>,
}

/// A report of abuse, whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComplaintDetails {
    /// In short.
    pub complaint: ComplaintSummary,
    /// What could be read of it, whose it may be and what speaks for them, what people said.
    pub facts: Value,
    /// What came of it.
    pub followed: Vec<String>,
    /// Its beginning, as text.
    pub raw: String,
    /// How long it was, bytes.
    pub bytes: Option<u64>,
}
