//! Whole policies in simulated time.

mod clock;
mod hosts;
mod meaning;
mod properties;
mod shipped;
mod strict;
mod telling;
mod void;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use super::*;
use crate::policy::load_ladder;

/// The beginning of the simulation, on the hour.
const START: Moment = Moment(1_800_000_000_000);

/// The path of a shipped policy.
fn shipped_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../policies/{name}.yaml"))
}

/// A shipped policy.
fn shipped(name: &str) -> Ladder {
    let loaded = load_ladder(&shipped_path(name));
    let faults: Vec<String> = loaded.faults.iter().map(ToString::to_string).collect();
    loaded.ladder.unwrap_or_else(|| panic!("{faults:#?}"))
}

/// A book in which `ladders` bind everybody.
fn book(ladders: impl IntoIterator<Item = Ladder>) -> Book {
    let ladders: BTreeMap<String, Ladder> = ladders
        .into_iter()
        .map(|ladder| (ladder.name.clone(), ladder))
        .collect();
    let subject = |parent: Option<&str>| Subject {
        parent: parent.map(ToOwned::to_owned),
        ..Subject::default()
    };
    let tenants = [
        ("reseller", subject(None)),
        ("alice", subject(Some("reseller"))),
        ("bob", subject(Some("reseller"))),
        ("carol", subject(Some("reseller"))),
        ("shop", subject(Some("alice"))),
        (
            "server",
            Subject {
                plan: Some("dedicated".to_owned()),
                ..Subject::default()
            },
        ),
        (
            "watched",
            Subject {
                observe: true,
                ..Subject::default()
            },
        ),
    ];
    Book {
        everybody: ladders.keys().cloned().collect(),
        ladders,
        tenants: BTreeMap::from(tenants.map(|(name, subject)| (name.to_owned(), subject))),
    }
}

/// A node: the engine, its clocks, and what its actions did.
#[derive(Clone)]
struct World {
    state: State,
    book: Book,
    reading: Reading,
    /// What the kernel would enforce.
    kernel: BTreeMap<(String, Sanction), Option<Moment>>,
    /// Everything that was to be done since it was last asked for.
    actions: Vec<Action>,
}

impl World {
    fn new(ladders: impl IntoIterator<Item = Ladder>) -> Self {
        Self {
            state: State::default(),
            book: book(ladders),
            reading: Reading {
                wall: START,
                boot: "first".to_owned(),
                up: Span::hours(1),
                trusted: true,
            },
            kernel: BTreeMap::new(),
            actions: Vec::new(),
        }
    }

    fn shipped(name: &str) -> Self {
        Self::new([shipped(name)])
    }

    fn now(&self) -> Moment {
        self.state.clock.now()
    }

    /// Time passes: the engine is called whenever it asks to be.
    fn pass(&mut self, span: Span) -> &mut Self {
        let end = self.reading.wall.plus(span);
        while let Some(wake) = self.state.wake().filter(|wake| *wake <= end) {
            self.jump(wake.since(self.reading.wall));
            self.step(&Signal::Tick);
        }
        self.jump(end.since(self.reading.wall));
        self.step(&Signal::Tick);
        self
    }

    /// Time passes, and nobody tells the engine.
    fn jump(&mut self, span: Span) {
        self.reading.wall = self.reading.wall.plus(span);
        self.reading.up = Span(self.reading.up.0 + span.0);
    }

    /// A second later, `signal`; and another second later.
    fn hear(&mut self, signal: Signal) -> &mut Self {
        self.pass(Span::seconds(1));
        self.step(&signal);
        self.pass(Span::seconds(1))
    }

    fn step(&mut self, signal: &Signal) -> Outcome {
        let outcome = step(&mut self.state, &self.book, signal, &self.reading);
        for action in &outcome.actions {
            match action.clone() {
                Action::Apply {
                    tenant,
                    sanction,
                    until,
                } => {
                    self.kernel.insert((tenant, sanction), until);
                }
                Action::LiftSanction { tenant, sanction } => {
                    self.kernel.remove(&(tenant, sanction)).unwrap();
                }
                _ => {}
            }
        }
        self.actions.extend(outcome.actions.clone());
        self.check();
        outcome
    }

    /// What must always hold.
    fn check(&self) {
        let effective: BTreeMap<(String, Sanction), Option<Moment>> = self
            .state
            .records
            .iter()
            .flat_map(|(tenant, record)| {
                let of = record.effective.iter();
                of.map(|(sanction, until)| ((tenant.clone(), *sanction), *until))
            })
            .collect();
        assert_eq!(self.kernel, effective, "the kernel does what is recorded");
        for (tenant, record) in &self.state.records {
            for kept in record.ladders.values() {
                assert!(kept.open.iter().all(|case| case.closed.is_none()));
                assert!(kept.closed.iter().all(|case| case.closed.is_some()));
                let holds = kept.open.iter().flat_map(|case| &case.holds);
                for hold in holds.filter(|hold| hold.is_open()) {
                    let suffered = hold.suffered();
                    assert!(suffered.is_none_or(|s| record.effective.contains_key(&s)));
                }
                let gone = kept.closed.iter().flat_map(|case| &case.holds);
                assert!(gone.clone().all(|hold| !hold.is_open()), "{tenant}");
            }
        }
    }

    /// What `tenant` suffers, weakest first.
    fn suffers(&self, tenant: &str) -> Vec<Sanction> {
        let record = self.state.records.get(tenant);
        record.map_or_else(Vec::new, |record| {
            record.effective.keys().copied().collect()
        })
    }

    /// Until when, from the beginning of the simulation.
    fn until(&self, tenant: &str, sanction: Sanction) -> Option<Moment> {
        self.kernel
            .get(&(tenant.to_owned(), sanction))
            .copied()
            .unwrap_or_else(|| panic!("{tenant} does not suffer {sanction:?}"))
    }

    fn standing(&self, tenant: &str) -> Standing {
        let record = self.state.records.get(tenant);
        record.map_or(Standing::Good, Record::standing)
    }

    /// What was to be done since the last call.
    fn done(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Who was told what since the last call: `contact: sanctioned warn`.
    fn told(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        for action in self.done() {
            let Action::Notify(notice) = action else {
                continue;
            };
            let what = match notice.event {
                NoticeEvent::Sanctioned { sanction, .. } => {
                    format!("sanctioned {}", sanction.as_str())
                }
                NoticeEvent::Proposed { sanction, .. } => format!("proposed {}", sanction.as_str()),
                NoticeEvent::Lifted { sanction, .. } => format!("lifted {}", sanction.as_str()),
                NoticeEvent::Dropped { sanction, .. } => format!("dropped {}", sanction.as_str()),
                NoticeEvent::Undecided { sanction } => format!("undecided {}", sanction.as_str()),
                NoticeEvent::Overdue { clock, .. } => format!("overdue {clock}"),
                NoticeEvent::Unassigned { .. } => "unassigned".to_owned(),
            };
            told.push(format!("{} {}: {what}", notice.tenant, notice.to.as_str()));
        }
        told
    }

    /// What was charged since the last call: who, hundredths, what is added.
    fn charged(&mut self) -> Vec<(String, Option<u64>, Vec<String>)> {
        let done = self.done();
        let charges = done.into_iter().filter_map(|action| match action {
            Action::Charge {
                bill, cents, plus, ..
            } => Some((bill, cents, plus)),
            _ => None,
        });
        charges.collect()
    }

    fn word(&mut self, tenant: &str, word: Word) -> &mut Self {
        self.hear(say(tenant, word))
    }

    fn offence(&mut self, tenant: &str, severity: Severity) -> &mut Self {
        let happened = self.reading.wall.plus(Span::seconds(1));
        self.hear(offence(tenant, severity, happened))
    }
}

fn say(tenant: &str, word: Word) -> Signal {
    Signal::Word {
        tenant: tenant.to_owned(),
        word,
        by: "root".to_owned(),
    }
}

fn offence(tenant: &str, severity: Severity, happened: Moment) -> Signal {
    Signal::Offence {
        tenant: tenant.to_owned(),
        severity,
        reason: "seen".to_owned(),
        by: "root".to_owned(),
        happened,
    }
}

/// Refused attempts that happen right when they are heard.
fn refused(tenant: &str, count: u64) -> Signal {
    violations(tenant, count, true)
}

fn violations(tenant: &str, count: u64, refused: bool) -> Signal {
    Signal::Violations {
        tenant: tenant.to_owned(),
        reason: "limit".to_owned(),
        count,
        refused,
        source: None,
        happened: Moment(u64::MAX),
        around: Default::default(),
    }
}

/// A valid complaint about mail sent right when it is heard.
fn complaint(tenant: &str, id: &str) -> Signal {
    Signal::Complaint(Complaint {
        tenant: tenant.to_owned(),
        id: id.to_owned(),
        format: "arf".to_owned(),
        parts: BTreeSet::from([Part::Headers, Part::Message, Part::Received, Part::Violated]),
        source: None,
        happened: Moment(u64::MAX),
    })
}

fn listing(tenant: &str, id: &str) -> Signal {
    Signal::Listing {
        tenant: tenant.to_owned(),
        id: id.to_owned(),
        list: "zen".to_owned(),
        happened: Moment(u64::MAX),
    }
}

fn sent(tenant: &str, messages: u64) -> Signal {
    Signal::Sent {
        tenant: tenant.to_owned(),
        messages,
    }
}

/// Mail from these addresses, and when.
fn sources_of(tenant: &str, hosts: impl IntoIterator<Item = (u8, Moment)>) -> Signal {
    let address = |host| std::net::IpAddr::from([192, 0, 2, host]);
    let sources = hosts.into_iter().map(|(host, seen)| (address(host), seen));
    Signal::Sources {
        tenant: tenant.to_owned(),
        sources: sources.collect(),
    }
}
