//! Whether a stored webhook still takes what it is owed. That is looked at when a delivery's turn comes, so to make a webhook
//! inactive, to delete it or to move it costs the same however much it is owed.

use jiff::Timestamp;

use super::{DueDelivery, refresh};
use crate::{
    domain::PING,
    store::{
        error::Result,
        ops::lock,
        tx::{Row, Tx, params},
    },
};

/// Why a delivery is not attempted any more, or for the time being.
pub(super) const NONE_LEFT: &str = "no attempt is left";
pub(super) const GONE: &str = "the receiver answered 410 Gone";
pub(super) const DELETED: &str = "its webhook endpoint was deleted";
pub(super) const INACTIVE: &str = "held back: its webhook endpoint is not active";

/// How many deliveries of one receiver are put aside at once.
const MOST_AT_ONCE: u32 = 100;

/// How a delivery stands to the stored webhook it goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It may go there.
    Open,
    /// The webhook has another URL now.
    Moved(String),
    /// The webhook is not active. A ping goes there all the same: it is how one finds out whether to make it active.
    Inactive,
    /// The webhook is gone.
    Deleted,
}

/// Reads it off a row with `endpoint_active` and `endpoint_url`, both NULL where there is no such webhook.
pub(super) fn of(delivery: &DueDelivery, row: &Row<'_>) -> Result<Standing> {
    if delivery.endpoint.is_none() {
        return Ok(Standing::Open);
    }
    let found = (row.get("endpoint_active")?, row.get("endpoint_url")?);
    Ok(judge(delivery, found))
}

fn judge(delivery: &DueDelivery, found: (Option<bool>, Option<String>)) -> Standing {
    match found {
        (Some(active), Some(url)) => {
            if !active && delivery.event != PING {
                Standing::Inactive
            } else if url == delivery.url {
                Standing::Open
            } else {
                Standing::Moved(url)
            }
        }
        _ => Standing::Deleted,
    }
}

/// Does with a delivery that is due, and with others of the same webhook behind it, what follows from how it stands. The
/// receiver is locked.
pub(super) fn put_aside(
    tx: &mut Tx<'_>,
    delivery: &DueDelivery,
    seen: Standing,
    now: Timestamp,
) -> Result<()> {
    // Held back against its owner making it active: whichever of the two is second sees what the first did.
    if seen == Standing::Inactive {
        lock::rows(tx, "webhook_endpoints WHERE id = $1", params![delivery.endpoint])?;
        let sql = "SELECT active, url FROM webhook_endpoints WHERE id = $1";
        let found = tx.query_opt(sql, params![delivery.endpoint], |row| {
            Ok((row.get("active")?, row.get("url")?))
        })?;
        if judge(delivery, found.unwrap_or_default()) != seen {
            return Ok(());
        }
    }
    let (set, those, given) = match &seen {
        Standing::Open => return Ok(()),
        Standing::Moved(to) => ("url = $6", "TRUE", to.as_str()),
        Standing::Inactive => (
            "next_attempt_at = NULL, held_back_at = $4, reason = $6",
            "event <> 'ping'",
            INACTIVE,
        ),
        Standing::Deleted => (
            "status = 'failed', next_attempt_at = NULL, completed_at = $4, reason = $6",
            "TRUE",
            DELETED,
        ),
    };
    let sql = format!(
        "UPDATE deliveries SET {set} WHERE id IN (
           SELECT id FROM (
             SELECT id, webhook_endpoint_id, event FROM deliveries
             WHERE tenant_id = $1 AND url = $2 AND status = 'pending' AND lease_token IS NULL AND next_attempt_at <= $4
             ORDER BY next_attempt_at, id LIMIT $5) first
           WHERE webhook_endpoint_id = $3 AND {those})"
    );
    let tenant = delivery.tenant.to_string();
    tx.execute(
        &sql,
        params![
            &tenant,
            &delivery.url,
            delivery.endpoint,
            now,
            MOST_AT_ONCE,
            given
        ],
    )?;
    match seen {
        Standing::Moved(to) => refresh(tx, &tenant, &to, now, false),
        _ => Ok(()),
    }
}
