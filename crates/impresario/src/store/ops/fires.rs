//! The heart: due schedules become ledger rows and jobs, and their cursors move, in one transaction.

mod backfill;
mod catch_up;
mod ledger;
#[cfg(test)]
mod properties;
mod realign;
mod restored;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

pub use self::{
    backfill::{BackfillOutcome, MOST_BACKFILLED, backfill},
    catch_up::{any_ready, catch_up, wake_all},
    ledger::{LedgerRow, history},
    realign::{Realigned, realign},
    restored::{WrittenOff, write_off},
};
pub(super) use self::{
    catch_up::{retire as retire_catch_up, wake},
    ledger::{record_pause, retire_instant},
    realign::not_on_record,
};
use super::{Moment, events, jobs, outcomes, quotas, schedules};
use crate::domain::{
    Admission, DeploymentId, FirePlan, JobId, MisfirePolicy, Missed, OverlapPolicy, Schedule, ScheduleEvent,
    ScheduleId, Unfinished, WorkflowId,
};
use crate::store::{
    error::Result,
    tx::{Tx, params},
};

/// How long one pass may hold up the other writes, as far as it consists of more than one schedule: after years of
/// downtime there is much to count.
const LONGEST_PASS: Duration = Duration::from_millis(200);

/// How long a fire waits for what somebody has locked, and how long a pass waits in all.
const LONGEST_LOCK: Duration = Duration::from_millis(100);
const MOST_WAITED: Duration = Duration::from_secs(3);

/// What one pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fired {
    /// Jobs that were created.
    pub jobs: usize,
    /// Fires that could not create a job.
    pub rejected: usize,
    /// Fires that their overlap policy skipped.
    pub skipped: usize,
    /// Instants that were written down as missed.
    pub missed: u64,
    /// Schedules that were left to the next pass, because something that they need is locked.
    pub left: usize,
    /// Schedules that make up for nothing yet, because their tenant's queue is full.
    pub waiting: usize,
    /// Schedules that were looked at: as many as the limit means that more may be due.
    pub looked_at: usize,
    /// Schedules whose params have not been checked against the deployment that would run them: they fire once that
    /// is noted.
    pub unchecked: Vec<ScheduleId>,
    /// Rows that could not be read, taken out of the way with their reason in `last_error`.
    pub quarantined: Vec<(String, String)>,
}

/// What became of one schedule in a pass.
enum Outcome {
    Job,
    Rejected,
    Skipped,
    /// Nothing fires: what had come is written down as missed, or the instant was in the ledger already, because the
    /// clock went back or an update put the cursor there once more.
    Nothing,
    /// What it makes up for has to wait for a place in the queue.
    Waits,
    /// Its params have to be checked first.
    Unchecked(ScheduleId),
    /// This version cannot read when it fires.
    Unreadable(String),
}

impl Fired {
    /// Counts an outcome, and takes a schedule that failed for its row out of the way.
    fn note(&mut self, tx: &mut Tx<'_>, id: String, outcome: Result<(Outcome, u64)>) -> Result<()> {
        let outcome = outcome.map(|(outcome, missed)| {
            self.missed += missed;
            outcome
        });
        let reason = match outcome {
            Ok(Outcome::Unreadable(fault)) => fault,
            Err(error) if error.is_of_the_row() => error.to_string(),
            // Somebody has locked what it needs. It is undone and left to the next pass, and holds up nobody else.
            Err(error) if error.is_conflict() => {
                tracing::warn!(schedule = %id, %error, "what a schedule's fire needs is locked; it is tried again");
                self.left += 1;
                return Ok(());
            }
            Err(error) => return Err(error),
            Ok(fine) => {
                match fine {
                    Outcome::Job => self.jobs += 1,
                    Outcome::Rejected => self.rejected += 1,
                    Outcome::Skipped => self.skipped += 1,
                    Outcome::Waits => self.waiting += 1,
                    Outcome::Unchecked(id) => self.unchecked.push(id),
                    Outcome::Nothing | Outcome::Unreadable(_) => {}
                }
                return Ok(());
            }
        };
        let reason = format!("this schedule cannot fire: {reason}");
        quarantine(tx, &id, &reason)?;
        self.quarantined.push((id, reason));
        Ok(())
    }
}

/// Fires what is due, at most `limit` schedules, in the order in which they are. Those that somebody else is acting on are
/// left to them.
///
/// # Errors
/// What the engine refuses. A single bad schedule is not an error: it is quarantined.
pub fn fire_due(tx: &mut Tx<'_>, moment: &Moment<'_>, limit: usize) -> Result<Fired> {
    let sql = format!(
        "SELECT {} FROM schedules WHERE enabled = 1 AND next_due_at <= $1 ORDER BY next_due_at LIMIT $2{}",
        schedules::COLUMNS,
        tx.dialect().claim()
    );
    let due = tx.query(&sql, params![moment.now, limit], |row| {
        Ok((row.get::<String>("id")?, schedules::read(row)))
    })?;
    let mut fired = Fired {
        looked_at: due.len(),
        ..Fired::default()
    };
    tx.wait_at_most(LONGEST_LOCK)?;
    let begun = Instant::now();
    for (id, schedule) in due {
        // What was waited for in vain does not count: those behind it have their turn all the same.
        let waited = LONGEST_LOCK.saturating_mul(u32::try_from(fired.left).unwrap_or(u32::MAX));
        if begun.elapsed() > LONGEST_PASS + waited.min(MOST_WAITED) {
            break;
        }
        let outcome = tx.isolated(|tx| {
            let schedule = schedule?;
            if let Some(fault) = schedule.draft.timing.pattern.fault() {
                return Ok((Outcome::Unreadable(fault.to_owned()), 0));
            }
            if schedule.is_misplaced() {
                // By the rules of another version's time zones: a node of that version has put it there.
                return realign::put_back(tx, &schedule, false, (moment.now, SignedDuration::ZERO))
                    .map(|_| (Outcome::Nothing, 0));
            }
            let Some(plan) = schedule.plan(moment.now) else {
                // Its cursor was where nothing is owed, or not yet: it must not be looked at again and again.
                let cursor = schedule.first_owed(moment.now);
                return schedules::move_cursor(tx, &schedule, cursor).map(|()| (Outcome::Nothing, 0));
            };
            let target = target(tx, &schedule)?;
            if plan.fire_at.is_some() && target.is_some_and(|target| target.is_unchecked(&schedule)) {
                return Ok((Outcome::Unchecked(schedule.id), 0));
            }
            fire(tx, &schedule, plan, target, moment)
        })?;
        fired.note(tx, id, outcome)?;
    }
    Ok(fired)
}

/// Fires what one schedule owes, before a change to it or its end takes effect: an instant that was due is neither lost
/// to the change nor fired after the answer. Says whether there was anything.
pub(super) fn settle(tx: &mut Tx<'_>, schedule: &Schedule, moment: &Moment<'_>) -> Result<bool> {
    // What cannot be read names no instants, and the one at which it was set aside does not fire.
    let readable = schedule.draft.timing.pattern.fault().is_none();
    let Some(plan) = schedule.plan(moment.now).filter(|_| readable) else {
        return Ok(false);
    };
    // There is no time to check params that nobody has checked: the workflow will.
    let target = target(tx, schedule)?;
    fire(tx, schedule, plan, target, moment)?;
    Ok(true)
}

/// Fires one instant that is owed, whatever its share of the spread.
pub(super) fn fire_now(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    at: Timestamp,
    moment: &Moment<'_>,
) -> Result<()> {
    schedules::move_cursor(tx, schedule, schedule.draft.timing.next_after(at))?;
    let target = target(tx, schedule)?;
    fire_instant(tx, schedule, (at, 0), target, Kind::Live, moment).map(|_| ())
}

/// The deployed workflow that a schedule's jobs run.
#[derive(Debug, Clone, Copy)]
struct Target {
    workflow: WorkflowId,
    deployment: DeploymentId,
}

impl Target {
    fn is_unchecked(self, schedule: &Schedule) -> bool {
        schedule.params_check.against != Some(self.deployment)
    }
}

fn target(tx: &mut Tx<'_>, schedule: &Schedule) -> Result<Option<Target>> {
    let sql = "SELECT id, deployment_id FROM workflows WHERE tenant_id = $1 AND name = $2";
    tx.query_opt(sql, params![schedule.tenant, &schedule.draft.workflow], |row| {
        Ok(Target {
            workflow: row.get("id")?,
            deployment: row.get("deployment_id")?,
        })
    })
}

/// Carries out one schedule's plan; says how many instants were missed as well.
fn fire(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    plan: FirePlan,
    target: Option<Target>,
    moment: &Moment<'_>,
) -> Result<(Outcome, u64)> {
    // First: what follows may end in the schedule's disabling itself, which asks what is due.
    let next = realign::not_on_record(tx, schedule, plan.next)?;
    schedules::move_cursor(tx, schedule, next)?;
    let mut missed = 0;
    for range in plan.missed {
        missed += missed_now(tx, schedule, range, moment)?;
    }
    let passed = match schedule.draft.policies.misfire {
        MisfirePolicy::FireOnce => missed,
        // Its fire stands for nothing but itself.
        MisfirePolicy::Skip | MisfirePolicy::FireAll => 0,
    };
    if let Some(owed) = plan.owed {
        catch_up::owe(tx, schedule, owed, moment)?;
    }
    let outcome = match plan.fire_at {
        Some(at) => fire_instant(tx, schedule, (at, passed), target, Kind::Live, moment)?,
        None => Outcome::Nothing,
    };
    Ok((outcome, missed))
}

/// Writes down what was missed, and tells who wants to know.
fn missed_now(tx: &mut Tx<'_>, schedule: &Schedule, missed: Missed, moment: &Moment<'_>) -> Result<u64> {
    let mut count = 0;
    for range in ledger::record_missed(tx, schedule, missed, moment.now)? {
        let event = ScheduleEvent::Missed {
            from: range.from,
            until: range.until,
            count: range.count,
            reason: missed.reason,
        };
        events::tell(tx, schedule, &event, moment)?;
        count += range.count;
    }
    Ok(count)
}

/// Whether an instant fires when it comes, or is made up for: by its misfire policy, or because its owner asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Live,
    CatchUp,
    Backfill,
}

/// Fires one instant that stands for `missed` others as well: a job, or the reason why there is none.
fn fire_instant(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    (at, missed): (Timestamp, u64),
    target: Option<Target>,
    kind: Kind,
    moment: &Moment<'_>,
) -> Result<Outcome> {
    let due_at = match kind {
        Kind::Live => schedule.due_at(at),
        // It was missed: a share of the spread that a change or a clock has put ahead has no part in it.
        Kind::CatchUp | Kind::Backfill => schedule.due_at(at).min(moment.now),
    };
    if let Some(missed) = ledger::missed_around(tx, schedule.id, at)? {
        if missed.written_off {
            return Ok(Outcome::Nothing);
        }
        if kind == Kind::Live {
            ledger::cut_out(tx, schedule, missed.range, at)?;
        }
    }
    if !ledger::claim_instant(tx, schedule, (at, due_at), (missed, moment.now))? {
        return Ok(Outcome::Nothing);
    }
    let Some(target) = target else {
        let error = format!("workflow: no deployed workflow \"{}\"", schedule.draft.workflow);
        return reject(tx, schedule, at, ("no_workflow", &error), moment);
    };
    let unfit = schedule.params_check.error.as_ref();
    if let Some(error) = unfit.filter(|_| !target.is_unchecked(schedule)) {
        return reject(tx, schedule, at, ("invalid_params", error), moment);
    }
    let policy = schedule.draft.policies.overlap;
    let admission = match kind {
        // Whether it may fire was asked before.
        Kind::CatchUp | Kind::Backfill => Admission::Start,
        Kind::Live if policy == OverlapPolicy::Allow => Admission::Start,
        Kind::Live => policy.admit(unfinished(tx, schedule.id)?),
    };
    if let Some(most) = no_room(tx, schedule, admission, kind)? {
        let error = format!(
            "quota: as many of this tenant's jobs were in the queue as its quota allows ({most}); let them run, cancel some, \
             or ask the operator for more"
        );
        return reject(tx, schedule, at, ("quota", &error), moment);
    }
    let held = match admission {
        Admission::Skip => return skip(tx, schedule, at, moment),
        Admission::Start => false,
        Admission::Hold => true,
        Admission::Replace => {
            jobs::cancel_unfinished(tx, schedule.id, moment)?;
            // What was queued is gone now; what runs has yet to end.
            unfinished(tx, schedule.id)? != Unfinished::default()
        }
    };
    let job: JobId = moment.id();
    create_job(tx, schedule, (job, at), target, (held, kind), moment.now)?;
    ledger::note_job(tx, schedule.id, at, job, admission)?;
    tx.execute(
        "UPDATE schedules SET last_fire_at = $2, last_job_id = $3
         WHERE id = $1 AND (last_fire_at IS NULL OR last_fire_at <= $2)",
        params![schedule.id, at, job],
    )?;
    Ok(Outcome::Job)
}

/// The quota of jobs in the queue, where it is used up and the fire needs a place there.
fn no_room(tx: &mut Tx<'_>, schedule: &Schedule, admission: Admission, kind: Kind) -> Result<Option<u64>> {
    match admission {
        // Nothing is added.
        Admission::Skip => Ok(None),
        // It was asked before the instant was taken off the list: what is made up for can wait.
        Admission::Start if kind == Kind::CatchUp => Ok(None),
        Admission::Start | Admission::Hold => quotas::no_room_for_job(tx, schedule.tenant, None),
        // Asked before anything is cancelled: a run is not ended for one that may not come.
        Admission::Replace => quotas::no_room_for_job(tx, schedule.tenant, Some(schedule.id)),
    }
}

fn create_job(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    (job, at): (JobId, Timestamp),
    target: Target,
    (held, kind): (bool, Kind),
    now: Timestamp,
) -> Result<()> {
    tx.execute_one(
        "INSERT INTO jobs (id, tenant_id, schedule_id, fire_at, workflow_id, workflow, deployment_id, params,
           launch, callback_url, callback_secret_id, skip_callbacks, status, created_at, held, catch_up, backfill)
         SELECT $1, s.tenant_id, s.id, $2, $5, s.workflow, $6, s.params,
           s.launch, s.callback_url, s.callback_secret_id, s.skip_callbacks, 'queued', $3, $7, $8, $9
         FROM schedules s WHERE s.id = $4",
        params![
            job,
            at,
            now,
            schedule.id,
            target.workflow,
            target.deployment,
            held,
            kind == Kind::CatchUp,
            kind == Kind::Backfill,
        ],
    )
}

/// The jobs of a schedule's fires that are not finished, without those that somebody has asked for.
fn unfinished(tx: &mut Tx<'_>, schedule: ScheduleId) -> Result<Unfinished> {
    let sql = "SELECT held, COUNT(*) AS jobs, CAST(SUM(catch_up) AS BIGINT) AS catching_up FROM jobs
               WHERE schedule_id = $1 AND status IN ('queued', 'starting_browser', 'running') AND backfill = 0
               GROUP BY held";
    let found = tx.query(sql, params![schedule], |row| {
        Ok((
            row.get::<bool>("held")?,
            row.get::<u64>("jobs")?,
            row.get::<u64>("catching_up")?,
        ))
    })?;
    let mut unfinished = Unfinished::default();
    for (held, jobs, catching_up) in found {
        match held {
            true => unfinished.held = jobs,
            false => (unfinished.active, unfinished.catching_up) = (jobs, catching_up),
        }
    }
    Ok(unfinished)
}

/// A fire that could not create a job counts as a failure of the schedule.
fn reject(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    at: Timestamp,
    (reason, error): (&str, &str),
    moment: &Moment<'_>,
) -> Result<Outcome> {
    ledger::note_outcome(tx, schedule.id, at, ("rejected", reason, error))?;
    tx.execute(
        "UPDATE schedules SET last_fire_at = $2, last_job_id = NULL
         WHERE id = $1 AND (last_fire_at IS NULL OR last_fire_at <= $2)",
        params![schedule.id, at],
    )?;
    // A quota that is used up is no fault of the schedule: it does not disable itself for it.
    let counts = reason != "quota";
    outcomes::failed(tx, schedule.id, (Some(error), counts), None, moment)?;
    Ok(Outcome::Rejected)
}

/// The overlap policy lets the instant go by.
fn skip(tx: &mut Tx<'_>, schedule: &Schedule, at: Timestamp, moment: &Moment<'_>) -> Result<Outcome> {
    let error = match schedule.draft.policies.overlap {
        OverlapPolicy::BufferOne => "an earlier run was not finished, and another waits for it already",
        _ => "an earlier run was not finished",
    };
    ledger::note_outcome(tx, schedule.id, at, ("skipped_overlap", "overlap", error))?;
    events::tell(tx, schedule, &ScheduleEvent::Skipped { fire_at: at }, moment)?;
    Ok(Outcome::Skipped)
}

/// Takes a schedule that cannot fire out of the loop's way, visibly. The next start looks at it again; its cursor stays,
/// so that whoever can read it accounts for what has come meanwhile.
fn quarantine(tx: &mut Tx<'_>, id: &str, reason: &str) -> Result<()> {
    tx.execute_one(
        "UPDATE schedules SET next_due_at = NULL, last_error = $2,
           consecutive_failures = consecutive_failures + 1
         WHERE id = $1",
        params![id, reason],
    )?;
    tx.execute(
        "UPDATE catch_ups SET ready = 0 WHERE schedule_id = $1",
        params![id],
    )
    .map(|_| ())
}

/// The oldest due time of all enabled schedules: when the scheduler has to act next.
///
/// # Errors
/// What the engine refuses.
pub fn next_due(tx: &mut Tx<'_>) -> Result<Option<Timestamp>> {
    let sql = "SELECT next_due_at FROM schedules
               WHERE enabled = 1 AND next_due_at IS NOT NULL ORDER BY next_due_at LIMIT 1";
    tx.query_opt(sql, &[], |row| row.get("next_due_at"))
}
