//! Numbers from a seed that the caller brings: the core draws none itself.

/// A small generator (SplitMix64) for beats and jitter. Not for secrets.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    #[allow(clippy::should_implement_trait)] // It never ends.
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_decides_the_numbers() {
        let mut first = Random::new(0);
        // Reference value of SplitMix64 for seed 0.
        assert_eq!(first.next(), 0xe220_a839_7b1d_cdaf);
        assert_ne!(Random::new(1).next(), Random::new(2).next());
    }
}
