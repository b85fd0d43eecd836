//! The instants of an expression, found the slow way: each day of the range, each minute of its lists.
//!
//! It shares nothing with the server's engine but the zones' rules, so that one finds the other's mistakes.

use std::collections::BTreeSet;

use jiff::{
    SignedDuration, Timestamp,
    civil::Date,
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};

struct Fields<'a> {
    minute: &'a str,
    hour: &'a str,
    day: &'a str,
    month: &'a str,
    weekday: &'a str,
}

impl<'a> Fields<'a> {
    fn of(expression: &'a str) -> Self {
        let mut parts = expression.split(' ');
        let mut next = || parts.next().unwrap();
        Self {
            minute: next(),
            hour: next(),
            day: next(),
            month: next(),
            weekday: next(),
        }
    }

    /// Whether it follows real time, and so fires in both passes of an overlap and never for what a gap skips.
    fn wild(&self) -> bool {
        self.minute.starts_with('*') || self.hour.starts_with('*')
    }

    fn names(&self, date: Date) -> bool {
        let day = self.day.split(',').any(|item| match item {
            "L" => date.day() == date.days_in_month(),
            item => holds(item, date.day(), 1, 31),
        });
        let number = date.weekday().to_sunday_zero_offset();
        let weekday = self.weekday.split(',').any(|item| match item.split_once('#') {
            Some((wanted, nth)) => {
                wanted.parse() == Ok(number) && nth.parse() == Ok((date.day() - 1) / 7 + 1)
            }
            None => holds(item, number, 0, 7) || (number == 0 && holds(item, 7, 0, 7)),
        });
        let days = if self.day.starts_with('*') || self.weekday.starts_with('*') {
            day && weekday
        } else {
            day || weekday
        };
        let month = self.month.split(',').any(|item| holds(item, date.month(), 1, 12));
        days && month
    }
}

/// Whether one item of a list has this value.
fn holds(item: &str, value: i8, lowest: i8, highest: i8) -> bool {
    let (range, step) = item.split_once('/').unwrap_or((item, "1"));
    let number = |text: &str| text.parse::<i8>().unwrap();
    let (from, to) = match (range, range.split_once('-')) {
        ("*", _) => (lowest, highest),
        (_, Some((from, to))) => (number(from), number(to)),
        (one, None) => (number(one), number(one)),
    };
    (from..=to).contains(&value) && (value - from) % number(step) == 0
}

fn values(list: &str, highest: i8) -> Vec<i8> {
    let named = |value: &i8| list.split(',').any(|item| holds(item, *value, 0, highest));
    (0..=highest).filter(named).collect()
}

/// Every instant of the expression from `from` to `to`, in milliseconds.
pub(super) fn instants(expression: &str, zone: &str, from: i64, to: i64) -> Vec<i64> {
    let zone = TimeZoneDatabase::bundled().get(zone).unwrap();
    let fields = Fields::of(expression);
    let (hours, minutes) = (values(fields.hour, 23), values(fields.minute, 59));
    let date = |at: i64| zone.to_datetime(Timestamp::from_millisecond(at).unwrap()).date();
    let (mut day, last) = (date(from).yesterday().unwrap(), date(to).tomorrow().unwrap());
    let mut found = BTreeSet::new();
    while day <= last {
        if fields.names(day) {
            for (hour, minute) in hours
                .iter()
                .flat_map(|hour| minutes.iter().map(move |minute| (hour, minute)))
            {
                of_wall_time(&zone, day.at(*hour, *minute, 0, 0), fields.wild(), &mut found);
            }
        }
        day = day.tomorrow().unwrap();
    }
    let found = found.into_iter().map(Timestamp::as_millisecond);
    found.filter(|at| (from..=to).contains(at)).collect()
}

fn of_wall_time(zone: &TimeZone, wall: jiff::civil::DateTime, wild: bool, found: &mut BTreeSet<Timestamp>) {
    match zone.to_ambiguous_timestamp(wall).offset() {
        AmbiguousOffset::Unambiguous { offset } => {
            found.insert(offset.to_timestamp(wall).unwrap());
        }
        AmbiguousOffset::Fold { before, after } => {
            found.insert(before.to_timestamp(wall).unwrap());
            if wild {
                found.insert(after.to_timestamp(wall).unwrap());
            }
        }
        AmbiguousOffset::Gap { before, after } => {
            // Read by the offset that is not yet in force it lies before the gap: the first minute after it is wanted.
            let mut at = after.to_timestamp(wall).unwrap();
            while zone.to_offset(at) == before {
                at += SignedDuration::from_mins(1);
            }
            if !wild {
                found.insert(at);
            }
        }
    }
}

#[test]
fn the_recomputation_knows_the_nights_on_which_clocks_change() {
    let ms = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
    let check = |expression, zone, from, to, expected: &[&str]| {
        let found = instants(expression, zone, ms(from), ms(to));
        assert_eq!(
            found,
            expected.iter().map(|text| ms(text)).collect::<Vec<_>>(),
            "{expression} {zone}"
        );
    };
    let (spring, after) = ("2027-03-14T00:00:00Z", "2027-03-14T23:59:00Z");
    check(
        "30 2 * * *",
        "America/New_York",
        spring,
        after,
        &["2027-03-14T07:00:00Z"],
    );
    check("*/30 2 * * *", "America/New_York", spring, after, &[]);
    let (autumn, after) = ("2027-11-07T00:00:00Z", "2027-11-07T23:59:00Z");
    check(
        "30 1 * * *",
        "America/New_York",
        autumn,
        after,
        &["2027-11-07T05:30:00Z"],
    );
    check(
        "30 1-1 * * *",
        "America/New_York",
        autumn,
        after,
        &["2027-11-07T05:30:00Z"],
    );
    let both = ["2027-11-07T05:30:00Z", "2027-11-07T06:30:00Z"];
    check(
        "*/30 1 * * 0",
        "America/New_York",
        "2027-11-07T05:01:00Z",
        "2027-11-07T06:59:00Z",
        &[both[0], "2027-11-07T06:00:00Z", both[1]],
    );
    // In Nuuk Saturday's last hour is skipped: what is scheduled in it happens as Sunday begins.
    check(
        "30 23 * * 6",
        "America/Nuuk",
        "2027-03-27T00:00:00Z",
        "2027-03-29T00:00:00Z",
        &["2027-03-28T01:00:00Z"],
    );
    // Both days match where neither field begins with a star, and each alone restricts where one does.
    check(
        "0 0 13 * 5",
        "UTC",
        "2027-08-09T12:00:00Z",
        "2027-08-21T00:00:00Z",
        &["2027-08-13T00:00:00Z", "2027-08-20T00:00:00Z"],
    );
    check(
        "0 0 */2 * 5",
        "UTC",
        "2027-08-09T12:00:00Z",
        "2027-08-21T00:00:00Z",
        &["2027-08-13T00:00:00Z"],
    );
    check(
        "0 0 L 2 *",
        "UTC",
        "2027-01-01T00:00:00Z",
        "2027-12-31T00:00:00Z",
        &["2027-02-28T00:00:00Z"],
    );
    check(
        "0 0 * * 2#1",
        "UTC",
        "2027-02-01T00:00:00Z",
        "2027-03-31T00:00:00Z",
        &["2027-02-02T00:00:00Z", "2027-03-02T00:00:00Z"],
    );
}
