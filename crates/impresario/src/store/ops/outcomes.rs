//! What the ends of its runs do to a schedule: its last error, its failures in a row, and the limit at which it
//! disables itself.

use super::{Moment, events, fires, schedules};
use crate::domain::{
    Job, JobId, JobStatus, Schedule, ScheduleDraft, ScheduleEvent, ScheduleId, counts_against,
};
use crate::store::{
    error::Result,
    tx::{Tx, params},
};

/// How much of the last error `disabled_reason` repeats, in characters: `last_error` has all of it.
const REPEATED: usize = 500;

/// A failure counts, a success clears, a cancel leaves the schedule as it was. The schedule may be gone.
pub(super) fn ended(tx: &mut Tx<'_>, schedule: ScheduleId, job: &Job, moment: &Moment<'_>) -> Result<()> {
    match job.status {
        JobStatus::Completed => succeeded(tx, schedule, job.id, moment),
        JobStatus::Failed => {
            let counts = job.failure_class.as_deref().is_none_or(counts_against);
            failed(tx, schedule, (job.error.as_deref(), counts), Some(job.id), moment)
        }
        _ => Ok(()),
    }
}

fn succeeded(tx: &mut Tx<'_>, id: ScheduleId, job: JobId, moment: &Moment<'_>) -> Result<()> {
    let sql = "SELECT consecutive_failures FROM schedules WHERE id = $1";
    let failures: Option<u64> = tx.query_opt(sql, params![id], |row| row.get("consecutive_failures"))?;
    let sql = "UPDATE schedules SET last_error = NULL, consecutive_failures = 0, counted_failures = 0 WHERE id = $1";
    tx.execute(sql, params![id])?;
    let Some(failures) = failures.filter(|failures| *failures > 0) else {
        return Ok(());
    };
    match readable(tx, id)? {
        Some(schedule) => events::tell(tx, &schedule, &ScheduleEvent::Recovered { job, failures }, moment),
        None => Ok(()),
    }
}

/// A run failed, or a fire could create none, with `error`; it may not count against the limit.
pub(super) fn failed(
    tx: &mut Tx<'_>,
    id: ScheduleId,
    (error, counts): (Option<&str>, bool),
    job: Option<JobId>,
    moment: &Moment<'_>,
) -> Result<()> {
    tx.execute(
        "UPDATE schedules SET last_error = $2, consecutive_failures = consecutive_failures + 1,
           counted_failures = counted_failures + $3
         WHERE id = $1",
        params![id, error.map(str::to_owned), counts],
    )?;
    let sql = "SELECT id FROM schedules
               WHERE id = $1 AND enabled = 1 AND counted_failures >= max_consecutive_failures";
    if !counts || tx.query_opt(sql, params![id], |_| Ok(()))?.is_none() {
        return Ok(());
    }
    match readable(tx, id)? {
        Some(schedule) => disable(tx, &schedule, job, moment),
        None => Ok(()),
    }
}

/// The schedule, unless it is gone, or damaged: the end of its job is stored all the same.
fn readable(tx: &mut Tx<'_>, id: ScheduleId) -> Result<Option<Schedule>> {
    match schedules::by_id(tx, id) {
        Err(error) if error.is_of_the_row() => {
            tracing::error!(schedule = %id, %error, "a schedule cannot be read: it hears nothing of its run");
            Ok(None)
        }
        found => found,
    }
}

/// The schedule disables itself.
fn disable(tx: &mut Tx<'_>, schedule: &Schedule, job: Option<JobId>, moment: &Moment<'_>) -> Result<()> {
    let failures = match schedule.counted_failures {
        1 => "1 failure".to_owned(),
        many => format!("{many} failures in a row"),
    };
    // The limit may have been lowered below the count meanwhile, so both are named.
    let reason = format!(
        "disabled after {failures} (max_consecutive_failures is {}); the last one: {}",
        schedule
            .draft
            .policies
            .max_consecutive_failures
            .unwrap_or_default(),
        excerpt(schedule.last_error.as_deref().unwrap_or("no message"))
    );
    // First: what is due below may fail as well, and must find it disabled.
    tx.execute_one(
        "UPDATE schedules SET enabled = 0, disabled_reason = $2, disabled_at = $3 WHERE id = $1",
        params![schedule.id, &reason, moment.now],
    )?;
    if fires::settle(tx, schedule, moment)?
        && let Some(settled) = schedules::by_id(tx, schedule.id)?
    {
        return take_back(tx, &settled, &reason, job, moment);
    }
    take_back(tx, schedule, &reason, job, moment)
}

fn excerpt(error: &str) -> String {
    match error.char_indices().nth(REPEATED) {
        Some((end, _)) => format!("{}…", &error[..end]),
        None => error.to_owned(),
    }
}

/// Takes back what a schedule that has just disabled itself owes, and tells of it.
fn take_back(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    reason: &str,
    job: Option<JobId>,
    moment: &Moment<'_>,
) -> Result<()> {
    let with_enabled = |enabled| ScheduleDraft {
        enabled,
        ..schedule.draft.clone()
    };
    let before = Schedule {
        draft: with_enabled(true),
        ..schedule.clone()
    };
    let moved = before.transition(&with_enabled(false), moment.now);
    schedules::retire(tx, &before, moved, moment)?;
    let event = ScheduleEvent::Disabled {
        reason: reason.to_owned(),
        job,
    };
    events::tell(tx, schedule, &event, moment)
}

#[cfg(test)]
mod tests;
