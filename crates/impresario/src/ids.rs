//! Ids and random bytes, as an argument: from the operating system when serving, from a seed in tests.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use rand::{Rng, SeedableRng, rngs::StdRng};
use uuid::Uuid;

/// The source of every id and every random byte.
pub struct Ids {
    state: Mutex<State>,
}

struct State {
    rng: StdRng,
    /// The millisecond of the newest id, and its place within it.
    newest: (u64, u16),
}

/// The counter of ids within a millisecond has 12 bits (RFC 9562, section 6.2, method 1).
const MOST_IN_A_MILLISECOND: u16 = 0x0fff;

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
            state: Mutex::new(State {
                rng: rand::make_rng(),
                newest: (0, 0),
            }),
        }
    }

    /// The same ids every time: for tests.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            state: Mutex::new(State {
                rng: StdRng::seed_from_u64(seed),
                newest: (0, 0),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills `bytes` with random bytes fit for keys and secrets.
    pub fn fill(&self, bytes: &mut [u8]) {
        self.state().rng.fill_bytes(bytes);
    }

    /// A number from 0 (inclusive) to 1 (exclusive), for jitter.
    #[must_use]
    pub fn unit(&self) -> f64 {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        f64::from(u32::from_le_bytes(bytes)) / 4_294_967_296.0
    }

    /// A version 7 UUID (RFC 9562): sorts by `now`, and within a millisecond by the order in which they are made, and
    /// cannot be guessed.
    #[must_use]
    pub fn uuid(&self, now: Timestamp) -> Uuid {
        let mut state = self.state();
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        let mut random = [0; 10];
        state.rng.fill_bytes(&mut random);
        state.newest = match state.newest {
            (newest, MOST_IN_A_MILLISECOND) if newest == millis => (millis + 1, 0),
            (newest, place) if newest == millis => (millis, place + 1),
            // An id of the millisecond before that was full.
            (newest, place) if newest == millis + 1 => {
                (newest, place.saturating_add(1).min(MOST_IN_A_MILLISECOND))
            }
            // Half of the places are left for those that follow.
            _ => (millis, u16::from_be_bytes([random[0], random[1]]) >> 5),
        };
        let (millis, place) = state.newest;
        let [high, low] = place.to_be_bytes();
        random[0] = high;
        random[1] = low;
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

    #[test]
    fn ids_of_one_millisecond_sort_as_they_were_made() {
        let ids = Ids::seeded(1);
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let made: Vec<_> = (0..6_000).map(|_| ids.uuid(now)).collect();
        assert!(made.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(
            ids.uuid("2025-01-01T00:00:00Z".parse().unwrap()) < made[0],
            "a clock that goes back is followed"
        );
    }
}
