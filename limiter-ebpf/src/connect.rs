//! The connect layer: `cgroup/connect4` and `connect6`. The fast, friendly answer: EPERM from
//! connect() itself, or the local MTA instead of the world.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use limiter_common::{
    abi::NOBODY,
    address::{self, Address, ExemptKey, ExemptPorts},
    limit::{Kind, Unit},
    owner::{Owner, Parties},
    settings::{self, Settings},
    tenant::Tenant,
    verdict::{Layer, Permission, PortGroup, Reason, Verdict},
};

use crate::{
    kernel, maps,
    rate::{self, Demand, Outcome},
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
    judge(&ctx, address::from_v4(octets), false)
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
    judge(&ctx, destination, true)
}

/// Judges an attempt to connect.
#[inline(always)]
fn judge(ctx: &SockAddrContext, destination: Address, is_v6: bool) -> i32 {
    // SAFETY: fields of the context that this hook may read.
    let (kind, port) = unsafe { ((*ctx.sock_addr).type_, (*ctx.sock_addr).user_port) };
    if kind != SOCK_STREAM {
        return ALLOW;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a port stands in the lower half"
    )]
    let port = u16::from_be(port as u16);
    let Some(table) = maps::PORTS.get(0) else {
        return failed_without_settings();
    };
    let group = match table.groups[usize::from(port)] {
        1 => PortGroup::Smtp,
        2 => PortGroup::Submission,
        // Mailbox logins are somebody else's: they come in.
        _ => return ALLOW,
    };
    if address::is_loopback(&destination) {
        return ALLOW;
    }
    let Some(settings) = maps::SETTINGS.get(0) else {
        return failed_without_settings();
    };
    // SAFETY: only whether it is there counts.
    if unsafe { maps::OWN_ADDRESSES.get(destination) }.is_some() {
        return ALLOW;
    }
    judge_mail(ctx, settings, group, destination, port, is_v6)
}

/// Judges an attempt to connect to a mail port of another host.
#[inline(always)]
fn judge_mail(
    ctx: &SockAddrContext,
    settings: &Settings,
    group: PortGroup,
    destination: Address,
    port: u16,
    is_v6: bool,
) -> i32 {
    let senders = who::senders(ctx, settings);
    // The MTA is free, but not as a cloak for a tenant that passes it a socket.
    if senders.caller == Owner::MTA && !senders.socket.is_tenant() {
        return ALLOW;
    }
    who::trace(port, senders.caller, senders.socket);
    let now_ns = kernel::now_ns();
    let Parties { payer, other } = Parties::of(senders.caller, senders.socket);
    let facts = facts(ctx, payer, destination, port, is_v6, senders.local, now_ns);

    let Some(tenant) = maps::TENANTS.get(payer) else {
        return failed(settings, &facts);
    };
    if !tenant.exists() {
        return failed(settings, &facts);
    }
    let enforced = tenant.enforces(now_ns) && now_ns >= settings.observe_until_ns;

    let mut permission = permission(settings, tenant, group, destination, port);
    if other != NOBODY {
        let Some(other) = maps::TENANTS.get(other) else {
            return failed(settings, &facts);
        };
        permission = permission.max(self::permission(settings, other, group, destination, port));
    }
    match permission {
        // No limit applies to a destination that is exempt.
        EXEMPT => {
            report::allowed(settings, &facts);
            return ALLOW;
        }
        ALLOWED => {}
        REDIRECTED if enforced && senders.local => {
            if redirect(ctx, settings, &facts, is_v6) {
                report::notable(
                    &facts,
                    &Ruling::new(Verdict::Redirected, Reason::DirectSmtp),
                );
                return ALLOW;
            }
            return refuse(&facts, Reason::DirectSmtp, enforced);
        }
        _ => {
            let reason = match group {
                PortGroup::Submission => Reason::Submission,
                _ => Reason::DirectSmtp,
            };
            return refuse(&facts, reason, enforced);
        }
    }

    let count = senders.local || settings.flags & settings::flags::COUNT_EVERYWHERE != 0;
    let demand = Demand {
        unit: Unit::Connections,
        units: 1,
        group,
        now_ns,
        count,
    };
    let answer = rate::decide(payer, &demand);
    let refused = match answer.outcome() {
        Outcome::Admitted => {
            report::allowed(settings, &facts);
            return ALLOW;
        }
        Outcome::WouldRefuse => false,
        Outcome::Refused => enforced,
        // Whose mode is known is refused by it, whatever the node's is.
        Outcome::Failed => {
            report::internal();
            return refuse(&facts, Reason::Internal, enforced);
        }
    };
    let (limit_owner, limit) = answer.full();
    let reason = if limit.kind == Kind::Pace as u8 {
        Reason::Pace
    } else {
        Reason::Limit
    };
    let verdict = if refused {
        Verdict::Denied
    } else {
        Verdict::WouldDeny
    };
    report::notable(
        &facts,
        &Ruling {
            verdict,
            reason,
            limit_owner,
            limit,
        },
    );
    if refused { REFUSE } else { ALLOW }
}

/// Permissions as they are compared here: the stricter of two is the greater.
const EXEMPT: u8 = 0;
const ALLOWED: u8 = 1;
const REDIRECTED: u8 = 2;
const BLOCKED: u8 = 3;

/// What `tenant` may do there. What stands in the map and is no permission is a block.
#[inline(always)]
fn permission(
    settings: &Settings,
    tenant: &Tenant,
    group: PortGroup,
    destination: Address,
    port: u16,
) -> u8 {
    if settings.flags & settings::flags::EXEMPT != 0 && is_exempt(0, destination, port) {
        return EXEMPT;
    }
    if tenant.exempt_set != 0 && is_exempt(tenant.exempt_set, destination, port) {
        return EXEMPT;
    }
    match Permission::from_wire(tenant.permission(group)) {
        Some(Permission::Allow) => ALLOWED,
        Some(Permission::Redirect) => REDIRECTED,
        Some(Permission::Block) | None => BLOCKED,
    }
}

/// Whether the destination is in a set of exempt ones.
#[inline(always)]
fn is_exempt(set: u32, destination: Address, port: u16) -> bool {
    let bits = address::EXEMPT_SET_BITS + 128;
    let key = aya_ebpf::btf_maps::lpm_trie::Key::new(bits, ExemptKey::new(set, destination));
    match maps::EXEMPT.get(&key) {
        Some(ports) => ExemptPorts::contains(ports, port),
        None => false,
    }
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
        local,
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
    report::notable(facts, &Ruling::new(verdict, reason));
    if enforced { REFUSE } else { ALLOW }
}

/// Something failed: refused where the node enforces, alarmed in any case.
#[inline(always)]
fn failed(settings: &Settings, facts: &Facts) -> i32 {
    report::internal();
    let enforced =
        settings.flags & settings::flags::ENFORCE != 0 && facts.now_ns >= settings.observe_until_ns;
    refuse(facts, Reason::Internal, enforced)
}

/// The maps that always are there are not: nothing can be known, nothing is let out.
#[inline(always)]
fn failed_without_settings() -> i32 {
    report::internal();
    REFUSE
}
