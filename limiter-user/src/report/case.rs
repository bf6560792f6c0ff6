//! What a tenant's record says: cases, sanctions with their rules, and what follows; the JSON models.
//! Times of the record are told by the wall clock as it is now: where downtime was not credited to
//! the engine, what lies before it is shown that much later than it was.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::offence::{Evidence, How, Sanction, Severity, Standing};

use super::outcome::CutOutcome;

/// Where a sanction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldState {
    /// It holds.
    InForce,
    /// It waits for `limiter case confirm` or `limiter case reject`.
    Proposed,
    /// It would hold if the tenant were not observed.
    Observed,
    /// It is over.
    Ended,
    /// It was proposed, and never in force.
    Dropped,
}

/// What follows if a sanction is not lifted in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Then {
    /// Which sanction.
    pub sanction: Sanction,
    /// When.
    pub at: Timestamp,
}

/// A sanction of a tenant's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldStatus {
    /// Which.
    pub sanction: Sanction,
    /// Where it stands.
    pub state: HoldState,
    /// The case that it follows from: `hostup/1`; null: an operator's own word.
    pub case: Option<String>,
    /// How grave the offence is; null: an operator's own word.
    pub severity: Option<Severity>,
    /// The number of the offence; 0: it does not count.
    pub offence: u32,
    /// Why, in words.
    pub reason: String,
    /// Who, if it is an operator's own word.
    pub by: Option<String>,
    /// Since when it is in force, or proposed.
    pub since: Timestamp,
    /// When its time is over; null: it has none.
    pub until: Option<Timestamp>,
    /// Before this its conditions do not lift it.
    pub not_before: Option<Timestamp>,
    /// What lifts it, in words.
    pub lift: String,
    /// By when a proposal is to be decided.
    pub deadline: Option<Timestamp>,
    /// What holds while it waits.
    pub meanwhile: Option<Sanction>,
    /// What follows if it is not lifted.
    pub then: Option<Then>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How it ended.
    pub how: Option<How>,
}

/// The next step of the ladder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextStep {
    /// What comes.
    pub sanction: Sanction,
    /// When, if nothing is done before; null: with a further offence.
    pub at: Option<Timestamp>,
    /// After a further offence as grave as this; null: by the passing of time.
    pub severity: Option<Severity>,
    /// By which policy.
    pub policy: String,
    /// Whether it would wait for an operator.
    pub proposed: bool,
    /// What would hold at once, while it waits.
    #[serde(default)]
    pub meanwhile: Option<Sanction>,
    /// Whether an open case is as grave already, so that nothing more would follow.
    #[serde(default)]
    pub already: bool,
}

/// What the record says of a tenant, as part of [`TenantStatus`](super::status::TenantStatus).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordStatus {
    /// Why it is under its strongest sanction: the case, or the operator's words, and whose they are
    /// if it inherits them.
    pub reason: Option<String>,
    /// What lifts that sanction, in words.
    pub lift: Option<String>,
    /// The earliest deadline of a proposal.
    pub deadline: Option<Timestamp>,
    /// Everything of its own that is in force or proposed, strongest first.
    pub holds: Vec<HoldStatus>,
    /// What comes next, the gravest first.
    pub next: Vec<NextStep>,
}

/// A sanction that waits for an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Whose.
    pub tenant: String,
    /// The case: `hostup/1`.
    pub case: String,
    /// Which sanction.
    pub sanction: Sanction,
    /// How grave the offence is.
    pub severity: Severity,
    /// By when it is to be decided.
    pub deadline: Option<Timestamp>,
    /// What holds meanwhile.
    pub meanwhile: Option<Sanction>,
}

/// Where a case stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseState {
    /// Something of it holds or waits.
    Open,
    /// It is over, and counts as long as its policy remembers it.
    Closed,
    /// It was wrong, and never counts.
    Void,
}

/// A case in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseSummary {
    /// Its name: `hostup/1`.
    pub case: String,
    /// Whose.
    pub tenant: String,
    /// Where it stands.
    pub state: CaseState,
    /// When it was opened.
    pub opened: Timestamp,
    /// When it was closed.
    pub closed: Option<Timestamp>,
    /// How grave it became.
    pub severity: Option<Severity>,
    /// The number of the offence; 0: it does not count, nothing left the node.
    pub offence: u32,
    /// The strongest sanction of it that is in force.
    pub sanction: Option<Sanction>,
    /// The strongest that waits for an operator.
    pub proposed: Option<Sanction>,
    /// All that wait for an operator, strongest first.
    #[serde(default)]
    pub waiting: Vec<Sanction>,
    /// All that would be in force were the tenant not observed, strongest first.
    #[serde(default)]
    pub observed: Vec<Sanction>,
    /// By when that is to be decided.
    pub deadline: Option<Timestamp>,
}

/// A moment at which a case became as grave as this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkStatus {
    /// When.
    pub at: Timestamp,
    /// How grave.
    pub severity: Severity,
    /// Whether it counts.
    pub counted: bool,
    /// Whether it was something new, not what led to the case before.
    pub fresh: bool,
    /// The number of the offence.
    pub offence: u32,
}

/// Something that was heard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    /// Its number in the record book.
    pub id: i64,
    /// When it was heard, by the wall clock as it was then.
    pub time: Timestamp,
    /// When it happened, if it says so.
    #[serde(default)]
    pub happened: Option<Timestamp>,
    /// What kind: `violations`, `complaint`, `word`…
    pub kind: String,
    /// What, in words.
    pub text: String,
    /// Who said so, if it was a person.
    pub by: Option<String>,
    /// Why, in the person's words.
    pub reason: Option<String>,
    /// What came of it at once, in words.
    pub followed: Vec<String>,
    /// What it rests on: kernel events, the complaint.
    pub evidence: Vec<Value>,
}

/// Something people were told, or are to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// When, by the wall clock as it was then.
    pub time: Timestamp,
    /// Who: contact, parent, operator.
    pub to: String,
    /// The case it is about; null: an operator's own word.
    pub case: Option<String>,
    /// What, in words.
    pub text: String,
    /// How far each way of telling it has come.
    pub deliveries: Vec<Delivery>,
}

/// How far one way of telling something has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Which way.
    pub channel: Value,
    /// waiting, done or given_up.
    pub state: String,
    /// How often it was tried.
    pub attempts: i64,
    /// When it is tried next, if it has to wait until then.
    #[serde(default)]
    pub next: Option<Timestamp>,
    /// What the other end said last, or why it waits.
    pub said: Option<String>,
}

/// A person's note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When.
    pub time: Timestamp,
    /// The case: `hostup/1`.
    pub case: String,
    /// Who.
    pub by: String,
    /// What.
    pub text: String,
}

/// Money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charged {
    /// When.
    pub time: Timestamp,
    /// Who pays.
    pub bill: String,
    /// For what.
    pub cause: String,
    /// By which policy.
    pub policy: String,
    /// How much, in hundredths; null: a person will say.
    pub cents: Option<i64>,
    /// ISO 4217.
    pub currency: String,
    /// What a person adds.
    pub plus: Vec<String>,
    /// Whether it is only proposed, because the tenant is observed.
    pub proposed: bool,
    /// Whether its case was found wrong: nothing is owed.
    #[serde(default)]
    pub void: bool,
}

/// What is to be done about a complaint, and by when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComplaintClock {
    /// Which complaint.
    pub complaint: String,
    /// What: acknowledge, act, answer.
    pub clock: String,
    /// By when; null: it was done, or its being late was told.
    pub due: Option<Timestamp>,
}

/// When things of one kind happened, and who made them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenBetween {
    /// When first.
    pub first: Timestamp,
    /// When last.
    pub last: Timestamp,
    /// How many attempts were let out: nothing of them was refused.
    pub let_out: u64,
    /// Who made them: users and programs, addresses, interfaces; some of them.
    pub from: Vec<String>,
    /// To which ports they went; some of them.
    pub ports: Vec<u16>,
}

/// A case with everything that belongs to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseDetails {
    /// In short.
    #[serde(flatten)]
    pub summary: CaseSummary,
    /// How it came to be as grave as it is.
    pub marks: Vec<MarkStatus>,
    /// Its sanctions, those in force and proposed first.
    pub holds: Vec<HoldStatus>,
    /// What comes next; empty for a closed case.
    pub next: Vec<NextStep>,
    /// What it rests on, in numbers.
    pub evidence: Evidence,
    /// When that was, and who made it: violations by their reason, all else by its kind.
    #[serde(default)]
    pub seen: BTreeMap<String, SeenBetween>,
    /// What was heard of the tenant from the case before up to the end of this one, oldest first.
    pub heard: Vec<Heard>,
    /// What people were told about it.
    pub notices: Vec<Told>,
    /// What people noted.
    pub notes: Vec<Note>,
    /// What was charged while it was open.
    pub charges: Vec<Charged>,
    /// What is to be done about complaints of the tenant.
    pub clocks: Vec<ComplaintClock>,
}

/// What waited for an operator, and waits no more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Dropped {
    /// The case: `hostup/1`.
    pub case: String,
    /// What was proposed.
    pub sanction: Sanction,
}

/// What became of something that was brought before the court.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeardOutcome {
    /// The tenant.
    pub tenant: String,
    /// It was heard before, and does not count again.
    pub duplicate: bool,
    /// No policy that binds the tenant speaks of such a thing: it is recorded, and nothing follows.
    pub no_policy: bool,
    /// Cases that were opened by it.
    pub opened: Vec<String>,
    /// Cases that were closed by it.
    pub closed: Vec<String>,
    /// Closed cases that count no more.
    #[serde(default)]
    pub voided: Vec<String>,
    /// What waited for an operator, and was not carried out.
    #[serde(default)]
    pub dropped: Vec<Dropped>,
    /// What else to do, where it did not do all that was asked for.
    #[serde(default)]
    pub hints: Vec<String>,
    /// What comes next.
    #[serde(default)]
    pub next: Vec<NextStep>,
    /// Sanctions that came into force, or have another end.
    pub applied: Vec<Sanction>,
    /// Sanctions that were lifted.
    pub lifted: Vec<Sanction>,
    /// Sanctions that are decided and not in force in the kernel yet: it is tried again.
    pub owed: Vec<Sanction>,
    /// How it stands now by its own record.
    pub standing: Standing,
    /// Everything that is in force or proposed now.
    pub holds: Vec<HoldStatus>,
    /// Until when nothing of it is carried out, because the tenant or the node is opened by `limiter
    /// observe`; null: it is carried out.
    #[serde(default)]
    pub opened_until: Option<Timestamp>,
    /// What was cut; null where nothing came into force.
    pub cut: Option<CutOutcome>,
}

/// What became of a note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteOutcome {
    /// The tenant.
    pub tenant: String,
    /// The case.
    pub case: String,
}
