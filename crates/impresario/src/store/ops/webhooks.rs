//! Stored webhooks: where a tenant hears of its jobs and its schedules.

use jiff::{SignedDuration, Timestamp};

use super::{
    secrets::{self, SealedSecret},
    tenants,
};
use crate::domain::{EndpointId, SecretId, TenantId};
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
    /// How it fares.
    pub health: Health,
}

/// How a stored webhook fares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Since when every attempt has failed; `None` where the newest one did not.
    pub failing_since: Option<Timestamp>,
    /// When and why the server made it inactive.
    pub disabled: Option<(Timestamp, String)>,
    /// Until when secrets that it had before sign as well.
    pub old_secrets_until: Option<Timestamp>,
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
    /// A new secret, and until when the one before it signs as well; where that is no time ahead, none of those before does
    /// from now on.
    pub secret: Option<(SealedSecret, Timestamp)>,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointOutcome {
    /// It is made.
    Done,
    /// There is no such stored webhook.
    Unknown,
    /// So many secrets that it had before sign beside the one it has, and one more is refused.
    TooManySecrets(u32),
}

/// Each attempt is signed with all of them.
const MOST_OLD_SECRETS: u32 = 4;
/// How long a secret may sign beside the one that came after it.
pub const LONGEST_GRACE: SignedDuration = SignedDuration::from_hours(30 * 24);

fn read(row: &Row<'_>) -> Result<Endpoint> {
    let disabled: Option<Timestamp> = row.get("disabled_at")?;
    let reason: Option<String> = row.get("disabled_reason")?;
    Ok(Endpoint {
        id: row.get("id")?,
        url: row.get("url")?,
        description: row.get("description")?,
        active: row.get("active")?,
        events: row.get::<Json<_>>("events")?.0,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
        health: Health {
            failing_since: row.get("failing_since")?,
            disabled: disabled.zip(reason),
            old_secrets_until: row.get("old_secrets_until")?,
        },
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
pub fn list(tx: &mut Tx<'_>, tenant: TenantId, now: Timestamp) -> Result<Vec<Endpoint>> {
    let sql =
        "SELECT id, url, description, active, events, created_at, updated_at, failing_since, disabled_at,
                 disabled_reason,
                 (SELECT MAX(o.valid_until) FROM webhook_old_secrets o
                  WHERE o.webhook_endpoint_id = w.id AND o.valid_until > $2 AND o.valid_until <= $3)
                   AS old_secrets_until
               FROM webhook_endpoints w WHERE tenant_id = $1 ORDER BY created_at, id";
    tx.query(sql, params![tenant, now, latest_end(now)], read)
}

/// The secrets that sign what a stored webhook is sent: the one it has first, then those it had before that still do.
/// Empty where there is no such webhook.
///
/// # Errors
/// What the engine refuses.
pub fn signing(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    id: EndpointId,
    now: Timestamp,
) -> Result<Vec<SealedSecret>> {
    let sql = "SELECT s.id, s.sealed FROM (
                 SELECT secret_id, 1 AS newest, 0 AS until FROM webhook_endpoints WHERE id = $2
                 UNION ALL
                 SELECT secret_id, 0 AS newest, valid_until AS until FROM webhook_old_secrets
                 WHERE webhook_endpoint_id = $2 AND valid_until > $3 AND valid_until <= $4
                   AND EXISTS (SELECT 1 FROM webhook_endpoints WHERE id = $2)) k
               JOIN secrets s ON s.id = k.secret_id AND s.tenant_id = $1
               ORDER BY k.newest DESC, k.until DESC";
    tx.query(sql, params![tenant, id, now, latest_end(now)], |row| {
        Ok(SealedSecret {
            id: row.get("id")?,
            sealed: row.get("sealed")?,
        })
    })
}

/// Changes a stored webhook. One that is made active is so in good standing, as one at another URL is, and what was held back
/// for it is owed again.
///
/// # Errors
/// What the engine refuses.
pub fn update(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    id: EndpointId,
    change: EndpointChange,
    now: Timestamp,
) -> Result<EndpointOutcome> {
    tenants::lock(tx, tenant)?;
    let known = "SELECT secret_id FROM webhook_endpoints WHERE tenant_id = $1 AND id = $2";
    let before = tx.query_opt(known, params![tenant, id], |row| row.get::<SecretId>("secret_id"))?;
    let Some(before) = before else {
        return Ok(EndpointOutcome::Unknown);
    };
    let EndpointChange {
        url,
        description,
        active,
        events,
        secret,
    } = &change;
    if url.is_none() && description.is_none() && active.is_none() && events.is_none() && secret.is_none() {
        return Ok(EndpointOutcome::Done);
    }
    let mut secret_id = None;
    if let Some((secret, until)) = change.secret {
        if !retire(tx, (id, before), until, now)? {
            return Ok(EndpointOutcome::TooManySecrets(MOST_OLD_SECRETS));
        }
        secret_id = Some(secret.id);
        secrets::insert(tx, tenant, secret, now)?;
    }
    let describe = change.description.is_some();
    tx.execute_one(
        "UPDATE webhook_endpoints SET
           failing_since = CASE WHEN COALESCE($3, url) = url THEN failing_since END,
           last_failure_at = CASE WHEN COALESCE($3, url) = url THEN last_failure_at END,
           revision = revision + CASE WHEN COALESCE($3, url) = url THEN 0 ELSE 1 END,
           url = COALESCE($3, url), active = COALESCE($4, active),
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
    let follows = match change.active {
        Some(true) => {
            "resuming = 1, revision = revision + 1, failing_since = NULL, last_failure_at = NULL,
             disabled_at = NULL, disabled_reason = NULL"
        }
        Some(false) => "resuming = 0",
        None => return Ok(EndpointOutcome::Done),
    };
    let sql = format!("UPDATE webhook_endpoints SET {follows} WHERE id = $1");
    tx.execute_one(&sql, params![id])?;
    Ok(EndpointOutcome::Done)
}

/// Makes the secret `old` one that a webhook had before. `false`, where too many of those still sign.
fn retire(
    tx: &mut Tx<'_>,
    (id, old): (EndpointId, SecretId),
    until: Timestamp,
    now: Timestamp,
) -> Result<bool> {
    if until <= now {
        // Without a grace period there is none for those before either: their owner wants them out of use.
        let sql = "UPDATE webhook_old_secrets SET valid_until = $2 WHERE webhook_endpoint_id = $1 AND valid_until > $2";
        tx.execute(sql, params![id, now])?;
    } else {
        let sql = "SELECT COUNT(*) AS old FROM webhook_old_secrets WHERE webhook_endpoint_id = $1 AND valid_until > $2
                     AND valid_until <= $3";
        let count: Option<u32> =
            tx.query_opt(sql, params![id, now, latest_end(now)], |row| row.get("old"))?;
        if count.unwrap_or(0) >= MOST_OLD_SECRETS {
            return Ok(false);
        }
    }
    tx.execute_one(
        "INSERT INTO webhook_old_secrets (webhook_endpoint_id, secret_id, valid_until) VALUES ($1, $2, $3)",
        params![id, old, until.min(latest_end(now)).max(now)],
    )?;
    Ok(true)
}

/// No secret signs for longer beside the one that came after it. An end that lies further ahead was reckoned by a clock that
/// was wrong, and is over.
fn latest_end(now: Timestamp) -> Timestamp {
    now.checked_add(LONGEST_GRACE).unwrap_or(Timestamp::MAX)
}

/// Removes secrets that webhooks had before, whose time was over before an instant and that nothing was signed with that is
/// still kept: at most `limit`. How many.
///
/// # Errors
/// What the engine refuses.
pub fn forget_secrets(tx: &mut Tx<'_>, before: Timestamp, limit: u32) -> Result<u64> {
    let sql = format!(
        "SELECT o.webhook_endpoint_id, o.secret_id, s.tenant_id
         FROM webhook_old_secrets o JOIN secrets s ON s.id = o.secret_id
         WHERE o.valid_until < $1 AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.secret_id = o.secret_id)
         ORDER BY o.valid_until LIMIT $2{}",
        tx.dialect().claim()
    );
    let old = tx.query(&sql, params![before, limit], |row| {
        let id: EndpointId = row.get("webhook_endpoint_id")?;
        Ok((id, row.get("tenant_id")?, row.get::<SecretId>("secret_id")?))
    })?;
    for (endpoint, tenant, secret) in &old {
        let sql = "DELETE FROM webhook_old_secrets WHERE webhook_endpoint_id = $1 AND secret_id = $2";
        tx.execute_one(sql, params![*endpoint, *secret])?;
        secrets::remove(tx, *tenant, *secret)?;
    }
    Ok(old.len() as u64)
}

/// Removes a stored webhook; `false` where there is none. What it is owed is given up when its turn comes.
///
/// # Errors
/// What the engine refuses.
pub fn delete(tx: &mut Tx<'_>, tenant: TenantId, id: EndpointId, now: Timestamp) -> Result<bool> {
    tenants::lock(tx, tenant)?;
    let sql = "INSERT INTO webhook_old_secrets (webhook_endpoint_id, secret_id, valid_until)
               SELECT id, secret_id, $3 FROM webhook_endpoints WHERE tenant_id = $1 AND id = $2";
    tx.execute(sql, params![tenant, id, now])?;
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
                health: Health::default(),
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
        assert!(db.run(|tx| delete(tx, tenant, first, at(0))));
        assert!(add(tenant).0);
    }
}
