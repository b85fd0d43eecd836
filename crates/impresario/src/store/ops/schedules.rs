//! Schedules, as their owners see and change them. Their fires are in `fires`.

use jiff::Timestamp;

use super::secrets::{self, SealedSecret};
use crate::domain::{Pattern, Schedule, ScheduleDraft, ScheduleId, TenantId};
use crate::store::{
    PageCursor,
    error::Result,
    tx::{Row, Tx, params},
    value::Json,
};

const COLUMNS: &str = "id, tenant_id, workflow, params, cron_expr, timezone, launch, callback_url, \
     callback_secret_id, skip_callbacks, enabled, next_fire_at, last_fire_at, last_job_id, last_error, \
     consecutive_failures, created_at, updated_at";

pub(super) fn read(row: &Row<'_>) -> Result<Schedule> {
    let (expr, zone): (String, String) = (row.get("cron_expr")?, row.get("timezone")?);
    let pattern =
        Pattern::parse(&expr, &zone).map_err(|error| row.corrupt("cron_expr", error.to_string()))?;
    Ok(Schedule {
        id: row.get("id")?,
        tenant: row.get("tenant_id")?,
        draft: ScheduleDraft {
            workflow: row.get("workflow")?,
            params: row.get::<Json<_>>("params")?.0,
            pattern,
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
        updated_at: now,
    };
    let draft = &schedule.draft;
    tx.execute_one(
        "INSERT INTO schedules (id, tenant_id, workflow, params, cron_expr, timezone, launch, callback_url,
           callback_secret_id, skip_callbacks, enabled, next_fire_at, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13)",
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

/// Writes the owner's changes, with a new callback secret if there is one, and puts the cursor where
/// [`Schedule::cursor_after_change`] says. `old` is what was read in this same transaction.
///
/// # Errors
/// What the engine refuses.
pub fn update(
    tx: &mut Tx<'_>,
    old: &Schedule,
    draft: ScheduleDraft,
    secret: Option<SealedSecret>,
    now: Timestamp,
) -> Result<Schedule> {
    if let Some(secret) = secret {
        secrets::insert(tx, old.tenant, secret, now)?;
    }
    let cursor = old.cursor_after_change(&draft, now);
    tx.execute_one(
        "UPDATE schedules SET params = $3, cron_expr = $4, timezone = $5, launch = $6, callback_url = $7,
           callback_secret_id = $8, skip_callbacks = $9, enabled = $10, next_fire_at = $11, updated_at = $12
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
        ],
    )?;
    Ok(Schedule {
        draft,
        next_fire_at: cursor,
        updated_at: now,
        ..old.clone()
    })
}

/// Removes a schedule; `false` where there is none. Its jobs and its ledger stay.
///
/// # Errors
/// What the engine refuses.
pub fn delete(tx: &mut Tx<'_>, tenant: TenantId, id: ScheduleId) -> Result<bool> {
    Ok(tx.execute(
        "DELETE FROM schedules WHERE tenant_id = $1 AND id = $2",
        params![tenant, id],
    )? == 1)
}
