//! Whoever measures is a process of its own, so that nothing is left behind, however it ends: failed, interrupted
//! or killed. Namespaces go with it; its cgroups, pins and files are removed by name.

use std::{
    env, fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Child, Command, ExitCode},
};

use limiter_tests::Cgroup;
use nix::sys::{
    prctl,
    signal::{SigSet, Signal},
};

/// Set for the process that measures.
const MEASURES: &str = "LIMITER_BENCH_MEASURES";

/// Whether this is the process that measures.
pub fn measures() -> bool {
    env::var_os(MEASURES).is_some()
}

/// Starts the process that measures, with the same arguments, and waits for its end. Whoever interrupts this one
/// ends that one.
pub fn supervise() -> ExitCode {
    let mut signals = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
    ] {
        signals.add(signal);
    }
    signals.thread_block().unwrap();
    let files = tempfile::Builder::new()
        .prefix("limiter-bench-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(env::args_os().skip(1))
        .env(MEASURES, "1")
        .env("TMPDIR", files.path());
    // SAFETY: between fork and exec only system calls on values made before.
    unsafe {
        command.pre_exec(move || {
            signals.thread_unblock()?;
            Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)
        });
    }
    let mut child = command.spawn().unwrap();
    let code = wait(&mut child, &signals);
    sweep(child.id());
    code
}

/// Waits for its end, or for a signal that ends it.
fn wait(child: &mut Child, signals: &SigSet) -> ExitCode {
    loop {
        let signal = signals.wait().unwrap();
        if signal != Signal::SIGCHLD {
            // It may have had the signal, too.
            let _ = child.kill();
            let _ = child.wait();
            return ExitCode::from(130);
        }
        if let Some(status) = child.try_wait().unwrap() {
            return if status.success() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            };
        }
    }
}

/// Removes what a process left that could not do so itself.
fn sweep(pid: u32) {
    // Whoever is in a cgroup holds on to what is pinned.
    drop(Cgroup::left_by(pid));
    let pins = Path::new("/sys/fs/bpf");
    for entry in fs::read_dir(pins).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name
            .to_string_lossy()
            .starts_with(&format!("limiter-ktest-{pid}-"))
        {
            // What cannot be removed is seen in the end.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
