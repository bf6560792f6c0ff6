//! What a notice says about the evidence: what, how often, when, from where.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::harmless::{LINE, LINES, NAME, line};
use crate::offence::{Evidence, Ids, Moment, Seen};

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
    /// How many of them were let out: they were not refused.
    #[serde(default)]
    pub let_out: u64,
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
            let_out: 0,
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
            let_out: self.let_out,
            from,
        }
    }
}

/// What is needed to tell a case's evidence.
#[derive(Clone, Copy, Debug)]
pub struct Telling<'t> {
    /// A moment, as the engine counts time.
    pub at: Moment,
    /// The same moment on the wall clock: all others are told by their distance from it.
    pub time: Timestamp,
    /// The ports that mail is sent to.
    pub mail_ports: &'t [u16],
}

impl Telling<'_> {
    /// The wall clock at `moment`.
    #[must_use]
    pub fn wall(&self, moment: Moment) -> Timestamp {
        let away = moment.millis().saturating_sub(self.at.millis());
        let away = SignedDuration::from_millis(away);
        // Nothing is told of the end of time.
        self.time.checked_add(away).unwrap_or(Timestamp::MAX)
    }

    /// `line` with when it happened, and who made it, where that is known.
    fn with(&self, mut line: EvidenceLine, seen: Option<&Seen>) -> EvidenceLine {
        if let Some(seen) = seen {
            line.first = Some(self.wall(seen.first));
            line.last = Some(self.wall(seen.last));
            line.let_out = seen.let_out.min(line.count);
            line.from.extend(seen.around.from.iter().cloned());
        }
        line
    }

    /// What attempts of a suspended tenant were: under some sanctions more is refused than mail.
    fn while_suspended(&self, seen: Option<&Seen>) -> &'static str {
        let ports = seen.map(|seen| &seen.around.ports);
        let Some(ports) = ports.filter(|ports| !ports.is_empty()) else {
            return "attempts to connect while suspended";
        };
        let mail = |port: &&u16| self.mail_ports.contains(port);
        match (
            ports.iter().any(|it| mail(&it)),
            ports.iter().all(|it| mail(&it)),
        ) {
            (_, true) => "attempts to send mail while suspended",
            (true, false) => "attempts to send mail, and to connect elsewhere, while suspended",
            (false, false) => "attempts to connect while suspended",
        }
    }
}

/// What a case rests on, as far as the engine itself remembers it.
#[must_use]
pub fn of_case(evidence: &Evidence, telling: &Telling<'_>) -> Vec<EvidenceLine> {
    use EvidenceKind::{Bounce, Complaint, Customer, Listing, Violation, Word};
    let Evidence {
        violations,
        complaints,
        listings,
        bounces: (hard, soft),
        words,
        customers,
        seen,
    } = evidence;
    let of = |kind: &str| seen.get(kind);
    let mut found: Vec<EvidenceLine> = violations
        .iter()
        .map(|(reason, count)| {
            let what = match reason.as_str() {
                "suspended" => telling.while_suspended(of(reason)).to_owned(),
                other => reason_in_words(other),
            };
            telling.with(EvidenceLine::new(Violation, what, *count), of(reason))
        })
        .collect();
    let what = "valid complaints about your mail";
    let complaints = counted(Complaint, what, complaints);
    found.extend(complaints.map(|line| telling.with(line, of(Seen::COMPLAINTS))));
    for (count, what) in [
        (*hard, "mail to addresses that do not exist"),
        (*soft, "mail that came back for other reasons"),
    ] {
        if count > 0 {
            let line = EvidenceLine::new(Bounce, what, count);
            found.push(telling.with(line, of(Seen::BOUNCES)));
        }
    }
    let each = |kind, what: &str, ids: &Ids, seen: Option<&Seen>| -> Vec<EvidenceLine> {
        // Of several together it is not known when each was.
        let seen = seen.filter(|_| ids.total == 1);
        let lines = ids.listed.iter().map(|id| format!("{what}: {id}"));
        lines
            .map(|text| telling.with(EvidenceLine::new(kind, text, 0), seen))
            .collect()
    };
    found.extend(each(Listing, "blacklisted", listings, of(Seen::LISTINGS)));
    found.extend(each(Word, "found by us", words, of(Seen::WORDS)));
    let customers = counted(Customer, "offences of customers", customers);
    found.extend(customers.map(|line| telling.with(line, of(Seen::CUSTOMERS))));
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
        let telling = Telling {
            at: Moment(60_000),
            time: "2026-03-01T12:00:00Z".parse().unwrap(),
            mail_ports: &[25, 465, 587],
        };
        let lines = of_case(&evidence, &telling);
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

    #[test]
    fn when_by_whom_and_whether_it_was_mail_is_told() {
        let telling = Telling {
            at: Moment(60_000),
            time: "2026-03-01T12:00:00Z".parse().unwrap(),
            mail_ports: &[25, 465, 587],
        };
        let told = |ports: &[u16]| {
            let mut evidence = Evidence::default();
            evidence.violations.insert("suspended".to_owned(), 3);
            let mut seen = Seen {
                first: Moment(30_000),
                last: Moment(60_000),
                ..Seen::default()
            };
            seen.around.from = ["uid 2001 (php)".to_owned()].into();
            seen.around.ports = ports.iter().copied().collect();
            evidence.seen.insert("suspended".to_owned(), seen);
            of_case(&evidence, &telling).remove(0)
        };
        assert_eq!(
            told(&[25, 587]).what,
            "attempts to send mail while suspended"
        );
        assert_eq!(told(&[80, 443]).what, "attempts to connect while suspended");
        let both = "attempts to send mail, and to connect elsewhere, while suspended";
        assert_eq!(told(&[25, 443]).what, both);
        assert_eq!(told(&[]).what, "attempts to connect while suspended");
        let json = serde_json::to_value(told(&[25])).unwrap();
        assert_eq!(json["first"], "2026-03-01T11:59:30Z");
        assert_eq!(json["last"], "2026-03-01T12:00:00Z");
        assert_eq!(json["from"][0], "uid 2001 (php)");
    }
}
