//! The rules of an expression, read from its text as slowly and plainly as they are written down.

use jiff::civil::{Date, DateTime, Weekday};

pub(crate) struct Rules {
    fields: [Vec<Item>; 5],
    starts_with_star: [bool; 5],
}

enum Item {
    /// From, to, step.
    Values(i64, i64, i64),
    LastDay,
    LastWeekday,
    NearestWeekday(i8),
    LastOf(i64),
    NthOf(i64, i8),
}

const RANGES: [(i64, i64); 5] = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)];
const MONTHS: &str = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC";
const DAYS: &str = "SUN MON TUE WED THU FRI SAT";

impl Rules {
    pub(crate) fn read(text: &str) -> Rules {
        let words: Vec<String> = text
            .split([' ', '\t'])
            .map(str::to_uppercase)
            .filter(|w| !w.is_empty())
            .collect();
        assert_eq!(words.len(), 5, "{text:?}");
        Rules {
            starts_with_star: std::array::from_fn(|f| words[f].starts_with(['*', '?'])),
            fields: std::array::from_fn(|f| words[f].split(',').map(|item| read_item(f, item)).collect()),
        }
    }

    pub(crate) fn is_wild(&self) -> bool {
        self.starts_with_star[0] || self.starts_with_star[1]
    }

    pub(crate) fn match_date(&self, date: Date) -> bool {
        let hit = |field: usize| self.fields[field].iter().any(|item| matches(field, item, date));
        let days = match self.starts_with_star[2] || self.starts_with_star[4] {
            true => hit(2) && hit(4),
            false => hit(2) || hit(4),
        };
        days && hit(3)
    }

    pub(crate) fn match_time(&self, at: DateTime) -> bool {
        let hit = |field: usize, value: i8| {
            self.fields[field].iter().any(|item| match item {
                Item::Values(from, to, step) => stepped(*from, *to, *step, value.into()),
                _ => false,
            })
        };
        hit(0, at.minute()) && hit(1, at.hour())
    }
}

fn stepped(from: i64, to: i64, step: i64, value: i64) -> bool {
    value >= from && value <= to && (value - from) % step == 0
}

fn read_item(field: usize, item: &str) -> Item {
    let (first, last) = RANGES[field];
    let value = |text: &str| -> i64 {
        let names = if field == 3 { MONTHS } else { DAYS };
        match names.split(' ').position(|name| name == text) {
            Some(index) => index as i64 + i64::from(field == 3),
            None => text.parse().unwrap(),
        }
    };
    if field == 2 {
        match item {
            "L" => return Item::LastDay,
            "LW" => return Item::LastWeekday,
            _ if item.ends_with('W') => return Item::NearestWeekday(item[..item.len() - 1].parse().unwrap()),
            _ => {}
        }
    }
    if field == 4 {
        if let Some((day, nth)) = item.split_once('#') {
            return Item::NthOf(value(day) % 7, nth.parse().unwrap());
        }
        if let Some(day) = item.strip_suffix('L') {
            return Item::LastOf(value(day) % 7);
        }
    }
    let (range, step) = item
        .split_once('/')
        .map_or((item, None), |(r, s)| (r, Some(s.parse().unwrap())));
    let (from, to) = match range.split_once('-') {
        _ if range == "*" || range == "?" => (first, last),
        Some((from, "SUN")) => (value(from), 7),
        Some((from, to)) => (value(from), value(to)),
        None if step.is_some() => (value(range), last),
        None => (value(range), value(range)),
    };
    Item::Values(from, to, step.unwrap_or(1))
}

fn matches(field: usize, item: &Item, date: Date) -> bool {
    let weekday = i64::from(date.weekday().to_sunday_zero_offset());
    let length = date.days_in_month();
    match *item {
        Item::Values(from, to, step) => match field {
            2 => stepped(from, to, step, date.day().into()),
            3 => stepped(from, to, step, date.month().into()),
            _ => stepped(from, to, step, weekday) || (weekday == 0 && stepped(from, to, step, 7)),
        },
        Item::LastDay => date.day() == length,
        Item::LastWeekday => weekdays_of(date).last() == Some(&date.day()),
        Item::NearestWeekday(wanted) => {
            let nearest = weekdays_of(date)
                .into_iter()
                .min_by_key(|day| (day - wanted).abs());
            wanted <= length && nearest == Some(date.day())
        }
        Item::LastOf(day) => weekday == day && date.day() + 7 > length,
        Item::NthOf(day, nth) => weekday == day && (date.day() - 1) / 7 + 1 == nth,
    }
}

/// The days of the date's month that are neither Saturday nor Sunday.
fn weekdays_of(date: Date) -> Vec<i8> {
    let is_free = |day: &i8| {
        let day = Date::new(date.year(), date.month(), *day).unwrap();
        matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday)
    };
    (1..=date.days_in_month()).filter(|day| !is_free(day)).collect()
}
