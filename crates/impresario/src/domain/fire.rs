//! Which fire of a schedule is due, which were missed, and which comes next: a pure function of the pattern, the
//! durable cursor and the time.

use jiff::{SignedDuration, Timestamp};

use super::Pattern;

/// What to do with a schedule whose cursor has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirePlan {
    /// The instant that fires now: the newest one that is due.
    pub fire_at: Timestamp,
    /// The older ones that are passed over, where there are any.
    pub missed: Option<Missed>,
    /// The cursor's next stand: the first instant after both the fire and the present; `None` if there is none.
    pub next: Option<Timestamp>,
}

/// A run of instants that came and went while nobody could fire them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// The oldest.
    pub from: Timestamp,
    /// The newest.
    pub until: Timestamp,
    /// How many, at least 1; counted up to 100,000.
    pub count: u64,
}

impl Missed {
    /// Whether they are more than were counted.
    #[must_use]
    pub fn is_cut_short(&self) -> bool {
        self.count >= MOST_COUNTED
    }
}

/// Missed fires are counted one by one up to here (two months of a schedule that fires every minute), so that years
/// of downtime cost bounded work.
pub(super) const MOST_COUNTED: u64 = 100_000;

/// Plans the fires of a schedule whose oldest unaccounted instant is `cursor`, at the time `now`.
///
/// The misfire policy is `fire_once`: of all instants that are due the newest one fires and the others are recorded
/// as missed. `None` where nothing is due yet: a fire is never early.
#[must_use]
pub fn plan_fire(pattern: &Pattern, cursor: Timestamp, now: Timestamp) -> Option<FirePlan> {
    if cursor > now {
        return None;
    }
    let just_after = now
        .checked_add(SignedDuration::from_millis(1))
        .unwrap_or(Timestamp::MAX);
    // The cursor is due even where the pattern, read under another time zone database, would not name it any more.
    let newest = pattern
        .previous_before(just_after)
        .map_or(cursor, |newest| newest.max(cursor));
    let missed = (newest > cursor).then(|| {
        let mut missed = Missed {
            from: cursor,
            until: cursor,
            count: 1,
        };
        while missed.count < MOST_COUNTED {
            match pattern.next_after(missed.until) {
                Some(at) if at < newest => {
                    missed.until = at;
                    missed.count += 1;
                }
                _ => return missed,
            }
        }
        missed.until = pattern
            .previous_before(newest)
            .map_or(missed.until, |at| at.max(missed.until));
        missed
    });
    Some(FirePlan {
        fire_at: newest,
        missed,
        next: pattern.next_after(now),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn pattern(expr: &str, zone: &str) -> Pattern {
        Pattern::parse(expr, zone).unwrap()
    }

    #[test]
    fn nothing_fires_early() {
        let every_minute = pattern("* * * * *", "UTC");
        assert_eq!(
            plan_fire(
                &every_minute,
                at("2026-01-01T00:01:00Z"),
                at("2026-01-01T00:00:59.999Z")
            ),
            None
        );
    }

    #[test]
    fn on_time_one_fire_and_no_miss() {
        let every_minute = pattern("* * * * *", "UTC");
        let plan = plan_fire(
            &every_minute,
            at("2026-01-01T00:01:00Z"),
            at("2026-01-01T00:01:00Z"),
        )
        .unwrap();
        assert_eq!(plan.fire_at, at("2026-01-01T00:01:00Z"));
        assert_eq!(plan.missed, None);
        assert_eq!(plan.next, Some(at("2026-01-01T00:02:00Z")));
    }

    #[test]
    fn after_downtime_the_newest_fires_and_the_others_are_counted() {
        let hourly = pattern("0 * * * *", "UTC");
        let plan = plan_fire(&hourly, at("2026-01-01T01:00:00Z"), at("2026-01-01T05:30:00Z")).unwrap();
        assert_eq!(plan.fire_at, at("2026-01-01T05:00:00Z"));
        let missed = plan.missed.unwrap();
        assert_eq!(
            (missed.from, missed.until),
            (at("2026-01-01T01:00:00Z"), at("2026-01-01T04:00:00Z"))
        );
        assert_eq!(missed.count, 4);
        assert_eq!(plan.next, Some(at("2026-01-01T06:00:00Z")));
    }

    #[test]
    fn a_year_of_downtime_is_bounded_work() {
        let every_minute = pattern("* * * * *", "UTC");
        let plan = plan_fire(
            &every_minute,
            at("2026-01-01T00:00:00Z"),
            at("2027-01-01T00:00:30Z"),
        )
        .unwrap();
        assert_eq!(plan.fire_at, at("2027-01-01T00:00:00Z"));
        assert_eq!(plan.missed.unwrap().count, MOST_COUNTED);
        assert_eq!(plan.missed.unwrap().until, at("2026-12-31T23:59:00Z"));
    }

    #[test]
    fn a_fixed_time_in_a_gap_fires_once_right_after_it() {
        let nightly = pattern("30 2 * * *", "America/New_York");
        let plan = plan_fire(
            &nightly,
            at("2027-03-14T07:00:00Z"),
            at("2027-03-14T07:00:00.004Z"),
        )
        .unwrap();
        assert_eq!(plan.fire_at, at("2027-03-14T07:00:00Z"));
        assert_eq!(plan.next, Some(at("2027-03-15T06:30:00Z")));
    }
}
