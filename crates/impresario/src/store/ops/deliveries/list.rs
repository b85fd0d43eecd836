//! Deliveries, as their owner sees them.

use jiff::Timestamp;

use crate::domain::{DeliveryId, EndpointId, JobId, ScheduleId, TenantId};
use crate::store::{PageCursor, error::Result, ops::query::Query, tx::Tx};

/// A delivery with its newest attempt, for its owner.
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
    /// When it was put into the outbox.
    pub created_at: Timestamp,
    /// The status of the newest attempt's answer.
    pub last_status: Option<u32>,
    /// How long the newest attempt took, in milliseconds.
    pub last_latency_ms: Option<u64>,
    /// The error of the newest attempt.
    pub last_error: Option<String>,
}

/// Which deliveries are listed: all of a tenant, or only those that tell of something or go somewhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeliveryFilter {
    /// That tell of this job.
    pub job: Option<JobId>,
    /// That tell of this schedule, or of a job of its fires.
    pub schedule: Option<ScheduleId>,
    /// That go to this stored webhook.
    pub endpoint: Option<EndpointId>,
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
    Query::new(
        "SELECT d.id, d.job_id, d.schedule_id, d.webhook_endpoint_id, d.url, d.event, d.status, d.attempts,
           d.next_attempt_at, d.created_at, a.status_code, a.latency_ms, a.error
         FROM deliveries d
         LEFT JOIN delivery_attempts a ON a.delivery_id = d.id AND a.number = d.attempts
         WHERE d.tenant_id = ?",
        [tenant.into()],
    )
    .and("d.job_id = ?", filter.job.map(|id| [id.into()]))
    .and("d.schedule_id = ?", filter.schedule.map(|id| [id.into()]))
    .and("d.webhook_endpoint_id = ?", filter.endpoint.map(|id| [id.into()]))
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
                created_at: row.get("created_at")?,
                last_status: row.get("status_code")?,
                last_latency_ms: row.get("latency_ms")?,
                last_error: row.get("error")?,
            })
        },
    )
}
