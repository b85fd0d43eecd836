//! From bit sets back to a text of the same meaning.

use std::fmt::{self, Write as _};

use crate::field::Field;
use crate::pattern::{
    ALL_DAYS, ALL_HOURS, ALL_MINUTES, ALL_MONTHS, ALL_WEEKDAYS, BOTH, Cron, LAST, LAST_WEEKDAY,
};

impl fmt::Display for Cron {
    /// Writes the expression in a canonical spelling: reading it back gives an equal [`Cron`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut minute = Set::new(Field::Minute, self.minutes(), ALL_MINUTES);
        let mut hour = Set::new(Field::Hour, u64::from(self.hours), ALL_HOURS.into());
        let mut day = Set::new(Field::DayOfMonth, u64::from(self.days), ALL_DAYS.into());
        let mut month = Set::new(Field::Month, u64::from(self.months), ALL_MONTHS.into());
        let mut weekday = Set::new(Field::DayOfWeek, u64::from(self.weekdays), ALL_WEEKDAYS.into());
        day.special = self.has(LAST | LAST_WEEKDAY) || self.nearest != 0;
        weekday.special = self.nth != 0;
        month.starred = self.months == ALL_MONTHS;
        // A leading star says more than its values, so it is written exactly where the meaning has it.
        if self.is_wild() {
            star_one(&mut minute, &mut hour);
        }
        if self.has(BOTH) {
            star_one(&mut day, &mut weekday);
        }
        let days = join([day.text(), self.special_days_text()]);
        let weekdays = join([weekday.text(), self.special_weekdays_text()]);
        write!(
            f,
            "{} {} {days} {} {weekdays}",
            minute.text(),
            hour.text(),
            month.text()
        )
    }
}

impl Cron {
    fn special_days_text(&self) -> String {
        let nearest = (1..=31)
            .filter(|day| self.nearest >> day & 1 != 0)
            .map(|day| format!("{day}W"));
        let last = self.has(LAST).then(|| "L".to_owned());
        let last_weekday = self.has(LAST_WEEKDAY).then(|| "LW".to_owned());
        join(nearest.chain(last).chain(last_weekday))
    }

    fn special_weekdays_text(&self) -> String {
        let items = (0..7).flat_map(|day| {
            let bits = self.nth >> (8 * day);
            let nth = (1..=5)
                .filter(move |n| bits >> (n - 1) & 1 != 0)
                .map(move |n| format!("{day}#{n}"));
            nth.chain((bits >> 5 & 1 != 0).then(|| format!("{day}L")))
        });
        join(items)
    }
}

fn join(items: impl IntoIterator<Item = String>) -> String {
    items
        .into_iter()
        .filter(|item| !item.is_empty())
        .collect::<Vec<_>>()
        .join(",")
}

/// The plain values of a field on their way to text.
struct Set {
    field: Field,
    bits: u64,
    full: u64,
    starred: bool,
    /// The field has items besides.
    special: bool,
}

impl Set {
    fn new(field: Field, bits: u64, full: u64) -> Set {
        Set {
            field,
            bits,
            full,
            starred: false,
            special: false,
        }
    }

    /// The values of `*/n`.
    fn every(&self, n: u32) -> u64 {
        let bits = (self.field.min()..=self.field.max())
            .step_by(n as usize)
            .fold(0, |bits, v| bits | 1 << v);
        if self.field == Field::DayOfWeek {
            (bits | bits >> 7) & self.full
        } else {
            bits
        }
    }

    /// The smallest `n` for which `*/n` holds nothing that the set does not.
    fn star_step(&self) -> Option<u32> {
        (1..=self.field.max() + 1 - self.field.min()).find(|&n| self.every(n) & !self.bits == 0)
    }

    /// How natural a leading star is here: 0 for `*`, 1 for `*/n`, 2 with more behind it, 3 for not at all.
    fn star_cost(&self) -> u32 {
        match self.star_step() {
            None => 3,
            Some(1) => 0,
            Some(n) if self.every(n) == self.bits && !self.special => 1,
            Some(_) => 2,
        }
    }

    fn text(&self) -> String {
        if self.starred
            && let Some(n) = self.star_step()
        {
            let star = if n == 1 { "*".to_owned() } else { format!("*/{n}") };
            return join([star, list(self.bits & !self.every(n))]);
        }
        list(self.bits)
    }
}

/// Puts a leading star on one of two fields, and on the other as well if that is all `*`.
fn star_one(first: &mut Set, second: &mut Set) {
    let costs = (first.star_cost(), second.star_cost());
    first.starred = costs.0 <= costs.1 || costs.0 == 0;
    second.starred = costs.1 < costs.0 || costs.1 == 0;
}

/// Values as the shortest of single values, ranges and one stepped range.
fn list(bits: u64) -> String {
    let values: Vec<u32> = (0..64).filter(|v| bits >> v & 1 != 0).collect();
    if let [first, second, .., last] = values.as_slice()
        && values.len() > 3
        && *second > first + 1
        && values.windows(2).all(|pair| pair[1] - pair[0] == second - first)
    {
        return format!("{first}-{last}/{}", second - first);
    }
    let mut text = String::new();
    let mut rest = values.as_slice();
    while let [first, ..] = rest {
        let run = rest
            .iter()
            .zip(*first..)
            .take_while(|(value, expected)| **value == *expected)
            .count();
        // Two in a row read better as two.
        let taken = if run > 2 { run } else { 1 };
        if !text.is_empty() {
            text.push(',');
        }
        // Writing to a `String` cannot fail.
        let _ = if taken > 1 {
            write!(text, "{first}-{}", rest[taken - 1])
        } else {
            write!(text, "{first}")
        };
        rest = &rest[taken..];
    }
    text
}
