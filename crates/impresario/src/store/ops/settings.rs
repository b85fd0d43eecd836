//! What the database must know of the server on it: a few names, each with a value.

use jiff::Timestamp;

use crate::domain::rfc3339;
use crate::store::{
    error::Result,
    tx::{Tx, params},
};

const KEY_ID: &str = "secret_key_id";
pub(in crate::store) const INSTANCE: &str = "instance";
const TZDB_VERSION: &str = "tzdb_version";
/// Marks a database that was put back from a backup and is not settled yet: the instant of the backup.
pub(in crate::store) const RESTORED_FROM: &str = "restored_from";
/// Where the database was when a node last ran on it.
pub(in crate::store) const HOME: &str = "home";
pub(in crate::store) const WRITE_CHECK: &str = "write_check";

/// The value of a setting.
fn get(tx: &mut Tx<'_>, name: &str) -> Result<Option<String>> {
    tx.query_opt(
        "SELECT value FROM settings WHERE name = $1",
        params![name],
        |row| row.get("value"),
    )
}

fn set(tx: &mut Tx<'_>, name: &str, value: &str) -> Result<()> {
    tx.execute_one(
        "INSERT INTO settings (name, value) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        params![name, value],
    )
}

/// Whether the database is where it was when a node last ran on it; a new one is. Not where its tables were put back from
/// a dump: nobody can know what has fired elsewhere since.
///
/// # Errors
/// What the engine refuses.
pub fn is_at_home(tx: &mut Tx<'_>) -> Result<bool> {
    let Some(here) = here(tx)? else { return Ok(true) };
    tx.execute(
        "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
        params![HOME, &here],
    )?;
    Ok(get(tx, HOME)?.as_deref() == Some(&*here))
}

/// Writes down that the database is at home where it is now.
///
/// # Errors
/// What the engine refuses.
pub fn settle_down(tx: &mut Tx<'_>) -> Result<()> {
    match here(tx)? {
        Some(here) => set(tx, HOME, &here),
        None => Ok(()),
    }
}

/// Where the database is, if that can be told: a server may keep it to itself.
fn here(tx: &mut Tx<'_>) -> Result<Option<String>> {
    let Some(sql) = tx.dialect().home() else {
        return Ok(None);
    };
    match tx.isolated(|tx| tx.query_opt(sql, &[], |row| row.get("home")))? {
        Err(error) if !error.is_unavailable() => {
            tracing::debug!(%error, "where the database is cannot be told");
            Ok(None)
        }
        here => here,
    }
}

/// What the database says of the secret key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyState {
    /// The ids of the keys that no server may be without, once one has said it: of the one that the newest secrets are
    /// sealed under, and after it of those that older ones still are.
    pub recorded: Vec<String>,
    /// Whether anything is sealed at all.
    pub has_secrets: bool,
}

/// Which key the secrets need.
///
/// # Errors
/// What the engine refuses.
pub fn key_state(tx: &mut Tx<'_>) -> Result<KeyState> {
    let recorded = get(tx, KEY_ID)?.map(|ids| listed(&ids)).unwrap_or_default();
    let one = tx.query_opt("SELECT id FROM secrets LIMIT 1", &[], |_| Ok(()))?;
    Ok(KeyState {
        recorded,
        has_secrets: one.is_some(),
    })
}

/// What marked the processes of an embedded database's server before that was kept in a file beside it. Not in a database
/// that was put back from a backup: the server that the backup was made of may still run on this machine, and its runs are
/// none of the new one's business.
///
/// # Errors
/// What the engine refuses.
pub fn instance(tx: &mut Tx<'_>) -> Result<Option<String>> {
    match get(tx, RESTORED_FROM)? {
        Some(_) => Ok(None),
        None => get(tx, INSTANCE),
    }
}

fn listed(ids: &str) -> Vec<String> {
    ids.split(',').map(str::to_owned).collect()
}

/// Writes down the id of the key that secrets are sealed under, where none is on record; says which are. Of several
/// nodes that begin at once the first is right.
///
/// # Errors
/// What the engine refuses.
pub fn claim_key(tx: &mut Tx<'_>, key_id: &str) -> Result<Vec<String>> {
    tx.execute(
        "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
        params![KEY_ID, key_id],
    )?;
    Ok(get(tx, KEY_ID)?.map(|ids| listed(&ids)).unwrap_or_default())
}

/// Writes down the ids of the keys that no server may be without from now on: first the one that secrets are sealed under.
///
/// # Errors
/// What the engine refuses.
pub fn record_keys(tx: &mut Tx<'_>, key_ids: &[String]) -> Result<()> {
    set(tx, KEY_ID, &key_ids.join(","))
}

/// The version of the time zones' rules that the database was last used with.
///
/// # Errors
/// What the engine refuses.
pub fn tzdb_version(tx: &mut Tx<'_>) -> Result<Option<String>> {
    get(tx, TZDB_VERSION)
}

/// Writes down that the time zones' rules are those of `version` from now on.
///
/// # Errors
/// What the engine refuses.
pub fn record_tzdb_version(tx: &mut Tx<'_>, version: &str) -> Result<()> {
    set(tx, TZDB_VERSION, version)
}

/// The mark of a database that was put back from a backup and is not settled yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoredFrom {
    /// The instant of the backup, or up to which its settling has begun already; `None` where it cannot be read, which
    /// must not make the mark less of one.
    pub at: Option<Timestamp>,
}

/// Whether the database was put back from a backup.
///
/// # Errors
/// What the engine refuses.
pub fn restored_from(tx: &mut Tx<'_>) -> Result<Option<RestoredFrom>> {
    let mark = get(tx, RESTORED_FROM)?;
    Ok(mark.map(|text| RestoredFrom {
        at: text.parse().ok(),
    }))
}

/// Marks the database as put back from a backup of the instant `at`, or as settled up to it in part.
///
/// # Errors
/// What the engine refuses.
pub fn mark_restored(tx: &mut Tx<'_>, at: Timestamp) -> Result<()> {
    set(tx, RESTORED_FROM, &rfc3339(at))
}

/// Whether the database is marked still, once nobody else can settle it until this operation has ended: of several nodes
/// that begin at once another may have come to the end of it.
pub(super) fn is_marked_restored(tx: &mut Tx<'_>) -> Result<bool> {
    let sql = format!(
        "SELECT value FROM settings WHERE name = $1{}",
        tx.dialect().lock()
    );
    Ok(tx.query_opt(&sql, params![RESTORED_FROM], |_| Ok(()))?.is_some())
}

/// Takes the mark away: all is settled.
///
/// # Errors
/// What the engine refuses.
pub(super) fn unmark_restored(tx: &mut Tx<'_>) -> Result<()> {
    let sql = "DELETE FROM settings WHERE name = $1";
    tx.execute(sql, params![RESTORED_FROM]).map(|_| ())
}

/// The smallest write there is, to see whether one goes through. The engine writes the page although nothing changes.
///
/// # Errors
/// What the engine refuses.
pub fn check_write(tx: &mut Tx<'_>) -> Result<()> {
    set(tx, WRITE_CHECK, "ok")
}
