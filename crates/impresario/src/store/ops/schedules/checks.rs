//! Which schedules' params are checked against a deployment, what was found, and whose do not fit.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::domain::{DeploymentId, ScheduleId, TenantId};
use crate::store::{
    Dialect, PageCursor,
    error::Result,
    tx::{Row, Tx, params},
    value::Json,
};

/// The params of a schedule, to be judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Unjudged {
    /// Whose they are.
    pub id: ScheduleId,
    /// Which of its params, counted.
    pub revision: i64,
    /// The params.
    pub params: Map<String, Value>,
}

/// What a check of a schedule's params has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The schedule.
    pub id: ScheduleId,
    /// The params that were judged: the verdict is void once there are others.
    pub revision: i64,
    /// What is wrong with them.
    pub error: Option<String>,
}

fn unjudged(row: &Row<'_>) -> Result<Unjudged> {
    Ok(Unjudged {
        id: row.get("id")?,
        revision: row.get("params_revision")?,
        params: row.get::<Json<_>>("params")?.0,
    })
}

/// The params of some schedules of a workflow, and where the next of them begin. A row that cannot be read is left
/// out: its fire says so.
///
/// # Errors
/// What the engine refuses.
pub fn params_page(
    tx: &mut Tx<'_>,
    (tenant, workflow): (TenantId, &str),
    after: Option<&PageCursor>,
    limit: u32,
) -> Result<(Vec<Unjudged>, Option<PageCursor>)> {
    let sql = "SELECT id, created_at, params, params_revision FROM schedules
               WHERE tenant_id = $1 AND workflow = $2 AND (created_at, id) > ($3, $4)
               ORDER BY created_at, id LIMIT $5";
    let (at, id) = after.map_or((i64::MIN, ""), |cursor| (cursor.at, &*cursor.id));
    let found = tx.query(sql, params![tenant, workflow, at, id, limit], |row| {
        let place = PageCursor {
            at: row.get("created_at")?,
            id: row.get("id")?,
        };
        Ok((place, unjudged(row)))
    })?;
    let full = found.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let next = found.last().map(|(place, _)| place.clone()).filter(|_| full);
    let readable = found.into_iter().filter_map(|(_, unjudged)| unjudged.ok());
    Ok((readable.collect(), next))
}

/// A schedule that is to be checked against the deployment that would run it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToCheck {
    /// Whose it is.
    pub tenant: TenantId,
    /// The deployment that its workflow belongs to.
    pub deployment: DeploymentId,
    /// The workflow's name.
    pub workflow: String,
    /// Its params.
    pub unjudged: Unjudged,
}

/// Of these schedules those that are there and can be read, and whose workflows are deployed.
///
/// # Errors
/// What the engine refuses.
pub fn to_check(tx: &mut Tx<'_>, ids: &[ScheduleId]) -> Result<Vec<ToCheck>> {
    let sql = format!(
        "SELECT s.id, s.params, s.params_revision, s.tenant_id, s.workflow, w.deployment_id
         FROM {} JOIN schedules s ON s.id = item.value
           JOIN workflows w ON w.tenant_id = s.tenant_id AND w.name = s.workflow
         ORDER BY s.id",
        tx.dialect().texts_of("$1")
    );
    let found = tx.query(&sql, params![Json(ids)], |row| {
        let read = || {
            Ok(ToCheck {
                tenant: row.get("tenant_id")?,
                deployment: row.get("deployment_id")?,
                workflow: row.get("workflow")?,
                unjudged: unjudged(row)?,
            })
        };
        Ok(read())
    })?;
    let readable = found.into_iter().filter_map(|found: Result<_>| found.ok());
    Ok(readable.collect())
}

/// Writes down what checks against the schemas of `against` have found: only on the params that were judged, and only
/// where the workflow belongs to that deployment.
///
/// # Errors
/// What the engine refuses.
pub fn note_params(tx: &mut Tx<'_>, against: DeploymentId, verdicts: &[Verdict]) -> Result<()> {
    if verdicts.is_empty() {
        return Ok(());
    }
    let found: Vec<_> = verdicts
        .iter()
        .map(|verdict| (verdict.id, verdict.revision, verdict.error.as_deref()))
        .collect();
    let sql = format!(
        "UPDATE schedules SET params_checked = $2, params_error = found.error
         FROM (SELECT item.value ->> 0 AS id, CAST(item.value ->> 1 AS BIGINT) AS revision, item.value ->> 2 AS error
               FROM {}) found
         WHERE schedules.id = found.id AND schedules.params_revision = found.revision
           AND EXISTS (SELECT 1 FROM workflows w WHERE w.tenant_id = schedules.tenant_id
             AND w.name = schedules.workflow AND w.deployment_id = $2)",
        tx.dialect().rows_of("$1")
    );
    tx.execute(&sql, params![Json(found), against]).map(|_| ())
}

/// Writes down that the workflow takes all params, where it belongs to the deployment `against`.
///
/// # Errors
/// What the engine refuses.
pub(in crate::store::ops) fn note_all_fit(
    tx: &mut Tx<'_>,
    against: DeploymentId,
    (tenant, workflow): (TenantId, &str),
) -> Result<()> {
    let sql = "UPDATE schedules SET params_checked = $1, params_error = NULL
               WHERE tenant_id = $2 AND workflow = $3
                 AND EXISTS (SELECT 1 FROM workflows w
                   WHERE w.tenant_id = $2 AND w.name = $3 AND w.deployment_id = $1)";
    tx.execute(sql, params![against, tenant, workflow]).map(|_| ())
}

/// A schedule whose params do not fit its workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfitSchedule {
    /// Its id.
    pub id: String,
    /// What people know it by.
    pub name: Option<String>,
    /// The workflow.
    pub workflow: String,
    /// What is wrong with the params.
    pub error: String,
}

/// The schedules whose params do not fit a deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unfit {
    /// How many they are.
    pub total: u64,
    /// The newest of them.
    pub newest: Vec<UnfitSchedule>,
}

/// A verdict counts as long as the workflow belongs to the deployment that it was about. The planner knows nothing of
/// how few they are, and would look at all schedules of the tenant.
fn of_the_unfit(dialect: Dialect) -> String {
    format!(
        "FROM schedules s {} WHERE s.tenant_id = $1 AND s.params_error IS NOT NULL
         AND EXISTS (SELECT 1 FROM workflows w
           WHERE w.tenant_id = s.tenant_id AND w.name = s.workflow AND w.deployment_id = s.params_checked)",
        dialect.by_index("schedules_unfit")
    )
}

/// The schedules whose params do not fit the workflows that belong to `deployment` now, at most `limit` by name.
///
/// # Errors
/// What the engine refuses.
pub fn unfit(tx: &mut Tx<'_>, tenant: TenantId, deployment: DeploymentId, limit: u32) -> Result<Unfit> {
    let total = unfit_totals(tx, tenant)?.remove(&deployment).unwrap_or(0);
    let sql = format!(
        "SELECT s.id, s.name, s.workflow, s.params_error {} AND s.params_checked = $2
         ORDER BY s.created_at DESC, s.id DESC LIMIT $3",
        of_the_unfit(tx.dialect())
    );
    let newest = tx.query(&sql, params![tenant, deployment, limit], |row| {
        Ok(UnfitSchedule {
            id: row.get("id")?,
            name: row.get("name")?,
            workflow: row.get("workflow")?,
            error: row.get("params_error")?,
        })
    })?;
    Ok(Unfit { total, newest })
}

/// How many schedules do not fit, of each deployment that has such.
///
/// # Errors
/// What the engine refuses.
pub fn unfit_totals(tx: &mut Tx<'_>, tenant: TenantId) -> Result<HashMap<DeploymentId, u64>> {
    let sql = format!(
        "SELECT s.params_checked AS deployment, COUNT(*) AS schedules {} GROUP BY s.params_checked",
        of_the_unfit(tx.dialect())
    );
    let totals = tx.query(&sql, params![tenant], |row| {
        Ok((row.get("deployment")?, row.get("schedules")?))
    })?;
    Ok(totals.into_iter().collect())
}

#[cfg(test)]
mod tests;
