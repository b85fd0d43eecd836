//! Bundles, deployments, and the workflow names they hold.

use std::collections::VecDeque;

use bytes::Bytes;
use jiff::Timestamp;

use crate::domain::{
    Deployment, DeploymentId, DeploymentStatus, ExportedWorkflow, TenantId, Workflow, WorkflowId,
};
use crate::store::{
    error::Result,
    ops::{
        fair::{self, Queue},
        query::Query,
        schedules::{self, Verdict},
    },
    tx::{Row, Tx, params},
    value::Json,
};

const DEPLOYMENT: &str =
    "d.id AS deployment_id, d.tenant_id, d.bundle_sha256, d.entry_point, d.description, d.status,
    d.build_error, d.workflows, d.created_at AS deployment_created_at, d.built_at";

fn status(row: &Row<'_>) -> Result<DeploymentStatus> {
    let status: String = row.get("status")?;
    DeploymentStatus::parse(&status).ok_or_else(|| row.corrupt("status", status))
}

fn read(row: &Row<'_>) -> Result<Deployment> {
    Ok(Deployment {
        id: row.get("deployment_id")?,
        tenant: row.get("tenant_id")?,
        bundle: row.get("bundle_sha256")?,
        entry_point: row.get("entry_point")?,
        description: row.get("description")?,
        status: status(row)?,
        build_error: row.get("build_error")?,
        workflows: row.get::<Option<Json<_>>>("workflows")?.map(|json| json.0),
        created_at: row.get("deployment_created_at")?,
        built_at: row.get("built_at")?,
    })
}

/// Accepts a deployment: its archive is stored, its build is still to come.
///
/// # Errors
/// What the engine refuses.
pub fn accept(tx: &mut Tx<'_>, deployment: &Deployment, archive: Bytes) -> Result<()> {
    tx.execute(
        "INSERT INTO bundles (sha256, archive, created_at) VALUES ($1, $2, $3) ON CONFLICT (sha256) DO NOTHING",
        params![&deployment.bundle, archive, deployment.created_at],
    )?;
    tx.execute_one(
        "INSERT INTO deployments (id, tenant_id, bundle_sha256, entry_point, description, status, created_at)
         VALUES ($1, $2, $3, $4, $5, 'building', $6)",
        params![
            deployment.id,
            deployment.tenant,
            &deployment.bundle,
            &deployment.entry_point,
            deployment.description.clone(),
            deployment.created_at,
        ],
    )
}

/// The deployments whose builds start next, at most `places`, beside those that are `active`: each place goes to the
/// tenant with the fewest active, and to what it deployed first.
///
/// # Errors
/// What the engine refuses.
pub fn building(tx: &mut Tx<'_>, active: &[DeploymentId], places: usize) -> Result<Vec<Deployment>> {
    let sql = format!(
        "{} SELECT tenant_id FROM waiting WHERE tenant_id IS NOT NULL",
        fair::waiting("deployments", "status = 'building'")
    );
    let tenants = tx.query(&sql, &[], |row| row.get::<String>("tenant_id"))?;
    let sql = "SELECT number, id FROM deployments WHERE status = 'building' AND tenant_id = $1
               ORDER BY number LIMIT $2";
    let queue = |tenant: String| {
        // All of its active ones may stand before the first that waits.
        let most = active.len() + places;
        let all = tx.query(sql, params![tenant, most], |row| {
            Ok((row.get::<i64>("number")?, row.get::<DeploymentId>("id")?))
        })?;
        let waiting: VecDeque<_> = all
            .iter()
            .filter(|(_, id)| !active.contains(id))
            .copied()
            .collect();
        Ok(Queue {
            held: all.len() - waiting.len(),
            waiting,
        })
    };
    let queues = tenants.into_iter().map(queue).collect::<Result<Vec<_>>>()?;
    let sql = format!("SELECT {DEPLOYMENT} FROM deployments d WHERE d.id = $1");
    let mut next = Vec::new();
    for (_, id) in fair::deal(queues, places, |(number, _)| *number) {
        next.extend(tx.query_opt(&sql, params![id], read)?);
    }
    Ok(next)
}

/// Counts a build that begins: how many have by now. `None` where it is built already.
///
/// # Errors
/// What the engine refuses.
pub fn begin_build(tx: &mut Tx<'_>, id: DeploymentId) -> Result<Option<u32>> {
    let sql =
        "UPDATE deployments SET build_attempts = build_attempts + 1 WHERE id = $1 AND status = 'building'";
    if tx.execute(sql, params![id])? == 0 {
        return Ok(None);
    }
    tx.query_opt(
        "SELECT build_attempts FROM deployments WHERE id = $1",
        params![id],
        |row| row.get("build_attempts"),
    )
}

/// The archive a deployment was made from.
///
/// # Errors
/// What the engine refuses.
pub fn archive(tx: &mut Tx<'_>, id: DeploymentId) -> Result<Option<Vec<u8>>> {
    let sql =
        "SELECT b.archive FROM deployments d JOIN bundles b ON b.sha256 = d.bundle_sha256 WHERE d.id = $1";
    tx.query_opt(sql, params![id], |row| row.get("archive"))
}

/// Notes that a build went well and moves the names it exports to this deployment, unless a newer one has them. `new_id`
/// gives an id to a name that was not deployed before. Along with a name go the `verdicts` on its schedules' params:
/// whoever sees the new version sees whom it does not suit.
///
/// # Errors
/// What the engine refuses.
pub fn built(
    tx: &mut Tx<'_>,
    deployment: &Deployment,
    (workflows, verdicts): (&[ExportedWorkflow], &[Verdict]),
    (new_id, now): (impl Fn() -> WorkflowId, Timestamp),
) -> Result<()> {
    let names: Vec<&str> = workflows.iter().map(|workflow| workflow.name.as_str()).collect();
    tx.execute_one(
        "UPDATE deployments SET status = 'ready', build_error = NULL, workflows = $2, workflow_names = $3, built_at = $4
         WHERE id = $1 AND status = 'building'",
        params![deployment.id, Json(workflows), Json(&names), now],
    )?;
    for name in names {
        tx.execute(
            "INSERT INTO workflows (id, tenant_id, name, deployment_id, deployment_number, created_at, updated_at)
             SELECT $1, d.tenant_id, $2, d.id, d.number, $3, $3 FROM deployments d WHERE d.id = $4
             ON CONFLICT (tenant_id, name) DO UPDATE SET deployment_id = excluded.deployment_id,
               deployment_number = excluded.deployment_number, updated_at = excluded.updated_at
             WHERE excluded.deployment_number >= workflows.deployment_number",
            params![new_id(), name, now, deployment.id],
        )?;
    }
    for workflow in workflows
        .iter()
        .filter(|workflow| workflow.launch.input_schema.is_none())
    {
        schedules::note_all_fit(tx, deployment.id, (deployment.tenant, &workflow.name))?;
    }
    schedules::note_params(tx, deployment.id, verdicts)
}

/// Notes that a build failed, and why.
///
/// # Errors
/// What the engine refuses.
pub fn build_failed(tx: &mut Tx<'_>, id: DeploymentId, error: &str) -> Result<()> {
    tx.execute_one(
        "UPDATE deployments SET status = 'failed', build_error = $2 WHERE id = $1 AND status = 'building'",
        params![id, error],
    )
}

/// A deployment of this tenant.
///
/// # Errors
/// What the engine refuses.
pub fn get(tx: &mut Tx<'_>, tenant: TenantId, id: DeploymentId) -> Result<Option<Deployment>> {
    let sql = format!("SELECT {DEPLOYMENT} FROM deployments d WHERE d.tenant_id = $1 AND d.id = $2");
    tx.query_opt(&sql, params![tenant, id], read)
}

/// A deployment as its owner sees it: of its workflows only the names, because the schemas may be megabytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentSummary {
    /// Its id.
    pub id: DeploymentId,
    /// The SHA-256 of its archive, hexadecimal.
    pub bundle: String,
    /// The module that is loaded.
    pub entry_point: String,
    /// For people.
    pub description: Option<String>,
    /// Where it stands.
    pub status: DeploymentStatus,
    /// Why it failed.
    pub build_error: Option<String>,
    /// The names of what it exports, once it is ready.
    pub workflows: Option<Vec<String>>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it was ready.
    pub built_at: Option<Timestamp>,
}

const SUMMARY: &str =
    "SELECT id, bundle_sha256, entry_point, description, status, build_error, workflow_names,
    created_at, built_at FROM deployments WHERE tenant_id = ?";

fn summary(row: &Row<'_>) -> Result<DeploymentSummary> {
    Ok(DeploymentSummary {
        id: row.get("id")?,
        bundle: row.get("bundle_sha256")?,
        entry_point: row.get("entry_point")?,
        description: row.get("description")?,
        status: status(row)?,
        build_error: row.get("build_error")?,
        workflows: row.get::<Option<Json<_>>>("workflow_names")?.map(|json| json.0),
        created_at: row.get("created_at")?,
        built_at: row.get("built_at")?,
    })
}

/// A deployment of this tenant, as its owner sees it.
///
/// # Errors
/// What the engine refuses.
pub fn find(tx: &mut Tx<'_>, tenant: TenantId, id: DeploymentId) -> Result<Option<DeploymentSummary>> {
    let query = Query::new(SUMMARY, [tenant.into()]);
    let found = query.run(tx, ("AND id = ?", [id.into()]), summary)?;
    Ok(found.into_iter().next())
}

/// The deployments of a tenant that were accepted last, at most `limit`, perhaps only those that stand somewhere.
///
/// # Errors
/// What the engine refuses.
pub fn list(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    status: Option<DeploymentStatus>,
    limit: u32,
) -> Result<Vec<DeploymentSummary>> {
    Query::new(SUMMARY, [tenant.into()])
        .and("status = ?", status.map(|status| [status.as_str().into()]))
        .run(tx, ("ORDER BY number DESC LIMIT ?", [limit.into()]), summary)
}

fn workflow(row: &Row<'_>) -> Result<Workflow> {
    Ok(Workflow {
        id: row.get("id")?,
        name: row.get("name")?,
        deployment: read(row)?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

/// A workflow in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowSummary {
    /// Its name, unique within the tenant.
    pub name: String,
    /// The newest ready deployment that exports it.
    pub deployment: DeploymentId,
    /// Where that stands.
    pub status: DeploymentStatus,
    /// When the name was first deployed.
    pub created_at: Timestamp,
    /// When it last moved to another deployment.
    pub updated_at: Timestamp,
}

/// All workflows of a tenant, by name.
///
/// # Errors
/// What the engine refuses.
pub fn list_workflows(tx: &mut Tx<'_>, tenant: TenantId) -> Result<Vec<WorkflowSummary>> {
    let sql = "SELECT w.name, w.deployment_id, d.status, w.created_at, w.updated_at
               FROM workflows w JOIN deployments d ON d.id = w.deployment_id
               WHERE w.tenant_id = $1 ORDER BY w.name";
    tx.query(sql, params![tenant], |row| {
        Ok(WorkflowSummary {
            name: row.get("name")?,
            deployment: row.get("deployment_id")?,
            status: status(row)?,
            created_at: row.get("created_at")?,
            updated_at: row.get("updated_at")?,
        })
    })
}

/// Names of a tenant's workflows, at most `limit`: what a suggestion is looked for in.
///
/// # Errors
/// What the engine refuses.
pub fn workflow_names(tx: &mut Tx<'_>, tenant: TenantId, limit: u32) -> Result<Vec<String>> {
    let sql = "SELECT name FROM workflows WHERE tenant_id = $1 ORDER BY name LIMIT $2";
    tx.query(sql, params![tenant, limit], |row| row.get("name"))
}

/// A workflow of this tenant.
///
/// # Errors
/// What the engine refuses.
pub fn get_workflow(tx: &mut Tx<'_>, tenant: TenantId, name: &str) -> Result<Option<Workflow>> {
    let sql = format!(
        "SELECT w.id, w.name, w.created_at, w.updated_at, {DEPLOYMENT}
         FROM workflows w JOIN deployments d ON d.id = w.deployment_id WHERE w.tenant_id = $1 AND w.name = $2"
    );
    tx.query_opt(&sql, params![tenant, name], workflow)
}

/// Removes a workflow's name; `false` where there is none. Its schedules stay and say so when they fire.
///
/// # Errors
/// What the engine refuses.
pub fn delete_workflow(tx: &mut Tx<'_>, tenant: TenantId, name: &str) -> Result<bool> {
    Ok(tx.execute(
        "DELETE FROM workflows WHERE tenant_id = $1 AND name = $2",
        params![tenant, name],
    )? == 1)
}

#[cfg(test)]
mod tests;
