//! The record of a violation: what an event of the kernel becomes once names are put in.

use std::{fmt, fs, net::IpAddr, time::Duration};

use jiff::Timestamp;
use limiter_common::{
    address::{self, Address},
    event::{Event, flags},
    limit::{Kind, Unit},
    verdict::{Layer, Reason, Verdict},
    window,
};
use serde::{Deserialize, Serialize};

use super::{duration::Seconds, names};

/// A refused, redirected or would-be-refused attempt, and those like it before.
///
/// What a layer cannot know is `None`, null in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EventRecord {
    /// When the last of them came.
    pub time: Timestamp,
    /// The node's name.
    pub node: String,
    /// Who pays for it; `(default)` where nobody claims it.
    pub tenant: Option<String>,
    /// What became of it.
    #[serde(with = "names")]
    pub verdict: Verdict,
    /// Why.
    #[serde(with = "names")]
    pub reason: Reason,
    /// Where the kernel saw it.
    #[serde(with = "names")]
    pub layer: Layer,
    /// The uid, in the initial user namespace, of the caller; below connect of whoever made the
    /// socket.
    pub uid: Option<u32>,
    /// The caller's process id in the initial PID namespace.
    pub pid: Option<u32>,
    /// The caller's name, as it chose it.
    pub comm: Option<String>,
    /// The program it runs; best effort.
    pub exe: Option<String>,
    /// Where it runs; best effort.
    pub cwd: Option<String>,
    /// Its cgroup, below the cgroup v2 mount; best effort.
    pub cgroup: Option<String>,
    /// The interface it came through.
    pub interface: Option<String>,
    /// Where it came from.
    pub source: Option<Endpoint>,
    /// Where it was to go.
    pub destination: Endpoint,
    /// The limit that is used up.
    pub limit: Option<EventLimit>,
    /// How many attempts this record stands for, itself included.
    pub repeated: u64,
    /// Whether what was counted is an estimate: the session could not be read.
    #[serde(default)]
    pub estimated: bool,
}

/// An address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// The port; null where it is unknown.
    pub port: Option<u16>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.port) {
            (address, None) => write!(f, "{address}"),
            (IpAddr::V4(address), Some(port)) => write!(f, "{address}:{port}"),
            (IpAddr::V6(address), Some(port)) => write!(f, "[{address}]:{port}"),
        }
    }
}

impl From<std::net::SocketAddr> for Endpoint {
    fn from(address: std::net::SocketAddr) -> Self {
        Self {
            address: address.ip().to_canonical(),
            port: Some(address.port()),
        }
    }
}

/// The limit that refused an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EventLimit {
    /// Whose it is: the tenant's, an ancestor's, or `(node)`.
    pub owner: Option<String>,
    /// What it counts.
    #[serde(with = "names")]
    pub unit: Unit,
    /// The most in the window, or at once.
    pub max: u32,
    /// The window; null for a pace.
    pub window: Option<Seconds>,
    /// The interval of a pace; null for a window.
    pub every: Option<Seconds>,
}

/// Names for the numbers that the kernel speaks of. An unknown number has none.
pub trait Names {
    /// The tenant with this index.
    fn tenant(&self, index: u32) -> Option<String>;
    /// The path of the cgroup with this id, below the cgroup v2 mount.
    fn cgroup(&self, id: u64) -> Option<String>;
    /// The name of the interface with this index.
    fn interface(&self, index: u32) -> Option<String>;
}

/// From the kernel's monotonic clock to the wall's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// What to add to monotonic nanoseconds to get nanoseconds since 1970. Taken anew now and
    /// then, since the wall clock is set.
    pub offset_ns: i128,
}

impl Clock {
    /// The offset, from both clocks read at the same moment.
    #[must_use]
    pub fn new(wall: Timestamp, monotonic_ns: u64) -> Self {
        Self {
            offset_ns: wall.as_nanosecond() - i128::from(monotonic_ns),
        }
    }

    /// The wall's time for a moment of the monotonic clock, clamped to the times that have a date.
    #[must_use]
    pub fn wall(self, monotonic_ns: u64) -> Timestamp {
        let wall = i128::from(monotonic_ns).saturating_add(self.offset_ns);
        Timestamp::from_nanosecond(wall).unwrap_or(if wall < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        })
    }
}

/// What `/proc` tells of a caller, which may be gone, or not what it was: never a proof.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// The program it runs.
    pub exe: Option<String>,
    /// Where it runs.
    pub cwd: Option<String>,
}

impl Process {
    /// What `/proc` tells of process `pid` now.
    #[must_use]
    pub fn look(pid: u32) -> Self {
        let link = |name: &str| {
            let target = fs::read_link(format!("/proc/{pid}/{name}")).ok()?;
            Some(shortened(&target.to_string_lossy()))
        };
        Self {
            exe: link("exe"),
            cwd: link("cwd"),
        }
    }
}

impl EventRecord {
    /// The record of `event`.
    ///
    /// Values that the kernel should never send (an unknown verdict, say) become the strictest
    /// reading: denied, for an internal reason.
    #[must_use]
    pub fn new(event: &Event, node: &str, clock: Clock, names: &dyn Names, of: Process) -> Self {
        let has = |flag: u8| event.flags & flag != 0;
        let task = has(flags::HAS_TASK);
        // Of a packet only its socket is known, and of whom that is: not who runs now.
        let identity = task || has(flags::HAS_SOCKET);
        let of = if task { of } else { Process::default() };
        let reason = Reason::from_wire(event.reason).unwrap_or(Reason::Internal);
        Self {
            time: clock.wall(event.time_ns),
            node: node.to_owned(),
            tenant: names.tenant(event.tenant),
            verdict: Verdict::from_wire(event.verdict).unwrap_or(Verdict::Denied),
            reason,
            layer: Layer::from_wire(event.layer).unwrap_or(Layer::Connect),
            uid: identity.then_some(event.uid),
            pid: task.then_some(event.pid),
            comm: task.then(|| comm(&event.comm)),
            exe: of.exe,
            cwd: of.cwd,
            cgroup: (identity && event.cgroup_id != 0)
                .then(|| names.cgroup(event.cgroup_id))
                .flatten()
                .map(|path| shortened(&path)),
            interface: (event.interface != 0)
                .then(|| names.interface(event.interface))
                .flatten(),
            source: has(flags::HAS_SOURCE).then(|| Endpoint {
                address: ip(&event.source),
                port: (event.source_port != 0).then_some(event.source_port),
            }),
            destination: Endpoint {
                address: ip(&event.destination),
                // A packet that cannot be read may hide it.
                port: (event.destination_port != 0).then_some(event.destination_port),
            },
            limit: EventLimit::new(event, names),
            repeated: event.repeated.max(1),
            estimated: has(flags::ESTIMATED),
        }
    }
}

impl EventLimit {
    fn new(event: &Event, names: &dyn Names) -> Option<Self> {
        let unit = Unit::from_wire(event.limit_unit)?;
        let kind = Kind::from_wire(event.limit_kind)?;
        if event.limit_span_ns == 0 {
            return None;
        }
        let span_ns = match kind {
            Kind::Window => window::window_of(event.limit_span_ns),
            Kind::Pace => event.limit_span_ns,
        };
        let span = Seconds(Duration::from_nanos(span_ns));
        Some(Self {
            owner: names.tenant(event.limit_owner),
            unit,
            max: event.limit_max,
            window: (kind == Kind::Window).then_some(span),
            every: (kind == Kind::Pace).then_some(span),
        })
    }
}

/// The address in the form that people know it by.
#[must_use]
pub fn ip(address: &Address) -> IpAddr {
    match address::as_v4(address) {
        Some(octets) => IpAddr::from(octets),
        None => IpAddr::from(*address),
    }
}

/// The most of a path that is kept, in bytes as JSON writes them: a tenant chooses its paths, and
/// must neither fill the disk nor make its events too long to be read.
const LONGEST_PATH: usize = 512;

/// A path, cut where it becomes too long; control characters count as the escapes they become.
fn shortened(path: &str) -> String {
    let mut room = LONGEST_PATH;
    let mut kept = String::new();
    for c in path.chars() {
        let cost = if c.is_control() { 6 } else { c.len_utf8() };
        let Some(left) = room.checked_sub(cost) else {
            kept.push('…');
            break;
        };
        room = left;
        kept.push(c);
    }
    kept
}

/// The name of a task: up to the first zero, whatever bytes it holds.
fn comm(bytes: &[u8]) -> String {
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paths_are_cut() {
        assert_eq!(shortened("/usr/bin/php"), "/usr/bin/php");
        for c in ["x", "ä", "\u{1}"] {
            let long = shortened(&c.repeat(4_000));
            assert!(long.ends_with('…'));
            let json = serde_json::to_string(&long).unwrap();
            assert!(json.len() <= LONGEST_PATH + 8, "{}", json.len());
        }
    }
}
