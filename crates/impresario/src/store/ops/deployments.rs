//! Bundles, deployments, and the workflow names they hold.

mod builds;

use bytes::Bytes;
use jiff::Timestamp;

pub use self::builds::{
    begin_build, build_failed, building, built, expired, extend_build, reap, recover, release_build,
};
use crate::domain::{Deployment, DeploymentId, DeploymentStatus, TenantId, Workflow};
use crate::store::{
    error::Result,
    ops::{
        query::Query,
        quotas::{self, TooMuch},
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

/// Accepts a deployment: its archive is stored, its build is still to come. Where the tenant's quota has no room for it, it
/// says so and writes nothing.
///
/// # Errors
/// What the engine refuses.
pub fn accept(tx: &mut Tx<'_>, deployment: &Deployment, archive: Bytes) -> Result<Option<TooMuch>> {
    let bundle = (deployment.bundle.as_str(), archive.len() as u64);
    if let Some(too_much) = quotas::no_room_for_bundle(tx, deployment.tenant, bundle)? {
        return Ok(Some(too_much));
    }
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
    )?;
    Ok(None)
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
