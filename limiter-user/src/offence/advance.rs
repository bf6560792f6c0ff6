//! Time passes: sanctions end, proposals are decided or overdue, cases close.

use super::{
    action::{Action, How, NoticeEvent},
    charge::{self, Cause},
    engine::Work,
    hold::{Hold, Status, Why},
    ladder::Ladder,
    record::{LadderRecord, Record},
    steps,
    time::Moment,
    words::Audience,
};

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
        for name in &names {
            if let Some(mut ladder_record) = record.ladders.remove(name) {
                self.settle_case(tenant, name, &mut record, &mut ladder_record);
                record.ladders.insert(name.clone(), ladder_record);
            }
        }
        self.settle_own(tenant, &mut record);
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
            more.extend(self.settle_hold(tenant, whose, record, ladder, hold));
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
            let suffered = hold.suffered();
            let silent = hold.status == Status::Proposed(Why::Observed);
            hold.end(moment, how);
            let event = |sanction| NoticeEvent::Lifted { sanction, how };
            if let Some(sanction) = suffered {
                for to in hold.step.tell.clone() {
                    self.notify(to, tenant, Some(whose), event(sanction));
                }
            } else if !silent {
                let event = event(hold.step.sanction);
                self.notify(Audience::Operator, tenant, Some(whose), event);
            }
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

    fn settle_own(&mut self, tenant: &str, record: &mut Record) {
        let Record { said, own, .. } = record;
        let at = self.at;
        let mut ended = Vec::new();
        own.retain(|sanction, own| {
            let by_time = own.until.is_some_and(|until| until <= at);
            let taken_back = said.own_taken_back(*sanction, own.since);
            let by_word = taken_back.is_some_and(|moment| moment <= at);
            if by_time || by_word {
                let how = if by_time { How::Rule } else { How::Reinstated };
                ended.push((*sanction, how));
            }
            !(by_time || by_word)
        });
        for (sanction, how) in ended {
            let event = NoticeEvent::Lifted { sanction, how };
            self.notify(Audience::Contact, tenant, None, event);
        }
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
        let sanctioned = |sanction| NoticeEvent::Sanctioned {
            sanction,
            severity: Some(hold.severity),
            offence: hold.offence,
            until: hold.until,
            lift: hold.step.lift.clone(),
            note: hold.step.note.clone(),
            then: hold.then,
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
