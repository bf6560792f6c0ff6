//! Everything that a notice says, as one value: what templates speak of, what the webhook's body
//! and the hook's environment are made of.
//!
//! # The webhook's body
//! Its JSON form is part of the product's interface. Keys are only ever added; [`SCHEMA`] grows if
//! one changes its meaning. Times are RFC 3339 in UTC, absent values null.
//!
//! ```json
//! {"schema": 1, "id": "web-17-1042", "sequence": 1042, "event_id": "9f2c…",
//!  "time": "2026-03-01T12:00:00Z",
//!  "node": "web-17", "tenant": "alice", "parent": "reseller-7", "audience": "contact",
//!  "in_place_of": null, "event": "sanctioned", "observed": false, "opened_until": null,
//!  "policy": "hostup", "case": 3,
//!  "sanction": "block_smtp", "effect": "no mail leaves the account; …", "meanwhile": null,
//!  "pending": null, "still": [],
//!  "severity": "moderate", "offence": 2, "until": "2026-03-02T12:00:00Z", "deadline": null,
//!  "lift": {"any": false, "conditions": ["time", "review"]},
//!  "then": {"sanction": "terminate", "at": "2026-03-03T12:00:00Z"}, "how": null,
//!  "complaint": null, "clock": null, "undelivered": null, "notes": ["…"],
//!  "evidence": [{"kind": "violation", "what": "attempts to …", "count": 120, "first": "…",
//!                "last": "…", "from": ["…"]}],
//!  "evidence_more": 0, "to_do": ["…"], "way_back": ["…"], "operator": ["abuse@host.example"]}
//! ```

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    digest,
    evidence::{self, EvidenceLine, Telling},
    harmless::{self, LINE, NAME},
    time, words,
};
use crate::offence::{
    Audience, Condition, How, Moment, Notice, NoticeEvent, Pending, Sanction, Severity,
};

/// The version of the JSON form.
pub const SCHEMA: u32 = 1;

/// What kind of thing happened: one template each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A warning.
    Warned,
    /// A sanction is in force.
    Sanctioned,
    /// A sanction waits for an operator.
    Proposed,
    /// A sanction was lifted.
    Lifted,
    /// A proposal came to its end, and was never in force.
    Dropped,
    /// A proposal was not decided in time.
    Undecided,
    /// A complaint was not handled in time.
    Overdue,
    /// A notice could not be delivered.
    Undelivered,
    /// Complaints wait until a person says whose mail they are about.
    Unassigned,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Warned,
        Self::Sanctioned,
        Self::Proposed,
        Self::Lifted,
        Self::Dropped,
        Self::Undecided,
        Self::Overdue,
        Self::Undelivered,
        Self::Unassigned,
    ];

    /// Whether it can wait for an hour if its receiver got many mails: what was imposed, proposed
    /// or lifted cannot.
    #[must_use]
    pub const fn may_wait(self) -> bool {
        match self {
            Self::Warned | Self::Sanctioned | Self::Proposed | Self::Lifted | Self::Dropped => {
                false
            }
            Self::Undecided | Self::Overdue | Self::Undelivered | Self::Unassigned => true,
        }
    }

    /// Its name in JSON, in the environment, and in the names of templates.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warned => "warned",
            Self::Sanctioned => "sanctioned",
            Self::Proposed => "proposed",
            Self::Lifted => "lifted",
            Self::Dropped => "dropped",
            Self::Undecided => "undecided",
            Self::Overdue => "overdue",
            Self::Undelivered => "undelivered",
            Self::Unassigned => "unassigned",
        }
    }
}

/// What lifts a sanction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiftFacts {
    /// Whether one is enough; else all are needed.
    pub any: bool,
    /// The conditions.
    pub conditions: Vec<Condition>,
}

/// What follows if a sanction is not lifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThenFacts {
    /// What.
    pub sanction: Sanction,
    /// When.
    pub at: Timestamp,
}

/// A notice that could not be delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndeliveredFacts {
    /// The id of the notice.
    pub notice: String,
    /// What it was about.
    pub event: EventKind,
    /// Where it should have gone, in words.
    pub to: String,
    /// Why it did not arrive, as far as is known.
    pub error: String,
}

/// What a notice says. All texts are harmless: one line each, bounded, no control characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The version of this form.
    pub schema: u32,
    /// The notice's own id, unique for ever: receivers know a repeat by it.
    pub id: String,
    /// Its number in the node's record book: a later notice has a higher one, for as long as the
    /// book is not lost. 0: it was written before there were numbers.
    #[serde(default)]
    pub sequence: u64,
    /// The same for all notices about one event, whoever is told.
    pub event_id: String,
    /// When it happened.
    pub time: Timestamp,
    /// On which node.
    pub node: String,
    /// About whom.
    pub tenant: String,
    /// Whose customer that is.
    pub parent: Option<String>,
    /// Who is told.
    pub audience: Audience,
    /// Who should have been told, had it an address.
    pub in_place_of: Option<Audience>,
    /// What happened.
    pub event: EventKind,
    /// The tenant is only observed: nothing is carried out.
    pub observed: bool,
    /// `limiter observe` has opened the tenant or the node: until then nothing of it is refused, and
    /// the sanction is recorded, but not carried out.
    #[serde(default)]
    pub opened_until: Option<Timestamp>,
    /// By which policy; null: by an operator's own word.
    pub policy: Option<String>,
    /// The case, unique for tenant and policy.
    pub case: Option<u32>,
    /// The sanction that this is about.
    pub sanction: Option<Sanction>,
    /// What it means, in words.
    pub effect: Option<String>,
    /// What holds while a proposal waits.
    pub meanwhile: Option<Sanction>,
    /// The sanction holds only until a person decided about this one, by the deadline.
    #[serde(default)]
    pub pending: Option<Sanction>,
    /// What holds although this is over, weakest first.
    #[serde(default)]
    pub still: Vec<Sanction>,
    /// For what.
    pub severity: Option<Severity>,
    /// The number of the offence; 0: it does not count.
    pub offence: Option<u32>,
    /// When its time is over.
    pub until: Option<Timestamp>,
    /// By when something is to be decided.
    pub deadline: Option<Timestamp>,
    /// What lifts it.
    pub lift: Option<LiftFacts>,
    /// What follows if it is not lifted.
    pub then: Option<ThenFacts>,
    /// How it came to its end.
    pub how: Option<How>,
    /// The complaint that is overdue, or waits to be assigned.
    pub complaint: Option<String>,
    /// What was to be done about it: acknowledge, act, answer.
    pub clock: Option<String>,
    /// What could not be delivered.
    pub undelivered: Option<UndeliveredFacts>,
    /// What the policy's author adds.
    pub notes: Vec<String>,
    /// The evidence.
    pub evidence: Vec<EvidenceLine>,
    /// How many more lines of evidence there are.
    pub evidence_more: usize,
    /// What the customer is to do.
    pub to_do: Vec<String>,
    /// How the service comes back.
    pub way_back: Vec<String>,
    /// How to reach whoever runs the node.
    pub operator: Vec<String>,
}

/// What a notice does not know itself.
#[derive(Clone, Copy, Debug)]
pub struct Context<'c> {
    /// The notice's id: unique for ever on this node, across a lost database too (a random part,
    /// or the time it was written).
    pub id: &'c str,
    /// The notice's number in the record book.
    pub sequence: u64,
    /// The node's name.
    pub node: &'c str,
    /// Whose customer the tenant is.
    pub parent: Option<&'c str>,
    /// Mail addresses of whoever runs the node.
    pub operator: &'c [String],
    /// The evidence, the weightiest first: [`evidence::of_case`], or what the caller knows better.
    pub evidence: &'c [EvidenceLine],
    /// When it happened, as the engine counts time.
    pub at: Moment,
    /// The same moment on the wall clock: all others are told by their distance from it.
    pub time: Timestamp,
}

impl Context<'_> {
    fn wall(&self, moment: Moment) -> Timestamp {
        let telling = Telling {
            at: self.at,
            time: self.time,
            mail_ports: &[],
        };
        telling.wall(moment)
    }
}

impl Facts {
    /// What `notice` says.
    #[must_use]
    pub fn new(notice: &Notice, context: &Context<'_>) -> Self {
        let name = |text: &str| harmless::line(text, NAME);
        let (mut evidence, evidence_more) = evidence::bounded(context.evidence);
        if notice.to != Audience::Operator {
            evidence::withhold(&mut evidence);
        }
        let mut facts = Self {
            schema: SCHEMA,
            id: name(context.id),
            sequence: context.sequence,
            event_id: event_id(notice, context),
            time: context.time,
            node: name(context.node),
            tenant: name(&notice.tenant),
            parent: context.parent.map(name),
            audience: notice.to,
            in_place_of: None,
            event: EventKind::Undecided,
            observed: false,
            opened_until: None,
            policy: notice.policy.as_deref().map(name),
            case: notice.case,
            sanction: None,
            effect: None,
            meanwhile: None,
            pending: None,
            still: Vec::new(),
            severity: None,
            offence: None,
            until: None,
            deadline: None,
            lift: None,
            then: None,
            how: None,
            complaint: None,
            clock: None,
            undelivered: None,
            notes: Vec::new(),
            evidence,
            evidence_more,
            to_do: Vec::new(),
            way_back: Vec::new(),
            operator: context.operator.iter().map(|a| name(a)).collect(),
        };
        facts.tell(&notice.event, context);
        facts.effect = facts.sanction.map(|s| words::effect(s).to_owned());
        facts
    }

    fn tell(&mut self, event: &NoticeEvent, context: &Context<'_>) {
        match event {
            NoticeEvent::Sanctioned {
                sanction,
                severity,
                offence,
                until,
                lift,
                note,
                then,
                pending,
            } => {
                self.event = match sanction {
                    Sanction::Warn => EventKind::Warned,
                    _ => EventKind::Sanctioned,
                };
                self.sanction = Some(*sanction);
                self.severity = *severity;
                self.offence = Some(*offence);
                self.until = until.map(|moment| context.wall(moment));
                let until = self.until.map(time::human);
                self.notes = harmless::lines(note.iter().map(String::as_str));
                self.then = then.map(|(sanction, at)| ThenFacts {
                    sanction,
                    at: context.wall(at),
                });
                self.to_do = words::to_do(&self.evidence);
                match pending {
                    Some(Pending { sanction, deadline }) => {
                        self.pending = Some(*sanction);
                        self.deadline = deadline.map(|moment| context.wall(moment));
                        let by = self.deadline.map(time::human);
                        self.way_back = words::provisional(by.as_deref());
                    }
                    None => {
                        let (any, conditions) = words::conditions(lift);
                        self.lift = Some(LiftFacts { any, conditions });
                        self.way_back = words::way_back(*sanction, lift, until.as_deref());
                    }
                }
            }
            NoticeEvent::Proposed {
                sanction,
                deadline,
                meanwhile,
                observed,
            } => {
                self.event = EventKind::Proposed;
                self.sanction = Some(*sanction);
                self.deadline = deadline.map(|moment| context.wall(moment));
                self.meanwhile = *meanwhile;
                self.observed = *observed;
            }
            NoticeEvent::Lifted {
                sanction,
                how,
                still,
            }
            | NoticeEvent::Dropped {
                sanction,
                how,
                still,
            } => {
                self.event = match event {
                    NoticeEvent::Dropped { .. } => EventKind::Dropped,
                    _ => EventKind::Lifted,
                };
                self.sanction = Some(*sanction);
                self.how = Some(*how);
                self.still.clone_from(still);
            }
            NoticeEvent::Undecided { sanction } => {
                self.event = EventKind::Undecided;
                self.sanction = Some(*sanction);
            }
            NoticeEvent::Overdue { complaint, clock } => {
                self.event = EventKind::Overdue;
                self.complaint = Some(harmless::line(complaint, NAME));
                self.clock = Some(harmless::line(clock, NAME));
            }
            NoticeEvent::Unassigned {
                complaint,
                why,
                waiting,
            } => {
                self.event = EventKind::Unassigned;
                self.complaint = Some(harmless::line(complaint, NAME));
                let waiting = format!("complaints that wait: {waiting}");
                self.notes = harmless::lines([waiting.as_str(), why.as_str()]);
            }
        }
    }

    /// That this notice did not reach `to`: for the operator.
    #[must_use]
    pub fn undelivered(&self, to: &str, error: &str, now: Timestamp) -> Self {
        Self {
            id: format!(
                "{}-undelivered-{}",
                self.id,
                &digest::hex(to.as_bytes())[..8]
            ),
            event_id: format!("{}-undelivered", self.event_id),
            time: now,
            audience: Audience::Operator,
            in_place_of: None,
            event: EventKind::Undelivered,
            undelivered: Some(UndeliveredFacts {
                notice: self.id.clone(),
                event: self.event,
                to: harmless::line(to, LINE),
                error: harmless::line(error, LINE),
            }),
            ..self.clone()
        }
    }
}

/// A digest of what happened, to whom and when, but not of who is told.
fn event_id(notice: &Notice, context: &Context<'_>) -> String {
    let Notice {
        to: _,
        tenant,
        policy,
        case,
        event,
    } = notice;
    let what = (context.node, tenant, policy, case, event, context.at);
    let json = serde_json::to_vec(&what).unwrap_or_default();
    let mut hex = digest::hex(&json);
    hex.truncate(32);
    hex
}
