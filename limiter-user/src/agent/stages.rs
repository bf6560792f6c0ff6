//! How long each stage of the start and of a reload took, for whoever debugs a large node.

use std::time::Instant;

use log::debug;

/// Says how long stages took that follow one another.
#[derive(Debug)]
pub struct Stages {
    what: &'static str,
    begun: Instant,
    last: Instant,
}

impl Stages {
    /// The first stage of `what` begins.
    #[must_use]
    pub fn begin(what: &'static str) -> Self {
        let now = Instant::now();
        Self {
            what,
            begun: now,
            last: now,
        }
    }

    /// The stage is done, the next one begins.
    pub fn done(&mut self, stage: &str) {
        let now = Instant::now();
        debug!(
            "{}: {stage} took {:.1} ms, {:.1} ms in all",
            self.what,
            now.duration_since(self.last).as_secs_f64() * 1_000.0,
            now.duration_since(self.begun).as_secs_f64() * 1_000.0,
        );
        self.last = now;
    }
}
