//! From a real minute to the nearest fire, forwards or back: the rules at clock changes live here.
//!
//! Within a stretch of unchanged offset a fire is a matching wall minute less the offset. Between stretches the
//! two sorts of job differ only in where a stretch *begins* on the wall. For a wild job that is the first wall
//! minute shown, so a gap is lost and an overlap comes twice. For a fixed job it is the first wall minute not
//! seen before, so the minutes of a gap are due at its end and an overlap counts once.

use jiff::Timestamp;

use crate::offsets::{CYCLE, Cursor, Offsets, RULES_FROM, Stretch};
use crate::pattern::Cron;
use crate::steps;
use crate::zone::Zone;

/// A fire, in minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    /// Real minute.
    pub(crate) real: i64,
    /// The wall minute that was scheduled; the first of them when a gap's end has several.
    pub(crate) wall: i64,
}

impl Cron {
    /// The first fire strictly after an instant, or `None` if the expression [never fires](Self::is_never), if
    /// every fire would fall into a gap, or if the next one lies past jiff's year 9999.
    ///
    /// The result is a whole minute. It takes some nanoseconds in most cases and is bounded in all: no search
    /// goes further than 400 years.
    ///
    /// ```
    /// use impresario_cron::{Cron, Zone};
    ///
    /// let cron: Cron = "30 2 * * *".parse()?;
    /// let zone = Zone::get("America/New_York")?;
    /// // 02:30 does not exist on 14 March 2027: the clock goes from 02:00 to 03:00, and the job fires there.
    /// let next = cron.next_after(&zone, "2027-03-13T12:00:00Z".parse()?);
    /// assert_eq!(next, Some("2027-03-14T07:00:00Z".parse()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn next_after(&self, zone: &Zone, after: Timestamp) -> Option<Timestamp> {
        let hit = self.hit_from(zone.offsets(), floor_minute(after) + 1)?;
        instant(hit.real)
    }

    /// The last fire strictly before an instant, or `None` if there is none back to jiff's year -9999.
    ///
    /// It is the inverse of [`next_after`](Self::next_after): both walk the same set of instants.
    ///
    /// ```
    /// use impresario_cron::{Cron, Zone};
    ///
    /// let cron: Cron = "0 9 * * MON-FRI".parse()?;
    /// let previous = cron.previous_before(&Zone::get("Europe/Berlin")?, "2026-11-02T08:00:00Z".parse()?);
    /// assert_eq!(previous, Some("2026-10-30T08:00:00Z".parse()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn previous_before(&self, zone: &Zone, before: Timestamp) -> Option<Timestamp> {
        let hit = self.hit_to(zone.offsets(), ceil_minute(before) - 1)?;
        instant(hit.real)
    }

    /// Where a stretch begins on the wall for this job.
    #[inline]
    fn entry(&self, stretch: &Stretch) -> i64 {
        if self.is_wild() {
            stretch.wall_start()
        } else {
            stretch.fresh_start()
        }
    }

    /// The first fire at or after a real minute.
    #[inline]
    pub(crate) fn hit_from(&self, offsets: &Offsets, from: i64) -> Option<Hit> {
        let mut cursor = offsets.at(from);
        let mut stretch = cursor.stretch();
        let mut low = self.entry(&stretch);
        if from > stretch.start {
            low = low.max(from + i64::from(stretch.offset));
        }
        let mut wall = self.wall_at_or_after(low)?;
        // A whole cycle under the yearly rules without a fire proves that there is none.
        let last_start = from.max(RULES_FROM) + CYCLE;
        loop {
            steps::count();
            let real = (wall - i64::from(stretch.offset)).max(stretch.start);
            if real < cursor.end() {
                return Some(Hit { real, wall });
            }
            cursor = cursor.next()?;
            stretch = cursor.stretch();
            if stretch.start > last_start {
                return None;
            }
            let entry = self.entry(&stretch);
            // Search again if the change swallowed what was found, or shows minutes from before the search.
            if wall < entry || entry < low {
                low = entry;
                wall = self.wall_at_or_after(low)?;
            }
        }
    }

    /// The last fire at or before a real minute.
    pub(crate) fn hit_to(&self, offsets: &Offsets, to: i64) -> Option<Hit> {
        // Under the yearly rules one cycle is like another: look at the second, where a search that finds
        // nothing in 400 years has left the rules behind and goes on into history.
        let cycles = ((to - RULES_FROM).div_euclid(CYCLE) - 1).max(0) * CYCLE;
        let hit = self.hit_to_unfolded(offsets, to - cycles)?;
        let shift = if hit.real >= RULES_FROM { cycles } else { 0 };
        Some(Hit {
            real: hit.real + shift,
            wall: hit.wall + shift,
        })
    }

    fn hit_to_unfolded(&self, offsets: &Offsets, to: i64) -> Option<Hit> {
        let mut cursor = offsets.at(to);
        let mut stretch = cursor.stretch();
        let mut high = to + i64::from(stretch.offset);
        let mut wall = self.wall_at_or_before(high)?;
        loop {
            steps::count();
            if wall >= self.entry(&stretch) {
                let real = (wall - i64::from(stretch.offset)).max(stretch.start);
                return Some(Hit {
                    real,
                    wall: self.first_of_gap(cursor, real, wall),
                });
            }
            let end = stretch.start - 1;
            cursor = cursor.previous()?;
            stretch = cursor.stretch();
            let last = end + i64::from(stretch.offset);
            if wall > last || last > high {
                high = last;
                wall = self.wall_at_or_before(high)?;
            }
        }
    }

    /// Backwards, a gap's last missed minute is met first; a fire is told by its first.
    fn first_of_gap(&self, cursor: Cursor<'_>, real: i64, wall: i64) -> i64 {
        let stretch = cursor.stretch();
        let entry = self.entry(&stretch);
        if real > stretch.start || entry >= stretch.wall_start() {
            return wall;
        }
        self.wall_at_or_after(entry).unwrap_or(wall)
    }
}

#[inline]
fn instant(minute: i64) -> Option<Timestamp> {
    Timestamp::from_second(minute * 60).ok()
}

/// jiff gives the fraction the sign of the whole, so seconds are rounded towards zero.
#[inline]
pub(crate) fn floor_minute(instant: Timestamp) -> i64 {
    (instant.as_second() - i64::from(instant.subsec_nanosecond() < 0)).div_euclid(60)
}

pub(crate) fn ceil_minute(instant: Timestamp) -> i64 {
    let seconds = instant.as_second() + i64::from(instant.subsec_nanosecond() > 0);
    seconds.div_euclid(60) + i64::from(seconds.rem_euclid(60) != 0)
}
