//! Runs one command of a mail server: no shell, an environment of its own, never longer than a limit.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::MtaError;

/// No answer of any command used here is longer; what is above is not read.
const MOST_OUTPUT: u64 = 1 << 20;
/// How much of a complaint is repeated.
const MOST_SAID: usize = 500;

/// What a command that ended left behind.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its exit code, or the signal's number + 128.
    pub(super) code: i32,
    /// What it printed, bad bytes replaced.
    pub(super) stdout: String,
    /// What it complained.
    pub(super) stderr: String,
}

impl Ended {
    /// The end of what it said: complaints, or else what it printed.
    pub(super) fn said(&self) -> String {
        let text = if self.stderr.trim().is_empty() {
            self.stdout.trim()
        } else {
            self.stderr.trim()
        };
        let mut start = text.len().saturating_sub(MOST_SAID);
        while !text.is_char_boundary(start) {
            start += 1;
        }
        text.get(start..).unwrap_or_default().to_owned()
    }

    /// What it printed.
    ///
    /// # Errors
    /// When it ended with another code than 0.
    pub(super) fn success(self, command: &Command) -> Result<String, MtaError> {
        if self.code == 0 {
            return Ok(self.stdout);
        }
        Err(MtaError::Failed {
            command: words(command),
            code: self.code,
            said: self.said(),
        })
    }
}

/// Runs `command`, whose output nobody wants, like [`run`].
///
/// It goes to /dev/null and not to memory: a Postfix that logs to its standard output (in
/// containers) and does not run lets its commands log there, and they refuse files without a name.
pub(super) fn run_silently(
    command: &mut Command,
    input: &[u8],
    limit: Duration,
) -> Result<Ended, MtaError> {
    run_with(command, input, limit, false)
}

/// Runs `command` with `input` on its standard input, for at most `limit`; then it is killed, with
/// the process group that it leads.
///
/// Input and output are files in memory, so that whoever outlives the command cannot keep this
/// waiting for the end of a pipe.
///
/// # Errors
/// When it cannot be started, or does not end in time. Its exit code is not looked at.
pub(super) fn run(command: &mut Command, input: &[u8], limit: Duration) -> Result<Ended, MtaError> {
    run_with(command, input, limit, true)
}

fn run_with(
    command: &mut Command,
    input: &[u8],
    limit: Duration,
    keep_output: bool,
) -> Result<Ended, MtaError> {
    let failed = |command: &Command, source| MtaError::Start {
        command: words(command),
        source,
    };
    let start = Instant::now();
    let prepared = prepare(command, input).map_err(|source| failed(command, source))?;
    let (mut stdout, mut stderr) = prepared;
    if !keep_output {
        command.stdout(Stdio::null());
    }
    let mut child = command.spawn().map_err(|source| failed(command, source))?;
    let mut pause = Duration::from_millis(1);
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|source| failed(command, source))? {
            break status;
        }
        if start.elapsed() >= limit {
            if let Ok(pid) = i32::try_from(child.id()) {
                // SAFETY: kill(2) takes no pointers. The child leads a group of this number and has
                // not been waited for, so that the number is nobody else's.
                unsafe { libc::kill(-pid, libc::SIGKILL) };
            }
            // One that sleeps in the kernel dies when it wakes up: it is not waited for for long.
            for _ in 0..50 {
                if !matches!(child.try_wait(), Ok(None)) {
                    break;
                }
                thread::sleep(Duration::from_millis(10));
            }
            return Err(MtaError::Hangs {
                command: words(command),
                limit,
            });
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    };
    Ok(Ended {
        code: code(status),
        stdout: read(&mut stdout).map_err(|source| failed(command, source))?,
        stderr: read(&mut stderr).map_err(|source| failed(command, source))?,
    })
}

/// A command as people would type it.
pub(super) fn words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args().take(8));
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Gives the command its files and its environment; the files of its output.
fn prepare(command: &mut Command, input: &[u8]) -> io::Result<(File, File)> {
    let mut stdin = in_memory(c"limiter-stdin")?;
    stdin.write_all(input)?;
    stdin.rewind()?;
    let stdout = in_memory(c"limiter-stdout")?;
    let stderr = in_memory(c"limiter-stderr")?;
    command
        .stdin(stdin)
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        // Nothing from the agent's own surroundings says which mail server is meant.
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .current_dir("/")
        .process_group(0);
    Ok((stdout, stderr))
}

fn in_memory(name: &std::ffi::CStr) -> io::Result<File> {
    Ok(memfd_create(name, MFdFlags::MFD_CLOEXEC)?.into())
}

fn read(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(MOST_OUTPUT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn input_goes_in_and_output_comes_back() {
        let mut command = shell("cat; echo no >&2; exit 3");
        let ended = run(&mut command, b"a\nb\n", Duration::from_secs(10)).unwrap();
        assert_eq!((ended.code, &*ended.stdout), (3, "a\nb\n"));
        let error = ended.success(&command).unwrap_err().to_string();
        assert!(error.contains("failed (3): no;"), "{error}");
    }

    #[test]
    fn what_hangs_is_killed_with_its_children() {
        let start = Instant::now();
        let mut command = shell("sleep 61.7 & sleep 61.7");
        let error = run(&mut command, b"", Duration::from_millis(200)).unwrap_err();
        assert!(matches!(error, MtaError::Hangs { .. }), "{error}");
        assert!(start.elapsed() < Duration::from_secs(10));
        let left = shell("pgrep -f '^sleep 61.7$'").output().unwrap();
        assert!(left.stdout.is_empty(), "{left:?}");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let mut command = Command::new("/nonexistent/postsuper");
        let error = run(&mut command, b"", Duration::from_secs(1)).unwrap_err();
        assert!(
            error.to_string().contains("/nonexistent/postsuper"),
            "{error}"
        );
    }

    #[test]
    fn the_environment_is_not_ours() {
        let mut command = shell("env");
        let ended = run(&mut command, b"", Duration::from_secs(10)).unwrap();
        assert!(!ended.stdout.contains("CARGO"), "{}", ended.stdout);
    }
}
