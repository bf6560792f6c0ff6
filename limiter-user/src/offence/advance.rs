//! Time passes: sanctions end, proposals are decided or overdue, cases close.

use std::collections::BTreeSet;

use super::{
    action::{Action, How, NoticeEvent, Pending},
    case::Case,
    charge::{self, Cause},
    engine::{Work, effective},
    hold::{Hold, Status, Why},
    ladder::Ladder,
    record::{LadderRecord, Record},
    steps,
    time::Moment,
    words::{Audience, Sanction},
};

/// Something that is over, to be told when all that ends at this moment has ended.
struct Over {
    /// By which case; `None`: an operator's own word.
    whose: Option<(String, u32)>,
    sanction: Sanction,
    how: How,
    /// It was only proposed, and never in force.
    proposed: bool,
    tell: BTreeSet<Audience>,
}

impl Work<'_> {
    /// Lets everything happen that is due, each at its own moment, in order.
    pub fn advance(&mut self) {
        let now = self.at;
        while let Some((moment, tenant)) = self.state.due.first().cloned() {
            if moment > now {
                break;
            }
            self.at = moment;
            self.settle(&tenant);
            self.touched.insert(tenant);
        }
        self.at = now;
    }

    /// What is due for one tenant.
    fn settle(&mut self, tenant: &str) {
        let Some(mut record) = self.state.records.remove(tenant) else {
            return;
        };
        let names: Vec<String> = record.ladders.keys().cloned().collect();
        let mut over = Vec::new();
        for name in &names {
            if let Some(mut ladder_record) = record.ladders.remove(name) {
                self.settle_case(tenant, name, &mut record, &mut ladder_record, &mut over);
                record.ladders.insert(name.clone(), ladder_record);
            }
        }
        self.settle_own(&mut record, &mut over);
        self.tell_over(tenant, &mut record, over);
        self.settle_clocks(tenant, &mut record);
        self.state.records.insert(tenant.to_owned(), record);
        self.refresh(tenant);
    }

    fn settle_case(
        &mut self,
        tenant: &str,
        policy: &str,
        record: &mut Record,
        ladder_record: &mut LadderRecord,
        over: &mut Vec<Over>,
    ) {
        let Some(case) = ladder_record.open.as_mut() else {
            return;
        };
        let ladder = self.book.ladders.get(policy);
        let whose = (policy, case.id);
        let mut more = Vec::new();
        let proposed = |hold: &Hold| matches!(hold.status, Status::Proposed(_));
        let waiting: Vec<bool> = case.holds.iter().map(proposed).collect();
        for hold in case.holds.iter_mut().filter(|hold| hold.is_open()) {
            more.extend(self.settle_hold(tenant, whose, record, ladder, hold, over));
        }
        for (hold, waited) in case.holds.iter().zip(waiting) {
            if waited && hold.status == Status::InForce {
                let cause = Cause::step(tenant, policy, case, hold);
                let (book, actions) = (self.book, &mut self.actions);
                charge::charge(record, book, policy, &hold.step.charges, &cause, actions);
            }
        }
        for hold in more {
            self.tell_start(tenant, whose, &hold);
            case.holds.push(hold);
        }
        case.holds.sort();
        if let Some(id) = ladder_record.close(ladder, self.at) {
            if ladder_record.closed.last().is_some_and(Case::is_void) {
                self.void_above(tenant, policy, id);
            }
            self.actions.push(Action::CloseCase {
                tenant: tenant.to_owned(),
                policy: policy.to_owned(),
                case: id,
            });
        }
    }

    /// What is due for one sanction; what follows it.
    fn settle_hold(
        &mut self,
        tenant: &str,
        whose: (&str, u32),
        record: &Record,
        ladder: Option<&Ladder>,
        hold: &mut Hold,
        over: &mut Vec<Over>,
    ) -> Option<Hold> {
        let is_due = |moment: &Moment| *moment <= self.at;
        let end = record.said.end(hold).filter(|(moment, _)| is_due(moment));
        let confirmed = record.said.confirmed(hold).filter(is_due);
        if let Some(moment) = confirmed
            && end.is_none_or(|(end, _)| moment <= end)
        {
            hold.confirm(moment);
            self.tell_start(tenant, whose, hold);
            return None;
        }
        if let Some((moment, how)) = end {
            let (policy, case) = whose;
            let ended = |sanction, proposed, tell| Over {
                whose: Some((policy.to_owned(), case)),
                sanction,
                how,
                proposed,
                tell,
            };
            // What was only observed ends in silence.
            if hold.status == Status::Proposed(Why::Confirm) {
                over.push(ended(hold.step.sanction, true, [Audience::Operator].into()));
            }
            if let Some(sanction) = hold.suffered() {
                let tell = hold.step.tell.iter().copied().collect();
                over.push(ended(sanction, false, tell));
            }
            hold.end(moment, how);
            return None;
        }
        if !hold.alarmed && hold.deadline.is_some_and(|moment| moment <= self.at) {
            hold.alarmed = true;
            let sanction = hold.step.sanction;
            let event = NoticeEvent::Undecided { sanction };
            self.notify(Audience::Operator, tenant, Some(whose), event);
        }
        let (sanction, moment) = hold.then.take_if(|(_, moment)| *moment <= self.at)?;
        let step = steps::after(&hold.step, sanction);
        // Without its policy nobody can say whether it needs a confirmation: then it does.
        let confirm = ladder.is_none_or(|ladder| ladder.confirm.contains(&sanction));
        let why = confirm.then_some(Why::Confirm);
        Some(Hold::new(step, moment, hold.severity, hold.offence, why))
    }

    fn settle_own(&self, record: &mut Record, over: &mut Vec<Over>) {
        let Record { said, own, .. } = record;
        let at = self.at;
        own.retain(|sanction, own| {
            let by_time = own.until.is_some_and(|until| until <= at);
            let taken_back = said.own_taken_back(*sanction, own.since);
            let by_word = taken_back.is_some_and(|moment| moment <= at);
            if by_time || by_word {
                let how = if by_time { How::Rule } else { How::Reinstated };
                over.push(Over {
                    whose: None,
                    sanction: *sanction,
                    how,
                    proposed: false,
                    tell: [Audience::Contact].into(),
                });
            }
            !(by_time || by_word)
        });
    }

    /// Tells what is over. What still holds for another reason is not lifted: whoever should hear
    /// of it does when the last reason is gone.
    fn tell_over(&mut self, tenant: &str, record: &mut Record, over: Vec<Over>) {
        let holds = effective(record);
        let still: Vec<Sanction> = holds.keys().copied().collect();
        for one in over {
            let Over {
                whose,
                sanction,
                how,
                proposed,
                mut tell,
            } = one;
            let still = still.clone();
            let event = if proposed {
                NoticeEvent::Dropped {
                    sanction,
                    how,
                    still,
                }
            } else if holds.contains_key(&sanction) {
                record.untold.entry(sanction).or_default().extend(tell);
                continue;
            } else {
                tell.extend(record.untold.remove(&sanction).unwrap_or_default());
                NoticeEvent::Lifted {
                    sanction,
                    how,
                    still,
                }
            };
            let whose = whose
                .as_ref()
                .map(|(policy, case)| (policy.as_str(), *case));
            for to in tell {
                self.notify(to, tenant, whose, event.clone());
            }
        }
        record
            .untold
            .retain(|sanction, _| holds.contains_key(sanction));
    }

    fn settle_clocks(&mut self, tenant: &str, record: &mut Record) {
        for (key, due) in &mut record.clocks {
            if due.take_if(|due| *due <= self.at).is_none() {
                continue;
            }
            let (complaint, clock) = key.split_once('\n').unwrap_or((key, ""));
            let event = NoticeEvent::Overdue {
                complaint: complaint.to_owned(),
                clock: clock.to_owned(),
            };
            self.notify(Audience::Operator, tenant, None, event);
        }
    }

    /// Tells that a sanction is in force or proposed.
    pub fn tell_start(&mut self, tenant: &str, whose: (&str, u32), hold: &Hold) {
        let pending = (hold.status == Status::Proposed(Why::Confirm)).then_some(Pending {
            sanction: hold.step.sanction,
            deadline: hold.deadline,
        });
        let sanctioned = |sanction| NoticeEvent::Sanctioned {
            sanction,
            severity: Some(hold.severity),
            offence: hold.offence,
            // The time of what is proposed is not that of what holds meanwhile.
            until: hold.until.filter(|_| pending.is_none()),
            lift: hold.step.lift.clone(),
            note: hold.step.note.clone(),
            then: hold.then,
            pending,
        };
        if let Status::Proposed(why) = hold.status {
            let event = NoticeEvent::Proposed {
                sanction: hold.step.sanction,
                deadline: hold.deadline,
                meanwhile: hold.suffered(),
                observed: why == Why::Observed,
            };
            self.notify(Audience::Operator, tenant, Some(whose), event);
        }
        if let Some(sanction) = hold.suffered() {
            for to in &hold.step.tell {
                self.notify(*to, tenant, Some(whose), sanctioned(sanction));
            }
        }
    }
}
