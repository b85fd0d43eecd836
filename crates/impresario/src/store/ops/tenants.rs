//! Tenants, and what they have set for themselves.

use jiff::Timestamp;

use super::lock;
use crate::domain::TenantId;
use crate::store::{
    error::Result,
    tx::{Row, Tx, params},
};

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its name, unique.
    pub name: String,
    /// When it was created.
    pub created_at: Timestamp,
}

fn tenant(row: &Row<'_>) -> Result<Tenant> {
    Ok(Tenant {
        id: row.get("id")?,
        name: row.get("name")?,
        created_at: row.get("created_at")?,
    })
}

/// Keeps other operations that lock the tenant waiting until this one has ended: for what is counted in all that a tenant
/// has.
pub(super) fn lock(tx: &mut Tx<'_>, tenant: TenantId) -> Result<()> {
    lock::rows(tx, "tenants WHERE id = $1", params![tenant])
}

/// Adds a tenant; `false` where the name is taken.
///
/// # Errors
/// What the engine refuses.
pub fn create(tx: &mut Tx<'_>, tenant: Tenant) -> Result<bool> {
    let sql = "INSERT INTO tenants (id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING";
    Ok(tx.execute(sql, params![tenant.id, tenant.name, tenant.created_at])? == 1)
}

/// All tenants, by name.
///
/// # Errors
/// What the engine refuses.
pub fn list(tx: &mut Tx<'_>) -> Result<Vec<Tenant>> {
    tx.query(
        "SELECT id, name, created_at FROM tenants ORDER BY name",
        &[],
        tenant,
    )
}

/// A tenant by its name or its id.
///
/// # Errors
/// What the engine refuses.
pub fn find(tx: &mut Tx<'_>, name_or_id: &str) -> Result<Option<Tenant>> {
    let sql = "SELECT id, name, created_at FROM tenants WHERE name = $1 OR id = $1 ORDER BY (name = $1) DESC";
    tx.query_opt(sql, params![name_or_id], tenant)
}

/// What a tenant has set for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantSettings {
    /// Whether its stored webhooks hear nothing of jobs that fail.
    pub disable_job_failure_notifications: bool,
}

/// The settings of a tenant.
///
/// # Errors
/// What the engine refuses.
pub fn settings(tx: &mut Tx<'_>, tenant: TenantId) -> Result<Option<TenantSettings>> {
    let sql = "SELECT disable_job_failure_notifications FROM tenants WHERE id = $1";
    tx.query_opt(sql, params![tenant], |row| {
        Ok(TenantSettings {
            disable_job_failure_notifications: row.get("disable_job_failure_notifications")?,
        })
    })
}

/// Says whether the stored webhooks of a tenant hear of jobs that fail, from the next that ends on.
///
/// # Errors
/// What the engine refuses.
pub fn disable_job_failure_notifications(tx: &mut Tx<'_>, tenant: TenantId, disable: bool) -> Result<()> {
    let sql = "UPDATE tenants SET disable_job_failure_notifications = $2 WHERE id = $1";
    tx.execute_one(sql, params![tenant, disable])
}
