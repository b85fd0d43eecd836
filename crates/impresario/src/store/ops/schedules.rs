//! Schedules, as their owners see and change them. Their fires are in `fires`.

use jiff::Timestamp;

use super::{
    fires,
    secrets::{self, SealedSecret},
};
use crate::domain::{FirePlan, JobId, Pattern, Schedule, ScheduleDraft, ScheduleId, TenantId};
use crate::store::{
    PageCursor,
    error::Result,
    tx::{Row, Tx, params},
    value::Json,
};

const COLUMNS: &str = "id, tenant_id, workflow, params, cron_expr, timezone, launch, callback_url, \
     callback_secret_id, skip_callbacks, enabled, next_fire_at, last_fire_at, last_job_id, last_error, \
     consecutive_failures, pattern_since, created_at, updated_at";

pub(super) fn read(row: &Row<'_>) -> Result<Schedule> {
    let (expr, zone): (String, String) = (row.get("cron_expr")?, row.get("timezone")?);
    Ok(Schedule {
        id: row.get("id")?,
        tenant: row.get("tenant_id")?,
        draft: ScheduleDraft {
            workflow: row.get("workflow")?,
            params: row.get::<Json<_>>("params")?.0,
            pattern: Pattern::stored(expr, zone),
            launch: row.get::<Json<_>>("launch")?.0,
            callback_url: row.get("callback_url")?,
            callback_secret: row.get("callback_secret_id")?,
            skip_callbacks: row.get("skip_callbacks")?,
            enabled: row.get("enabled")?,
        },
        next_fire_at: row.get("next_fire_at")?,
        last_fire_at: row.get("last_fire_at")?,
        last_job_id: row.get("last_job_id")?,
        last_error: row.get("last_error")?,
        consecutive_failures: row.get("consecutive_failures")?,
        pattern_since: row.get("pattern_since")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

/// Adds a schedule whose first fire is the pattern's first after `now`, with its callback secret, if any.
///
/// # Errors
/// What the engine refuses.
pub fn create(
    tx: &mut Tx<'_>,
    (tenant, id): (TenantId, ScheduleId),
    draft: ScheduleDraft,
    secret: Option<SealedSecret>,
    now: Timestamp,
) -> Result<Schedule> {
    if let Some(secret) = secret {
        secrets::insert(tx, tenant, secret, now)?;
    }
    let schedule = Schedule {
        id,
        tenant,
        next_fire_at: draft.pattern.next_after(now),
        draft,
        last_fire_at: None,
        last_job_id: None,
        last_error: None,
        consecutive_failures: 0,
        created_at: now,
        pattern_since: now,
        updated_at: now,
    };
    let draft = &schedule.draft;
    tx.execute_one(
        "INSERT INTO schedules (id, tenant_id, workflow, params, cron_expr, timezone, launch, callback_url,
           callback_secret_id, skip_callbacks, enabled, next_fire_at, pattern_since, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13, $13)",
        params![
            id,
            tenant,
            &draft.workflow,
            Json(&draft.params),
            draft.pattern.expr(),
            draft.pattern.zone(),
            Json(&draft.launch),
            draft.callback_url.clone(),
            draft.callback_secret,
            draft.skip_callbacks,
            draft.enabled,
            schedule.next_fire_at,
            now,
        ],
    )?;
    Ok(schedule)
}

/// A schedule of this tenant.
///
/// # Errors
/// What the engine refuses.
pub fn get(tx: &mut Tx<'_>, tenant: TenantId, id: ScheduleId) -> Result<Option<Schedule>> {
    let sql = format!("SELECT {COLUMNS} FROM schedules WHERE tenant_id = $1 AND id = $2");
    tx.query_opt(&sql, params![tenant, id], read)
}

/// What a list of schedules is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct ScheduleFilter {
    /// Only enabled or only disabled ones.
    pub enabled: Option<bool>,
    /// Only those of this workflow.
    pub workflow: Option<String>,
    /// Only what comes after this row.
    pub after: Option<PageCursor>,
}

/// The newest schedules of a tenant, at most `limit`.
///
/// # Errors
/// What the engine refuses.
pub fn list(tx: &mut Tx<'_>, tenant: TenantId, filter: ScheduleFilter, limit: u32) -> Result<Vec<Schedule>> {
    let (at, id) = filter.after.map(|cursor| (cursor.at, cursor.id)).unzip();
    let sql = format!(
        "SELECT {COLUMNS} FROM schedules
         WHERE tenant_id = $1
           AND ($2 IS NULL OR enabled = $2)
           AND ($3 IS NULL OR workflow = $3)
           AND ($4 IS NULL OR (created_at, id) < ($4, $5))
         ORDER BY created_at DESC, id DESC LIMIT $6"
    );
    tx.query(
        &sql,
        params![tenant, filter.enabled, filter.workflow, at, id, limit],
        read,
    )
}

/// What a change needs besides the schedule: read inside the transaction, so that whatever came while it waited for
/// its turn is accounted for.
pub struct ChangeContext<'a> {
    /// The time.
    pub now: &'a dyn Fn() -> Timestamp,
    /// What is due of a schedule at a time.
    pub plan: &'a dyn Fn(&Schedule, Timestamp) -> Option<FirePlan>,
    /// A new job's id, should something be due.
    pub new_job: &'a dyn Fn() -> JobId,
}

impl std::fmt::Debug for ChangeContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChangeContext").finish_non_exhaustive()
    }
}

/// A schedule with everything that had come by now in the ledger.
fn settled(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    id: ScheduleId,
    context: &ChangeContext<'_>,
) -> Result<Option<(Schedule, Timestamp)>> {
    let Some(schedule) = get(tx, tenant, id)? else {
        return Ok(None);
    };
    let now = (context.now)();
    let plan = (context.plan)(&schedule, now);
    if plan.is_none() {
        return Ok(Some((schedule, now)));
    }
    fires::settle(tx, &schedule, plan, ((context.new_job)(), now))?;
    Ok(get(tx, tenant, id)?.map(|schedule| (schedule, now)))
}

/// Changes a schedule: accounts for what had come, asks `apply` what the owner's decisions become, with a new callback
/// secret if there is one, and starts the cursor anew where [`Schedule::begins_anew`] says so. `None` where there is no
/// such schedule; what `apply` refuses changes nothing.
///
/// # Errors
/// What the engine refuses.
pub fn change<E>(
    tx: &mut Tx<'_>,
    (tenant, id): (TenantId, ScheduleId),
    context: &ChangeContext<'_>,
    apply: impl FnOnce(&ScheduleDraft) -> Result<(ScheduleDraft, Option<SealedSecret>), E>,
) -> Result<Option<Result<Schedule, E>>> {
    let Some((old, now)) = settled(tx, tenant, id, context)? else {
        return Ok(None);
    };
    match apply(&old.draft) {
        Ok((draft, secret)) => update(tx, &old, draft, secret, now).map(|new| Some(Ok(new))),
        Err(refused) => Ok(Some(Err(refused))),
    }
}

fn update(
    tx: &mut Tx<'_>,
    old: &Schedule,
    draft: ScheduleDraft,
    secret: Option<SealedSecret>,
    now: Timestamp,
) -> Result<Schedule> {
    if let Some(secret) = secret {
        secrets::insert(tx, old.tenant, secret, now)?;
    }
    let begins = old.begins_anew(&draft);
    let cursor = if begins {
        draft.pattern.next_after(now)
    } else {
        old.next_fire_at
    };
    let since = if begins { now } else { old.pattern_since };
    tx.execute_one(
        "UPDATE schedules SET params = $3, cron_expr = $4, timezone = $5, launch = $6, callback_url = $7,
           callback_secret_id = $8, skip_callbacks = $9, enabled = $10, next_fire_at = $11, updated_at = $12,
           pattern_since = $13
         WHERE tenant_id = $1 AND id = $2",
        params![
            old.tenant,
            old.id,
            Json(&draft.params),
            draft.pattern.expr(),
            draft.pattern.zone(),
            Json(&draft.launch),
            draft.callback_url.clone(),
            draft.callback_secret,
            draft.skip_callbacks,
            draft.enabled,
            cursor,
            now,
            since,
        ],
    )?;
    Ok(Schedule {
        draft,
        next_fire_at: cursor,
        pattern_since: since,
        updated_at: now,
        ..old.clone()
    })
}

/// Removes a schedule, once what had come is accounted for; `false` where there is none. Its jobs and its ledger stay.
///
/// # Errors
/// What the engine refuses.
pub fn delete(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    id: ScheduleId,
    context: &ChangeContext<'_>,
) -> Result<bool> {
    if settled(tx, tenant, id, context)?.is_none() {
        return Ok(false);
    }
    let sql = "DELETE FROM schedules WHERE tenant_id = $1 AND id = $2";
    tx.execute_one(sql, params![tenant, id])?;
    Ok(true)
}
