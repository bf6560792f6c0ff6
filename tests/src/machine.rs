//! What kind of machine the tests run on, and what its kernel has not.

use std::{sync::OnceLock, time::Duration};

use io_uring::IoUring;
use nix::errno::Errno;

use crate::orders::How;

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

/// Says that something is not tried, because the kernel has it not. Whoever reads the tests' output
/// finds such lines.
pub fn left_out(what: &str) {
    println!("@left-out {what}");
}

/// The ways to connect that this kernel has, of which those left out are said. Only on an emulated
/// machine, which may have an old kernel, can one be missing.
#[must_use]
pub fn ways_to_connect() -> Vec<How> {
    let mut ways = How::ALL.to_vec();
    if is_emulated() {
        ways.retain(|how| match lacks(*how) {
            None => true,
            Some(why) => {
                left_out(&format!("connecting by {how:?}: {why}"));
                false
            }
        });
    }
    ways
}

/// Why nobody can connect in this way here.
fn lacks(how: How) -> Option<String> {
    match how {
        How::Mptcp => {
            // SAFETY: takes numbers only; what it gives is closed below.
            let socket =
                unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP) };
            let result = Errno::result(socket).map(nix::unistd::close);
            result.err().map(|error| format!("no MPTCP ({error})"))
        }
        How::IoUring | How::IoUringWorker => {
            let ring = IoUring::new(2);
            ring.err().map(|error| format!("no io_uring ({error})"))
        }
        How::IoUringPolled => match IoUring::new(2) {
            Ok(ring) if ring.params().is_feature_sqpoll_nonfixed() => None,
            Ok(_) => Some("its thread takes only registered files, before 5.11".to_owned()),
            Err(error) => Some(format!("no io_uring ({error})")),
        },
        _ => None,
    }
}
