//! Jobs that are to end early. One that waits ends here; one that runs is marked, and whoever has it sees the mark.

use super::{
    SELECT,
    end::{end, fail_unreadable, lock},
    get, read,
};
use crate::domain::{Ending, Job, JobId, JobStatus, ScheduleId, TenantId};
use crate::store::{
    error::Result,
    ops::Moment,
    tx::{Tx, params},
};

/// Cancels every job of the schedule's fires that is not finished and does not make up for an instant: at once
/// where it waits, and where it runs as soon as whoever runs it has ended it. The schedule is locked.
pub(in crate::store::ops) fn cancel_unfinished(
    tx: &mut Tx<'_>,
    schedule: ScheduleId,
    moment: &Moment<'_>,
) -> Result<()> {
    // One statement for all of them, and where each stands once it is locked: one that is handed back or taken up just now
    // is found all the same.
    let sql = format!(
        "SELECT id, status FROM jobs WHERE schedule_id = $1
           AND status IN ('queued', 'starting_browser', 'running') AND catch_up = 0 AND backfill = 0
         ORDER BY id{}",
        tx.dialect().lock()
    );
    let unfinished = tx.query(&sql, params![schedule], |row| {
        Ok((row.get::<String>("id")?, row.get::<String>("status")?))
    })?;
    for (id, status) in unfinished {
        if status != "queued" {
            let sql = "UPDATE jobs SET cancel_requested = 1 WHERE id = $1";
            tx.execute_one(sql, params![id])?;
            continue;
        }
        let sql = format!("{SELECT} WHERE j.id = $1 AND j.status = 'queued'");
        match tx.query_opt(&sql, params![&id], |row| Ok(read(row)))? {
            Some(Ok(job)) => {
                end(tx, job, Ending::Cancelled, moment)?;
            }
            Some(Err(error)) if error.is_of_the_row() => fail_unreadable(tx, &id, &error, moment.now)?,
            Some(Err(error)) => return Err(error),
            None => {}
        }
    }
    Ok(())
}

/// The runs that are to be ended, whoever has them.
///
/// # Errors
/// What the engine refuses.
pub fn to_cancel(tx: &mut Tx<'_>) -> Result<Vec<JobId>> {
    let sql = "SELECT id FROM jobs WHERE cancel_requested = 1 AND status IN ('starting_browser', 'running')";
    tx.query(sql, &[], |row| row.get("id"))
}

/// What became of a request to cancel.
#[derive(Debug, Clone)]
pub enum CancelOutcome {
    /// It was waiting and is cancelled now.
    Cancelled(Job),
    /// A worker has it, on this node or another: the worker must end it.
    Requested(Job),
    /// It had ended before.
    Finished(Job),
    /// No such job.
    Unknown,
}

/// Cancels a job, or asks whoever runs it to. `moment` is asked for once nobody else can write to the job.
///
/// # Errors
/// What the engine refuses.
pub fn cancel<'m>(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    id: JobId,
    moment: impl FnOnce() -> Moment<'m>,
) -> Result<CancelOutcome> {
    // Whose it is comes first: nobody may hold up another tenant's job, be it for a moment.
    let sql = "SELECT id FROM jobs WHERE id = $1 AND tenant_id = $2";
    if tx.query_opt(sql, params![id, tenant], |_| Ok(()))?.is_none() {
        return Ok(CancelOutcome::Unknown);
    }
    lock(tx, &id.to_string())?;
    let Some(job) = get(tx, tenant, id)? else {
        return Ok(CancelOutcome::Unknown);
    };
    if job.status.is_final() {
        return Ok(CancelOutcome::Finished(job));
    }
    if job.status == JobStatus::Queued {
        return end(tx, job, Ending::Cancelled, &moment()).map(CancelOutcome::Cancelled);
    }
    tx.execute_one("UPDATE jobs SET cancel_requested = 1 WHERE id = $1", params![id])?;
    Ok(CancelOutcome::Requested(job))
}
