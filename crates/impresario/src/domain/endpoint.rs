//! How a stored webhook fares, and when it is disabled.

use jiff::{SignedDuration, Timestamp};

/// A stored webhook that has only failed for so long is disabled.
const LONGEST_FAILING: SignedDuration = SignedDuration::from_hours(5 * 24);

/// Of a time without an attempt nothing is known. This is longer than any wait between two, so that failures further apart
/// than this are not in a row: neither a weekly job's nor those before and after a clock that was wrong.
const LONGEST_GAP: SignedDuration = SignedDuration::from_hours(48);

/// Since when there have been only failures, the one at `now` included. `before` is the first and the newest of those in a row
/// before it.
#[must_use]
pub fn failing_since(before: Option<(Timestamp, Timestamp)>, now: Timestamp) -> Timestamp {
    match before {
        // Either way: clocks of two nodes are a little apart, and one that was set is far.
        Some((since, last)) if now.duration_since(last).abs() <= LONGEST_GAP => since,
        _ => now,
    }
}

/// Why a stored webhook is to be disabled after a failure at `now`, of which `error` tells; `None` where it is not. `gone`
/// says that the receiver answered 410.
#[must_use]
pub fn why_disabled(gone: bool, since: Timestamp, now: Timestamp, error: &str) -> Option<String> {
    if gone {
        return Some("it answered 410 Gone, which says that nothing more is to be sent there".to_owned());
    }
    (now.duration_since(since) >= LONGEST_FAILING)
        .then(|| format!("nothing but failures for five days; the last one: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * 3_600).unwrap()
    }

    #[test]
    fn failures_are_in_a_row_where_no_two_of_them_lie_further_apart_than_any_wait() {
        let since = |last: i64, now: i64| failing_since(Some((hour(0), hour(last))), hour(now));
        assert_eq!(failing_since(None, hour(7)), hour(7));
        assert_eq!(since(1, 30), hour(0));
        assert_eq!(since(1, 49), hour(0));
        assert_eq!(since(1, 50), hour(50), "nothing was tried for two days");
        assert_eq!(since(31, 30), hour(0), "by another node's clock");
        assert_eq!(since(100_000, 5), hour(5), "the clock was ahead");
        assert_eq!(since(1, 87_600), hour(87_600), "the clock is ahead");
    }

    #[test]
    fn five_days_or_a_410_are_the_end() {
        assert_eq!(why_disabled(false, hour(0), hour(119), "no"), None);
        assert!(why_disabled(false, hour(0), hour(120), "no").is_some_and(|why| why.ends_with("no")));
        assert!(why_disabled(true, hour(0), hour(0), "").is_some_and(|why| why.contains("410")));
    }
}
