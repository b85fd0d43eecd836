//! A zone's clock as a table: from a real minute to the stretch of unchanged offset it lies in.
//!
//! The table is made once a zone from jiff's transitions. It reaches 400 years past 2100; from there on the
//! offsets follow a yearly rule and the calendar repeats, so later minutes are folded back into it. That makes
//! a lookup a few array reads at any distance, and every search finite.
//!
//! Everything is in whole minutes. Clocks off by seconds (local mean time, before 1972) read the minute that
//! has begun: at a whole real minute the wall shows its minute, with the seconds cut off.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::calendar::CYCLE_DAYS;
use crate::search::DAY;

/// 2100-01-01T00:00Z. Rules are yearly from here on in every zone; a test holds the database to it.
pub(crate) const RULES_FROM: i64 = 68_374_080;
/// 400 years in minutes.
pub(crate) const CYCLE: i64 = CYCLE_DAYS * DAY;

/// Earlier than any jiff instant, and far from overflow.
const BEGINNING: i64 = -(1 << 40);
const END: i64 = 1 << 40;

/// A forward jump this long is a correction of the calendar: what it skips is not caught up.
const CORRECTION_SECONDS: i32 = 3 * 3600;

/// Half a year or so: a stretch starts in about every bucket.
const BUCKET_BITS: u32 = 18;
/// 1880-01-01T00:00Z; earlier minutes share the first bucket.
const FIRST_BUCKET: i64 = -47_335_680;

/// A stretch of real time with one offset.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    /// First real minute.
    pub(crate) start: i64,
    /// Wall minute minus real minute.
    pub(crate) offset: i32,
    /// First wall minute that no earlier stretch has shown or passed, minus `start`.
    fresh: i32,
}

impl Stretch {
    /// First wall minute shown.
    #[inline]
    pub(crate) fn wall_start(&self) -> i64 {
        self.start + i64::from(self.offset)
    }

    /// First wall minute not seen before: below [`wall_start`](Self::wall_start) after a gap, above it in an
    /// overlap.
    #[inline]
    pub(crate) fn fresh_start(&self) -> i64 {
        self.start + i64::from(self.fresh)
    }
}

/// The offsets of one zone over all time.
#[derive(Debug)]
pub(crate) struct Offsets {
    stretches: Box<[Stretch]>,
    /// Index of the first stretch that starts at or after [`RULES_FROM`]: the ones from here repeat.
    repeat: usize,
    /// For each bucket of minutes the stretch at its beginning.
    buckets: Box<[u16]>,
}

/// A place in the table, shifted by whole cycles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'z> {
    offsets: &'z Offsets,
    index: usize,
    shift: i64,
}

impl Offsets {
    pub(crate) fn of(tz: &TimeZone) -> Offsets {
        let mut seconds = tz.to_offset(Timestamp::MIN).seconds();
        let offset = seconds.div_euclid(60);
        let mut stretches = vec![Stretch {
            start: BEGINNING,
            offset,
            fresh: offset,
        }];
        for transition in tz.following(Timestamp::MIN) {
            let at = transition.timestamp().as_second();
            let start = at.div_euclid(60) + i64::from(at.rem_euclid(60) != 0);
            if start >= RULES_FROM + CYCLE {
                break;
            }
            let before = seconds;
            seconds = transition.offset().seconds();
            if seconds == before {
                continue;
            }
            let last = stretches[stretches.len() - 1];
            let mut fresh_start = last.fresh_start().max(start + i64::from(last.offset));
            let offset = seconds.div_euclid(60);
            if seconds - before >= CORRECTION_SECONDS {
                fresh_start = fresh_start.max(start + i64::from(offset));
            }
            stretches.push(Stretch {
                start,
                offset,
                fresh: (fresh_start - start) as i32,
            });
        }
        let repeat = stretches.partition_point(|s| s.start < RULES_FROM);
        let buckets = index_by_bucket(&stretches);
        Offsets {
            stretches: stretches.into_boxed_slice(),
            repeat,
            buckets,
        }
    }

    /// The stretch of a real minute.
    #[inline]
    pub(crate) fn at(&self, minute: i64) -> Cursor<'_> {
        if minute >= RULES_FROM + CYCLE && self.repeat < self.stretches.len() {
            return self.at_far(minute);
        }
        Cursor {
            offsets: self,
            index: self.find(minute),
            shift: 0,
        }
    }

    #[cold]
    fn at_far(&self, minute: i64) -> Cursor<'_> {
        let shift = (minute - RULES_FROM) / CYCLE * CYCLE;
        let index = self.find(minute - shift);
        if index < self.repeat {
            // Before the first change of a cycle: still in the last stretch of the one before.
            return Cursor {
                offsets: self,
                index: self.stretches.len() - 1,
                shift: shift - CYCLE,
            };
        }
        Cursor {
            offsets: self,
            index,
            shift,
        }
    }

    #[inline]
    fn find(&self, minute: i64) -> usize {
        let bucket = ((minute - FIRST_BUCKET).max(0) >> BUCKET_BITS) as usize;
        let mut index = usize::from(self.buckets[bucket.min(self.buckets.len() - 1)]);
        while let Some(next) = self.stretches.get(index + 1)
            && next.start <= minute
        {
            index += 1;
        }
        index
    }
}

fn index_by_bucket(stretches: &[Stretch]) -> Box<[u16]> {
    let mut buckets = vec![0];
    for (index, stretch) in stretches.iter().enumerate() {
        // The first bucket that begins at or after the stretch does.
        let from = ((stretch.start - FIRST_BUCKET + (1 << BUCKET_BITS) - 1).max(0) >> BUCKET_BITS) as usize;
        if from == 0 {
            continue;
        }
        let before = buckets[buckets.len() - 1];
        buckets.resize(buckets.len().max(from), before);
        buckets.truncate(from);
        buckets.push(index as u16);
    }
    buckets.into_boxed_slice()
}

impl<'z> Cursor<'z> {
    #[inline]
    pub(crate) fn stretch(self) -> Stretch {
        let mut stretch = self.offsets.stretches[self.index];
        stretch.start += self.shift;
        stretch
    }

    /// The first real minute after the stretch.
    #[inline]
    pub(crate) fn end(self) -> i64 {
        let offsets = self.offsets;
        if let Some(next) = offsets.stretches.get(self.index + 1) {
            next.start + self.shift
        } else if let Some(first) = offsets.stretches.get(offsets.repeat) {
            first.start + self.shift + CYCLE
        } else {
            END
        }
    }

    /// The stretch that begins at [`end`](Self::end).
    #[inline]
    pub(crate) fn next(self) -> Option<Cursor<'z>> {
        let Cursor {
            offsets,
            index,
            shift,
        } = self;
        if index + 1 < offsets.stretches.len() {
            Some(Cursor {
                offsets,
                index: index + 1,
                shift,
            })
        } else if offsets.repeat < offsets.stretches.len() {
            Some(Cursor {
                offsets,
                index: offsets.repeat,
                shift: shift + CYCLE,
            })
        } else {
            None
        }
    }

    /// The stretch before.
    pub(crate) fn previous(self) -> Option<Cursor<'z>> {
        let Cursor {
            offsets,
            index,
            shift,
        } = self;
        if shift > 0 && index == offsets.repeat {
            return Some(Cursor {
                offsets,
                index: offsets.stretches.len() - 1,
                shift: shift - CYCLE,
            });
        }
        Some(Cursor {
            offsets,
            index: index.checked_sub(1)?,
            shift,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZoneDatabase;

    fn every_zone(mut check: impl FnMut(&str, &TimeZone, &Offsets)) {
        let db = TimeZoneDatabase::bundled();
        for name in db.available() {
            let tz = db.get(name.as_str()).unwrap();
            check(name.as_str(), &tz, &Offsets::of(&tz));
        }
    }

    #[test]
    fn the_rules_of_every_zone_repeat_from_2100() {
        every_zone(|name, tz, offsets| {
            let from = Timestamp::from_second(RULES_FROM * 60 - 1).unwrap();
            let near: Vec<_> = tz
                .following(from)
                .take_while(|t| t.timestamp().as_second() < (RULES_FROM + CYCLE) * 60)
                .collect();
            let from = Timestamp::from_second((RULES_FROM + CYCLE) * 60 - 1).unwrap();
            let far = tz.following(from).take(near.len());
            assert_eq!(near.len() + offsets.repeat, offsets.stretches.len(), "{name}");
            for (near, far) in near.iter().zip(far) {
                assert_eq!(
                    near.timestamp().as_second() + CYCLE * 60,
                    far.timestamp().as_second(),
                    "{name}"
                );
                assert_eq!(near.offset(), far.offset(), "{name}");
            }
        });
    }

    #[test]
    fn offsets_agree_with_jiff_around_every_change_and_far_away() {
        every_zone(|name, tz, offsets| {
            let changes = tz
                .following(Timestamp::MIN)
                .map(|t| t.timestamp().as_second().div_euclid(60));
            let ends = [Timestamp::MIN, Timestamp::MAX].map(|t| t.as_second().div_euclid(60));
            for minute in changes
                .take(2_000)
                .chain(ends)
                .chain((0..400).map(|n| n * 8_760_000 - 400_000_000))
            {
                for minute in [minute - 1, minute, minute + 1] {
                    let Ok(instant) = Timestamp::from_second(minute * 60) else {
                        continue;
                    };
                    let cursor = offsets.at(minute);
                    let wall = (minute * 60 + i64::from(tz.to_offset(instant).seconds())).div_euclid(60);
                    let stretch = cursor.stretch();
                    assert_eq!(minute + i64::from(stretch.offset), wall, "{name} {instant}");
                    assert!(
                        stretch.start <= minute && minute < cursor.end(),
                        "{name} {instant}"
                    );
                    if let Some(next) = cursor.next() {
                        assert_eq!(next.stretch().start, cursor.end());
                        let back = next.previous().unwrap();
                        assert_eq!((back.index, back.shift), (cursor.index, cursor.shift));
                    }
                }
            }
        });
    }
}
