//! Credentials: named secrets that workflows declare and get at run time.

use jiff::Timestamp;

use super::{
    error::Result,
    secrets::{self, SealedSecret},
    tx::{Row, Tx, params},
};
use crate::domain::{CredentialId, SecretId, TenantId};

/// A credential, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its id.
    pub id: CredentialId,
    /// Lower case, unique within the tenant.
    pub name: String,
    /// Its value's row.
    pub secret: SecretId,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its value or name last changed.
    pub updated_at: Timestamp,
}

fn read(row: &Row<'_>) -> Result<Credential> {
    Ok(Credential {
        id: row.get("id")?,
        name: row.get("name")?,
        secret: row.get("secret_id")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

/// Adds a credential; `false`, and nothing written, where the name is taken.
///
/// # Errors
/// What the engine refuses.
pub fn create(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    (id, name): (CredentialId, &str),
    secret: SealedSecret,
    now: Timestamp,
) -> Result<bool> {
    if by_name(tx, tenant, name)?.is_some() {
        return Ok(false);
    }
    let secret_id = secret.id;
    secrets::insert(tx, tenant, secret, now)?;
    tx.execute_one(
        "INSERT INTO credentials (id, tenant_id, name, secret_id, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)",
        params![id, tenant, name, secret_id, now],
    )?;
    Ok(true)
}

/// All credentials of a tenant, by name.
///
/// # Errors
/// What the engine refuses.
pub fn list(tx: &mut Tx<'_>, tenant: TenantId) -> Result<Vec<Credential>> {
    let sql = "SELECT id, name, secret_id, created_at, updated_at FROM credentials WHERE tenant_id = $1 ORDER BY name";
    tx.query(sql, params![tenant], read)
}

/// A credential by its name.
///
/// # Errors
/// What the engine refuses.
pub fn by_name(tx: &mut Tx<'_>, tenant: TenantId, name: &str) -> Result<Option<Credential>> {
    let sql = "SELECT id, name, secret_id, created_at, updated_at FROM credentials WHERE tenant_id = $1 AND name = $2";
    tx.query_opt(sql, params![tenant, name], read)
}

/// A credential by its id.
///
/// # Errors
/// What the engine refuses.
pub fn by_id(tx: &mut Tx<'_>, tenant: TenantId, id: CredentialId) -> Result<Option<Credential>> {
    let sql = "SELECT id, name, secret_id, created_at, updated_at FROM credentials WHERE tenant_id = $1 AND id = $2";
    tx.query_opt(sql, params![tenant, id], read)
}

/// Gives a credential a new value, a new name, or both. The caller has seen that it exists and the name is free.
///
/// # Errors
/// What the engine refuses.
pub fn update(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    id: CredentialId,
    (name, secret): (Option<String>, Option<SealedSecret>),
    now: Timestamp,
) -> Result<()> {
    let secret_id = secret.as_ref().map(|secret| secret.id);
    if let Some(secret) = secret {
        secrets::insert(tx, tenant, secret, now)?;
    }
    tx.execute_one(
        "UPDATE credentials SET name = COALESCE($3, name), secret_id = COALESCE($4, secret_id), updated_at = $5
         WHERE tenant_id = $1 AND id = $2",
        params![tenant, id, name, secret_id, now],
    )
}

/// Removes a credential; `false` where there is none.
///
/// # Errors
/// What the engine refuses.
pub fn delete(tx: &mut Tx<'_>, tenant: TenantId, id: CredentialId) -> Result<bool> {
    Ok(tx.execute("DELETE FROM credentials WHERE tenant_id = $1 AND id = $2", params![tenant, id])? == 1)
}
