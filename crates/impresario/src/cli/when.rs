//! Instants for people: in come an instant as the API writes it, a zone and now, out goes the time on the wall there and
//! how far away it is.

use jiff::{Timestamp, tz::TimeZone};

/// What an instant that never comes, or never came, is called.
const NEVER: &str = "never";

/// Where and when somebody reads.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    now: Timestamp,
    zone: TimeZone,
}

impl Reader {
    /// Somebody at this machine.
    #[expect(
        clippy::disallowed_methods,
        reason = "times are shown by the clock on the reader's own wall; nothing is computed with it"
    )]
    pub(super) fn here(now: Timestamp) -> Self {
        Self {
            now,
            zone: TimeZone::system(),
        }
    }

    /// The same reader, for times of another zone. A zone that this version does not know is shown as UTC.
    pub(super) fn in_zone(&self, zone: &str) -> Self {
        Self {
            now: self.now,
            zone: TimeZone::get(zone).unwrap_or(TimeZone::UTC),
        }
    }

    /// `2026-05-17 03:15 CEST (in 3 h)`, or `never`.
    pub(super) fn full(&self, instant: Option<&str>) -> String {
        let Some(text) = instant else {
            return NEVER.to_owned();
        };
        match text.parse() {
            Ok(at) => format!("{} ({})", wall(at, &self.zone), distance(at, self.now)),
            // Of a newer server, perhaps.
            Err(_) => text.to_owned(),
        }
    }

    /// `2026-05-17 03:15 CEST`, or `never`.
    pub(super) fn wall(&self, instant: Option<&str>) -> String {
        let Some(text) = instant else {
            return NEVER.to_owned();
        };
        text.parse()
            .map_or_else(|_| text.to_owned(), |at| wall(at, &self.zone))
    }

    /// `2 min ago`, or `never`.
    pub(super) fn away(&self, instant: Option<&str>) -> String {
        let Some(text) = instant else {
            return NEVER.to_owned();
        };
        text.parse()
            .map_or_else(|_| text.to_owned(), |at| distance(at, self.now))
    }

    /// `03:15:26.670`, of a line of a log.
    pub(super) fn clock(&self, instant: &str) -> String {
        instant.parse().map_or_else(
            |_| instant.to_owned(),
            |at: Timestamp| {
                at.to_zoned_datetime(self.zone.clone())
                    .strftime("%H:%M:%S%.3f")
                    .to_string()
            },
        )
    }
}

/// The time on the wall; seconds only where there are some.
fn wall(at: Timestamp, zone: &TimeZone) -> String {
    let zoned = at.to_zoned_datetime(zone.clone());
    let format = if zoned.second() == 0 {
        "%Y-%m-%d %H:%M %Z"
    } else {
        "%Y-%m-%d %H:%M:%S %Z"
    };
    zoned.strftime(format).to_string()
}

/// How far away an instant is, in the largest unit of which there are at least two, cut to whole ones.
fn distance(at: Timestamp, now: Timestamp) -> String {
    let millis = at.as_millisecond() - now.as_millisecond();
    let seconds = millis.unsigned_abs() / 1000;
    let length = length(seconds);
    match (seconds, millis < 0) {
        (0, _) => "now".to_owned(),
        (_, false) => format!("in {length}"),
        (_, true) => format!("{length} ago"),
    }
}

/// So many seconds in words: `90 s`, `3 h`.
pub(super) fn length(seconds: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    const YEAR: u64 = 365 * DAY;
    let (unit, name) = match seconds {
        0..120 => (1, "s"),
        _ if seconds < 2 * HOUR => (MINUTE, "min"),
        _ if seconds < 2 * DAY => (HOUR, "h"),
        _ if seconds < 2 * YEAR => (DAY, "d"),
        _ => (YEAR, "years"),
    };
    format!("{} {name}", seconds / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(zone: &str) -> Reader {
        Reader {
            now: "2026-05-16T22:15:00.500Z".parse().unwrap(),
            zone: TimeZone::UTC,
        }
        .in_zone(zone)
    }

    #[test]
    fn an_instant_is_told_by_the_clock_on_the_wall_and_how_far_it_is() {
        for (zone, instant, expected) in [
            (
                "Europe/Berlin",
                "2026-05-17T01:15:00.500Z",
                "2026-05-17 03:15 CEST (in 3 h)",
            ),
            (
                "Europe/Berlin",
                "2026-05-16T22:13:00.500Z",
                "2026-05-17 00:13 CEST (2 min ago)",
            ),
            (
                "America/New_York",
                "2026-12-24T05:00:00.000Z",
                "2026-12-24 00:00 EST (in 221 d)",
            ),
            (
                "Asia/Kathmandu",
                "2026-05-16T22:15:26.670Z",
                "2026-05-17 04:00:26 +0545 (in 26 s)",
            ),
            ("UTC", "2026-05-16T22:15:01.000Z", "2026-05-16 22:15:01 UTC (now)"),
            (
                "Mars/Olympus",
                "2030-05-16T22:15:00Z",
                "2030-05-16 22:15 UTC (in 4 years)",
            ),
            ("UTC", "some day", "some day"),
        ] {
            assert_eq!(reader(zone).full(Some(instant)), expected);
        }
        assert_eq!(reader("UTC").full(None), "never");
        assert_eq!(
            reader("UTC").wall(Some("2026-05-16T22:15:00Z")),
            "2026-05-16 22:15 UTC"
        );
        assert_eq!(reader("UTC").clock("2026-05-16T22:15:01.250Z"), "22:15:01.250");
    }

    #[test]
    fn a_distance_is_cut_to_whole_units() {
        let away = |seconds: i64| {
            let at = reader("UTC").now.as_millisecond() + seconds * 1000;
            let at = Timestamp::from_millisecond(at).unwrap().to_string();
            reader("UTC").away(Some(&at))
        };
        for (seconds, expected) in [
            (0, "now"),
            (1, "in 1 s"),
            (-1, "1 s ago"),
            (119, "in 119 s"),
            (120, "in 2 min"),
            (-179, "2 min ago"),
            (7199, "in 119 min"),
            (7200, "in 2 h"),
            (172_799, "in 47 h"),
            (172_800, "in 2 d"),
            (-63_072_000, "2 years ago"),
        ] {
            assert_eq!(away(seconds), expected, "{seconds}");
        }
        assert_eq!(reader("UTC").away(None), "never");
    }
}
