//! What long limits have counted, kept outside the kernel: maps do not survive a reboot, and a
//! window of a day must.
//!
//! A snapshot says how long ago units were admitted, not when by the clock of a boot, and names
//! tenants and limits by what they are. The next boot's agent puts the counts into the maps before
//! anything is attached ([`Inheritance`]). Time that passed in between is credited where it is known:
//! by the boot clock within a boot (new maps: another layout, `limiter detach`), by the wall clock
//! if it was known to be right both times, else not at all. So no window ever holds more than its
//! limit across a reboot; capacity comes back up to two 32nds of the window late, and by the
//! downtime that is not known.
//!
//! What is lost is what was counted after the last snapshot began: at most a minute of a running agent
//! when power fails; after a clean stop, what was counted between it and the end of the machine. It
//! is taken while programs count, and some tenants at a time ([`Taking`]): a reseller may have been
//! read before one of its customers, and then lacks what that one sent in between.

mod file;
mod inherit;
mod take;
#[cfg(test)]
mod tests;

use limiter_common::{
    limit::{Kind, LimitDef, Unit},
    window::BUCKETS,
};
use serde::{Deserialize, Serialize};

pub use self::{
    file::{SnapshotError, decode, encode, keep, load, path, set_aside},
    inherit::{Inheritance, elapsed},
    take::Taking,
};
use crate::offence::Reading;

/// Limits of windows longer than this are kept, and paces that can hold back longer, ns: an hour.
pub const KEPT_ABOVE_NS: u64 = 3_600_000_000_000;

/// What long limits have counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// What the clocks said just after it was taken.
    pub taken: Reading,
    /// The long limits of tenants, each list once: most tenants share their plan's.
    pub plans: Vec<Vec<KeptLimit>>,
    /// Whoever has counted anything.
    pub tenants: Vec<KeptTenant>,
}

/// A limit, by what makes it the same after a reboot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeptLimit {
    /// The name of a [`Unit`].
    unit: String,
    /// The name of a [`Kind`].
    kind: String,
    /// Window: the width of a bucket. Pace: the interval. Nanoseconds.
    span_ns: u64,
    /// The most units in the window, or at once.
    max: u32,
    /// Bits of the port groups that count.
    groups: u8,
}

/// A tenant and what its limits have counted: its name, the place of its limits in
/// [`Snapshot::plans`], and the counts of each of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptTenant(pub String, pub usize, pub Vec<Counts>);

/// What a limit has counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Counts {
    /// A window: how long ago (whole seconds, at least so long) how many units were admitted.
    #[serde(rename = "w")]
    Window(Vec<(u64, u32)>),
    /// A pace: how far ahead of the clock it was (seconds, at most so far).
    #[serde(rename = "p")]
    Pace(u64),
}

impl Counts {
    /// Whether it holds nobody back.
    fn is_nothing(&self) -> bool {
        match self {
            Self::Window(ages) => ages.is_empty(),
            Self::Pace(ahead_s) => *ahead_s == 0,
        }
    }
}

impl KeptLimit {
    fn of(def: &LimitDef) -> Option<Self> {
        Some(Self {
            unit: Unit::from_wire(def.unit)?.as_str().to_owned(),
            kind: Kind::from_wire(def.kind)?.as_str().to_owned(),
            span_ns: def.span_ns,
            max: def.max,
            groups: def.groups,
        })
    }

    /// The definition that it was, with its state in `slot`; `None` if this version knows of no
    /// such limit.
    fn def(&self, slot: u8) -> Option<LimitDef> {
        let unit = Unit::ALL.iter().find(|it| it.as_str() == self.unit)?;
        let kind = Kind::ALL.iter().find(|it| it.as_str() == self.kind)?;
        Some(LimitDef {
            span_ns: self.span_ns,
            max: self.max,
            slot,
            unit: *unit as u8,
            kind: *kind as u8,
            groups: self.groups,
        })
    }
}

/// Whether the counts of a limit are kept.
fn is_long(def: &LimitDef) -> bool {
    let factor = if def.kind == Kind::Pace as u8 {
        u64::from(def.max)
    } else {
        BUCKETS as u64
    };
    def.span_ns.saturating_mul(factor) > KEPT_ABOVE_NS
}
