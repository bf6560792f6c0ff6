//! A virtual machine: a kernel and an image, run without hardware acceleration until it switches
//! itself off, panics, or has taken too long.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

const QEMU: &str = "qemu-system-x86_64";

/// Memory and processors of a node that is small.
const MEMORY_MIB: &str = "1024";
const PROCESSORS: &str = "2";

/// Everything that can be emulated, but what kernels copy memory with, byte by byte.
const PROCESSOR: &str = "max,-erms,-fsrm";

/// What the kernel is told: to be quiet, to stop at the first fault rather than go on, and not to
/// take a host that is slow for a fault.
const COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=4 panic=-1 oops=panic \
                            rcupdate.rcu_cpu_stall_suppress=1 nowatchdog mitigations=off";

/// What becomes of a machine.
#[derive(Debug)]
pub struct Ran {
    /// What it wrote of its checks.
    pub report: String,
    /// What its kernel wrote.
    pub console: String,
    /// Whether it had to be stopped.
    pub overdue: bool,
    /// How long it ran.
    pub took: Duration,
}

/// Starts the kernel with the image and waits for its end, at most `patience`. What it writes is
/// kept in `logs`.
///
/// # Errors
/// When qemu cannot be started or what the machine wrote cannot be read.
pub fn run(kernel: &Path, image: &Path, logs: &Path, patience: Duration) -> Result<Ran> {
    fs::create_dir_all(logs).with_context(|| format!("cannot make {}", logs.display()))?;
    let (console, report) = (logs.join("console"), logs.join("report"));
    for file in [&console, &report] {
        fs::write(file, "").with_context(|| format!("cannot write {}", file.display()))?;
    }
    let errors = fs::File::create(logs.join("qemu"))?;
    let mut command = Command::new(QEMU);
    command
        .args(["-accel", "tcg,thread=multi", "-cpu", PROCESSOR])
        .args(["-smp", PROCESSORS, "-m", MEMORY_MIB])
        .args(["-nodefaults", "-display", "none", "-no-reboot"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(image)
        .args(["-append", COMMAND_LINE])
        .args(["-serial", &serial(&console), "-serial", &serial(&report)])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors);
    let started = Instant::now();
    let mut machine = Machine(
        command
            .spawn()
            .with_context(|| format!("cannot start {QEMU}"))?,
    );
    let ended = machine.wait(started, patience)?;
    let took = started.elapsed();
    drop(machine);
    Ok(Ran {
        report: read(&report)?,
        console: read(&console)? + &read(&logs.join("qemu"))?,
        overdue: !ended,
        took,
    })
}

fn serial(file: &Path) -> String {
    format!("file:{}", file.display())
}

fn read(file: &PathBuf) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(String::from_utf8_lossy(&bytes).replace('\r', ""))
}

/// A machine that does not outlive whoever waits for it.
struct Machine(Child);

impl Machine {
    /// Whether it ended by itself in time.
    fn wait(&mut self, started: Instant, patience: Duration) -> Result<bool> {
        while started.elapsed() < patience {
            if self.0.try_wait()?.is_some() {
                return Ok(true);
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(false)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended: then there is nothing to stop.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
