//! When to try again: in come the attempts made so far and what the receiver asked for, out goes a wait or the end.

use std::time::Duration;

/// The waits before each attempt, in seconds, as the Standard Webhooks recommendations space them: seven attempts
/// within a day, then one a day, which outlasts a weekend.
const WAITS: [u64; 10] = [0, 5, 300, 1_800, 7_200, 18_000, 36_000, 86_400, 86_400, 86_400];

/// How many attempts are made in all.
pub const MAX_ATTEMPTS: u32 = WAITS.len() as u32;

/// The longest that a receiver can put an attempt off.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// How long to wait before the next attempt, once `attempts_made` have failed; `None` where that was the last.
///
/// Each wait is spread by up to a fifth either way with `jitter_unit` (0 to 1, random), so that the deliveries which a
/// broken receiver missed together do not come back together. `retry_after` can only put an attempt off, by at most
/// [`LONGEST_RETRY_AFTER`]: a receiver that always answers "in one second" would otherwise use up all its attempts in
/// ten seconds. It is spread by up to a tenth, never to before what was asked for.
///
/// ```
/// use std::time::Duration;
/// use impresario::delivery::backoff::next_delay;
///
/// assert_eq!(next_delay(0, None, 0.5), Some(Duration::ZERO));
/// assert_eq!(next_delay(2, None, 0.5), Some(Duration::from_secs(300)));
/// assert_eq!(next_delay(1, Some(Duration::from_secs(60)), 0.0), Some(Duration::from_secs(60)));
/// assert_eq!(next_delay(10, None, 0.5), None);
/// ```
#[must_use]
pub fn next_delay(attempts_made: u32, retry_after: Option<Duration>, jitter_unit: f64) -> Option<Duration> {
    let wait = WAITS.get(usize::try_from(attempts_made).ok()?)?;
    // A NaN would make the multiplication panic.
    let unit = if jitter_unit.is_nan() {
        0.5
    } else {
        jitter_unit.clamp(0.0, 1.0)
    };
    let planned = Duration::from_secs(*wait).mul_f64(0.8 + 0.4 * unit);
    let asked = retry_after
        .unwrap_or(Duration::ZERO)
        .min(LONGEST_RETRY_AFTER)
        .mul_f64(1.0 + 0.1 * unit);
    Some(planned.max(asked))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_waits_in_order_then_none() {
        let waits: Vec<_> = (0..)
            .map_while(|made| next_delay(made, None, 0.5))
            .map(|wait| wait.as_secs())
            .collect();
        assert_eq!(waits, WAITS);
        assert_eq!(MAX_ATTEMPTS, 10);
        assert_eq!(next_delay(u32::MAX, None, 0.5), None);
        assert_eq!(next_delay(10, Some(Duration::from_secs(1)), 0.5), None);
        // Seven attempts within a day, whatever the jitter.
        let within: Duration = (0..7).filter_map(|made| next_delay(made, None, 1.0)).sum();
        assert!(within < Duration::from_secs(86_400), "{within:?}");
    }

    #[test]
    fn retry_after_puts_off_but_never_hurries_and_never_stalls() {
        let seconds = Duration::from_secs;
        assert_eq!(next_delay(1, Some(seconds(60)), 0.0), Some(seconds(60)));
        assert_eq!(next_delay(1, Some(seconds(60)), 1.0), Some(seconds(66)));
        assert_eq!(next_delay(6, Some(seconds(1)), 0.5), Some(seconds(36_000)));
        assert_eq!(next_delay(1, Some(Duration::MAX), 0.0), Some(LONGEST_RETRY_AFTER));
        assert_eq!(next_delay(1, Some(Duration::ZERO), 0.5), Some(seconds(5)));
    }

    proptest! {
        #[test]
        fn the_jitter_stays_within_a_fifth(made in 0_u32..10, unit: f64) {
            let wait = next_delay(made, None, unit).unwrap().as_secs_f64();
            let plan = WAITS[made as usize] as f64;
            prop_assert!(wait >= plan * 0.8 - 1e-6 && wait <= plan * 1.2 + 1e-6, "{} for {}", wait, plan);
        }
    }
}
