//! What is done with deliveries by and by, a bounded piece at a time: those that were held back are made due once their
//! endpoint is active again, and those that are old go.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{lock, recount, standing};
use crate::{
    domain::{EndpointId, TenantId},
    store::{
        error::Result,
        ops::lock as locks,
        tx::{Tx, params},
        value::Json,
    },
};

/// A stored webhook that is active again, and for which something may be held back: the next after one, round and round,
/// so that none with much of it keeps the others waiting.
///
/// # Errors
/// What the engine refuses.
pub fn resuming(tx: &mut Tx<'_>, after: Option<EndpointId>) -> Result<Option<(TenantId, EndpointId)>> {
    let sql = "SELECT id, tenant_id FROM webhook_endpoints WHERE resuming = 1
               ORDER BY CASE WHEN id > $1 THEN 0 ELSE 1 END, id LIMIT 1";
    let after = after.map(|id| id.to_string()).unwrap_or_default();
    tx.query_opt(sql, params![after], |row| {
        Ok((row.get("tenant_id")?, row.get("id")?))
    })
}

/// What is held back.
const HELD_BACK: &str = "status = 'pending' AND lease_token IS NULL AND next_attempt_at IS NULL";

/// Makes due what was held back for it: at most `limit`, oldest first. How many.
///
/// # Errors
/// What the engine refuses.
pub fn resume(
    tx: &mut Tx<'_>,
    (tenant, endpoint): (TenantId, EndpointId),
    now: Timestamp,
    limit: u32,
) -> Result<u64> {
    let tenant = tenant.to_string();
    let sql = format!(
        "SELECT id, url FROM deliveries WHERE webhook_endpoint_id = $1 AND {HELD_BACK}
         ORDER BY created_at, id LIMIT $2"
    );
    let held = tx.query(&sql, params![endpoint, limit], |row| {
        Ok((row.get::<String>("id")?, row.get::<String>("url")?))
    })?;
    let urls: BTreeSet<&String> = held.iter().map(|(_, url)| url).collect();
    for url in &urls {
        lock(tx, &tenant, url)?;
    }
    let ids: Vec<&String> = held.iter().map(|(id, _)| id).collect();
    let item = tx.dialect().texts_of("$1");
    let sql = format!(
        "UPDATE deliveries SET next_attempt_at = $2, reason = NULL, held_back_at = NULL
         WHERE id IN (SELECT item.value FROM {item}) AND {HELD_BACK}"
    );
    let resumed = tx.execute(&sql, params![Json(&ids), now])?;
    for url in &urls {
        recount(tx, &tenant, url, now, false)?;
    }
    // Whoever holds something back, or makes the webhook inactive again, has the webhook's row meanwhile: after this wait, what
    // they have done is to be seen.
    locks::rows(tx, "webhook_endpoints WHERE id = $1", params![endpoint])?;
    let sql = format!(
        "UPDATE webhook_endpoints SET resuming = 0
         WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM deliveries WHERE webhook_endpoint_id = $1 AND {HELD_BACK})"
    );
    tx.execute(&sql, params![endpoint])?;
    Ok(resumed)
}

/// What is old: what ended before `$1`, and what has been held back since before it.
fn old() -> [String; 2] {
    [
        "completed_at < $1 ORDER BY completed_at, id".to_owned(),
        format!("{HELD_BACK} AND held_back_at < $1 ORDER BY held_back_at, id"),
    ]
}

/// Something is held back for it, and nobody is about to make that due: because it is gone, or although it is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stray {
    /// The stored webhook.
    pub endpoint: EndpointId,
    /// Whether it is there.
    pub exists: bool,
}

/// The stored webhooks of which that is so. A step of an index for each for which something is held back.
///
/// # Errors
/// What the engine refuses.
pub fn strays(tx: &mut Tx<'_>) -> Result<Vec<Stray>> {
    let sql = format!(
        "WITH RECURSIVE held (id) AS (
           SELECT MIN(webhook_endpoint_id) FROM deliveries WHERE {HELD_BACK}
           UNION ALL
           SELECT (SELECT MIN(webhook_endpoint_id) FROM deliveries WHERE {HELD_BACK} AND webhook_endpoint_id > h.id)
           FROM held h WHERE h.id IS NOT NULL)
         SELECT h.id, w.active FROM held h LEFT JOIN webhook_endpoints w ON w.id = h.id
         WHERE h.id IS NOT NULL AND (w.id IS NULL OR (w.active = 1 AND w.resuming = 0))"
    );
    tx.query(&sql, &[], |row| {
        Ok(Stray {
            endpoint: row.get("id")?,
            exists: row.get::<Option<bool>>("active")?.is_some(),
        })
    })
}

/// Gives up what is held back for one that is gone, at most `limit` of it, or has it made due. How many were given up.
///
/// # Errors
/// What the engine refuses.
pub fn settle(tx: &mut Tx<'_>, stray: Stray, now: Timestamp, limit: u32) -> Result<u64> {
    if stray.exists {
        let sql = "UPDATE webhook_endpoints SET resuming = 1 WHERE id = $1 AND active = 1";
        tx.execute(sql, params![stray.endpoint])?;
        return Ok(0);
    }
    let sql = format!(
        "UPDATE deliveries SET status = 'failed', completed_at = $2, reason = $3, held_back_at = NULL
         WHERE id IN (SELECT id FROM deliveries WHERE webhook_endpoint_id = $1 AND {HELD_BACK}
                      ORDER BY created_at, id LIMIT $4{})",
        tx.dialect().claim()
    );
    tx.execute(&sql, params![stray.endpoint, now, standing::DELETED, limit])
}

/// Whether there is a delivery to prune.
///
/// # Errors
/// What the engine refuses.
pub fn any_old(tx: &mut Tx<'_>, before: Timestamp) -> Result<bool> {
    for which in old() {
        let sql = format!("SELECT id FROM deliveries WHERE {which} LIMIT 1");
        if tx.query_opt(&sql, params![before], |_| Ok(()))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether there is nothing that has ended in a while, `from` inclusive, `to` exclusive.
///
/// # Errors
/// What the engine refuses.
pub fn none_ended(tx: &mut Tx<'_>, (from, to): (Timestamp, Timestamp)) -> Result<bool> {
    let sql = "SELECT id FROM deliveries WHERE completed_at >= $1 AND completed_at < $2
               ORDER BY completed_at LIMIT 1";
    Ok(tx.query_opt(sql, params![from, to], |_| Ok(()))?.is_none())
}

/// Removes deliveries with their attempts, oldest first, at most `limit`: those that ended before an instant, and those
/// that have been held back since before it. How many.
///
/// # Errors
/// What the engine refuses.
pub fn prune(tx: &mut Tx<'_>, before: Timestamp, limit: u32) -> Result<u64> {
    let claim = tx.dialect().claim();
    let mut found: Vec<String> = Vec::new();
    for which in old() {
        let room = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        let sql = format!("SELECT id FROM deliveries WHERE {which} LIMIT $2{claim}");
        found.extend(tx.query(&sql, params![before, room], |row| row.get::<String>("id"))?);
    }
    if found.is_empty() {
        return Ok(0);
    }
    let item = tx.dialect().texts_of("$1");
    let sql = format!("DELETE FROM delivery_attempts WHERE delivery_id IN (SELECT item.value FROM {item})");
    tx.execute(&sql, params![Json(&found)])?;
    let sql = format!("DELETE FROM deliveries WHERE id IN (SELECT item.value FROM {item})");
    tx.execute(&sql, params![Json(&found)])
}
