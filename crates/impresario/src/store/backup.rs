//! A copy of the embedded database in one file, whole or not there at all, made while a server may be writing to it.
//!
//! SQLite's online backup API copies the pages of one snapshot. In WAL mode a snapshot holds up no writer; what is written
//! meanwhile waits in the log until the copy is done. `VACUUM INTO` would do as well, but it builds every table and index
//! anew, which takes several times as long (and the log grows all that time), and it cannot copy a database of which
//! one row is damaged.

use std::{
    fs::{File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rusqlite::{
    Connection, ErrorCode, OpenFlags,
    backup::{Backup, StepResult},
};

use super::{
    directory,
    error::{Result, StoreError},
    ops::settings,
    sqlite::BUSY_TIMEOUT,
};
use crate::{clock::Clock, domain::rfc3339};

/// Pages copied in one go: 4 MiB.
const PAGES: i32 = 1024;

/// A finished copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The size of the file, in bytes.
    pub bytes: u64,
    /// The version of the schema in it: the program that reads it must know that version.
    pub schema: i64,
    /// The instant that it shows, or one just after: nothing later is in it.
    pub at: Timestamp,
}

/// Copies the database file `source` to the new file `target`. The copy, and only it, carries the mark of a backup (see
/// [`settings::mark_restored`]), so a server that is started on it settles first what may have happened since.
///
/// # Errors
/// Sentences that say what is in the way. `target` is then not there; a file that was there is left alone.
pub fn copy(source: &Path, target: &Path, clock: &dyn Clock) -> Result<Copied> {
    copy_while(source, target, clock, || {})
}

/// The same; `meanwhile` is called between the parts of the copy.
fn copy_while(source: &Path, target: &Path, clock: &dyn Clock, meanwhile: impl FnMut()) -> Result<Copied> {
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let Some(name) = target.file_name() else {
        return Err(StoreError::Open(format!(
            "{} is no name for a file",
            target.display()
        )));
    };
    if !folder.is_dir() {
        return Err(StoreError::Open(format!(
            "there is no directory {}",
            folder.display()
        )));
    }
    refuse_existing(target)?;
    if let Some(dir) = source.parent() {
        directory::refuse_network(dir)?;
    }
    let mut draft_name = name.to_owned();
    draft_name.push(format!(".{}.partial", std::process::id()));
    let draft = Draft::create(folder.join(draft_name))?;
    let mut copied = fill(source, &draft.path, clock, meanwhile)?;
    let synced = File::open(&draft.path).and_then(|file| {
        file.sync_all()?;
        file.metadata()
    });
    copied.bytes = synced.map_err(|error| failed(&draft.path, &error))?.len();
    draft.keep_as(target)?;
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| failed(folder, &error))?;
    Ok(copied)
}

fn refuse_existing(target: &Path) -> Result<()> {
    match target.symlink_metadata() {
        Ok(_) => Err(StoreError::Open(format!(
            "{} is there already, and a backup overwrites nothing: give it another name",
            target.display()
        ))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(target, &error)),
    }
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Open(format!("{}: {error}", path.display()))
}

/// The copy under its first name, which goes when it is not finished.
struct Draft {
    path: PathBuf,
}

impl Draft {
    /// An empty file for its owner alone: it will hold everything that the database does.
    fn create(path: PathBuf) -> Result<Self> {
        let created = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        created.map_err(|error| failed(&path, &error))?;
        Ok(Self { path })
    }

    /// Gives it its name, unless somebody has taken that meanwhile.
    fn keep_as(&self, target: &Path) -> Result<()> {
        // A second name, because a rename would overwrite. Where the file system has no such thing, a rename it is.
        match std::fs::hard_link(&self.path, target) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => refuse_existing(target),
            Err(_) => {
                refuse_existing(target)?;
                std::fs::rename(&self.path, target).map_err(|error| failed(target, &error))
            }
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        for suffix in ["", "-journal", "-wal", "-shm"] {
            let mut path = self.path.clone().into_os_string();
            path.push(suffix);
            // Most of them are not there.
            let _gone = std::fs::remove_file(path);
        }
    }
}

/// Copies, marks and checks.
fn fill(source: &Path, draft: &Path, clock: &dyn Clock, meanwhile: impl FnMut()) -> Result<Copied> {
    // As it is: neither made nor migrated here, so that a backup can be made just before a newer program is.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let from = Connection::open_with_flags(source, flags).map_err(|error| failed(source, &error))?;
    from.busy_timeout(BUSY_TIMEOUT)
        .map_err(|error| failed(source, &error))?;
    // Locks are of no use on a file that nobody else knows, and not every file system of a backup has them.
    let mut to = Connection::open_with_flags_and_vfs(draft, flags, c"unix-none")
        .map_err(|error| failed(draft, &error))?;
    // Its header says that it has a log; only a database that one connection has for itself can have one without locks.
    to.pragma_update(None, "locking_mode", "EXCLUSIVE")
        .map_err(|error| failed(draft, &error))?;
    let (schema, at) =
        copy_pages(&from, &mut to, clock, meanwhile).map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => failed(draft, &"no space is left for the backup"),
            Some(ErrorCode::NotADatabase) => failed(source, &"this is no database of this program"),
            _ => StoreError::Open(format!("{} to {}: {error}", source.display(), draft.display())),
        })?;
    let complete = mark_and_check(&to, at).map_err(|error| failed(draft, &error))?;
    if complete != "ok" {
        return Err(StoreError::Open(format!(
            "the copy of {} is damaged, most likely because the database is: {complete}",
            source.display()
        )));
    }
    to.close().map_err(|(_, error)| failed(draft, &error))?;
    Ok(Copied { bytes: 0, schema, at })
}

/// Copies the pages of one snapshot: the version of its schema, and its instant.
fn copy_pages(
    from: &Connection,
    to: &mut Connection,
    clock: &dyn Clock,
    mut meanwhile: impl FnMut(),
) -> rusqlite::Result<(i64, Timestamp)> {
    // Held to the end: without it each part would begin its own snapshot, and every commit in between the whole copy anew.
    let snapshot = from.unchecked_transaction()?;
    let newest = "SELECT COALESCE(MAX(version), 0) FROM schema_migrations";
    let schema = snapshot.query_row(newest, [], |row| row.get(0))?;
    // The snapshot stands since that look.
    let at = clock.now();
    let backup = Backup::new(&snapshot, to)?;
    loop {
        match backup.step(PAGES)? {
            StepResult::Done => break,
            _ => meanwhile(),
        }
    }
    drop(backup);
    snapshot.finish()?;
    Ok((schema, at))
}

/// Makes it one file that says that it is a backup; what `PRAGMA integrity_check` finds, `ok` where nothing.
fn mark_and_check(copy: &Connection, at: Timestamp) -> rusqlite::Result<String> {
    // No log beside it: the copy is the one file that is moved about.
    copy.pragma_update(None, "journal_mode", "DELETE")?;
    copy.execute(
        "INSERT INTO settings (name, value) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (settings::RESTORED_FROM, rfc3339(at)),
    )?;
    copy.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
}

#[cfg(test)]
mod tests;
