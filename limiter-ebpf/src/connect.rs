//! The connect layer: `cgroup/connect4` and `connect6`. The fast, friendly answer: EPERM from
//! connect() itself, or the local MTA instead of the world.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use limiter_common::{
    address::{self, Address},
    event,
    owner::{Owner, Parties},
    settings::{self, Settings},
    verdict::{Layer, PortGroup, Reason, Verdict},
};

use crate::{
    blocked,
    judge::{Kindly, Question, ask, judge},
    kernel, maps,
    report::{self, Facts, Ruling},
    who,
};

const ALLOW: i32 = 1;
const REFUSE: i32 = 0;
const SOCK_STREAM: u32 = 1;

#[cgroup_sock_addr(connect4)]
pub fn limiter_connect4(ctx: SockAddrContext) -> i32 {
    // SAFETY: fields of the context that this hook may read.
    let octets = unsafe { (*ctx.sock_addr).user_ip4 }.to_ne_bytes();
    judge_connect(&ctx, address::from_v4(octets), false)
}

#[cgroup_sock_addr(connect6)]
pub fn limiter_connect6(ctx: SockAddrContext) -> i32 {
    let mut destination = [0_u8; 16];
    // SAFETY: as above; the words are in network order, so their bytes in memory are the address.
    unsafe {
        let [a, b, c, d] = [
            core::ptr::read_volatile(&raw const (*ctx.sock_addr).user_ip6[0]),
            core::ptr::read_volatile(&raw const (*ctx.sock_addr).user_ip6[1]),
            core::ptr::read_volatile(&raw const (*ctx.sock_addr).user_ip6[2]),
            core::ptr::read_volatile(&raw const (*ctx.sock_addr).user_ip6[3]),
        ];
        destination[..4].copy_from_slice(&a.to_ne_bytes());
        destination[4..8].copy_from_slice(&b.to_ne_bytes());
        destination[8..12].copy_from_slice(&c.to_ne_bytes());
        destination[12..].copy_from_slice(&d.to_ne_bytes());
    }
    judge_connect(&ctx, destination, true)
}

/// Judges an attempt to connect.
#[inline(always)]
fn judge_connect(ctx: &SockAddrContext, destination: Address, is_v6: bool) -> i32 {
    let Some(settings) = maps::SETTINGS.get(0) else {
        report::internal();
        return REFUSE;
    };
    // SAFETY: fields of the context that this hook may read.
    let (kind, port) = unsafe { ((*ctx.sock_addr).type_, (*ctx.sock_addr).user_port) };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a port stands in the lower half"
    )]
    let port = u16::from_be(port as u16);
    let group = if kind == SOCK_STREAM {
        let Some(table) = maps::PORTS.get(0) else {
            report::internal();
            return REFUSE;
        };
        match table.groups[usize::from(port)] {
            1 => PortGroup::Smtp,
            2 => PortGroup::Submission,
            3 => PortGroup::Mailbox,
            _ => PortGroup::Other,
        }
    } else {
        PortGroup::Other
    };
    let concerns = match group {
        PortGroup::Smtp | PortGroup::Submission => true,
        // Mailbox logins come in; going out they are only a suspended tenant's affair.
        PortGroup::Mailbox => settings.flags & (UNUSUAL | settings::flags::SANCTIONS) != 0,
        PortGroup::Other => settings.flags & UNUSUAL != 0,
    };
    if !concerns || address::is_loopback(&destination) {
        return ALLOW;
    }
    // SAFETY: only whether it is there counts.
    if unsafe { maps::OWN_ADDRESSES.get(destination) }.is_some()
        && !matches!(group, PortGroup::Other)
    {
        return ALLOW;
    }
    judge_sender(ctx, settings, group, destination, port, is_v6)
}

/// While one of these is set, connections to any port are judged.
const UNUSUAL: u32 = settings::flags::SUSPENSIONS | settings::flags::BLOCKED;

/// Judges an attempt to connect to another host.
#[inline(always)]
fn judge_sender(
    ctx: &SockAddrContext,
    settings: &Settings,
    group: PortGroup,
    destination: Address,
    port: u16,
    is_v6: bool,
) -> i32 {
    let senders = who::senders(ctx, settings);
    let now_ns = kernel::now_ns();
    // The MTA is free, but not as a cloak for a tenant that passes it a socket.
    let is_mta = senders.caller == Owner::MTA && !senders.socket.is_tenant();
    let parties = Parties::of(senders.caller, senders.socket);
    let facts = facts(
        ctx,
        parties.payer,
        destination,
        port,
        is_v6,
        senders.local,
        now_ns,
    );
    if settings.flags & settings::flags::BLOCKED != 0 && blocked::matches(&destination) {
        let enforced =
            settings.flags & settings::flags::ENFORCE != 0 && now_ns >= settings.observe_until_ns;
        return refuse(&facts, Reason::BlockedAddress, enforced);
    }
    if is_mta {
        return ALLOW;
    }
    who::trace(port, senders.caller, senders.socket);
    let count = senders.local || settings.flags & settings::flags::COUNT_EVERYWHERE != 0;
    let question = Question {
        group,
        port,
        ask: if count {
            ask::LIMITS | ask::COUNT
        } else {
            ask::LIMITS
        },
    };
    let judgement = judge(&parties, question, &destination, now_ns);
    let is_mail = matches!(group, PortGroup::Smtp | PortGroup::Submission);
    match judgement.kind() {
        Kindly::Admit => {
            // What is counted elsewhere is recorded there too.
            if is_mail && count {
                report::allowed::<true>(settings, &facts);
            }
            return ALLOW;
        }
        Kindly::Redirect if senders.local && redirect(ctx, settings, &facts, is_v6) => {
            let ruling = Ruling::new(Verdict::Redirected, Reason::DirectSmtp);
            report::notable::<true>(&facts, &ruling);
            return ALLOW;
        }
        // The layer that counts it says so: told here too, it would be told twice.
        Kindly::WouldRefuse if !count => return ALLOW,
        _ => {}
    }
    report::notable::<true>(&facts, &judgement.ruling());
    if judgement.refuses() { REFUSE } else { ALLOW }
}

/// Sends the connection to the local MTA. Not if it is bound to a device or an address: it would
/// never arrive. Not where the MTA does not listen in that family.
#[inline(always)]
fn redirect(ctx: &SockAddrContext, settings: &Settings, facts: &Facts, is_v6: bool) -> bool {
    if facts.interface != 0 || (facts.source != [0; 16] && !address::is_loopback(&facts.source)) {
        return false;
    }
    let is_v4 = address::as_v4(&facts.destination).is_some();
    let (target, port) = if is_v4 {
        (&settings.redirect4, settings.redirect4_port)
    } else {
        (&settings.redirect6, settings.redirect6_port)
    };
    if port == 0 {
        return false;
    }
    let words = [
        u32::from_ne_bytes([target[0], target[1], target[2], target[3]]),
        u32::from_ne_bytes([target[4], target[5], target[6], target[7]]),
        u32::from_ne_bytes([target[8], target[9], target[10], target[11]]),
        u32::from_ne_bytes([target[12], target[13], target[14], target[15]]),
    ];
    // SAFETY: fields of the context that this hook may write. Volatile: the kernel takes words,
    // and the compiler would join them.
    unsafe {
        if is_v6 {
            core::ptr::write_volatile(&raw mut (*ctx.sock_addr).user_ip6[0], words[0]);
            core::ptr::write_volatile(&raw mut (*ctx.sock_addr).user_ip6[1], words[1]);
            core::ptr::write_volatile(&raw mut (*ctx.sock_addr).user_ip6[2], words[2]);
            core::ptr::write_volatile(&raw mut (*ctx.sock_addr).user_ip6[3], words[3]);
        } else {
            core::ptr::write_volatile(&raw mut (*ctx.sock_addr).user_ip4, words[3]);
        }
        core::ptr::write_volatile(&raw mut (*ctx.sock_addr).user_port, u32::from(port.to_be()));
    }
    true
}

/// What is known about the attempt.
#[inline(always)]
fn facts(
    ctx: &SockAddrContext,
    tenant: u32,
    destination: Address,
    destination_port: u16,
    is_v6: bool,
    local: bool,
    now_ns: u64,
) -> Facts {
    let mut facts = Facts {
        tenant,
        destination,
        destination_port,
        source_port: 0,
        source: [0; 16],
        interface: 0,
        layer: Layer::Connect,
        flags: if local {
            0
        } else {
            event::flags::FOREIGN_NAMESPACE
        },
        uid: 0,
        cgroup_id: 0,
        now_ns,
    };
    let socket = who::socket_of(ctx);
    if socket.is_null() {
        return facts;
    }
    // SAFETY: fields of the context's socket that a program may read, word by word.
    unsafe {
        facts.interface = core::ptr::read_volatile(&raw const (*socket).bound_dev_if);
        #[expect(clippy::cast_possible_truncation, reason = "a port in host order")]
        {
            facts.source_port = core::ptr::read_volatile(&raw const (*socket).src_port) as u16;
        }
        if is_v6 {
            let words = [
                core::ptr::read_volatile(&raw const (*socket).src_ip6[0]),
                core::ptr::read_volatile(&raw const (*socket).src_ip6[1]),
                core::ptr::read_volatile(&raw const (*socket).src_ip6[2]),
                core::ptr::read_volatile(&raw const (*socket).src_ip6[3]),
            ];
            facts.source[..4].copy_from_slice(&words[0].to_ne_bytes());
            facts.source[4..8].copy_from_slice(&words[1].to_ne_bytes());
            facts.source[8..12].copy_from_slice(&words[2].to_ne_bytes());
            facts.source[12..].copy_from_slice(&words[3].to_ne_bytes());
        } else {
            let source = core::ptr::read_volatile(&raw const (*socket).src_ip4);
            if source != 0 {
                facts.source = address::from_v4(source.to_ne_bytes());
            }
        }
    }
    facts
}

/// Refuses, or says that it would.
#[inline(always)]
fn refuse(facts: &Facts, reason: Reason, enforced: bool) -> i32 {
    let verdict = if enforced {
        Verdict::Denied
    } else {
        Verdict::WouldDeny
    };
    report::notable::<true>(facts, &Ruling::new(verdict, reason));
    if enforced { REFUSE } else { ALLOW }
}
