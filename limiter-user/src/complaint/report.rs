//! What a report says. All of it is what its sender claims; nothing in it is proved.

use std::{collections::BTreeSet, net::IpAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::offence::Part;

/// A report of abuse, as its sender wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What tells it from all others. The same complaint sent again has the same id, whatever its
    /// MIME boundaries and its own Message-ID are, as long as it holds the same message.
    pub id: String,
    /// Other names it goes by: its own Message-ID, the id of the XARF report. For people who look
    /// for it; duplicates are recognised by `id`.
    pub aliases: BTreeSet<String>,
    /// How it is written.
    pub format: Format,
    /// What it says was done.
    pub feedback: Feedback,
    /// Who sent it.
    pub reporter: Reporter,
    /// When it was sent, by its own Date.
    pub sent: Option<Timestamp>,
    /// When the mail complained about arrived where it was received.
    pub arrival: Option<Timestamp>,
    /// Which address handed that mail over, if the report says so.
    pub source: Option<IpAddr>,
    /// From which port. A well-known mail port is none: reporters mean the other end.
    pub source_port: Option<u16>,
    /// How it says so.
    pub source_from: SourceFrom,
    /// Where the mail was received.
    pub destination: Option<IpAddr>,
    /// The envelope's sender.
    pub mail_from: Option<String>,
    /// The envelope's recipients, often redacted.
    pub recipients: Vec<String>,
    /// Domains that are complained about.
    pub domains: BTreeSet<String>,
    /// URIs that are complained about.
    pub uris: Vec<String>,
    /// Google's Feedback-ID, from the report or the message.
    pub feedback_id: Option<String>,
    /// How many incidents it stands for; for people, it counts once.
    pub incidents: u64,
    /// What an auth-failure report says (RFC 6591).
    pub auth_failure: Option<AuthFailure>,
    /// The mail complained about.
    pub original: Option<Original>,
    /// What it holds of what policies may require (R31).
    pub parts: BTreeSet<Part>,
    /// What is odd about it, for people.
    pub remarks: BTreeSet<String>,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// RFC 5965, RFC 6591.
    Arf,
    /// XARF 4, JSON.
    Xarf,
    /// A mail that holds the mail complained about.
    Mail,
}

impl Format {
    /// The word in policy files and in [`crate::offence::Complaint`].
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Arf => "arf",
            Self::Xarf => "xarf",
            Self::Mail => "mail",
        }
    }
}

/// What a report says was done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feedback {
    /// Unsolicited mail.
    Abuse,
    /// Phishing.
    Fraud,
    /// Malware.
    Virus,
    /// Something else that is wrong.
    Other(String),
    /// The recipient says that it was no spam after all.
    NotSpam,
    /// The recipient wants to be taken off a list.
    OptOut,
    /// It failed SPF, DKIM or DMARC: mostly somebody else's forgery.
    AuthFailure,
}

impl Feedback {
    /// The word of RFC 5965 and its registry.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Abuse => "abuse",
            Self::Fraud => "fraud",
            Self::Virus => "virus",
            Self::Other(what) => what,
            Self::NotSpam => "not-spam",
            Self::OptOut => "opt-out",
            Self::AuthFailure => "auth-failure",
        }
    }

    /// Whether it accuses anybody of abuse.
    #[must_use]
    pub const fn accuses(&self) -> bool {
        match self {
            Self::Abuse | Self::Fraud | Self::Virus | Self::Other(_) => true,
            Self::NotSpam | Self::OptOut | Self::AuthFailure => false,
        }
    }
}

/// Who sent a report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reporter {
    /// The address it says it comes from.
    pub address: Option<String>,
    /// An organisation, where it names one.
    pub organisation: Option<String>,
    /// The program that wrote it.
    pub agent: Option<String>,
    /// The domain that signed it, where this node's own mail server says that the signature holds
    /// (see [`Trust`](super::Trust)) and the address belongs to it. Everything else here anybody
    /// can write.
    pub verified: Option<String>,
    /// Whether that domain is one whose reports are trusted.
    pub trusted: bool,
}

/// How a report names the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceFrom {
    /// It does not.
    #[default]
    Nowhere,
    /// In a field of its own.
    Stated,
    /// The newest Received field that names a public address: whoever received the mail wrote it.
    FirstHop,
    /// An older Received field or a header of the message, which its sender may have forged.
    Deeper,
}

/// What an auth-failure report says, in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthFailure {
    /// What failed: dmarc, spf, dkim (signature, bodyhash, revoked…), adsp.
    pub failure: Option<String>,
    /// What became of the mail: delivered, spam, policy, reject, other.
    pub delivery: Option<String>,
    /// Whose signature failed.
    pub dkim_domain: Option<String>,
    /// Which key.
    pub dkim_selector: Option<String>,
    /// Which identifiers did not align.
    pub identity_alignment: Option<String>,
    /// Authentication-Results, as reported.
    pub results: Vec<String>,
}

/// The mail complained about. Everything below the first Received field is its sender's to write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Original {
    /// Its header block.
    pub headers: String,
    /// Whether the end of it was cut off.
    pub truncated: bool,
    /// Whether its body is in the report.
    pub whole: bool,
    /// Its Message-ID, without brackets.
    pub message_id: Option<String>,
    /// Its Subject, decoded.
    pub subject: Option<String>,
    /// The domains of From.
    pub from_domains: BTreeSet<String>,
    /// The domains that signed it, or say so.
    pub dkim_domains: BTreeSet<String>,
    /// Its Received fields, newest first.
    pub received: Vec<Hop>,
}

/// A Received field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hop {
    /// What the sending side called itself.
    pub from: Option<String>,
    /// The sending side's address, as the receiving side saw it.
    pub address: Option<IpAddr>,
    /// The receiving side.
    pub by: Option<String>,
    /// The receiving side's name for the message: the queue id.
    pub id: Option<String>,
    /// When.
    pub time: Option<Timestamp>,
}
