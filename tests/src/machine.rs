//! What kind of machine the tests run on.

use std::{sync::OnceLock, time::Duration};

/// Set where there is no hardware acceleration: everything takes about ten times as long.
const EMULATED: &str = "LIMITER_TEST_EMULATED";

/// How much longer one waits on an emulated machine.
const SLOWER: u32 = 8;

/// Whether the machine is an emulated one. Tests of many rows then try fewer, and all wait longer.
#[must_use]
pub fn is_emulated() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| std::env::var_os(EMULATED).is_some())
}

/// How long something may take here that may take `time` on a real machine.
#[must_use]
pub fn patience(time: Duration) -> Duration {
    if is_emulated() { time * SLOWER } else { time }
}
