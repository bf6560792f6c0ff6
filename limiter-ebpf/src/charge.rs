//! The charge program: never attached, run by the agent (BPF_PROG_RUN) for mail that enters through
//! the node's own mail server. What it decides, counts and tells is what the layers decide, count
//! and tell, under the same locks.

use aya_ebpf::{macros::classifier, programs::TcContext};
use limiter_common::{
    abi::NOBODY,
    charge::{Charge, decision, flags, op, status},
    event,
    limit::{Kind, Unit},
    settings::Settings,
    verdict::{Layer, PortGroup, Reason, Verdict},
};

use crate::{
    judge, kernel, maps,
    rate::{self, Demand, Outcome, Return},
    report::{self, Facts, Ruling},
};

#[classifier]
pub fn limiter_charge(ctx: TcContext) -> i32 {
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + size_of::<Charge>() > end {
        return status::MALFORMED as i32;
    }
    // SAFETY: the packet is at least that long, and every bit pattern is valid. The agent lays it
    // out, so alignment is not more than the packet's, and BPF loads need none.
    let charge = unsafe { &mut *(start as *mut Charge) };
    let Some(settings) = maps::SETTINGS.get(0) else {
        return status::FAILED as i32;
    };
    let now_ns = kernel::now_ns(settings);
    let result = match charge.op {
        op::ASK => ask(settings, charge, false, now_ns),
        op::COUNT => ask(settings, charge, true, now_ns),
        op::GIVE_BACK => give_back(charge),
        op::REFUSED => refused(settings, charge, now_ns),
        op::WENT => went(charge),
        _ => status::MALFORMED,
    };
    result as i32
}

/// Whether refusals of the tenant are carried out; `None` if there is no such tenant.
#[inline(always)]
fn enforces(settings: &Settings, target: u32, now_ns: u64) -> Option<bool> {
    // What is no tenant has no number, and the verifier asks for a bound.
    let tenant = maps::TENANTS.get(target)?;
    if !tenant.exists() {
        return None;
    }
    Some(tenant.enforces(now_ns) && now_ns >= settings.observe_until_ns)
}

/// Why the tenant's sanctions let none of its mail in. They hold in observe mode too, and not where
/// an operator opened it for a while.
#[inline(always)]
fn sanctioned(settings: &Settings, target: u32, now_ns: u64) -> Option<Reason> {
    let tenant = maps::TENANTS.get(target)?;
    let open = now_ns < settings.observe_until_ns || now_ns < tenant.observe_until_ns;
    if open {
        return None;
    }
    // Where to is asked of what is no mail alone.
    judge::sanction_of(tenant, PortGroup::Smtp, &[0; 2], now_ns)
}

/// Asks the sanctions and the limits; counts, if asked to, what all admit.
#[inline(always)]
fn ask(settings: &Settings, charge: &mut Charge, count: bool, now_ns: u64) -> u32 {
    let target = charge.target;
    let Some(enforced) = enforces(settings, target, now_ns) else {
        return status::NO_TENANT;
    };
    charge.at_ns = now_ns;
    charge.enforced = u8::from(enforced);
    charge.limit_owner = NOBODY;
    charge.limit_span_ns = 0;
    charge.limit_max = 0;
    charge.limit_unit = 0;
    charge.limit_kind = 0;
    charge.message_levels = 0;
    charge.recipient_levels = 0;
    charge.reason = Reason::None as u8;
    charge.decision = decision::ADMITTED;
    if let Some(reason) = sanctioned(settings, target, now_ns) {
        charge.decision = decision::REFUSED;
        charge.reason = reason as u8;
        tell(charge, now_ns);
        return status::DONE;
    }
    // Read before anything is counted: what changes from here on voids the receipt.
    let Some(generation) = rate::generations(target) else {
        return status::FAILED;
    };
    charge.generation = generation;

    let (messages, recipients) = (charge.messages, charge.recipients);
    let mut demand = Demand {
        unit: Unit::Messages,
        units: messages,
        group: PortGroup::Smtp,
        now_ns,
        count,
    };
    // A turn of a pace is not given back: who may not send to so many takes none.
    demand.unit = Unit::Recipients;
    demand.units = recipients;
    demand.count = false;
    if limits(charge, &demand, enforced).is_none() {
        return status::FAILED;
    }
    if charge.decision == decision::REFUSED {
        tell(charge, now_ns);
        return status::DONE;
    }
    demand.unit = Unit::Messages;
    demand.units = messages;
    demand.count = count;
    let of_messages = limits(charge, &demand, enforced);
    if of_messages.is_none() {
        return status::FAILED;
    }
    charge.message_levels = of_messages.unwrap_or(0);
    if charge.decision != decision::REFUSED {
        demand.unit = Unit::Recipients;
        demand.units = recipients;
        let of_recipients = limits(charge, &demand, enforced);
        charge.recipient_levels = of_recipients.unwrap_or(0);
        if of_recipients.is_none() || charge.decision == decision::REFUSED {
            // All or nothing.
            let levels = charge.message_levels;
            charge.message_levels = 0;
            charge.recipient_levels = 0;
            if count && levels != 0 {
                let back = Return {
                    unit: Unit::Messages,
                    units: messages,
                    at_ns: now_ns,
                    levels,
                    generation,
                };
                rate::give_back(target, &back);
            }
            if of_recipients.is_none() {
                return status::FAILED;
            }
        }
    }
    if charge.decision != decision::ADMITTED {
        tell(charge, now_ns);
    }
    status::DONE
}

/// Asks the limits for one unit. Gives the levels in which it was counted; `None` if they could not
/// be asked.
#[inline(always)]
fn limits(charge: &mut Charge, demand: &Demand, enforced: bool) -> Option<u8> {
    if demand.units == 0 {
        return Some(0);
    }
    let answer = rate::decide(charge.target, demand);
    let refused = match answer.outcome() {
        Outcome::Admitted => false,
        Outcome::WouldRefuse => {
            charge.decision = decision::WOULD_REFUSE;
            false
        }
        Outcome::Refused => {
            charge.decision = if enforced {
                decision::REFUSED
            } else {
                decision::WOULD_REFUSE
            };
            true
        }
        Outcome::Failed => return None,
    };
    if answer.outcome() != Outcome::Admitted {
        let (owner, at) = answer.full();
        let limit = rate::limit_of(owner, at);
        charge.limit_owner = owner;
        charge.limit_span_ns = limit.span_ns;
        charge.limit_max = limit.max;
        charge.limit_unit = limit.unit;
        charge.limit_kind = limit.kind;
        charge.reason = if limit.kind == Kind::Pace as u8 {
            Reason::Pace
        } else {
            Reason::Limit
        } as u8;
    }
    // What is refused counts nothing, also where that is only observed.
    Some(if refused || !demand.count {
        0
    } else {
        answer.levels()
    })
}

/// Gives back what a receipt says.
#[inline(always)]
fn give_back(charge: &Charge) -> u32 {
    let mut back = Return {
        unit: Unit::Messages,
        units: charge.messages,
        at_ns: charge.at_ns,
        levels: charge.message_levels,
        generation: charge.generation,
    };
    let mut unchanged = true;
    if back.levels != 0 {
        unchanged = rate::give_back(charge.target, &back);
    }
    back.unit = Unit::Recipients;
    back.units = charge.recipients;
    back.levels = charge.recipient_levels;
    if back.levels != 0 {
        unchanged = rate::give_back(charge.target, &back) && unchanged;
    }
    if unchanged {
        status::DONE
    } else {
        status::CHANGED
    }
}

/// Counts and tells a refusal that was decided elsewhere.
#[inline(always)]
fn refused(settings: &Settings, charge: &mut Charge, now_ns: u64) -> u32 {
    let Some(enforced) = enforces(settings, charge.target, now_ns) else {
        return status::NO_TENANT;
    };
    charge.enforced = u8::from(enforced);
    charge.decision = if enforced && charge.flags & flags::ONLY_TOLD == 0 {
        decision::REFUSED
    } else {
        decision::WOULD_REFUSE
    };
    tell(charge, now_ns);
    status::DONE
}

/// Counts mail that went in.
#[inline(always)]
fn went(charge: &Charge) -> u32 {
    if report::went(charge.target, u64::from(charge.recipients)) {
        status::DONE
    } else {
        status::NO_TENANT
    }
}

/// Counts what was not simply admitted, and tells of it if that is due.
#[inline(always)]
fn tell(charge: &Charge, now_ns: u64) {
    if charge.flags & flags::TELL == 0 {
        return;
    }
    let mut known = 0;
    if charge.flags & flags::HAS_UID != 0 {
        known |= event::flags::HAS_SOCKET;
    }
    let facts = Facts {
        tenant: charge.target,
        destination: [0; 16],
        destination_port: 0,
        source_port: charge.source_port,
        source: charge.source,
        interface: 0,
        layer: Layer::Mta,
        flags: known,
        uid: charge.uid,
        cgroup_id: 0,
        now_ns,
    };
    let verdict = if charge.decision == decision::REFUSED {
        Verdict::Denied
    } else {
        Verdict::WouldDeny
    };
    let mut ruling = Ruling {
        verdict,
        reason: Reason::from_wire(charge.reason).unwrap_or(Reason::Internal),
        limit_owner: charge.limit_owner,
        limit: limiter_common::limit::LimitDef::default(),
    };
    ruling.limit.span_ns = charge.limit_span_ns;
    ruling.limit.max = charge.limit_max;
    ruling.limit.unit = charge.limit_unit;
    ruling.limit.kind = charge.limit_kind;
    report::notable::<false>(&facts, &ruling);
}
