//! Everything in a database, copied to one of the other engine: from the embedded one to PostgreSQL, and back. What comes in:
//! two places. What goes out: a target with the same rows, and a source that no server starts on any more; or a sentence, and
//! both as they were.
//!
//! All rows go in one transaction, table by table, as a stream. Each table is read back before the commit and must have the
//! same rows. The source is marked first and the target commits after that (see [`moving`]): whenever it is cut off, there is
//! never a moment in which servers start on both.

mod digest;
mod end;
mod postgres;
mod shape;
mod source;
mod sqlite;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use self::{
    digest::Rows,
    end::{End, Opened},
    shape::Table,
    source::Source,
};
use super::{
    Target,
    error::{Result, StoreError},
    ops::moving::{self, Mark},
    value::Cell,
};
use crate::{clock::SharedClock, ids::Ids};

/// A database.
#[derive(Debug, Clone)]
pub enum Place {
    /// The embedded one in this data directory.
    Sqlite(PathBuf),
    /// One on PostgreSQL.
    Postgres(Box<Target>),
}

impl Place {
    /// It in messages, without a password.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Sqlite(dir) => format!("sqlite:{}", dir.display()),
            Self::Postgres(target) => target.shown(),
        }
    }
}

/// What is told of a copy while it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The table.
    pub table: String,
    /// How many rows of it have gone over.
    pub rows: u64,
    /// Whether these are all, and are the same on both sides.
    pub done: bool,
}

/// A copy that has arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copied {
    /// The tables, and the rows in all of them.
    pub tables: usize,
    /// See `tables`.
    pub rows: u64,
    /// The values that had a character in them that PostgreSQL's text cannot hold, by table.
    pub replaced: Vec<(String, u64)>,
    /// It had arrived before: an earlier command was cut off just then.
    pub before: bool,
    /// The id of the key that secrets are sealed under, where a server has said it.
    pub key_id: Option<String>,
}

/// Rows that went over, and how many of their values had to be changed.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    rows: Rows,
    replaced: u64,
}

/// How often something is told of a table that is under way.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Why there is no copy, and what is to become of the source's mark.
#[derive(Debug)]
enum Failed {
    /// Nothing was looked at yet: an earlier copy may still be under way, or have arrived.
    Before(StoreError),
    /// It has certainly not arrived.
    Undone(StoreError),
    /// Nobody knows.
    Unknown(StoreError),
}

/// Copies everything. The source must not be served; the target must have no rows.
///
/// # Errors
/// A sentence that says what is in the way. Nothing is then in the target, and the source can be served as before, unless the
/// sentence says otherwise.
pub async fn copy(
    (from, to): (&Place, &Place),
    (clock, ids): (&SharedClock, &Arc<Ids>),
    progress: impl FnMut(Progress) + Send + 'static,
) -> Result<Copied> {
    check(from, to)?;
    let source = Source::open(from).await?;
    let target = Opened::target(to).await?;
    let to_shown = target.shown();
    let now = clock.now();
    let (mark, is_new) = source.begin(&to_shown, ids.uuid(now).to_string()).await?;
    let moved = async {
        source.settle(now, ids).await.map_err(Failed::Before)?;
        let reading = source.reading().await.map_err(Failed::Before)?;
        let (tx_mark, now) = (mark.clone(), now);
        let work = move || transfer((reading, target), &tx_mark, now, progress);
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            // It ended somewhere.
            Err(error) => Err(Failed::Unknown(StoreError::Panicked {
                operation: "copy",
                message: error.to_string(),
            })),
        }
    };
    match moved.await {
        Ok(copied) => {
            source.end(Mark { done: true, ..mark }).await.map_err(|error| {
                StoreError::Open(format!(
                    "everything is in {to_shown}, and that could not be written down in {}: {error}; run the same command \
                     again",
                    from.shown()
                ))
            })?;
            Ok(copied)
        }
        Err(Failed::Undone(error)) => Err(source.undo(error).await),
        Err(Failed::Before(error)) if is_new => Err(source.undo(error).await),
        Err(Failed::Before(error)) => Err(error),
        Err(Failed::Unknown(error)) => Err(StoreError::Open(format!(
            "{error}; whether everything has arrived is not known: run the same command again, which finds out. Until then no \
             server starts on {}",
            from.shown()
        ))),
    }
}

/// Lets servers start again on a database that was copied elsewhere: says where, or nothing where it was not. Where the copy
/// had arrived, the next start treats it as a backup that was put back.
///
/// # Errors
/// Where a server runs on it, or it cannot be opened.
pub async fn undo(from: &Place, clock: &SharedClock) -> Result<Option<Mark>> {
    if let Place::Sqlite(dir) = from {
        must_be_there(dir)?;
    }
    let source = Source::open(from).await?;
    source.take_back(clock.now()).await
}

fn check(from: &Place, to: &Place) -> Result<()> {
    let sentence = match (from, to) {
        (Place::Sqlite(dir), Place::Postgres(_)) => return must_be_there(dir),
        (Place::Postgres(_), Place::Sqlite(_)) => return Ok(()),
        (Place::Sqlite(_), Place::Sqlite(_)) => {
            "both are embedded databases: to copy one to another directory, use `impresario backup`"
        }
        (Place::Postgres(_), Place::Postgres(_)) => {
            "both are on PostgreSQL: to copy one to another, use `pg_dump` and `pg_restore`"
        }
    };
    Err(StoreError::Open(sentence.to_owned()))
}

fn must_be_there(dir: &Path) -> Result<()> {
    match dir.join("impresario.db").is_file() {
        true => Ok(()),
        false => Err(StoreError::Open(format!(
            "there is no database in {}: name the data directory of the server, as in sqlite:./data",
            dir.display()
        ))),
    }
}

/// Copies in one transaction of the target's, and commits it. On a thread that may wait.
fn transfer(
    (source, target): (Opened, Opened),
    mark: &Mark,
    now: Timestamp,
    mut progress: impl FnMut(Progress),
) -> Result<Copied, Failed> {
    let source = source.begin(false).map_err(Failed::Before)?;
    let shown = target.shown();
    let target = target.begin(true).map_err(Failed::Before)?;
    let look = || {
        let tables = shape::plan(source.tables()?, &target.tables()?)?;
        target.lock(&tables)?;
        Ok((tables, target.setting(moving::COPIED_BY)?))
    };
    let (tables, copied_by) = look().map_err(Failed::Before)?;
    let key_id = source.setting("secret_key_id").map_err(Failed::Before)?;
    if copied_by.is_some_and(|by| by.starts_with(&mark.copy)) {
        return Ok(Copied {
            tables: tables.len(),
            before: true,
            key_id,
            ..Copied::default()
        });
    }
    let mut copied = Copied {
        tables: tables.len(),
        key_id,
        ..Copied::default()
    };
    let mut work = || {
        must_be_empty(&target, &tables, &shown)?;
        for table in &tables {
            let counted = copy_table((&source, &target), table, &mut progress)?;
            copied.rows += counted.rows.count;
            if counted.replaced > 0 {
                copied.replaced.push((table.name.clone(), counted.replaced));
            }
        }
        // Known by this id to the same command, should it be run again.
        let by = format!("{} {}", mark.copy, crate::domain::rfc3339(now));
        target.keep_setting(moving::COPIED_BY, &by)?;
        target.analyze(&tables)
    };
    work().map_err(Failed::Undone)?;
    match target.commit() {
        Ok(Ok(())) => Ok(copied),
        Ok(Err(unknown)) => Err(Failed::Unknown(unknown)),
        Err(refused) => Err(Failed::Undone(refused)),
    }
}

fn must_be_empty(target: &End, tables: &[Table], shown: &str) -> Result<()> {
    let mut filled = Vec::new();
    for table in tables {
        if target.has_rows(table)? {
            filled.push(&*table.name);
        }
    }
    if filled.is_empty() {
        return Ok(());
    }
    Err(StoreError::Open(format!(
        "{shown} is in use: there are rows in {}. Name a database that nothing was served from yet",
        filled.join(", ")
    )))
}

/// Copies a table, reads it back, and compares.
fn copy_table(
    (source, target): (&End, &End),
    table: &Table,
    progress: &mut impl FnMut(Progress),
) -> Result<Counted> {
    let condition = staying(table);
    let mut told = Instant::now();
    let sent = target.fill(table, |put| {
        let mut sent = Counted::default();
        source.rows(table, &condition, &mut |cells| {
            sent.replaced += with_what_fits(target.takes_nul(), cells, |cells| {
                sent.rows.add(cells);
                put(cells)
            })?;
            if told.elapsed() > TELL_EVERY {
                told = Instant::now();
                progress(Progress {
                    table: table.name.clone(),
                    rows: sent.rows.count,
                    done: false,
                });
            }
            Ok(())
        })?;
        Ok(sent)
    })?;
    let mut arrived = Rows::default();
    target.rows(table, "", &mut |cells| {
        arrived.add(cells);
        Ok(())
    })?;
    if arrived != sent.rows {
        let (gone, came) = (sent.rows.count, arrived.count);
        let how = match gone == came {
            true => format!("{gone} rows went over and some of them are not the same there"),
            false => format!("{gone} rows went over and {came} are there"),
        };
        return Err(StoreError::Open(format!("the table {}: {how}", table.name)));
    }
    if let Some(column) = table.numbered() {
        target.number_after(table, column, source.last_number(table, column)?)?;
    }
    progress(Progress {
        table: table.name.clone(),
        rows: sent.rows.count,
        done: true,
    });
    Ok(sent)
}

/// Which rows of a table go over: of the settings not those that are of the one database.
fn staying(table: &Table) -> String {
    if table.name != "settings" {
        return String::new();
    }
    let names: Vec<String> = moving::STAYS.iter().map(|name| format!("'{name}'")).collect();
    format!(" WHERE name NOT IN ({})", names.join(", "))
}

/// Gives a row on as it can be stored: PostgreSQL's text has no NUL, and the store puts another character in its place there
/// too. How many values that changed.
fn with_what_fits(
    takes_nul: bool,
    cells: &[Cell<'_>],
    give: impl FnOnce(&[Cell<'_>]) -> Result<()>,
) -> Result<u64> {
    let is_bad = |cell: &Cell<'_>| matches!(cell, Cell::Text(text) if text.contains('\0'));
    if takes_nul || !cells.iter().any(is_bad) {
        return give(cells).map(|()| 0);
    }
    let changed: Vec<Option<String>> = cells
        .iter()
        .map(|cell| match cell {
            Cell::Text(text) if is_bad(cell) => Some(text.replace('\0', "\u{fffd}")),
            _ => None,
        })
        .collect();
    let fits: Vec<Cell<'_>> = cells
        .iter()
        .zip(&changed)
        .map(|(cell, changed)| changed.as_deref().map_or(*cell, Cell::Text))
        .collect();
    give(&fits).map(|()| changed.iter().flatten().count() as u64)
}

#[cfg(test)]
#[path = "copy/tests.rs"]
mod tests;
