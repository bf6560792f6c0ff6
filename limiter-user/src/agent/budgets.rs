//! How many allowed attempts of one tenant are kept: who connects without end keeps no more than this.

use std::collections::HashMap;

/// So many at once.
const BURST: u32 = 20_000;
/// And one more so often, ns.
const EVERY_NS: u64 = 20_000_000;
/// Of so many tenants at most; then all begin anew.
const MOST: usize = 200_000;

/// What each tenant may still have kept.
#[derive(Debug, Default)]
pub struct Budgets(HashMap<u32, Budget>);

#[derive(Debug)]
struct Budget {
    left: u32,
    /// When it was last filled up, ns of the kernel's clock.
    filled_ns: u64,
}

impl Budgets {
    /// Whether an attempt of this tenant at this moment of the kernel's clock is kept.
    pub fn take(&mut self, tenant: u32, now_ns: u64) -> bool {
        if self.0.len() >= MOST && !self.0.contains_key(&tenant) {
            self.0.clear();
        }
        let budget = self.0.entry(tenant).or_insert(Budget {
            left: BURST,
            filled_ns: now_ns,
        });
        let more = now_ns.saturating_sub(budget.filled_ns) / EVERY_NS;
        if more > 0 {
            let more_units = u32::try_from(more).unwrap_or(u32::MAX);
            budget.left = budget.left.saturating_add(more_units).min(BURST);
            budget.filled_ns = budget.filled_ns.saturating_add(more * EVERY_NS);
        }
        match budget.left.checked_sub(1) {
            Some(left) => {
                budget.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_bounded_and_nobody_elses() {
        let mut budgets = Budgets::default();
        let second = 1_000_000_000;
        // 50,000 a second, for ten seconds.
        let kept = (0..500_000_u64)
            .filter(|it| budgets.take(1, it * 20_000))
            .count();
        assert!((20_000..=20_600).contains(&kept), "{kept}");
        assert!(budgets.take(2, 10 * second));
        // What is over comes back with time.
        assert!(budgets.take(1, 11 * second));
        let later = (0..30_000)
            .filter(|_| budgets.take(1, 1_000 * second))
            .count();
        assert_eq!(later, 20_000);
    }
}
