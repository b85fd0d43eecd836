//! Real time, minute by minute: what the wall shows and what is therefore due.

use std::collections::HashMap;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::rules::Rules;

const CORRECTION: i64 = 180;
/// Long enough for any clock to have shown again what it showed before.
const WARM_UP: i64 = 2 * 1440;

/// A run of real minutes with the minute the wall shows at each.
pub(crate) struct Walk {
    start: i64,
    walls: Vec<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub at: Timestamp,
    pub scheduled: DateTime,
    pub gap: bool,
    pub overlap: bool,
}

pub(crate) fn on_the_wall(minute: i64) -> DateTime {
    DateTime::constant(1970, 1, 1, 0, 0, 0, 0)
        .checked_add(SignedDuration::from_mins(minute))
        .unwrap()
}

impl Walk {
    /// The minutes from `start` to `end`, and some before to get going; cut to what jiff can tell.
    pub(crate) fn new(tz: &TimeZone, start: i64, end: i64) -> Walk {
        let first = (start - WARM_UP).max(Timestamp::MIN.as_second().div_euclid(60) + 1);
        let walls = (first..=end).map_while(|minute| {
            let instant = Timestamp::from_second(minute * 60).ok()?;
            let offset = i64::from(tz.to_offset(instant).seconds());
            Some((minute * 60 + offset).div_euclid(60))
        });
        Walk {
            start: first,
            walls: walls.collect(),
        }
    }

    /// Everything due from `from` to the end of the walk.
    pub(crate) fn due(&self, rules: &Rules, from: i64) -> Vec<Due> {
        let mut dates = HashMap::new();
        let mut shown = HashMap::new();
        for wall in &self.walls {
            *shown.entry(*wall).or_insert(0) += 1;
        }
        let mut is_scheduled = |wall: i64| {
            let at = on_the_wall(wall);
            let date: Date = at.date();
            *dates.entry(date).or_insert_with(|| rules.match_date(date)) && rules.match_time(at)
        };
        let mut due = Vec::new();
        let mut seen = self.walls[0] - 1;
        let mut before = self.walls[0] - 1;
        for (real, &wall) in (self.start..).zip(&self.walls) {
            let skipped = wall - before - 1;
            let first = match rules.is_wild() {
                true => wall,
                // Nothing is caught up after a correction.
                false if skipped >= CORRECTION => wall.max(seen + 1),
                false => seen + 1,
            };
            before = wall;
            seen = seen.max(wall);
            if let Some(scheduled) = (first..=wall).find(|wall| is_scheduled(*wall))
                && real >= from
            {
                due.push(Due {
                    at: Timestamp::from_second(real * 60).unwrap(),
                    scheduled: on_the_wall(scheduled),
                    gap: scheduled < wall,
                    overlap: shown[&wall] > 1,
                });
            }
        }
        due
    }
}
