//! The decision that all layers share: sanctions, permissions, limits, in this order.

use aya_ebpf::btf_maps::lpm_trie::Key;
use limiter_common::{
    abi::NOBODY,
    address::{self, Address, ExemptKey, ExemptPorts},
    limit::{Kind, LimitDef, Unit},
    owner::Parties,
    sanction::{self, Sanction},
    settings::{self, Settings},
    tenant::Tenant,
    verdict::{Permission, PortGroup, Reason, Verdict},
};

use crate::{
    maps,
    rate::{self, Demand, Outcome},
    report::{self, Ruling},
};

/// What to ask for, beside who asks.
#[derive(Clone, Copy)]
pub struct Question {
    /// Where to: the port's group.
    pub group: PortGroup,
    /// Where to: the port, host order.
    pub port: u16,
    /// [`ask`].
    pub ask: u8,
}

/// Bits of [`Question::ask`].
pub mod ask {
    /// Ask the limits of connections.
    pub const LIMITS: u8 = 1;
    /// Count the connection if it is admitted.
    pub const COUNT: u8 = 1 << 1;
}

/// What comes of a question.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kindly {
    /// Let it go.
    Admit = 0,
    /// Let it go, and say that it would be refused.
    WouldRefuse = 1,
    /// Refuse it.
    Refuse = 2,
    /// Send it to the MTA, or refuse it where that cannot be.
    Redirect = 3,
}

/// A judgement, as a plain number: what comes of it, why, and the limit that is used up.
#[derive(Clone, Copy)]
pub struct Judgement(u64);

impl Judgement {
    #[inline(always)]
    const fn new(kind: Kindly, reason: Reason) -> Self {
        Self(kind as u64 | (reason as u64) << 16 | (NOBODY as u64) << 32)
    }

    #[inline(always)]
    const fn refused(reason: Reason, enforced: bool) -> Self {
        Self::new(
            if enforced {
                Kindly::Refuse
            } else {
                Kindly::WouldRefuse
            },
            reason,
        )
    }

    /// What comes of it.
    #[inline(always)]
    pub const fn kind(self) -> Kindly {
        match self.0 & 0xff {
            0 => Kindly::Admit,
            1 => Kindly::WouldRefuse,
            3 => Kindly::Redirect,
            _ => Kindly::Refuse,
        }
    }

    /// Whether it is refused here and now.
    #[inline(always)]
    pub const fn refuses(self) -> bool {
        matches!(self.kind(), Kindly::Refuse | Kindly::Redirect)
    }

    /// Why it is not simply admitted.
    #[inline(always)]
    fn reason(self) -> Reason {
        #[expect(clippy::cast_possible_truncation, reason = "a byte of it")]
        Reason::from_wire((self.0 >> 16) as u8).unwrap_or(Reason::Internal)
    }

    /// What to report of it. A redirect that was not carried out is a refusal.
    #[inline(always)]
    pub fn ruling(self) -> Ruling {
        let verdict = if self.refuses() {
            Verdict::Denied
        } else {
            Verdict::WouldDeny
        };
        #[expect(clippy::cast_possible_truncation, reason = "the upper half")]
        let limit_owner = (self.0 >> 32) as u32;
        let limit = if limit_owner == NOBODY {
            LimitDef::default()
        } else {
            rate::limit_of(limit_owner, (self.0 >> 8) as u32)
        };
        Ruling {
            verdict,
            reason: self.reason(),
            limit_owner,
            limit,
        }
    }
}

/// Judges an attempt of `parties` to reach `destination`.
#[inline(always)]
pub fn judge(
    parties: &Parties,
    question: Question,
    destination: &Address,
    now_ns: u64,
) -> Judgement {
    let [high, low] = halves(destination);
    let what =
        u64::from(question.port) | (question.group as u64) << 16 | u64::from(question.ask) << 24;
    let parties = u64::from(parties.payer) | u64::from(parties.other) << 32;
    Judgement(limiter_judge(parties, what, high, low, now_ns))
}

#[inline(always)]
fn halves(address: &Address) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    [
        u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
    ]
}

/// [`judge`] as a function that the verifier looks at once: it takes and gives plain numbers.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn limiter_judge(parties: u64, what: u64, high: u64, low: u64, now_ns: u64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "taken apart as it was put together"
    )]
    let (payer, other, port, ask) = (
        parties as u32,
        (parties >> 32) as u32,
        what as u16,
        (what >> 24) as u8,
    );
    let group = match (what >> 16) & 0xff {
        1 => PortGroup::Smtp,
        2 => PortGroup::Submission,
        3 => PortGroup::Mailbox,
        _ => PortGroup::Other,
    };
    let destination = [high, low];
    let Some(settings) = maps::SETTINGS.get(0) else {
        return Judgement::refused(Reason::Internal, true).0;
    };
    let question = Question { group, port, ask };
    let judged = judged(settings, payer, other, question, &destination, now_ns);
    match judged {
        Some(judgement) => judgement.0,
        None => {
            report::internal();
            let enforced = settings.flags & settings::flags::ENFORCE != 0
                && now_ns >= settings.observe_until_ns;
            Judgement::refused(Reason::Internal, enforced).0
        }
    }
}

/// `None` if what always is there is not.
#[inline(always)]
fn judged(
    settings: &Settings,
    payer: u32,
    other: u32,
    question: Question,
    destination: &[u64; 2],
    now_ns: u64,
) -> Option<Judgement> {
    let tenant = maps::TENANTS.get(payer)?;
    if !tenant.exists() {
        return None;
    }
    let also = if other == NOBODY {
        tenant
    } else {
        maps::TENANTS.get(other)?
    };
    let watched = now_ns < settings.observe_until_ns;
    if settings.flags & settings::flags::SANCTIONS != 0 {
        for sanctioned in [tenant, also] {
            if let Some(reason) = sanction_of(sanctioned, question.group, destination, now_ns) {
                // Sanctions hold in observe mode too; what an operator opens for a while is open.
                let open = watched || now_ns < sanctioned.observe_until_ns;
                return Some(Judgement::refused(reason, !open));
            }
        }
    }
    if !matches!(question.group, PortGroup::Smtp | PortGroup::Submission) {
        return Some(Judgement::new(Kindly::Admit, Reason::None));
    }
    let enforced = tenant.enforces(now_ns) && !watched;
    let mut permission = permission(settings, tenant, question, destination);
    if other != NOBODY {
        permission = permission.max(self::permission(settings, also, question, destination));
    }
    match permission {
        // No limit applies to a destination that is exempt.
        EXEMPT => return Some(Judgement::new(Kindly::Admit, Reason::None)),
        ALLOWED => {}
        REDIRECTED if enforced => {
            return Some(Judgement::new(Kindly::Redirect, Reason::DirectSmtp));
        }
        _ => {
            let reason = match question.group {
                PortGroup::Submission => Reason::Submission,
                _ => Reason::DirectSmtp,
            };
            return Some(Judgement::refused(reason, enforced));
        }
    }
    if question.ask & ask::LIMITS == 0 {
        return Some(Judgement::new(Kindly::Admit, Reason::None));
    }
    let demand = Demand {
        unit: Unit::Connections,
        units: 1,
        group: question.group,
        now_ns,
        count: question.ask & ask::COUNT != 0,
    };
    Some(limits(payer, &demand, enforced))
}

/// Asks the limits of the tenant at `payer`.
#[inline(always)]
fn limits(payer: u32, demand: &Demand, enforced: bool) -> Judgement {
    let answer = rate::decide(payer, demand);
    let refused = match answer.outcome() {
        Outcome::Admitted => return Judgement::new(Kindly::Admit, Reason::None),
        Outcome::WouldRefuse => false,
        Outcome::Refused => enforced,
        // Whose mode is known is refused by it, whatever the node's is.
        Outcome::Failed => {
            report::internal();
            return Judgement::refused(Reason::Internal, enforced);
        }
    };
    let (limit_owner, at) = answer.full();
    let reason = if rate::limit_of(limit_owner, at).kind == Kind::Pace as u8 {
        Reason::Pace
    } else {
        Reason::Limit
    };
    let kind = if refused {
        Kindly::Refuse
    } else {
        Kindly::WouldRefuse
    };
    Judgement(
        kind as u64
            | u64::from(at & 0xf) << 8
            | (reason as u64) << 16
            | u64::from(limit_owner) << 32,
    )
}

/// Asks the limits of the tenant at `payer` for units of mail in a session that goes on.
#[inline(always)]
pub fn mail(payer: u32, demand: &Demand) -> Judgement {
    let what = u64::from(demand.units)
        | (demand.unit as u64) << 32
        | (demand.group as u64) << 40
        | u64::from(demand.count) << 48;
    Judgement(limiter_mail(payer, what, demand.now_ns))
}

/// [`mail`] as a function that the verifier looks at once.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn limiter_mail(payer: u32, what: u64, now_ns: u64) -> u64 {
    let (Some(settings), Some(tenant)) = (maps::SETTINGS.get(0), maps::TENANTS.get(payer)) else {
        return Judgement::refused(Reason::Internal, true).0;
    };
    let enforced = tenant.enforces(now_ns) && now_ns >= settings.observe_until_ns;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "taken apart as it was put together"
    )]
    let demand = Demand {
        unit: match (what >> 32) as u8 {
            1 => Unit::Messages,
            _ => Unit::Recipients,
        },
        units: what as u32,
        group: match (what >> 40) as u8 {
            1 => PortGroup::Smtp,
            _ => PortGroup::Submission,
        },
        now_ns,
        count: (what >> 48) & 1 != 0,
    };
    limits(payer, &demand, enforced).0
}

/// Why a tenant's sanctions refuse a port of `group` at `destination`, if they do.
#[inline(always)]
fn sanction_of(
    tenant: &Tenant,
    group: PortGroup,
    destination: &[u64; 2],
    now_ns: u64,
) -> Option<Reason> {
    if !tenant.sanctions.any() {
        return None;
    }
    let now_s = sanction::seconds(now_ns);
    if !tenant.sanctions.refuses(group, now_s) {
        return None;
    }
    if matches!(group, PortGroup::Other) && is_management(destination) {
        return None;
    }
    Some(if tenant.sanctions.holds(Sanction::NullRoute, now_s) {
        Reason::NullRoute
    } else {
        Reason::Suspended
    })
}

/// Whether an address stays reachable while a network is suspended.
#[inline(always)]
fn is_management(address: &[u64; 2]) -> bool {
    maps::MANAGEMENT
        .get(&Key::new(128, whole(address)))
        .is_some()
}

#[inline(always)]
fn whole(halves: &[u64; 2]) -> Address {
    let [a, b, c, d, e, f, g, h] = halves[0].to_ne_bytes();
    let [i, j, k, l, m, n, o, p] = halves[1].to_ne_bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// Permissions as plain numbers, the strictest highest.
const EXEMPT: u8 = 0;
const ALLOWED: u8 = 1;
const REDIRECTED: u8 = 2;
const BLOCKED: u8 = 3;

/// What a tenant may do.
#[inline(always)]
fn permission(
    settings: &Settings,
    tenant: &Tenant,
    question: Question,
    destination: &[u64; 2],
) -> u8 {
    let everybodys =
        settings.flags & settings::flags::EXEMPT != 0 && is_exempt(0, destination, question.port);
    let own = tenant.exempt_set != 0 && is_exempt(tenant.exempt_set, destination, question.port);
    if everybodys || own {
        return EXEMPT;
    }
    match tenant.permission(question.group) {
        p if p == Permission::Allow as u8 => ALLOWED,
        p if p == Permission::Redirect as u8 && matches!(question.group, PortGroup::Smtp) => {
            REDIRECTED
        }
        _ => BLOCKED,
    }
}

/// Whether the destination is in a set of exempt ones.
#[inline(always)]
fn is_exempt(set: u32, destination: &[u64; 2], port: u16) -> bool {
    let bits = address::EXEMPT_SET_BITS + 128;
    let key = Key::new(bits, ExemptKey::new(set, whole(destination)));
    match maps::EXEMPT.get(&key) {
        Some(ports) => ExemptPorts::contains(ports, port),
        None => false,
    }
}
