//! How much there is to do, for those who watch. What is counted is walked in an index, and no further than [`MOST`]: the
//! answer costs the same however much there is.

use jiff::Timestamp;

use super::fires;
use crate::store::{
    error::Result,
    tx::{Tx, params},
};

/// Nothing is counted further.
pub const MOST: u64 = 10_000;

/// What waits and what is under way, on all nodes and of all tenants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    /// The due time of the schedule that is to fire next; a past one where its fire is late.
    pub next_due: Option<Timestamp>,
    /// Jobs that wait for a worker, or for another job of their schedule.
    pub queued: u64,
    /// Jobs that a worker has.
    pub running: u64,
    /// Deliveries that wait for an attempt.
    pub deliveries_waiting: u64,
    /// Deliveries of which an attempt is under way.
    pub deliveries_in_flight: u64,
    /// Deliveries that are held back, because their webhook endpoint is not active.
    pub deliveries_held_back: u64,
    /// Webhook endpoints that the server disabled.
    pub endpoints_disabled: u64,
}

/// What is owed and not under way, as far as its next attempt.
const OWED: &str = "deliveries WHERE status = 'pending' AND lease_token IS NULL AND next_attempt_at";

/// Looks at all of it.
///
/// # Errors
/// What the engine refuses.
pub fn gauges(tx: &mut Tx<'_>) -> Result<Gauges> {
    Ok(Gauges {
        next_due: fires::next_due(tx)?,
        queued: count(tx, "jobs WHERE status = 'queued'")?,
        running: count(tx, "jobs WHERE status IN ('starting_browser', 'running')")?,
        deliveries_waiting: count(tx, &format!("{OWED} IS NOT NULL"))?,
        deliveries_in_flight: count(tx, "deliveries WHERE lease_token IS NOT NULL")?,
        deliveries_held_back: count(tx, &format!("{OWED} IS NULL"))?,
        endpoints_disabled: count(tx, "webhook_endpoints WHERE disabled_at IS NOT NULL")?,
    })
}

fn count(tx: &mut Tx<'_>, from: &str) -> Result<u64> {
    let sql = format!("SELECT COUNT(*) AS found FROM (SELECT 1 AS one FROM {from} LIMIT $1) counted");
    let found = tx.query_opt(&sql, params![MOST], |row| row.get("found"))?;
    Ok(found.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ops::fixture::Db;

    #[test]
    fn what_waits_is_counted_and_the_history_costs_nothing() {
        let work = |history: i64| {
            // On PostgreSQL a small table may as well be read whole.
            let db = Db::embedded();
            let tenant = db.tenant();
            let one = (tenant, db.deployment(tenant, &[]));
            for number in 0..history {
                db.job(one, "completed", number);
            }
            for status in ["queued", "queued", "starting_browser", "running", "failed"] {
                db.job(one, status, 1);
            }
            let (found, work) = db.work(gauges);
            let expected = Gauges {
                queued: 2,
                running: 2,
                ..Gauges::default()
            };
            assert_eq!(found, expected);
            work
        };
        let (few, many) = (work(10), work(2_000));
        assert!(many < few * 2 + 100, "{few}, {many}");
    }
}
