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
    kernel, maps,
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
pub enum Decision {
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
    const fn new(kind: Decision, reason: Reason) -> Self {
        Self(kind as u64 | (reason as u64) << 16 | (NOBODY as u64) << 32)
    }

    #[inline(always)]
    const fn refused(reason: Reason, enforced: bool) -> Self {
        Self::new(
            if enforced {
                Decision::Refuse
            } else {
                Decision::WouldRefuse
            },
            reason,
        )
    }

    /// As a plain number: bits 24 to 31 are free for others.
    #[inline(always)]
    pub const fn to_wire(self) -> u64 {
        self.0
    }

    /// From a plain number.
    #[inline(always)]
    pub const fn from_wire(wire: u64) -> Self {
        Self(wire)
    }

    /// A refusal for a reason that is the node's and no tenant's.
    #[inline(always)]
    pub const fn of_node(settings: &Settings, reason: Reason, now_ns: u64) -> Self {
        let enforced =
            settings.flags & settings::flags::ENFORCE != 0 && now_ns >= settings.observe_until_ns;
        Self::refused(reason, enforced)
    }

    /// What comes of it.
    #[inline(always)]
    pub const fn kind(self) -> Decision {
        match self.0 & 0xff {
            0 => Decision::Admit,
            1 => Decision::WouldRefuse,
            3 => Decision::Redirect,
            _ => Decision::Refuse,
        }
    }

    /// Whether it is refused here and now.
    #[inline(always)]
    pub const fn refuses(self) -> bool {
        matches!(self.kind(), Decision::Refuse | Decision::Redirect)
    }

    /// Why it is not simply admitted.
    #[inline(always)]
    pub fn reason(self) -> Reason {
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
        let limit_owner = (self.0 >> 32) as u32;
        let limit = if limit_owner == NOBODY {
            LimitDef::default()
        } else {
            rate::limit_of(limit_owner, (self.0 >> 8 & 0xf) as u32)
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
    if question.ask & ask::COUNT != 0 {
        rate::approach(parties.payer);
    }
    let permitted = permits(parties, question, destination, now_ns);
    if permitted & ASK_LIMITS == 0 {
        return Judgement(permitted);
    }
    let demand = Demand {
        unit: Unit::Connections,
        units: 1,
        group: question.group,
        now_ns,
        count: question.ask & ask::COUNT != 0,
    };
    limits(parties.payer, &demand, permitted & ENFORCED != 0)
}

/// What the sanctions of `parties` say of reaching `destination`; `None` if nothing.
#[inline(always)]
pub fn sanctions(
    parties: &Parties,
    group: PortGroup,
    destination: &Address,
    now_ns: u64,
) -> Option<Judgement> {
    let question = Question {
        group,
        port: 0,
        ask: 0,
    };
    let judgement = Judgement(permits(parties, question, destination, now_ns));
    matches!(judgement.reason(), Reason::Suspended | Reason::NullRoute).then_some(judgement)
}

/// [`limiter_judge`] for what is at hand.
#[inline(always)]
fn permits(parties: &Parties, question: Question, destination: &Address, now_ns: u64) -> u64 {
    let [high, low] = halves(destination);
    let what =
        u64::from(question.port) | (question.group as u64) << 16 | u64::from(question.ask) << 24;
    let both = u64::from(parties.payer) | u64::from(parties.other) << 32;
    limiter_judge(both, what, high, low, now_ns)
}

/// Beside a judgement that admits: the limits have the last word.
const ASK_LIMITS: u64 = 1 << 12;
/// Beside [`ASK_LIMITS`]: their refusal is carried out.
const ENFORCED: u64 = 1 << 13;

/// The two halves of an address, as they stand in memory.
#[inline(always)]
pub fn halves(address: &Address) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    [
        u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
    ]
}

/// Sanctions and permissions, as a function that the verifier looks at once: it takes and gives
/// plain numbers. The limits are asked beside it and not from it, for the stack's sake.
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
            Judgement::of_node(settings, Reason::Internal, now_ns).0
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
        return Some(Judgement::new(Decision::Admit, Reason::None));
    }
    let enforced = tenant.enforces(now_ns) && !watched;
    let mut permission = permission(settings, tenant, question, destination);
    if other != NOBODY {
        permission = permission.max(self::permission(settings, also, question, destination));
    }
    match permission {
        // No limit applies to a destination that is exempt.
        EXEMPT => return Some(Judgement::new(Decision::Admit, Reason::None)),
        ALLOWED => {}
        REDIRECTED if enforced => {
            return Some(Judgement::new(Decision::Redirect, Reason::DirectSmtp));
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
        return Some(Judgement::new(Decision::Admit, Reason::None));
    }
    let mut admitted = Judgement::new(Decision::Admit, Reason::None);
    admitted.0 |= ASK_LIMITS;
    if enforced {
        admitted.0 |= ENFORCED;
    }
    Some(admitted)
}

/// Asks the limits of the tenant at `payer`.
#[inline(always)]
fn limits(payer: u32, demand: &Demand, enforced: bool) -> Judgement {
    let answer = rate::decide(payer, demand);
    let refused = match answer.outcome() {
        Outcome::Admitted => return Judgement::new(Decision::Admit, Reason::None),
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
        Decision::Refuse
    } else {
        Decision::WouldRefuse
    };
    Judgement(
        kind as u64
            | u64::from(at & 0xf) << 8
            | (reason as u64) << 16
            | u64::from(limit_owner) << 32,
    )
}

/// The refusal of what the tenant at `payer` sent, if refusals of it are carried out.
#[inline(always)]
pub fn refusal(settings: &Settings, payer: u32, reason: Reason, now_ns: u64) -> Judgement {
    let Some(tenant) = maps::TENANTS.get(payer) else {
        return Judgement::of_node(settings, Reason::Internal, now_ns);
    };
    let enforced = tenant.enforces(now_ns) && now_ns >= settings.observe_until_ns;
    Judgement::refused(reason, enforced)
}

/// The refusal of what the sanctioned tenant at `payer` sent, unless an operator opened it for a
/// while.
#[inline(always)]
pub fn refusal_by_sanction(
    settings: &Settings,
    payer: u32,
    reason: Reason,
    now_ns: u64,
) -> Judgement {
    let open = maps::TENANTS
        .get(payer)
        .is_some_and(|tenant| now_ns < tenant.observe_until_ns);
    Judgement::refused(reason, !open && now_ns >= settings.observe_until_ns)
}

/// Whether some limit counts the mail of the tenant at `payer`.
#[inline(always)]
pub fn counts_mail(payer: u32) -> bool {
    maps::TENANTS
        .get(payer)
        .is_some_and(|tenant| tenant.flags & limiter_common::tenant::flags::COUNTS_MAIL != 0)
}

/// Asks the limits of the tenant at `payer` for mail in a session that goes on, and counts it if
/// all admit it.
#[inline(always)]
pub fn mail(
    settings: &Settings,
    payer: u32,
    group: PortGroup,
    messages: u32,
    recipients: u32,
    now_ns: u64,
) -> Judgement {
    let enforced = maps::TENANTS
        .get(payer)
        .is_none_or(|tenant| tenant.enforces(now_ns))
        && now_ns >= settings.observe_until_ns;
    let what = u64::from(payer) | (group as u64) << 32 | u64::from(enforced) << 40;
    let units = u64::from(messages) | u64::from(recipients) << 32;
    Judgement(limiter_mail(what, units, now_ns))
}

/// [`mail`] as a function that the verifier looks at once. Both units are asked before either is
/// counted: what is refused counts nothing.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn limiter_mail(what: u64, units: u64, now_ns: u64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "taken apart as it was put together"
    )]
    let (messages, recipients) = (units as u32, (units >> 32) as u32);
    let mut worst = Judgement::new(Decision::Admit, Reason::None);
    // One after the other and not in a loop: old kernels do not take every loop that the compiler
    // lays out.
    macro_rules! ask {
        ($($unit:expr, $count:expr, $counted:expr;)*) => {$(
            let judgement = Judgement(ask_for_mail(what, $unit, $count, $counted, now_ns));
            if judgement.refuses() {
                return judgement.0;
            }
            if judgement.kind() == Decision::WouldRefuse {
                worst = judgement;
            }
        )*};
    }
    ask!(
        Unit::Messages, messages, false;
        Unit::Recipients, recipients, false;
        Unit::Messages, messages, true;
        Unit::Recipients, recipients, true;
    );
    worst.0
}

/// Asks the limits for so many units of mail. A frame of its own, which the verifier leaves one way.
#[inline(never)]
fn ask_for_mail(what: u64, unit: Unit, units: u32, count: bool, now_ns: u64) -> u64 {
    if units == 0 {
        return Judgement::new(Decision::Admit, Reason::None).0;
    }
    let demand = Demand {
        unit,
        units,
        group: if (what >> 32) & 0xff == 1 {
            PortGroup::Smtp
        } else {
            PortGroup::Submission
        },
        now_ns,
        count,
    };
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    let mut judgement = limits(what as u32, &demand, (what >> 40) & 1 != 0);
    kernel::forget(&mut judgement);
    judgement.0
}

/// Why a tenant's sanctions refuse a port of `group` at `destination`, if they do.
#[inline(always)]
pub fn sanction_of(
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
    limiter_management(address[0], address[1]) != 0
}

/// [`is_management`] with a stack of its own.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn limiter_management(high: u64, low: u64) -> u64 {
    let key = Key::new(128, whole(&[high, low]));
    u64::from(maps::MANAGEMENT.get(&key).is_some())
}

/// The address of which these are the halves.
#[inline(always)]
pub fn whole(halves: &[u64; 2]) -> Address {
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
    limiter_exempt(set, destination[0], destination[1], u64::from(port)) != 0
}

/// [`is_exempt`] with a stack of its own: its key is large.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn limiter_exempt(set: u32, high: u64, low: u64, port: u64) -> u64 {
    let bits = address::EXEMPT_SET_BITS + 128;
    let key = Key::new(bits, ExemptKey::new(set, whole(&[high, low])));
    #[expect(clippy::cast_possible_truncation, reason = "a port")]
    match maps::EXEMPT.get(&key) {
        Some(ports) => u64::from(ExemptPorts::contains(ports, port as u16)),
        None => 0,
    }
}
