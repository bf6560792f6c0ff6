//! A signal is heard. It only adds: what it ends, time ends.

use super::{
    action::{Action, NoticeEvent},
    charge::Cause,
    complaint,
    convict::customer,
    engine::Work,
    judge::{self, Fact, Heard},
    ladder::{Condition, Ladder, Lift, Per},
    record::OwnHold,
    signal::{Complaint, Signal},
    time::{Moment, Span},
    words::{Audience, Sanction},
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
                around,
                ..
            } => {
                let heard = Heard::Violations {
                    reason,
                    count: *count,
                    around,
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
            Signal::Sources { sources, .. } => {
                // That it sends is nothing against it: no account of an offender's.
                for (source, seen) in sources {
                    let mail = Fact {
                        account: None,
                        happened: (*seen).min(self.at),
                        ..fact(Heard::Mail, Some(*source), true)
                    };
                    for ladder in self.book.binding(tenant) {
                        self.under(tenant, ladder, &mail);
                    }
                }
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
            Signal::Withdrawn { complaint, .. } => {
                let at = self.at;
                complaint::withdraw(self.state.record(tenant), complaint, at);
                self.touched.insert(tenant.to_owned());
            }
            Signal::Void { policy, case, .. } => self.void(tenant, policy, *case),
        }
    }

    fn complaint(&mut self, complaint: &Complaint, happened: Moment) {
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

    /// A closed case was wrong, and so were the offences that it was on the records above.
    fn void(&mut self, tenant: &str, policy: &str, case: u32) {
        let at = self.at;
        self.touched.insert(tenant.to_owned());
        let kept = self.state.record(tenant).ladders.get_mut(policy);
        if !kept.is_some_and(|kept| kept.void(case, at)) {
            return;
        }
        self.void_above(tenant, policy, case);
    }

    /// A case was wrong: the offences that it was on the records above count no more, from the next
    /// millisecond on.
    pub(super) fn void_above(&mut self, tenant: &str, policy: &str, case: u32) {
        let who = customer(tenant, case);
        for above in self.book.above(tenant) {
            self.touched.insert(above.to_owned());
            let at = self.at;
            self.state.record(above).voided.customer(policy, &who, at);
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
            lift: Lift::Any(match until {
                Some(_) => [Condition::Time, Condition::Review].into(),
                None => [Condition::Review].into(),
            }),
            note: Vec::new(),
            then: None,
            pending: None,
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
                self.charge(&ladder.name, &ladder.charges, &cause);
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
}
