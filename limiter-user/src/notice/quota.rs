//! How many mails about one tenant one address gets: a tenant that keeps being refused must not
//! bury its owner, or the operator, in mail.

use std::collections::{HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use super::{channel::Channel, outbox::Delivery};

/// Within what time they are counted.
const SPAN: SignedDuration = SignedDuration::from_hours(1);
/// How many notices one mail holds.
const MOST_JOINED: usize = 20;

/// Address and tenant.
type Key = (String, String);

/// When the last mails went out. It lives in memory; after a restart the outbox
/// [reminds](Self::remember) it, so that what is new does not overtake what waits.
#[derive(Debug, Default)]
pub(super) struct Quota {
    sent: HashMap<Key, VecDeque<Timestamp>>,
}

/// What is to become of the deliveries that are due.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Split {
    /// Each becomes one mail, of one notice or of several.
    pub mails: Vec<Vec<Delivery>>,
    /// These wait until then.
    pub postponed: Vec<(Timestamp, Vec<i64>)>,
}

impl Quota {
    /// Splits `due` and counts what is to go out. No more than `room` mails are made; what is in
    /// none of the two parts stays due.
    pub fn split(&mut self, due: Vec<Delivery>, most: usize, room: usize, now: Timestamp) -> Split {
        self.forget(now);
        let mut keys: Vec<Key> = Vec::new();
        let mut groups: HashMap<Key, VecDeque<Delivery>> = HashMap::new();
        for delivery in due {
            let Channel::Mail { to } = &delivery.planned.channel else {
                continue;
            };
            let key = (to.to_lowercase(), delivery.planned.facts.tenant.clone());
            if !groups.contains_key(&key) {
                keys.push(key.clone());
            }
            groups.entry(key).or_default().push_back(delivery);
        }
        let mut split = Split::default();
        for key in keys {
            let mut group = groups.remove(&key).unwrap_or_default();
            let sent = self.sent.entry(key).or_default();
            while !group.is_empty() && sent.len() < most && split.mails.len() < room {
                // The last one that may go out takes all the rest along.
                let last = sent.len() + 1 == most;
                let count = if last {
                    group.len().min(MOST_JOINED)
                } else {
                    1
                };
                split.mails.push(group.drain(..count).collect());
                sent.push_back(now);
            }
            if sent.len() < most || group.is_empty() {
                continue;
            }
            // What was imposed or lifted goes out all the same, all of it in one mail.
            let (later, mut urgent): (VecDeque<_>, VecDeque<_>) = group
                .into_iter()
                .partition(|delivery| delivery.planned.facts.event.may_wait());
            while !urgent.is_empty() && split.mails.len() < room {
                let count = urgent.len().min(MOST_JOINED);
                split.mails.push(urgent.drain(..count).collect());
                sent.push_back(now);
            }
            // Not before so many are long ago that one more may go out.
            if let Some(first) = sent.get(sent.len().saturating_sub(most))
                && !later.is_empty()
            {
                let until = first.checked_add(SPAN).unwrap_or(now);
                let ids = later.iter().map(|delivery| delivery.id).collect();
                split.postponed.push((until, ids));
            }
        }
        split
    }

    /// From when on mails count at `now`.
    pub fn since(now: Timestamp) -> Timestamp {
        now.checked_sub(SPAN).unwrap_or(Timestamp::MIN)
    }

    /// These mails went out before the start, oldest first: where to, about whom, when.
    pub fn remember(&mut self, mailed: Vec<(Channel, String, Timestamp)>) {
        for (channel, tenant, at) in mailed {
            if let Channel::Mail { to } = channel {
                let sent = self.sent.entry((to.to_lowercase(), tenant)).or_default();
                sent.push_back(at);
            }
        }
    }

    /// A mail to `to` about `tenant` did not go out after all.
    pub fn give_back(&mut self, to: &str, tenant: &str) {
        if let Some(sent) = self.sent.get_mut(&(to.to_lowercase(), tenant.to_owned())) {
            sent.pop_back();
        }
    }

    /// Drops what was sent long ago, and what a clock that was set back puts into the future.
    fn forget(&mut self, now: Timestamp) {
        self.sent.retain(|_, sent| {
            sent.retain(|at| *at <= now && now.duration_since(*at) < SPAN);
            !sent.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        notice::{channel::Planned, template::sample},
        offence::{Audience, How, NoticeEvent, Sanction},
    };

    fn deliveries(ids: std::ops::Range<i64>, to: &str) -> Vec<Delivery> {
        let event = NoticeEvent::Overdue {
            complaint: "c".to_owned(),
            clock: "answer".to_owned(),
        };
        told(ids, to, event)
    }

    fn told(ids: std::ops::Range<i64>, to: &str, event: NoticeEvent) -> Vec<Delivery> {
        let facts = sample::facts(Audience::Contact, event, true);
        ids.map(|id| Delivery {
            id,
            created: Timestamp::UNIX_EPOCH,
            attempts: 0,
            planned: Planned {
                channel: Channel::Mail { to: to.to_owned() },
                facts: facts.clone(),
            },
        })
        .collect()
    }

    fn sizes(split: &Split) -> Vec<usize> {
        split.mails.iter().map(Vec::len).collect()
    }

    #[test]
    fn the_rest_of_an_hour_becomes_one_mail_and_nothing_is_lost() {
        let mut quota = Quota::default();
        let start: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let first = quota.split(deliveries(0..2, "a@b.de"), 3, 9, start);
        assert_eq!(sizes(&first), [1, 1]);
        // The third takes all that are there, up to its size; what is left waits.
        let second = quota.split(deliveries(2..30, "A@b.de"), 3, 9, start);
        assert_eq!(sizes(&second), [MOST_JOINED]);
        let until = start + SPAN;
        assert_eq!(second.postponed, [(until, (22..30).collect())]);
        // Nobody else waits.
        assert_eq!(
            sizes(&quota.split(deliveries(30..31, "c@d.de"), 3, 9, start)),
            [1]
        );
        let later = quota.split(deliveries(22..30, "a@b.de"), 3, 9, until);
        assert_eq!(sizes(&later), [1, 1, 6]);
        assert_eq!(later.postponed, []);
    }

    #[test]
    fn what_is_lifted_waits_for_no_hour_and_a_restart_forgets_nothing() {
        let lifted = |ids| {
            let event = NoticeEvent::Lifted {
                sanction: Sanction::BlockSmtp,
                how: How::Rule,
                still: Vec::new(),
            };
            told(ids, "a@b.de", event)
        };
        let start: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let before = start - SignedDuration::from_mins(10);
        let mut quota = Quota::default();
        let mail = |to: &str| Channel::Mail { to: to.to_owned() };
        let tenant = lifted(0..1)[0].planned.facts.tenant.clone();
        quota.remember(vec![
            (mail("A@b.de"), tenant.clone(), before),
            (mail("a@b.de"), tenant, start),
        ]);
        let mut due = deliveries(0..2, "a@b.de");
        due.extend(lifted(2..4));
        let split = quota.split(due, 2, 9, start);
        assert_eq!(sizes(&split), [2]);
        assert_eq!(split.mails[0][0].id, 2);
        // Three went out within the hour: one may when the second is long ago.
        assert_eq!(split.postponed, [(start + SPAN, vec![0, 1])]);
        assert_eq!(sizes(&quota.split(lifted(4..5), 2, 0, start)), [0; 0]);
    }

    #[test]
    fn a_small_room_and_a_clock_set_back_postpone_nothing_for_long() {
        let mut quota = Quota::default();
        let start: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let split = quota.split(deliveries(0..5, "a@b.de"), 10, 2, start);
        assert_eq!((sizes(&split), split.postponed), (vec![1, 1], vec![]));
        let split = quota.split(deliveries(0..1, "a@b.de"), 1, 9, start - SPAN * 24);
        assert_eq!(sizes(&split), [1]);
    }
}
