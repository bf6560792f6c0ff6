//! What is asked.

use std::fmt;

use crate::attempt::Family;

/// What is asked. Each has a table and a chart of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// What a connection that may be costs beyond one that nothing looks at.
    Added(Family),
    /// What it costs in all.
    Allowed(Family),
    /// What a connection costs in all that may not be.
    Refused(Family),
    /// How much more is added where there are more accounts.
    Growth,
    /// What unrelated traffic costs, of what it costs without a filter.
    Unrelated,
    /// What a message of a bulk session costs, from its first command to the answer to its last dot.
    Message,
    /// The same, of what it costs without a filter.
    MessageRatio,
    /// How long loading all accounts takes.
    Load,
    /// How long it takes to change the limit of one account among them.
    ChangeOne,
    /// How long it takes to change everybody's limit.
    ChangeAll,
    /// Kernel memory by account.
    Memory,
    /// What an allowed connection of the same account costs, beyond one that nothing looks at.
    Hot,
    /// How much more two processors do than one, for the same account.
    TwoCpus,
    /// How many refusals there were in a second while an agent watched.
    FloodRate,
    /// Of all refusals, how many the agent told of.
    FloodTold,
    /// How much of a processor the agent took.
    AgentCpu,
    /// How long the whole agent takes, with all accounts in its files.
    AgentTime,
    /// Memory of the agent by account.
    AgentMemory,
}

impl Question {
    /// As the heading of a table.
    pub fn title(self) -> String {
        match self {
            Self::Added(family) => format!("an allowed connect, added, {family}"),
            Self::Allowed(family) => format!("an allowed connect, all of it, {family}"),
            Self::Refused(family) => format!("a refused connect, all of it, {family}"),
            Self::Growth => "what 100,000 accounts add beyond what 1,000 do".to_owned(),
            Self::Unrelated => {
                "unrelated traffic, as a part of what it costs without programs".to_owned()
            }
            Self::Message => "a message of a bulk session".to_owned(),
            Self::MessageRatio => {
                "a message of a bulk session, as a part of what it costs without programs"
                    .to_owned()
            }
            Self::Load => "loading all accounts".to_owned(),
            Self::ChangeOne => "changing the limit of one account".to_owned(),
            Self::ChangeAll => "changing everybody's limit".to_owned(),
            Self::Memory => "kernel memory of an account".to_owned(),
            Self::Hot => "an allowed connect of always the same account, added".to_owned(),
            Self::TwoCpus => "two processors beside one, for the same account".to_owned(),
            Self::FloodRate => "refusals while an agent watches".to_owned(),
            Self::FloodTold => "refusals that the agent tells of, of all there were".to_owned(),
            Self::AgentCpu => "of a processor, the agent takes".to_owned(),
            Self::AgentTime => "the whole agent, with all accounts in its files".to_owned(),
            Self::AgentMemory => "memory of the agent, by account".to_owned(),
        }
    }

    /// What its figures count.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Added(_)
            | Self::Allowed(_)
            | Self::Refused(_)
            | Self::Growth
            | Self::Message
            | Self::Hot => "ns",
            Self::Load | Self::ChangeOne | Self::ChangeAll | Self::AgentTime => "ms",
            Self::Unrelated | Self::MessageRatio | Self::TwoCpus | Self::FloodTold => "ratio",
            Self::Memory | Self::AgentMemory => "bytes",
            Self::FloodRate => "a second",
            Self::AgentCpu => "%",
        }
    }

    /// Digits behind the point.
    pub const fn digits(self) -> usize {
        match self {
            Self::Unrelated | Self::MessageRatio => 3,
            Self::TwoCpus => 2,
            Self::FloodTold => 6,
            Self::Load | Self::ChangeOne | Self::ChangeAll | Self::AgentCpu => 1,
            _ => 0,
        }
    }

    /// Of whose figures limiter's are a part worth telling.
    pub const fn compares(self) -> bool {
        matches!(
            self,
            Self::Added(_)
                | Self::Refused(_)
                | Self::Growth
                | Self::Hot
                | Self::Load
                | Self::ChangeOne
                | Self::ChangeAll
                | Self::Memory
        )
    }

    /// A name for files.
    pub fn slug(self) -> String {
        let all: String = self
            .title()
            .chars()
            .map(|one| {
                if one.is_ascii_alphanumeric() {
                    one.to_ascii_lowercase()
                } else {
                    '-'
                }
            })
            .collect();
        let words: Vec<&str> = all.split('-').filter(|word| !word.is_empty()).collect();
        words.join("-")
    }
}

/// In which case: a column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// With so many accounts.
    Accounts(usize),
    /// With so many accounts of so many limits each.
    Limits {
        /// How many accounts.
        accounts: usize,
        /// How many limits.
        limits: usize,
    },
    /// Called so.
    Named(&'static str),
}

impl Case {
    /// The number of accounts, where cases differ by that.
    pub const fn accounts(self) -> Option<usize> {
        match self {
            Self::Accounts(count) => Some(count),
            Self::Limits { .. } | Self::Named(_) => None,
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accounts(count) => f.write_str(&grouped(*count)),
            Self::Limits { accounts, limits } => {
                let s = if *limits == 1 { "" } else { "s" };
                write!(f, "{}, {limits} limit{s}", grouped(*accounts))
            }
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// With a comma every three digits.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
