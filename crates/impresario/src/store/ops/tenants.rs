//! Tenants and their API keys.

use jiff::Timestamp;

use super::lock;
use crate::domain::{KeyId, TenantId};
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

/// A key to be stored: its hash, never the key.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// The row's id.
    pub id: KeyId,
    /// Whose it is.
    pub tenant: TenantId,
    /// By which it is looked up.
    pub public_id: String,
    /// SHA-256 of the whole key.
    pub hash: [u8; 32],
    /// For people.
    pub label: String,
    /// The key's first characters, for lists.
    pub start: String,
}

/// What a key is checked against.
#[derive(Debug, Clone)]
pub struct StoredApiKey {
    /// Whose it is.
    pub tenant: TenantId,
    /// SHA-256 of the whole key.
    pub hash: Vec<u8>,
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

/// Adds a key.
///
/// # Errors
/// What the engine refuses.
pub fn add_key(tx: &mut Tx<'_>, key: NewApiKey, now: Timestamp) -> Result<()> {
    tx.execute_one(
        "INSERT INTO api_keys (id, tenant_id, public_id, hash, label, start, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        params![
            key.id,
            key.tenant,
            key.public_id,
            key.hash.to_vec(),
            key.label,
            key.start,
            now
        ],
    )
}

/// The key with this public id, unless it was revoked.
///
/// # Errors
/// What the engine refuses.
pub fn live_key(tx: &mut Tx<'_>, public_id: &str) -> Result<Option<StoredApiKey>> {
    tx.query_opt(
        "SELECT tenant_id, hash FROM api_keys WHERE public_id = $1 AND revoked_at IS NULL",
        params![public_id],
        |row| {
            Ok(StoredApiKey {
                tenant: row.get("tenant_id")?,
                hash: row.get("hash")?,
            })
        },
    )
}
