//! Numbers from a seed: SplitMix64, the same on every machine.

#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    /// What one part of a run draws from. Each part has numbers of its own, so that how fast one of them is does not
    /// change what the others do.
    pub(crate) fn of(seed: u64, part: &str) -> Self {
        let mut rng = Self(seed);
        for byte in part.bytes() {
            rng.0 = rng.next() ^ u64::from(byte);
        }
        rng
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    /// From `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// One of these, each as likely as its weight says.
    pub(crate) fn weighted<T: Copy>(&mut self, from: &[(usize, T)]) -> T {
        let all: usize = from.iter().map(|(weight, _)| weight).sum();
        let mut at = self.below(all);
        for (weight, one) in from {
            if at < *weight {
                return *one;
            }
            at -= weight;
        }
        unreachable!("the weights add up")
    }
}
