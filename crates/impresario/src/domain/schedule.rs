//! A schedule: a deployed workflow, its input, and when it fires.

use impresario_cron::{Cron, CronError, Fire, Zone, ZoneError};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{JobId, Launch, ScheduleId, SecretId, TenantId};

/// When something fires: a cron expression in a time zone, as they were written.
///
/// What an owner gives is judged by [`Pattern::parse`] and [`Pattern::changed`]. What was stored by another version is
/// taken as it is: where this one cannot read it, it has a [`Pattern::fault`] and no fires, and can still be shown and
/// replaced.
#[derive(Debug, Clone)]
pub struct Pattern {
    expr: String,
    zone: String,
    read: Result<(Cron, Zone), String>,
}

/// Why a pattern was refused; `Display` is a sentence for the user.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    /// The expression is not one.
    #[error(transparent)]
    Cron(#[from] CronError),
    /// No such zone.
    #[error(transparent)]
    Zone(#[from] ZoneError),
    /// The expression is well formed, but no time of any day matches it in its zone.
    #[error("\"{0}\" can never fire: no day and time of any year match it")]
    Never(String),
}

impl Pattern {
    /// Parses both halves and refuses an expression that never fires.
    ///
    /// # Errors
    /// Where the expression or the zone is refused, or no instant matches.
    pub fn parse(expr: &str, zone: &str) -> Result<Self, PatternError> {
        let cron: Cron = expr.parse()?;
        let zone = Zone::get(zone)?;
        // No date matches, or every time that does falls into a gap of the zone's clock.
        if cron.is_never() || cron.next_after(&zone, Timestamp::UNIX_EPOCH).is_none() {
            return Err(PatternError::Never(expr.to_owned()));
        }
        Ok(Self {
            expr: expr.to_owned(),
            zone: zone.name().to_owned(),
            read: Ok((cron, zone)),
        })
    }

    /// What stands in the store, whether or not this version can read it.
    #[must_use]
    pub fn stored(expr: String, zone: String) -> Self {
        match Self::parse(&expr, &zone) {
            Ok(pattern) => pattern,
            Err(error) => Self {
                expr,
                zone,
                read: Err(error.to_string()),
            },
        }
    }

    /// The same with another expression, another zone, or both.
    ///
    /// # Errors
    /// Where the result never fires, or the half that stays cannot be read.
    pub fn changed(&self, expr: Option<&str>, zone: Option<&str>) -> Result<Self, PatternError> {
        Self::parse(expr.unwrap_or(&self.expr), zone.unwrap_or(&self.zone))
    }

    /// Why this version cannot read what was stored; `None` where it can.
    #[must_use]
    pub fn fault(&self) -> Option<&str> {
        self.read.as_ref().err().map(String::as_str)
    }

    /// The expression as it was written.
    #[must_use]
    pub fn expr(&self) -> &str {
        &self.expr
    }

    /// The zone's canonical spelling.
    #[must_use]
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// The first fire strictly after `after`.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let (cron, zone) = self.read.as_ref().ok()?;
        cron.next_after(zone, after)
    }

    /// The last fire strictly before `before`.
    #[must_use]
    pub fn previous_before(&self, before: Timestamp) -> Option<Timestamp> {
        let (cron, zone) = self.read.as_ref().ok()?;
        cron.previous_before(zone, before)
    }

    /// The fires strictly after `after`, in order.
    pub fn fires_after(&self, after: Timestamp) -> impl Iterator<Item = Fire> {
        self.read
            .iter()
            .flat_map(move |(cron, zone)| cron.fires_after(zone, after))
    }

    /// The expression in plain English, e.g. `At 09:00, Monday through Friday`.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.read {
            Ok((cron, _)) => cron.describe(),
            Err(fault) => fault.clone(),
        }
    }

    /// What the clock on the wall of the zone shows at an instant, with its offset from UTC: RFC 3339, to the second.
    #[must_use]
    pub fn local(&self, at: Timestamp) -> String {
        match &self.read {
            Ok((_, zone)) => at.display_with_offset(zone.time_zone().to_offset(at)).to_string(),
            Err(_) => at.to_string(),
        }
    }
}

/// What its owner decides about a schedule: the input of create, and the resulting state of an update.
#[derive(Debug, Clone)]
pub struct ScheduleDraft {
    /// The name of a deployed workflow.
    pub workflow: String,
    /// The workflow's input.
    pub params: Map<String, Value>,
    /// When it fires.
    pub pattern: Pattern,
    /// How each run is started.
    pub launch: Launch,
    /// Its own receiver; goes together with `callback_secret`.
    pub callback_url: Option<String>,
    /// Signs what is sent there.
    pub callback_secret: Option<SecretId>,
    /// Send no callback at all.
    pub skip_callbacks: bool,
    /// Whether it fires.
    pub enabled: bool,
}

/// A schedule as it is stored.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Its id.
    pub id: ScheduleId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What its owner decided.
    pub draft: ScheduleDraft,
    /// The cursor; stale while the schedule is disabled.
    pub next_fire_at: Option<Timestamp>,
    /// Since when it has this pattern and is enabled.
    pub pattern_since: Timestamp,
    /// The scheduled instant of the newest fire.
    pub last_fire_at: Option<Timestamp>,
    /// The job of the newest fire.
    pub last_job_id: Option<JobId>,
    /// The error of the newest finished run or fire.
    pub last_error: Option<String>,
    /// Failures in a row.
    pub consecutive_failures: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its owner last changed it.
    pub updated_at: Timestamp,
}

impl Schedule {
    /// What `next_fire_at` shows at the time `now`: the cursor, or for a disabled schedule the instant at which it
    /// would fire were it enabled now.
    #[must_use]
    pub fn shown_next_fire(&self, now: Timestamp) -> Option<Timestamp> {
        if self.draft.enabled {
            self.next_fire_at
        } else {
            self.draft.pattern.next_after(now)
        }
    }

    /// Whether the owner's change to `next` starts anew from now, when everything that had come is accounted for: a
    /// changed expression or zone does, and so does a re-enable. Anything else leaves the cursor.
    #[must_use]
    pub fn begins_anew(&self, next: &ScheduleDraft) -> bool {
        let old = &self.draft;
        let same_pattern =
            old.pattern.expr() == next.pattern.expr() && old.pattern.zone() == next.pattern.zone();
        !same_pattern || (next.enabled && !old.enabled)
    }

    /// The oldest instant that is owed: where the cursor stands, but none that lies before the pattern began. A clock
    /// that was behind for a moment puts cursors there, and what it named then is nobody's.
    #[must_use]
    pub fn first_owed(&self, now: Timestamp) -> Option<Timestamp> {
        let cursor = self.next_fire_at?;
        // A begin that lies ahead says only that one of the two clocks was wrong, and not which.
        if cursor > self.pattern_since || self.pattern_since > now {
            return Some(cursor);
        }
        self.draft.pattern.next_after(self.pattern_since)
    }

    /// Whether the newest fire lies ahead of `now`: then a clock was ahead when it was made.
    #[must_use]
    pub fn fired_ahead(&self, now: Timestamp) -> bool {
        self.last_fire_at.is_some_and(|at| at > now)
    }

    /// Where the cursor belongs at `now`, whatever the clock or the time zone's rules have been. What had come stays
    /// owed, and otherwise the first instant after now comes next. Where a clock was ahead
    /// ([`Schedule::fired_ahead`]), `accounted` is the newest instant of the ledger that is not: what came after it
    /// while the clock was wrong is owed too.
    #[must_use]
    pub fn true_cursor(&self, now: Timestamp, accounted: Option<Timestamp>) -> Option<Timestamp> {
        let since = if self.fired_ahead(now) {
            let begin = self.pattern_since.min(now);
            accounted.map_or(begin, |at| at.max(begin))
        } else {
            now
        };
        match self.first_owed(now) {
            Some(owed) if owed <= now => Some(owed),
            _ => self.draft.pattern.next_after(since),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn daily_at_nine(since: &str, cursor: &str) -> Schedule {
        Schedule {
            id: ScheduleId(Uuid::nil()),
            tenant: TenantId(Uuid::nil()),
            draft: ScheduleDraft {
                workflow: "w".to_owned(),
                params: Map::new(),
                pattern: Pattern::parse("0 9 * * *", "UTC").unwrap(),
                launch: serde_json::from_value(json!({"timeout_seconds": 1})).unwrap(),
                callback_url: None,
                callback_secret: None,
                skip_callbacks: false,
                enabled: true,
            },
            next_fire_at: Some(at(cursor)),
            pattern_since: at(since),
            last_fire_at: None,
            last_job_id: None,
            last_error: None,
            consecutive_failures: 0,
            created_at: at(since),
            updated_at: at(since),
        }
    }

    #[test]
    fn nothing_before_a_pattern_began_is_owed_however_wrong_the_clock_was() {
        // Made on the 10th at noon; a clock a day behind put the cursor to the same day's nine.
        let schedule = daily_at_nine("2027-01-10T12:00:00Z", "2027-01-10T09:00:00Z");
        let now = at("2027-01-10T12:05:00Z");
        assert_eq!(schedule.first_owed(now), Some(at("2027-01-11T09:00:00Z")));
        assert_eq!(schedule.true_cursor(now, None), Some(at("2027-01-11T09:00:00Z")));
        // Only a real debt stays one.
        let owed = daily_at_nine("2027-01-10T12:00:00Z", "2027-01-11T09:00:00Z");
        let later = at("2027-01-13T12:00:00Z");
        assert_eq!(owed.first_owed(later), Some(at("2027-01-11T09:00:00Z")));
        assert_eq!(owed.true_cursor(later, None), Some(at("2027-01-11T09:00:00Z")));
    }

    #[test]
    fn a_cursor_that_a_clock_put_far_ahead_comes_back() {
        let schedule = daily_at_nine("2027-01-10T12:00:00Z", "2036-01-01T09:00:00Z");
        let now = at("2027-01-12T12:00:00Z");
        assert_eq!(schedule.true_cursor(now, None), Some(at("2027-01-13T09:00:00Z")));
        let fired = Schedule {
            last_fire_at: Some(at("2035-12-31T09:00:00Z")),
            ..schedule
        };
        let accounted = Some(at("2027-01-11T09:00:00Z"));
        assert_eq!(
            fired.true_cursor(now, accounted),
            Some(at("2027-01-12T09:00:00Z")),
            "owed since the 12th"
        );
    }
}
