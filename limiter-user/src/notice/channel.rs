//! The ways by which somebody is told.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::facts::Facts;

/// What is delivered at once, and waits on nobody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// Mails, all through one mail server.
    Mail,
    /// The webhook.
    Webhook,
    /// The program.
    Exec,
}

impl Lane {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mail, Self::Webhook, Self::Exec];

    /// Whether a tenant's deliveries are made one after the other: machines act on what they hear
    /// last. A mail is read by people, and one that does not get through keeps no other back.
    #[must_use]
    pub const fn in_order(self) -> bool {
        !matches!(self, Self::Mail)
    }

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Webhook => "webhook",
            Self::Exec => "exec",
        }
    }
}

/// Where a notice goes. Only an address is part of it: server, URL and program are looked up when
/// it is delivered, so that what waits profits when the administrator corrects them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Channel {
    /// By mail, one address each: one that does not exist keeps no other from being told.
    Mail {
        /// The address.
        to: String,
    },
    /// By the webhook.
    Webhook,
    /// By the program.
    Exec,
}

impl Channel {
    /// In which lane it is.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        match self {
            Self::Mail { .. } => Lane::Mail,
            Self::Webhook => Lane::Webhook,
            Self::Exec => Lane::Exec,
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mail { to } => write!(f, "mail to {to}"),
            Self::Webhook => f.write_str("the webhook"),
            Self::Exec => f.write_str("the program of notices.exec"),
        }
    }
}

/// A delivery as it is written down: what, and where to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Where to.
    pub channel: Channel,
    /// What. Texts are made of it when it is delivered.
    pub facts: Facts,
}
