//! Chance, from a seed.

use std::ops::RangeInclusive;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A source of chance that gives the same for the same seed and stream, on every platform.
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    pub(crate) fn between(&mut self, range: RangeInclusive<i32>) -> i32 {
        self.0.random_range(range)
    }

    pub(crate) fn cents(&mut self, range: &RangeInclusive<i64>) -> i64 {
        self.0.random_range(range.clone())
    }

    /// True this many times in a hundred.
    pub(crate) fn happens(&mut self, percent: u32) -> bool {
        self.0.random_range(0..100) < percent
    }

    /// One of the choices, as often as its weight says.
    pub(crate) fn choose<T: Copy>(&mut self, choices: &[(u32, T)]) -> T {
        let total: u32 = choices.iter().map(|(weight, _)| weight).sum();
        let mut left = self.0.random_range(0..total);
        for (weight, choice) in choices {
            match left.checked_sub(*weight) {
                Some(rest) => left = rest,
                None => return *choice,
            }
        }
        unreachable!("what is drawn is less than the sum of the weights")
    }

    /// A number from which habits are derived.
    pub(crate) fn habit(&mut self) -> u64 {
        self.0.random()
    }
}

/// The `n`th habit derived from one: the same whenever it is asked for, in whatever order (SplitMix64's mixer).
pub(crate) fn derived(habit: u64, n: i32) -> u64 {
    let mut mixed = habit.wrapping_add(u64::from(n.unsigned_abs()).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
