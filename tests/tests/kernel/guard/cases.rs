//! What is measured: each program on what it is mostly asked, and on what costs it most.

use std::{net::IpAddr, os::fd::OwnedFd, rc::Rc};

use ipnet::IpNet;
use limiter_common::{limit::Unit, settings::flags, verdict::Permission};
use limiter_user::{
    kernel::{
        Wanted,
        attach::{Place, Side},
    },
    policy::{
        image::{AddressBinding, ImageLimit, NODE_NAME},
        prefix_set::PrefixSet,
    },
};

use super::{
    connects::{Outcome, connect},
    packets::{
        self, ALLOWED, BLOCKED, COUNTED, ELSEWHERE, FULL, MADE_HERE, MADE_HERE_TOO, Packets,
    },
    yardstick,
};
use crate::{
    foreign::{
        self, CGROUP_SKB, CLASSIFIER, CONNECT4, CONNECT6, EGRESS, INGRESS, SOCK_ADDR, SOCKET, XDP,
        index, run_often,
    },
    images::{Draft, HOUR, window},
    lab::Lab,
};

/// A user who may connect, within a limit.
const USER: u32 = 2001;
/// One whose limit is used up.
const FULL_USER: u32 = 2002;

/// A program, and the yardstick of its kind.
struct Layer {
    name: &'static str,
    ours: OwnedFd,
    yardstick: OwnedFd,
    /// What a packet program answers to what it lets go.
    passes: u32,
}

/// One program on one thing.
pub struct Case {
    /// What is measured, for people.
    pub name: String,
    layer: Rc<Layer>,
    work: Work,
}

enum Work {
    Packets(Packets, Outcome),
    Connects {
        uid: u32,
        port: u16,
        v6: bool,
        outcome: Outcome,
    },
}

impl Case {
    /// Has limiter's program and the yardstick run once each, on the `n`th of its kind.
    pub fn run(&self, n: u32) {
        let (found, expected) = match &self.work {
            Work::Packets(packets, outcome) => {
                let frame = packets(n);
                let (verdict, _) = run_often(&self.layer.ours, &frame, 1);
                run_often(&self.layer.yardstick, &frame, 1);
                let passed = verdict == self.layer.passes;
                let found = if passed {
                    Outcome::Allowed
                } else {
                    Outcome::Refused
                };
                (found, outcome)
            }
            Work::Connects {
                uid,
                port,
                v6,
                outcome,
            } => (connect(*uid, *v6, *port), outcome),
        };
        assert_eq!(found, *expected, "{}, attempt {n}", self.name);
    }

    /// limiter's program.
    pub fn ours(&self) -> &OwnedFd {
        &self.layer.ours
    }

    /// What runs beside it.
    pub fn yardstick(&self) -> &OwnedFd {
        &self.layer.yardstick
    }
}

/// All layers of a lab. In force are those at `connect`, with yardsticks beside them.
pub struct Layers {
    connect: [Rc<Layer>; 2],
    guest: Rc<Layer>,
    uplink: Rc<Layer>,
    socket: Rc<Layer>,
    edge: Rc<Layer>,
    _links: [OwnedFd; 2],
}

impl Layers {
    /// Puts the policy in force, and takes hold of the programs of all layers.
    pub fn set_up(lab: &mut Lab) -> Self {
        for line in [
            "address add 2001:db8:9::1/64 dev v0 nodad",
            "neigh add 2001:db8:9::5 lladdr 02:00:00:00:00:01 dev v0",
        ] {
            foreign::run(&format!("ip {line}"));
        }
        lab.apply(&policy().0);
        assert!(lab.charge("full", 1), "there was room for one");
        let wanted = Wanted {
            socket: true,
            edge: true,
            guests: vec![place("v1", Side::Ingress)],
            uplinks: vec![place("v0", Side::Egress)],
            ..Wanted::default()
        };
        let outcome = lab.kernel().reconcile(&wanted);
        assert!(outcome.layers.iter().all(|one| one.attached), "{outcome:?}");
        let at_cgroup = |name, kind, hook| Layer {
            name,
            ours: foreign::cgroup_program(lab.cgroup(), hook),
            yardstick: yardstick::program(kind, hook, 1),
            passes: 1,
        };
        let at_interface = |name, interface, hook| Layer {
            name,
            ours: foreign::program_at(index(interface), hook),
            yardstick: yardstick::program(CLASSIFIER, 0, PASS_TC),
            passes: PASS_TC.cast_unsigned(),
        };
        let edge = Layer {
            name: "edge",
            ours: foreign::xdp_program("v0"),
            yardstick: yardstick::program(XDP, 0, PASS_XDP),
            passes: PASS_XDP.cast_unsigned(),
        };
        let connect = [("connect4", CONNECT4), ("connect6", CONNECT6)]
            .map(|(name, hook)| at_cgroup(name, SOCK_ADDR, hook));
        let [four, six] = &connect;
        let links = [
            foreign::attach_cgroup(&four.yardstick, lab.cgroup(), CONNECT4),
            foreign::attach_cgroup(&six.yardstick, lab.cgroup(), CONNECT6),
        ];
        let guest = at_interface("guest", "v1", INGRESS);
        let uplink = at_interface("uplink", "v0", EGRESS);
        let socket = at_cgroup("socket", CGROUP_SKB, SOCKET);
        // What really goes through the interfaces is not to be measured.
        let outcome = lab.kernel().reconcile(&Wanted::default());
        assert_eq!(outcome.problems, Vec::<String>::new());
        Self {
            guest: Rc::new(guest),
            uplink: Rc::new(uplink),
            socket: Rc::new(socket),
            edge: Rc::new(edge),
            connect: connect.map(Rc::new),
            _links: links,
        }
    }

    /// Everything while nothing is blocked.
    pub fn usual(&self) -> Vec<Case> {
        use Outcome::{Allowed, Refused};
        let mut cases = Vec::new();
        for layer in [&self.guest, &self.uplink, &self.socket, &self.edge] {
            cases.push(on(layer, "TCP 443", packets::unrelated(), Allowed));
        }
        for layer in [&self.guest, &self.uplink] {
            cases.push(on(layer, "TCP 443, IPv6", packets::unrelated6(), Allowed));
            cases.push(on(layer, "UDP 443", packets::datagram(), Allowed));
        }
        for (what, from, outcome) in [
            ("first packet of mail, allowed", ALLOWED, Allowed),
            ("first packet of mail, limit used up", FULL, Refused),
        ] {
            let packets = packets::first(from, ELSEWHERE, 25);
            cases.push(on(&self.guest, what, packets, outcome));
        }
        let (what, packets) = ("packet of a session, read", packets::session(COUNTED, 25));
        cases.push(on(&self.guest, what, packets, Allowed));
        // What a program sends without connecting, as the user of this one.
        for (layer, from) in [(&self.uplink, MADE_HERE), (&self.socket, MADE_HERE_TOO)] {
            for (what, port, outcome) in [
                ("first packet of mail, allowed", 25, Allowed),
                ("first packet of submission, not allowed", 587, Refused),
            ] {
                let packets = packets::first(from, ELSEWHERE, port);
                cases.push(on(layer, what, packets, outcome));
            }
        }
        for (layer, v6) in self.connect.iter().zip([false, true]) {
            for (what, uid, port, outcome) in [
                ("TCP 443", USER, 443, Allowed),
                ("mail, allowed", USER, 25, Allowed),
                ("mail, limit used up", FULL_USER, 25, Refused),
            ] {
                cases.push(Case {
                    name: format!("{}: {what}", layer.name),
                    layer: Rc::clone(layer),
                    work: Work::Connects {
                        uid,
                        port,
                        v6,
                        outcome,
                    },
                });
            }
        }
        cases
    }

    /// Blocks a prefix; what that changes.
    pub fn blocked(&self, lab: &mut Lab) -> Vec<Case> {
        use Outcome::{Allowed, Refused};
        let mut draft = policy();
        let prefix = IpNet::from(IpAddr::from(BLOCKED));
        draft.0.blocked = PrefixSet::merged([prefix]);
        lab.apply(&draft.0);
        let settings = lab.loaded().maps.settings.get(0).unwrap();
        assert_ne!(settings.flags & flags::BLOCKED, 0);
        let mut cases = Vec::new();
        for (layer, what, from, to) in [
            (&self.guest, "to", ALLOWED, BLOCKED),
            (&self.uplink, "to", ALLOWED, BLOCKED),
            (&self.edge, "from", BLOCKED, ALLOWED),
        ] {
            let what = format!("first packet {what} a blocked address");
            cases.push(on(layer, &what, packets::first(from, to, 443), Refused));
            let what = "TCP 443, while others are blocked";
            cases.push(on(layer, what, packets::unrelated(), Allowed));
        }
        cases
    }
}

/// `TC_ACT_UNSPEC`.
const PASS_TC: i32 = -1;
const PASS_XDP: i32 = 2;

fn on(layer: &Rc<Layer>, what: &str, packets: Packets, outcome: Outcome) -> Case {
    Case {
        name: format!("{}: {what}", layer.name),
        layer: Rc::clone(layer),
        work: Work::Packets(packets, outcome),
    }
}

fn place(name: &str, side: Side) -> Place {
    Place {
        index: index(name),
        name: name.to_owned(),
        ethernet: true,
        side,
    }
}

/// Who sends: users, this process (root), and guests by their addresses.
fn policy() -> Draft {
    const ROOM: u32 = 1_000_000;
    let limit = window(ROOM, HOUR);
    let messages = ImageLimit {
        unit: Unit::Messages,
        ..limit
    };
    let mut draft = Draft::new()
        .tenant("root", NODE_NAME, &[limit])
        .tenant("user", NODE_NAME, &[limit])
        .tenant("full", NODE_NAME, &[window(1, HOUR)])
        .tenant("counted", NODE_NAME, &[limit, messages])
        .uid(0, "root")
        .uid(USER, "user")
        .uid(FULL_USER, "full");
    for (address, name) in [(ALLOWED, "user"), (FULL, "full"), (COUNTED, "counted")] {
        let tenant = draft.0.tenants.iter().position(|one| one.name == name);
        draft.0.addresses.push(AddressBinding {
            net: IpNet::from(IpAddr::from(address)),
            tenant: tenant.unwrap(),
            by: String::new(),
        });
    }
    let root = draft.0.tenants.iter_mut().find(|one| one.name == "root");
    root.unwrap().submission = Permission::Block;
    draft
}
