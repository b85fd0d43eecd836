//! The heart: due schedules become ledger rows and jobs, and their cursors move, in one transaction.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::schedules;
use crate::domain::{FirePlan, JobId, Missed, Schedule, ScheduleId, TenantId};
use crate::store::{
    error::Result,
    tx::{Row, Tx, params},
};

/// What one pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fired {
    /// Jobs that were created.
    pub jobs: usize,
    /// Fires that could not create a job.
    pub rejected: usize,
    /// Schedules that were looked at: as many as the limit means that more may be due.
    pub looked_at: usize,
    /// Rows that could not be read, taken out of the way with their reason in `last_error`.
    pub quarantined: Vec<(String, String)>,
}

/// Fires what is due at `now`, at most `limit` schedules, oldest cursor first. `plan` says what to do with each and
/// `new_job` gives an id to each job.
///
/// # Errors
/// What the engine refuses. A single bad schedule is not an error: it is quarantined.
pub fn fire_due(
    tx: &mut Tx<'_>,
    (now, limit): (Timestamp, usize),
    plan: impl Fn(&Schedule) -> Option<FirePlan>,
    new_job: impl Fn() -> JobId,
) -> Result<Fired> {
    let sql =
        "SELECT * FROM schedules WHERE enabled = 1 AND next_fire_at <= $1 ORDER BY next_fire_at LIMIT $2";
    let due = tx.query(sql, params![now, limit], |row| {
        Ok((row.get::<String>("id")?, schedules::read(row)))
    })?;
    let mut fired = Fired {
        looked_at: due.len(),
        ..Fired::default()
    };
    for (id, schedule) in due {
        let outcome = tx.isolated(|tx| {
            let schedule = schedule?;
            if let Some(fault) = schedule.draft.pattern.fault() {
                return Ok(Outcome::Unreadable(fault.to_owned()));
            }
            match plan(&schedule) {
                Some(plan) => fire(tx, &schedule, plan, (new_job(), now)),
                None => move_cursor(tx, &schedule, now).map(|()| Outcome::NotDue),
            }
        })?;
        let reason = match outcome {
            Ok(Outcome::Job) => {
                fired.jobs += 1;
                continue;
            }
            Ok(Outcome::Rejected) => {
                fired.rejected += 1;
                continue;
            }
            Ok(Outcome::AlreadyDone | Outcome::NotDue) => continue,
            Ok(Outcome::Unreadable(fault)) => fault,
            Err(error) if error.is_of_the_row() => error.to_string(),
            Err(error) => return Err(error),
        };
        let reason = format!("this schedule cannot fire: {reason}");
        quarantine(tx, &id, &reason)?;
        fired.quarantined.push((id, reason));
    }
    Ok(fired)
}

enum Outcome {
    Job,
    Rejected,
    /// The instant is in the ledger already: the clock went back, or an update put the cursor there once more.
    AlreadyDone,
    /// Its cursor was where nothing is owed, and is where something is now.
    NotDue,
    /// This version cannot read when it fires.
    Unreadable(String),
}

/// Puts the cursor of a schedule that owes nothing where it belongs, so that it is not looked at again and again.
fn move_cursor(tx: &mut Tx<'_>, schedule: &Schedule, now: Timestamp) -> Result<()> {
    tx.execute_one(
        "UPDATE schedules SET next_fire_at = $2 WHERE id = $1",
        params![schedule.id, schedule.first_owed(now)],
    )
}

/// Carries out one schedule's plan.
fn fire(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    plan: FirePlan,
    (job, now): (JobId, Timestamp),
) -> Result<Outcome> {
    let missed = match plan.missed {
        Some(missed) => record_missed(tx, schedule, missed, now)?,
        None => 0,
    };
    let outcome = if !claim_instant(tx, schedule, plan.fire_at, (missed, now))? {
        Outcome::AlreadyDone
    } else if create_job(tx, schedule, plan.fire_at, (job, now))? {
        tx.execute_one(
            "UPDATE fires SET job_id = $3 WHERE schedule_id = $1 AND fire_at = $2",
            params![schedule.id, plan.fire_at, job],
        )?;
        tx.execute_one(
            "UPDATE schedules SET last_fire_at = $2, last_job_id = $3 WHERE id = $1",
            params![schedule.id, plan.fire_at, job],
        )?;
        Outcome::Job
    } else {
        let reason = format!("workflow: no deployed workflow \"{}\"", schedule.draft.workflow);
        reject(tx, schedule, plan.fire_at, &reason)?;
        Outcome::Rejected
    };
    tx.execute_one(
        "UPDATE schedules SET next_fire_at = $2 WHERE id = $1",
        params![schedule.id, plan.next],
    )?;
    Ok(outcome)
}

/// Writes the ledger row, with the number of missed instants that the fire makes up for; `false` where the instant has
/// a row. The primary key is what makes a fire unique.
fn claim_instant(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    fire_at: Timestamp,
    (missed, now): (u64, Timestamp),
) -> Result<bool> {
    let sql = "INSERT INTO fires (schedule_id, fire_at, tenant_id, outcome, recorded_at, missed)
               VALUES ($1, $2, $3, 'fired', $4, $5) ON CONFLICT (schedule_id, fire_at) DO NOTHING";
    let touched = tx.execute(sql, params![schedule.id, fire_at, schedule.tenant, now, missed])?;
    Ok(touched == 1)
}

/// Creates the job from the schedule and the workflow as they stand in the store; `false` where the workflow is not
/// deployed.
fn create_job(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    fire_at: Timestamp,
    (job, now): (JobId, Timestamp),
) -> Result<bool> {
    let sql =
        "INSERT INTO jobs (id, tenant_id, schedule_id, fire_at, workflow_id, workflow, deployment_id, params,
                 launch, callback_url, callback_secret_id, skip_callbacks, status, created_at)
               SELECT $1, s.tenant_id, s.id, $2, w.id, w.name, w.deployment_id, s.params,
                 s.launch, s.callback_url, s.callback_secret_id, s.skip_callbacks, 'queued', $3
               FROM schedules s JOIN workflows w ON w.tenant_id = s.tenant_id AND w.name = s.workflow
               WHERE s.id = $4";
    Ok(tx.execute(sql, params![job, fire_at, now, schedule.id])? == 1)
}

/// A fire that could not create a job counts as a failure of the schedule.
fn reject(tx: &mut Tx<'_>, schedule: &Schedule, fire_at: Timestamp, reason: &str) -> Result<()> {
    tx.execute_one(
        "UPDATE fires SET outcome = 'rejected', error = $3 WHERE schedule_id = $1 AND fire_at = $2",
        params![schedule.id, fire_at, reason],
    )?;
    tx.execute_one(
        "UPDATE schedules SET last_fire_at = $2, last_job_id = NULL, last_error = $3,
           consecutive_failures = consecutive_failures + 1
         WHERE id = $1",
        params![schedule.id, fire_at, reason],
    )
}

/// Writes down the instants of a range that are in no other row, and says how many they are: some may have fired
/// before a clock was set back.
fn record_missed(tx: &mut Tx<'_>, schedule: &Schedule, missed: Missed, now: Timestamp) -> Result<u64> {
    let sql = "SELECT fire_at FROM fires WHERE schedule_id = $1 AND fire_at BETWEEN $2 AND $3 AND outcome <> 'missed'";
    let known: BTreeSet<Timestamp> = tx
        .query(sql, params![schedule.id, missed.from, missed.until], |row| {
            row.get("fire_at")
        })?
        .into_iter()
        .collect();
    let mut from = Some(missed.from);
    while let Some(at) = from.filter(|at| known.contains(at)) {
        from = schedule.draft.pattern.next_after(at);
    }
    let count = missed.count.saturating_sub(known.len() as u64);
    let Some(from) = from.filter(|from| count > 0 && *from <= missed.until) else {
        return Ok(0);
    };
    let reason = match missed.is_cut_short() {
        true => format!("{MISSED}; at least {count}, they are counted no further"),
        false => MISSED.to_owned(),
    };
    tx.execute(
        "INSERT INTO fires (schedule_id, fire_at, tenant_id, outcome, recorded_at, missed, missed_until, error)
         VALUES ($1, $2, $3, 'missed', $4, $5, $6, $7) ON CONFLICT (schedule_id, fire_at) DO NOTHING",
        params![schedule.id, from, schedule.tenant, now, count, missed.until, reason],
    )?;
    Ok(count)
}

/// Why an instant is in no other row.
const MISSED: &str = "it was not fired in time: the server was down, or its clock was wrong";

/// Takes a schedule that cannot fire out of the loop's way, visibly. The next start looks at it again.
fn quarantine(tx: &mut Tx<'_>, id: &str, reason: &str) -> Result<()> {
    tx.execute_one(
        "UPDATE schedules SET next_fire_at = NULL, last_error = $2, consecutive_failures = consecutive_failures + 1
         WHERE id = $1",
        params![id, reason],
    )
}

/// The oldest cursor of all enabled schedules: when the next fire is due.
///
/// # Errors
/// What the engine refuses.
pub fn next_due(tx: &mut Tx<'_>) -> Result<Option<Timestamp>> {
    let sql = "SELECT next_fire_at FROM schedules
               WHERE enabled = 1 AND next_fire_at IS NOT NULL ORDER BY next_fire_at LIMIT 1";
    tx.query_opt(sql, &[], |row| row.get("next_fire_at"))
}

/// Fires what one schedule owes at `now`, before a change to it or its end takes effect: an instant that had come is
/// neither lost to the change nor fired after the answer.
pub(super) fn settle(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    plan: Option<FirePlan>,
    (job, now): (JobId, Timestamp),
) -> Result<()> {
    match plan {
        Some(plan) if schedule.draft.enabled => fire(tx, schedule, plan, (job, now)).map(|_| ()),
        _ => Ok(()),
    }
}

/// The newest instant of a schedule's ledger that is not after `now`.
fn newest_until(tx: &mut Tx<'_>, schedule: ScheduleId, now: Timestamp) -> Result<Option<Timestamp>> {
    let sql =
        "SELECT fire_at FROM fires WHERE schedule_id = $1 AND fire_at <= $2 ORDER BY fire_at DESC LIMIT 1";
    tx.query_opt(sql, params![schedule, now], |row| row.get("fire_at"))
}

/// How many cursors one pass of [`realign`] looks at.
const REALIGNED_AT_ONCE: u32 = 1_000;

/// Puts cursors back where they belong after a clock that was ahead, or under new rules of a time zone: see
/// [`Schedule::true_cursor`]. Looks at the schedules after `after`, in the order of their ids, and says where to go on
/// (`None` after the last) and how many cursors it moved.
///
/// # Errors
/// What the engine refuses.
pub fn realign(tx: &mut Tx<'_>, after: Option<String>, now: Timestamp) -> Result<(Option<String>, u64)> {
    if after.is_none() {
        // A range that ends ahead was passed over by a clock that was: what of it is to come fires when it comes, and
        // what has come is reckoned anew.
        tx.execute(
            "DELETE FROM fires WHERE outcome = 'missed' AND missed_until > $1",
            params![now],
        )?;
    }
    let sql = "SELECT * FROM schedules WHERE enabled = 1 AND id > $1 ORDER BY id LIMIT $2";
    let found = tx.query(
        sql,
        params![after.unwrap_or_default(), REALIGNED_AT_ONCE],
        |row| Ok((row.get::<String>("id")?, schedules::read(row))),
    )?;
    let next = found.last().map(|(id, _)| id.clone());
    let mut moved = 0;
    for (id, schedule) in found {
        // What cannot be read stays where it is, and is set aside, with its reason, when it is due.
        let Ok(schedule) = schedule else { continue };
        if schedule.draft.pattern.fault().is_some() {
            continue;
        }
        let mut accounted = None;
        if schedule.fired_ahead(now) {
            accounted = newest_until(tx, schedule.id, now)?;
            // What such a fire made up for has just been taken out of the ledger.
            tx.execute(
                "UPDATE fires SET missed = 0 WHERE schedule_id = $1 AND fire_at > $2 AND missed > 0",
                params![schedule.id, now],
            )?;
        }
        let cursor = schedule.true_cursor(now, accounted);
        if cursor != schedule.next_fire_at {
            tx.execute_one(
                "UPDATE schedules SET next_fire_at = $2 WHERE id = $1",
                params![id, cursor],
            )?;
            moved += 1;
        }
    }
    Ok((next, moved))
}

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    /// The scheduled instant; of missed ones, the oldest.
    pub fire_at: Timestamp,
    /// `fired`, `missed` or `rejected`.
    pub outcome: String,
    /// When it was written down.
    pub recorded_at: Timestamp,
    /// The job it created.
    pub job: Option<JobId>,
    /// Where that job stands.
    pub job_status: Option<String>,
    /// How many instants the row stands for, if they were missed.
    pub missed: u64,
    /// Why there is no job.
    pub error: Option<String>,
}

fn ledger_row(row: &Row<'_>) -> Result<LedgerRow> {
    Ok(LedgerRow {
        fire_at: row.get("fire_at")?,
        outcome: row.get("outcome")?,
        recorded_at: row.get("recorded_at")?,
        job: row.get("job_id")?,
        job_status: row.get("status")?,
        missed: row.get("missed")?,
        error: row.get("error")?,
    })
}

/// The ledger of a schedule, newest first, at most `limit` rows, perhaps only those before an instant (milliseconds).
///
/// # Errors
/// What the engine refuses.
pub fn history(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    schedule: ScheduleId,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<LedgerRow>> {
    let sql = "SELECT f.fire_at, f.outcome, f.recorded_at, f.job_id, f.missed, f.error, j.status
               FROM fires f LEFT JOIN jobs j ON j.id = f.job_id
               WHERE f.tenant_id = $1 AND f.schedule_id = $2 AND ($3 IS NULL OR f.fire_at < $3)
               ORDER BY f.fire_at DESC LIMIT $4";
    tx.query(sql, params![tenant, schedule, before, limit], ledger_row)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        domain::{JobId, Pattern, ScheduleDraft, ScheduleId, plan_fire},
        store::ops::fixture::Db,
    };

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// The ledger, newest first, of a schedule of every minute that was made at `made` and fires at `now`.
    fn fired_after_downtime(made: Timestamp, now: Timestamp) -> Vec<LedgerRow> {
        let db = Db::new();
        let (tenant, id) = (db.tenant(), ScheduleId(uuid::Uuid::from_u128(7)));
        let draft = ScheduleDraft {
            workflow: "gone".to_owned(),
            params: serde_json::Map::new(),
            pattern: Pattern::parse("* * * * *", "UTC").unwrap(),
            launch: serde_json::from_value(json!({"timeout_seconds": 1})).unwrap(),
            callback_url: None,
            callback_secret: None,
            skip_callbacks: false,
            enabled: true,
        };
        db.run(|tx| schedules::create(tx, (tenant, id), draft, None, made));
        let plan = |schedule: &Schedule| plan_fire(&schedule.draft.pattern, schedule.next_fire_at?, now);
        let job = || JobId(uuid::Uuid::from_u128(8));
        let fired = db.run(|tx| fire_due(tx, (now, 10), plan, job));
        assert_eq!(fired.looked_at, 1);
        db.run(|tx| history(tx, tenant, id, None, 10))
    }

    #[test]
    fn the_fire_that_catches_up_says_how_many_it_stands_for() {
        let rows = fired_after_downtime(at("2026-01-01T00:00:30Z"), at("2026-01-01T00:05:10Z"));
        let shown: Vec<_> = rows
            .iter()
            .map(|row| (row.outcome.as_str(), row.missed))
            .collect();
        assert_eq!(shown, [("rejected", 4), ("missed", 4)]);
        assert!(!rows[1].error.as_ref().unwrap().contains("at least"));
        let rows = fired_after_downtime(at("2026-01-01T00:00:30Z"), at("2026-01-01T00:01:00Z"));
        assert_eq!(
            (rows.len(), rows[0].missed),
            (1, 0),
            "on time, nothing was missed"
        );
    }

    #[test]
    fn a_count_that_was_cut_short_says_so() {
        let rows = fired_after_downtime(at("2026-01-01T00:00:30Z"), at("2027-01-01T00:00:00Z"));
        let error = rows[1].error.as_ref().unwrap();
        assert!(error.contains("at least 100000"), "{error}");
    }
}
