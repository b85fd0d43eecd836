//! Jobs: created on request, claimed by a worker under a token, finished once.

mod cancel;
mod claim;
mod end;
mod held;
mod list;
mod lost;
mod restored;

use jiff::Timestamp;

pub(super) use self::cancel::cancel_unfinished;
pub use self::{
    cancel::{CancelOutcome, cancel, to_cancel},
    claim::{any_queued, claim},
    end::{abandon, finish},
    held::{heartbeat, requeue, start},
    list::{JobFilter, JobSummary, list},
    lost::{Recovered, Settled, expired, reap, recover},
    restored::end_restored,
};
use super::{
    quotas,
    secrets::{self, SealedSecret},
};
use crate::domain::{Job, JobId, JobStatus, NewJob, ScheduleId, SecretId, TenantId};
use crate::store::{
    error::Result,
    tx::{Row, Tx, params},
    value::Json,
};

const SELECT: &str = "SELECT j.id, j.tenant_id, j.schedule_id, j.fire_at, j.workflow_id, j.workflow, j.deployment_id,
    d.bundle_sha256, j.params, j.launch, j.nonce, j.status, j.attempt, j.result, j.error, j.stack, j.failure_class,
    j.callback_url, j.callback_secret_id, j.skip_callbacks, j.backfill, j.created_at, j.started_at, j.completed_at
  FROM jobs j JOIN deployments d ON d.id = j.deployment_id";

fn read(row: &Row<'_>) -> Result<Job> {
    let status: String = row.get("status")?;
    let (url, secret): (Option<String>, Option<SecretId>) =
        (row.get("callback_url")?, row.get("callback_secret_id")?);
    Ok(Job {
        id: row.get("id")?,
        tenant: row.get("tenant_id")?,
        schedule: row
            .get::<Option<ScheduleId>>("schedule_id")?
            .zip(row.get("fire_at")?),
        workflow_id: row.get("workflow_id")?,
        workflow: row.get("workflow")?,
        deployment: row.get("deployment_id")?,
        bundle: row.get("bundle_sha256")?,
        params: row.get::<Json<_>>("params")?.0,
        launch: row.get::<Json<_>>("launch")?.0,
        nonce: row.get("nonce")?,
        status: JobStatus::parse(&status).ok_or_else(|| row.corrupt("status", status))?,
        attempt: row.get("attempt")?,
        result: row.get::<Option<Json<_>>>("result")?.map(|json| json.0),
        error: row.get("error")?,
        stack: row.get("stack")?,
        failure_class: row.get("failure_class")?,
        callback: url.zip(secret),
        skip_callbacks: row.get("skip_callbacks")?,
        backfill: row.get("backfill")?,
        created_at: row.get("created_at")?,
        started_at: row.get("started_at")?,
        completed_at: row.get("completed_at")?,
    })
}

/// What became of a request for a job.
#[derive(Debug, Clone)]
pub enum CreateOutcome {
    /// It is in the queue.
    Created(Job),
    /// The nonce was used before, by the same request: this is the job of then.
    Known(Job),
    /// The nonce was used before, by another request.
    NonceTaken(Job),
    /// No such workflow is deployed.
    NoWorkflow,
    /// As many of the tenant's jobs are in the queue as its quota allows, which is this.
    QuotaReached(u64),
}

/// Puts a job into the queue.
///
/// # Errors
/// What the engine refuses.
pub fn create(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    new: NewJob,
    secret: Option<SealedSecret>,
    now: Timestamp,
) -> Result<CreateOutcome> {
    let (nonce, request) = new.nonce.unzip();
    // Before the nonce is looked up: it may be known by the time that nobody else counts against the quota.
    let full = quotas::no_room_for_job(tx, tenant, None)?;
    if let (Some(nonce), Some(request)) = (&nonce, &request)
        && let Some(known) = by_nonce(tx, tenant, nonce, request)?
    {
        return Ok(known);
    }
    if let Some(most) = full {
        return Ok(CreateOutcome::QuotaReached(most));
    }
    if let Some(secret) = secret {
        secrets::insert(tx, tenant, secret, now)?;
    }
    let created = tx.execute(
        "INSERT INTO jobs (id, tenant_id, workflow_id, workflow, deployment_id, params, launch, nonce, nonce_request,
           callback_url, callback_secret_id, skip_callbacks, status, created_at)
         SELECT $1, w.tenant_id, w.id, w.name, w.deployment_id, $4, $5, $6, $7, $8, $9, $10, 'queued', $11
         FROM workflows w WHERE w.tenant_id = $2 AND w.name = $3",
        params![
            new.id,
            tenant,
            new.workflow,
            Json(new.params),
            Json(new.launch),
            nonce,
            request,
            new.callback_url,
            new.callback_secret,
            new.skip_callbacks,
            now,
        ],
    )?;
    if created == 0 {
        return Ok(CreateOutcome::NoWorkflow);
    }
    let job = get(tx, tenant, new.id)?;
    Ok(job.map_or(CreateOutcome::NoWorkflow, CreateOutcome::Created))
}

/// What became of an earlier request with this nonce; `None` where there was none.
///
/// # Errors
/// What the engine refuses.
pub fn by_nonce(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    nonce: &str,
    request: &str,
) -> Result<Option<CreateOutcome>> {
    let sql = format!("{SELECT} WHERE j.tenant_id = $1 AND j.nonce = $2");
    let Some(job) = tx.query_opt(&sql, params![tenant, nonce], read)? else {
        return Ok(None);
    };
    let sql = "SELECT id FROM jobs WHERE id = $1 AND nonce_request = $2";
    let same = tx.query_opt(sql, params![job.id, request], |_| Ok(()))?.is_some();
    Ok(Some(if same {
        CreateOutcome::Known(job)
    } else {
        CreateOutcome::NonceTaken(job)
    }))
}

/// A job of this tenant.
///
/// # Errors
/// What the engine refuses.
pub fn get(tx: &mut Tx<'_>, tenant: TenantId, id: JobId) -> Result<Option<Job>> {
    let sql = format!("{SELECT} WHERE j.tenant_id = $1 AND j.id = $2");
    tx.query_opt(&sql, params![tenant, id], read)
}
