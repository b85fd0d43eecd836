//! Jobs: created on request, claimed by a worker under a token, finished once.

mod claim;
mod list;

pub use claim::{any_queued, claim};
pub use list::{JobFilter, JobSummary, list};

use impresario_api::CallbackBody;
use jiff::Timestamp;

use super::{
    deliveries,
    secrets::{self, SealedSecret},
};
use crate::domain::{
    DeliveryId, Ending, Job, JobId, JobStatus, MOST_ATTEMPTS, NewJob, Receiver, ScheduleId, SecretId,
    TenantId, callback_body, event_of,
};
use crate::store::{
    error::{Result, StoreError},
    tx::{Row, Tx, params},
    value::Json,
};

const SELECT: &str = "SELECT j.id, j.tenant_id, j.schedule_id, j.fire_at, j.workflow_id, j.workflow, j.deployment_id,
    d.bundle_sha256, j.params, j.launch, j.nonce, j.status, j.attempt, j.result, j.error, j.stack, j.failure_class,
    j.callback_url, j.callback_secret_id, j.skip_callbacks, j.created_at, j.started_at, j.completed_at
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
    if let (Some(nonce), Some(request)) = (&nonce, &request)
        && let Some(known) = by_nonce(tx, tenant, nonce, request)?
    {
        return Ok(known);
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

/// Notes that the workflow's code is about to be let go. `false` where the job is not the holder's any more, or was
/// cancelled meanwhile: then it must not be.
///
/// # Errors
/// What the engine refuses.
pub fn start(tx: &mut Tx<'_>, id: JobId, token: &str) -> Result<bool> {
    let sql = "UPDATE jobs SET status = 'running'
               WHERE id = $1 AND lease_token = $2 AND status = 'starting_browser' AND cancel_requested = 0";
    Ok(tx.execute(sql, params![id, token])? == 1)
}

/// Hands a job back whose code was not let go, as its holder knows even where the store says `running`. `false` where
/// it is not the holder's any more, or was cancelled. What was handed back in good order does not count as an attempt.
///
/// # Errors
/// What the engine refuses.
pub fn requeue(tx: &mut Tx<'_>, id: JobId, token: &str) -> Result<bool> {
    let sql =
        "UPDATE jobs SET status = 'queued', lease_token = NULL, started_at = NULL, attempt = attempt - 1
               WHERE id = $1 AND lease_token = $2 AND status IN ('starting_browser', 'running')
                 AND cancel_requested = 0";
    Ok(tx.execute(sql, params![id, token])? == 1)
}

/// Ends a job as failed and tells nobody: for a job whose true end cannot be stored, because a row that it concerns
/// cannot be read. `false` where it is not the holder's any more.
///
/// # Errors
/// What the engine refuses.
pub fn abandon(tx: &mut Tx<'_>, (id, token): (JobId, &str), now: Timestamp) -> Result<bool> {
    let sql = "UPDATE jobs SET status = 'failed', failure_class = 'internal', lease_token = NULL, completed_at = $3,
                 error = 'the end of this job could not be stored; the server''s log has the reason'
               WHERE id = $1 AND lease_token = $2 AND status IN ('starting_browser', 'running')";
    Ok(tx.execute(sql, params![id, token, now])? == 1)
}

/// Ends a job that is held with `token`, tells its schedule, and puts its callbacks into the outbox: all or nothing.
/// `false` where the job is not the holder's any more; nothing is changed then.
///
/// # Errors
/// What the engine refuses.
pub fn finish(
    tx: &mut Tx<'_>,
    (id, token): (JobId, &str),
    ending: Ending,
    now: Timestamp,
    new_delivery: impl Fn() -> DeliveryId,
) -> Result<bool> {
    let sql = format!(
        "{SELECT} WHERE j.id = $1 AND j.lease_token = $2 AND j.status IN ('starting_browser', 'running')"
    );
    let Some(job) = tx.query_opt(&sql, params![id, token], read)? else {
        return Ok(false);
    };
    end(tx, job, ending, now, &new_delivery).map(|_| true)
}

/// Writes down how `job` ended, whoever held it.
fn end(
    tx: &mut Tx<'_>,
    mut job: Job,
    ending: Ending,
    now: Timestamp,
    new_delivery: &dyn Fn() -> DeliveryId,
) -> Result<Job> {
    job.status = ending.status();
    job.completed_at = Some(now);
    match ending {
        Ending::Completed(result) => job.result = result,
        Ending::Failed { class, error, stack } => {
            job.error = Some(error);
            job.stack = stack;
            job.failure_class = Some(class);
        }
        Ending::Cancelled => {}
    }
    tx.execute_one(
        "UPDATE jobs SET status = $2, result = $3, error = $4, stack = $5, failure_class = $6, completed_at = $7,
           lease_token = NULL
         WHERE id = $1 AND status IN ('queued', 'starting_browser', 'running')",
        params![
            job.id,
            job.status.as_str(),
            job.result.as_ref().map(Json),
            job.error.clone(),
            job.stack.clone(),
            job.failure_class.clone(),
            now,
        ],
    )?;
    tell_schedule(tx, &job)?;
    if let Some(event) = event_of(job.status) {
        for receiver in receivers(tx, &job)? {
            let body: CallbackBody = callback_body(&job, event);
            deliveries::enqueue(tx, (new_delivery(), &job), receiver, (event, Json(body)), now)?;
        }
    }
    Ok(job)
}

/// A failure counts, a success clears, a cancel leaves the schedule as it was. The schedule may be gone.
fn tell_schedule(tx: &mut Tx<'_>, job: &Job) -> Result<()> {
    let Some((schedule, _)) = job.schedule else {
        return Ok(());
    };
    match job.status {
        JobStatus::Completed => tx.execute(
            "UPDATE schedules SET last_error = NULL, consecutive_failures = 0 WHERE id = $1",
            params![schedule],
        )?,
        JobStatus::Failed => tx.execute(
            "UPDATE schedules SET last_error = $2, consecutive_failures = consecutive_failures + 1 WHERE id = $1",
            params![schedule, job.error.clone()],
        )?,
        _ => 0,
    };
    Ok(())
}

/// API section 7: nothing, or the job's own receiver, or every active stored one.
fn receivers(tx: &mut Tx<'_>, job: &Job) -> Result<Vec<Receiver>> {
    if job.skip_callbacks {
        return Ok(Vec::new());
    }
    if let Some((url, secret)) = &job.callback {
        return Ok(vec![Receiver {
            endpoint: None,
            url: url.clone(),
            secret: *secret,
        }]);
    }
    tx.query(
        "SELECT id, url, secret_id FROM webhook_endpoints WHERE tenant_id = $1 AND active = 1 ORDER BY created_at, id",
        params![job.tenant],
        |row| {
            Ok(Receiver {
                endpoint: Some(row.get("id")?),
                url: row.get("url")?,
                secret: row.get("secret_id")?,
            })
        },
    )
}

/// What became of a request to cancel.
#[derive(Debug, Clone)]
pub enum CancelOutcome {
    /// It was waiting and is cancelled now.
    Cancelled(Job),
    /// A worker has it: the worker must end it.
    Requested(Job),
    /// It had ended before.
    Finished(Job),
    /// No such job.
    Unknown,
}

/// Cancels a job, or asks whoever runs it to.
///
/// # Errors
/// What the engine refuses.
pub fn cancel(tx: &mut Tx<'_>, tenant: TenantId, id: JobId, now: Timestamp) -> Result<CancelOutcome> {
    let Some(job) = get(tx, tenant, id)? else {
        return Ok(CancelOutcome::Unknown);
    };
    if job.status.is_final() {
        return Ok(CancelOutcome::Finished(job));
    }
    if job.status == JobStatus::Queued {
        // A cancelled job has no receivers, so no delivery's id is ever asked for.
        let no_delivery = || DeliveryId(uuid::Uuid::nil());
        return end(tx, job, Ending::Cancelled, now, &no_delivery).map(CancelOutcome::Cancelled);
    }
    tx.execute_one("UPDATE jobs SET cancel_requested = 1 WHERE id = $1", params![id])?;
    Ok(CancelOutcome::Requested(job))
}

/// What was found of an earlier server's work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Jobs whose code had not started: back in the queue.
    pub requeued: u64,
    /// Jobs whose code had, or that were lost too often: failed as `worker_lost`, never silently run again.
    pub lost: usize,
    /// Jobs whose cancel had been asked for.
    pub cancelled: usize,
}

/// Settles what an earlier server of this data directory left running. Only called while the directory's lock is
/// held and before the first claim, so nobody else can hold any of these jobs.
///
/// # Errors
/// What the engine refuses.
pub fn recover(tx: &mut Tx<'_>, now: Timestamp, new_delivery: impl Fn() -> DeliveryId) -> Result<Recovered> {
    let sql = "UPDATE jobs SET status = 'queued', lease_token = NULL, started_at = NULL
               WHERE status = 'starting_browser' AND cancel_requested = 0 AND attempt < $1";
    let mut recovered = Recovered {
        requeued: tx.execute(sql, params![MOST_ATTEMPTS])?,
        ..Recovered::default()
    };
    let sql = "SELECT id, cancel_requested FROM jobs WHERE status IN ('starting_browser', 'running')";
    let left = tx.query(sql, &[], |row| {
        Ok((row.get::<String>("id")?, row.get::<bool>("cancel_requested")?))
    })?;
    for (id, cancelled) in left {
        let ended = tx.isolated(|tx| {
            let sql = format!("{SELECT} WHERE j.id = $1");
            let Some(job) = tx.query_opt(&sql, params![&id], read)? else {
                return Ok(());
            };
            let started = job.status == JobStatus::Running;
            let ending = if cancelled {
                Ending::Cancelled
            } else {
                Ending::worker_lost(started)
            };
            end(tx, job, ending, now, &new_delivery).map(|_| ())
        })?;
        match ended {
            Ok(()) if cancelled => recovered.cancelled += 1,
            Ok(()) => recovered.lost += 1,
            // One job that cannot be read must not keep the server from starting.
            Err(error) if error.is_of_the_row() => {
                fail_unreadable(tx, &id, &error, now)?;
                recovered.lost += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(recovered)
}

/// Ends a job that this version cannot read, without what it cannot know: whom to tell.
fn fail_unreadable(tx: &mut Tx<'_>, id: &str, error: &StoreError, now: Timestamp) -> Result<()> {
    tracing::error!(job = %id, %error, "a job cannot be read and is failed");
    tx.execute_one(
        "UPDATE jobs SET status = 'failed', error = $2, failure_class = 'internal', lease_token = NULL,
           completed_at = $3
         WHERE id = $1",
        params![id, format!("this job cannot be read: {error}"), now],
    )
}
