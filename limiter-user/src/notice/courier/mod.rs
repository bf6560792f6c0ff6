//! The courier: takes what waits in the outbox to those it is for.
//!
//! Each lane (mail, webhook, program) has a task of its own and a bounded number of deliveries under
//! way, so that a dead receiver delays nobody on another lane, and on its own only for as long as one
//! attempt may take. Of one tenant webhook and program hear in order: the outbox gives out only the
//! oldest that waits, and what follows waits behind it. Every delivery is made at least once: it counts as made when the outbox has written
//! that down, and what could not be written down is remembered and not made again meanwhile.

mod deliver;
mod health;
mod lane;
mod settle;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    task::JoinSet,
};

use super::{channel::Lane, outbox::Outbox, template::Templates};
use crate::policy::notices::Notices;
pub use health::{CourierHealth, LaneHealth};

/// What a courier goes by; it may change while it runs.
#[derive(Clone, Debug)]
pub struct CourierSettings {
    /// The node's name.
    pub node: String,
    /// How people are told.
    pub notices: Notices,
}

/// The clock that deliveries are due by.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Tells how a courier fares.
pub type HealthTeller = Box<dyn Fn() -> CourierHealth + Send + Sync>;

/// A courier at work. Dropping it stops it at once; [`stop`](Self::stop) lets it finish.
#[derive(Debug)]
pub struct Courier {
    shared: Arc<Shared>,
    lanes: JoinSet<()>,
    stop: watch::Sender<bool>,
}

/// What all lanes share.
struct Shared {
    pub outbox: Arc<dyn Outbox>,
    pub clock: Clock,
    settings: RwLock<Arc<CourierSettings>>,
    health: health::Board,
    /// One for each lane: something may be due.
    pub wake: [Notify; 3],
    /// How often a lane looks for what has become due by itself.
    pub poll: Duration,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub fn settings(&self) -> Arc<CourierSettings> {
        let settings = self.settings.read();
        Arc::clone(&settings.unwrap_or_else(PoisonError::into_inner))
    }

    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }
}

impl CourierSettings {
    pub(super) fn templates(&self) -> Templates {
        Templates::new(self.notices.templates.clone())
    }
}

impl Courier {
    /// How often a lane looks for what has become due by itself.
    pub const POLL: Duration = Duration::from_secs(10);

    /// Starts one on `runtime`.
    #[must_use]
    pub fn start(
        runtime: &Handle,
        outbox: Arc<dyn Outbox>,
        settings: CourierSettings,
        clock: Clock,
        poll: Duration,
    ) -> Self {
        let shared = Arc::new(Shared {
            outbox,
            clock,
            settings: RwLock::new(Arc::new(settings)),
            health: health::Board::default(),
            wake: [const { Notify::const_new() }; 3],
            poll,
        });
        let (stop, stopped) = watch::channel(false);
        let mut lanes = JoinSet::new();
        for lane in Lane::ALL {
            let task = lane::run(Arc::clone(&shared), lane, stopped.clone());
            lanes.spawn_on(task, runtime);
        }
        Self {
            shared,
            lanes,
            stop,
        }
    }

    /// Something was written down: look at once. Never waits.
    pub fn wake(&self) {
        for lane in &self.shared.wake {
            lane.notify_one();
        }
    }

    /// The configuration changed. What waits is delivered by the new one.
    pub fn configure(&self, settings: CourierSettings) {
        let mut place = self
            .shared
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *place = Arc::new(settings);
        drop(place);
        self.wake();
    }

    /// Tells how it fares, for as long as anybody asks.
    #[must_use]
    pub fn health_teller(&self) -> HealthTeller {
        let shared = Arc::clone(&self.shared);
        Box::new(move || shared.health.get())
    }

    /// How it fares.
    #[must_use]
    pub fn health(&self) -> CourierHealth {
        self.shared.health.get()
    }

    /// Takes nothing new, and waits up to `grace` for what is under way. What is not done by then
    /// stays in the outbox, and is delivered again.
    pub async fn stop(mut self, grace: Duration) {
        // Nobody listening means that all lanes have ended.
        let _ = self.stop.send(true);
        let ended = async { while self.lanes.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, ended).await.is_err() {
            log::warn!("notices under way are left for the next start");
        }
        self.lanes.shutdown().await;
    }
}
