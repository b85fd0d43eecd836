//! What to do with a schedule that is due.
//!
//! A schedule's `next_fire_at` is its durable cursor: the oldest instant it still owes. Planning asks what lies between
//! that instant and now, and answers with what to fire, what was missed, and where the cursor stands afterwards; the
//! store writes all three in one transaction.

use jiff::{SignedDuration, Timestamp};

use super::Pattern;

/// What one due schedule does now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The instant that fires.
    pub fire_at: Timestamp,
    /// The older instants that do not, where there are any.
    pub missed: Option<Missed>,
    /// The instant it owes next; `None` where there is none before the end of time.
    pub next: Option<Timestamp>,
}

/// A run of due instants that passed while nobody was there to fire them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// The oldest.
    pub first: Timestamp,
    /// The newest.
    pub last: Timestamp,
    /// How many, both ends included; at most [`MISSED_COUNTED`].
    pub count: u64,
}

/// How many missed instants are counted one by one: more than a month of `* * * * *`. A year of downtime must cost
/// bounded work, and nobody acts differently on a larger number.
pub const MISSED_COUNTED: u64 = 50_000;

/// Plans the fire of a schedule that owes `owed` at or before `now`.
///
/// After downtime one catch-up run happens, for the newest instant that was missed, and the others are counted
/// (`fire_once`); so the plan of a schedule that is on time, which owes one instant only, is that instant.
#[must_use]
pub fn plan(pattern: &Pattern, owed: Timestamp, now: Timestamp) -> Plan {
    let just_after_now = now.checked_add(SignedDuration::from_nanos(1)).unwrap_or(now);
    // Where the pattern no longer holds an instant between the two (its zone's rules changed), what is owed is fired.
    let newest = pattern.previous_before(just_after_now).filter(|at| *at > owed).unwrap_or(owed);
    Plan { fire_at: newest, missed: missed(pattern, owed, newest), next: pattern.next_after(newest) }
}

/// The due instants from `owed` up to, but not including, `newest`.
fn missed(pattern: &Pattern, owed: Timestamp, newest: Timestamp) -> Option<Missed> {
    if owed >= newest {
        return None;
    }
    let last = pattern.previous_before(newest).filter(|at| *at > owed).unwrap_or(owed);
    let mut count = 1;
    let mut at = owed;
    while at < last && count < MISSED_COUNTED {
        let Some(next) = pattern.next_after(at) else { break };
        at = next;
        count += 1;
    }
    Some(Missed { first: owed, last, count })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn plans_of_due_schedules() {
        // (expression, zone, owed, now) → (fires, missed (first, last, count), next)
        type Row = (
            [&'static str; 4],
            &'static str,
            Option<(&'static str, &'static str, u64)>,
            &'static str,
        );
        let rows: [Row; 7] = [
            // on time
            (["*/5 * * * *", "UTC", "2027-01-01T00:05:00Z", "2027-01-01T00:05:00.004Z"], "2027-01-01T00:05:00Z", None, "2027-01-01T00:10:00Z"),
            // on time to the nanosecond
            (["*/5 * * * *", "UTC", "2027-01-01T00:05:00Z", "2027-01-01T00:05:00Z"], "2027-01-01T00:05:00Z", None, "2027-01-01T00:10:00Z"),
            // late by less than one period: the fire is kept
            (["*/5 * * * *", "UTC", "2027-01-01T00:05:00Z", "2027-01-01T00:09:59Z"], "2027-01-01T00:05:00Z", None, "2027-01-01T00:10:00Z"),
            // two owed: the newest fires, one is missed
            (["*/5 * * * *", "UTC", "2027-01-01T00:05:00Z", "2027-01-01T00:10:00Z"], "2027-01-01T00:10:00Z", Some(("2027-01-01T00:05:00Z", "2027-01-01T00:05:00Z", 1)), "2027-01-01T00:15:00Z"),
            // a day down
            (["0 * * * *", "UTC", "2027-01-01T01:00:00Z", "2027-01-02T00:30:00Z"], "2027-01-02T00:00:00Z", Some(("2027-01-01T01:00:00Z", "2027-01-01T23:00:00Z", 23)), "2027-01-02T01:00:00Z"),
            // down across the gap of New York: 02:30 is owed at 03:00 EDT
            (["30 2 * * *", "America/New_York", "2027-03-13T07:30:00Z", "2027-03-14T12:00:00Z"], "2027-03-14T07:00:00Z", Some(("2027-03-13T07:30:00Z", "2027-03-13T07:30:00Z", 1)), "2027-03-15T06:30:00Z"),
            // years down: bounded
            (["* * * * *", "UTC", "2027-01-01T00:00:00Z", "2037-01-01T00:00:30Z"], "2037-01-01T00:00:00Z", Some(("2027-01-01T00:00:00Z", "2036-12-31T23:59:00Z", MISSED_COUNTED)), "2037-01-01T00:01:00Z"),
        ];
        for ([expr, zone, owed, now], fires, missed, next) in rows {
            let pattern = Pattern::parse(expr, zone).unwrap();
            let plan = plan(&pattern, at(owed), at(now));
            let wanted = Plan {
                fire_at: at(fires),
                missed: missed.map(|(first, last, count)| Missed { first: at(first), last: at(last), count }),
                next: Some(at(next)),
            };
            assert_eq!(plan, wanted, "{expr} in {zone}, owed {owed}, now {now}");
        }
    }
}
