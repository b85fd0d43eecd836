//! A tenant's API keys: made, looked up by each request, listed, revoked. Revoked ones stay, so that a list can say when a
//! key was there and when it was last used.

use jiff::{SignedDuration, Timestamp};

use super::tenants;
use crate::domain::{KeyId, TenantId};
use crate::store::{
    error::Result,
    tx::{Row, Tx, params},
};

/// How many live keys a tenant may have.
pub const MOST_LIVE: u32 = 100;
/// How many keys that open nothing any more a list shows, the newest.
const MOST_DEAD_SHOWN: u32 = 400;

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
    /// From when on it opens nothing; never, where there is none.
    pub expires_at: Option<Timestamp>,
}

/// What a key is checked against.
#[derive(Debug, Clone)]
pub struct StoredApiKey {
    /// The row's id.
    pub id: KeyId,
    /// Whose it is.
    pub tenant: TenantId,
    /// SHA-256 of the whole key.
    pub hash: Vec<u8>,
    /// When it was last used, as far as that was written down.
    pub last_used_at: Option<Timestamp>,
}

/// Whether a key opens anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It does.
    Live,
    /// Its time is over.
    Expired,
    /// Somebody took it back.
    Revoked,
}

impl KeyState {
    /// One word for lists.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// A key in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedApiKey {
    /// The row's id.
    pub id: KeyId,
    /// The key's first characters.
    pub start: String,
    /// For people.
    pub label: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last used, exact to a minute.
    pub last_used_at: Option<Timestamp>,
    /// From when on it opens nothing; never, where there is none.
    pub expires_at: Option<Timestamp>,
    /// Whether it opens anything now.
    pub state: KeyState,
}

fn listed(row: &Row<'_>, now: Timestamp) -> Result<ListedApiKey> {
    let expires_at: Option<Timestamp> = row.get("expires_at")?;
    let revoked_at: Option<Timestamp> = row.get("revoked_at")?;
    Ok(ListedApiKey {
        id: row.get("id")?,
        start: row.get("start")?,
        label: row.get("label")?,
        created_at: row.get("created_at")?,
        last_used_at: row.get("last_used_at")?,
        expires_at,
        state: match (revoked_at, expires_at) {
            (Some(_), _) => KeyState::Revoked,
            (None, Some(end)) if end <= now => KeyState::Expired,
            (None, _) => KeyState::Live,
        },
    })
}

/// Adds a key; `false`, and nothing written, where the tenant has [`MOST_LIVE`] live ones.
///
/// # Errors
/// What the engine refuses.
pub fn add(tx: &mut Tx<'_>, key: NewApiKey, now: Timestamp) -> Result<bool> {
    tenants::lock(tx, key.tenant)?;
    let sql = "SELECT COUNT(*) AS live FROM api_keys
               WHERE tenant_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)";
    let live: Option<u32> = tx.query_opt(sql, params![key.tenant, now], |row| row.get("live"))?;
    if live.unwrap_or(0) >= MOST_LIVE {
        return Ok(false);
    }
    tx.execute_one(
        "INSERT INTO api_keys (id, tenant_id, public_id, hash, label, start, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        params![
            key.id,
            key.tenant,
            key.public_id,
            key.hash.to_vec(),
            key.label,
            key.start,
            now,
            key.expires_at
        ],
    )?;
    Ok(true)
}

/// The key with this public id, unless it was revoked or has expired.
///
/// # Errors
/// What the engine refuses.
pub fn live(tx: &mut Tx<'_>, public_id: &str, now: Timestamp) -> Result<Option<StoredApiKey>> {
    tx.query_opt(
        "SELECT id, tenant_id, hash, last_used_at FROM api_keys
         WHERE public_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)",
        params![public_id, now],
        |row| {
            Ok(StoredApiKey {
                id: row.get("id")?,
                tenant: row.get("tenant_id")?,
                hash: row.get("hash")?,
                last_used_at: row.get("last_used_at")?,
            })
        },
    )
}

/// Writes down that a key was used.
///
/// # Errors
/// What the engine refuses.
pub fn used(tx: &mut Tx<'_>, id: KeyId, now: Timestamp) -> Result<()> {
    tx.execute_one(
        "UPDATE api_keys SET last_used_at = $2 WHERE id = $1",
        params![id, now],
    )
}

/// The keys of a tenant, newest first: all that are live, and the newest of the others.
///
/// # Errors
/// What the engine refuses.
pub fn list(tx: &mut Tx<'_>, tenant: TenantId, now: Timestamp) -> Result<Vec<ListedApiKey>> {
    let mut keys = Vec::new();
    for (live, most) in [("", MOST_LIVE), ("NOT ", MOST_DEAD_SHOWN)] {
        let sql = format!(
            "SELECT id, start, label, created_at, last_used_at, expires_at, revoked_at FROM api_keys
             WHERE tenant_id = $1 AND {live}(revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2))
             ORDER BY created_at DESC, id DESC LIMIT $3"
        );
        keys.extend(tx.query(&sql, params![tenant, now, most], |row| listed(row, now))?);
    }
    keys.sort_by_key(|key| std::cmp::Reverse((key.created_at, key.id)));
    Ok(keys)
}

/// Which key is meant.
#[derive(Debug, Clone)]
pub enum KeyName {
    /// The one with this id.
    Id(KeyId),
    /// The one that begins like this: prefix and public digits, which are unique.
    Start(String),
}

/// What became of a request to revoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevokeOutcome {
    /// It opens nothing any more.
    Revoked(KeyId),
    /// It was revoked before.
    Already,
    /// The tenant has no such key.
    Unknown,
}

/// Takes a key of this tenant back: from the commit on no request with it gets through.
///
/// # Errors
/// What the engine refuses.
pub fn revoke(tx: &mut Tx<'_>, tenant: TenantId, name: &KeyName, now: Timestamp) -> Result<RevokeOutcome> {
    let (column, name) = match name {
        KeyName::Id(id) => ("id", id.to_string()),
        KeyName::Start(start) => ("start", start.clone()),
    };
    let sql = format!(
        "SELECT id, revoked_at FROM api_keys WHERE tenant_id = $1 AND {column} = $2{}",
        tx.dialect().lock()
    );
    let found = tx.query_opt(&sql, params![tenant, name], |row| {
        Ok((
            row.get::<KeyId>("id")?,
            row.get::<Option<Timestamp>>("revoked_at")?,
        ))
    })?;
    match found {
        None => Ok(RevokeOutcome::Unknown),
        Some((_, Some(_))) => Ok(RevokeOutcome::Already),
        Some((id, None)) => {
            let sql = "UPDATE api_keys SET revoked_at = $2 WHERE id = $1";
            tx.execute_one(sql, params![id, now])?;
            Ok(RevokeOutcome::Revoked(id))
        }
    }
}

/// How long a use of a key stands for those that follow: not every request is worth a write.
const EXACT_TO: SignedDuration = SignedDuration::from_mins(1);

/// Whether a use now says anything that the last one that was noted does not. One that lies far ahead is from a clock that was
/// wrong.
#[must_use]
pub fn is_news(last: Timestamp, now: Timestamp) -> bool {
    now.duration_since(last).abs() >= EXACT_TO
}

impl StoredApiKey {
    /// Whether its use now is worth writing down.
    #[must_use]
    pub fn is_use_news(&self, now: Timestamp) -> bool {
        self.last_used_at.is_none_or(|last| is_news(last, now))
    }
}

#[cfg(test)]
mod tests;
