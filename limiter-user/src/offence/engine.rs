//! One step of the engine.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    action::{Action, Notice, NoticeEvent},
    book::Book,
    clock::Reading,
    record::Record,
    signal::Signal,
    state::State,
    time::Moment,
    words::{Audience, Sanction},
};

/// What came of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What is to be done, in this order.
    pub actions: Vec<Action>,
    /// Whose records changed.
    pub touched: BTreeSet<String>,
    /// When the engine wants to be called next, at the latest; it may be now.
    pub wake: Option<Moment>,
}

/// Lets time pass up to `now`, then hears `signal`. The result depends on nothing but the
/// arguments.
pub fn step(state: &mut State, book: &Book, signal: &Signal, now: &Reading) -> Outcome {
    let blank = state.records.is_empty();
    state.clock.read(now, blank);
    if matches!(signal, Signal::Settle { .. }) {
        state.clock.settle(now);
    }
    let at = state.clock.now();
    let mut work = Work {
        state,
        book,
        at,
        actions: Vec::new(),
        touched: BTreeSet::new(),
    };
    work.advance();
    work.hear(signal);
    let heard: Vec<String> = work.touched.iter().cloned().collect();
    for tenant in &heard {
        work.refresh(tenant);
    }
    let Work {
        actions, touched, ..
    } = work;
    Outcome {
        actions,
        touched,
        wake: state.wake(),
    }
}

/// A step in the making.
pub(super) struct Work<'w> {
    pub state: &'w mut State,
    pub book: &'w Book,
    /// The moment that is being worked on.
    pub at: Moment,
    pub actions: Vec<Action>,
    pub touched: BTreeSet<String>,
}

impl Work<'_> {
    /// Tells what `tenant` suffers now where that changed, and notes when time changes it next.
    pub fn refresh(&mut self, tenant: &str) {
        let Some(record) = self.state.records.get_mut(tenant) else {
            return;
        };
        let now = effective(record);
        let before = std::mem::replace(&mut record.effective, now.clone());
        for (sanction, until) in &now {
            if before.get(sanction) != Some(until) {
                self.actions.push(Action::Apply {
                    tenant: tenant.to_owned(),
                    sanction: *sanction,
                    until: *until,
                });
            }
        }
        for sanction in before.keys().filter(|sanction| !now.contains_key(sanction)) {
            self.actions.push(Action::LiftSanction {
                tenant: tenant.to_owned(),
                sanction: *sanction,
            });
        }
        let due = due(record);
        self.state.schedule(tenant, due);
    }

    /// Tells `to`.
    pub fn notify(
        &mut self,
        to: Audience,
        tenant: &str,
        case: Option<(&str, u32)>,
        event: NoticeEvent,
    ) {
        self.actions.push(Action::Notify(Box::new(Notice {
            to,
            tenant: tenant.to_owned(),
            policy: case.map(|(policy, _)| policy.to_owned()),
            case: case.map(|(_, id)| id),
            event,
        })));
    }
}

/// What the tenant suffers, of each kind the longest.
pub(super) fn effective(record: &Record) -> BTreeMap<Sanction, Option<Moment>> {
    let mut effective: BTreeMap<Sanction, Option<Moment>> = BTreeMap::new();
    let mut add = |sanction: Sanction, until: Option<Moment>| {
        let entry = effective.entry(sanction).or_insert(until);
        *entry = entry.zip(until).map(|(one, other)| one.max(other));
    };
    let cases = record.ladders.values().filter_map(|l| l.open.as_ref());
    for hold in cases.flat_map(|case| &case.holds) {
        if let Some(sanction) = hold.suffered() {
            add(sanction, record.said.end(hold).map(|(at, _)| at));
        }
    }
    for (sanction, own) in &record.own {
        let taken_back = record.said.own_taken_back(*sanction, own.since);
        let until = match (own.until, taken_back) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        add(*sanction, until);
    }
    effective
}

/// When time next changes a record.
fn due(record: &Record) -> Option<Moment> {
    let cases = record.ladders.values().filter_map(|l| l.open.as_ref());
    let holds = cases
        .flat_map(|case| &case.holds)
        .filter(|hold| hold.is_open());
    let of_holds = holds.flat_map(|hold| {
        [
            record.said.end(hold).map(|(at, _)| at),
            record.said.confirmed(hold),
            hold.deadline.filter(|_| !hold.alarmed),
            hold.then.map(|(_, at)| at),
        ]
    });
    let of_own = record
        .own
        .iter()
        .flat_map(|(sanction, own)| [own.until, record.said.own_taken_back(*sanction, own.since)]);
    of_holds
        .chain(of_own)
        .chain(record.clocks.values().copied())
        .flatten()
        .min()
}
