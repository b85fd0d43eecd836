//! The five fields: what they are called, what they may hold.

/// One of the five fields of an expression, in the order in which they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// Minute of the hour, 0-59.
    Minute,
    /// Hour of the day, 0-23.
    Hour,
    /// Day of the month, 1-31.
    DayOfMonth,
    /// Month, 1-12 or JAN-DEC.
    Month,
    /// Day of the week, 0-7 or SUN-SAT, where 0 and 7 are both Sunday.
    DayOfWeek,
}

impl Field {
    /// All five, in the order in which they are written.
    pub const ALL: [Field; 5] = [
        Field::Minute,
        Field::Hour,
        Field::DayOfMonth,
        Field::Month,
        Field::DayOfWeek,
    ];

    /// The name used in messages: `minute`, `hour`, `day of month`, `month`, `day of week`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Field::Minute => "minute",
            Field::Hour => "hour",
            Field::DayOfMonth => "day of month",
            Field::Month => "month",
            Field::DayOfWeek => "day of week",
        }
    }

    /// The values the field may hold, as messages show them: `0-23`, `1-12 or JAN-DEC`.
    #[must_use]
    pub const fn allowed(self) -> &'static str {
        match self {
            Field::Minute => "0-59",
            Field::Hour => "0-23",
            Field::DayOfMonth => "1-31",
            Field::Month => "1-12 or JAN-DEC",
            Field::DayOfWeek => "0-7 or SUN-SAT",
        }
    }

    pub(crate) const fn min(self) -> u32 {
        match self {
            Field::Minute | Field::Hour | Field::DayOfWeek => 0,
            Field::DayOfMonth | Field::Month => 1,
        }
    }

    /// The largest value as written: 7 for the day of the week, although it is the same day as 0.
    pub(crate) const fn max(self) -> u32 {
        match self {
            Field::Minute => 59,
            Field::Hour => 23,
            Field::DayOfMonth => 31,
            Field::Month => 12,
            Field::DayOfWeek => 7,
        }
    }

    pub(crate) const fn is_day(self) -> bool {
        matches!(self, Field::DayOfMonth | Field::DayOfWeek)
    }

    const fn names(self) -> &'static [[u8; 3]] {
        match self {
            Field::Month => &MONTHS,
            Field::DayOfWeek => &WEEKDAYS,
            _ => &[],
        }
    }

    /// The value of a three-letter name in any case, if it is one of this field.
    #[inline(always)]
    pub(crate) fn value_of(self, name: [u8; 3]) -> Option<u32> {
        // Clearing this bit maps the two cases of a letter to one, and nothing else to a capital letter.
        let [a, b, c] = name.map(|byte| byte & !0x20);
        match self {
            Field::Month => month_named([a, b, c]),
            Field::DayOfWeek => weekday_named([a, b, c]),
            _ => None,
        }
    }

    /// The short name of a value, for the two fields that have names.
    pub(crate) fn short_name(self, value: u32) -> Option<&'static str> {
        let names = self.names();
        let index = (value.checked_sub(self.min())? as usize) % names.len().max(1);
        std::str::from_utf8(names.get(index)?).ok()
    }
}

const MONTHS: [[u8; 3]; 12] = [
    *b"JAN", *b"FEB", *b"MAR", *b"APR", *b"MAY", *b"JUN", *b"JUL", *b"AUG", *b"SEP", *b"OCT", *b"NOV",
    *b"DEC",
];

const WEEKDAYS: [[u8; 3]; 7] = [*b"SUN", *b"MON", *b"TUE", *b"WED", *b"THU", *b"FRI", *b"SAT"];

fn month_named(name: [u8; 3]) -> Option<u32> {
    MONTHS
        .iter()
        .zip(1..)
        .find(|(known, _)| **known == name)
        .map(|(_, value)| value)
}

/// Takes no branch to find the only day it can be: `MON-FRI` is the commonest text there is.
#[inline(always)]
fn weekday_named([a, b, c]: [u8; 3]) -> Option<u32> {
    // Found by trial: it sends each day's letters to its own number.
    const SORTER: u32 = 0x5af2_c801;
    let value = u32::from_le_bytes([a, b, c, 0]).wrapping_mul(SORTER) >> 29;
    (WEEKDAYS.get(value as usize) == Some(&[a, b, c])).then_some(value)
}
