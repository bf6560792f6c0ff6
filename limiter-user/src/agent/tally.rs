//! What was told of each tenant's refusals, so that every one of them is told exactly once.
//!
//! The kernel sends the first refusal for a reason at once and sums up the others of that second;
//! what it sends may get lost when more comes than fits. Each event carries the tenant's total, so
//! what an event stands for is what the total grew by since the last one that arrived. What is
//! left when a flood ends is read from the counters.

use std::collections::HashMap;

use limiter_common::{event::Event, stats};

use crate::report::event::EventRecord;

/// By how much the clocks of two processors and their turns may differ, ns.
const LATE_NS: u64 = 10_000_000;

/// What was told of one tenant.
struct Told {
    /// The total up to which everything was told.
    total: u64,
    /// When the last event came, ns of the kernel's clock.
    last_ns: u64,
    /// The last event, for whatever comes after it.
    last: EventRecord,
}

impl Told {
    /// Whether an event that comes only now was told of with a later one already: processors take
    /// turns between counting and telling. A new tenant's counter begins anew too, but much later.
    fn is_after(&self, event: &Event) -> bool {
        event.total < self.total && event.time_ns < self.last_ns.saturating_add(LATE_NS)
    }
}

/// What was told of each tenant.
#[derive(Default)]
pub struct Tally {
    told: HashMap<u32, Told>,
}

impl Tally {
    /// How many attempts an event stands for.
    pub fn stands_for(&self, event: &Event) -> u64 {
        match self.told.get(&event.tenant) {
            // An index that was given to a new tenant begins again.
            Some(told) if told.total < event.total => event.total - told.total,
            Some(told) if told.total == event.total || told.is_after(event) => 0,
            _ => event.repeated,
        }
    }

    /// Remembers that an event was told.
    pub fn told(&mut self, event: &Event, record: &EventRecord) {
        let before = self.told.get(&event.tenant);
        if before.is_some_and(|told| told.is_after(event)) {
            return;
        }
        let told = Told {
            total: event.total,
            last_ns: event.time_ns,
            last: record.clone(),
        };
        self.told.insert(event.tenant, told);
    }

    /// Remembers the last record of a tenant from an earlier life of the agent, of whom everything
    /// up to `total` was told then.
    pub fn resume(&mut self, tenant: u32, total: u64, last: EventRecord) {
        self.told.entry(tenant).or_insert(Told {
            total,
            last_ns: 0,
            last,
        });
    }

    /// The tenants of whom refusals may be untold: whose last event is at least a second old.
    pub fn due(&self, now_ns: u64) -> Vec<u32> {
        self.told
            .iter()
            .filter(|(_, told)| now_ns.saturating_sub(told.last_ns) >= stats::SUMMARY_NS)
            .map(|(tenant, _)| *tenant)
            .collect()
    }

    /// The record for what the counters say beyond what was told, `None` if all was. A tenant
    /// whose episode is over is forgotten.
    pub fn rest(&mut self, tenant: u32, total: u64, now_ns: u64) -> Option<EventRecord> {
        let told = self.told.get_mut(&tenant)?;
        let untold = total.saturating_sub(told.total);
        if untold == 0 {
            if now_ns.saturating_sub(told.last_ns) >= stats::EPISODE_PAUSE_NS {
                self.told.remove(&tenant);
            }
            return None;
        }
        told.total = total;
        told.last_ns = now_ns;
        Some(EventRecord {
            repeated: untold,
            ..told.last.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use limiter_common::{event::COMM_LEN, verdict::Verdict};

    use super::*;
    use crate::report::event::{Clock, Names, Process};

    struct NoNames;
    impl Names for NoNames {
        fn tenant(&self, _: u32) -> Option<String> {
            None
        }
        fn cgroup(&self, _: u64) -> Option<String> {
            None
        }
        fn interface(&self, _: u32) -> Option<String> {
            None
        }
    }

    fn event(time_ns: u64, repeated: u64, total: u64) -> Event {
        Event {
            time_ns,
            repeated,
            total,
            cgroup_id: 0,
            limit_span_ns: 0,
            tenant: 7,
            limit_owner: 0,
            limit_max: 0,
            uid: 0,
            pid: 0,
            interface: 0,
            source_port: 0,
            destination_port: 25,
            verdict: Verdict::Denied as u8,
            reason: 1,
            layer: 0,
            flags: 0,
            limit_unit: 0,
            limit_kind: 0,
            reserved: [0; 6],
            comm: [0; COMM_LEN],
            source: [0; 16],
            destination: [0; 16],
        }
    }

    fn tell(tally: &mut Tally, event: &Event) -> u64 {
        let stands_for = tally.stands_for(event);
        let record = EventRecord::new(
            event,
            "node",
            Clock { offset_ns: 0 },
            &NoNames,
            Process::default(),
        );
        tally.told(event, &record);
        stands_for
    }

    #[test]
    fn every_refusal_is_told_once() {
        let mut tally = Tally::default();
        let second = stats::SUMMARY_NS;
        let mut sum = tell(&mut tally, &event(0, 1, 1));
        // The event at 500 is lost; the next one stands for what it would have told.
        sum += tell(&mut tally, &event(2 * second, 300, 800));
        assert_eq!(sum, 800);
        assert!(tally.due(2 * second + 1).is_empty());
        assert_eq!(tally.due(3 * second), [7]);
        sum += tally.rest(7, 950, 3 * second).unwrap().repeated;
        assert_eq!(sum, 950);
        assert!(tally.rest(7, 950, 4 * second).is_none());
    }

    #[test]
    fn what_comes_late_was_told_already() {
        let mut tally = Tally::default();
        let mut sum = tell(&mut tally, &event(0, 1, 1));
        // Two processors count 90 and 91, and the second is faster to tell.
        sum += tell(&mut tally, &event(5_000, 40, 91));
        sum += tell(&mut tally, &event(4_000, 50, 90));
        sum += tell(&mut tally, &event(6_000, 1, 92));
        assert_eq!(sum, 92);
        // Another tenant with the same index.
        let later = stats::EPISODE_PAUSE_NS;
        assert_eq!(tell(&mut tally, &event(later, 3, 3)), 3);
    }

    #[test]
    fn what_was_told_before_the_agent_started_is_not_told_again() {
        let mut tally = Tally::default();
        assert_eq!(tell(&mut tally, &event(0, 12, 10_000)), 12);
    }

    #[test]
    fn an_episode_that_is_over_is_forgotten() {
        let mut tally = Tally::default();
        tell(&mut tally, &event(0, 1, 1));
        assert!(tally.rest(7, 1, stats::EPISODE_PAUSE_NS).is_none());
        assert!(tally.due(u64::MAX).is_empty());
    }
}
