//! What the database must know of the server on it: a few names, each with a value.

use crate::store::{
    error::Result,
    tx::{Tx, params},
};

const KEY_ID: &str = "secret_key_id";
const INSTANCE: &str = "instance";
const TZDB_VERSION: &str = "tzdb_version";
const WRITE_CHECK: &str = "write_check";

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

/// What the database says of the secret key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyState {
    /// The id of the key that the newest secrets are sealed under, once a server has said it.
    pub recorded: Option<String>,
    /// Whether anything is sealed at all.
    pub has_secrets: bool,
}

/// Which key the secrets need.
///
/// # Errors
/// What the engine refuses.
pub fn key_state(tx: &mut Tx<'_>) -> Result<KeyState> {
    let recorded = get(tx, KEY_ID)?;
    let one = tx.query_opt("SELECT id FROM secrets LIMIT 1", &[], |_| Ok(()))?;
    Ok(KeyState {
        recorded,
        has_secrets: one.is_some(),
    })
}

/// What marked the processes of an embedded database's server before that was kept in a file beside it.
///
/// # Errors
/// What the engine refuses.
pub fn instance(tx: &mut Tx<'_>) -> Result<Option<String>> {
    get(tx, INSTANCE)
}

/// Writes down the id of the key that secrets are sealed under, where none is on record; says which one is. Of several
/// nodes that begin at once the first is right.
///
/// # Errors
/// What the engine refuses.
pub fn claim_key(tx: &mut Tx<'_>, key_id: &str) -> Result<Option<String>> {
    tx.execute(
        "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
        params![KEY_ID, key_id],
    )?;
    get(tx, KEY_ID)
}

/// Writes down the id of the key that secrets are sealed under from now on.
///
/// # Errors
/// What the engine refuses.
pub fn record_key(tx: &mut Tx<'_>, key_id: &str) -> Result<()> {
    set(tx, KEY_ID, key_id)
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

/// The smallest write there is, to see whether one goes through. The engine writes the page although nothing changes.
///
/// # Errors
/// What the engine refuses.
pub fn check_write(tx: &mut Tx<'_>) -> Result<()> {
    set(tx, WRITE_CHECK, "ok")
}
