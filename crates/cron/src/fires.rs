//! Fires one after another, each with what a clock change did to it.

use std::iter::{FusedIterator, Rev};

use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};

use crate::next::{Hit, ceil_minute, floor_minute};
use crate::offsets::Offsets;
use crate::pattern::Cron;
use crate::search::DAY;
use crate::zone::Zone;

/// How a clock change touched a fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dst {
    /// The scheduled time was skipped by the clock; the fire is at the first minute after it.
    Gap,
    /// The time on the wall comes twice.
    Overlap,
}

impl Dst {
    /// `gap` or `overlap`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Dst::Gap => "gap",
            Dst::Overlap => "overlap",
        }
    }
}

/// One fire of an expression in a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fire {
    /// When, as an instant: a whole minute.
    pub at: Timestamp,
    /// What the clock on the wall shows then.
    pub local: DateTime,
    /// The time that was scheduled. It differs from `local` only after a gap; if a gap held several, this is
    /// the first.
    pub scheduled: DateTime,
    /// Whether a gap or an overlap touched the fire.
    pub dst: Option<Dst>,
}

/// The fires of an expression between two instants, from either end. See [`Cron::fires_between`].
#[derive(Clone, Debug)]
pub struct Fires {
    cron: Cron,
    zone: Zone,
    /// The real minutes still to look at, both included.
    from: i64,
    to: i64,
}

impl Cron {
    /// The fires strictly after an instant, in order.
    ///
    /// ```
    /// use impresario_cron::{Cron, Dst, Zone};
    ///
    /// let cron: Cron = "30 2 * * *".parse()?;
    /// let zone = Zone::get("America/New_York")?;
    /// let mut fires = cron.fires_after(&zone, "2027-03-13T12:00:00Z".parse()?);
    /// let fire = fires.next().unwrap();
    /// assert_eq!(fire.local.to_string(), "2027-03-14T03:00:00");
    /// assert_eq!(fire.scheduled.to_string(), "2027-03-14T02:30:00");
    /// assert_eq!(fire.dst, Some(Dst::Gap));
    /// assert_eq!(fires.next().unwrap().dst, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn fires_after(&self, zone: &Zone, after: Timestamp) -> Fires {
        let to = floor_minute(Timestamp::MAX);
        Fires {
            cron: *self,
            zone: zone.clone(),
            from: floor_minute(after) + 1,
            to,
        }
    }

    /// The fires strictly before an instant, the latest first.
    ///
    /// ```
    /// use impresario_cron::{Cron, Zone};
    ///
    /// let cron: Cron = "@monthly".parse()?;
    /// let last = cron.fires_before(&Zone::get("UTC")?, "2027-01-01T00:00:00Z".parse()?).next();
    /// assert_eq!(last.map(|fire| fire.at), Some("2026-12-01T00:00:00Z".parse()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fires_before(&self, zone: &Zone, before: Timestamp) -> Rev<Fires> {
        let from = ceil_minute(Timestamp::MIN);
        Fires {
            cron: *self,
            zone: zone.clone(),
            from,
            to: ceil_minute(before) - 1,
        }
        .rev()
    }

    /// The fires strictly between two instants, from either end.
    ///
    /// ```
    /// use impresario_cron::{Cron, Zone};
    ///
    /// let cron: Cron = "0 */6 * * *".parse()?;
    /// let day = cron.fires_between(
    ///     &Zone::get("UTC")?,
    ///     "2026-10-31T00:00:00Z".parse()?,
    ///     "2026-11-01T00:00:00Z".parse()?,
    /// );
    /// assert_eq!(day.clone().count(), 3);
    /// assert_eq!(day.rev().next().map(|fire| fire.at), Some("2026-10-31T18:00:00Z".parse()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn fires_between(&self, zone: &Zone, after: Timestamp, before: Timestamp) -> Fires {
        Fires {
            cron: *self,
            zone: zone.clone(),
            from: floor_minute(after) + 1,
            to: ceil_minute(before) - 1,
        }
    }
}

impl Fires {
    fn fire(&self, hit: Hit) -> Option<Fire> {
        let offsets = self.zone.offsets();
        let local = hit.real + i64::from(offsets.at(hit.real).stretch().offset);
        let dst = if hit.wall < local {
            Some(Dst::Gap)
        } else if comes_twice(offsets, hit.real, local) {
            Some(Dst::Overlap)
        } else {
            None
        };
        Some(Fire {
            at: Timestamp::from_second(hit.real * 60).ok()?,
            local: on_the_wall(local)?,
            scheduled: on_the_wall(hit.wall)?,
            dst,
        })
    }

    fn finish(&mut self) {
        self.from = 1;
        self.to = 0;
    }
}

impl Iterator for Fires {
    type Item = Fire;

    fn next(&mut self) -> Option<Fire> {
        if self.from > self.to {
            return None;
        }
        let hit = self
            .cron
            .hit_from(self.zone.offsets(), self.from)
            .filter(|hit| hit.real <= self.to);
        let Some(hit) = hit else {
            self.finish();
            return None;
        };
        self.from = hit.real + 1;
        self.fire(hit)
    }
}

impl DoubleEndedIterator for Fires {
    fn next_back(&mut self) -> Option<Fire> {
        if self.from > self.to {
            return None;
        }
        let hit = self
            .cron
            .hit_to(self.zone.offsets(), self.to)
            .filter(|hit| hit.real >= self.from);
        let Some(hit) = hit else {
            self.finish();
            return None;
        };
        self.to = hit.real - 1;
        self.fire(hit)
    }
}

impl FusedIterator for Fires {}

/// Whether a wall minute is shown at another real minute too. No clock has gone back by more than a day.
fn comes_twice(offsets: &Offsets, real: i64, wall: i64) -> bool {
    let home = offsets.at(real);
    let shows = |start: i64, end: i64, offset: i32| (start..end).contains(&(wall - i64::from(offset)));
    let mut cursor = home;
    while let Some(next) = cursor.next()
        && next.stretch().start <= real + 2 * DAY
    {
        cursor = next;
        if shows(next.stretch().start, next.end(), next.stretch().offset) {
            return true;
        }
    }
    cursor = home;
    while let Some(previous) = cursor.previous()
        && previous.end() >= real - 2 * DAY
    {
        cursor = previous;
        if shows(
            previous.stretch().start,
            previous.end(),
            previous.stretch().offset,
        ) {
            return true;
        }
    }
    false
}

fn on_the_wall(minute: i64) -> Option<DateTime> {
    const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
    EPOCH.checked_add(SignedDuration::from_mins(minute)).ok()
}
