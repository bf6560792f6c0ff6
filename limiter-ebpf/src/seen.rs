//! A packet that could be mail, and who sent it: judged the same way at every layer that sees
//! packets.

use limiter_common::{
    abi::{DEFAULT, NOBODY},
    address::{self, Address},
    event,
    flow::{Departure, DepartureKey, Flow, FlowKey, RETRY_NS, VisitKey, flow_flags},
    owner::{Owner, Parties},
    packet::{Kind, Packet},
    settings::{self, Settings},
    smtp::Session,
    verdict::{Layer, PortGroup, Reason},
};

use crate::{
    blocked,
    judge::{self, Decision, Judgement, Question, ask},
    kernel, maps,
    report::{self, Facts},
    skb::{Skb, group_of},
    who::{self, Socket},
};

/// A packet and who sent it.
#[derive(Clone, Copy)]
pub struct Seen {
    /// The packet.
    pub packet: Packet,
    /// Who sent it.
    pub owner: Owner,
    /// The interface where it came in; where it goes out, of what the node sends.
    pub interface: u32,
    /// The uid of the socket's creator, where one is known.
    pub uid: u32,
    /// Where the kernel looks.
    pub layer: Layer,
    /// [`event::flags`] of what is known.
    pub flags: u8,
    /// The cgroup of the socket's creator, where one is known.
    pub cgroup_id: u64,
}

/// What is to be done with a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Act {
    /// Let it go: nobody's affair.
    Pass = 0,
    /// Let it go: it was judged.
    Judged = 1,
    /// Drop it.
    Drop = 2,
    /// Answer it with a reset.
    Reset = 3,
}

impl Act {
    /// The act that a number stands for.
    #[inline(always)]
    pub const fn of(number: u32) -> Self {
        match number {
            0 => Self::Pass,
            1 => Self::Judged,
            2 => Self::Drop,
            _ => Self::Reset,
        }
    }
}

/// While one of these is set, packets of every port are judged.
pub const UNUSUAL: u32 =
    settings::flags::SUSPENSIONS | settings::flags::BLOCKED | settings::flags::NULL_ROUTES;

impl Seen {
    /// Nothing yet.
    #[inline(always)]
    pub fn new(layer: Layer, interface: u32) -> Self {
        Self {
            packet: Packet::default(),
            owner: Owner::NOBODY,
            interface,
            uid: 0,
            layer,
            flags: 0,
            cgroup_id: 0,
        }
    }

    /// Reads the packet. A frame of its own.
    #[inline(never)]
    pub fn read<const L2: bool>(&mut self, skb: Skb) {
        self.packet = if L2 {
            Packet::of_frame(&skb, skb.len())
        } else {
            Packet::of_ip(&skb, skb.len())
        };
        if !skb.is_final(&self.packet) {
            self.packet.kind = Kind::Unresolved;
        }
        kernel::forget(&mut self.packet);
    }

    /// Looks inside a tunnel: if there is something that could be mail, that is the packet. A frame
    /// of its own.
    #[inline(never)]
    pub fn look_inside(&mut self, skb: Skb) {
        let mut inner = self.packet.inside(&skb, skb.len());
        if !skb.is_final(&inner) && !skb.sums_up_outside(&self.packet) {
            inner.kind = Kind::Unresolved;
        }
        kernel::forget(&mut inner);
        if matches!(inner.kind, Kind::Tcp | Kind::Unresolved | Kind::Rest) {
            self.packet = inner;
        }
    }

    /// Notes down whose the socket is. In another network namespace only its cgroup counts. A frame
    /// of its own.
    #[inline(never)]
    pub fn sent_by(&mut self, socket: Socket, local: bool, settings: &Settings) {
        self.owner = socket.owner(local, settings);
        self.uid = socket.uid();
        self.cgroup_id = socket.cgroup_id();
        self.flags |= event::flags::HAS_SOCKET;
        if !local {
            self.flags |= event::flags::FOREIGN_NAMESPACE;
        }
        kernel::forget(&mut self.owner);
    }

    /// If nobody is known yet: whose the interface is, then whose the source address. A frame of its
    /// own.
    #[inline(never)]
    pub fn came_in(&mut self, interface_owner: u32) {
        if self.owner == Owner::NOBODY {
            self.owner = Owner::from_wire(interface_owner);
        }
        if self.owner == Owner::NOBODY {
            self.owner = who::address_owner(&self.packet.source);
        }
        kernel::forget(&mut self.owner);
    }

    /// What the port is used for. What cannot be read could be mail.
    #[inline(always)]
    pub fn group(&self) -> PortGroup {
        match self.packet.kind {
            Kind::Unresolved => PortGroup::Smtp,
            Kind::Tcp => group_of(self.packet.destination_port),
            Kind::Foreign | Kind::Other | Kind::Rest => PortGroup::Other,
        }
    }

    /// The tenant that pays.
    #[inline(always)]
    pub fn payer(&self) -> u32 {
        if self.owner.is_tenant() {
            self.owner.index()
        } else {
            DEFAULT
        }
    }

    /// Whether it stays on this node.
    #[inline(always)]
    pub fn stays(&self) -> bool {
        let destination = &self.packet.destination;
        // Nowhere is where what could not be read goes: not to this node.
        if is_nowhere(destination) {
            return false;
        }
        // SAFETY: only whether it is there counts.
        address::is_loopback(destination)
            || unsafe { maps::OWN_ADDRESSES.get(*destination) }.is_some()
    }

    #[inline(always)]
    fn key(&self) -> FlowKey {
        FlowKey {
            source: self.packet.source,
            destination: self.packet.destination,
            source_port: self.packet.source_port,
            destination_port: self.packet.destination_port,
            // Addresses can be forged: nobody's packets are another tenant's connection. A
            // tenant's are its own by whatever interface they come.
            payer: self.payer(),
        }
    }
}

/// Whether an address is the unspecified one, of either kind.
#[inline(always)]
const fn is_nowhere(address: &Address) -> bool {
    matches!(
        *address,
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
            | [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]
    )
}

/// What is to be done with a packet, and what is to be told of it, as a plain number: ways that lead
/// to the same are one for the verifier.
#[derive(Clone, Copy)]
pub struct Opinion(u64);

/// Beside a judgement: tell of it.
const TELL: u64 = 1 << 26;

impl Opinion {
    #[inline(always)]
    const fn silent(act: Act) -> Self {
        Self((act as u64) << 24)
    }

    #[inline(always)]
    const fn told(judgement: Judgement, act: Act) -> Self {
        Self(judgement.to_wire() | (act as u64) << 24 | TELL)
    }

    /// What a judgement means for a packet.
    #[inline(always)]
    pub fn of(judgement: Judgement, packet: &Packet) -> Self {
        let act = if !judgement.refuses() {
            Act::Judged
        } else if packet.kind == Kind::Tcp && !packet.inner {
            Act::Reset
        } else {
            Act::Drop
        };
        Self::told(judgement, act)
    }

    /// What is to be done.
    #[inline(always)]
    pub const fn act(self) -> Act {
        Act::of((self.0 >> 24 & 3) as u32)
    }

    /// What is to be told, if something is.
    #[inline(always)]
    pub const fn news(self) -> Option<Judgement> {
        if self.0 & TELL == 0 {
            None
        } else {
            Some(Judgement::from_wire(self.0 & !(TELL | 3 << 24)))
        }
    }
}

/// Judges a packet, tells of it, and says what is to be done.
#[inline(always)]
pub fn judge(seen: &mut Seen, settings: &Settings, now_ns: u64) -> Act {
    kernel::forget(seen);
    let mut opinion = opinion(seen, settings, now_ns);
    kernel::forget(&mut opinion);
    if let Some(judgement) = opinion.news() {
        tell(seen, judgement, now_ns);
    }
    opinion.act()
}

/// Whether a packet may be the first of something. Of a fragment that hides its flags it is not
/// known.
#[inline(always)]
pub const fn is_first(packet: &Packet) -> bool {
    packet.opens() || packet.truncated || !matches!(packet.kind, Kind::Tcp)
}

/// Whether it only asks neighbours for their addresses, or tells the node of one: without that
/// nothing that stays reachable under a suspension is. The node asks from its own address.
#[inline(always)]
fn is_neighbourly(seen: &Seen) -> bool {
    const ICMPV6: u8 = 58;
    let packet = &seen.packet;
    matches!(packet.kind, Kind::Other)
        && packet.v6
        && packet.protocol == ICMPV6
        && (matches!(packet.destination, [0xff, 2, ..])
            || packet.destination[0] == 0xfe && packet.destination[1] & 0xc0 == 0x80
            || seen.stays())
}

/// Judges a packet. A frame of its own.
#[inline(never)]
fn opinion(seen: &Seen, settings: &Settings, now_ns: u64) -> Opinion {
    let packet = &seen.packet;
    let mut group = seen.group();
    let mut is_mail = matches!(group, PortGroup::Smtp | PortGroup::Submission);
    if !is_mail
        && settings.flags & UNUSUAL == 0
        && (matches!(group, PortGroup::Other) || settings.flags & settings::flags::SANCTIONS == 0)
    {
        return Opinion::silent(Act::Pass);
    }
    if settings.flags & settings::flags::BLOCKED != 0
        && is_first(packet)
        && blocked::matches(&packet.destination)
    {
        let judgement = Judgement::of_node(settings, Reason::BlockedAddress, now_ns);
        return Opinion::of(judgement, packet);
    }
    // Mail to the node itself is its MTA's affair, unless its sender's network is suspended.
    if !matches!(group, PortGroup::Other) && seen.stays() {
        if settings.flags & settings::flags::SUSPENSIONS == 0 {
            return Opinion::silent(Act::Pass);
        }
        group = PortGroup::Other;
        is_mail = false;
    }
    if is_neighbourly(seen) {
        return Opinion::silent(Act::Pass);
    }
    if seen.owner == Owner::MTA {
        return Opinion::silent(Act::Judged);
    }
    if is_mail && (packet.truncated || packet.kind == Kind::Unresolved) {
        let judgement = judge::refusal(settings, seen.payer(), Reason::Unparsable, now_ns);
        return Opinion::of(judgement, packet);
    }
    let mut question = Question {
        group,
        port: packet.destination_port,
        ask: 0,
    };
    let mut before = 0;
    if is_mail {
        // What carries nothing does no harm: acknowledgements, ends.
        if !packet.opens() && packet.payload_len == 0 {
            return Opinion::silent(Act::Judged);
        }
        before = follow(seen, now_ns);
        if before & NEW != 0 {
            question.ask = ask::LIMITS | ask::COUNT;
        } else if before & flow_flags::REFUSED != 0
            || (before & flow_flags::CUT != 0 && !packet.opens())
        {
            return Opinion::silent(Act::Reset);
        }
    }
    let parties = Parties {
        payer: seen.payer(),
        other: NOBODY,
    };
    let judgement = judge::judge(&parties, question, &packet.destination, now_ns);
    if judgement.kind() == Decision::Admit {
        return if question.ask == 0 {
            Opinion::silent(Act::Judged)
        } else {
            Opinion::told(judgement, Act::Judged)
        };
    }
    if is_mail {
        note(
            seen,
            if judgement.refuses() {
                flow_flags::REFUSED | flow_flags::TOLD
            } else {
                flow_flags::TOLD
            },
        );
    }
    let opinion = Opinion::of(judgement, packet);
    // That it would be refused is told once; that it is refused after all is something else.
    if before & flow_flags::TOLD != 0 && !judgement.refuses() {
        Opinion::silent(opinion.act())
    } else {
        opinion
    }
}

/// Beside flags of a flow: it is a new attempt.
const NEW: u32 = 1 << 31;

/// What is remembered of the connection, [`NEW`] for an attempt that was not seen before: its
/// first packet, repeated, is still the same attempt. A frame of its own, for its key is large.
#[inline(never)]
fn follow(seen: &Seen, now_ns: u64) -> u32 {
    let packet = &seen.packet;
    let key = seen.key();
    let opens = packet.opens();
    if let Some(flow) = maps::FLOWS.get_ptr_mut(key) {
        // SAFETY: looked up; words that only this connection's packets change.
        unsafe {
            let flags = core::ptr::read_volatile(&raw const (*flow).flags);
            if !opens {
                core::ptr::write_volatile(&raw mut (*flow).flags, flags | flow_flags::PROGRESSED);
                return flags;
            }
            // With data in it the same first packet again can be the same mail again.
            let again = (*flow).isn == packet.seq
                && packet.payload_len == 0
                && flags & flow_flags::PROGRESSED == 0
                && now_ns.wrapping_sub((*flow).since_ns) < RETRY_NS;
            if again {
                return flags;
            }
        }
    }
    let session = first_session(packet);
    let flow = Flow {
        since_ns: now_ns,
        isn: packet.seq,
        flags: if opens { 0 } else { flow_flags::PROGRESSED },
        tenant: seen.payer(),
        reserved: 0,
        session,
    };
    if maps::FLOWS.insert(key, flow, 0).is_err() {
        report::internal();
    }
    if opens { NEW } else { 0 }
}

/// What is known of a session when its first packet is seen.
#[inline(always)]
pub fn first_session(packet: &Packet) -> Session {
    if !packet.opens() {
        Session::unknown()
    } else if packet.destination_port == IMPLICIT_TLS {
        Session::implicit_tls(packet.seq)
    } else {
        let mut session = Session::open(packet.seq);
        if packet.payload_len != 0 {
            // Whether the server takes data in the first packet is not known.
            session.distrust();
        }
        session
    }
}

/// What is known of a session whose first segment with an acknowledgement is `packet`; `fresh` if
/// nothing was sent before.
#[inline(always)]
pub fn session_from(packet: &Packet, fresh: bool) -> Session {
    if !fresh || packet.payload_len != 0 {
        return Session::unknown();
    }
    let isn = packet.seq.wrapping_sub(1);
    if packet.destination_port == IMPLICIT_TLS {
        Session::implicit_tls(isn)
    } else {
        Session::open(isn)
    }
}

/// The submission port where TLS comes first.
const IMPLICIT_TLS: u16 = 465;

/// Notes down flags of the connection.
#[inline(never)]
pub fn note(seen: &Seen, flags: u32) -> u32 {
    if let Some(flow) = maps::FLOWS.get_ptr_mut(seen.key()) {
        // SAFETY: as in `follow`.
        unsafe {
            let old = core::ptr::read_volatile(&raw const (*flow).flags);
            core::ptr::write_volatile(&raw mut (*flow).flags, old | flags);
        }
    }
    0
}

/// The session of the connection, if it is remembered.
#[inline(never)]
pub fn flow_of(seen: &Seen) -> Option<*mut Flow> {
    maps::FLOWS.get_ptr_mut(seen.key())
}

/// Notes down whose the first packet of a connection is, for the uplink to tell where it leaves
/// from. 1 if it is one, else 0. A frame of its own, for its key.
#[inline(never)]
pub fn leave(seen: &Seen) -> u32 {
    let packet = &seen.packet;
    if !packet.opens() {
        return 0;
    }
    let Some(flow) = flow_of(seen) else { return 0 };
    // SAFETY: looked up.
    let departure = unsafe {
        Departure {
            since_ns: core::ptr::read_volatile(&raw const (*flow).since_ns),
            tenant: core::ptr::read_volatile(&raw const (*flow).tenant),
            reserved: 0,
        }
    };
    // Without room for it nobody learns where it left from, and nothing else is lost.
    let _ = maps::DEPARTURES.insert(departure_key(packet), departure, 0);
    1
}

/// Notes down by which interface the first packet of a connection to a mail port of this node came in:
/// the node's mail server sees only an address, and that a guest can forge. A frame of its own, for its
/// key.
#[inline(never)]
pub fn visit(seen: &Seen) -> u32 {
    let packet = &seen.packet;
    let is_mail = matches!(seen.group(), PortGroup::Smtp | PortGroup::Submission);
    if !is_mail || !packet.opens() || !seen.stays() {
        return 0;
    }
    let key = VisitKey {
        source: packet.source,
        source_port: packet.source_port,
        destination_port: packet.destination_port,
    };
    if maps::VISITS.insert(key, seen.interface, 0).is_err() {
        report::internal();
    }
    1
}

/// Tells where a connection leaves from whose first packet a guest sent. A frame of its own.
#[inline(never)]
pub fn depart(packet: &Packet) -> u32 {
    // SAFETY: only this connection's first packet changes it.
    let found = unsafe { maps::DEPARTURES.get(departure_key(packet)) };
    if let Some(departure) = found {
        report::departed(packet, departure.tenant, departure.since_ns);
    }
    0
}

#[inline(always)]
fn departure_key(packet: &Packet) -> DepartureKey {
    DepartureKey {
        destination: packet.destination,
        isn: packet.seq,
        destination_port: packet.destination_port,
        reserved: 0,
    }
}

/// Counts and tells what became of a packet. A frame of its own: what is told is large.
#[inline(never)]
pub fn tell(seen: &Seen, judgement: Judgement, now_ns: u64) -> u32 {
    let packet = &seen.packet;
    let facts = Facts {
        tenant: seen.payer(),
        destination: packet.destination,
        destination_port: packet.destination_port,
        source_port: packet.source_port,
        source: packet.source,
        interface: seen.interface,
        layer: seen.layer,
        flags: seen.flags,
        uid: seen.uid,
        cgroup_id: seen.cgroup_id,
        now_ns,
    };
    if judgement.kind() == Decision::Admit {
        if let Some(settings) = maps::SETTINGS.get(0) {
            report::allowed::<false>(settings, &facts);
        }
        return 0;
    }
    report::notable::<false>(&facts, &judgement.ruling());
    0
}
