//! A child process that is held on a short leash: no shell, no inherited files, variables or
//! privileges, bounded time and output, and its whole process group killed at the end.

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::notice::{
    backoff::Failure,
    harmless::{self, LINE},
};

/// How much of the output is kept, in bytes; the rest is read and dropped.
const KEPT: usize = 4 << 10;
/// Limits of a child without privileges: (resource, most). Time is bounded by the leash.
const LIMITS: [(libc::__rlimit_resource_t, u64); 5] = [
    (libc::RLIMIT_CORE, 0),
    (libc::RLIMIT_NOFILE, 256),
    // All processes and threads of the user on the node count, and many servers run as nobody.
    (libc::RLIMIT_NPROC, 4_096),
    (libc::RLIMIT_FSIZE, 64 << 20),
    // What it uses, not what it reserves: some languages reserve much more than they use.
    (libc::RLIMIT_DATA, 2 << 30),
];

/// What is to be run.
#[derive(Clone, Debug)]
pub(in crate::notice) struct Job {
    /// The program, absolute.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// All of its variables.
    pub environment: Vec<(&'static str, String)>,
    /// What it reads.
    pub input: Vec<u8>,
    /// Uid and gid that it gets, with no way back; `None`: it stays what the agent is.
    pub user: Option<(u32, u32)>,
    /// How long it may take.
    pub timeout: Duration,
}

/// Runs `job` on a thread where waiting is allowed. What it printed is returned.
///
/// # Errors
/// When it cannot be started, takes too long, or fails: with the beginning of what it printed.
pub(in crate::notice) async fn run_async(job: Job) -> Result<String, Failure> {
    let run = tokio::task::spawn_blocking(move || run(job)).await;
    run.map_err(|error| Failure::again(format!("cannot wait for a program: {error}")))?
}

/// As [`run_async`], in this thread.
pub(super) fn run(job: Job) -> Result<String, Failure> {
    let name = job.program.display().to_string();
    let fail = |what: &str, error: io::Error| {
        Failure::again(harmless::line(&format!("{name}: {what}: {error}"), LINE))
    };
    let mut child = start(&job).map_err(|error| fail("cannot be started", error))?;
    let leash = Leash::new(&mut child);
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let mut output = Vec::new();
    let end = leash.and_then(|leash| {
        leash.watch(
            stdin,
            stdout,
            &job.input,
            &mut output,
            Instant::now() + job.timeout,
        )
    });
    // It is not reaped yet, so that its number, and its group's, is nobody else's.
    kill_group(&child);
    let status = child
        .wait()
        .map_err(|error| fail("cannot wait for it", error))?;
    let output = printed(&output);
    let problem = match end {
        Err(error) => Some(format!("cannot follow it: {error}")),
        Ok(End::TooLate) => Some(format!("took longer than {} s", job.timeout.as_secs_f32())),
        Ok(End::Exited) => failed(status),
    };
    match problem {
        None => Ok(output),
        Some(problem) => {
            let separator = if output.is_empty() {
                ""
            } else {
                "; it printed: "
            };
            let text = format!("{name}: {problem}{separator}{output}");
            Err(Failure::again(harmless::line(&text, LINE)))
        }
    }
}

fn failed(status: ExitStatus) -> Option<String> {
    if status.success() {
        return None;
    }
    Some(match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "failed".to_owned(),
    })
}

/// The lines of the output, harmless, in one.
fn printed(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    harmless::line(&lines.join(" | "), LINE)
}

fn start(job: &Job) -> io::Result<Child> {
    // Both go into one pipe, in the order in which they were printed.
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new(&job.program);
    command
        .args(&job.arguments)
        .env_clear()
        .envs(job.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .process_group(0)
        .stdin(if job.input.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        })
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let confined = job.user.is_some();
    if let Some((uid, gid)) = job.user {
        // The standard library drops the supplementary groups with the uid, if it may.
        command.gid(gid).uid(uid);
    }
    // SAFETY: between fork and exec `confine` makes only system calls that are safe there: it
    // neither allocates nor takes a lock.
    unsafe { command.pre_exec(move || confine(confined)) };
    let mut child = command.spawn()?;
    drop(command);
    child.stdout = Some(ChildStdout::from(OwnedFd::from(reader)));
    Ok(child)
}

/// In the child, as the user that it will be: takes away what it could still have.
fn confine(confined: bool) -> io::Result<()> {
    let check = |result: libc::c_int| {
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    };
    // Signals that the agent ignores or blocks are the child's own again.
    // SAFETY: the set is initialised by sigemptyset before it is read.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        check(libc::sigprocmask(
            libc::SIG_SETMASK,
            &raw const set,
            std::ptr::null_mut(),
        ))?;
    }
    // SAFETY: plain numbers.
    unsafe { libc::umask(0o077) };
    // All files but the first three close at exec. Old kernels do not know the flag; everything
    // that the agent opens is marked so anyway.
    // SAFETY: plain numbers.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3_u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if !confined {
        return Ok(());
    }
    for (resource, most) in LIMITS {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: `limit` lives through both calls.
        unsafe {
            check(libc::getrlimit(resource, &raw mut limit))?;
            limit.rlim_max = limit.rlim_max.min(most);
            limit.rlim_cur = limit.rlim_max;
            check(libc::setrlimit(resource, &raw const limit))?;
        }
    }
    // SAFETY: plain numbers. No bit of a file gives it anything back.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        check(libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        ))
    }
}

/// How it came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Exited,
    TooLate,
}

/// A handle that says when the child exits, before it is reaped.
struct Leash(OwnedFd);

impl Leash {
    fn new(child: &mut Child) -> io::Result<Self> {
        // SAFETY: plain numbers; the child is ours and not reaped, so its number is its own.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
        let fd = i32::try_from(fd).unwrap_or(-1);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was just opened, and nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Feeds it, and reads what it prints, until it exits or `deadline`.
    fn watch(
        &self,
        mut stdin: Option<ChildStdin>,
        mut stdout: Option<ChildStdout>,
        input: &[u8],
        output: &mut Vec<u8>,
        deadline: Instant,
    ) -> io::Result<End> {
        for fd in [
            stdin.as_ref().map(AsFd::as_fd),
            stdout.as_ref().map(AsFd::as_fd),
        ] {
            fd.map(nonblocking).transpose()?;
        }
        let mut input = input;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(End::TooLate);
            }
            let mut fds = vec![PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            fds.extend(
                stdout
                    .as_ref()
                    .map(|o| PollFd::new(o.as_fd(), PollFlags::POLLIN)),
            );
            fds.extend(
                stdin
                    .as_ref()
                    .map(|i| PollFd::new(i.as_fd(), PollFlags::POLLOUT)),
            );
            // Rounded up: it is not asked again and again in the last millisecond.
            let millis = i32::try_from(left.as_millis().saturating_add(1)).unwrap_or(i32::MAX);
            let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let exited = fds[0].any().unwrap_or(false);
            drop(fds);
            if stdin.as_mut().is_some_and(|pipe| feed(pipe, &mut input)) {
                stdin = None;
            }
            // The end of the output is not the end of the child; the exit of the child is the end,
            // whoever still holds its output.
            if stdout.as_mut().is_some_and(|pipe| drain(pipe, output)) {
                stdout = None;
            }
            if exited {
                return Ok(End::Exited);
            }
        }
    }
}

fn nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Writes what fits; whether there is no more to write, or nobody reads.
fn feed(pipe: &mut ChildStdin, input: &mut &[u8]) -> bool {
    while !input.is_empty() {
        match pipe.write(input) {
            Ok(0) => return true,
            Ok(written) => *input = input.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
    true
}

/// Reads what is there, up to a pipe's worth, and keeps the beginning; whether that was all.
fn drain(pipe: &mut ChildStdout, output: &mut Vec<u8>) -> bool {
    const AT_ONCE: usize = 16;
    let mut buffer = [0_u8; 4_096];
    for _ in 0..AT_ONCE {
        match pipe.read(&mut buffer) {
            Ok(0) => return true,
            Ok(read) => {
                let room = KEPT.saturating_sub(output.len()).min(read);
                output.extend_from_slice(buffer.get(..room).unwrap_or_default());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
    false
}

/// Ends the child and all that it started and that did not leave its group.
fn kill_group(child: &Child) {
    if let Ok(group) = libc::pid_t::try_from(child.id()) {
        // SAFETY: plain numbers. The leader is not reaped: the group is its own.
        unsafe { libc::killpg(group, libc::SIGKILL) };
    }
}
