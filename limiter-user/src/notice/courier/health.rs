//! How the courier fares, for whoever asks at 3 a.m.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    notice::{channel::Lane, outbox::Backlog},
    report::time::utc,
};

/// How a courier fares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CourierHealth {
    /// Each lane.
    pub lanes: BTreeMap<Lane, LaneHealth>,
}

/// How a lane fares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LaneHealth {
    /// How many are under way.
    pub under_way: usize,
    /// How many were delivered since the start.
    pub delivered: u64,
    /// How many attempts failed since the start.
    pub failed: u64,
    /// How many were given up since the start.
    pub given_up: u64,
    /// Since when nothing gets through.
    pub failing_since: Option<Timestamp>,
    /// What went wrong last while nothing gets through.
    pub error: Option<String>,
    /// What waits.
    pub backlog: Backlog,
    /// Why the outbox cannot be read or written.
    pub outbox_error: Option<String>,
}

impl CourierHealth {
    /// What is wrong, in words; nothing if all is well.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (lane, health) in &self.lanes {
            let name = lane.as_str();
            if let Some(error) = &health.outbox_error {
                found.push(format!("notices by {name}: the database: {error}"));
            }
            if let (Some(since), Some(error)) = (health.failing_since, &health.error) {
                let since = utc(since);
                found.push(format!("notices by {name} fail since {since}: {error}"));
            }
            let Backlog {
                waiting,
                failing,
                postponed,
                failed,
                quota,
            } = &health.backlog;
            if let (Some(stuck), None) = (failed, health.failing_since) {
                let (until, why) = (utc(stuck.until), &stuck.why);
                found.push(format!(
                    "notices by {name}: {failing} failed and are tried again ({waiting} wait in \
                     all), next at {until}: {why}"
                ));
            }
            if let Some(stuck) = quota {
                let (until, why) = (utc(stuck.until), &stuck.why);
                found.push(format!(
                    "notices by {name}: {postponed} wait until {until}: {why}"
                ));
            }
            if health.given_up > 0 {
                let count = health.given_up;
                found.push(format!(
                    "notices by {name}: {count} given up since the start"
                ));
            }
        }
        found
    }
}

/// Where lanes write it down.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<CourierHealth>);

impl Board {
    pub fn get(&self) -> CourierHealth {
        self.lock().clone()
    }

    /// Changes what is known of a lane.
    pub fn of(&self, lane: Lane, change: impl FnOnce(&mut LaneHealth)) {
        change(self.lock().lanes.entry(lane).or_default());
    }

    fn lock(&self) -> MutexGuard<'_, CourierHealth> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
