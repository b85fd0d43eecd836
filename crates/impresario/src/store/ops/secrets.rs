//! Sealed secrets. Rows are never changed: whoever holds an id keeps the value it was made with.

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
