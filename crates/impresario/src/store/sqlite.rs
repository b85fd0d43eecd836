//! The SQLite engine: files, locks, PRAGMAs, migrations and the writer thread.
//!
//! All writes go through one thread, which runs the operations that have queued up in one transaction, each in a
//! savepoint of its own, and commits them together (group commit): an operation is answered only once it is on disk.

use std::{
    fs::File,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};
use tokio::sync::{mpsc, oneshot};

use super::{
    directory,
    engine::{Access, guarded},
    error::{Result, StoreError},
    migrate,
    ops::moving::{self, Mark},
    readers::{LONGEST, Readers},
    tx::{Session, Tx},
};

/// SQLite 3.7.0 to 3.51.2 can corrupt a database in WAL mode when two connections reset the log
/// (<https://sqlite.org/wal.html#walresetbug>).
const OLDEST_SQLITE: i32 = 3_051_003;

/// How long a connection waits for another process's write before it gives up.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The most operations that share one commit.
const MOST_IN_A_COMMIT: usize = 256;

/// Operations that wait for the writer beyond this number make their callers wait.
const WRITE_QUEUE: usize = 1024;

/// The open database.
pub(super) struct Sqlite {
    writer: mpsc::Sender<Box<dyn Queued>>,
    readers: Arc<Readers>,
    /// Why the last commit failed.
    commit_failure: Arc<Mutex<Option<String>>>,
    /// Held for the process's life: the operating system gives it up even on `kill -9`.
    _lock: Option<File>,
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sqlite").finish_non_exhaustive()
    }
}

/// An operation that waits for the writer.
trait Queued: Send {
    fn name(&self) -> &'static str;
    /// Runs it; whether it wants its writes kept.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Tells the caller.
    fn answer(self: Box<Self>, commit: Result<(), String>);
}

struct Operation<T, F> {
    name: &'static str,
    body: Option<F>,
    /// What it said, once it has run.
    outcome: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T: Send, F: Fn(&mut Tx<'_>) -> Result<T> + Send> Queued for Operation<T, F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&mut self, connection: &Connection) -> bool {
        if let Some(body) = self.body.take() {
            self.outcome = Some(guarded(self.name, || {
                body(&mut Tx::new(Session::Sqlite(connection), self.name))
            }));
        }
        matches!(self.outcome, Some(Ok(_)))
    }

    fn answer(self: Box<Self>, commit: Result<(), String>) {
        let operation = self.name;
        let outcome = match (self.outcome, commit) {
            (Some(Err(error)), _) => Err(error),
            // Also where it never ran, because the transaction could not begin or was broken by another.
            (_, Err(reason)) => Err(StoreError::Commit { operation, reason }),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(StoreError::Closed { operation }),
        };
        // A caller that has gone away does not undo what was committed.
        let _gone = self.reply.send(outcome);
    }
}

impl Sqlite {
    /// Opens the database in `dir`, making both where they are not there yet, and migrates it.
    ///
    /// # Errors
    /// Where the directory cannot be used, another server has it, or the database is newer than this program.
    pub(super) fn open(dir: &Path, access: Access) -> Result<Self> {
        if rusqlite::version_number() < OLDEST_SQLITE {
            return Err(StoreError::Open(format!(
                "SQLite {} can corrupt databases in WAL mode; 3.51.3 or newer is needed",
                rusqlite::version()
            )));
        }
        directory::create_private(dir)?;
        directory::refuse_network(dir)?;
        let lock = match access {
            Access::Server | Access::Mover => Some(directory::hold(dir)?),
            Access::Tool => None,
        };
        let path = dir.join("impresario.db");
        let mut connection = connect(&path, false)?;
        if access != Access::Mover {
            refuse_moved(&connection, dir)?;
        }
        migrate::migrate(&mut connection, dir, access)?;

        let (writer, queue) = mpsc::channel(WRITE_QUEUE);
        let commit_failure = Arc::new(Mutex::new(None));
        let failure = Arc::clone(&commit_failure);
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || write_loop(&connection, queue, &failure))
            .map_err(|error| StoreError::Open(format!("cannot start the writer thread: {error}")))?;
        let readers = Arc::new(Readers::new(path, LONGEST));
        Ok(Self {
            writer,
            readers,
            commit_failure,
            _lock: lock,
        })
    }

    /// Runs `body` in a write transaction and returns once it is durable.
    pub(super) async fn write<T, F>(&self, name: &'static str, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let operation = Operation {
            name,
            body: Some(body),
            outcome: None,
            reply,
        };
        let gone = |_| StoreError::Closed { operation: name };
        self.writer
            .send(Box::new(operation))
            .await
            .map_err(|_| StoreError::Closed { operation: name })?;
        answer.await.map_err(gone)?
    }

    /// Why nothing can be written, as far as the newest commit tells; nothing where it went through.
    pub(super) fn last_commit_failure(&self) -> Option<String> {
        if self.writer.is_closed() {
            return Some("the writer thread has ended".to_owned());
        }
        self.commit_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Who reads.
    pub(super) fn readers(&self) -> &Arc<Readers> {
        &self.readers
    }
}

/// Refuses a database whose rows have gone to another one; before anything in it is changed.
fn refuse_moved(connection: &Connection, dir: &Path) -> Result<()> {
    let failed = |error: rusqlite::Error| StoreError::Open(format!("{}: {error}", dir.display()));
    let has_settings =
        "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'settings')";
    if !connection
        .query_row(has_settings, [], |row| row.get(0))
        .map_err(failed)?
    {
        return Ok(());
    }
    let mark: Option<String> = connection
        .query_row(
            "SELECT value FROM settings WHERE name = $1",
            [moving::MOVED_TO],
            |row| row.get(0),
        )
        .optional()
        .map_err(failed)?;
    match mark {
        None => Ok(()),
        Some(mark) => {
            let shown = format!("the data directory {}", dir.display());
            let argument = format!("sqlite:{}", dir.display());
            Err(StoreError::Open(Mark::read(&mark).refusal(&shown, &argument)))
        }
    }
}

fn write_loop(
    connection: &Connection,
    mut queue: mpsc::Receiver<Box<dyn Queued>>,
    failure: &Mutex<Option<String>>,
) {
    let mut batch = Vec::new();
    while queue.blocking_recv_many(&mut batch, MOST_IN_A_COMMIT) > 0 {
        let commit = write_batch(connection, &mut batch).map_err(|error| error.to_string());
        *failure.lock().unwrap_or_else(PoisonError::into_inner) = commit.as_ref().err().cloned();
        if let Err(reason) = &commit {
            let operations: Vec<_> = batch.iter().map(|operation| operation.name()).collect();
            tracing::error!(%reason, ?operations, "a commit failed; nothing of it was written");
            if !connection.is_autocommit()
                && let Err(error) = connection.execute_batch("ROLLBACK")
            {
                tracing::error!(%error, "the rollback failed too");
            }
        }
        for operation in batch.drain(..) {
            operation.answer(commit.clone());
        }
    }
}

fn write_batch(connection: &Connection, batch: &mut [Box<dyn Queued>]) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    for operation in batch {
        connection.execute_batch("SAVEPOINT operation")?;
        let keep = operation.run(connection);
        connection.execute_batch(if keep {
            "RELEASE operation"
        } else {
            "ROLLBACK TO operation; RELEASE operation"
        })?;
    }
    connection.execute_batch("COMMIT")
}

/// Sets what the promises rest on, and reads it back: SQLite ignores a PRAGMA it cannot obey.
pub(super) fn connect(path: &Path, read_only: bool) -> Result<Connection> {
    let failed = |error: rusqlite::Error| StoreError::Open(format!("{}: {error}", path.display()));
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(256);
    // A value for each PRAGMA, and the text SQLite answers once it holds.
    for (pragma, value, holds) in [
        ("journal_mode", "WAL", "wal"),
        ("synchronous", "FULL", "2"),
        ("foreign_keys", "ON", "1"),
    ] {
        connection.pragma_update(None, pragma, value).map_err(failed)?;
        let now: rusqlite::types::Value = connection
            .pragma_query_value(None, pragma, |row| row.get(0))
            .map_err(failed)?;
        let now = match now {
            rusqlite::types::Value::Text(text) => text,
            rusqlite::types::Value::Integer(number) => number.to_string(),
            other => format!("{other:?}"),
        };
        if now != holds {
            return Err(StoreError::Open(format!(
                "{}: {pragma} is {now} and must be {holds}; the data directory must be on a local disk",
                path.display()
            )));
        }
    }
    if read_only {
        connection
            .pragma_update(None, "query_only", "ON")
            .map_err(failed)?;
    }
    Ok(connection)
}
