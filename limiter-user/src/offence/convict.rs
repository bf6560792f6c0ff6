//! What is heard is taken down under one policy, and becomes an offence where its rules say so.

use super::{
    action::Action,
    book::Subject,
    case::{Case, Mark},
    charge::Cause,
    engine::Work,
    hold::{Hold, Why},
    judge::{self, Fact, Heard},
    ladder::{Ladder, Per, Step},
    record::LadderRecord,
    steps,
    time::Moment,
    words::Severity,
};

impl Work<'_> {
    /// Under one policy.
    pub fn under(&mut self, tenant: &str, ladder: &Ladder, fact: &Fact<'_>) {
        if !is_kept(ladder, fact) {
            return;
        }
        self.touched.insert(tenant.to_owned());
        let at = self.at;
        let record = self.state.records.entry(tenant.to_owned()).or_default();
        let mut kept = record.ladders.remove(&ladder.name).unwrap_or_default();
        let late = kept.is_late(fact.happened);
        let tally = if late {
            &mut kept.late
        } else {
            &mut kept.fresh
        };
        tally.add(fact, at);
        tally.forget(&record.voided, &ladder.name, at);
        let (counted, all) = judge::severities(ladder, tally, fact, at);
        match kept.closed.last_mut().filter(|_| late) {
            Some(case) => case.evidence.add(fact, at),
            None => kept.evidence.add(fact, at),
        }
        let mut offences = Vec::new();
        let counted = counted.into_iter().map(|severity| (severity, true));
        let all = all.into_iter().map(|severity| (severity, false));
        for (severity, counted) in counted.chain(all) {
            let mark = mark(&kept, ladder, at, (severity, counted, !late));
            if self.mark(tenant, ladder, &mut kept, mark) && counted {
                let case = kept.open.as_ref().map(|case| case.id);
                offences.extend(case.map(|case| (case, severity)));
            }
        }
        let record = self.state.records.entry(tenant.to_owned()).or_default();
        record.ladders.insert(ladder.name.clone(), kept);
        // R14: an offence is on the records above, too.
        for (case, severity) in offences {
            let who = customer(tenant, case);
            let fact = Fact {
                heard: Heard::Customer {
                    who: &who,
                    severity,
                },
                source: None,
                account: None,
                left: true,
                happened: at,
            };
            for above in self.book.above(tenant) {
                self.under(above, ladder, &fact);
            }
        }
    }

    /// Adds `mark` to the open case, or opens one; whether it says anything new.
    fn mark(&mut self, tenant: &str, ladder: &Ladder, kept: &mut LadderRecord, mark: Mark) -> bool {
        let at = self.at;
        let last = kept.closed.last().filter(|_| !mark.fresh);
        if last.is_some_and(|case| case.marks.iter().any(|old| old.covers(&mark))) {
            return false;
        }
        let has_been = kept
            .closed
            .iter()
            .any(|case| case.reinstated() && case.counts(ladder, at));
        let subject = self.book.tenants.get(tenant);
        let plan = subject.and_then(|subject| subject.plan.as_deref());
        let following = |mark: &Mark| steps::following(ladder, mark, plan, mark.fresh && has_been);
        if kept.open.is_none() {
            kept.cases = kept.cases.saturating_add(1);
            kept.open = Some(Case::new(kept.cases, at));
            self.actions.push(Action::OpenCase {
                tenant: tenant.to_owned(),
                policy: ladder.name.clone(),
                case: kept.cases,
            });
        }
        let Some(case) = kept.open.as_mut() else {
            return false;
        };
        // What counts says all that what does not count says, also at the same moment.
        let said = |old: &Mark| {
            old.covers(&mark) && (old.at < at || old == &mark || (old.counted && !mark.counted))
        };
        if case.marks.iter().any(said) {
            return false;
        }
        if mark.counted {
            case.unsay(&mark, following);
        }
        case.marks.insert(mark);
        if mark.counted {
            let cause = Cause {
                per: Some(Per::Offence),
                name: format!("offence {} {}", ladder.name, case.id),
                severity: Some(mark.severity),
                tenant,
            };
            self.charge(&ladder.name, &ladder.charges, &cause);
        }
        for step in following(&mark) {
            self.take(tenant, ladder, case, mark, step, subject);
        }
        case.holds.sort();
        true
    }

    /// Takes a step.
    fn take(
        &mut self,
        tenant: &str,
        ladder: &Ladder,
        case: &mut Case,
        mark: Mark,
        step: Step,
        subject: Option<&Subject>,
    ) {
        let same = |hold: &&mut Hold| hold.is_open() && hold.step == step;
        if let Some(hold) = case.holds.iter_mut().find(same) {
            if hold.since == self.at {
                hold.severity = hold.severity.max(mark.severity);
                hold.offence = hold.offence.max(mark.offence);
            }
            return;
        }
        let why = if subject.is_some_and(|subject| subject.observe) {
            Some(Why::Observed)
        } else {
            let confirm = ladder.confirm.contains(&step.sanction);
            confirm.then_some(Why::Confirm)
        };
        let hold = Hold::new(step, self.at, mark.severity, mark.offence, why);
        // A proposal costs nothing until it is confirmed.
        if why.is_none() {
            let cause = Cause::step(tenant, &ladder.name, case, &hold);
            self.charge(&ladder.name, &hold.step.charges, &cause);
        }
        self.tell_start(tenant, (&ladder.name, case.id), &hold);
        case.holds.push(hold);
    }
}

/// What tells an offence from all others on the records above.
pub fn customer(tenant: &str, case: u32) -> String {
    format!("{tenant} {case}")
}

/// The mark that a severity makes.
fn mark(
    kept: &LadderRecord,
    ladder: &Ladder,
    at: Moment,
    (severity, counted, fresh): (Severity, bool, bool),
) -> Mark {
    let prior = kept.prior(ladder, at);
    let continues = !fresh
        && kept
            .closed
            .last()
            .is_some_and(|case| case.counts(ladder, at));
    let offence = match (counted, continues) {
        (false, _) => 0,
        (true, true) => prior,
        (true, false) => prior.saturating_add(1),
    };
    Mark {
        at,
        severity,
        counted,
        fresh,
        offence,
    }
}

/// Whether `ladder` has any use for `fact`.
fn is_kept(ladder: &Ladder, fact: &Fact<'_>) -> bool {
    match fact.heard {
        Heard::Sent { .. } => ladder.has_rates(),
        _ => judge::speaks_of(ladder, fact),
    }
}
