//! Stored webhooks: where a tenant hears of its jobs and its schedules.

use jiff::Timestamp;

use super::{
    secrets::{self, SealedSecret},
    tenants,
};
use crate::domain::{EndpointId, TenantId};
use crate::store::{
    error::Result,
    tx::{Row, Tx, params},
    value::Json,
};

/// A stored webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Where callbacks are posted.
    pub url: String,
    /// For people.
    pub description: Option<String>,
    /// Whether it receives anything.
    pub active: bool,
    /// Which of the [`EVENTS`](crate::domain::EVENTS) it hears of.
    pub events: Vec<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// What is changed of a stored webhook; `None` leaves a field.
#[derive(Debug, Clone, Default)]
pub struct EndpointChange {
    /// Where callbacks are posted.
    pub url: Option<String>,
    /// For people; `Some(None)` clears it.
    pub description: Option<Option<String>>,
    /// Whether it receives anything.
    pub active: Option<bool>,
    /// Which events it hears of.
    pub events: Option<Vec<String>>,
    /// A new secret.
    pub secret: Option<SealedSecret>,
}

fn read(row: &Row<'_>) -> Result<Endpoint> {
    Ok(Endpoint {
        id: row.get("id")?,
        url: row.get("url")?,
        description: row.get("description")?,
        active: row.get("active")?,
        events: row.get::<Json<_>>("events")?.0,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

/// Adds a stored webhook with its secret; `false`, and nothing written, where the tenant has `most` already: each end
/// of a job is told to all of them.
///
/// # Errors
/// What the engine refuses.
pub fn create(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    (endpoint, secret): (Endpoint, SealedSecret),
    most: u32,
) -> Result<bool> {
    tenants::lock(tx, tenant)?;
    let sql = "SELECT COUNT(*) AS stored FROM webhook_endpoints WHERE tenant_id = $1";
    let stored: Option<u32> = tx.query_opt(sql, params![tenant], |row| row.get("stored"))?;
    if stored.unwrap_or(0) >= most {
        return Ok(false);
    }
    let secret_id = secret.id;
    secrets::insert(tx, tenant, secret, endpoint.created_at)?;
    tx.execute_one(
        "INSERT INTO webhook_endpoints (id, tenant_id, url, description, active, events, secret_id, created_at,
           updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)",
        params![
            endpoint.id,
            tenant,
            endpoint.url,
            endpoint.description,
            endpoint.active,
            Json(&endpoint.events),
            secret_id,
            endpoint.created_at
        ],
    )?;
    Ok(true)
}

/// All stored webhooks of a tenant, oldest first.
///
/// # Errors
/// What the engine refuses.
pub fn list(tx: &mut Tx<'_>, tenant: TenantId) -> Result<Vec<Endpoint>> {
    let sql = "SELECT id, url, description, active, events, created_at, updated_at FROM webhook_endpoints
               WHERE tenant_id = $1 ORDER BY created_at, id";
    tx.query(sql, params![tenant], read)
}

/// Changes a stored webhook; `false` where there is none.
///
/// # Errors
/// What the engine refuses.
pub fn update(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    id: EndpointId,
    change: EndpointChange,
    now: Timestamp,
) -> Result<bool> {
    tenants::lock(tx, tenant)?;
    let secret_id = change.secret.as_ref().map(|secret| secret.id);
    let known = "SELECT id FROM webhook_endpoints WHERE tenant_id = $1 AND id = $2";
    if tx
        .query_opt(known, params![tenant, id], |row| row.get::<EndpointId>("id"))?
        .is_none()
    {
        return Ok(false);
    }
    let EndpointChange {
        url,
        description,
        active,
        events,
        secret,
    } = &change;
    if url.is_none() && description.is_none() && active.is_none() && events.is_none() && secret.is_none() {
        return Ok(true);
    }
    if let Some(secret) = change.secret {
        secrets::insert(tx, tenant, secret, now)?;
    }
    let describe = change.description.is_some();
    tx.execute_one(
        "UPDATE webhook_endpoints SET url = COALESCE($3, url), active = COALESCE($4, active),
           secret_id = COALESCE($5, secret_id), description = CASE WHEN $6 = 1 THEN $7 ELSE description END,
           events = COALESCE($8, events), updated_at = $9
         WHERE tenant_id = $1 AND id = $2",
        params![
            tenant,
            id,
            change.url,
            change.active,
            secret_id,
            describe,
            change.description.flatten(),
            change.events.as_ref().map(Json),
            now
        ],
    )?;
    Ok(true)
}

/// Removes a stored webhook; `false` where there is none. What it is owed already is still sent.
///
/// # Errors
/// What the engine refuses.
pub fn delete(tx: &mut Tx<'_>, tenant: TenantId, id: EndpointId) -> Result<bool> {
    tenants::lock(tx, tenant)?;
    let sql = "DELETE FROM webhook_endpoints WHERE tenant_id = $1 AND id = $2";
    Ok(tx.execute(sql, params![tenant, id])? == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ops::fixture::{Db, at};

    #[test]
    fn a_tenant_has_so_many_and_no_more() {
        let db = Db::new();
        let (tenant, other) = (db.tenant(), db.tenant());
        let add = |tenant| {
            let (id, secret) = (db.id(), db.id());
            let endpoint = Endpoint {
                id,
                url: "https://a.example/".to_owned(),
                description: None,
                active: true,
                events: Vec::new(),
                created_at: at(0),
                updated_at: at(0),
            };
            let secret = SealedSecret {
                id: secret,
                sealed: vec![0],
            };
            (db.run(|tx| create(tx, tenant, (endpoint, secret), 2)), id)
        };
        let (_, first) = add(tenant);
        assert_eq!([add(tenant).0, add(tenant).0, add(other).0], [true, false, true]);
        assert_eq!(
            db.count("SELECT COUNT(*) FROM secrets"),
            3,
            "nothing of the third"
        );
        assert!(db.run(|tx| delete(tx, tenant, first)));
        assert!(add(tenant).0);
    }
}
