//! Programs that run until they end, and programs that run until they are stopped.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How long a program may take that is expected to end by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a program left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// What it printed.
    pub stdout: String,
    /// What it complained.
    pub stderr: String,
    /// Its exit code; 128 and the signal's number if a signal ended it.
    pub code: i32,
}

impl Output {
    /// Fails the test unless the program ended with code 0.
    #[must_use]
    pub fn success(self, what: &str) -> Self {
        assert_eq!(self.code, 0, "{what}: {}{}", self.stdout, self.stderr);
        self
    }
}

/// Runs a command to its end, with `input` on its standard input.
pub fn run(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let pid = child.id();
    thread::scope(|scope| {
        scope.spawn(move || {
            // A program need not read its input.
            let _ = stdin.write_all(input.as_bytes());
        });
        let waiting = scope.spawn(move || child.wait_with_output());
        let start = Instant::now();
        while !waiting.is_finished() {
            if start.elapsed() > PATIENCE {
                signal(pid, Signal::SIGKILL);
                panic!("{command:?} did not end within {PATIENCE:?}");
            }
            thread::sleep(Duration::from_millis(1));
        }
        let output = waiting
            .join()
            .expect("the thread only waits")
            .expect("a child can be waited for");
        Output {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: code(output.status),
        }
    })
}

/// Sends a signal to one process.
pub fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        // It may have ended before.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// A program that runs until it is stopped. Dropping it kills it and waits for its end.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the command, with everything it prints going to the file `log`.
    #[must_use]
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        Self::start_with(name, command, Stdio::null(), log)
    }

    /// The same, with this as its standard input.
    #[must_use]
    pub fn start_with(name: &str, command: &mut Command, stdin: Stdio, log: &Path) -> Self {
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("the log file can be opened");
        let err = out.try_clone().expect("a file can be opened twice");
        let child = command
            .stdin(stdin)
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {command:?}: {error}"));
        Self {
            name: name.to_owned(),
            child,
            log: log.to_path_buf(),
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its exit code if it has ended, as in [`Output::code`].
    pub fn ended(&mut self) -> Option<i32> {
        self.child
            .try_wait()
            .expect("a child can be asked")
            .map(code)
    }

    /// Sends it a signal.
    pub fn signal(&self, number: Signal) {
        signal(self.pid(), number);
    }

    /// Sends it a signal and waits for its end. Its exit code, as in [`Output::code`].
    pub fn stop(&mut self, number: Signal) -> i32 {
        self.signal(number);
        let start = Instant::now();
        loop {
            if let Some(code) = self.ended() {
                return code;
            }
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "{} does not end on {number}: {}",
                self.name,
                self.log()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended before, and then only its exit code is left to fetch.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            if !log.trim().is_empty() {
                eprintln!("--- {} printed:\n{log}---", self.name);
            }
        }
    }
}
