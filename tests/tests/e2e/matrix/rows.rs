//! The rows: who sends, how, who stops it, and what is seen then.

use limiter_tests::{
    disguise::{Disguise, Extension},
    machine,
    offload::Offload,
    orders::How,
};

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A user of the node.
    User,
    /// Somebody in a cgroup far below one that a tenant claims.
    Shop,
    /// Root of a container with its own users, told by its interface.
    Container,
    /// The same, told by its addresses.
    Addressed,
    /// The same, at a bridge.
    Bridged,
    /// The same, with a macvlan interface on the uplink; told by its cgroup.
    Macvlan,
    /// A virtual machine, told by its interface.
    Machine,
    /// The same, at a bridge.
    BridgedMachine,
    /// A virtual machine with a macvtap interface on the uplink; told by its addresses.
    Macvtap,
}

impl Who {
    /// Whether it sends by sockets of the machine's kernel from a network namespace of its own.
    pub fn has_kernel(self) -> bool {
        matches!(
            self,
            Self::Container | Self::Addressed | Self::Bridged | Self::Macvlan
        )
    }
}

/// How it sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a socket of the kernel's.
    Socket(How),
    /// By one of IPv6, to an IPv4 address.
    Mapped,
    /// To a port that is rewritten to 25 by a rule for this port.
    Rewritten(u16),
    /// Packets of its own making.
    Packets(Vec<Disguise>),
    /// The same, past the queueing discipline.
    Bypass,
    /// The same, by raw IP sockets.
    Raw(Vec<Disguise>),
    /// The same, where the checksum is to be written by the device, or what is said to be one.
    Offload(Offload),
    /// The same, with the source address of somebody else.
    Forged,
    /// The same, inside a tunnel that ends on the node.
    Tunnel,
}

/// What the sender sees when it is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// EPERM from the call.
    Eperm,
    /// A reset instead of the handshake: ECONNREFUSED.
    Refused,
    /// No service; whether a reset answers what is hardly a packet does not matter.
    Nothing,
}

/// What shows that a way gets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The server serves it.
    Session,
    /// The packets arrive: not every server understands them, and some may.
    Packets,
}

/// A layer, and what it makes of the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Its name.
    pub layer: &'static str,
    /// What the sender sees.
    pub sees: Sees,
}

/// One way of one kind of tenant.
#[derive(Clone, Debug)]
pub struct Row {
    /// Who sends.
    pub who: Who,
    /// How.
    pub way: Way,
    /// By IPv6.
    pub v6: bool,
    /// Who stops it, and who would if that were not there.
    pub stops: Vec<Stop>,
    /// What shows that it gets through.
    pub proof: Proof,
}

impl Row {
    /// What it is called in messages.
    pub fn name(&self) -> String {
        let family = if self.v6 { "v6" } else { "v4" };
        format!("{:?}, {family}, {:?}", self.who, self.way)
    }

    /// Whether this layer is to stop it.
    pub fn stopped_by(&self, layer: &str) -> bool {
        self.stops.first().is_some_and(|stop| stop.layer == layer)
    }
}

const CONNECT: Stop = Stop {
    layer: "connect",
    sees: Sees::Eperm,
};
const GUEST: Stop = Stop {
    layer: "guest",
    sees: Sees::Refused,
};
/// As the above, where no answer is given.
const UNHEARD_GUEST: Stop = Stop {
    sees: Sees::Nothing,
    ..GUEST
};
const UPLINK: Stop = Stop {
    layer: "uplink",
    sees: Sees::Refused,
};
/// The sender pretends to be another machine: the answer goes to the node, which it is not.
const UNHEARD_UPLINK: Stop = Stop {
    sees: Sees::Nothing,
    ..UPLINK
};

/// The rows of a node that routes.
pub fn routed() -> Vec<Row> {
    let mut rows = Vec::new();
    for v6 in [false, true] {
        // On the node itself: the caller is told by connect.
        for how in machine::ways_to_connect() {
            rows.extend(socket(Who::User, how, v6, &[CONNECT, UPLINK]));
        }
        rows.extend(socket(Who::Shop, How::Plain, v6, &[CONNECT, UPLINK]));
        for port in [2526, 2527] {
            rows.push(row(Who::User, Way::Rewritten(port), v6, &[UPLINK]));
            rows.push(row(Who::Shop, Way::Rewritten(port), v6, &[UPLINK]));
        }
        rows.push(row(Who::User, Way::Packets(Vec::new()), v6, &[UPLINK]));
        rows.push(row(Who::Shop, Way::Packets(Vec::new()), v6, &[UPLINK]));
        rows.push(row(Who::User, Way::Raw(Vec::new()), v6, &[UNHEARD_UPLINK]));

        // Containers: the interface tells whose it is.
        for how in machine::ways_to_connect() {
            rows.extend(socket(Who::Container, how, v6, &[GUEST, UPLINK]));
        }
        for who in [Who::Container, Who::Addressed] {
            rows.extend(from_container(who, v6, &[GUEST, UPLINK]));
        }
        // The bridge hides from the uplink by which port it came.
        rows.extend(from_container(Who::Bridged, v6, &[GUEST]));
        // It passes by the node, but not by its uplink.
        rows.extend(socket(Who::Macvlan, How::Plain, v6, &[CONNECT, UPLINK]));
        for way in [
            Way::Rewritten(2526),
            Way::Rewritten(2527),
            Way::Packets(Vec::new()),
            Way::Bypass,
            Way::Raw(Vec::new()),
        ] {
            rows.push(row(Who::Macvlan, way, v6, &[UPLINK]));
        }

        for (who, stops) in [
            (Who::Machine, &[GUEST, UPLINK][..]),
            (Who::BridgedMachine, &[GUEST]),
            (Who::Macvtap, &[UPLINK]),
        ] {
            rows.push(row(who, Way::Packets(Vec::new()), v6, stops));
        }
        for (disguises, proof) in disguises(v6, false) {
            rows.push(disguised(
                Who::Machine,
                v6,
                disguises,
                proof,
                &[GUEST, UPLINK],
            ));
        }
        rows.push(forged(Who::Machine, v6));
        rows.push(forged(Who::Container, v6));
        for (who, stops) in [
            (Who::User, &[UNHEARD_UPLINK][..]),
            (Who::Macvlan, &[UNHEARD_UPLINK]),
            (Who::Macvtap, &[UNHEARD_UPLINK]),
            (Who::Container, &[UNHEARD_GUEST, UNHEARD_UPLINK]),
            (Who::Addressed, &[UNHEARD_GUEST, UNHEARD_UPLINK]),
            (Who::Machine, &[UNHEARD_GUEST, UNHEARD_UPLINK]),
        ] {
            rows.push(row(who, Way::Offload(Offload::OverPort), v6, stops));
            if v6 {
                rows.push(row(who, Way::Offload(Offload::OverProtocol), v6, stops));
            }
        }
        for who in [Who::Container, Who::Machine] {
            let way = Way::Offload(Offload::Checksum);
            rows.push(row(who, way, v6, &[GUEST, UPLINK]));
        }
    }
    for who in [Who::User, Who::Container] {
        let stops: &[Stop] = match who {
            Who::User => &[CONNECT, UPLINK],
            _ => &[GUEST, UPLINK],
        };
        rows.push(row(who, Way::Mapped, false, stops));
    }
    for who in [Who::Container, Who::Machine] {
        // Behind the tunnel nothing tells whose it is. An answer would have to be put into a tunnel
        // back, of which the kernel's programs know too little.
        rows.push(row(who, Way::Tunnel, false, &[UNHEARD_GUEST]));
    }
    rows
}

/// The rows of a node whose guests are on the same network as the outside.
pub fn flat() -> Vec<Row> {
    let mut rows = Vec::new();
    for v6 in [false, true] {
        rows.extend(from_container(Who::Bridged, v6, &[GUEST, UPLINK]));
        let plain = Way::Packets(Vec::new());
        rows.push(row(Who::BridgedMachine, plain, v6, &[GUEST, UPLINK]));
        rows.push(forged(Who::BridgedMachine, v6));
        for who in [Who::Bridged, Who::BridgedMachine] {
            let stops = &[UNHEARD_GUEST, UNHEARD_UPLINK];
            rows.push(row(who, Way::Offload(Offload::OverPort), v6, stops));
            if v6 {
                rows.push(row(who, Way::Offload(Offload::OverProtocol), v6, stops));
            }
            for honest in [Offload::Checksum, Offload::Segments(40)] {
                rows.push(row(who, Way::Offload(honest), v6, &[GUEST, UPLINK]));
            }
        }
        for (disguises, proof) in disguises(v6, true) {
            let stops = &[GUEST, UPLINK];
            rows.push(disguised(Who::BridgedMachine, v6, disguises, proof, stops));
        }
    }
    rows
}

/// One plain row for each kind of tenant and family.
pub fn plain(rows: Vec<Row>) -> Vec<Row> {
    let mut plain: Vec<Row> = Vec::new();
    for row in rows {
        let is_plain = match &row.way {
            Way::Socket(how) => *how == How::Plain,
            Way::Packets(disguises) => disguises.is_empty() && !row.who.has_kernel(),
            _ => false,
        };
        let is_new = !plain.iter().any(|other| other.who == row.who);
        if is_plain && is_new {
            plain.push(row);
        }
    }
    plain
}

/// Of each kind of tenant, layer that stops it and family the plainest row, and a few more: for
/// machines on which a row takes long.
pub fn core(rows: Vec<Row>) -> Vec<Row> {
    let mut core: Vec<Row> = Vec::new();
    for row in rows {
        let is_new = !core.iter().any(|other| {
            (other.who, other.v6, other.stops.first()) == (row.who, row.v6, row.stops.first())
        });
        let has_many_parts = |disguises: &Vec<Disguise>| match &disguises[..] {
            [Disguise::Fragments { .. }] => !core.iter().any(|other| is_fragmented(&other.way)),
            [Disguise::Extensions(headers)] => headers.len() == 4,
            [Disguise::Nops(1)] => true,
            _ => false,
        };
        let is_special = match &row.way {
            Way::Socket(how) => {
                let ways = [How::FastOpenSend, How::Mptcp, How::IoUringWorker];
                row.who == Who::User && !row.v6 && ways.contains(how)
            }
            Way::Mapped | Way::Tunnel => true,
            Way::Packets(disguises) => has_many_parts(disguises),
            _ => false,
        };
        if is_new || is_special {
            core.push(row);
        }
    }
    core
}

fn is_fragmented(way: &Way) -> bool {
    matches!(way, Way::Packets(disguises) if matches!(disguises[..], [Disguise::Fragments { .. }]))
}

fn row(who: Who, way: Way, v6: bool, stops: &[Stop]) -> Row {
    Row {
        who,
        way,
        v6,
        stops: stops.to_vec(),
        proof: Proof::Session,
    }
}

fn socket(who: Who, how: How, v6: bool, stops: &[Stop]) -> Option<Row> {
    Some(row(who, Way::Socket(how), v6, stops))
}

/// What root of a container can do.
fn from_container(who: Who, v6: bool, stops: &[Stop]) -> Vec<Row> {
    let ways = [
        Way::Socket(How::Plain),
        Way::Rewritten(2526),
        Way::Rewritten(2527),
        Way::Packets(Vec::new()),
        Way::Bypass,
        Way::Raw(Vec::new()),
    ];
    ways.map(|way| row(who, way, v6, stops)).into()
}

/// Answers go to somebody else, unless it is stopped where it comes in: then the one who sends it
/// learns it.
fn forged(who: Who, v6: bool) -> Row {
    Row {
        proof: Proof::Packets,
        ..row(who, Way::Forged, v6, &[GUEST, UNHEARD_UPLINK])
    }
}

/// What is hardly a packet need not be answered with one.
fn disguised(who: Who, v6: bool, disguises: Vec<Disguise>, proof: Proof, stops: &[Stop]) -> Row {
    let stops = stops.iter().map(|stop| Stop {
        sees: Sees::Nothing,
        ..*stop
    });
    Row {
        who,
        way: Way::Packets(disguises),
        v6,
        stops: stops.collect(),
        proof,
    }
}

/// Every disguise of the family, and whether the servers here see through it. Behind a router
/// nothing arrives that the router does not understand; a bridge passes everything on.
fn disguises(v6: bool, bridged: bool) -> Vec<(Vec<Disguise>, Proof)> {
    use Disguise::{
        Extensions, FalseFirst, Fragments, HeaderWords, NoLength, Nops, Snap, Syn, Trailer, Vlan,
    };
    use Extension::{Atomic, Authentication, Destination, HopByHop, Routing, Unknown};
    let fragments = |first, reversed, overlap| Fragments {
        first,
        reversed,
        overlap,
    };
    let tag = |protocol, vlan| Vlan { protocol, vlan };
    let syn = |flags, data| Syn { flags, data };
    let (session, packets) = (Proof::Session, Proof::Packets);
    let mut all = vec![
        // Of IPv6 the whole TCP header has to be in the first, or receivers drop it.
        (
            vec![fragments(8, false, 0)],
            if v6 { packets } else { session },
        ),
        (
            vec![fragments(8, true, 0)],
            if v6 { packets } else { session },
        ),
        (vec![fragments(24, false, 0)], session),
        (vec![fragments(24, true, 0)], session),
        (vec![fragments(16, false, 8)], packets),
        (vec![fragments(16, true, 8)], packets),
        (vec![FalseFirst(80)], packets),
        (vec![Trailer(9)], session),
        // A priority without a VLAN: hosts that know of no VLANs take it.
        (vec![tag(0x8100, 0)], session),
        (vec![tag(0x88a8, 0)], session),
        (vec![tag(0x8100, 0xe000)], session),
        (vec![tag(0x8100, 0), tag(0x88a8, 0)], session),
        (vec![tag(0x8100, 0), tag(0x8100, 0)], session),
        (vec![syn(0x08, false)], session),
        (vec![syn(0xc0, false)], session),
        (vec![syn(0, true)], session),
        (vec![syn(0x20, false)], session),
        (vec![syn(0x01, false)], packets),
    ];
    if bridged {
        all.extend([
            (vec![tag(0x8100, 5)], packets),
            (vec![tag(0x8100, 5), tag(0x88a8, 7)], packets),
            (
                vec![tag(0x8100, 1), tag(0x8100, 2), tag(0x88a8, 3)],
                packets,
            ),
            (vec![Snap], packets),
            (vec![NoLength], packets),
        ]);
    }
    if !v6 {
        all.extend([
            (vec![Nops(1)], session),
            (vec![Nops(10)], session),
            (vec![Nops(3), fragments(8, true, 0)], session),
            (
                vec![Nops(3), fragments(8, false, 0), tag(0x8100, 0)],
                session,
            ),
        ]);
        if bridged {
            // Not six: then everybody reads a number that is not 25 where the port would be.
            all.extend([
                (vec![HeaderWords(4)], packets),
                (vec![HeaderWords(0)], packets),
                (vec![HeaderWords(15)], packets),
            ]);
        }
        return all;
    }
    all.extend([
        (vec![Extensions(vec![HopByHop(1)])], session),
        (vec![Extensions(vec![Destination(1)])], session),
        (vec![Extensions(vec![Destination(32)])], session),
        (vec![Extensions(vec![Routing(0)])], session),
        (vec![Extensions(vec![Atomic])], session),
        (
            vec![Extensions(vec![
                HopByHop(1),
                Destination(1),
                Routing(0),
                Atomic,
            ])],
            session,
        ),
        (vec![Extensions(vec![Destination(1); 8])], session),
        (vec![Extensions(vec![Destination(1); 20])], session),
        (vec![Extensions(vec![Routing(4)])], packets),
        (vec![Extensions(vec![Authentication(6)])], packets),
        (
            vec![Extensions(vec![Authentication(4), Destination(1)])],
            packets,
        ),
        (
            vec![Extensions(vec![Destination(2), Unknown(140)])],
            packets,
        ),
        (vec![Extensions(vec![Unknown(253)])], packets),
        (
            vec![Extensions(vec![Destination(1)]), fragments(8, false, 0)],
            packets,
        ),
        (
            vec![Extensions(vec![Destination(1)]), fragments(32, true, 0)],
            session,
        ),
        (
            vec![fragments(24, false, 0), Extensions(vec![Destination(1)])],
            session,
        ),
        (
            vec![Extensions(vec![Destination(1)]), tag(0x88a8, 0)],
            session,
        ),
    ]);
    all
}
