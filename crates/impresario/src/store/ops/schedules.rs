//! Schedules, as their owners see and change them. Their fires are in `fires`.

mod checks;
mod list;

use jiff::Timestamp;

pub(super) use self::checks::note_all_fit;
pub use self::{
    checks::{
        ToCheck, Unfit, UnfitSchedule, Unjudged, Verdict, note_params, params_page, to_check, unfit,
        unfit_totals,
    },
    list::{Listed, ScheduleFilter, list},
};
use super::{
    Moment, fires, lock, quotas,
    secrets::{self, SealedSecret},
};
use crate::domain::{
    DeploymentId, Label, MisfirePolicy, OverlapPolicy, ParamsCheck, Pattern, Policies, Schedule,
    ScheduleDraft, ScheduleId, SelfDisabled, TenantId, Timing, Transition,
};
use crate::store::{
    error::Result,
    tx::{Row, Tx, params},
    value::Json,
};

pub(super) const COLUMNS: &str = "id, tenant_id, workflow, name, description, tags, params, cron_expr, timezone, \
     start_at, end_at, jitter_seconds, misfire_policy, catchup_window_seconds, overlap_policy, \
     max_consecutive_failures, launch, callback_url, callback_secret_id, skip_callbacks, enabled, next_fire_at, \
     next_due_at, last_fire_at, last_job_id, last_error, consecutive_failures, counted_failures, disabled_reason, disabled_at, \
     params_checked, params_error, pattern_since, created_at, updated_at, \
     (SELECT CAST(COALESCE(SUM(c.instants), 0) AS BIGINT) FROM catch_ups c WHERE c.schedule_id = schedules.id) \
       AS catching_up";

pub(super) fn read(row: &Row<'_>) -> Result<Schedule> {
    let (expr, zone): (String, String) = (row.get("cron_expr")?, row.get("timezone")?);
    let (misfire, overlap): (String, String) = (row.get("misfire_policy")?, row.get("overlap_policy")?);
    let (reason, since): (Option<String>, Option<Timestamp>) =
        (row.get("disabled_reason")?, row.get("disabled_at")?);
    Ok(Schedule {
        id: row.get("id")?,
        tenant: row.get("tenant_id")?,
        draft: ScheduleDraft {
            workflow: row.get("workflow")?,
            label: Label {
                name: row.get("name")?,
                description: row.get("description")?,
                tags: row.get::<Json<_>>("tags")?.0,
            },
            params: row.get::<Json<_>>("params")?.0,
            timing: Timing {
                pattern: Pattern::stored(expr, zone),
                start_at: row.get("start_at")?,
                end_at: row.get("end_at")?,
                jitter_seconds: row.get("jitter_seconds")?,
            },
            policies: Policies {
                misfire: MisfirePolicy::parse(&misfire)
                    .ok_or_else(|| row.corrupt("misfire_policy", misfire))?,
                catchup_window_seconds: row.get("catchup_window_seconds")?,
                overlap: OverlapPolicy::parse(&overlap)
                    .ok_or_else(|| row.corrupt("overlap_policy", overlap))?,
                max_consecutive_failures: row.get("max_consecutive_failures")?,
            },
            launch: row.get::<Json<_>>("launch")?.0,
            callback_url: row.get("callback_url")?,
            callback_secret: row.get("callback_secret_id")?,
            skip_callbacks: row.get("skip_callbacks")?,
            enabled: row.get("enabled")?,
        },
        next_fire_at: row.get("next_fire_at")?,
        set_aside: row.get::<Option<i64>>("next_due_at")?.is_none()
            && row.get::<Option<i64>>("next_fire_at")?.is_some(),
        last_fire_at: row.get("last_fire_at")?,
        last_job_id: row.get("last_job_id")?,
        last_error: row.get("last_error")?,
        consecutive_failures: row.get("consecutive_failures")?,
        counted_failures: row.get("counted_failures")?,
        self_disabled: reason.zip(since).map(|(reason, at)| SelfDisabled { reason, at }),
        params_check: ParamsCheck {
            against: row.get("params_checked")?,
            error: row.get("params_error")?,
        },
        catching_up: row.get("catching_up")?,
        pattern_since: row.get("pattern_since")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

/// What became of a request for a schedule.
#[derive(Debug, Clone)]
pub enum CreateOutcome {
    /// It is there.
    Created(Box<Schedule>),
    /// Another of this tenant's has its name.
    NameTaken,
    /// The tenant has as many as its quota allows, which is this.
    QuotaReached(u64),
}

/// Adds a schedule whose first fire is the timing's first after now, with its callback secret, if any. Its params have
/// been checked against the schema of the deployment `checked`.
///
/// # Errors
/// What the engine refuses.
pub fn create(
    tx: &mut Tx<'_>,
    (tenant, id): (TenantId, ScheduleId),
    (draft, checked): (ScheduleDraft, Option<DeploymentId>),
    secret: Option<SealedSecret>,
    now: Timestamp,
) -> Result<CreateOutcome> {
    if name_taken(tx, (tenant, id), draft.label.name.as_deref())? {
        return Ok(CreateOutcome::NameTaken);
    }
    if let Some(most) = quotas::no_room_for_schedule(tx, tenant)? {
        return Ok(CreateOutcome::QuotaReached(most));
    }
    if let Some(secret) = secret {
        secrets::insert(tx, tenant, secret, now)?;
    }
    let schedule = Schedule {
        params_check: ParamsCheck {
            against: checked,
            error: None,
        },
        ..Schedule::begun(id, tenant, draft, now)
    };
    // Only what an owner's change never touches; the rest is written as by one.
    tx.execute_one(
        "INSERT INTO schedules (id, tenant_id, workflow, params, cron_expr, timezone, launch, skip_callbacks, enabled,
           pattern_since, created_at, updated_at)
         VALUES ($1, $2, $3, '{}', '', '', '{}', 0, 0, $4, $4, $4)",
        params![id, tenant, &schedule.draft.workflow, now],
    )?;
    write(tx, &schedule)?;
    Ok(CreateOutcome::Created(Box::new(schedule)))
}

/// Writes all that an owner's decisions change.
fn write(tx: &mut Tx<'_>, schedule: &Schedule) -> Result<()> {
    let draft = &schedule.draft;
    let disabled = schedule.self_disabled.clone();
    let (reason, since) = disabled.map(|disabled| (disabled.reason, disabled.at)).unzip();
    tx.execute_one(
        "UPDATE schedules SET name = $2, description = $3, tags = $4, params = $5, cron_expr = $6, timezone = $7,
           start_at = $8, end_at = $9, jitter_seconds = $10, misfire_policy = $11, catchup_window_seconds = $12,
           overlap_policy = $13, max_consecutive_failures = $14, launch = $15, callback_url = $16,
           callback_secret_id = $17, skip_callbacks = $18, enabled = $19, next_fire_at = $20, next_due_at = $21,
           pattern_since = $22, updated_at = $23, counted_failures = $24, disabled_reason = $25, disabled_at = $26,
           params_checked = $27, params_error = $28, params_revision = params_revision + CASE WHEN params <> $5 THEN 1 ELSE 0 END
         WHERE id = $1",
        params![
            schedule.id,
            draft.label.name.clone(),
            draft.label.description.clone(),
            Json(&draft.label.tags),
            Json(&draft.params),
            draft.timing.pattern.expr(),
            draft.timing.pattern.zone(),
            draft.timing.start_at,
            draft.timing.end_at,
            draft.timing.jitter_seconds,
            draft.policies.misfire.as_str(),
            draft.policies.catchup_window_seconds,
            draft.policies.overlap.as_str(),
            draft.policies.max_consecutive_failures,
            Json(&draft.launch),
            draft.callback_url.clone(),
            draft.callback_secret,
            draft.skip_callbacks,
            draft.enabled,
            schedule.next_fire_at,
            schedule
                .next_fire_at
                .filter(|_| !schedule.set_aside)
                .map(|at| schedule.due_at(at)),
            schedule.pattern_since,
            schedule.updated_at,
            schedule.counted_failures,
            reason,
            since,
            schedule.params_check.against,
            schedule.params_check.error.clone(),
        ],
    )
}

/// Puts the cursor somewhere, and with it the instant at which the scheduler looks at the schedule.
pub(super) fn move_cursor(tx: &mut Tx<'_>, schedule: &Schedule, cursor: Option<Timestamp>) -> Result<()> {
    tx.execute_one(
        "UPDATE schedules SET next_fire_at = $2, next_due_at = $3 WHERE id = $1",
        params![schedule.id, cursor, cursor.map(|at| schedule.due_at(at))],
    )
}

/// Whether another schedule of the tenant has the name.
fn name_taken(tx: &mut Tx<'_>, (tenant, id): (TenantId, ScheduleId), name: Option<&str>) -> Result<bool> {
    let Some(name) = name else { return Ok(false) };
    let sql = "SELECT id FROM schedules WHERE tenant_id = $1 AND name = $2 AND id <> $3";
    let other = tx.query_opt(sql, params![tenant, name, id], |_| Ok(()))?;
    Ok(other.is_some())
}

/// Keeps everybody else from acting on a schedule until the operation has ended: whoever fires it, changes it, ends one of
/// its jobs or makes up for what it owes locks it first, before the job, so that none of them waits for another in a
/// circle. What is read afterwards is what holds.
pub(super) fn lock(tx: &mut Tx<'_>, id: ScheduleId) -> Result<()> {
    lock::rows(tx, "schedules WHERE id = $1", params![id])
}

/// The same for a schedule of this tenant, before the time of the operation is asked for: what came while it waited has
/// come.
///
/// # Errors
/// What the engine refuses.
pub fn lock_own(tx: &mut Tx<'_>, tenant: TenantId, id: ScheduleId) -> Result<()> {
    lock::rows(
        tx,
        "schedules WHERE tenant_id = $1 AND id = $2",
        params![tenant, id],
    )
}

/// The same, unless somebody else has it: says whether nobody had. What is gone nobody has.
pub(super) fn claim(tx: &mut Tx<'_>, id: ScheduleId) -> Result<bool> {
    if lock::try_row(tx, "schedules WHERE id = $1", params![id])? {
        return Ok(true);
    }
    let sql = "SELECT id FROM schedules WHERE id = $1";
    Ok(tx.query_opt(sql, params![id], |_| Ok(()))?.is_none())
}

/// A schedule of this tenant.
///
/// # Errors
/// What the engine refuses.
pub fn get(tx: &mut Tx<'_>, tenant: TenantId, id: ScheduleId) -> Result<Option<Schedule>> {
    let sql = format!("SELECT {COLUMNS} FROM schedules WHERE tenant_id = $1 AND id = $2");
    tx.query_opt(&sql, params![tenant, id], read)
}

/// A schedule, whosever it is.
///
/// # Errors
/// What the engine refuses.
pub fn by_id(tx: &mut Tx<'_>, id: ScheduleId) -> Result<Option<Schedule>> {
    let sql = format!("SELECT {COLUMNS} FROM schedules WHERE id = $1");
    tx.query_opt(&sql, params![id], read)
}

/// A schedule with everything that was due by now in the ledger.
pub(super) fn settled(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    id: ScheduleId,
    moment: &Moment<'_>,
) -> Result<Option<Schedule>> {
    lock_own(tx, tenant, id)?;
    let Some(schedule) = get(tx, tenant, id)? else {
        return Ok(None);
    };
    if !schedule.draft.enabled || !fires::settle(tx, &schedule, moment)? {
        return Ok(Some(schedule));
    }
    get(tx, tenant, id)
}

/// What became of a change.
#[derive(Debug, Clone)]
pub enum ChangeOutcome<E> {
    /// The schedule as it now stands.
    Changed(Box<Schedule>),
    /// There is no such schedule.
    Unknown,
    /// The result would break a rule; nothing was changed but what was due, which has fired.
    Refused(E),
    /// Another of this tenant's has the name.
    NameTaken,
}

/// What an owner's change makes of a schedule.
#[derive(Debug, Clone)]
pub struct Change {
    /// Its decisions from now on.
    pub draft: ScheduleDraft,
    /// A new callback secret, if there is one.
    pub secret: Option<SealedSecret>,
    /// The deployment that new params were checked against; `None` where the params stay.
    pub checked: Option<DeploymentId>,
}

/// Changes a schedule: accounts for what was due, asks `apply` what the owner's decisions become, and moves the cursor
/// as [`Schedule::transition`] says. What `apply` refuses changes nothing.
///
/// # Errors
/// What the engine refuses.
pub fn change<E>(
    tx: &mut Tx<'_>,
    (tenant, id): (TenantId, ScheduleId),
    moment: &Moment<'_>,
    apply: impl FnOnce(&ScheduleDraft) -> Result<Change, E>,
) -> Result<ChangeOutcome<E>> {
    let Some(old) = settled(tx, tenant, id, moment)? else {
        return Ok(ChangeOutcome::Unknown);
    };
    let change = match apply(&old.draft) {
        Ok(change) => change,
        Err(refused) => return Ok(ChangeOutcome::Refused(refused)),
    };
    if name_taken(tx, (tenant, id), change.draft.label.name.as_deref())? {
        return Ok(ChangeOutcome::NameTaken);
    }
    update(tx, &old, change, moment).map(|new| ChangeOutcome::Changed(Box::new(new)))
}

fn update(tx: &mut Tx<'_>, old: &Schedule, change: Change, moment: &Moment<'_>) -> Result<Schedule> {
    let now = moment.now;
    if let Some(secret) = change.secret {
        secrets::insert(tx, old.tenant, secret, now)?;
    }
    let moved = old.transition(&change.draft, now);
    retire(tx, old, moved, moment)?;
    let enabled_again = change.draft.enabled && !old.draft.enabled;
    // Also where only the instants change: those that have come are the old pattern's, not the new one's.
    if moved.begins_anew
        && let Some(disabled) = &old.self_disabled
    {
        // A pattern that was changed meanwhile has told of what came before. What lies ahead is a wrong clock's.
        let begin = Some(old.pattern_since).filter(|begin| *begin <= now);
        let disabled_at = disabled.at.min(now);
        let since = begin.map_or(disabled_at, |at| at.max(disabled_at));
        fires::record_pause(tx, old, since, moment)?;
    }
    let readable = change.draft.timing.pattern.fault().is_none();
    let new = Schedule {
        next_fire_at: moved.cursor,
        set_aside: old.set_aside && !readable,
        pattern_since: if moved.begins_anew { now } else { old.pattern_since },
        updated_at: now,
        counted_failures: if enabled_again { 0 } else { old.counted_failures },
        self_disabled: old.self_disabled.clone().filter(|_| !change.draft.enabled),
        params_check: match change.checked {
            Some(against) => ParamsCheck {
                against: Some(against),
                error: None,
            },
            None if change.draft.params == old.draft.params => old.params_check.clone(),
            None => ParamsCheck::default(),
        },
        draft: change.draft,
        catching_up: if moved.retires_catch_up {
            0
        } else {
            old.catching_up
        },
        ..old.clone()
    };
    let new = Schedule {
        next_fire_at: fires::not_on_record(tx, &new, new.next_fire_at)?,
        ..new
    };
    write(tx, &new)?;
    // Its overlap policy may now let start what waits to be made up for.
    fires::wake(tx, new.id)?;
    // By its new share an owed instant may be over. It was in time when the change came, so it fires now, however late
    // it would be by that share.
    let over = new
        .first_owed(now)
        .filter(|at| readable && new.draft.enabled && !old.set_aside && new.due_at(*at) <= now);
    let Some(at) = over else { return Ok(new) };
    fires::fire_now(tx, &new, at, moment)?;
    Ok(by_id(tx, new.id)?.unwrap_or(new))
}

/// Writes down what a change takes back.
pub(super) fn retire(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    moved: Transition,
    moment: &Moment<'_>,
) -> Result<()> {
    if let Some(at) = moved.retires {
        fires::retire_instant(tx, schedule, at, moment)?;
    }
    if moved.retires_catch_up && schedule.catching_up > 0 {
        fires::retire_catch_up(tx, schedule, moment)?;
    }
    Ok(())
}

/// Removes a schedule, once what was due is accounted for; `false` where there is none. Its jobs and its ledger stay.
///
/// # Errors
/// What the engine refuses.
pub fn delete(tx: &mut Tx<'_>, tenant: TenantId, id: ScheduleId, moment: &Moment<'_>) -> Result<bool> {
    let schedule = match settled(tx, tenant, id, moment) {
        Ok(Some(schedule)) => schedule,
        Ok(None) => return Ok(false),
        // What it owes cannot be told any more, and its owner wants it gone.
        Err(error) if error.is_of_the_row() => {
            tracing::error!(schedule = %id, %error, "a schedule whose row is damaged is deleted as it is");
            return forget(tx, tenant, id).map(|()| true);
        }
        Err(error) => return Err(error),
    };
    let paused = ScheduleDraft {
        enabled: false,
        ..schedule.draft.clone()
    };
    retire(tx, &schedule, schedule.transition(&paused, moment.now), moment)?;
    forget(tx, tenant, id)?;
    Ok(true)
}

fn forget(tx: &mut Tx<'_>, tenant: TenantId, id: ScheduleId) -> Result<()> {
    tx.execute("DELETE FROM catch_ups WHERE schedule_id = $1", params![id])?;
    let sql = "DELETE FROM schedules WHERE tenant_id = $1 AND id = $2";
    tx.execute_one(sql, params![tenant, id])
}
