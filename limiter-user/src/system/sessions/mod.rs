//! Cutting live TCP sessions, here and inside containers.
//!
//! Layers that see packets stop what a session still sends; its program would only learn of it
//! after minutes. Here the sessions themselves are ended: the program gets `ECONNABORTED` at once,
//! the peer a reset. Sessions are listed with who they belong to, the caller says which are meant,
//! and a session is named to the kernel by a number that no later one has.
//!
//! Of an MPTCP session the kernel ends the connections, and the program would be left with a session
//! that swallows what it writes: see [`holders`].
//!
//! Not found are sessions in a network namespace that has neither a thread nor a mount, kept by
//! nothing but an open file: what they send still meets the layers that see packets.
//!
//! Cut after the sanction is in force: a session that is opened meanwhile is not seen.

mod diag;
mod holders;
mod inside;
mod members;
mod namespaces;
mod owner;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    fs::File,
    io,
    net::SocketAddr,
    os::fd::AsFd as _,
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, setns},
    sys::socket::AddressFamily,
};

pub use self::{
    diag::State,
    inside::{Found, Inside},
    members::{cgroup_ids, held_sockets},
    namespaces::{Ns, Where},
    owner::{Owner, Owners},
};
use self::{
    diag::{Destroyed, Diag, Entry, Protocol},
    namespaces::Search,
};

/// How often a namespace is looked through at most: a list can miss sessions while others end, and
/// whoever opens new ones faster than they are cut must not hold the caller up.
const MOST_PASSES: usize = 5;
/// How many failures are kept; the others are only counted.
const MOST_FAILURES: usize = 16;

/// What is known of a session, for deciding whether it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionFacts {
    /// The network namespace it is in.
    pub namespace: Ns,
    /// Its address here. IPv4 over an IPv6 socket is shown as IPv4.
    pub local: SocketAddr,
    /// Its peer; IPv4 likewise.
    pub remote: SocketAddr,
    /// The uid of whoever made the socket, in the user namespace of the agent, wherever the socket
    /// is. In a namespace that is not the node's own a policy gives uids no meaning. None if no
    /// program holds the socket any more and the kernel has forgotten whose it was.
    pub uid: Option<u32>,
    /// The id of the cgroup of whoever made the socket; none before Linux 5.9, and of a handshake
    /// that no program has accepted.
    pub cgroup_id: Option<u64>,
    /// The inode of the socket, if a program holds it.
    pub inode: Option<u64>,
    /// Its state.
    pub state: State,
    /// Whether it is one of the connections of an MPTCP session.
    pub is_subflow: bool,
}

impl SessionFacts {
    fn of(entry: &Entry, namespace: Ns) -> Self {
        Self {
            namespace,
            local: entry.local,
            remote: entry.remote,
            // Without a file 0 says nothing; any other uid is one that the kernel remembers.
            uid: (entry.inode != 0 || entry.uid != 0).then_some(entry.uid),
            cgroup_id: entry.cgroup_id,
            inode: (entry.inode != 0).then_some(u64::from(entry.inode)),
            state: entry.state,
            is_subflow: entry.is_subflow,
        }
    }
}

/// What was done.
#[derive(Debug, Default)]
pub struct CutReport {
    /// In how many network namespaces sessions were looked for.
    pub namespaces: usize,
    /// How many threads did not let their namespace be seen: the agent lacks CAP_SYS_PTRACE, or
    /// they have a capability that it lacks. Sessions there go on, unless another thread showed it.
    pub hidden: usize,
    /// How many sessions were looked at, those that were seen twice counted twice.
    pub seen: usize,
    /// How many were ended.
    pub cut: usize,
    /// How many of these were connections of MPTCP sessions.
    pub subflows: usize,
    /// How many MPTCP sessions lost connections, some of them before this.
    pub mptcp: usize,
    /// How many of them were ended as a whole, so that their programs know. The others swallow
    /// what is written, for a minute.
    pub mptcp_ended: usize,
    /// How many were meant and ended by themselves meanwhile.
    pub gone: usize,
    /// How many were meant and cannot be ended: remains of sessions that no program holds any
    /// more, on kernels before 6.
    pub left: usize,
    /// What went wrong; the rest was done nevertheless. At most 16 are kept.
    pub failures: Vec<CutError>,
    /// How many failures there were in all.
    pub failed: usize,
    /// How long it took.
    pub took: Duration,
    /// MPTCP sessions that are still to be ended.
    unended: holders::Sessions,
    /// This kernel does not list MPTCP sessions.
    lists_no_mptcp: bool,
}

impl CutReport {
    /// Whether every namespace was looked through to the end.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed == 0
    }

    fn fail(&mut self, error: CutError) {
        self.failed += 1;
        if self.failures.len() < MOST_FAILURES {
            self.failures.push(error);
        }
    }

    fn add(&mut self, other: Self) {
        // Named one by one, so that a new field is not forgotten.
        let Self {
            namespaces,
            hidden,
            seen,
            cut,
            subflows,
            mptcp,
            mptcp_ended,
            gone,
            left,
            failures,
            failed,
            took: _,
            unended,
            lists_no_mptcp: _,
        } = other;
        self.namespaces += namespaces;
        self.hidden += hidden;
        self.seen += seen;
        self.cut += cut;
        self.subflows += subflows;
        self.mptcp += mptcp;
        self.mptcp_ended += mptcp_ended;
        self.gone += gone;
        self.left += left;
        self.failed += failed;
        self.unended.extend(unended);
        let room = MOST_FAILURES - self.failures.len().min(MOST_FAILURES);
        self.failures.extend(failures.into_iter().take(room));
    }
}

/// Why sessions could not be cut.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// The kernel does not end sessions on command.
    #[error(
        "this kernel cannot end sessions on command (CONFIG_INET_DIAG_DESTROY is not set, or the \
         module tcp_diag cannot be loaded): live sessions are not reset; what they send is dropped \
         by the layers that see packets, and their programs run into a timeout"
    )]
    Unsupported,
    /// The namespaces could not be found.
    #[error("cannot find the network namespaces to look in: {0}; sessions in some may go on")]
    Search(#[source] io::Error),
    /// One namespace could not be entered.
    #[error("cannot enter network namespace {inode} (setns): {source}; its sessions go on")]
    Enter {
        /// Its inode.
        inode: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The sessions of one namespace could not be listed or ended.
    #[error("cannot {action} in network namespace {inode} (NETLINK_SOCK_DIAG): {source}")]
    Diag {
        /// What was tried.
        action: &'static str,
        /// The inode of the namespace.
        inode: u64,
        /// What the system said.
        source: io::Error,
    },
    /// Sessions kept coming.
    #[error(
        "sessions that are to be cut keep appearing in network namespace {inode}: the sanction is \
         not in force there, or is not what decides"
    )]
    NoEnd {
        /// The inode of the namespace.
        inode: u64,
    },
    /// The programs that hold MPTCP sessions could not be found.
    #[error("cannot look for the holders of MPTCP sessions: {0}; these swallow data for a minute")]
    Holders(#[source] io::Error),
    /// The thread that enters other namespaces could not be had.
    #[error("cannot start a thread to enter network namespaces: {0}")]
    Thread(#[source] io::Error),
}

/// Whether this kernel ends sessions on command. Changes nothing.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn can_cut() -> Result<bool, CutError> {
    let own = Ns::own().map_err(CutError::Search)?;
    let mut diag = open(own)?;
    match list(&mut diag, AddressFamily::Inet, own, |_| ()) {
        Ok(()) => supported(&mut diag, own),
        Err(CutError::Unsupported) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Ends every TCP session for which `is_meant` says so: of the calling thread's network namespace,
/// and of those that `place` names. IPv4, IPv6 and MPTCP, in every state that has a peer.
///
/// Other namespaces need CAP_SYS_ADMIN (to enter them) and CAP_SYS_PTRACE (to find them, and to end
/// MPTCP sessions) besides the CAP_NET_ADMIN that every cut needs.
///
/// It blocks, for some milliseconds and some more for each namespace. Other namespaces are entered
/// by a thread that ends with the call, never by the calling one. `is_meant` may be asked about a
/// session more than once.
///
/// # Errors
/// [`CutError::Unsupported`], or when not even the own namespace can be looked at. Whatever fails
/// later is in the report.
pub fn cut(
    place: Where<'_>,
    is_meant: impl Fn(&SessionFacts) -> bool + Sync,
) -> Result<CutReport, CutError> {
    let start = Instant::now();
    let own = Ns::own().map_err(CutError::Search)?;
    let mut diag = open(own)?;
    if !supported(&mut diag, own)? {
        return Err(CutError::Unsupported);
    }
    let mut report = CutReport::default();
    match cut_here(&mut diag, own, &is_meant, &mut report) {
        Ok(()) => {}
        Err(CutError::Unsupported) => return Err(CutError::Unsupported),
        Err(error) => report.fail(error),
    }
    if place != Where::OwnOnly {
        match elsewhere(place, own, &is_meant) {
            Ok(others) => report.add(others),
            Err(error) => report.fail(error),
        }
    }
    report.mptcp = report.unended.len();
    match holders::end(std::mem::take(&mut report.unended)) {
        Ok(ended) => report.mptcp_ended = ended,
        Err(error) => report.fail(CutError::Holders(error)),
    }
    report.took = start.elapsed();
    Ok(report)
}

/// Whether sessions can be ended, if there is a list of them at all.
fn supported(diag: &mut Diag, own: Ns) -> Result<bool, CutError> {
    match diag.can_destroy() {
        Ok(answer) => Ok(answer),
        // Kernels that do not know the command at all.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(failed("end sessions", own)(error)),
    }
}

/// Lists the sessions of one address family.
fn list(
    diag: &mut Diag,
    family: AddressFamily,
    namespace: Ns,
    found: impl FnMut(Entry),
) -> Result<(), CutError> {
    diag.list(family, Protocol::Tcp, found)
        .map_err(|error| match error.raw_os_error() {
            // The kernel has no list of TCP sockets: the module is missing.
            Some(libc::ENOENT) => CutError::Unsupported,
            _ => failed("list sessions", namespace)(error),
        })
}

fn open(namespace: Ns) -> Result<Diag, CutError> {
    Diag::open().map_err(failed("open a socket to list sessions", namespace))
}

fn failed(action: &'static str, namespace: Ns) -> impl Fn(io::Error) -> CutError {
    move |source| CutError::Diag {
        action,
        inode: namespace.inode,
        source,
    }
}

/// Cuts in the other namespaces that `place` names, while they are being found.
fn elsewhere(
    place: Where<'_>,
    own: Ns,
    is_meant: &(impl Fn(&SessionFacts) -> bool + Sync),
) -> Result<CutReport, CutError> {
    thread::scope(|scope| {
        let (send, receive) = mpsc::channel::<(Ns, File)>();
        let worker = thread::Builder::new()
            .name("limiter-netns".to_owned())
            .spawn_scoped(scope, move || {
                let mut report = CutReport::default();
                for (namespace, file) in receive {
                    if let Err(error) = cut_there(namespace, &file, is_meant, &mut report) {
                        report.fail(error);
                    }
                }
                report
            })
            .map_err(CutError::Thread)?;
        let mut found = |namespace, _: &Path, file| {
            // It listens until this end is dropped.
            let _ = send.send((namespace, file));
        };
        let searched = Search::new(own, &mut found).run(place);
        drop(send);
        let mut report = match worker.join() {
            Ok(report) => report,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        match searched {
            Ok(hidden) => report.hidden += hidden,
            Err(error) => report.fail(CutError::Search(error)),
        }
        Ok(report)
    })
}

/// Moves the calling thread into a namespace and cuts there.
fn cut_there(
    namespace: Ns,
    file: &File,
    is_meant: &impl Fn(&SessionFacts) -> bool,
    report: &mut CutReport,
) -> Result<(), CutError> {
    setns(file.as_fd(), CloneFlags::CLONE_NEWNET).map_err(|error| CutError::Enter {
        inode: namespace.inode,
        source: error.into(),
    })?;
    let mut diag = open(namespace)?;
    cut_here(&mut diag, namespace, is_meant, report)
}

/// Cuts in the namespace that `diag` was opened in, until there is nothing left to cut.
fn cut_here(
    diag: &mut Diag,
    namespace: Ns,
    is_meant: &impl Fn(&SessionFacts) -> bool,
    report: &mut CutReport,
) -> Result<(), CutError> {
    report.namespaces += 1;
    for _ in 0..MOST_PASSES {
        let Pass { done, left } = pass(diag, namespace, is_meant, report)?;
        if done == 0 {
            report.left += left;
            return Ok(());
        }
    }
    Err(CutError::NoEnd {
        inode: namespace.inode,
    })
}

/// What came of looking through a namespace once.
#[derive(Default)]
struct Pass {
    /// How many were cut, or gone.
    done: usize,
    /// How many cannot be cut.
    left: usize,
}

/// Lists once and cuts what is meant.
fn pass(
    diag: &mut Diag,
    namespace: Ns,
    is_meant: &impl Fn(&SessionFacts) -> bool,
    report: &mut CutReport,
) -> Result<Pass, CutError> {
    let mut meant = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let listed = list(diag, family, namespace, |entry| {
            report.seen += 1;
            if is_meant(&SessionFacts::of(&entry, namespace)) {
                meant.push(entry);
            }
        });
        match listed {
            // A kernel without IPv6.
            Err(CutError::Unsupported) if family == AddressFamily::Inet6 => {}
            other => other?,
        }
    }
    remember_mptcp(diag, namespace, &meant, is_meant, report);
    let mut result = Pass::default();
    for entry in meant {
        let destroyed = diag
            .destroy(entry.family, Protocol::Tcp, &entry.id)
            .map_err(failed("end a session", namespace))?;
        match destroyed {
            Destroyed::Yes => {
                report.cut += 1;
                report.subflows += usize::from(entry.is_subflow);
                result.done += 1;
            }
            Destroyed::WasGone => {
                report.gone += 1;
                result.done += 1;
            }
            Destroyed::Unsupported => result.left += 1,
        }
    }
    Ok(result)
}

/// Notes the MPTCP sessions that these connections belong to, and those that are meant although
/// they have none any more: the layers that see packets may have been quicker. A kernel that does
/// not list them is one of before 5.9, whose MPTCP is none yet.
fn remember_mptcp(
    diag: &mut Diag,
    namespace: Ns,
    meant: &[Entry],
    is_meant: &impl Fn(&SessionFacts) -> bool,
    report: &mut CutReport,
) {
    if report.lists_no_mptcp {
        return;
    }
    let inodes: HashSet<u32> = meant
        .iter()
        .filter(|entry| entry.is_subflow && entry.inode != 0)
        .map(|entry| entry.inode)
        .collect();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let listed = diag.list(family, Protocol::Mptcp, |session| {
            let alone = || is_meant(&SessionFacts::of(&session, namespace));
            if session.inode != 0 && (inodes.contains(&session.inode) || alone()) {
                let cookie = session.id.cookie();
                report.unended.insert(u64::from(session.inode), cookie);
            }
        });
        if listed.is_err() {
            // Asking again would make the kernel look for a module each time.
            report.lists_no_mptcp = true;
            return;
        }
    }
}
