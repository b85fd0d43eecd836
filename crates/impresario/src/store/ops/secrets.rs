//! Sealed secrets. What a row holds never changes: whoever holds an id keeps the value it was made with. Only the key that
//! it is sealed under may.

use jiff::Timestamp;

use crate::domain::{SecretId, TenantId};
use crate::store::{
    error::Result,
    tx::{Tx, params},
};

/// A secret that was sealed for its row.
#[derive(Debug, Clone)]
pub struct SealedSecret {
    /// The row's id, to which the ciphertext is bound.
    pub id: SecretId,
    /// The ciphertext.
    pub sealed: Vec<u8>,
}

/// Adds a secret.
///
/// # Errors
/// What the engine refuses.
pub fn insert(tx: &mut Tx<'_>, tenant: TenantId, secret: SealedSecret, now: Timestamp) -> Result<()> {
    tx.execute_one(
        "INSERT INTO secrets (id, tenant_id, sealed, created_at) VALUES ($1, $2, $3, $4)",
        params![secret.id, tenant, secret.sealed, now],
    )
}

/// The ciphertext of a secret.
///
/// # Errors
/// What the engine refuses.
pub fn get(tx: &mut Tx<'_>, tenant: TenantId, id: SecretId) -> Result<Option<Vec<u8>>> {
    tx.query_opt(
        "SELECT sealed FROM secrets WHERE tenant_id = $1 AND id = $2",
        params![tenant, id],
        |row| row.get("sealed"),
    )
}

/// Removes a secret that nothing refers to any more.
///
/// # Errors
/// What the engine refuses: where something still does, or there is none.
pub(super) fn remove(tx: &mut Tx<'_>, tenant: TenantId, id: SecretId) -> Result<()> {
    tx.execute_one(
        "DELETE FROM secrets WHERE tenant_id = $1 AND id = $2",
        params![tenant, id],
    )
}

/// How a secret begins: the version of its form and the id of its key; and how many begin like this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    /// The first bytes of the ciphertext.
    pub bytes: Vec<u8>,
    /// How many secrets begin with them.
    pub secrets: u64,
}

/// What the secrets of all tenants begin with. Looks at each of them.
///
/// # Errors
/// What the engine refuses.
pub fn headings(tx: &mut Tx<'_>) -> Result<Vec<Heading>> {
    let sql = "SELECT substr(sealed, 1, 5) AS bytes, COUNT(*) AS secrets FROM secrets GROUP BY substr(sealed, 1, 5)";
    tx.query(sql, &[], |row| {
        Ok(Heading {
            bytes: row.get("bytes")?,
            secrets: row.get("secrets")?,
        })
    })
}

/// A secret, whosever it is.
#[derive(Debug, Clone)]
pub struct StoredSecret {
    /// The row's id.
    pub id: SecretId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The ciphertext.
    pub sealed: Vec<u8>,
}

/// Secrets in the order of their ids, at most `limit`, perhaps only those after one.
///
/// # Errors
/// What the engine refuses.
pub fn page(tx: &mut Tx<'_>, after: Option<SecretId>, limit: u32) -> Result<Vec<StoredSecret>> {
    let after = after.map(|id| id.to_string()).unwrap_or_default();
    let sql = "SELECT id, tenant_id, sealed FROM secrets WHERE id > $1 ORDER BY id LIMIT $2";
    tx.query(sql, params![after, limit], |row| {
        Ok(StoredSecret {
            id: row.get("id")?,
            tenant: row.get("tenant_id")?,
            sealed: row.get("sealed")?,
        })
    })
}

/// Puts another ciphertext of the same secret in the place of the one that was read; `false` where that is not there any
/// more.
///
/// # Errors
/// What the engine refuses.
pub fn reseal(tx: &mut Tx<'_>, read: &StoredSecret, sealed: &[u8]) -> Result<bool> {
    let sql = "UPDATE secrets SET sealed = $3 WHERE id = $1 AND sealed = $2";
    Ok(tx.execute(sql, params![read.id, read.sealed.clone(), sealed.to_vec()])? == 1)
}
