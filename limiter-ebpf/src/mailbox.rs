//! The mailbox layer's counting half: completed handshakes at the mailbox ports, by client. A
//! forged SYN completes nothing, so it counts for nobody and locks nobody out.

use aya_ebpf::{bindings::bpf_sock_ops, macros::sock_ops, programs::SockOpsContext};
use limiter_common::{
    abi::NODE,
    address::{self, Address},
    mailbox::{self, Client, client_of},
    owner::Owner,
    settings::{self, Settings},
    verdict::{Layer, PortGroup, Reason},
};

use crate::{
    judge::Judgement,
    kernel, maps, report,
    seen::{self, Seen},
    skb::group_of,
};

const PASSIVE_ESTABLISHED: u32 = 5;
const AF_INET: u32 = 2;

#[sock_ops]
pub fn limiter_mailbox(ctx: SockOpsContext) -> u32 {
    if ctx.op() == PASSIVE_ESTABLISHED {
        established(&ctx);
    }
    0
}

#[inline(always)]
fn established(ctx: &SockOpsContext) {
    let Some(settings) = maps::SETTINGS.get(0) else {
        return;
    };
    #[expect(clippy::cast_possible_truncation, reason = "a port in host order")]
    let port = ctx.local_port() as u16;
    if settings.flags & settings::flags::MAILBOX == 0
        || !matches!(group_of(port), PortGroup::Mailbox)
    {
        return;
    }
    let remote = remote(ctx);
    // SAFETY: only whether it is there counts.
    if address::is_loopback(&remote) || unsafe { maps::OWN_ADDRESSES.get(remote) }.is_some() {
        return;
    }
    let now_ns = kernel::now_ns(settings);
    if count(settings, &client_of(&remote), now_ns) {
        return;
    }
    let judgement = Judgement::of_node(settings, Reason::MailboxLimit, now_ns);
    if judgement.refuses() {
        lock_out(settings, &client_of(&remote), now_ns);
    }
    let mut seen = Seen::new(Layer::Mailbox, 0);
    seen.owner = Owner::tenant(NODE);
    seen.packet.source = remote;
    seen.packet.destination_port = port;
    seen::tell(&seen, judgement, now_ns);
}

/// The address of the other end.
#[inline(always)]
fn remote(ctx: &SockOpsContext) -> Address {
    let ops = ctx.ops;
    // SAFETY: fields of the context.
    unsafe {
        if core::ptr::read_volatile(&raw const (*ops).family) == AF_INET {
            let word = core::ptr::read_volatile(&raw const (*ops).remote_ip4);
            return address::from_v4(word.to_ne_bytes());
        }
    }
    let mut whole = [0; 16];
    remote6(ops, &mut whole);
    whole
}

/// The IPv6 address of the other end. A function of its own: joined with the reading of the IPv4
/// address, the compiler would compute where to read, which the kernel does not take.
#[inline(never)]
fn remote6(ops: *mut bpf_sock_ops, to: &mut Address) -> u32 {
    // SAFETY: fields of the context, word by word.
    let [a, b, c, d] = unsafe {
        [
            core::ptr::read_volatile(&raw const (*ops).remote_ip6[0]),
            core::ptr::read_volatile(&raw const (*ops).remote_ip6[1]),
            core::ptr::read_volatile(&raw const (*ops).remote_ip6[2]),
            core::ptr::read_volatile(&raw const (*ops).remote_ip6[3]),
        ]
    };
    to[..4].copy_from_slice(&a.to_ne_bytes());
    to[4..8].copy_from_slice(&b.to_ne_bytes());
    to[8..12].copy_from_slice(&c.to_ne_bytes());
    to[12..].copy_from_slice(&d.to_ne_bytes());
    0
}

/// Counts a connection of the client; `false` if it is one too many.
#[inline(never)]
fn count(settings: &Settings, client: &Address, now_ns: u64) -> bool {
    let found = maps::CLIENTS.get_ptr_mut(client).or_else(|| {
        new_client(client);
        maps::CLIENTS.get_ptr_mut(client)
    });
    let (Some(entry), Some(cell)) = (
        found,
        maps::CLIENT_LOCKS.get_ptr_mut(mailbox::lock_of(client)),
    ) else {
        report::internal();
        return true;
    };
    let (width_ns, max) = (settings.mailbox_width_ns, settings.mailbox_max);
    // SAFETY: both looked up, no lock held; under the lock nothing is called.
    unsafe {
        kernel::lock(&raw mut (*cell).lock);
        let slot = &mut (*entry).slot;
        slot.advance(now_ns, width_ns);
        let fits = slot.admits(1, max);
        if fits {
            slot.count(1);
        }
        kernel::unlock(&raw mut (*cell).lock);
        fits
    }
}

/// Begins to count a client. A frame of its own: what is counted is large.
#[inline(never)]
fn new_client(client: &Address) -> u32 {
    const NO_EXIST: u64 = 1;
    // Somebody else's connection may have been first.
    let _ = maps::CLIENTS.insert(client, Client::default(), NO_EXIST);
    0
}

/// Locks a client that is not locked yet.
#[inline(never)]
fn lock_out(settings: &Settings, client: &Address, now_ns: u64) -> u32 {
    // SAFETY: read at once.
    let locked = unsafe { maps::LOCKED.get(client) }.is_some_and(|until| now_ns < *until);
    if !locked {
        let until_ns = now_ns.wrapping_add(settings.mailbox_lock_ns);
        if maps::LOCKED.insert(client, until_ns, 0).is_err() {
            report::internal();
        }
    }
    0
}
