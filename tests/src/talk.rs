//! Sessions that go on until somebody ends them: what a tenant has open when it is sanctioned.

use std::{
    io::{BufRead, BufReader},
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    process::{Child, ChildStdout, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{Place, wait};

/// What is done once the server has greeted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk {
    /// A message that never ends: a line every few milliseconds.
    Mail,
    /// Nothing: it waits for the server.
    Idle,
    /// As much as goes, to a server that does not greet.
    Bulk,
}

/// By which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// TCP.
    Tcp,
    /// Multipath TCP.
    Mptcp,
}

/// A session under way. Dropping it kills its program.
#[derive(Debug)]
pub struct Talking {
    child: Child,
    stdout: BufReader<ChildStdout>,
    from: SocketAddr,
    to: SocketAddr,
    by: By,
}

#[derive(Deserialize)]
struct Up {
    host: IpAddr,
    port: u16,
    multipath: bool,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct End {
    /// The name of the error that its program got; `closed` if the server ended it.
    pub error: String,
    /// Bytes that the kernel took from the program.
    pub sent: u64,
}

impl End {
    /// Whether the program was told that somebody broke the session off.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        ["ECONNRESET", "ECONNABORTED", "EPIPE", "ENOTCONN"].contains(&self.error.as_str())
    }
}

/// Begins to talk, and returns once the server has greeted.
#[must_use]
pub fn talk(place: &Place, to: SocketAddr, by: By, how: Talk) -> Talking {
    let how = match how {
        Talk::Mail => "mail",
        Talk::Idle => "idle",
        Talk::Bulk => "bulk",
    };
    let multipath = by == By::Mptcp;
    let mut command = place.command("/usr/bin/python3");
    command
        .args(["-c", TALKER, &to.ip().to_string(), &to.port().to_string()])
        .args([if multipath { "262" } else { "6" }, how])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn().expect("Python can be started");
    let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
    let mut talking = Talking {
        child,
        stdout,
        from: to,
        to,
        by,
    };
    let up: Up = talking
        .next(wait::SOON)
        .unwrap_or_else(|| panic!("no session with {to} by {by:?}"));
    assert_eq!(up.multipath, multipath, "another protocol than wanted");
    talking.from = SocketAddr::new(up.host.to_canonical(), up.port);
    talking
}

impl Talking {
    /// Its source, as its program sees it.
    #[must_use]
    pub fn from(&self) -> SocketAddr {
        self.from
    }

    /// Its destination.
    #[must_use]
    pub fn to(&self) -> SocketAddr {
        self.to
    }

    /// Its protocol.
    #[must_use]
    pub fn by(&self) -> By {
        self.by
    }

    /// How it ended, if it ends so soon.
    pub fn ended(&mut self, patience: Duration) -> Option<End> {
        self.next(patience)
    }

    /// Bytes that the server of a [`Talk::Bulk`] could take in each of so many tenths of a second.
    pub fn tenths(&mut self, count: usize) -> Vec<u64> {
        let mut next = || {
            let tenth = self.next(wait::SOON);
            tenth.expect("it goes on for as long as it is not stopped")
        };
        // What has been said before now is of another time.
        let from = Instant::now();
        loop {
            let before = Instant::now();
            let _: u64 = next();
            if before.elapsed() > Duration::from_millis(20) || from.elapsed() > wait::SOON {
                break;
            }
        }
        (0..count).map(|_| next()).collect()
    }

    fn next<T: DeserializeOwned>(&mut self, patience: Duration) -> Option<T> {
        if self.stdout.buffer().is_empty() {
            let patience = u16::try_from(patience.as_millis()).expect("less than a minute");
            let mut fds = [PollFd::new(
                self.stdout.get_ref().as_fd(),
                PollFlags::POLLIN,
            )];
            let ready = poll(&mut fds, PollTimeout::from(patience)).expect("a pipe can be polled");
            if ready == 0 {
                return None;
            }
        }
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .expect("what it says is text");
        let said = serde_json::from_str(&line);
        Some(said.unwrap_or_else(|error| panic!("the talker says {line:?}: {error}")))
    }
}

impl Drop for Talking {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!(
                "(a session from {} to {} was under way)",
                self.from, self.to
            );
        }
    }
}

const TALKER: &str = r#"
import errno, json, os, select, socket, sys, time
host, port, protocol, how = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
def say(what):
    os.write(1, json.dumps(what).encode() + b"\n")
family = socket.AF_INET6 if ":" in host else socket.AF_INET
s = socket.socket(family, socket.SOCK_STREAM, protocol)
s.settimeout(20)
s.connect((host, port))
sent = 0
if how != "bulk":
    while not s.recv(1000).endswith(b"\n"):
        pass
multipath = False
if protocol == 262:
    # An MPTCP socket that fell back to TCP knows no MPTCP_INFO.
    try:
        s.getsockopt(284, 1, 64)
        multipath = True
    except OSError:
        pass
own = s.getsockname()
say({"host": own[0], "port": own[1], "multipath": multipath})
try:
    if how == "mail":
        s.sendall(b"EHLO talker.example\r\nMAIL FROM:<a@talker.example>\r\n"
                  b"RCPT TO:<b@outside.example>\r\nDATA\r\n")
        line = b"All work and no play makes Jack a dull boy." * 4 + b"\r\n"
        while True:
            s.sendall(line)
            sent += len(line)
            readable, _, _ = select.select([s], [], [], 0.008)
            if readable and not s.recv(4096):
                raise OSError(0, "closed")
    elif how == "idle":
        s.settimeout(None)
        while True:
            if not s.recv(4096):
                raise OSError(0, "closed")
    else:
        block = b"\x55" * 262144
        due, since = time.monotonic() + 0.1, 0
        while True:
            length = s.send(block)
            sent += length
            since += length
            if time.monotonic() >= due:
                say(since)
                due, since = time.monotonic() + 0.1, 0
except OSError as error:
    name = errno.errorcode.get(error.errno, "closed" if error.errno == 0 else str(error))
    say({"error": name, "sent": sent})
"#;
