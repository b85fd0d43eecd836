//! When a schedule fires: its pattern, the bounds it keeps within, and how its fires are spread.
//!
//! Two instants belong to a fire. The *nominal* one is named by the pattern; it is what the ledger, the job and the
//! API call `fire_at`. The *due* one is when it is acted on: the nominal one and its share of the spread.

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::{Pattern, ScheduleId};

/// The largest `jitter_seconds`.
pub const MOST_JITTER: u32 = 3_600;

/// The smallest step between instants that are told apart.
const TICK: SignedDuration = SignedDuration::from_millis(1);

/// When a schedule fires.
#[derive(Debug, Clone)]
pub struct Timing {
    /// The instants it is made of.
    pub pattern: Pattern,
    /// None before this one; inclusive.
    pub start_at: Option<Timestamp>,
    /// None from this one on; exclusive.
    pub end_at: Option<Timestamp>,
    /// How far a fire may be put off to spread the load, in seconds, 0 to [`MOST_JITTER`].
    pub jitter_seconds: u32,
}

impl Timing {
    /// A pattern without bounds and without spread.
    #[must_use]
    pub fn of(pattern: Pattern) -> Self {
        Self {
            pattern,
            start_at: None,
            end_at: None,
            jitter_seconds: 0,
        }
    }

    /// Whether `at` lies within the bounds.
    #[must_use]
    pub fn allows(&self, at: Timestamp) -> bool {
        self.start_at.is_none_or(|start| at >= start) && self.end_at.is_none_or(|end| at < end)
    }

    /// The first nominal instant strictly after `after`.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let from = match self.start_at {
            Some(start) if start > after => minus(start, TICK),
            _ => after,
        };
        self.pattern.next_after(from).filter(|at| self.allows(*at))
    }

    /// The last nominal instant strictly before `before`.
    #[must_use]
    pub fn previous_before(&self, before: Timestamp) -> Option<Timestamp> {
        let until = self.end_at.map_or(before, |end| end.min(before));
        self.pattern.previous_before(until).filter(|at| self.allows(*at))
    }

    /// The last nominal instant at or before `until`.
    #[must_use]
    pub fn latest_until(&self, until: Timestamp) -> Option<Timestamp> {
        self.previous_before(until.checked_add(TICK).unwrap_or(Timestamp::MAX))
    }

    /// Whether `at` is one of its instants.
    #[must_use]
    pub fn names(&self, at: Timestamp) -> bool {
        self.next_after(minus(at, TICK)) == Some(at)
    }

    /// When the nominal instant `at` is acted on. The share of the spread is the same whenever and wherever it is
    /// worked out, and always ends before the next instant and before the end: so the order of the instants is kept,
    /// and how one fire went never moves the next.
    #[must_use]
    pub fn due_at(&self, schedule: ScheduleId, at: Timestamp) -> Timestamp {
        let mut most = SignedDuration::from_secs(self.jitter_seconds.min(MOST_JITTER).into());
        if most.is_zero() {
            return at;
        }
        for bound in [self.pattern.next_after(at), self.end_at].into_iter().flatten() {
            most = most.min(bound.duration_since(at) - TICK);
        }
        let steps = u64::try_from(most.as_millis()).unwrap_or(0).saturating_add(1);
        let share = draw(schedule, at) % steps;
        at.checked_add(SignedDuration::from_millis(i64::try_from(share).unwrap_or(0)))
            .unwrap_or(at)
    }

    /// Whether nothing is left of it at `now` because it has come to its end.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        (self.end_at.is_some() || self.start_at.is_some()) && self.next_after(now).is_none()
    }

    /// Whether both name the same instants within the same bounds.
    #[must_use]
    pub fn same_instants(&self, other: &Self) -> bool {
        self.same_pattern(other) && self.start_at == other.start_at && self.end_at == other.end_at
    }

    /// Whether both have the same expression in the same zone.
    #[must_use]
    pub fn same_pattern(&self, other: &Self) -> bool {
        self.pattern.expr() == other.pattern.expr() && self.pattern.zone() == other.pattern.zone()
    }
}

/// A number that is the same for a schedule and an instant, and as good as random between them.
fn draw(schedule: ScheduleId, at: Timestamp) -> u64 {
    let mut hash = Sha256::new();
    hash.update(schedule.0.as_bytes());
    hash.update(at.as_millisecond().to_be_bytes());
    let digest = hash.finalize();
    digest
        .iter()
        .take(8)
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn minus(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn timing(expr: &str) -> Timing {
        Timing::of(Pattern::parse(expr, "UTC").unwrap())
    }

    #[test]
    fn the_start_is_inclusive_and_the_end_exclusive() {
        let hourly = Timing {
            start_at: Some(at("2027-01-01T02:00:00Z")),
            end_at: Some(at("2027-01-01T04:00:00Z")),
            ..timing("0 * * * *")
        };
        let (two, three) = (at("2027-01-01T02:00:00Z"), at("2027-01-01T03:00:00Z"));
        assert_eq!(hourly.next_after(at("2020-01-01T00:00:00Z")), Some(two));
        assert_eq!(hourly.next_after(two), Some(three));
        assert_eq!(hourly.next_after(three), None);
        assert_eq!(hourly.previous_before(at("2030-01-01T00:00:00Z")), Some(three));
        assert_eq!(hourly.previous_before(three), Some(two));
        assert_eq!(hourly.previous_before(two), None);
        assert_eq!(
            (hourly.latest_until(two), hourly.latest_until(minus(two, TICK))),
            (Some(two), None)
        );
        assert!(!hourly.is_over(two) && hourly.is_over(three));
        assert!(
            !timing("0 * * * *").is_over(three),
            "what has no end is never over"
        );
    }

    #[test]
    fn a_share_is_the_same_each_time_and_stays_within_its_bounds() {
        let spread = |jitter_seconds, end_at| Timing {
            jitter_seconds,
            end_at,
            ..timing("*/5 * * * *")
        };
        let mut shares = Vec::new();
        for number in 0..1_000_u32 {
            let id = ScheduleId(Uuid::from_u128(number.into()));
            let nominal = at("2027-01-01T00:05:00Z");
            let due = spread(60, None).due_at(id, nominal);
            assert_eq!(due, spread(60, None).due_at(id, nominal));
            assert!(due >= nominal && due.duration_since(nominal) <= SignedDuration::from_secs(60));
            shares.push(due);
            assert!(spread(3_600, None).due_at(id, nominal) < at("2027-01-01T00:10:00Z"));
            let end = at("2027-01-01T00:05:10Z");
            assert!(spread(3_600, Some(end)).due_at(id, nominal) < end);
            assert_eq!(spread(0, None).due_at(id, nominal), nominal);
        }
        shares.sort();
        shares.dedup();
        // A thousand draws out of 60,001: about eight coincide.
        assert!(shares.len() > 950, "{}", shares.len());
        let early = shares
            .iter()
            .filter(|due| **due < at("2027-01-01T00:05:30Z"))
            .count();
        assert!((400..600).contains(&early), "{early}");
    }
}
