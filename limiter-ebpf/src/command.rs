//! The command program: never attached, run by the agent (BPF_PROG_RUN) to change what the other
//! programs count in, under their own locks.

use aya_ebpf::{macros::classifier, programs::TcContext};
use limiter_common::{
    abi::{MAX_DEPTH, NOBODY},
    command::{Command, change, op, status},
    limit::{BLOCK_SLOTS, Block, LockCell, Unit},
    sanction,
    tenant::Tenant,
    verdict::PortGroup,
    window::{BUCKETS, Head, Ring, Slot},
};

use crate::{
    kernel, maps,
    rate::{self, Demand, Outcome},
};

const SLOT_MASK: usize = BLOCK_SLOTS - 1;

#[classifier]
pub fn limiter_command(ctx: TcContext) -> i32 {
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + size_of::<Command>() > end {
        return status::MALFORMED as i32;
    }
    // SAFETY: the packet is at least that long, and every bit pattern is valid. The agent lays it
    // out, so alignment is not more than the packet's, and BPF loads need none.
    let command = unsafe { &*(start as *const Command) };
    let result = match command.op {
        op::SET_TENANT => set_tenant(command),
        op::MERGE_LOCKS => merge_locks(command),
        op::SET_OBSERVE => set_observe(command),
        op::CHARGE => charge(command),
        op::TOLD => told(command),
        op::SET_SANCTIONS => set_sanctions(command),
        _ => status::MALFORMED,
    };
    result as i32
}

/// Follows the forwards from a lock to the one that holds.
#[inline(always)]
fn holding_lock(mut index: u32) -> Option<*mut LockCell> {
    let mut step = 0;
    while step <= MAX_DEPTH * 4 {
        let cell = maps::LOCKS.get_ptr_mut(index)?;
        // SAFETY: looked up. Only the agent changes it, one command at a time.
        let forward = unsafe { core::ptr::read_volatile(&raw const (*cell).forward) };
        if forward == 0 {
            return Some(cell);
        }
        index = forward - 1;
        step += 1;
    }
    None
}

/// Writes a tenant's policy and makes its slots fit.
#[inline(always)]
fn set_tenant(command: &Command) -> u32 {
    let Some(tenant) = maps::TENANTS.get_ptr_mut(command.target) else {
        return status::OUT_OF_RANGE;
    };
    // SAFETY: looked up. Only the agent changes these fields, one command at a time.
    let (existed, old_lock, old_block, old_first) = unsafe {
        (
            (*tenant).exists(),
            (*tenant).lock,
            (*tenant).block,
            (*tenant).first_slot,
        )
    };
    let lock = if existed {
        old_lock
    } else {
        command.tenant.lock
    };
    let (Some(from), Some(to), Some(cell), Some(settings)) = (
        maps::BLOCKS.get_ptr_mut(old_block),
        maps::BLOCKS.get_ptr_mut(command.tenant.block),
        holding_lock(lock),
        maps::SETTINGS.get(0),
    ) else {
        return status::OUT_OF_RANGE;
    };
    let now_ns = kernel::now_ns(settings);
    // SAFETY: all looked up; the tree's lock keeps every other program away from the slots, and
    // the generation tells those that wait for it that they have to look again.
    unsafe {
        kernel::lock(&raw mut (*cell).lock);
        let mut unchanged = true;
        let mut at = 0;
        while at < BLOCK_SLOTS {
            let wanted = &command.slots[at];
            if wanted.change == change::REPLACE {
                let (head, _) = slot_at(from, usize::from(old_first) + wanted.source as usize);
                let current = (*head).current.wrapping_sub(wanted.expected_current);
                let total = (*head).total.wrapping_sub(wanted.expected_total);
                // What was only counted since is added; anything else is converted again. So it
                // is if the clock went past the moment that was converted for.
                unchanged = unchanged
                    && now_ns <= command.until_ns
                    && (*head).epoch == wanted.expected_epoch
                    && current == total;
            }
            at += 1;
        }
        if unchanged {
            let mut at = 0;
            while at < BLOCK_SLOTS {
                let wanted = &command.slots[at];
                if at as u64 >= command.slot_count {
                    break;
                }
                let place = usize::from(command.tenant.first_slot) + at;
                let target = slot_at(to, place);
                // A slot that is replaced or moved into is no other's source: state stays where
                // it is, or all of it goes to another run.
                let source = slot_at(from, usize::from(old_first) + wanted.source as usize);
                match wanted.change {
                    change::CLEAR => copy(parts(&wanted.state), target),
                    change::REPLACE => {
                        let since = (*source.0).current.wrapping_sub(wanted.expected_current);
                        copy(parts(&wanted.state), target);
                        (*target.0).count(since);
                    }
                    change::MOVE => copy((source.0.cast_const(), source.1.cast_const()), target),
                    _ => {}
                }
                at += 1;
            }
            write_policy(tenant, &command.tenant);
            if !existed {
                // Whoever had this index before may have left it.
                (*tenant).observe_until_ns = 0;
                write_sanctions(tenant, &command.tenant);
            }
        }
        kernel::unlock(&raw mut (*cell).lock);
        if unchanged {
            status::DONE
        } else {
            status::CHANGED
        }
    }
}

/// The two parts of the slot at a place below [`BLOCK_SLOTS`].
///
/// # Safety
///
/// `block` was looked up.
#[inline(always)]
unsafe fn slot_at(block: *mut Block, place: usize) -> (*mut Head, *mut Ring) {
    let place = place & SLOT_MASK;
    // SAFETY: as the caller promises, and masked.
    unsafe {
        (
            &raw mut (*block).heads[place],
            &raw mut (*block).rings[place],
        )
    }
}

/// The two parts of a slot in one piece.
#[inline(always)]
fn parts(slot: &Slot) -> (*const Head, *const Ring) {
    (&raw const slot.head, &raw const slot.ring)
}

/// Copies a slot, word by word: a copy of the whole would become a call.
///
/// # Safety
///
/// `to` was looked up and its lock is held; `from` was too, or is in the command.
#[inline(always)]
unsafe fn copy(from: (*const Head, *const Ring), to: (*mut Head, *mut Ring)) {
    // SAFETY: as the caller promises.
    unsafe {
        (*to.0).epoch = (*from.0).epoch;
        (*to.0).current = (*from.0).current;
        (*to.0).total = (*from.0).total;
        let mut index = 0;
        while index < BUCKETS {
            let units = core::ptr::read_volatile(&raw const (*from.1)[index]);
            core::ptr::write_volatile(&raw mut (*to.1)[index], units);
            index += 1;
        }
    }
}

/// Writes the fields that are policy, and leaves those that are not.
///
/// # Safety
///
/// `tenant` was looked up, and its tree's lock is held.
#[inline(always)]
unsafe fn write_policy(tenant: *mut Tenant, policy: &Tenant) {
    // SAFETY: as the caller promises.
    unsafe {
        (*tenant).lock = policy.lock;
        (*tenant).parent = policy.parent;
        (*tenant).limit_set = policy.limit_set;
        (*tenant).block = policy.block;
        (*tenant).first_slot = policy.first_slot;
        (*tenant).flags = policy.flags;
        (*tenant).direct_smtp = policy.direct_smtp;
        (*tenant).submission = policy.submission;
        (*tenant).exempt_set = policy.exempt_set;
        let generation = core::ptr::read_volatile(&raw const (*tenant).generation);
        core::ptr::write_volatile(&raw mut (*tenant).generation, generation.wrapping_add(1));
    }
}

/// Lets one lock take the place of another: from then on both trees change under one.
#[inline(always)]
fn merge_locks(command: &Command) -> u32 {
    let Some(cell) = maps::LOCKS.get_ptr_mut(command.target) else {
        return status::OUT_OF_RANGE;
    };
    if maps::LOCKS.get_ptr_mut(command.argument).is_none() || command.target == command.argument {
        return status::OUT_OF_RANGE;
    }
    // SAFETY: looked up; whoever waits for this lock sees the forward when it gets it.
    unsafe {
        kernel::lock(&raw mut (*cell).lock);
        core::ptr::write_volatile(&raw mut (*cell).forward, command.argument.wrapping_add(1));
        kernel::unlock(&raw mut (*cell).lock);
    }
    status::DONE
}

/// Sets until when a tenant is only observed.
#[inline(always)]
fn set_observe(command: &Command) -> u32 {
    let Some(tenant) = maps::TENANTS.get_ptr_mut(command.target) else {
        return status::OUT_OF_RANGE;
    };
    // SAFETY: looked up; one aligned word.
    unsafe {
        if !(*tenant).exists() {
            return status::NO_TENANT;
        }
        core::ptr::write_volatile(&raw mut (*tenant).observe_until_ns, command.until_ns);
    }
    status::DONE
}

/// Writes the sanctions in force for a tenant.
#[inline(always)]
fn set_sanctions(command: &Command) -> u32 {
    let Some(tenant) = maps::TENANTS.get_ptr_mut(command.target) else {
        return status::OUT_OF_RANGE;
    };
    // SAFETY: looked up; four aligned words, each of which means something by itself.
    unsafe {
        if !(*tenant).exists() {
            return status::NO_TENANT;
        }
        write_sanctions(tenant, &command.tenant);
    }
    status::DONE
}

/// Writes sanctions word by word: a copy of the whole would become a call.
///
/// # Safety
///
/// `tenant` was looked up.
#[inline(always)]
unsafe fn write_sanctions(tenant: *mut Tenant, policy: &Tenant) {
    let mut at = 0;
    while at < sanction::SANCTIONS {
        // SAFETY: as the caller promises; aligned words, each of which means something by itself.
        unsafe {
            let until_s = core::ptr::read_volatile(&raw const policy.sanctions.until_s[at]);
            core::ptr::write_volatile(&raw mut (*tenant).sanctions.until_s[at], until_s);
        }
        at += 1;
    }
}

/// Decides and counts, as a layer would.
#[inline(always)]
fn charge(command: &Command) -> u32 {
    let unit = match command.kind & 0xff {
        0 => Unit::Connections,
        1 => Unit::Messages,
        2 => Unit::Recipients,
        3 => Unit::DistinctRecipients,
        _ => return status::MALFORMED,
    };
    let group = match (command.kind >> 8) & 0xff {
        1 => PortGroup::Smtp,
        2 => PortGroup::Submission,
        _ => return status::MALFORMED,
    };
    if command.target == NOBODY {
        return status::NO_TENANT;
    }
    match maps::TENANTS.get(command.target) {
        None => return status::OUT_OF_RANGE,
        Some(tenant) if !tenant.exists() => return status::NO_TENANT,
        Some(_) => {}
    }
    let Some(settings) = maps::SETTINGS.get(0) else {
        return status::OUT_OF_RANGE;
    };
    let demand = Demand {
        unit,
        units: command.argument,
        group,
        now_ns: kernel::now_ns(settings),
        count: true,
    };
    match rate::decide(command.target, &demand).outcome() {
        Outcome::Admitted | Outcome::WouldRefuse => status::DONE,
        Outcome::Refused => status::REFUSED,
        Outcome::Failed => status::CONTENDED,
    }
}

/// Notes down up to which total a tenant's refusals were told.
#[inline(always)]
fn told(command: &Command) -> u32 {
    let Some(stats) = maps::STATS.get_ptr_mut(command.target) else {
        return status::OUT_OF_RANGE;
    };
    // SAFETY: looked up, no lock held; only changed under the lock.
    unsafe {
        kernel::lock(&raw mut (*stats).lock);
        if (*stats).reported < command.until_ns {
            (*stats).reported = command.until_ns;
        }
        kernel::unlock(&raw mut (*stats).lock);
    }
    status::DONE
}
