//! What an expression means, as bit sets: in from the parser, out to the calendar and the printers.

use crate::calendar::{Month, month_lengths};

/// A parsed five-field expression: 32 bytes, `Copy`, no heap.
///
/// Two are equal when they mean the same: `0 9 * * MON` equals `00 9 ? * 1`. [`Display`](std::fmt::Display)
/// writes a canonical text of the same meaning; keep the original beside it where the spelling matters.
///
/// ```
/// use impresario_cron::Cron;
///
/// let cron: Cron = "0,30 09 * * mon-FRI".parse()?;
/// assert_eq!(cron.to_string(), "0,30 9 * * 1-5");
/// assert_eq!(cron, "0,30 9 * * 1,2,3,4,5".parse()?);
/// # Ok::<(), impresario_cron::CronError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cron {
    /// Bits 0-59.
    minutes: u64,
    /// Eight bits for each weekday: bits 0-4 for its first to fifth in the month, bit 5 for its last.
    pub(crate) nth: u64,
    /// Bits 0-23.
    pub(crate) hours: u32,
    /// Bits 1-31.
    pub(crate) days: u32,
    /// Bits 1-31: the weekday nearest to that day.
    pub(crate) nearest: u32,
    /// Bits 1-12.
    pub(crate) months: u16,
    /// Bits 0-6, Sunday first.
    pub(crate) weekdays: u8,
    pub(crate) flags: u8,
}

/// What an expression says of days, and its flags, on the way into a [`Cron`].
#[derive(Clone, Copy)]
pub(crate) struct DaySets {
    pub(crate) days: u32,
    pub(crate) nearest: u32,
    pub(crate) weekdays: u8,
    pub(crate) nth: u64,
    pub(crate) flags: u8,
}

/// The minute or the hour starts with `*`: follows real time through a clock change.
pub(crate) const WILD: u8 = 1;
/// A day must match both day fields, not either.
pub(crate) const BOTH: u8 = 1 << 1;
/// `L` in the day of the month.
pub(crate) const LAST: u8 = 1 << 2;
/// `LW` in the day of the month.
pub(crate) const LAST_WEEKDAY: u8 = 1 << 3;
/// Some day field uses `L`, `W` or `#`.
pub(crate) const SPECIAL: u8 = 1 << 4;
/// No date is left out, so the calendar need not be asked.
pub(crate) const EVERY_DAY: u8 = 1 << 5;
/// No date ever matches.
pub(crate) const NEVER: u8 = 1 << 6;

pub(crate) const ALL_MINUTES: u64 = (1 << 60) - 1;
pub(crate) const ALL_HOURS: u32 = (1 << 24) - 1;
pub(crate) const ALL_DAYS: u32 = 0xffff_fffe;
pub(crate) const ALL_MONTHS: u16 = 0x1ffe;
pub(crate) const ALL_WEEKDAYS: u8 = 0x7f;
/// The days that every month has, February at least in leap years.
const UP_TO_29: u32 = 0x3fff_fffe;

/// Seven days as a bit pattern, repeated over the six weeks a month can touch.
const WEEKS: u64 = 1 | 1 << 7 | 1 << 14 | 1 << 21 | 1 << 28 | 1 << 35;

const LAST_OF_WEEKDAY: u64 = 1 << 5;

impl DaySets {
    #[inline(always)]
    fn has_special(&self) -> bool {
        self.nth != 0 || self.nearest != 0 || self.flags & (LAST | LAST_WEEKDAY) != 0
    }

    /// Drops what adds nothing: `L` beside `*`, `MON#2` beside `MON`.
    #[cold]
    #[inline(never)]
    fn without_implied(mut self) -> DaySets {
        if self.days == ALL_DAYS {
            self.nearest = 0;
            self.flags &= !(LAST | LAST_WEEKDAY);
        }
        let plain = (0..7).filter(|day| self.weekdays >> day & 1 != 0);
        self.nth = plain.fold(self.nth, |nth, day| nth & !(0xff << (8 * day)));
        if self.has_special() {
            self.flags |= SPECIAL;
        }
        self
    }
}

impl Cron {
    /// Puts the sets of an expression together, and brings those of one meaning to one form, so that `==` compares
    /// meanings.
    ///
    /// Made of single values, not changed in place: the sets stay in registers until the end, which halves the
    /// time of reading an expression.
    #[inline(always)]
    pub(crate) fn from_sets(minutes: u64, hours: u32, months: u16, sets: DaySets) -> Cron {
        let DaySets {
            mut days,
            mut nearest,
            mut weekdays,
            mut nth,
            mut flags,
        } = sets;
        if sets.has_special() {
            DaySets {
                days,
                nearest,
                weekdays,
                nth,
                flags,
            } = DaySets {
                days,
                nearest,
                weekdays,
                nth,
                flags,
            }
            .without_implied();
        }
        if days == ALL_DAYS || weekdays == ALL_WEEKDAYS {
            if flags & BOTH == 0 {
                days = ALL_DAYS;
                weekdays = ALL_WEEKDAYS;
                nth = 0;
                nearest = 0;
                flags &= !(LAST | LAST_WEEKDAY | SPECIAL);
            }
            flags |= BOTH;
            if days == ALL_DAYS && weekdays == ALL_WEEKDAYS && months == ALL_MONTHS {
                flags |= EVERY_DAY;
            }
        }
        let cron = |flags| Cron {
            minutes,
            nth,
            hours,
            days,
            nearest,
            months,
            weekdays,
            flags,
        };
        // Only the 30th and the 31st are missing in some month, and a weekday in none.
        let doubtful = flags & SPECIAL != 0 || days & UP_TO_29 == 0 || weekdays == 0;
        if doubtful && cron(flags).finds_no_day() {
            flags |= NEVER;
        }
        cron(flags)
    }

    pub(crate) const fn minutes(&self) -> u64 {
        self.minutes
    }

    pub(crate) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether the minute or the hour is written with a leading `*`.
    ///
    /// Such a job follows real time: it is silent in the hour a clock skips and fires in both passes of an
    /// hour that comes twice. Any other job is *fixed* and fires once for each time it names.
    #[must_use]
    pub const fn is_wild(&self) -> bool {
        self.has(WILD)
    }

    /// Whether no date can ever match, as in `0 0 30 2 *`.
    ///
    /// ```
    /// use impresario_cron::Cron;
    ///
    /// assert!("0 0 30 2 *".parse::<Cron>()?.is_never());
    /// assert!(!"0 0 29 2 *".parse::<Cron>()?.is_never());
    /// # Ok::<(), impresario_cron::CronError>(())
    /// ```
    #[must_use]
    pub const fn is_never(&self) -> bool {
        self.has(NEVER)
    }

    /// Every month length comes with every first weekday within 400 years, so trying them all is a proof.
    ///
    /// By value, so that the sets of other expressions need no place in memory.
    #[cold]
    #[inline(never)]
    fn finds_no_day(self) -> bool {
        (1..=12)
            .filter(|month| self.months >> month & 1 != 0)
            .all(|month| {
                month_lengths(month).iter().all(|&days| {
                    (0..7).all(|first| {
                        self.days_in(Month {
                            days,
                            first_weekday: first,
                        }) == 0
                    })
                })
            })
    }

    /// The matching days of a month, as bits 1-31.
    #[inline]
    pub(crate) fn days_in(&self, month: Month) -> u32 {
        let within = u32::MAX >> (31 - month.days) & ALL_DAYS;
        let mut days = self.days;
        let mut weekdays = ((u64::from(self.weekdays) * WEEKS) >> month.first_weekday << 1) as u32;
        if self.has(SPECIAL) {
            days |= self.special_days(month);
            weekdays |= self.special_weekdays(month);
        }
        within
            & if self.has(BOTH) {
                days & weekdays
            } else {
                days | weekdays
            }
    }

    #[cold]
    fn special_days(&self, month: Month) -> u32 {
        let mut found = 0;
        if self.has(LAST) {
            found |= 1 << month.days;
        }
        if self.has(LAST_WEEKDAY) {
            found |= 1 << month.nearest_weekday(month.days);
        }
        let mut rest = self.nearest & (u32::MAX >> (31 - month.days));
        while rest != 0 {
            found |= 1 << month.nearest_weekday(rest.trailing_zeros());
            rest &= rest - 1;
        }
        found
    }

    #[cold]
    fn special_weekdays(&self, month: Month) -> u32 {
        let mut found = 0_u64;
        for weekday in 0..7 {
            let wanted = self.nth >> (8 * weekday);
            let first = 1 + (weekday + 7 - month.first_weekday) % 7;
            for week in 0..5 {
                let day = first + 7 * week;
                let is_last = day <= month.days && day + 7 > month.days;
                if wanted >> week & 1 != 0 || (is_last && wanted & LAST_OF_WEEKDAY != 0) {
                    found |= 1 << day;
                }
            }
        }
        found as u32
    }
}

#[cfg(test)]
mod tests {
    use super::Cron;

    #[test]
    fn an_expression_takes_32_bytes() {
        assert_eq!(size_of::<Cron>(), 32);
    }

    #[test]
    fn equal_means_the_same_days_and_times() {
        let equal = [
            ("0 9 * * MON", "00 9 ? * 1"),
            ("0 0 1-31 * 1", "0 0 * * *"),
            ("0 0 * * 0-7", "0 0 * * *"),
            ("0 0 *,5 * 1", "0 0 * * 1"),
            ("0 0 L,*/1 * *", "@daily"),
            ("0 0 * * MON#2,MON", "0 0 * * 1"),
            ("*/90 * * * *", "0 * * * *"),
        ];
        let different = [
            // Wild and fixed, both days and either.
            ("0 * * * *", "0 0-23 * * *"),
            ("0 0 */2 * 1", "0 0 1-31/2 * 1"),
            ("0 0 L * *", "0 0 31 * *"),
        ];
        let read = |text: &str| text.parse::<Cron>().unwrap();
        for (a, b) in equal {
            assert_eq!(read(a), read(b), "{a} and {b}");
        }
        for (a, b) in different {
            assert_ne!(read(a), read(b), "{a} and {b}");
        }
    }
}
