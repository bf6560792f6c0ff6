//! Which slot holds the state of which limit, when the limits of a tenant change.

use limiter_common::{
    limit::{BLOCK_SLOTS, Kind, LimitDef, LimitSet, Unit},
    verdict::PortGroup,
    window,
};

use crate::policy::image::ImageLimit;

/// What becomes of a tenant's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The limits, each with its slot.
    pub set: LimitSet,
    /// Where the state in each slot comes from; `None`: it starts empty.
    pub slots: Vec<Option<Source>>,
    /// Whether the state can stay where it is.
    pub in_place: bool,
}

/// The old state that a slot takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The slot it stood in.
    pub slot: u8,
    /// The width of the buckets it was counted in, ns; 0 for a pace.
    pub old_width_ns: u64,
    /// The width from now on, ns; 0 for a pace.
    pub new_width_ns: u64,
    /// A pace that changed: how far its state may lie ahead from now on, ns. Who was held back by
    /// a slow pace is not held back longer than the new one asks for.
    pub most_ahead_ns: Option<u64>,
}

impl Source {
    /// Whether the state has to be converted: a window of another length, another pace.
    #[must_use]
    pub const fn converts(&self) -> bool {
        self.old_width_ns != self.new_width_ns || self.most_ahead_ns.is_some()
    }
}

impl Layout {
    /// Whether any state has to be converted.
    #[must_use]
    pub fn converts(&self) -> bool {
        self.slots.iter().flatten().any(Source::converts)
    }
}

/// Lays the limits `new` out over the slots of a tenant that had the limits `old` in a run of
/// `old_size` slots. A limit of the same kind, unit and port groups goes on with the units that
/// the old one counted, converted to the new length.
#[must_use]
pub fn lay_out(new: &[ImageLimit], old: &LimitSet, old_size: u8) -> Layout {
    let new = &new[..new.len().min(BLOCK_SLOTS)];
    let old_defs = defs(old);
    let sources = match_up(new, old_defs);
    let size = super::alloc::size_for(new.len()).unwrap_or(0);
    // Kept limits stay in their slots if those are within a run of the new size, and each is
    // continued by one limit only.
    let mut distinct: Vec<usize> = sources.iter().flatten().copied().collect();
    distinct.sort_unstable();
    let in_place = size == old_size
        && distinct.windows(2).all(|pair| pair[0] != pair[1])
        && sources
            .iter()
            .flatten()
            .all(|source| old_defs[*source].slot < size);

    let mut free: Vec<u8> = (0..size).collect();
    if in_place {
        free.retain(|slot| {
            !sources
                .iter()
                .flatten()
                .any(|source| old_defs[*source].slot == *slot)
        });
    }
    free.reverse();
    let mut set = LimitSet {
        count: new.len() as u64,
        ..LimitSet::default()
    };
    let mut slots = vec![None; usize::from(size)];
    for ((limit, source), place) in new.iter().zip(&sources).zip(&mut set.defs) {
        let kept = source.map(|source| old_defs[source]);
        let slot = match kept {
            Some(def) if in_place => def.slot,
            _ => free.pop().unwrap_or(0),
        };
        *place = def(limit, slot);
        if let (Some(old), Some(change)) = (kept, slots.get_mut(usize::from(slot))) {
            *change = Some(Source {
                slot: old.slot,
                old_width_ns: width(&old),
                new_width_ns: width(place),
                most_ahead_ns: most_ahead(&old, place),
            });
        }
    }
    Layout {
        set,
        slots,
        in_place,
    }
}

/// Whether the limits `new` are those of the set `old` in a run of `old_size` slots, each in its
/// place: [`lay_out`] would change nothing.
#[must_use]
pub fn is_laid_out(new: &[ImageLimit], old: &LimitSet, old_size: u8) -> bool {
    let old_defs = defs(old);
    new.len() == old_defs.len()
        && old_size == super::alloc::size_for(new.len()).unwrap_or(0)
        && new
            .iter()
            .zip(old_defs)
            .all(|(limit, old)| def(limit, old.slot) == *old)
}

/// The limits of a set.
#[must_use]
pub fn defs(set: &LimitSet) -> &[LimitDef] {
    let count = usize::try_from(set.count)
        .unwrap_or(usize::MAX)
        .min(BLOCK_SLOTS);
    &set.defs[..count]
}

/// A limit as the kernel reads it.
fn def(limit: &ImageLimit, slot: u8) -> LimitDef {
    let span_ns = match limit.kind {
        Kind::Window => window::width_of(limit.span_ns),
        Kind::Pace => limit.span_ns,
    };
    LimitDef {
        span_ns,
        max: limit.max,
        slot,
        unit: limit.unit as u8,
        kind: limit.kind as u8,
        groups: limit.groups,
    }
}

/// The width to convert by; a pace's state is a moment, which stays what it is.
fn width(def: &LimitDef) -> u64 {
    if def.kind == Kind::Window as u8 {
        def.span_ns
    } else {
        0
    }
}

/// How far the state of a pace may lie ahead: a whole burst. `None` if nothing changed.
fn most_ahead(old: &LimitDef, new: &LimitDef) -> Option<u64> {
    let is_pace = new.kind == Kind::Pace as u8;
    let changed = (old.span_ns, old.max) != (new.span_ns, new.max);
    (is_pace && changed).then(|| new.span_ns.saturating_mul(u64::from(new.max)))
}

/// For each new limit the old one whose state it takes over. One of the same length is its own
/// continuation. Any other begins with the longest that counted the same units at some of the same
/// ports: that one knows of everything the new limit could have counted, and several may begin
/// with it. A change never frees capacity that is used.
pub(super) fn match_up(new: &[ImageLimit], old: &[LimitDef]) -> Vec<Option<usize>> {
    let mut sources = vec![None; new.len()];
    let mut taken = vec![false; old.len()];
    let key = |def: &LimitDef| (def.unit, def.kind, def.groups, def.span_ns);
    for (limit, source) in new.iter().zip(&mut sources) {
        let wanted = def(limit, 0);
        let mut all = old.iter().enumerate();
        if let Some((at, _)) = all.find(|(at, old)| !taken[*at] && key(old) == key(&wanted)) {
            taken[at] = true;
            *source = Some(at);
        }
    }
    for (limit, source) in new.iter().zip(&mut sources) {
        let wanted = def(limit, 0);
        if source.is_none() {
            let alike = old.iter().enumerate().filter(|(_, old)| {
                (old.unit, old.kind) == (wanted.unit, wanted.kind)
                    && old.groups & wanted.groups != 0
            });
            *source = alike.max_by_key(|(_, old)| old.span_ns).map(|(at, _)| at);
        }
    }
    sources
}

/// A limit as it stands in the kernel, for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownLimit {
    /// What is counted.
    pub unit: Unit,
    /// A window or a pace.
    pub kind: Kind,
    /// The most units.
    pub max: u32,
    /// The window or the interval, ns.
    pub span_ns: u64,
    /// The port groups that count.
    pub groups: u8,
}

impl KnownLimit {
    /// What a definition in the kernel means; `None` if it is none that this version knows.
    #[must_use]
    pub fn from_def(def: &LimitDef) -> Option<Self> {
        let kind = Kind::from_wire(def.kind)?;
        let span_ns = match kind {
            Kind::Window => window::window_of(def.span_ns),
            Kind::Pace => def.span_ns,
        };
        Some(Self {
            unit: Unit::from_wire(def.unit)?,
            kind,
            max: def.max,
            span_ns,
            groups: def.groups,
        })
    }

    /// Whether an attempt at a port of `group` counts.
    #[must_use]
    pub const fn concerns(&self, group: PortGroup) -> bool {
        self.groups & group.bit() != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000_000;

    fn window(max: u32, span_ns: u64) -> ImageLimit {
        ImageLimit {
            unit: Unit::Connections,
            kind: Kind::Window,
            max,
            span_ns,
            groups: PortGroup::Smtp.bit(),
        }
    }

    fn pace(span_ns: u64) -> ImageLimit {
        ImageLimit {
            kind: Kind::Pace,
            ..window(1, span_ns)
        }
    }

    fn first(limits: &[ImageLimit]) -> (LimitSet, u8) {
        let layout = lay_out(limits, &LimitSet::default(), 0);
        assert!(layout.slots.iter().all(Option::is_none));
        (
            layout.set,
            super::super::alloc::size_for(limits.len()).unwrap_or(0),
        )
    }

    #[test]
    fn another_maximum_changes_nothing_else() {
        let (old, size) = first(&[window(300, HOUR)]);
        let layout = lay_out(&[window(200, HOUR)], &old, size);
        assert!(layout.in_place);
        let source = layout.slots[0].unwrap();
        assert_eq!(source.slot, 0);
        assert_eq!(source.old_width_ns, source.new_width_ns);
        assert_eq!(layout.set.defs[0].max, 200);
    }

    #[test]
    fn a_limit_keeps_its_state_when_another_before_it_goes() {
        let (old, size) = first(&[window(300, HOUR), window(1_000, 24 * HOUR)]);
        let layout = lay_out(&[window(1_000, 24 * HOUR)], &old, size);
        assert!(!layout.in_place, "one slot instead of two");
        assert_eq!(layout.slots.len(), 1);
        assert_eq!(
            layout.slots[0].unwrap().slot,
            1,
            "the state of the day, not of the hour"
        );
    }

    #[test]
    fn a_limit_more_begins_with_what_the_longest_counted() {
        let (old, size) = first(&[window(300, HOUR), window(1_000, 24 * HOUR), pace(15)]);
        let new = [
            window(300, HOUR),
            window(2_000, 24 * HOUR),
            window(5, HOUR / 60),
            pace(15),
        ];
        let layout = lay_out(&new, &old, size);
        assert!(!layout.in_place, "two limits begin with the day's state");
        let sources: Vec<u8> = new
            .iter()
            .zip(&layout.set.defs)
            .map(|(_, def)| layout.slots[usize::from(def.slot)].unwrap().slot)
            .collect();
        assert_eq!(sources, [0, 1, 1, 2]);
    }

    #[test]
    fn a_reload_never_forgets_what_a_window_counted() {
        // A short window must not take the state that the long one needs.
        let (old, size) = first(&[window(5, HOUR)]);
        let layout = lay_out(&[window(100, HOUR / 6), window(5, 3 * HOUR)], &old, size);
        assert!(layout.slots.iter().all(|source| source.unwrap().slot == 0));
        // Nor may the nearest one be preferred to one that knows more.
        let (old, size) = first(&[window(100, HOUR / 1_800), window(5, HOUR)]);
        let layout = lay_out(&[window(5, HOUR / 2)], &old, size);
        assert_eq!(layout.slots[0].unwrap().slot, 1);
        // Nor does another port make it forget.
        let (old, size) = first(&[window(5, HOUR)]);
        let wider = ImageLimit {
            groups: PortGroup::Smtp.bit() | PortGroup::Submission.bit(),
            ..window(5, HOUR)
        };
        let layout = lay_out(&[wider], &old, size);
        assert_eq!(layout.slots[0].unwrap().slot, 0);
    }

    #[test]
    fn limits_that_are_the_same_twice_stay_as_they_are() {
        let both = [window(10, HOUR), window(5, HOUR)];
        let (old, size) = first(&both);
        let layout = lay_out(&both, &old, size);
        assert!(layout.in_place);
        assert_eq!(layout.set, old);
    }

    #[test]
    fn another_length_is_converted() {
        let (old, size) = first(&[window(300, HOUR)]);
        let layout = lay_out(&[window(300, 2 * HOUR)], &old, size);
        let source = layout.slots[0].unwrap();
        assert_eq!(source.old_width_ns, window::width_of(HOUR));
        assert_eq!(source.new_width_ns, window::width_of(2 * HOUR));
    }

    #[test]
    fn another_pace_does_not_hold_back_longer_than_it_asks_for() {
        let (old, size) = first(&[pace(HOUR)]);
        let source = lay_out(&[pace(15)], &old, size).slots[0].unwrap();
        assert_eq!(source.most_ahead_ns, Some(15));
        assert!(source.converts());
        let source = lay_out(&[pace(HOUR)], &old, size).slots[0].unwrap();
        assert!(!source.converts(), "the same pace goes on");
    }

    #[test]
    fn a_pace_is_no_window() {
        let (old, size) = first(&[pace(15)]);
        let layout = lay_out(&[window(300, HOUR)], &old, size);
        assert_eq!(layout.slots[0], None);
    }

    #[test]
    fn no_limits_need_no_slots() {
        let (old, size) = first(&[window(300, HOUR)]);
        let layout = lay_out(&[], &old, size);
        assert!(layout.slots.is_empty());
        assert_eq!(layout.set.count, 0);
    }
}
