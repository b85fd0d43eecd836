//! When something fires: a cron expression in a time zone.

use impresario_cron::{Cron, CronError, Fire, Zone, ZoneError};
use jiff::Timestamp;

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
