//! How a job ends: once, by its holder or by whoever settles what its holder left, and in the same transaction its schedule
//! and those who wait for news of it are told.

use jiff::Timestamp;

use super::{SELECT, read};
use crate::domain::{Ending, Job, JobId, JobStatus, Receiver, ScheduleId, callback_body, event_of};
use crate::store::{
    Dialect,
    error::{Result, StoreError},
    ops::{Moment, deliveries, events, fires, lock, outcomes, schedules, tenants},
    tx::{Tx, params},
    value::Json,
};

/// Locks a job for its end, and before it the schedule that hears of it: in the order in which everybody locks the two.
/// What is read afterwards is what holds.
pub(super) fn lock(tx: &mut Tx<'_>, job: &str) -> Result<()> {
    if tx.dialect() == Dialect::Sqlite {
        return Ok(());
    }
    if let Some(schedule) = schedule_of(tx, job)? {
        schedules::lock(tx, schedule)?;
    }
    lock::rows(tx, "jobs WHERE id = $1", params![job])
}

/// The same without waiting: `false` where somebody else has one of the two.
pub(super) fn try_lock(tx: &mut Tx<'_>, job: &str) -> Result<bool> {
    if tx.dialect() == Dialect::Sqlite {
        return Ok(true);
    }
    if let Some(schedule) = schedule_of(tx, job)?
        && !schedules::claim(tx, schedule)?
    {
        return Ok(false);
    }
    lock::try_row(tx, "jobs WHERE id = $1", params![job])
}

/// The schedule that made a job, which never changes.
fn schedule_of(tx: &mut Tx<'_>, job: &str) -> Result<Option<ScheduleId>> {
    let sql = "SELECT schedule_id FROM jobs WHERE id = $1";
    let found = tx.query_opt(sql, params![job], |row| {
        row.get::<Option<ScheduleId>>("schedule_id")
    })?;
    Ok(found.flatten())
}

/// Ends a job that is held with `token`, tells its schedule, and puts its callbacks into the outbox: all or nothing.
/// `false` where the job is not the holder's any more; nothing is changed then. `moment` is asked for once nobody else can
/// write to the job.
///
/// # Errors
/// What the engine refuses.
pub fn finish<'m>(
    tx: &mut Tx<'_>,
    (id, token): (JobId, &str),
    ending: Ending,
    moment: impl FnOnce() -> Moment<'m>,
) -> Result<bool> {
    lock(tx, &id.to_string())?;
    let sql = format!(
        "{SELECT} WHERE j.id = $1 AND j.lease_token = $2 AND j.status IN ('starting_browser', 'running')"
    );
    let Some(job) = tx.query_opt(&sql, params![id, token], read)? else {
        return Ok(false);
    };
    end(tx, job, ending, &moment()).map(|_| true)
}

/// Ends a job as failed and tells nobody: for a job whose true end cannot be stored, because a row that it concerns
/// cannot be read. `false` where it is not the holder's any more.
///
/// # Errors
/// What the engine refuses.
pub fn abandon(tx: &mut Tx<'_>, (id, token): (JobId, &str), now: Timestamp) -> Result<bool> {
    lock(tx, &id.to_string())?;
    let sql = "UPDATE jobs SET status = 'failed', failure_class = 'internal', lease_token = NULL, lease_until = NULL,
                 completed_at = $3,
                 error = 'the end of this job could not be stored; the server''s log has the reason'
               WHERE id = $1 AND lease_token = $2 AND status IN ('starting_browser', 'running')";
    let abandoned = tx.execute(sql, params![id, token, now])? == 1;
    if abandoned {
        make_way_of(tx, &id.to_string())?;
    }
    Ok(abandoned)
}

/// Writes down how `job` ended, whoever held it. It is locked, and so is its schedule.
pub(super) fn end(tx: &mut Tx<'_>, mut job: Job, ending: Ending, moment: &Moment<'_>) -> Result<Job> {
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
           lease_token = NULL, lease_until = NULL, held = 0
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
        if !job.backfill {
            outcomes::ended(tx, schedule, &job, moment)?;
        }
        make_way(tx, schedule)?;
    }
    Ok(job)
}

/// API section 7: nothing, or the job's own receiver, or every active stored one; of failures none of these where the tenant
/// wants to hear nothing of them.
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
    if job.status == JobStatus::Failed {
        let settings = tenants::settings(tx, job.tenant)?;
        if settings.is_some_and(|settings| settings.disable_job_failure_notifications) {
            return Ok(Vec::new());
        }
    }
    events::subscribers(tx, job.tenant, event)
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
                           AND other.backfill = 0 AND other.status IN ('queued', 'starting_browser', 'running'))",
        params![schedule],
    )?;
    fires::wake(tx, schedule)
}

/// As [`make_way`], for a job of which nothing is known but its id.
fn make_way_of(tx: &mut Tx<'_>, job: &str) -> Result<()> {
    match schedule_of(tx, job)? {
        Some(schedule) => make_way(tx, schedule),
        None => Ok(()),
    }
}

/// Ends a job that this version cannot read, without what it cannot know: whom to tell. It is locked, and so is its
/// schedule.
pub(super) fn fail_unreadable(tx: &mut Tx<'_>, id: &str, error: &StoreError, now: Timestamp) -> Result<()> {
    tracing::error!(job = %id, %error, "a job cannot be read and is failed");
    tx.execute(
        "UPDATE jobs SET status = 'failed', error = $2, failure_class = 'internal', lease_token = NULL,
           lease_until = NULL, completed_at = $3
         WHERE id = $1 AND status IN ('queued', 'starting_browser', 'running')",
        params![id, format!("this job cannot be read: {error}"), now],
    )?;
    make_way_of(tx, id)
}
