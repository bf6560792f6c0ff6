//! Watching the machine, also when watching fails: then everything is looked at now and again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::state::{Shared, Trouble};
use crate::{
    policy::model::Policy,
    system::{
        Sources,
        watch::{Changes, Watcher},
    },
};

/// How long to wait before watching is tried again.
const BLINK: Duration = Duration::from_secs(1);
/// The pause after a look, as a multiple of the time it took: whoever makes and removes cgroups all
/// the time costs the node a tenth of a core at most.
const REST: u32 = 9;
/// The longest pause after a look: changes are followed within a second.
const LONGEST_REST: Duration = Duration::from_millis(700);

/// What watches the machine.
pub struct Eyes {
    watcher: Option<Watcher>,
    not_before: Option<Instant>,
}

impl Eyes {
    /// Watches by `watcher`.
    pub const fn open(watcher: Watcher) -> Self {
        Self {
            watcher: Some(watcher),
            not_before: None,
        }
    }

    /// The next change. An error says that watching failed: everything may have changed. Nothing
    /// is lost when the future is dropped.
    pub async fn next(&mut self, shared: &Shared) -> Result<Changes, String> {
        if let Some(at) = self.not_before {
            tokio::time::sleep_until(at.into()).await;
            self.not_before = None;
        }
        if let Some(watcher) = &mut self.watcher {
            let changes = watcher.changes().await;
            if changes.is_err() {
                self.watcher = None;
                self.not_before = Instant::now().checked_add(BLINK);
            }
            return changes.map_err(|error| error.to_string());
        }
        self.not_before = Instant::now().checked_add(BLINK);
        let policy = Arc::clone(&shared.lock().policy);
        let sources = Sources::find().map_err(|error| error.to_string())?;
        self.watcher = Some(Watcher::start(&policy, &sources).map_err(|error| error.to_string())?);
        self.not_before = None;
        shared.lock().mended(Trouble::Eyes);
        // What changed while nobody watched.
        Ok(Changes {
            users: true,
            cgroups: true,
            addresses: true,
        })
    }

    /// Watches what another policy asks for.
    pub fn follow(&mut self, policy: &Policy) -> Result<(), String> {
        match &mut self.watcher {
            Some(watcher) => watcher.follow(policy).map_err(|error| error.to_string()),
            // The next attempt to watch goes by the new policy.
            None => Ok(()),
        }
    }

    /// Closes for a while after a look that took so long.
    pub fn rest(&mut self, took: Duration) {
        if self.not_before.is_none() {
            self.not_before = Instant::now().checked_add((took * REST).min(LONGEST_REST));
        }
    }
}
