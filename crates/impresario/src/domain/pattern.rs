//! When a schedule fires: a cron expression in a time zone.

use impresario_cron::{Cron, Zone};
use jiff::Timestamp;

use super::Violation;

/// A cron expression and the zone it is read in. The expression is kept as it was written.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    cron: Cron,
    zone: Zone,
}

/// What is wrong with an expression and a zone that were given together: both are looked at.
#[derive(Debug, Default)]
pub struct PatternIssues {
    /// About `cron_expr`.
    pub cron_expr: Option<Violation>,
    /// About `timezone`.
    pub timezone: Option<Violation>,
}

impl Pattern {
    /// Reads both, and refuses an expression that can never fire.
    ///
    /// # Errors
    /// [`PatternIssues`], with a sentence for each of the two that is wrong.
    pub fn parse(expr: &str, zone: &str) -> Result<Self, PatternIssues> {
        let cron = match Cron::parse(expr) {
            Ok(cron) if cron.is_never() => Err(Violation::here(
                "custom",
                format!("{expr:?} can never fire: no month has such a day"),
            )),
            Ok(cron) => Ok(cron),
            Err(e) => Err(Violation::here("invalid_format", e.to_string())),
        };
        let zone = Zone::get(zone).map_err(|e| Violation::here("invalid_value", e.to_string()));
        match (cron, zone) {
            (Ok(cron), Ok(zone)) => Ok(Self { text: expr.to_owned(), cron, zone }),
            (cron, zone) => Err(PatternIssues { cron_expr: cron.err(), timezone: zone.err() }),
        }
    }

    /// The expression as it was written.
    #[must_use]
    pub fn expr(&self) -> &str {
        &self.text
    }

    /// The zone's canonical name.
    #[must_use]
    pub fn zone(&self) -> &str {
        self.zone.name()
    }

    /// The first fire after `after`; `None` where the end of time comes first.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.cron.next_after(&self.zone, after).map(|fire| fire.at)
    }

    /// The last fire before `before`.
    #[must_use]
    pub fn previous_before(&self, before: Timestamp) -> Option<Timestamp> {
        self.cron.previous_before(&self.zone, before).map(|fire| fire.at)
    }
}
