//! Frames that somebody might forge: of every shape there is, right and wrong, alone and in
//! fragments. The same seed makes the same frames.

pub mod build;
mod mutate;
mod random;
mod receiver;

pub use mutate::mutate;
pub use random::{fragments, frame, plain};
pub use receiver::{Overlap, Receiver};

/// Numbers that look random and can be repeated (`SplitMix64`).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The numbers that belong to a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// One below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.draw() % u64::try_from(bound.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.draw().to_le_bytes()[0]
    }

    /// A number of 16 bits.
    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// Whether something that happens once in `times` happens now.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }
}

/// The seed in the environment (`LIMITER_FUZZ_SEED`), or the usual one.
#[must_use]
pub fn seed() -> u64 {
    number("LIMITER_FUZZ_SEED").unwrap_or(0x6c69_6d69)
}

/// How many frames to try (`LIMITER_FUZZ_FRAMES`), or the usual number.
#[must_use]
pub fn count(usual: u64) -> u64 {
    number("LIMITER_FUZZ_FRAMES").unwrap_or(usual)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
