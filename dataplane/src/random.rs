//! Random numbers for choices, not for secrets: `SplitMix64` (Steele, Lea, Flood 2014).

/// A generator. The same seed gives the same numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator with this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..count`; 0 if `count` is 0.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the product's high half is below count")]
    pub fn below(&mut self, count: u32) -> u32 {
        ((u128::from(self.next_u64()) * u128::from(count)) >> 64) as u32
    }
}
