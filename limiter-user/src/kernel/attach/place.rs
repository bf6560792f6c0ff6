//! Which program belongs at which place, and in which ways it can get there.

use std::{fmt, path::Path};

use aya_obj::generated::bpf_attach_type::{
    self, BPF_CGROUP_INET_EGRESS, BPF_CGROUP_INET4_CONNECT, BPF_CGROUP_INET6_CONNECT,
    BPF_CGROUP_SOCK_OPS,
};
use limiter_common::{abi::programs, verdict::Layer};

use super::{How, LayerState, Place, Side, Wanted, tie::interface_name};

/// Leaves layers unattached: the proof that a test of a layer tests that layer. Names of layers,
/// separated by commas.
pub const WITHOUT_LAYER: &str = "LIMITER_TEST_WITHOUT_LAYER";

/// The hooks of a cgroup, and what belongs there.
pub const CGROUP: [(Duty, &str, bpf_attach_type); 4] = [
    (Duty::Connect4, programs::CONNECT4, BPF_CGROUP_INET4_CONNECT),
    (Duty::Connect6, programs::CONNECT6, BPF_CGROUP_INET6_CONNECT),
    (Duty::Socket, programs::SOCKET, BPF_CGROUP_INET_EGRESS),
    (Duty::Mailbox, programs::MAILBOX, BPF_CGROUP_SOCK_OPS),
];

/// What a program is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Duty {
    Connect4,
    Connect6,
    Socket,
    Mailbox,
    Guest,
    Uplink,
    Edge,
}

impl Duty {
    /// The layer; the edge counts as mailbox.
    pub const fn layer(self) -> Layer {
        match self {
            Self::Connect4 | Self::Connect6 => Layer::Connect,
            Self::Socket => Layer::Socket,
            Self::Guest => Layer::Guest,
            Self::Uplink => Layer::Uplink,
            Self::Mailbox | Self::Edge => Layer::Mailbox,
        }
    }
}

/// A place and what belongs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub duty: Duty,
    /// The interface; 0: the cgroup.
    pub index: u32,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            0 => f.write_str("the cgroup"),
            index => write!(f, "interface {index}"),
        }
    }
}

/// One way to attach a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A link to the cgroup.
    Cgroup {
        program: &'static str,
        hook: bpf_attach_type,
    },
    /// A TCX link.
    Tcx { program: &'static str, side: Side },
    /// A classic filter.
    Clsact { program: &'static str, side: Side },
    /// An XDP link, in the driver or above it.
    Xdp {
        program: &'static str,
        generic: bool,
    },
}

impl Way {
    /// The program.
    pub const fn program(&self) -> &'static str {
        match self {
            Self::Cgroup { program, .. }
            | Self::Tcx { program, .. }
            | Self::Clsact { program, .. }
            | Self::Xdp { program, .. } => program,
        }
    }

    /// How that is called.
    pub const fn how(&self) -> How {
        match self {
            Self::Cgroup { .. } => How::CgroupLink,
            Self::Tcx { .. } => How::Tcx,
            Self::Clsact { .. } => How::Clsact,
            Self::Xdp { generic: false, .. } => How::XdpNative,
            Self::Xdp { generic: true, .. } => How::XdpGeneric,
        }
    }

    /// The name of the link's pin; a filter has none. Names on a BPF file system have no dots.
    pub fn pin_name(&self, key: Key) -> Option<String> {
        let index = key.index;
        Some(match (self, key.duty) {
            (Self::Clsact { .. }, _) => return None,
            (Self::Cgroup { program, .. }, _) => (*program).to_owned(),
            (Self::Tcx { .. }, Duty::Guest) => format!("guest-{index}"),
            (Self::Tcx { .. }, Duty::Uplink) => format!("uplink-{index}"),
            (Self::Tcx { .. }, _) => format!("edge-tc-{index}"),
            (Self::Xdp { generic: false, .. }, _) => format!("edge-{index}"),
            (Self::Xdp { generic: true, .. }, _) => format!("edge-generic-{index}"),
        })
    }
}

/// What a pin of a link on an interface says of it: its program, as far as that is known, and how
/// it is attached.
pub fn of_pin(name: &str) -> Option<(Duty, &'static str, How)> {
    if let Some((duty, program, _)) = CGROUP.into_iter().find(|(_, program, _)| *program == name) {
        return Some((duty, program, How::CgroupLink));
    }
    let (what, index) = name.rsplit_once('-')?;
    index.parse::<u32>().ok()?;
    match what {
        "guest" => Some((Duty::Guest, programs::GUEST, How::Tcx)),
        "uplink" => Some((Duty::Uplink, programs::UPLINK, How::Tcx)),
        "edge-tc" => Some((Duty::Edge, programs::EDGE_TC, How::Tcx)),
        "edge" => Some((Duty::Edge, programs::EDGE, How::XdpNative)),
        "edge-generic" => Some((Duty::Edge, programs::EDGE, How::XdpGeneric)),
        _ => None,
    }
}

/// Whether a pin is one of a link of this version's, or one half made.
pub fn is_pin_of_link(name: &str) -> bool {
    of_pin(name.strip_suffix(UNFINISHED).unwrap_or(name)).is_some()
}

/// The end of the name of a pin that is not in its place yet.
pub const UNFINISHED: &str = "-new";

/// The name of the pin that says that the discipline of an interface was made by limiter.
pub fn discipline_pin(ifindex: u32) -> String {
    format!("clsact-{ifindex}")
}

/// The interface that such a pin is about.
pub fn of_discipline_pin(name: &str) -> Option<u32> {
    name.strip_prefix("clsact-")?.parse().ok()
}

/// One program that belongs somewhere.
#[derive(Clone, Debug)]
pub struct Task {
    pub key: Key,
    /// The ways to get there, best first; never empty.
    pub ways: Vec<Way>,
    /// The name of the interface or the path of the cgroup.
    pub target: String,
}

impl Task {
    pub const fn layer(&self) -> Layer {
        self.key.duty.layer()
    }

    /// The program that is tried first.
    pub fn program(&self) -> &'static str {
        self.ways.first().map_or("", Way::program)
    }

    /// Whether it is at an interface that does not exist any more.
    pub fn is_gone(&self) -> bool {
        self.key.index != 0 && interface_name(self.key.index).is_none()
    }

    /// It is not there.
    pub fn missing(&self, problem: String) -> LayerState {
        LayerState {
            layer: self.layer(),
            program: self.program(),
            target: self.target.clone(),
            index: self.key.index,
            attached: false,
            how: self.ways.first().map_or(How::CgroupLink, Way::how),
            problem: Some(problem),
        }
    }
}

/// Everything that belongs somewhere: cgroups first, uplinks before guests, which count on them.
pub fn tasks(cgroup: &Path, wanted: &Wanted) -> Vec<Task> {
    let Wanted {
        socket,
        mailbox,
        edge,
        guests,
        uplinks,
    } = wanted;
    let mut all = Vec::with_capacity(CGROUP.len() + guests.len() + 2 * uplinks.len());
    for (duty, program, hook) in CGROUP {
        let needed = match duty {
            Duty::Socket => *socket,
            Duty::Mailbox => *mailbox,
            _ => true,
        };
        if needed {
            all.push(Task {
                key: Key { duty, index: 0 },
                ways: vec![Way::Cgroup { program, hook }],
                target: cgroup.display().to_string(),
            });
        }
    }
    for place in uplinks {
        let program = pick(place, programs::UPLINK, programs::UPLINK_L3);
        all.push(on_interface(
            place,
            Duty::Uplink,
            both(program, Side::Egress),
        ));
    }
    for place in guests {
        let program = pick(place, programs::GUEST, programs::GUEST_L3);
        all.push(on_interface(place, Duty::Guest, both(program, place.side)));
    }
    for place in uplinks.iter().filter(|_| *edge) {
        let mut ways = Vec::new();
        if place.ethernet {
            ways.extend([false, true].map(|generic| Way::Xdp {
                program: programs::EDGE,
                generic,
            }));
        }
        let program = pick(place, programs::EDGE_TC, programs::EDGE_TC_L3);
        ways.extend(both(program, Side::Ingress));
        all.push(on_interface(place, Duty::Edge, ways));
    }
    all
}

fn pick(place: &Place, ethernet: &'static str, bare: &'static str) -> &'static str {
    if place.ethernet { ethernet } else { bare }
}

fn both(program: &'static str, side: Side) -> Vec<Way> {
    vec![Way::Tcx { program, side }, Way::Clsact { program, side }]
}

fn on_interface(place: &Place, duty: Duty, ways: Vec<Way>) -> Task {
    Task {
        key: Key {
            duty,
            index: place.index,
        },
        ways,
        target: place.name.clone(),
    }
}

/// Whether a test wants this layer left out.
pub fn left_out(layer: Layer) -> bool {
    std::env::var(WITHOUT_LAYER)
        .is_ok_and(|names| names.split(',').any(|name| name.trim() == layer.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pin_is_known_again() {
        let place = |index| Place {
            index,
            name: String::new(),
            ethernet: true,
            side: Side::Ingress,
        };
        let wanted = Wanted {
            socket: true,
            mailbox: true,
            edge: true,
            guests: vec![place(4)],
            uplinks: vec![place(2)],
        };
        let mut names = Vec::new();
        for task in tasks(Path::new("/"), &wanted) {
            for way in &task.ways {
                let Some(name) = way.pin_name(task.key) else {
                    continue;
                };
                let (duty, program, how) = of_pin(&name).unwrap();
                assert_eq!(
                    (duty, program, how),
                    (task.key.duty, way.program(), way.how())
                );
                assert!(is_pin_of_link(&format!("{name}{UNFINISHED}")));
                assert!(!name.contains('.'));
                names.push(name);
            }
        }
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "{names:?}");
        assert!(!is_pin_of_link(&discipline_pin(3)));
        assert!(!is_pin_of_link("somebody-elses"));
    }
}
