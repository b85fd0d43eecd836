//! Bundles, deployments, and the workflow names they hold.

use jiff::Timestamp;

use crate::domain::{
    Deployment, DeploymentId, DeploymentStatus, ExportedWorkflow, TenantId, Workflow, WorkflowId,
};
use crate::store::{
    error::Result,
    tx::{Row, Tx, params},
    value::Json,
};

const DEPLOYMENT: &str =
    "d.id AS deployment_id, d.tenant_id, d.bundle_sha256, d.entry_point, d.description, d.status,
    d.build_error, d.workflows, d.created_at AS deployment_created_at, d.built_at";

fn read(row: &Row<'_>) -> Result<Deployment> {
    let status: String = row.get("status")?;
    Ok(Deployment {
        id: row.get("deployment_id")?,
        tenant: row.get("tenant_id")?,
        bundle: row.get("bundle_sha256")?,
        entry_point: row.get("entry_point")?,
        description: row.get("description")?,
        status: DeploymentStatus::parse(&status).ok_or_else(|| row.corrupt("status", status))?,
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
pub fn accept(tx: &mut Tx<'_>, deployment: &Deployment, archive: Vec<u8>) -> Result<()> {
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

/// The oldest deployments that are still to be built, at most `limit`.
///
/// # Errors
/// What the engine refuses.
pub fn building(tx: &mut Tx<'_>, limit: u32) -> Result<Vec<Deployment>> {
    let sql = format!(
        "SELECT {DEPLOYMENT} FROM deployments d WHERE d.status = 'building' ORDER BY d.created_at, d.id LIMIT $1"
    );
    tx.query(&sql, params![limit], read)
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
/// gives an id to a name that was not deployed before.
///
/// # Errors
/// What the engine refuses.
pub fn built(
    tx: &mut Tx<'_>,
    deployment: &Deployment,
    workflows: &[ExportedWorkflow],
    (new_id, now): (impl Fn() -> WorkflowId, Timestamp),
) -> Result<()> {
    tx.execute_one(
        "UPDATE deployments SET status = 'ready', build_error = NULL, workflows = $2, built_at = $3
         WHERE id = $1 AND status = 'building'",
        params![deployment.id, Json(workflows), now],
    )?;
    for workflow in workflows {
        tx.execute(
            "INSERT INTO workflows (id, tenant_id, name, deployment_id, deployment_created_at, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $6)
             ON CONFLICT (tenant_id, name) DO UPDATE SET deployment_id = excluded.deployment_id,
               deployment_created_at = excluded.deployment_created_at, updated_at = excluded.updated_at
             WHERE excluded.deployment_created_at >= workflows.deployment_created_at",
            params![new_id(), deployment.tenant, &workflow.name, deployment.id, deployment.created_at, now],
        )?;
    }
    Ok(())
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

/// The newest deployments of a tenant, at most `limit`, perhaps only those that stand somewhere.
///
/// # Errors
/// What the engine refuses.
pub fn list(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    status: Option<DeploymentStatus>,
    limit: u32,
) -> Result<Vec<Deployment>> {
    let sql = format!(
        "SELECT {DEPLOYMENT} FROM deployments d WHERE d.tenant_id = $1 AND ($2 IS NULL OR d.status = $2)
         ORDER BY d.created_at DESC, d.id DESC LIMIT $3"
    );
    tx.query(
        &sql,
        params![tenant, status.map(DeploymentStatus::as_str), limit],
        read,
    )
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

fn workflows(tx: &mut Tx<'_>, tenant: TenantId, name: Option<&str>) -> Result<Vec<Workflow>> {
    let sql = format!(
        "SELECT w.id, w.name, w.created_at, w.updated_at, {DEPLOYMENT}
         FROM workflows w JOIN deployments d ON d.id = w.deployment_id
         WHERE w.tenant_id = $1 AND ($2 IS NULL OR w.name = $2) ORDER BY w.name"
    );
    tx.query(&sql, params![tenant, name], workflow)
}

/// All workflows of a tenant, by name.
///
/// # Errors
/// What the engine refuses.
pub fn list_workflows(tx: &mut Tx<'_>, tenant: TenantId) -> Result<Vec<Workflow>> {
    workflows(tx, tenant, None)
}

/// A workflow of this tenant.
///
/// # Errors
/// What the engine refuses.
pub fn get_workflow(tx: &mut Tx<'_>, tenant: TenantId, name: &str) -> Result<Option<Workflow>> {
    Ok(workflows(tx, tenant, Some(name))?.into_iter().next())
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
