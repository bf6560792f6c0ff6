//! Lines that the programs themselves write, for whoever debugs them: off unless `RUST_LOG` names
//! the target `limiter_ebpf` at level trace. Each attempt at a mail port is a line: never for a
//! busy node.

use std::{thread, time::Duration};

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Level, log_enabled, warn};

/// No lines: the verifier leaves the code out.
pub const OFF: u8 = 0;
/// Lines up to debug.
pub const LEVEL: u8 = 4;

const TARGET: &str = "limiter_ebpf";
const PAUSE: Duration = Duration::from_millis(200);

/// Whether somebody asked for them.
pub fn is_wanted() -> bool {
    log_enabled!(target: TARGET, Level::Trace)
}

/// Passes the lines on to the log, from a thread of its own.
pub fn start(ebpf: &mut Ebpf) {
    let mut logger = match EbpfLogger::init(ebpf) {
        Ok(logger) => logger,
        Err(error) => {
            warn!("the kernel programs' lines cannot be read: {error}");
            return;
        }
    };
    let reader = thread::Builder::new()
        .name("kernel-log".to_owned())
        .spawn(move || {
            loop {
                logger.flush();
                thread::sleep(PAUSE);
            }
        });
    if let Err(error) = reader {
        warn!("the kernel programs' lines cannot be read: {error}");
    }
}
