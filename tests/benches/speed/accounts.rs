//! Who sends.

use limiter_tests::forge::Rng;

/// The uid of the first account.
const FIRST: u32 = 100_000;

/// So many accounts, each with a uid of its own.
#[derive(Clone, Copy, Debug)]
pub struct Accounts {
    /// How many.
    pub count: usize,
}

impl Accounts {
    /// So many.
    pub fn new(count: usize) -> Self {
        Self { count }
    }

    /// Their uids, ascending.
    pub fn uids(self) -> impl Iterator<Item = u32> {
        let count = u32::try_from(self.count).unwrap();
        FIRST..FIRST + count
    }

    /// One of them.
    pub fn draw(self, rng: &mut Rng) -> u32 {
        FIRST + u32::try_from(rng.below(self.count)).unwrap()
    }

    /// Whoever is none of them.
    pub const STRANGER: u32 = 65_000;
}
