//! What bounds a milter conversation.

use std::time::Duration;

/// Bounds of one conversation.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a mail server may say nothing: as long as its clients do, and as its other milters let it.
    pub idle: Duration,
    /// How long a frame may take from its first byte to its last, and an answer to be taken.
    pub frame: Duration,
    /// How many recipients one message may have: more are refused with it, for good.
    pub recipients: usize,
    /// How many bytes they may have together.
    pub recipient_bytes: usize,
    /// How long a message that goes too fast is kept waiting in all: a client gives up after ten minutes.
    pub patience: Duration,
    /// How often the mail server is told meanwhile that it is not forgotten.
    pub progress: Duration,
    /// How long it may take to find out who submitted a message.
    pub lookup: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(7_200),
            frame: Duration::from_secs(30),
            recipients: 50_000,
            recipient_bytes: 4 << 20,
            patience: Duration::from_secs(240),
            progress: Duration::from_secs(10),
            lookup: Duration::from_secs(5),
        }
    }
}
