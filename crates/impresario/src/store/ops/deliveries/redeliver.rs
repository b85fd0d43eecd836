//! A delivery is sent once more, because its owner asks: under the same id, with the same body, to where its stored webhook is
//! now.

use jiff::Timestamp;

use super::{lock, receiver_of, recount, refresh};
use crate::domain::{DeliveryId, EndpointId, PING, TenantId};
use crate::store::{
    error::Result,
    tx::{Tx, params},
};

/// What became of a request to send a delivery once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedeliverOutcome {
    /// It is due now, and has every attempt of the back-off before it again: asking costs it none of them.
    Due,
    /// An attempt is under way.
    UnderWay,
    /// The stored webhook it went to is gone: its owner wants nothing sent there.
    EndpointDeleted(EndpointId),
    /// The stored webhook it goes to is not active.
    EndpointInactive(EndpointId),
    /// There is no such delivery of this tenant.
    Unknown,
}

/// Makes a delivery due. `now` is asked for once nobody else can write to what its receiver is owed.
///
/// # Errors
/// What the engine refuses.
pub fn redeliver(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    id: DeliveryId,
    now: impl FnOnce() -> Timestamp,
) -> Result<RedeliverOutcome> {
    let owner = tenant.to_string();
    let place = |tx: &mut Tx<'_>| -> Result<Option<String>> {
        let found = receiver_of(tx, &id.to_string())?.filter(|(of, _)| *of == owner);
        Ok(found.map(|(_, url)| url))
    };
    let Some(mut url) = place(tx)? else {
        return Ok(RedeliverOutcome::Unknown);
    };
    // It may move to another receiver until the one it is at is locked.
    loop {
        lock(tx, &owner, &url)?;
        match place(tx)? {
            None => return Ok(RedeliverOutcome::Unknown),
            Some(found) if found == url => break,
            Some(found) => url = found,
        }
    }
    let now = now();
    let (outcome, moved) = make_due(tx, id, now)?;
    recount(tx, &owner, &url, now, false)?;
    if let Some(to) = moved.filter(|to| *to != url) {
        refresh(tx, &owner, &to, now, false)?;
    }
    Ok(outcome)
}

/// What became of it, and where its stored webhook is.
fn make_due(tx: &mut Tx<'_>, id: DeliveryId, now: Timestamp) -> Result<(RedeliverOutcome, Option<String>)> {
    let sql = "SELECT d.webhook_endpoint_id, d.lease_token, d.event, w.active, w.url
               FROM deliveries d
               LEFT JOIN webhook_endpoints w ON w.id = d.webhook_endpoint_id AND w.tenant_id = d.tenant_id
               WHERE d.id = $1";
    type Found = (Option<EndpointId>, Option<String>, Option<bool>, Option<String>);
    let found = tx.query_opt(sql, params![id], |row| -> Result<Found> {
        let (event, active): (String, Option<bool>) = (row.get("event")?, row.get("active")?);
        Ok((
            row.get("webhook_endpoint_id")?,
            row.get("lease_token")?,
            // A ping goes to one that is not active as well.
            active.map(|active| active || event == PING),
            row.get("url")?,
        ))
    })?;
    let url = match found {
        None => return Ok((RedeliverOutcome::Unknown, None)),
        Some((_, Some(_), ..)) => return Ok((RedeliverOutcome::UnderWay, None)),
        Some((Some(endpoint), _, None, _)) => {
            return Ok((RedeliverOutcome::EndpointDeleted(endpoint), None));
        }
        Some((Some(endpoint), _, Some(false), _)) => {
            return Ok((RedeliverOutcome::EndpointInactive(endpoint), None));
        }
        Some((.., url)) => url,
    };
    let due = tx.execute(
        "UPDATE deliveries SET
           earlier_attempts = attempts,
           next_attempt_at = CASE WHEN status = 'pending' AND next_attempt_at < $2 THEN next_attempt_at ELSE $2 END,
           status = 'pending', completed_at = NULL, reason = NULL, held_back_at = NULL, url = COALESCE($3, url)
         WHERE id = $1 AND lease_token IS NULL",
        params![id, now, url.clone()],
    )?;
    match due {
        // It was old, and has just gone.
        0 => Ok((RedeliverOutcome::Unknown, None)),
        _ => Ok((RedeliverOutcome::Due, url)),
    }
}
