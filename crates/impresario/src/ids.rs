//! Ids and random bytes, as an argument: from the operating system when serving, from a seed in tests.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use rand::{Rng, SeedableRng, rngs::StdRng};
use uuid::Uuid;

/// The source of every id and every random byte.
pub struct Ids {
    rng: Mutex<StdRng>,
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ids").finish_non_exhaustive()
    }
}

impl Ids {
    /// Seeded by the operating system. `StdRng` is a cryptographic generator, so keys and secrets may come from it.
    #[must_use]
    pub fn from_os() -> Self {
        Self {
            rng: Mutex::new(rand::make_rng()),
        }
    }

    /// The same ids every time: for tests.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
        }
    }

    /// Fills `bytes` with random bytes fit for keys and secrets.
    pub fn fill(&self, bytes: &mut [u8]) {
        self.rng
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fill_bytes(bytes);
    }

    /// A number from 0 (inclusive) to 1 (exclusive), for jitter.
    #[must_use]
    pub fn unit(&self) -> f64 {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        f64::from(u32::from_le_bytes(bytes)) / 4_294_967_296.0
    }

    /// A version 7 UUID (RFC 9562): sorts by `now`, and cannot be guessed.
    #[must_use]
    pub fn uuid(&self, now: Timestamp) -> Uuid {
        let mut random = [0; 10];
        self.fill(&mut random);
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_ids_and_they_sort_by_time() {
        let (a, b) = (Ids::seeded(7), Ids::seeded(7));
        let early: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let late: Timestamp = "2026-01-01T00:00:00.001Z".parse().unwrap();
        let first = a.uuid(early);
        assert_eq!(first, b.uuid(early));
        assert_eq!(first.get_version_num(), 7);
        assert!(first < a.uuid(late));
    }
}
