//! The outbox: one row per event and receiver, and one per attempt.

use impresario_api::CallbackBody;
use jiff::Timestamp;

use crate::domain::{DeliveryId, EndpointId, Job, JobId, Receiver, SecretId, TenantId};
use crate::store::{
    PageCursor,
    error::Result,
    tx::{Row, Tx, params},
    value::Json,
};

/// A delivery that is due.
#[derive(Debug, Clone)]
pub struct DueDelivery {
    /// Its id: the `webhook-id` of every attempt.
    pub id: DeliveryId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The job it tells of.
    pub job: JobId,
    /// Where it goes.
    pub url: String,
    /// Signs it.
    pub secret: SecretId,
    /// `job.completed` or `job.failed`.
    pub event: String,
    /// The exact bytes that are signed and sent.
    pub body: String,
    /// How many attempts were made.
    pub attempts: u32,
}

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
}

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterAttempt {
    /// It arrived.
    Delivered,
    /// The next attempt is due then.
    Retry(Timestamp),
    /// There is no next attempt.
    GiveUp,
}

/// Puts an event into the outbox, due at once. Called in the transaction that ends the job.
pub(super) fn enqueue(
    tx: &mut Tx<'_>,
    (id, job): (DeliveryId, &Job),
    receiver: Receiver,
    (event, body): (&str, Json<CallbackBody>),
    now: Timestamp,
) -> Result<()> {
    tx.execute_one(
        "INSERT INTO deliveries (id, tenant_id, job_id, webhook_endpoint_id, url, secret_id, event, body, status,
           next_attempt_at, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'pending', $9, $9)",
        params![id, job.tenant, job.id, receiver.endpoint, receiver.url, receiver.secret, event, body, now],
    )
}

fn due(row: &Row<'_>) -> Result<DueDelivery> {
    Ok(DueDelivery {
        id: row.get("id")?,
        tenant: row.get("tenant_id")?,
        job: row.get("job_id")?,
        url: row.get("url")?,
        secret: row.get("secret_id")?,
        event: row.get("event")?,
        body: row.get("body")?,
        attempts: row.get("attempts")?,
    })
}

/// Takes deliveries that are due, for whoever holds `token`: at most `limit`, and at most `per_receiver` in flight to
/// one URL of one tenant, so that a dead receiver holds up nobody but itself.
///
/// # Errors
/// What the engine refuses.
pub fn claim(
    tx: &mut Tx<'_>,
    (limit, per_receiver): (usize, usize),
    token: &str,
    now: Timestamp,
) -> Result<Vec<DueDelivery>> {
    let sql = "WITH ranked AS (
                 SELECT d.id, d.tenant_id, d.job_id, d.url, d.secret_id, d.event, d.body, d.attempts, d.next_attempt_at,
                   ROW_NUMBER() OVER (PARTITION BY d.tenant_id, d.url ORDER BY d.next_attempt_at, d.id)
                   + (SELECT COUNT(*) FROM deliveries f WHERE f.status = 'pending' AND f.lease_token IS NOT NULL
                        AND f.tenant_id = d.tenant_id AND f.url = d.url) AS place
                 FROM deliveries d
                 WHERE d.status = 'pending' AND d.lease_token IS NULL AND d.next_attempt_at <= $1)
               SELECT * FROM ranked WHERE place <= $2 ORDER BY next_attempt_at, id LIMIT $3";
    let claimed = tx.query(sql, params![now, per_receiver, limit], due)?;
    for delivery in &claimed {
        let sql = "UPDATE deliveries SET lease_token = $2 WHERE id = $1 AND lease_token IS NULL";
        tx.execute_one(sql, params![delivery.id, token])?;
    }
    Ok(claimed)
}

/// Records an attempt and what follows it; `false`, and nothing changed, where the delivery is not the holder's.
///
/// # Errors
/// What the engine refuses.
pub fn record(
    tx: &mut Tx<'_>,
    (id, token): (DeliveryId, &str),
    attempt: AttemptRecord,
    after: AfterAttempt,
    now: Timestamp,
) -> Result<bool> {
    let (status, next, completed) = match after {
        AfterAttempt::Delivered => ("delivered", None, Some(now)),
        AfterAttempt::Retry(at) => ("pending", Some(at), None),
        AfterAttempt::GiveUp => ("failed", None, Some(now)),
    };
    let held = tx.execute(
        "UPDATE deliveries SET status = $3, next_attempt_at = $4, completed_at = $5, attempts = attempts + 1,
           lease_token = NULL
         WHERE id = $1 AND lease_token = $2 AND status = 'pending'",
        params![id, token, status, next, completed],
    )?;
    if held == 0 {
        return Ok(false);
    }
    let (class, error) = attempt.error.unzip();
    let code = attempt.status.map(u32::from);
    tx.execute_one(
        "INSERT INTO delivery_attempts (delivery_id, number, attempted_at, status_code, latency_ms, error_class, error,
           response_excerpt)
         SELECT id, attempts, $2, $3, $4, $5, $6, $7 FROM deliveries WHERE id = $1",
        params![id, attempt.at, code, attempt.latency_ms, class, error, attempt.excerpt],
    )?;
    Ok(true)
}

/// Frees what an earlier server of this data directory had in flight: it is sent again, under the same id.
///
/// # Errors
/// What the engine refuses.
pub fn recover(tx: &mut Tx<'_>) -> Result<u64> {
    tx.execute(
        "UPDATE deliveries SET lease_token = NULL WHERE lease_token IS NOT NULL",
        &[],
    )
}

/// No attempt is put off for longer: the longest wait with its jitter, in milliseconds.
const LONGEST_WAIT_MS: i64 = 30 * 60 * 60 * 1000;

/// Makes due at once what is due later than any wait can reach: it was planned by a clock that was ahead. How many.
///
/// # Errors
/// What the engine refuses.
pub fn realign(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64> {
    tx.execute(
        "UPDATE deliveries SET next_attempt_at = $1 WHERE status = 'pending' AND next_attempt_at > $2",
        params![now, now.as_millisecond().saturating_add(LONGEST_WAIT_MS)],
    )
}

/// When the next attempt is due that nobody makes already.
///
/// # Errors
/// What the engine refuses.
pub fn next_due(tx: &mut Tx<'_>) -> Result<Option<Timestamp>> {
    let sql = "SELECT next_attempt_at FROM deliveries
               WHERE status = 'pending' AND lease_token IS NULL AND next_attempt_at IS NOT NULL
               ORDER BY next_attempt_at LIMIT 1";
    tx.query_opt(sql, &[], |row| row.get("next_attempt_at"))
}

/// A delivery with its newest attempt, for its owner.
#[derive(Debug, Clone)]
pub struct DeliveryView {
    /// Its id.
    pub id: DeliveryId,
    /// The job it tells of.
    pub job: JobId,
    /// The stored webhook it goes to; `None` for a job's own callback.
    pub endpoint: Option<EndpointId>,
    /// Where it goes.
    pub url: String,
    /// `job.completed` or `job.failed`.
    pub event: String,
    /// `pending`, `delivered` or `failed`.
    pub status: String,
    /// How many attempts were made.
    pub attempts: u32,
    /// When the next one is due.
    pub next_attempt_at: Option<Timestamp>,
    /// When it was put into the outbox.
    pub created_at: Timestamp,
    /// The status of the newest attempt's answer.
    pub last_status: Option<u32>,
    /// How long the newest attempt took, in milliseconds.
    pub last_latency_ms: Option<u64>,
    /// The error of the newest attempt.
    pub last_error: Option<String>,
}

/// The newest deliveries of a tenant, at most `limit`, perhaps only those of one job or one stored webhook.
///
/// # Errors
/// What the engine refuses.
pub fn list(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    (job, endpoint): (Option<JobId>, Option<EndpointId>),
    after: Option<PageCursor>,
    limit: u32,
) -> Result<Vec<DeliveryView>> {
    let (at, id) = after.map(|cursor| (cursor.at, cursor.id)).unzip();
    tx.query(
        "SELECT d.id, d.job_id, d.webhook_endpoint_id, d.url, d.event, d.status, d.attempts, d.next_attempt_at,
           d.created_at, a.status_code, a.latency_ms, a.error
         FROM deliveries d
         LEFT JOIN delivery_attempts a ON a.delivery_id = d.id AND a.number = d.attempts
         WHERE d.tenant_id = $1 AND ($2 IS NULL OR d.job_id = $2) AND ($3 IS NULL OR d.webhook_endpoint_id = $3)
           AND ($4 IS NULL OR (d.created_at, d.id) < ($4, $5))
         ORDER BY d.created_at DESC, d.id DESC LIMIT $6",
        params![tenant, job, endpoint, at, id, limit],
        |row| {
            Ok(DeliveryView {
                id: row.get("id")?,
                job: row.get("job_id")?,
                endpoint: row.get("webhook_endpoint_id")?,
                url: row.get("url")?,
                event: row.get("event")?,
                status: row.get("status")?,
                attempts: row.get("attempts")?,
                next_attempt_at: row.get("next_attempt_at")?,
                created_at: row.get("created_at")?,
                last_status: row.get("status_code")?,
                last_latency_ms: row.get("latency_ms")?,
                last_error: row.get("error")?,
            })
        },
    )
}
