//! What an expression means, in plain English.

use crate::pattern::{ALL_DAYS, ALL_HOURS, ALL_MONTHS, ALL_WEEKDAYS, BOTH, Cron, LAST, LAST_WEEKDAY};

const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Up to this many times of day are told one by one.
const MAX_TIMES: u32 = 6;

impl Cron {
    /// What the expression means, as one English phrase.
    ///
    /// ```
    /// use impresario_cron::Cron;
    ///
    /// let says = |text: &str| text.parse::<Cron>().map(|cron| cron.describe());
    /// assert_eq!(says("0 9 * * MON-FRI")?, "At 09:00, Monday through Friday");
    /// assert_eq!(says("*/5 * * * *")?, "Every 5 minutes");
    /// assert_eq!(says("*/15 9-17 * * *")?, "Every 15 minutes from 09:00 through 17:45");
    /// assert_eq!(says("0 0 1,15 * FRI")?, "At 00:00, on days 1 and 15 of the month or on any Friday");
    /// assert_eq!(says("0 0 LW * *")?, "At 00:00, on the last weekday of the month");
    /// # Ok::<(), impresario_cron::CronError>(())
    /// ```
    #[must_use]
    pub fn describe(&self) -> String {
        let (mut text, is_time) = self.describe_times();
        let days = self.describe_days();
        match &days {
            Some(days) => text = format!("{text}, {days}"),
            None if is_time && self.months == ALL_MONTHS => text.push_str(", every day"),
            None => {}
        }
        if self.months != ALL_MONTHS {
            let months = runs(u64::from(self.months) >> 1, 12, |month| MONTHS[month].to_owned());
            text = format!("{text}, in {}", listed(&months, "and"));
        }
        if self.is_never() {
            text.push_str(" (never: no such date exists)");
        }
        text
    }

    /// The times of day, and whether they are told one by one.
    fn describe_times(&self) -> (String, bool) {
        let times = self.minutes().count_ones() * self.hours.count_ones();
        if times <= MAX_TIMES {
            let times: Vec<String> = values(self.hours.into())
                .flat_map(|hour| values(self.minutes()).map(move |minute| format!("{hour:02}:{minute:02}")))
                .collect();
            return (format!("At {}", listed(&times, "and")), true);
        }
        let hour_step = even_step(self.hours.into(), 24);
        if self.minutes() == 1 {
            match hour_step {
                Some(1) => return ("Every hour".to_owned(), false),
                Some(step) => return (format!("Every {step} hours"), false),
                None => {}
            }
        }
        let minutes = match even_step(self.minutes(), 60) {
            Some(1) => "Every minute".to_owned(),
            Some(step) => format!("Every {step} minutes"),
            None => {
                let minutes = runs(self.minutes(), 60, |minute| minute.to_string());
                let plural = if self.minutes().count_ones() == 1 { "" } else { "s" };
                format!("At minute{plural} {}", listed(&minutes, "and"))
            }
        };
        (format!("{minutes}{}", self.describe_hours(hour_step)), false)
    }

    fn describe_hours(&self, step: Option<u32>) -> String {
        let told_by_step = even_step(self.minutes(), 60).is_some();
        let (first, last) = (self.hours.trailing_zeros(), 31 - self.hours.leading_zeros());
        let contiguous = last - first + 1 == self.hours.count_ones();
        match step {
            _ if self.hours == ALL_HOURS && told_by_step => String::new(),
            _ if self.hours == ALL_HOURS => " of every hour".to_owned(),
            Some(step) => format!(" of every {} hour", ordinal(step)),
            None if contiguous => {
                let from = self.minutes().trailing_zeros();
                let through = 63 - self.minutes().leading_zeros();
                format!(" from {first:02}:{from:02} through {last:02}:{through:02}")
            }
            None => {
                let hours = runs(self.hours.into(), 24, |hour| hour.to_string());
                format!(" of the hours {}", listed(&hours, "and"))
            }
        }
    }

    fn describe_days(&self) -> Option<String> {
        let by_date = (self.days != ALL_DAYS).then(|| self.dates());
        let weekdays = u64::from(self.weekdays);
        // Monday first, so that a weekend is one run.
        let weekdays = runs((weekdays >> 1) | ((weekdays & 1) << 6), 7, |day| {
            WEEKDAYS[day].to_owned()
        });
        let nth = self.nth_weekdays();
        match by_date {
            None if self.weekdays == ALL_WEEKDAYS => None,
            None if nth.is_empty() => Some(match weekdays.as_slice() {
                [range] if range.contains(' ') => range.clone(),
                _ => format!("every {}", listed(&weekdays, "and")),
            }),
            None => {
                let weekdays = weekdays.into_iter().map(|day| format!("every {day}"));
                let nth = nth.into_iter().map(|day| format!("on {day} of the month"));
                Some(listed(&weekdays.chain(nth).collect::<Vec<_>>(), "and"))
            }
            Some(dates) if self.weekdays == ALL_WEEKDAYS => Some(dates),
            Some(dates) if self.has(BOTH) => {
                let any = [weekdays, nth].concat();
                Some(format!("{dates} if it is {}", listed(&any, "or")))
            }
            Some(dates) => {
                let weekdays = weekdays.into_iter().map(|day| format!("any {day}"));
                let any: Vec<String> = weekdays.chain(nth).collect();
                Some(format!("{dates} or on {}", listed(&any, "or")))
            }
        }
    }

    /// `on days 1 and 15 of the month`.
    fn dates(&self) -> String {
        let mut parts = Vec::new();
        let days = u64::from(self.days) >> 1;
        if let Some(step) = even_step(days, 31).filter(|_| days.count_ones() > 3) {
            parts.push(format!("every {} day", ordinal(step)));
        } else if days != 0 {
            let plural = if days.count_ones() == 1 { "" } else { "s" };
            let list = runs(days, 31, |day| (day + 1).to_string());
            parts.push(format!("day{plural} {}", listed(&list, "and")));
        }
        parts.extend(values(self.nearest.into()).map(|day| format!("the weekday nearest to day {day}")));
        if self.has(LAST) {
            parts.push("the last day".to_owned());
        }
        if self.has(LAST_WEEKDAY) {
            parts.push("the last weekday".to_owned());
        }
        format!("on {} of the month", listed(&parts, "and"))
    }

    /// `the second Tuesday`, `the last Friday`.
    fn nth_weekdays(&self) -> Vec<String> {
        const WHICH: [&str; 6] = ["first", "second", "third", "fourth", "fifth", "last"];
        (0..7)
            .flat_map(|day| {
                let name = WEEKDAYS[(day + 6) % 7];
                values(self.nth >> (8 * day) & 0xff)
                    .filter_map(move |which| Some(format!("the {} {name}", WHICH.get(which)?)))
            })
            .collect()
    }
}

fn values(bits: u64) -> impl Iterator<Item = usize> + Clone {
    (0..64).filter(move |value| bits >> value & 1 != 0)
}

/// The step of values that are exactly every `step`-th from the first; for clocks only steps that come out even.
fn even_step(bits: u64, count: u32) -> Option<u32> {
    let divides = |step: &u32| count == 31 || count.is_multiple_of(*step);
    (1..=count / 2).filter(divides).find(|&step| {
        let all = (0..count)
            .step_by(step as usize)
            .fold(0, |all, value| all | 1 << value);
        all == bits
    })
}

/// Single values, and runs of three and more as `a through b`.
fn runs(bits: u64, count: usize, name: impl Fn(usize) -> String) -> Vec<String> {
    let mut parts = Vec::new();
    let mut at = 0;
    while at < count {
        let length = (at..count).take_while(|value| bits >> value & 1 != 0).count();
        match length {
            0 => {}
            1 | 2 => parts.extend((at..at + length).map(&name)),
            _ => parts.push(format!("{} through {}", name(at), name(at + length - 1))),
        }
        at += length + 1;
    }
    parts
}

/// `a, b and c`.
fn listed(parts: &[String], word: &str) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} {word} {last}", rest.join(", ")),
    }
}

fn ordinal(n: u32) -> String {
    let suffix = match (n % 10, n % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{n}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_read_as_people_would_say_them() {
        let cases = [
            ("* * * * *", "Every minute"),
            (
                "*/7 * * * *",
                "At minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every hour",
            ),
            ("0 * * * *", "Every hour"),
            ("5 * * * *", "At minute 5 of every hour"),
            ("0 */2 * * *", "Every 2 hours"),
            ("5 */2 * * *", "At minute 5 of every 2nd hour"),
            ("* 9-17 * * *", "Every minute from 09:00 through 17:59"),
            ("*/10 1,5,7 * * *", "Every 10 minutes of the hours 1, 5 and 7"),
            ("0,30 9,17 * * *", "At 09:00, 09:30, 17:00 and 17:30, every day"),
            ("0 0 * * 6,0", "At 00:00, every Saturday and Sunday"),
            ("0 0 * * FRI-SUN", "At 00:00, Friday through Sunday"),
            ("0 0 * * 1,3,5", "At 00:00, every Monday, Wednesday and Friday"),
            (
                "0 12 * JAN,JUL MON",
                "At 12:00, every Monday, in January and July",
            ),
            ("@yearly", "At 00:00, on day 1 of the month, in January"),
            ("0 0 * 6-8 *", "At 00:00, in June through August"),
            (
                "0 0 */2 * 1",
                "At 00:00, on every 2nd day of the month if it is Monday",
            ),
            ("0 0 13 * 5", "At 00:00, on day 13 of the month or on any Friday"),
            (
                "0 9 15W * *",
                "At 09:00, on the weekday nearest to day 15 of the month",
            ),
            (
                "0 9 1-5,L * *",
                "At 09:00, on days 1 through 5 and the last day of the month",
            ),
            ("0 9 * * 5L", "At 09:00, on the last Friday of the month"),
            ("0 9 * * TUE#2", "At 09:00, on the second Tuesday of the month"),
            (
                "0 9 1 * TUE#2",
                "At 09:00, on day 1 of the month or on the second Tuesday",
            ),
            (
                "0 0 30 2 *",
                "At 00:00, on day 30 of the month, in February (never: no such date exists)",
            ),
        ];
        for (text, expected) in cases {
            let cron: Cron = text.parse().unwrap();
            assert_eq!(cron.describe(), expected, "{text}");
        }
    }
}
