//! The proleptic Gregorian calendar, in days since 1970-01-01; years may be negative.

/// Days in 400 years, after which dates and weekdays repeat together.
pub(crate) const CYCLE_DAYS: i64 = 146_097;

/// What decides which days of a month match.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Month {
    /// 28-31.
    pub(crate) days: u32,
    /// Weekday of the first, 0 for Sunday.
    pub(crate) first_weekday: u32,
}

impl Month {
    /// The Monday-to-Friday day nearest to `day`, without leaving the month.
    pub(crate) fn nearest_weekday(self, day: u32) -> u32 {
        match (self.first_weekday + day - 1) % 7 {
            6 if day == 1 => 3,
            6 => day - 1,
            0 if day == self.days => day - 2,
            0 => day + 1,
            _ => day,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    pub(crate) year: i32,
    /// 1-12.
    pub(crate) month: u32,
    /// 1-31.
    pub(crate) day: u32,
}

/// Lifts every day of jiff's range above zero, so that the arithmetic below is unsigned.
const LIFT_CYCLES: i64 = 30;
const LIFT_DAYS: i64 = LIFT_CYCLES * CYCLE_DAYS + 719_468;
const LIFT_YEARS: i32 = LIFT_CYCLES as i32 * 400;

/// The date of a day; years start in March inside, which puts the leap day last.
#[inline]
pub(crate) fn date_of(day: i64) -> Date {
    let lifted = (day + LIFT_DAYS) as u32;
    let century_quarter = 4 * lifted + 3;
    let century = century_quarter / 146_097;
    let day_of_century = century_quarter % 146_097 / 4;
    let year_quarter = 4 * day_of_century + 3;
    let year_of_century = year_quarter / 1461;
    let day_of_year = year_quarter % 1461 / 4;
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let past_december = shifted >= 10;
    Date {
        year: (100 * century + year_of_century) as i32 + i32::from(past_december) - LIFT_YEARS,
        month: if past_december { shifted - 9 } else { shifted + 3 },
        day,
    }
}

/// The day of a date.
#[inline]
pub(crate) fn day_of(year: i32, month: u32, day: u32) -> i64 {
    let year = (year + LIFT_YEARS - i32::from(month <= 2)) as u32;
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let century = year / 100;
    i64::from(year * 365 + year / 4 - century + century / 4 + day_of_year) - LIFT_DAYS
}

/// 0 for Sunday.
#[inline]
pub(crate) fn weekday_of(day: i64) -> u32 {
    ((day + LIFT_CYCLES * CYCLE_DAYS) as u32 + 4) % 7
}

#[inline]
pub(crate) fn days_in_month(year: i32, month: u32) -> u32 {
    match month {
        2 if year & 3 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        // 31 in January, and in every second month from there until the pattern flips in August.
        _ => 30 | (month ^ month >> 3),
    }
}

/// The lengths a month can have.
pub(crate) fn month_lengths(month: u32) -> &'static [u32] {
    match month {
        2 => &[28, 29],
        4 | 6 | 9 | 11 => &[30],
        _ => &[31],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil;

    #[test]
    fn dates_agree_with_jiff_over_its_whole_range() {
        let epoch = civil::date(1970, 1, 1);
        let first = i64::from((civil::Date::MIN - epoch).get_days());
        let last = i64::from((civil::Date::MAX - epoch).get_days());
        let mut date = civil::Date::MIN;
        for day in first..=last {
            let ours = Date {
                year: date.year().into(),
                month: date.month() as u32,
                day: date.day() as u32,
            };
            assert_eq!(date_of(day), ours);
            assert_eq!(day_of(ours.year, ours.month, ours.day), day);
            assert_eq!(weekday_of(day), date.weekday().to_sunday_zero_offset() as u32);
            assert_eq!(days_in_month(ours.year, ours.month), date.days_in_month() as u32);
            date = date.tomorrow().unwrap_or(date);
        }
    }
}
