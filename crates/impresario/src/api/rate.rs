//! How often a key may ask: a bucket of tokens for each, filled at a steady rate. In comes the id of a key that was found good,
//! out goes nothing, or the 429 that says when to come back. Each node counts by itself, by its monotonic clock.

use std::{
    fmt,
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::keyed::DefaultKeyedStateStore,
};

use super::ApiError;
use crate::domain::KeyId;

/// After so many requests the buckets that are full again are forgotten: a new one is as full.
const SWEEP: u32 = 4096;

type Limiter<C> = RateLimiter<KeyId, DefaultKeyedStateStore<KeyId>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// The buckets of all keys that have asked lately.
pub struct Rate<C: Clock = DefaultClock> {
    /// Nothing where there is no limit.
    limiter: Option<Limiter<C>>,
    clock: C,
    asked: AtomicU32,
    per_second: u32,
    burst: u32,
}

impl<C: Clock> fmt::Debug for Rate<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rate")
            .field("per_second", &self.per_second)
            .field("burst", &self.burst)
            .finish_non_exhaustive()
    }
}

impl Rate {
    /// So many requests a second for each key, 0 for no limit, and so many at once for one that has rested.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self::with_clock(per_second, burst, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Rate<C> {
    fn with_clock(per_second: u32, burst: u32, clock: C) -> Self {
        let quota = NonZeroU32::new(per_second).map(|rate| {
            let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
            Quota::per_second(rate).allow_burst(burst)
        });
        Self {
            limiter: quota
                .map(|quota| RateLimiter::new(quota, DefaultKeyedStateStore::default(), clock.clone())),
            clock,
            asked: AtomicU32::new(0),
            per_second,
            burst,
        }
    }

    /// Counts one request of a key.
    ///
    /// # Errors
    /// 429 where it has made too many, with the time after which the next goes through.
    pub fn check(&self, key: KeyId) -> Result<(), ApiError> {
        let Some(limiter) = &self.limiter else {
            return Ok(());
        };
        if self.asked.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        limiter
            .check_key(&key)
            .map_err(|not_until| self.refused(not_until.wait_time_from(self.clock.now())))
    }

    fn refused(&self, wait: Duration) -> ApiError {
        let seconds = (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1);
        let unit = if seconds == 1 { "second" } else { "seconds" };
        let requests = if self.per_second == 1 {
            "request"
        } else {
            "requests"
        };
        let message = format!(
            "this key has asked too often ({} {requests} a second, {} at once); come back in {seconds} {unit}",
            self.per_second, self.burst
        );
        ApiError::too_many_requests(message, wait)
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn key(number: u128) -> KeyId {
        KeyId(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn a_key_has_its_burst_and_then_its_rate_and_no_other_key_s() {
        let clock = FakeRelativeClock::default();
        let rate = Rate::with_clock(2, 3, clock.clone());
        let passed = |id| (0..10).filter(|_| rate.check(key(id)).is_ok()).count();
        assert_eq!(passed(1), 3);
        assert_eq!(passed(2), 3, "another key has its own");
        clock.advance(Duration::from_millis(499));
        assert_eq!(passed(1), 0);
        clock.advance(Duration::from_millis(1));
        assert_eq!(passed(1), 1);
        clock.advance(Duration::from_secs(60));
        assert_eq!(passed(1), 3, "no more than the burst is saved up");
    }

    #[test]
    fn a_refusal_says_what_is_allowed_and_when_to_come_back() {
        let rate = Rate::with_clock(1, 2, FakeRelativeClock::default());
        let said = [rate.check(key(1)), rate.check(key(1)), rate.check(key(1))].map(|answer| {
            let refused = answer.err()?;
            assert_eq!(refused.code(), impresario_api::ErrorCode::TooManyRequests);
            Some(refused.to_string())
        });
        let expected = "this key has asked too often (1 request a second, 2 at once); come back in 1 second";
        assert_eq!(said, [None, None, Some(expected.to_owned())]);
    }

    #[test]
    fn nought_is_no_limit() {
        let rate = Rate::new(0, 1);
        assert!((0..10_000).all(|_| rate.check(key(1)).is_ok()));
    }

    #[test]
    fn keys_that_have_rested_are_forgotten() {
        let clock = FakeRelativeClock::default();
        let rate = Rate::with_clock(100, 100, clock.clone());
        for number in 0..u128::from(SWEEP) - 1 {
            rate.check(key(number)).unwrap();
        }
        let kept = || rate.limiter.as_ref().map_or(0, RateLimiter::len);
        assert_eq!(kept(), SWEEP as usize - 1);
        clock.advance(Duration::from_secs(10));
        rate.check(key(0)).unwrap();
        assert_eq!(kept(), 1);
    }
}
