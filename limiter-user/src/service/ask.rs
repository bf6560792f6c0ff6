//! A question before the gate, and what to say when there is no answer.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use crate::{
    policy::services::{OnFailure, PaceAction, Services},
    submission::{Answer, Gate, Reply},
};

/// The least that is waited before the gate is asked again.
const LEAST_WAIT: Duration = Duration::from_millis(5);

/// How long a mail server is kept waiting for an answer at most, unless mail that goes too fast is
/// delayed: what `mta config` prints has it wait a little longer than that.
pub const MOST_WAIT: Duration = Duration::from_secs(10);

/// How mail programs are answered, as the configuration changes.
#[derive(Debug)]
pub struct Settings(RwLock<Arc<Services>>);

impl Settings {
    /// As this says.
    #[must_use]
    pub fn new(services: Services) -> Self {
        Self(RwLock::new(Arc::new(services)))
    }

    /// From now on as this says.
    pub fn change(&self, services: Services) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(services);
    }

    /// As it is now.
    #[must_use]
    pub fn now(&self) -> Arc<Services> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Who is asked.
#[derive(Clone)]
pub struct Asker {
    gate: Arc<dyn Gate>,
    settings: Arc<Settings>,
}

impl std::fmt::Debug for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asker")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Asker {
    /// This gate, by these settings.
    #[must_use]
    pub fn new(gate: Arc<dyn Gate>, settings: Arc<Settings>) -> Self {
        Self { gate, settings }
    }

    /// The answer to a question; never [`Answer::Wait`]. It is asked again after each wait that the gate
    /// wants, as long as the mail server waits; one that would be longer is not begun.
    ///
    /// The gate is asked where this runs: it takes microseconds, and a thread of its own would take longer.
    pub async fn ask(&self, question: impl Fn(&dyn Gate) -> Answer + Send) -> Answer {
        let start = Instant::now();
        loop {
            let asked = catch_unwind(AssertUnwindSafe(|| question(self.gate.as_ref())));
            let wait = match asked {
                Ok(Answer::Wait(wait)) => wait.max(LEAST_WAIT),
                Ok(answer) => return answer,
                Err(_) => return self.failed(),
            };
            let pace = self.settings.now().too_fast;
            let most = match pace.action {
                PaceAction::Defer => MOST_WAIT,
                PaceAction::Delay => pace.cap,
            };
            if start.elapsed() + wait > most {
                return too_fast();
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Tells the gate what needs no answer.
    pub fn tell(&self, what: impl FnOnce(&dyn Gate)) {
        if catch_unwind(AssertUnwindSafe(|| what(self.gate.as_ref()))).is_err() {
            // The panic itself was told where it happened.
            log::error!("what a mail server said of a message is lost");
        }
    }

    /// What is said when the gate fails.
    #[must_use]
    pub fn failed(&self) -> Answer {
        match self.settings.now().on_failure {
            OnFailure::Open => Answer::Accept,
            OnFailure::Closed => Answer::Defer(Reply {
                status: "4.3.0".to_owned(),
                text: "limits cannot be checked at the moment; try again later".to_owned(),
            }),
        }
    }
}

/// What is said to a question that nobody can understand: no mail server asks like that.
#[must_use]
pub fn not_understood() -> Answer {
    Answer::Defer(Reply {
        status: "4.3.0".to_owned(),
        text: "the question to the limiter was malformed".to_owned(),
    })
}

fn too_fast() -> Answer {
    Answer::Defer(Reply {
        status: "4.7.1".to_owned(),
        text: "too many at once; try again in a minute".to_owned(),
    })
}
