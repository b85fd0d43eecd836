//! A ping: what a stored webhook is sent because its owner wants to see whether it works.

use impresario_api::PingBody;

use super::{About, enqueue};
use crate::{
    domain::{DeliveryId, EndpointId, PING, Receiver, TenantId, rfc3339},
    store::{
        error::Result,
        ops::Moment,
        tx::{Tx, params},
    },
};

/// Behind so many deliveries that are due, a ping would tell nobody anything.
const MOST_WAITING: u32 = 100;

/// What became of a request to ping a stored webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PingOutcome {
    /// It is due now.
    Due(DeliveryId),
    /// So many deliveries that are due wait for its receiver already.
    Crowded(u32),
    /// There is no such webhook of this tenant.
    Unknown,
}

/// Puts a ping into the outbox, also for a webhook that is not active.
///
/// # Errors
/// What the engine refuses.
pub fn ping(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    endpoint: EndpointId,
    moment: &Moment<'_>,
) -> Result<PingOutcome> {
    let sql = "SELECT url, secret_id FROM webhook_endpoints WHERE tenant_id = $1 AND id = $2";
    let found = tx.query_opt(sql, params![tenant, endpoint], |row| {
        Ok(Receiver {
            endpoint: Some(endpoint),
            url: row.get("url")?,
            secret: row.get("secret_id")?,
        })
    })?;
    let Some(receiver) = found else {
        return Ok(PingOutcome::Unknown);
    };
    let sql = "SELECT COUNT(*) AS waiting FROM (
                 SELECT 1 AS one FROM deliveries
                 WHERE tenant_id = $1 AND url = $2 AND status = 'pending' AND lease_token IS NULL
                   AND next_attempt_at <= $3 LIMIT $4) counted";
    let waiting = tx.query_opt(
        sql,
        params![tenant, &receiver.url, moment.now, MOST_WAITING],
        |row| row.get::<u32>("waiting"),
    )?;
    if waiting.unwrap_or(0) >= MOST_WAITING {
        return Ok(PingOutcome::Crowded(MOST_WAITING));
    }
    let about = About {
        tenant,
        job: None,
        schedule: None,
    };
    let body = PingBody {
        event: PING.to_owned(),
        webhook_endpoint_id: endpoint.to_string(),
        occurred_at: rfc3339(moment.now),
    };
    enqueue(tx, about, receiver, (PING, &body), moment).map(PingOutcome::Due)
}
