//! What a notice says about the evidence: what, how often, when, from where.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::harmless::{LINE, LINES, NAME, line};
use crate::offence::{Evidence, Ids};

/// How many sources a line names.
const SOURCES: usize = 5;

/// What kind of evidence it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceKind {
    /// The kernel or the mail server refused, or counted too much.
    Violation,
    /// Somebody complained.
    Complaint,
    /// An address is on a blacklist.
    Listing,
    /// Mail came back.
    Bounce,
    /// An operator said so.
    Word,
    /// An offence of a customer.
    Customer,
    /// Anything else.
    Other,
}

/// One line of evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceLine {
    /// Of what kind.
    pub kind: EvidenceKind,
    /// What happened, in words.
    pub what: String,
    /// How often; 0: it is not a thing that is counted.
    pub count: u64,
    /// When first, if it is known.
    pub first: Option<Timestamp>,
    /// When last, if it is known.
    pub last: Option<Timestamp>,
    /// From where: programs, addresses, accounts; the first few.
    pub from: Vec<String>,
}

impl EvidenceLine {
    /// So often something, at unknown times and from unknown places. What and where may be of
    /// hostile origin; they are made harmless when the facts are put together.
    #[must_use]
    pub fn new(kind: EvidenceKind, what: impl Into<String>, count: u64) -> Self {
        Self {
            kind,
            what: what.into(),
            count,
            first: None,
            last: None,
            from: Vec::new(),
        }
    }

    fn harmless(&self) -> Self {
        let more = self.from.len().saturating_sub(SOURCES);
        let mut from: Vec<String> = self
            .from
            .iter()
            .take(SOURCES)
            .map(|f| line(f, NAME))
            .collect();
        if more > 0 {
            from.push(format!("{more} more"));
        }
        Self {
            kind: self.kind,
            what: line(&self.what, LINE),
            count: self.count,
            first: self.first,
            last: self.last,
            from,
        }
    }
}

/// What a case rests on, as far as the engine itself remembers it.
#[must_use]
pub fn of_case(evidence: &Evidence) -> Vec<EvidenceLine> {
    use EvidenceKind::{Bounce, Complaint, Customer, Listing, Violation, Word};
    let Evidence {
        violations,
        complaints,
        listings,
        bounces: (hard, soft),
        words,
        customers,
    } = evidence;
    let mut found: Vec<EvidenceLine> = violations
        .iter()
        .map(|(reason, count)| EvidenceLine::new(Violation, reason_in_words(reason), *count))
        .collect();
    found.extend(counted(
        Complaint,
        "valid complaints about your mail",
        complaints,
    ));
    if *hard > 0 {
        found.push(EvidenceLine::new(
            Bounce,
            "mail to addresses that do not exist",
            *hard,
        ));
    }
    if *soft > 0 {
        found.push(EvidenceLine::new(
            Bounce,
            "mail that came back for other reasons",
            *soft,
        ));
    }
    let each = |kind, what: &str, ids: &Ids| -> Vec<EvidenceLine> {
        let lines = ids.listed.iter().map(|id| format!("{what}: {id}"));
        lines.map(|text| EvidenceLine::new(kind, text, 0)).collect()
    };
    found.extend(each(Listing, "blacklisted", listings));
    found.extend(each(Word, "found by us", words));
    found.extend(counted(Customer, "offences of customers", customers));
    found
}

/// Leaves an operator's words out: they are for the record, not for the customer.
pub(super) fn withhold(lines: &mut Vec<EvidenceLine>) {
    let before = lines.len();
    lines.retain(|line| line.kind != EvidenceKind::Word);
    if lines.len() < before {
        lines.push(EvidenceLine::new(
            EvidenceKind::Word,
            "found by us, and looked at by a person",
            0,
        ));
    }
}

fn counted(kind: EvidenceKind, what: &str, ids: &Ids) -> Option<EvidenceLine> {
    (ids.total > 0).then(|| EvidenceLine {
        from: ids.listed.iter().cloned().collect(),
        ..EvidenceLine::new(kind, what, ids.total)
    })
}

/// The reason of a violation as a customer understands it.
#[must_use]
pub fn reason_in_words(reason: &str) -> String {
    match reason {
        "direct_smtp" => "attempts to send mail past the mail server",
        "submission" => "attempts to send mail through other mail servers",
        "limit" => "attempts to send more mail than is allowed",
        "pace" => "attempts to send mail faster than is allowed",
        "suspended" => "attempts to send mail while suspended",
        "null_route" => "packets to or from a blocked address",
        "unattributed" | "unparsable" => "mail traffic that could not be read",
        "blocked_address" => "connections to blocked addresses",
        "mailbox_limit" => "too many connections to mailboxes",
        "sender_mismatch" => "mail with a sender that is not yours",
        other => return format!("violations ({other})"),
    }
    .to_owned()
}

/// At most [`LINES`] lines made harmless, and how many there are beyond.
pub(super) fn bounded(lines: &[EvidenceLine]) -> (Vec<EvidenceLine>, usize) {
    let kept = lines
        .iter()
        .take(LINES)
        .map(EvidenceLine::harmless)
        .collect();
    (kept, lines.len().saturating_sub(LINES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_told_in_lines() {
        let mut evidence = Evidence::default();
        evidence.violations.insert("limit".to_owned(), 120);
        evidence.complaints.total = 70;
        evidence.complaints.listed = (0..64).map(|n| format!("c{n}")).collect();
        evidence.bounces = (3, 0);
        evidence.listings.listed = ["zen: 203.0.113.7".to_owned()].into();
        let lines = of_case(&evidence);
        let (lines, more) = bounded(&lines);
        assert_eq!(more, 0);
        let told: Vec<_> = lines.iter().map(|l| (l.what.as_str(), l.count)).collect();
        assert_eq!(
            told,
            [
                ("attempts to send more mail than is allowed", 120),
                ("valid complaints about your mail", 70),
                ("mail to addresses that do not exist", 3),
                ("blacklisted: zen: 203.0.113.7", 0),
            ]
        );
        assert_eq!(lines[1].from.len(), SOURCES + 1);
        assert_eq!(lines[1].from[SOURCES], "59 more");
    }
}
