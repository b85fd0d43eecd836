//! Jobs: created on request, claimed by a worker under a token, finished once.

mod claim;
mod list;
mod restored;

pub use claim::{any_queued, claim};
pub use list::{JobFilter, JobSummary, list};
pub use restored::end_restored;

use jiff::Timestamp;

use super::{
    Moment, deliveries, events, fires, outcomes,
    secrets::{self, SealedSecret},
};
use crate::domain::{
    Ending, Job, JobId, JobStatus, MOST_ATTEMPTS, NewJob, Receiver, ScheduleId, SecretId, TenantId,
    callback_body, event_of,
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
    let abandoned = tx.execute(sql, params![id, token, now])? == 1;
    if abandoned {
        make_way_of(tx, &id.to_string())?;
    }
    Ok(abandoned)
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
    moment: &Moment<'_>,
) -> Result<bool> {
    let sql = format!(
        "{SELECT} WHERE j.id = $1 AND j.lease_token = $2 AND j.status IN ('starting_browser', 'running')"
    );
    let Some(job) = tx.query_opt(&sql, params![id, token], read)? else {
        return Ok(false);
    };
    end(tx, job, ending, moment).map(|_| true)
}

/// Writes down how `job` ended, whoever held it.
fn end(tx: &mut Tx<'_>, mut job: Job, ending: Ending, moment: &Moment<'_>) -> Result<Job> {
    job.status = ending.status();
    job.completed_at = Some(moment.now);
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
           lease_token = NULL, held = 0
         WHERE id = $1 AND status IN ('queued', 'starting_browser', 'running')",
        params![
            job.id,
            job.status.as_str(),
            job.result.as_ref().map(Json),
            job.error.clone(),
            job.stack.clone(),
            job.failure_class.clone(),
            moment.now,
        ],
    )?;
    if let Some(event) = event_of(job.status) {
        let about = deliveries::About {
            tenant: job.tenant,
            job: Some(job.id),
            schedule: job.schedule.map(|(id, _)| id),
        };
        for receiver in receivers(tx, &job, event)? {
            let body = callback_body(&job, event);
            deliveries::enqueue(tx, about, receiver, (event, &body), moment)?;
        }
    }
    if let Some((schedule, _)) = job.schedule {
        outcomes::ended(tx, schedule, &job, moment)?;
        make_way(tx, schedule)?;
    }
    Ok(job)
}

/// A job of the schedule has ended: what waited for it may go on.
///
/// The list of statuses that are not final is there for the index of unfinished jobs: a schedule has few of them and may
/// have a long history.
fn make_way(tx: &mut Tx<'_>, schedule: ScheduleId) -> Result<()> {
    tx.execute(
        "UPDATE jobs SET held = 0
         WHERE schedule_id = $1 AND status IN ('queued', 'starting_browser', 'running') AND held = 1
           AND NOT EXISTS (SELECT 1 FROM jobs other WHERE other.schedule_id = $1 AND other.held = 0
                           AND other.status IN ('queued', 'starting_browser', 'running'))",
        params![schedule],
    )?;
    fires::wake(tx, schedule)
}

/// As [`make_way`], for a job of which nothing is known but its id.
fn make_way_of(tx: &mut Tx<'_>, job: &str) -> Result<()> {
    let sql = "SELECT schedule_id FROM jobs WHERE id = $1";
    match tx.query_opt(sql, params![job], |row| {
        row.get::<Option<ScheduleId>>("schedule_id")
    })? {
        Some(Some(schedule)) => make_way(tx, schedule),
        _ => Ok(()),
    }
}

/// Cancels every job of the schedule's fires that is not finished and does not make up for a missed instant: at once
/// where it waits, and where it runs as soon as whoever runs it has ended it.
pub(super) fn cancel_unfinished(tx: &mut Tx<'_>, schedule: ScheduleId, moment: &Moment<'_>) -> Result<()> {
    let sql = "SELECT id FROM jobs WHERE schedule_id = $1
                 AND status IN ('queued', 'starting_browser', 'running') AND status = 'queued' AND catch_up = 0";
    let waiting: Vec<JobId> = tx.query(sql, params![schedule], |row| row.get("id"))?;
    for id in waiting {
        let sql = format!("{SELECT} WHERE j.id = $1 AND j.status = 'queued'");
        match tx.query_opt(&sql, params![id], |row| Ok(read(row)))? {
            Some(Ok(job)) => {
                end(tx, job, Ending::Cancelled, moment)?;
            }
            Some(Err(error)) if error.is_of_the_row() => {
                fail_unreadable(tx, &id.to_string(), &error, moment.now)?;
            }
            Some(Err(error)) => return Err(error),
            None => {}
        }
    }
    tx.execute(
        "UPDATE jobs SET cancel_requested = 1
         WHERE schedule_id = $1 AND status IN ('queued', 'starting_browser', 'running') AND status <> 'queued'
           AND catch_up = 0",
        params![schedule],
    )
    .map(|_| ())
}

/// The runs that are to be ended, whoever has them.
///
/// # Errors
/// What the engine refuses.
pub fn to_cancel(tx: &mut Tx<'_>) -> Result<Vec<JobId>> {
    let sql = "SELECT id FROM jobs WHERE cancel_requested = 1 AND status IN ('starting_browser', 'running')";
    tx.query(sql, &[], |row| row.get("id"))
}

/// API section 7: nothing, or the job's own receiver, or every active stored one.
fn receivers(tx: &mut Tx<'_>, job: &Job, event: &str) -> Result<Vec<Receiver>> {
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
    events::subscribers(tx, job.tenant, event)
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
pub fn cancel(tx: &mut Tx<'_>, tenant: TenantId, id: JobId, moment: &Moment<'_>) -> Result<CancelOutcome> {
    let Some(job) = get(tx, tenant, id)? else {
        return Ok(CancelOutcome::Unknown);
    };
    if job.status.is_final() {
        return Ok(CancelOutcome::Finished(job));
    }
    if job.status == JobStatus::Queued {
        return end(tx, job, Ending::Cancelled, moment).map(CancelOutcome::Cancelled);
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
pub fn recover(tx: &mut Tx<'_>, moment: &Moment<'_>) -> Result<Recovered> {
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
            end(tx, job, ending, moment).map(|_| ())
        })?;
        match ended {
            Ok(()) if cancelled => recovered.cancelled += 1,
            Ok(()) => recovered.lost += 1,
            // One job that cannot be read must not keep the server from starting.
            Err(error) if error.is_of_the_row() => {
                fail_unreadable(tx, &id, &error, moment.now)?;
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
    )?;
    make_way_of(tx, id)
}
