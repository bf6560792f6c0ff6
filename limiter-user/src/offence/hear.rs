//! A signal is heard. It only adds: what it ends, time ends.

use super::{
    action::{Action, NoticeEvent},
    book::Subject,
    case::{Case, Mark},
    charge::{self, Cause},
    complaint,
    engine::Work,
    hold::{Hold, Why},
    judge::{self, Fact, Heard},
    ladder::{Condition, Ladder, Lift, Per, When},
    record::{LadderRecord, OwnHold, Record},
    signal::Signal,
    steps,
    time::{Moment, Span},
    words::{Audience, Sanction, Severity},
};

impl Work<'_> {
    /// Hears `signal`.
    pub fn hear(&mut self, signal: &Signal) {
        let Some(tenant) = signal.tenant() else {
            return;
        };
        let happened = signal.happened().unwrap_or(self.at).min(self.at);
        let fact = |heard, source, left| Fact {
            heard,
            source,
            account: Some(tenant),
            left,
            happened,
        };
        match signal {
            Signal::Tick | Signal::Settle { .. } => {}
            Signal::Violations {
                reason,
                count,
                refused,
                source,
                ..
            } => {
                let heard = Heard::Violations {
                    reason,
                    count: *count,
                };
                self.everywhere(tenant, &fact(heard, *source, !refused));
            }
            Signal::Sent { messages, .. } => {
                let heard = Heard::Sent {
                    messages: *messages,
                };
                let sent = Fact {
                    account: None,
                    ..fact(heard, None, true)
                };
                self.under_all(tenant, &sent);
            }
            Signal::Bounces { hard, soft, .. } => {
                let heard = Heard::Bounces {
                    hard: *hard,
                    soft: *soft,
                };
                self.under_all(tenant, &fact(heard, None, true));
            }
            Signal::Complaint(complaint) => self.complaint(complaint, happened),
            Signal::Listing { id, list, .. } => {
                let record = self.state.record(tenant);
                if complaint::is_new(record, tenant, id, self.at, &mut self.actions) {
                    self.charge_item(tenant, Per::Listing, id, |_| true);
                    self.everywhere(tenant, &fact(Heard::Listing { id, list }, None, true));
                }
                self.touched.insert(tenant.to_owned());
            }
            Signal::Offence {
                severity,
                reason,
                by,
                ..
            } => {
                let heard = Heard::Offence {
                    severity: *severity,
                    reason,
                    by,
                };
                self.under_all(tenant, &fact(heard, None, true));
            }
            Signal::Suspend {
                sanction,
                length,
                reason,
                by,
                ..
            } => self.suspend(tenant, *sanction, *length, (reason, by)),
            Signal::Word { word, .. } => {
                let at = self.at;
                self.state.record(tenant).said.note(*word, at);
                self.touched.insert(tenant.to_owned());
            }
            Signal::Handled {
                complaint, clock, ..
            } => {
                complaint::stop_clock(self.state.record(tenant), complaint, clock);
                self.touched.insert(tenant.to_owned());
            }
        }
    }

    fn complaint(&mut self, complaint: &super::signal::Complaint, happened: Moment) {
        let (tenant, id) = (complaint.tenant.as_str(), complaint.id.as_str());
        self.touched.insert(tenant.to_owned());
        let record = self.state.record(tenant);
        if !complaint::is_new(record, tenant, id, self.at, &mut self.actions) {
            return;
        }
        let mut valid = Vec::new();
        for ladder in self.book.binding(tenant) {
            if complaint::is_valid(ladder, complaint, &mut self.actions) {
                complaint::start_clocks(self.state.record(tenant), ladder, id, self.at);
                valid.push(ladder);
            }
        }
        self.charge_item(tenant, Per::Complaint, id, |ladder| {
            valid.iter().any(|valid| valid.name == ladder.name)
        });
        let fact = Fact {
            heard: Heard::Complaint { id },
            source: complaint.source,
            account: Some(tenant),
            left: true,
            happened,
        };
        for ladder in &valid {
            self.under(tenant, ladder, &fact);
        }
        if !valid.is_empty() {
            self.below(tenant, &fact);
        }
    }

    fn suspend(
        &mut self,
        tenant: &str,
        sanction: Sanction,
        length: Option<Span>,
        (reason, by): (&str, &str),
    ) {
        let at = self.at;
        let mut own = OwnHold {
            since: at,
            until: length.map(|length| at.plus(length)),
            reason: reason.to_owned(),
            by: by.to_owned(),
        };
        let held = &mut self.state.record(tenant).own;
        // The last word holds; of two at one moment the longer.
        if let Some(other) = held.get(&sanction).filter(|other| other.since == at) {
            let until = own.until.zip(other.until).map(|(one, two)| one.max(two));
            own = own.max(other.clone());
            own.until = until;
        }
        let until = own.until;
        held.insert(sanction, own);
        self.touched.insert(tenant.to_owned());
        let event = NoticeEvent::Sanctioned {
            sanction,
            severity: None,
            offence: 0,
            until,
            lift: Lift::Any([Condition::Time, Condition::Review].into()),
            note: Vec::new(),
            then: None,
        };
        self.notify(Audience::Contact, tenant, None, event);
    }

    /// Charges `id` by all policies that `fits` accepts.
    fn charge_item(&mut self, tenant: &str, per: Per, id: &str, fits: impl Fn(&Ladder) -> bool) {
        let cause = Cause {
            per: Some(per),
            name: format!("{} {id}", per.as_str()),
            severity: None,
            tenant,
        };
        for ladder in self.book.binding(tenant) {
            if fits(ladder) {
                let record = self.state.records.entry(tenant.to_owned()).or_default();
                let charges = &ladder.charges;
                charge::charge(
                    record,
                    self.book,
                    ladder,
                    charges,
                    &cause,
                    &mut self.actions,
                );
            }
        }
    }

    /// Under all policies of the tenant, and on the records above it.
    fn everywhere(&mut self, tenant: &str, fact: &Fact<'_>) {
        self.under_all(tenant, fact);
        self.below(tenant, fact);
    }

    /// Under all policies of the tenant.
    fn under_all(&mut self, tenant: &str, fact: &Fact<'_>) {
        let mut known = false;
        for ladder in self.book.binding(tenant) {
            known |= judge::speaks_of(ladder, fact);
            self.under(tenant, ladder, fact);
        }
        if !known {
            self.actions.push(Action::NoPolicy {
                tenant: tenant.to_owned(),
            });
        }
    }

    /// Over how many accounts those above spread. The addresses are not theirs: a reseller with
    /// many customers has many, and nothing follows from that.
    fn below(&mut self, tenant: &str, fact: &Fact<'_>) {
        let fact = Fact {
            heard: Heard::Below,
            source: None,
            ..*fact
        };
        for above in self.book.above(tenant) {
            for ladder in self.book.binding(above) {
                self.under(above, ladder, &fact);
            }
        }
    }

    /// Under one policy.
    fn under(&mut self, tenant: &str, ladder: &Ladder, fact: &Fact<'_>) {
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
        let (counted, all) = judge::severities(ladder, tally, fact, at);
        match kept.closed.last_mut().filter(|_| late) {
            Some(case) => case.evidence.add(fact),
            None => kept.evidence.add(fact),
        }
        let mut offence = None;
        for (severity, counted) in [(counted, true), (all, false)] {
            if let Some(severity) = severity {
                let mark = mark(&kept, ladder, at, (severity, counted, !late));
                if self.mark(tenant, ladder, &mut kept, mark) && counted {
                    offence = kept.open.as_ref().map(|case| (case.id, severity));
                }
            }
        }
        let record = self.state.records.entry(tenant.to_owned()).or_default();
        record.ladders.insert(ladder.name.clone(), kept);
        // R14: an offence is on the records above, too.
        if let Some((case, severity)) = offence {
            let who = format!("{tenant} {case}");
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
        let reinstated = mark.fresh
            && kept
                .closed
                .iter()
                .any(|case| case.reinstated() && case.counts(ladder, at));
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
            case.unsay(&mark);
        }
        case.marks.insert(mark);
        if mark.counted {
            let cause = Cause {
                per: Some(Per::Offence),
                name: format!("offence {} {}", ladder.name, case.id),
                severity: Some(mark.severity),
                tenant,
            };
            let record = self.state.records.entry(tenant.to_owned()).or_default();
            let charges = &ladder.charges;
            charge::charge(
                record,
                self.book,
                ladder,
                charges,
                &cause,
                &mut self.actions,
            );
        }
        let subject = self.book.tenants.get(tenant);
        let plan = subject.and_then(|subject| subject.plan.as_deref());
        for step in steps::following(ladder, &mark, plan, reinstated) {
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
        step: super::ladder::Step,
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
        let cause = Cause {
            per: None,
            name: format!(
                "step {} {} {}",
                ladder.name,
                case.id,
                step.sanction.as_str()
            ),
            severity: Some(mark.severity),
            tenant,
        };
        let record: &mut Record = self.state.records.entry(tenant.to_owned()).or_default();
        let charges = &step.charges;
        charge::charge(
            record,
            self.book,
            ladder,
            charges,
            &cause,
            &mut self.actions,
        );
        let hold = Hold::new(step, self.at, mark.severity, mark.offence, why);
        self.tell_start(tenant, (&ladder.name, case.id), &hold);
        case.holds.push(hold);
    }
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
        Heard::Sent { .. } => ladder.offences.iter().any(|rule| {
            matches!(
                rule.when,
                When::ComplaintRate(_) | When::BounceRate(_) | When::HardBounceRate(_)
            )
        }),
        _ => judge::speaks_of(ladder, fact),
    }
}
