//! Browser profiles: names that a tenant has asked for, each with an id that stays.

use jiff::Timestamp;

use super::tenants;
use crate::domain::{ProfileId, TenantId};
use crate::store::{
    error::Result,
    tx::{Tx, params},
};

/// What became of a request for a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnsureOutcome {
    /// It was made just now.
    Created(ProfileId),
    /// It was there.
    Known(ProfileId),
    /// It is not there, and the tenant has as many as there may be.
    TooMany,
}

/// The profile of this name; where there is none and the tenant has less than `most`, a new one with `id`.
///
/// # Errors
/// What the engine refuses.
pub fn ensure(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    (id, name): (ProfileId, &str),
    most: u32,
    now: Timestamp,
) -> Result<EnsureOutcome> {
    tenants::lock(tx, tenant)?;
    if let Some(known) = find(tx, tenant, name)? {
        return Ok(EnsureOutcome::Known(known));
    }
    let sql = "SELECT COUNT(*) AS profiles FROM browser_profiles WHERE tenant_id = $1";
    let profiles: Option<u32> = tx.query_opt(sql, params![tenant], |row| row.get("profiles"))?;
    if profiles.unwrap_or(0) >= most {
        return Ok(EnsureOutcome::TooMany);
    }
    tx.execute_one(
        "INSERT INTO browser_profiles (id, tenant_id, name, created_at) VALUES ($1, $2, $3, $4)",
        params![id, tenant, name, now],
    )?;
    Ok(EnsureOutcome::Created(id))
}

/// The profile of this name.
///
/// # Errors
/// What the engine refuses.
pub fn find(tx: &mut Tx<'_>, tenant: TenantId, name: &str) -> Result<Option<ProfileId>> {
    let sql = "SELECT id FROM browser_profiles WHERE tenant_id = $1 AND name = $2";
    tx.query_opt(sql, params![tenant, name], |row| row.get("id"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ops::fixture::{Db, at};

    #[test]
    fn a_name_keeps_its_profile_and_a_tenant_has_so_many() {
        let db = Db::new();
        let (tenant, other) = (db.tenant(), db.tenant());
        let ask = |tenant, name| {
            let id: ProfileId = db.id();
            (id, db.run(|tx| ensure(tx, tenant, (id, name), 2, at(0))))
        };
        let (first, made) = ask(tenant, "a");
        assert_eq!(made, EnsureOutcome::Created(first));
        assert_eq!(ask(tenant, "a").1, EnsureOutcome::Known(first));
        let (theirs, made) = ask(other, "a");
        assert_eq!(made, EnsureOutcome::Created(theirs));
        let (second, made) = ask(tenant, "A");
        assert_eq!(made, EnsureOutcome::Created(second));
        assert_eq!(ask(tenant, "b").1, EnsureOutcome::TooMany);
        assert_eq!(
            ask(tenant, "a").1,
            EnsureOutcome::Known(first),
            "what is there is there"
        );
    }
}
