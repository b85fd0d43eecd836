//! From a wall-clock minute to the nearest one that matches, forwards or back. No zones here.
//!
//! Wall minutes count from 1970-01-01T00:00 on the wall. Each step is a count of zeros in a bit set, and no
//! search visits more than the months of 400 years, after which the calendar repeats.

use crate::calendar::{Date, Month, date_of, day_of, days_in_month, weekday_of};
use crate::pattern::{Cron, EVERY_DAY, NEVER};
use crate::steps;

pub(crate) const DAY: i64 = 1440;

/// A multiple of a day that lifts every wall minute of jiff's range above zero: unsigned division is cheaper.
const LIFT: i64 = 4_500_000 * DAY;

/// 400 years, and the parts of a year at either end.
const MONTHS_TO_SEARCH: u32 = 402 * 12;

#[inline]
fn split(minute: i64) -> (i64, u32) {
    let lifted = (minute + LIFT) as u64;
    let day = lifted / DAY as u64;
    ((day as i64) - LIFT / DAY, (lifted % DAY as u64) as u32)
}

impl Cron {
    /// The first matching wall minute at or after `from`.
    #[inline]
    pub(crate) fn wall_at_or_after(&self, from: i64) -> Option<i64> {
        let (day, minute) = split(from);
        if self.has(EVERY_DAY) {
            return Some(match self.time_at_or_after(minute) {
                Some(time) => day * DAY + time,
                None => (day + 1) * DAY + self.first_time(),
            });
        }
        if self.has(NEVER) {
            return None;
        }
        let date = date_of(day);
        let first_day = day - i64::from(date.day) + 1;
        if self.months >> date.month & 1 != 0 {
            let days = self.days_of(date, first_day) >> date.day;
            if days & 1 != 0
                && let Some(time) = self.time_at_or_after(minute)
            {
                return Some(day * DAY + time);
            }
            let later = days & !1;
            if later != 0 {
                return Some((day + i64::from(later.trailing_zeros())) * DAY + self.first_time());
            }
        }
        self.day_after_month(date)
            .map(|day| day * DAY + self.first_time())
    }

    /// The last matching wall minute at or before `from`.
    pub(crate) fn wall_at_or_before(&self, from: i64) -> Option<i64> {
        let (day, minute) = split(from);
        if self.has(EVERY_DAY) {
            return Some(match self.time_at_or_before(minute) {
                Some(time) => day * DAY + time,
                None => (day - 1) * DAY + self.last_time(),
            });
        }
        if self.has(NEVER) {
            return None;
        }
        let date = date_of(day);
        let first_day = day - i64::from(date.day) + 1;
        if self.months >> date.month & 1 != 0 {
            let days = self.days_of(date, first_day) << (31 - date.day);
            if days >> 31 != 0
                && let Some(time) = self.time_at_or_before(minute)
            {
                return Some(day * DAY + time);
            }
            let earlier = days & !(1 << 31);
            if earlier != 0 {
                return Some((day - i64::from(earlier.leading_zeros())) * DAY + self.last_time());
            }
        }
        self.day_before_month(date)
            .map(|day| day * DAY + self.last_time())
    }

    #[inline]
    fn days_of(&self, date: Date, first_day: i64) -> u32 {
        self.days_in(Month {
            days: days_in_month(date.year, date.month),
            first_weekday: weekday_of(first_day),
        })
    }

    fn day_after_month(&self, date: Date) -> Option<i64> {
        let Date {
            mut year, mut month, ..
        } = date;
        for _ in 0..MONTHS_TO_SEARCH {
            steps::count();
            // Two shifts: one by 13 bits at once would be by all of a 13-bit set's width.
            let later = self.months >> month >> 1;
            if later != 0 {
                month += 1 + later.trailing_zeros();
            } else {
                year += 1;
                month = self.months.trailing_zeros();
            }
            let first_day = day_of(year, month, 1);
            let days = self.days_of(Date { year, month, day: 1 }, first_day);
            if days != 0 {
                return Some(first_day + i64::from(days.trailing_zeros()) - 1);
            }
        }
        None
    }

    fn day_before_month(&self, date: Date) -> Option<i64> {
        let Date {
            mut year, mut month, ..
        } = date;
        for _ in 0..MONTHS_TO_SEARCH {
            steps::count();
            let earlier = self.months & ((1 << month) - 1);
            if earlier != 0 {
                month = 15 - earlier.leading_zeros();
            } else {
                year -= 1;
                month = 15 - self.months.leading_zeros();
            }
            let first_day = day_of(year, month, 1);
            let days = self.days_of(Date { year, month, day: 1 }, first_day);
            if days != 0 {
                return Some(first_day + i64::from(31 - days.leading_zeros()) - 1);
            }
        }
        None
    }

    #[inline]
    fn first_time(&self) -> i64 {
        i64::from(self.hours.trailing_zeros() * 60 + self.minutes().trailing_zeros())
    }

    #[inline]
    fn last_time(&self) -> i64 {
        i64::from((31 - self.hours.leading_zeros()) * 60 + 63 - self.minutes().leading_zeros())
    }

    #[inline]
    fn time_at_or_after(&self, minute_of_day: u32) -> Option<i64> {
        let (hour, minute) = (minute_of_day / 60, minute_of_day % 60);
        let hours = self.hours >> hour;
        if hours & 1 != 0 {
            let minutes = self.minutes() >> minute;
            if minutes != 0 {
                return Some(i64::from(minute_of_day + minutes.trailing_zeros()));
            }
        }
        let later = hours & !1;
        if later == 0 {
            return None;
        }
        Some(i64::from(
            (hour + later.trailing_zeros()) * 60 + self.minutes().trailing_zeros(),
        ))
    }

    fn time_at_or_before(&self, minute_of_day: u32) -> Option<i64> {
        let (hour, minute) = (minute_of_day / 60, minute_of_day % 60);
        let hours = self.hours << (31 - hour);
        if hours >> 31 != 0 {
            let minutes = self.minutes() << (63 - minute);
            if minutes != 0 {
                return Some(i64::from(minute_of_day - minutes.leading_zeros()));
            }
        }
        let earlier = hours & !(1 << 31);
        if earlier == 0 {
            return None;
        }
        Some(i64::from(
            (hour - earlier.leading_zeros()) * 60 + 63 - self.minutes().leading_zeros(),
        ))
    }
}
