//! The mark of a database whose rows have gone to another one. Two databases with the same schedules would both fire, so no
//! server starts on one that has the mark.
//!
//! It is made before the first row goes, says that it is done after the other database has committed, and is taken back where
//! that did not come to pass. So whenever the copy is cut off, a server on the old database is refused, and the same command
//! finds out by the copy's id what had become of it.

use serde::{Deserialize, Serialize};

use super::settings;
use crate::store::{
    error::Result,
    tx::{Tx, params},
    value::Json,
};

/// Its name among the settings.
pub(in crate::store) const MOVED_TO: &str = "moved_to";
/// In the other database: the id of the copy that it was filled by.
pub(in crate::store) const COPIED_BY: &str = "copied_by";
/// What stays behind: what is of one database and not of what is in it.
pub(in crate::store) const STAYS: &[&str] = &[
    MOVED_TO,
    COPIED_BY,
    settings::HOME,
    settings::INSTANCE,
    settings::WRITE_CHECK,
];

/// Where the rows of a database have gone, or are going.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The copy, for the case that it was cut off.
    pub copy: String,
    /// The other database, without a password.
    pub to: String,
    /// Whether all of it has arrived.
    pub done: bool,
}

impl Mark {
    /// Reads one. What cannot be read is a mark all the same.
    pub(in crate::store) fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|_| Self {
            copy: String::new(),
            to: "another database".to_owned(),
            done: true,
        })
    }

    /// Why no server may start on the database `shown`, and the way back.
    pub(in crate::store) fn refusal(&self, shown: &str, argument: &str) -> String {
        let to = &self.to;
        if self.done {
            format!(
                "what is in {shown} was copied to {to} and is served from there: two servers would both fire. To go back \
                 for good, stop what serves from there and run `impresario copy --undo --from {argument}`; what was \
                 written there since is not here"
            )
        } else {
            format!(
                "a copy of {shown} to {to} was cut off, and may have arrived: run the same `impresario copy` again, which \
                 ends it; or, if nothing was or will be served from there, `impresario copy --undo --from {argument}`"
            )
        }
    }
}

/// The mark, where there is one.
///
/// # Errors
/// What the engine refuses.
pub fn mark(tx: &mut Tx<'_>) -> Result<Option<Mark>> {
    let sql = "SELECT value FROM settings WHERE name = $1";
    let text = tx.query_opt(sql, params![MOVED_TO], |row| row.get::<String>("value"))?;
    Ok(text.map(|text| Mark::read(&text)))
}

/// Makes the mark, or makes another one of it.
///
/// # Errors
/// What the engine refuses.
pub fn set_mark(tx: &mut Tx<'_>, mark: &Mark) -> Result<()> {
    tx.execute_one(
        "INSERT INTO settings (name, value) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        params![MOVED_TO, Json(mark)],
    )
}

/// Takes the mark off.
///
/// # Errors
/// What the engine refuses.
pub fn take_mark_back(tx: &mut Tx<'_>) -> Result<()> {
    tx.execute("DELETE FROM settings WHERE name = $1", params![MOVED_TO])
        .map(|_| ())
}
