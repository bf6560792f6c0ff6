//! How much mail went out, for policies that hold complaints and bounces against it: read off the
//! kernel's counters every few minutes, each attempt once. Only whose counters moved is brought before
//! the court, some at a time, so that nobody waits for all of them; the record book keeps one line of it
//! a tenant and day.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use log::warn;

use super::heard::Heard;
use crate::{
    court::{Court, Submission},
    ledger::Position,
    offence::{Book, Signal},
};

/// The counters' name in the record book.
const WHAT: &str = "sent";
/// How many tenants are brought in one transaction: a few milliseconds.
const AT_ONCE: usize = 256;
/// How often they are read. What went out since then counts a little later.
const EVERY: Duration = Duration::from_secs(300);

/// Up to where each tenant's mail was heard of.
pub struct Sent {
    heard: Heard,
    /// Whose policies speak of shares of the mail sent.
    rated: HashSet<String>,
    read: Option<Instant>,
}

impl Sent {
    /// Goes on where the record book ends; `epoch` tells the counters' life from others.
    #[must_use]
    pub fn new(epoch: String, positions: Vec<Position>) -> Self {
        Self {
            heard: Heard::new(WHAT, epoch, positions),
            rated: HashSet::new(),
            read: None,
        }
    }

    /// The counters' name in the record book.
    #[must_use]
    pub const fn what() -> &'static str {
        WHAT
    }

    /// Goes by these policies.
    pub fn set_book(&mut self, book: &Book) {
        let is_rated = |tenant: &&String| book.binding(tenant).iter().any(|it| it.has_rates());
        self.rated = book.tenants.keys().filter(is_rated).cloned().collect();
    }

    /// Whether it is time to read the counters.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        !self.rated.is_empty() && self.read.is_none_or(|at| now.duration_since(at) >= EVERY)
    }

    /// Brings before the court what went out, by these totals. Whoever is seen for the first time
    /// begins at zero: what went out before is not held against anything.
    pub fn bring(
        &mut self,
        court: &Court,
        now: Instant,
        totals: impl IntoIterator<Item = (String, u64)>,
    ) {
        self.read = Some(now);
        let moved = |(tenant, total): &(String, u64)| {
            self.rated.contains(tenant) && self.heard.of(tenant) != Some(*total)
        };
        let moved: Vec<(String, u64)> = totals.into_iter().filter(moved).collect();
        for some in moved.chunks(AT_ONCE) {
            let mut submissions = Vec::new();
            let mut positions = Vec::new();
            for (tenant, total) in some {
                // A counter that went back began anew.
                let messages = self
                    .heard
                    .of(tenant)
                    .map_or(0, |heard| total.checked_sub(heard).unwrap_or(*total));
                if messages > 0 {
                    let tenant = tenant.clone();
                    submissions.push(Submission::of(Signal::Sent { tenant, messages }));
                }
                positions.push(self.heard.position(tenant, *total));
            }
            if let Err(error) = court.hear(submissions, &positions) {
                // The others would fail as well; all of them are brought the next time.
                warn!("mail that was sent waits to be heard of: {error}");
                return;
            }
            self.heard.extend(some.iter().cloned());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{
        court::{Bailiff, BailiffError, Clocks, Found, Setting, Wanted, testing},
        ledger::Ledger,
        offence::{Moment, Reading, Span},
    };

    /// 2027-01-15, 8 o'clock.
    const START: u64 = 1_800_000_000_000;

    /// A machine whose clock stands where it is put, and whose kernel does as it is told.
    #[derive(Clone, Default)]
    struct Machine(Arc<Mutex<u64>>);

    impl Clocks for Machine {
        fn read(&self) -> Reading {
            let passed = *self.0.lock().unwrap();
            Reading {
                wall: Moment(START + passed),
                boot: "a boot".to_owned(),
                up: Span(100_000 + passed),
                trusted: true,
            }
        }
    }

    impl Bailiff for Machine {
        fn enforce(&mut self, _: &str, _: &Wanted) -> Result<(), BailiffError> {
            Ok(())
        }

        fn in_force(&self) -> Result<Vec<Found>, BailiffError> {
            Ok(Vec::new())
        }
    }

    const TENANTS: usize = 600;

    fn book() -> Book {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/hostup.yaml");
        let ladder = crate::policy::load_ladder(path.as_ref()).ladder.unwrap();
        Book {
            everybody: [ladder.name.clone()].into(),
            ladders: [(ladder.name.clone(), ladder)].into(),
            tenants: (0..TENANTS)
                .map(|n| (format!("t{n}"), Default::default()))
                .collect(),
        }
    }

    fn lines(court: &Court, tenant: &str) -> Vec<u64> {
        let rows = court.ledger(|ledger| ledger.signals(tenant, Moment(0), 10_000));
        let sent = rows.unwrap().into_iter().filter(|row| row.kind == "sent");
        sent.map(|row| row.body["sent"]["messages"].as_u64().unwrap())
            .collect()
    }

    #[test]
    fn only_who_sent_is_brought_and_a_day_is_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let machine = Machine::default();
        let court = Court::open(Setting {
            ledger: Ledger::open(directory.path()).unwrap(),
            book: book(),
            clocks: Box::new(machine.clone()),
            bailiff: Box::new(machine.clone()),
            herald: Box::new(testing::Everywhere),
            later: Vec::new(),
        })
        .unwrap();
        let mut sent = Sent::new("1".to_owned(), Vec::new());
        sent.set_book(&book());
        let now = Instant::now();
        let totals = |of: u64| (0..TENANTS).map(move |n| (format!("t{n}"), of));
        // The first look only says where they stand: more than fit into one transaction.
        sent.bring(&court, now, totals(100));
        assert!(lines(&court, "t0").is_empty());
        let kept = court
            .ledger(|ledger| ledger.positions(Sent::what()))
            .unwrap();
        assert_eq!(kept.len(), TENANTS);
        // A day and a half of looks: one tenant sends, one does so once.
        for look in 1..=432_u64 {
            *machine.0.lock().unwrap() = look * 300_000;
            let all = totals(100).map(|(tenant, of)| match tenant.as_str() {
                "t0" => (tenant, of + 2 * look),
                "t599" => (tenant, of + 7),
                _ => (tenant, of),
            });
            sent.bring(&court, now, all);
        }
        // From 8 o'clock to midnight, and the twenty hours after it.
        let days = lines(&court, "t0");
        assert_eq!(days.len(), 2, "{days:?}");
        assert_eq!(days.iter().sum::<u64>(), 864);
        assert_eq!(lines(&court, "t599"), [7]);
        assert!(lines(&court, "t1").is_empty());
    }
}
