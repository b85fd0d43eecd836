//! Secrets on their way into the store and out of it: sealed for the row they stand in, opened only where they are
//! used.

use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use crate::{
    domain::{SecretId, TenantId},
    ids::Ids,
    secrets::{Cell, Keyring, OpenError},
    store::ops::secrets::SealedSecret,
};

/// Seals `plain` as a new row `id` of the tenant's secrets.
#[must_use]
pub fn seal(keyring: &Keyring, ids: &Ids, tenant: TenantId, id: Uuid, plain: &str) -> SealedSecret {
    let (tenant, row) = (tenant.to_string(), id.to_string());
    SealedSecret {
        id: SecretId(id),
        sealed: keyring.seal(ids, &cell(&tenant, &row), plain),
    }
}

/// Seals what was opened anew, for the same row: under the first key.
#[must_use]
pub fn seal_again(
    keyring: &Keyring,
    ids: &Ids,
    (tenant, id): (TenantId, Uuid),
    plain: &SecretString,
) -> Vec<u8> {
    seal(keyring, ids, tenant, id, plain.expose_secret()).sealed
}

/// Opens the tenant's secret of this row.
///
/// # Errors
/// Where it was sealed under a key that is not at hand, or is not what was sealed for this row.
pub fn open(
    keyring: &Keyring,
    tenant: TenantId,
    id: SecretId,
    sealed: &[u8],
) -> Result<SecretString, OpenError> {
    let (tenant, row) = (tenant.to_string(), id.to_string());
    keyring.open(&cell(&tenant, &row), sealed)
}

fn cell<'a>(tenant: &'a str, row: &'a str) -> Cell<'a> {
    Cell {
        tenant,
        table: "secrets",
        row,
        column: "sealed",
    }
}
