//! Deliveries, as their owner sees them.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::domain::{DeliveryId, EndpointId, JobId, ScheduleId, TenantId};
use crate::store::{
    PageCursor,
    error::Result,
    ops::query::Query,
    tx::{Tx, params},
    value::Json,
};

/// How many attempts of a delivery are listed: who asks for it again and again makes more of them without an end.
const LOGGED: u32 = 20;

/// A delivery with its attempts, for its owner.
#[derive(Debug, Clone)]
pub struct DeliveryView {
    /// Its id.
    pub id: DeliveryId,
    /// The job it tells of.
    pub job: Option<JobId>,
    /// The schedule it tells of.
    pub schedule: Option<ScheduleId>,
    /// The stored webhook it goes to; `None` for a job's own callback.
    pub endpoint: Option<EndpointId>,
    /// Where it goes.
    pub url: String,
    /// One of the events in [`EVENTS`](crate::domain::EVENTS).
    pub event: String,
    /// `pending`, `delivered` or `failed`.
    pub status: String,
    /// How many attempts were made.
    pub attempts: u32,
    /// When the next one is due.
    pub next_attempt_at: Option<Timestamp>,
    /// Why no attempt is made any more, or for the time being.
    pub reason: Option<String>,
    /// When it was put into the outbox.
    pub created_at: Timestamp,
    /// The newest 20 attempts, oldest first.
    pub log: Vec<AttemptView>,
}

/// One attempt, for the delivery's owner.
#[derive(Debug, Clone)]
pub struct AttemptView {
    /// Counted from 1.
    pub number: u32,
    /// When it was made.
    pub at: Timestamp,
    /// The status of the answer, where there was one.
    pub status: Option<u32>,
    /// How long it took, in milliseconds.
    pub latency_ms: u64,
    /// The kind of failure.
    pub class: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// The beginning of the answer's body.
    pub excerpt: Option<String>,
}

/// Which deliveries are listed: all of a tenant, or only those that tell of something or go somewhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeliveryFilter {
    /// This one alone.
    pub delivery: Option<DeliveryId>,
    /// That tell of this job.
    pub job: Option<JobId>,
    /// That tell of this schedule, or of a job of its fires.
    pub schedule: Option<ScheduleId>,
    /// That go to this stored webhook.
    pub endpoint: Option<EndpointId>,
    /// That stand like this: `pending`, `delivered` or `failed`.
    pub status: Option<&'static str>,
}

/// The newest deliveries of a tenant, at most `limit`.
///
/// # Errors
/// What the engine refuses.
pub fn list(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    filter: DeliveryFilter,
    after: Option<PageCursor>,
    limit: u32,
) -> Result<Vec<DeliveryView>> {
    let mut found = without_logs(tx, tenant, filter, (after, limit))?;
    let ids: Vec<String> = found.iter().map(|delivery| delivery.id.to_string()).collect();
    let item = tx.dialect().texts_of("$1");
    let sql = format!(
        "SELECT a.delivery_id, a.number, a.attempted_at, a.status_code, a.latency_ms, a.error_class, a.error,
           a.response_excerpt
         FROM {item} JOIN deliveries d ON d.id = item.value
           JOIN delivery_attempts a ON a.delivery_id = d.id AND a.number > d.attempts - {LOGGED}
         ORDER BY a.delivery_id, a.number"
    );
    let attempts = tx.query(&sql, params![Json(ids)], |row| {
        let attempt = AttemptView {
            number: row.get("number")?,
            at: row.get("attempted_at")?,
            status: row.get("status_code")?,
            latency_ms: row.get("latency_ms")?,
            class: row.get("error_class")?,
            error: row.get("error")?,
            excerpt: row.get("response_excerpt")?,
        };
        Ok((row.get::<DeliveryId>("delivery_id")?, attempt))
    })?;
    let mut logs: HashMap<DeliveryId, Vec<AttemptView>> = HashMap::new();
    for (delivery, attempt) in attempts {
        logs.entry(delivery).or_default().push(attempt);
    }
    for delivery in &mut found {
        delivery.log = logs.remove(&delivery.id).unwrap_or_default();
    }
    Ok(found)
}

fn without_logs(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    filter: DeliveryFilter,
    (after, limit): (Option<PageCursor>, u32),
) -> Result<Vec<DeliveryView>> {
    Query::new(
        "SELECT d.id, d.job_id, d.schedule_id, d.webhook_endpoint_id, d.url, d.event, d.status, d.attempts,
           d.next_attempt_at, d.reason, d.created_at
         FROM deliveries d
         WHERE d.tenant_id = ?",
        [tenant.into()],
    )
    .and("d.id = ?", filter.delivery.map(|id| [id.into()]))
    .and("d.job_id = ?", filter.job.map(|id| [id.into()]))
    .and("d.schedule_id = ?", filter.schedule.map(|id| [id.into()]))
    .and("d.webhook_endpoint_id = ?", filter.endpoint.map(|id| [id.into()]))
    // The second half is for the index of what did not arrive.
    .and(
        match filter.status {
            Some("delivered") => "d.status = ?",
            _ => "d.status = ? AND d.status <> 'delivered'",
        },
        filter.status.map(|status| [status.into()]),
    )
    .after("(d.created_at, d.id) < (?, ?)", after)
    .run(
        tx,
        ("ORDER BY d.created_at DESC, d.id DESC LIMIT ?", [limit.into()]),
        |row| {
            Ok(DeliveryView {
                id: row.get("id")?,
                job: row.get("job_id")?,
                schedule: row.get("schedule_id")?,
                endpoint: row.get("webhook_endpoint_id")?,
                url: row.get("url")?,
                event: row.get("event")?,
                status: row.get("status")?,
                attempts: row.get("attempts")?,
                next_attempt_at: row.get("next_attempt_at")?,
                reason: row.get("reason")?,
                created_at: row.get("created_at")?,
                log: Vec::new(),
            })
        },
    )
}
