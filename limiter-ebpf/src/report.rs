//! Telling the agent: exact counters always, events at the pace that [`Stats::report`] sets.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_get_current_pid_tgid, bpf_get_current_uid_gid, generated},
};
use limiter_common::{
    address::Address,
    event::{self, Attempt, COMM_LEN, attempt_flags},
    limit::LimitDef,
    packet::Packet,
    settings::{self, Settings},
    stats::{Health, Stats},
    verdict::{Layer, PortGroup, Reason, Verdict},
};

use crate::{kernel, maps};

/// What an attempt was.
#[derive(Clone, Copy)]
pub struct Facts {
    /// Who pays for it.
    pub tenant: u32,
    /// Where to.
    pub destination: Address,
    /// Destination port in host order.
    pub destination_port: u16,
    /// Source port in host order, 0 if it has none yet.
    pub source_port: u16,
    /// Source address, zero if it has none yet.
    pub source: Address,
    /// The interface it is bound to, 0 if none.
    pub interface: u32,
    /// Where the kernel looked.
    pub layer: Layer,
    /// [`event::flags`] that are known already.
    pub flags: u8,
    /// The uid of the socket's creator, where no task is known.
    pub uid: u32,
    /// The cgroup of the socket's creator, where no task is known.
    pub cgroup_id: u64,
    /// The kernel's clock, ns.
    pub now_ns: u64,
}

/// What became of it.
#[derive(Clone, Copy)]
pub struct Ruling {
    /// The verdict.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The tenant whose limit is used up, [`NOBODY`] if it was no limit.
    pub limit_owner: u32,
    /// The limit.
    pub limit: LimitDef,
}

/// Counts an allowed attempt, and records it if the node wants that.
#[inline(always)]
pub fn allowed<const TASK: bool>(settings: &Settings, facts: &Facts) {
    if let Some(stats) = maps::STATS.get_ptr_mut(facts.tenant) {
        // The result is not used: 5.10 can add atomically but not fetch.
        // SAFETY: looked up, aligned; nobody changes `allowed` in another way.
        unsafe {
            atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(&raw mut (*stats).allowed, 1);
        }
        if is_smtp(facts.destination_port) {
            // SAFETY: as above.
            unsafe {
                atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(&raw mut (*stats).sent, 1);
            }
        }
    } else {
        internal();
    }
    if settings.flags & settings::flags::RECORD_ALLOWED != 0 {
        record::<TASK>(facts);
    }
}

/// Whether mail goes from server to server there. At other ports anybody can be connected to without a
/// word of mail.
#[inline(always)]
fn is_smtp(port: u16) -> bool {
    maps::PORTS
        .get(0)
        .is_some_and(|ports| ports.groups[usize::from(port)] == PortGroup::Smtp as u8)
}

/// Counts a message that went in through the node's own mail server, to so many recipients; whether
/// there is room for it.
#[inline(always)]
pub fn went(tenant: u32, recipients: u64) -> bool {
    let Some(stats) = maps::STATS.get_ptr_mut(tenant) else {
        return false;
    };
    // SAFETY: as in `allowed`.
    unsafe {
        atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(&raw mut (*stats).allowed, 1);
        atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(&raw mut (*stats).sent, recipients);
    }
    true
}

/// Hands an allowed attempt to the agent.
#[inline(never)]
fn record<const TASK: bool>(facts: &Facts) {
    // Filled in the ring: there is no room for it on the stack.
    let Some(mut place) = maps::ATTEMPTS.reserve(0) else {
        health(|health| health.attempts_lost += 1);
        return;
    };
    // SAFETY: reserved for one attempt, of which every field is written.
    unsafe {
        let attempt = place.as_mut_ptr();
        (*attempt).time_ns = facts.now_ns;
        (*attempt).tenant = facts.tenant;
        (*attempt).uid = uid::<TASK>(facts);
        (*attempt).pid = if TASK { current_pid() } else { 0 };
        (*attempt).destination_port = facts.destination_port;
        (*attempt).source_port = facts.source_port;
        (*attempt).layer = facts.layer as u8;
        (*attempt).flags = 0;
        zero(&mut (*attempt).reserved);
        (*attempt).source = facts.source;
        (*attempt).destination = facts.destination;
    }
    place.submit(wake());
}

/// Tells where an attempt left from that was told before.
#[inline(never)]
pub fn departed(packet: &Packet, tenant: u32, since_ns: u64) {
    let Some(settings) = maps::SETTINGS.get(0) else {
        internal();
        return;
    };
    if settings.flags & settings::flags::RECORD_ALLOWED == 0 {
        return;
    }
    let Some(mut place) = maps::ATTEMPTS.reserve(0) else {
        health(|health| health.attempts_lost += 1);
        return;
    };
    // SAFETY: reserved for one attempt, of which every field is written.
    unsafe {
        let attempt = place.as_mut_ptr();
        (*attempt).time_ns = since_ns;
        (*attempt).tenant = tenant;
        (*attempt).uid = 0;
        (*attempt).pid = 0;
        (*attempt).destination_port = packet.destination_port;
        (*attempt).source_port = packet.source_port;
        (*attempt).layer = Layer::Uplink as u8;
        (*attempt).flags = attempt_flags::DEPARTURE;
        zero(&mut (*attempt).reserved);
        (*attempt).source = packet.source;
        (*attempt).destination = packet.destination;
    }
    place.submit(wake());
}

/// Whether the agent is woken for an allowed attempt. It looks four times a second; woken it is when so
/// many came that the ring could be full before, and again for so many more.
#[inline(always)]
fn wake() -> u64 {
    const MANY: u64 = 256 << 10;
    const MORE: u64 = 16 << 10;
    const EACH: u64 = size_of::<Attempt>() as u64 + 8;
    let ring = (&raw const maps::ATTEMPTS).cast_mut().cast();
    // SAFETY: a ring buffer of this object's.
    let waiting = unsafe { generated::bpf_ringbuf_query(ring, u64::from(BPF_RB_AVAIL_DATA)) };
    if waiting >= MANY && waiting % MORE < EACH {
        u64::from(BPF_RB_FORCE_WAKEUP)
    } else {
        u64::from(BPF_RB_NO_WAKEUP)
    }
}

/// Counts an attempt that was not simply allowed, and tells of it if that is due.
#[inline(always)]
pub fn notable<const TASK: bool>(facts: &Facts, ruling: &Ruling) {
    let Some(stats) = maps::STATS.get_ptr_mut(facts.tenant) else {
        internal();
        return;
    };
    let (repeated, total) = count(stats, facts.now_ns, uid::<TASK>(facts), ruling);
    if repeated != 0 {
        tell::<TASK>(facts, ruling, repeated, total);
    }
}

/// Counts under the lock; returns how many attempts an event now stands for, and how many there
/// were in all.
#[inline(always)]
fn count(stats: *mut Stats, now_ns: u64, uid: u32, ruling: &Ruling) -> (u64, u64) {
    // SAFETY: looked up, no lock held; between lock and unlock nothing is called, and all fields
    // touched are only changed under the lock.
    unsafe {
        kernel::lock(&raw mut (*stats).lock);
        match ruling.verdict {
            Verdict::Denied => (*stats).denied += 1,
            Verdict::Redirected => (*stats).redirected += 1,
            Verdict::Allowed | Verdict::WouldDeny => (*stats).would_deny += 1,
        }
        let repeated = (*stats).report(now_ns, ruling.reason, uid);
        let total = (*stats).notable();
        kernel::unlock(&raw mut (*stats).lock);
        (repeated, total)
    }
}

/// Hands an event to the agent. What does not fit is counted.
#[inline(never)]
fn tell<const TASK: bool>(facts: &Facts, ruling: &Ruling, repeated: u64, total: u64) {
    let mut flags = facts.flags;
    if TASK {
        flags |= event::flags::HAS_TASK;
    }
    if facts.source != [0; 16] {
        flags |= event::flags::HAS_SOURCE;
    }
    // Filled in the ring: there is no room for it on the stack.
    let Some(mut place) = maps::EVENTS.reserve(0) else {
        health(|health| health.events_lost += repeated);
        return;
    };
    let event = place.as_mut_ptr();
    // SAFETY: reserved for one event, of which every field is written; the name's field is as long
    // as said.
    unsafe {
        (*event).time_ns = facts.now_ns;
        (*event).repeated = repeated;
        (*event).total = total;
        (*event).cgroup_id = if TASK {
            generated::bpf_get_current_cgroup_id()
        } else {
            facts.cgroup_id
        };
        (*event).limit_span_ns = ruling.limit.span_ns;
        (*event).tenant = facts.tenant;
        (*event).limit_owner = ruling.limit_owner;
        (*event).limit_max = ruling.limit.max;
        (*event).uid = uid::<TASK>(facts);
        (*event).pid = if TASK { current_pid() } else { 0 };
        (*event).interface = facts.interface;
        (*event).source_port = facts.source_port;
        (*event).destination_port = facts.destination_port;
        (*event).verdict = ruling.verdict as u8;
        (*event).reason = ruling.reason as u8;
        (*event).layer = facts.layer as u8;
        (*event).flags = flags;
        (*event).limit_unit = ruling.limit.unit;
        (*event).limit_kind = ruling.limit.kind;
        if TASK {
            #[expect(clippy::cast_possible_truncation, reason = "sixteen")]
            let room = COMM_LEN as u32;
            generated::bpf_get_current_comm((&raw mut (*event).comm).cast(), room);
        } else {
            (*event).comm = [0; COMM_LEN];
        }
        zero(&mut (*event).reserved);
        (*event).source = facts.source;
        (*event).destination = facts.destination;
    }
    place.submit(0);
}

/// Byte by byte: all at once would become a call, with a frame of its own.
#[inline(always)]
fn zero(bytes: &mut [u8]) {
    let mut at = 0;
    while at < bytes.len() {
        // SAFETY: inside of the slice.
        unsafe { core::ptr::write_volatile(&raw mut bytes[at], 0) };
        at += 1;
    }
}

/// Whose uid is told. Where there is no task the helpers for it are not even named: not all
/// kernels have them there.
#[inline(always)]
fn uid<const TASK: bool>(facts: &Facts) -> u32 {
    if TASK { current_uid() } else { facts.uid }
}

/// The caller's uid in the initial user namespace.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the uid is the lower half")]
fn current_uid() -> u32 {
    bpf_get_current_uid_gid() as u32
}

/// The caller's process id in the initial PID namespace.
#[inline(always)]
fn current_pid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// Something impossible happened.
#[inline(always)]
pub fn internal() {
    health(|health| health.internal += 1);
}

/// A policy kept changing while an attempt was judged.
#[inline(always)]
pub fn contended() {
    health(|health| health.contended += 1);
}

#[inline(always)]
fn health(change: impl FnOnce(&mut Health)) {
    if let Some(health) = maps::HEALTH.get_ptr_mut(0) {
        // SAFETY: looked up; this CPU's own copy.
        change(unsafe { &mut *health });
    }
}
