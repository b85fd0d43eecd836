//! What became of an attempt: it goes on record with what follows from it, for the delivery and for the stored webhook that it
//! went to.
//!
//! A stored webhook that says it is gone, or that has only failed for days, is disabled: nothing more is sent to it, its
//! owner sees why, and what it is owed waits until they make it active again.

use jiff::Timestamp;

use super::{lock, receiver_of, recount, standing};
use crate::{
    domain::{DeliveryId, EndpointId, PING, TenantId, failing_since, why_disabled},
    store::{
        error::Result,
        ops::lock,
        tx::{Tx, params},
    },
};

/// An attempt, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    /// When it began.
    pub at: Timestamp,
    /// The answer's status, if there was one.
    pub status: Option<u16>,
    /// How long it took, in milliseconds.
    pub latency_ms: u64,
    /// The kind of error and a sentence, where it did not arrive.
    pub error: Option<(String, String)>,
    /// The beginning of the answer's body.
    pub excerpt: Option<String>,
    /// Whether it failed on this side, before anything was sent: that says nothing of the receiver.
    pub not_sent: bool,
    /// The `revision` of the stored webhook when it was claimed.
    pub revision: Option<i64>,
}

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterAttempt {
    /// It arrived.
    Delivered,
    /// The next attempt is due then.
    Retry(Timestamp),
    /// The receiver says that it is gone for good: nothing more is to be sent there.
    Gone,
    /// There is no next attempt.
    GiveUp,
}

/// What came of recording an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// It is on record.
    Done,
    /// It is on record, and has disabled the stored webhook it went to, for this reason.
    Disabled(EndpointId, String),
    /// The delivery is not the holder's any more; nothing has changed.
    NotHeld,
}

/// The stored webhook that a delivery goes to.
struct Endpoint {
    id: EndpointId,
    active: bool,
    revision: i64,
    failing_since: Option<Timestamp>,
    last_failure_at: Option<Timestamp>,
}

/// Whose delivery it is: nobody's but the job's own, a stored webhook's, or that of one that is gone.
enum Whose {
    Job,
    Endpoint(Endpoint),
    Deleted,
}

/// Records an attempt and what follows it.
///
/// # Errors
/// What the engine refuses.
pub fn record(
    tx: &mut Tx<'_>,
    (id, token): (DeliveryId, &str),
    attempt: AttemptRecord,
    after: AfterAttempt,
    now: Timestamp,
) -> Result<Recorded> {
    let Some((tenant, url)) = receiver_of(tx, &id.to_string())? else {
        return Ok(Recorded::NotHeld);
    };
    lock(tx, &tenant, &url)?;
    let Some((whose, ping)) = whose(tx, (id, token), after)? else {
        recount(tx, &tenant, &url, now, false)?;
        return Ok(Recorded::NotHeld);
    };
    let mut after = after;
    let disabled = match &whose {
        // It was on its way when its owner moved the webhook or made it active: it tells of what that was before. What would
        // be given up is sent once more.
        Whose::Endpoint(endpoint) if Some(endpoint.revision) != attempt.revision => {
            if matches!(after, AfterAttempt::Gone | AfterAttempt::GiveUp) && !ping {
                after = AfterAttempt::Retry(now);
            }
            None
        }
        Whose::Endpoint(endpoint) => note(tx, endpoint, &attempt, after, now)?,
        Whose::Job | Whose::Deleted => None,
    };
    let (status, next, completed, reason) = match (after, &whose) {
        (AfterAttempt::Delivered, _) => ("delivered", None, Some(now), None),
        (AfterAttempt::GiveUp, _) => ("failed", None, Some(now), Some(standing::NONE_LEFT)),
        (AfterAttempt::Retry(_), Whose::Deleted) => ("failed", None, Some(now), Some(standing::DELETED)),
        (AfterAttempt::Retry(_) | AfterAttempt::Gone, Whose::Endpoint(endpoint))
            if !ping && (!endpoint.active || disabled.is_some()) =>
        {
            ("pending", None, None, Some(standing::INACTIVE))
        }
        (AfterAttempt::Retry(at), _) => ("pending", Some(at), None, None),
        (AfterAttempt::Gone, _) => ("failed", None, Some(now), Some(standing::GONE)),
    };
    let held_back = (status == "pending" && next.is_none()).then_some(now);
    tx.execute_one(
        "UPDATE deliveries SET status = $2, next_attempt_at = $3, completed_at = $4, reason = $5, held_back_at = $6,
           attempts = attempts + 1, lease_token = NULL, lease_until = NULL
         WHERE id = $1",
        params![id, status, next, completed, reason, held_back],
    )?;
    if !attempt.not_sent {
        let sql =
            "UPDATE delivery_receivers SET failing = $3 WHERE tenant_id = $1 AND url = $2 AND failing <> $3";
        tx.execute(sql, params![&tenant, &url, after != AfterAttempt::Delivered])?;
    }
    recount(tx, &tenant, &url, now, false)?;
    let (class, error) = attempt.error.unzip();
    let code = attempt.status.map(u32::from);
    tx.execute_one(
        "INSERT INTO delivery_attempts (delivery_id, number, attempted_at, status_code, latency_ms, error_class, error,
           response_excerpt)
         SELECT id, attempts, $2, $3, $4, $5, $6, $7 FROM deliveries WHERE id = $1",
        params![id, attempt.at, code, attempt.latency_ms, class, error, attempt.excerpt],
    )?;
    Ok(match (disabled, whose) {
        (Some(reason), Whose::Endpoint(endpoint)) => Recorded::Disabled(endpoint.id, reason),
        _ => Recorded::Done,
    })
}

/// Puts a receiver among the failing although nothing has failed: an attempt lasts so long that it may hang. What becomes of
/// the attempt says the rest. A receiver that is owed nothing any more is left alone.
///
/// # Errors
/// What the engine refuses.
pub fn suspect(tx: &mut Tx<'_>, tenant: TenantId, url: &str) -> Result<()> {
    let sql = "UPDATE delivery_receivers SET failing = 1 WHERE tenant_id = $1 AND url = $2 AND failing = 0";
    tx.execute(sql, params![tenant, url]).map(|_| ())
}

/// Whose a delivery is that is held with `token`, and whether it is a ping; `None` where it is not held. After a failure its
/// stored webhook is locked, because what becomes of the two belongs together.
fn whose(
    tx: &mut Tx<'_>,
    (id, token): (DeliveryId, &str),
    after: AfterAttempt,
) -> Result<Option<(Whose, bool)>> {
    let sql = "SELECT webhook_endpoint_id, event FROM deliveries
               WHERE id = $1 AND lease_token = $2 AND status = 'pending'";
    let held = tx.query_opt(sql, params![id, token], |row| {
        Ok((row.get("webhook_endpoint_id")?, row.get::<String>("event")?))
    })?;
    let (endpoint, ping): (Option<EndpointId>, _) = match held {
        None => return Ok(None),
        Some((endpoint, event)) => (endpoint, event == PING),
    };
    let Some(endpoint) = endpoint else {
        return Ok(Some((Whose::Job, ping)));
    };
    if after != AfterAttempt::Delivered {
        lock::rows(tx, "webhook_endpoints WHERE id = $1", params![endpoint])?;
    }
    let sql = "SELECT active, revision, failing_since, last_failure_at FROM webhook_endpoints WHERE id = $1";
    let found = tx.query_opt(sql, params![endpoint], |row| {
        Ok(Endpoint {
            id: endpoint,
            active: row.get("active")?,
            revision: row.get("revision")?,
            failing_since: row.get("failing_since")?,
            last_failure_at: row.get("last_failure_at")?,
        })
    })?;
    Ok(Some((found.map_or(Whose::Deleted, Whose::Endpoint), ping)))
}

/// Writes down how a stored webhook fares. Says why, where this disables it.
fn note(
    tx: &mut Tx<'_>,
    endpoint: &Endpoint,
    attempt: &AttemptRecord,
    after: AfterAttempt,
    now: Timestamp,
) -> Result<Option<String>> {
    if after == AfterAttempt::Delivered {
        if endpoint.failing_since.is_some() {
            let sql =
                "UPDATE webhook_endpoints SET failing_since = NULL, last_failure_at = NULL WHERE id = $1";
            tx.execute(sql, params![endpoint.id])?;
        }
        return Ok(None);
    }
    if attempt.not_sent {
        return Ok(None);
    }
    let since = failing_since(endpoint.failing_since.zip(endpoint.last_failure_at), now);
    tx.execute(
        "UPDATE webhook_endpoints SET failing_since = $2, last_failure_at = $3 WHERE id = $1",
        params![endpoint.id, since, now],
    )?;
    let error = attempt.error.as_ref().map_or("", |(_, error)| error);
    let Some(reason) = why_disabled(after == AfterAttempt::Gone, since, now, error) else {
        return Ok(None);
    };
    let disabled = tx.execute(
        "UPDATE webhook_endpoints SET active = 0, resuming = 0, disabled_at = $2, disabled_reason = $3, updated_at = $2
         WHERE id = $1 AND active = 1",
        params![endpoint.id, now, &reason],
    )?;
    Ok((disabled == 1).then_some(reason))
}
