//! Attempts to reach a mail server, each compared with what the product says about it before.

use std::{
    io::{BufRead, BufReader, Write},
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    Agent, Node, Place, cgroup, machine,
    orders::{CONNECTED, How, Orders, READY, Report, SocketOf},
};

/// How long a sender may stay silent, milliseconds.
const PATIENCE_MS: u16 = 60_000;
/// How quickly a refusal has to come, even on a busy machine.
const AT_ONCE: Duration = Duration::from_millis(50);

/// Somebody who tries to reach mail servers.
#[derive(Clone, Debug)]
pub struct Sender<'n> {
    node: &'n Node,
    place: Place,
}

impl<'n> Sender<'n> {
    pub(crate) fn new(node: &'n Node, place: Place) -> Self {
        Self { node, place }
    }

    /// Where and as whom it runs.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// An attempt to reach `to`, in the plainest way.
    #[must_use]
    pub fn attempt(&self, to: SocketAddr) -> Attempt<'n> {
        Attempt {
            sender: self.clone(),
            orders: Orders {
                uid: self.place.uid(),
                cgroup: None,
                to,
                mapped: false,
                how: How::Plain,
                socket: SocketOf::Caller,
                device: None,
                from: None,
                count: 1,
                pause_us: 0,
                wait: true,
                say: None,
                hold: false,
                report_to: None,
            },
        }
    }

    /// Many attempts, one after another.
    #[must_use]
    pub fn flood(&self, to: SocketAddr, count: u64, pause: Duration) -> Flood<'n> {
        let mut attempt = self.attempt(to);
        attempt.orders.count = count;
        attempt.orders.pause_us = u64::try_from(pause.as_micros()).expect("a short pause");
        Flood { attempt }
    }
}

/// One attempt, not yet made.
#[derive(Clone, Debug)]
pub struct Attempt<'n> {
    sender: Sender<'n>,
    orders: Orders,
}

/// What an attempt led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// A server that greets as something at `outside.example`.
    Outside,
    /// A server that greets as `node.example`.
    Local,
    /// Nobody: the kernel answered EPERM.
    Refused,
}

impl Attempt<'_> {
    /// In this way.
    #[must_use]
    pub fn how(mut self, how: How) -> Self {
        self.orders.how = how;
        self
    }

    /// Through an IPv6 socket, although the destination is IPv4.
    #[must_use]
    pub fn mapped(mut self) -> Self {
        self.orders.mapped = true;
        self
    }

    /// From a socket bound to an interface.
    #[must_use]
    pub fn device(mut self, device: &str) -> Self {
        self.orders.device = Some(device.to_owned());
        self
    }

    /// From a socket bound to a source address.
    #[must_use]
    pub fn from(mut self, from: IpAddr) -> Self {
        self.orders.from = Some(from);
        self
    }

    /// With a socket that came to the caller in this way.
    #[must_use]
    pub fn socket(mut self, socket: SocketOf) -> Self {
        if matches!(socket, SocketOf::Before { .. }) {
            self.orders.cgroup = Some(self.sender.place.cgroup().to_path_buf());
        }
        self.orders.socket = socket;
        self
    }

    /// Greets back under this name once it is greeted, and wants an answer.
    #[must_use]
    pub fn say(mut self, name: &str) -> Self {
        self.orders.say = Some(name.to_owned());
        self
    }

    /// Waits for another [`Running::go`] between being greeted and greeting back.
    #[must_use]
    pub fn hold(mut self) -> Self {
        self.orders.hold = true;
        self
    }

    /// By a process at the root of the cgroup tree.
    #[must_use]
    pub fn at_tree_root(mut self) -> Self {
        self.orders.cgroup = Some(cgroup::mount_point().to_path_buf());
        self
    }

    /// Asks the agent what will happen, makes the attempt, and fails the test if something else
    /// happens. Returns what happened.
    #[must_use]
    pub fn make(self, agent: &Agent) -> Reached {
        self.judge(agent).0
    }

    /// As [`Attempt::make`], and returns what the agent said, too.
    #[must_use]
    pub fn judge(self, agent: &Agent) -> (Reached, Value) {
        let running = self.clone().start();
        let pid = running.pid().to_string();
        let explanation = agent.explain(&["--pid", &pid, "--to", &self.orders.to.to_string()]);
        let reached = self.conclude(running);
        let stays = explanation["rule"] == "loopback" || explanation["rule"] == "own_address";
        let foretold = match explanation["verdict"].as_str() {
            // Where the node's own addresses lead is not limiter's affair.
            Some("allowed") if stays => reached != Reached::Refused,
            Some("allowed" | "would_deny") => reached == Reached::Outside,
            Some("redirected") => reached == Reached::Local,
            Some("denied") => reached == Reached::Refused,
            _ => panic!("no verdict in {explanation:#}"),
        };
        assert!(
            foretold,
            "{reached:?} is not what limiter explain said of {:?}: {explanation:#}",
            self.orders
        );
        (reached, explanation)
    }

    /// Makes the attempt without asking the agent: for tests in which no agent is to be asked, and
    /// for sockets of which it cannot know.
    #[must_use]
    pub fn make_unexplained(self) -> Reached {
        let running = self.clone().start();
        self.conclude(running)
    }

    fn conclude(&self, running: Running) -> Reached {
        let report = running.go().finish();
        if report.refused() == 1 {
            let taken = Duration::from_nanos(report.slowest_failure_ns);
            assert!(
                taken < machine::patience(AT_ONCE),
                "the refusal took {taken:?}: {:?}",
                self.orders
            );
            return Reached::Refused;
        }
        match report.greeting.as_deref() {
            Some(greeting) if greeting.contains("outside.example") => Reached::Outside,
            Some(greeting) if greeting.contains("node.example") => Reached::Local,
            _ => panic!("neither reached nor refused: {report:?} {:?}", self.orders),
        }
    }

    /// The orders for a process that somebody else starts as the right user, which does not wait
    /// and writes its report to a file.
    #[must_use]
    pub fn for_others(self, report_to: &Path) -> String {
        let orders = Orders {
            wait: false,
            report_to: Some(report_to.to_path_buf()),
            ..self.orders
        };
        serde_json::to_string(&orders).expect("orders are plain data")
    }

    /// Starts the process, which waits for [`Running::go`].
    #[must_use]
    pub fn start(self) -> Running {
        let orders = serde_json::to_string(&self.orders).expect("orders are plain data");
        // It becomes whom it is to be by itself, since it may have to be others before.
        let place = self.sender.place.as_uid(0);
        let mut command = place.command(self.sender.node.sender_program());
        command
            .arg(orders)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        Running::start(&mut command)
    }
}

/// Many attempts of one process, not yet made.
#[derive(Clone, Debug)]
pub struct Flood<'n> {
    attempt: Attempt<'n>,
}

impl Flood<'_> {
    /// Starts the process, which waits for [`Running::go`].
    #[must_use]
    pub fn start(self) -> Running {
        self.attempt.start()
    }

    /// Makes all attempts and returns what came of them.
    #[must_use]
    pub fn make(self) -> Report {
        self.start().go().finish()
    }
}

/// A sender that is ready, or under way.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    /// Starts a sending program, with its standard input and output as pipes, and waits until it
    /// is ready.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the sender can be started");
        let mut running = Self {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().expect("stdout is piped")),
            child,
        };
        let line = running.line();
        assert_eq!(line, READY, "the sender does not get ready");
        running
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it connect.
    #[must_use]
    pub fn go(mut self) -> Self {
        let mut stdin = self.stdin.take().expect("it goes once");
        stdin.write_all(b"\n").expect("the sender waits for it");
        self
    }

    /// Lets it connect, and waits until it is connected and greeted: it goes on by
    /// [`Running::go`]. For attempts that [`Attempt::hold`].
    #[must_use]
    pub fn go_and_hold(mut self) -> Self {
        let stdin = self.stdin.as_mut().expect("it has not gone yet");
        stdin.write_all(b"\n").expect("the sender waits for it");
        let line = self.line();
        assert_eq!(line, CONNECTED, "the sender does not connect");
        self
    }

    /// Waits for its report.
    #[must_use]
    pub fn finish(self) -> Report {
        self.report()
    }

    /// The same, for programs with a report of another kind.
    #[must_use]
    pub fn report<R: DeserializeOwned>(mut self) -> R {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("no report: {error}: {line}"))
    }

    /// Its report, if it comes in time.
    #[must_use]
    pub fn finish_within(mut self, patience: Duration) -> Option<Report> {
        let patience = u16::try_from(patience.as_millis()).expect("less than a minute");
        self.says_something(patience).then(|| self.finish())
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child can be asked")
            .is_some()
    }

    fn says_something(&mut self, patience_ms: u16) -> bool {
        let mut fds = [PollFd::new(
            self.stdout.get_ref().as_fd(),
            PollFlags::POLLIN,
        )];
        poll(&mut fds, PollTimeout::from(patience_ms)).expect("a pipe can be polled") > 0
    }

    fn line(&mut self) -> String {
        assert!(
            self.says_something(PATIENCE_MS),
            "the sender says nothing for {PATIENCE_MS} ms"
        );
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .expect("what it says is text");
        line.trim_end().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("(a sender was under way)");
        }
    }
}
