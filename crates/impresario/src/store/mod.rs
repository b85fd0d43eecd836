//! The only place with SQL. What comes in: named operations, each one transaction. What goes out: domain types.
//!
//! An operation is a plain function over a [`Tx`], in a file per family of tables; [`Store::write`] and
//! [`Store::read`] run one. The engine decides nothing: policy comes in as values and pure functions.

pub mod backup;
pub mod copy;
mod directory;
mod engine;
mod error;
mod migrate;
pub mod ops;
#[cfg(test)]
mod parity;
pub mod postgres;
mod readers;
mod sqlite;
mod tx;
mod value;

pub(crate) use engine::hex;
pub use engine::{Access, Dialect};
pub use error::{EngineError, Result, StoreError};
pub use postgres::{Deserted, Hints, Migrated, Target, keep_deserted};
pub use tx::{Row, Tx};
pub use value::{Column, Json, Value};

use std::{path::Path, sync::Arc, time::Instant};

use engine::Engine;
use postgres::{Lane, Postgres};
use sqlite::Sqlite;

/// The store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    engine: Arc<Engine>,
}

impl Store {
    /// Opens the embedded database in `dir`, making both where they are not there yet, and migrates it.
    ///
    /// # Errors
    /// Where the directory cannot be used, another server has it, or the database is newer than this program.
    pub fn open(dir: &Path, access: Access) -> Result<Self> {
        Ok(Self {
            engine: Arc::new(Engine::Sqlite(Sqlite::open(dir, access)?)),
        })
    }

    /// Opens the database that the settings name: the one on PostgreSQL, which must be migrated, else the embedded one in
    /// `dir`. A server takes the lock of `dir` in either case.
    ///
    /// # Errors
    /// As [`Store::open`], and where the server cannot be reached or its database cannot be used: a sentence that says
    /// what to do.
    pub async fn of(database: Option<&Target>, dir: &Path, access: Access) -> Result<Self> {
        let Some(target) = database else {
            return Self::open(dir, access);
        };
        let postgres = Postgres::open(target, dir, access).await?;
        Ok(Self {
            engine: Arc::new(Engine::Postgres(postgres)),
        })
    }

    /// What the clock that all nodes share shows, in milliseconds, between two instants of this machine; nothing where a
    /// single server has the database.
    ///
    /// # Errors
    /// What the engine refuses.
    pub async fn shared_time(&self) -> Result<Option<(Instant, i64, Instant)>> {
        let look = |tx: &mut Tx<'_>| {
            let asked = Instant::now();
            let now = tx.lease_clock()?;
            Ok(now.map(|now| (asked, now, Instant::now())))
        };
        self.read_now("shared_time", look).await
    }

    /// Whether other nodes may be on the same database: then what one of them holds has an end, and nothing that is held
    /// is an earlier server's for that alone. Where there are none, a server settles at its start what it finds.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(*self.engine, Engine::Postgres(_))
    }

    /// Runs `operation` in a write transaction; when this returns `Ok` its writes are durable, otherwise there are
    /// none. Dropping the future does not undo what was committed. `operation` may be run more than once, where another
    /// transaction was in its way or the connection was lost before the commit; at most one of its runs is kept.
    ///
    /// # Errors
    /// The operation's own, and a failed commit; [`StoreError::Unknown`] where nobody can say whether it arrived.
    pub async fn write<T, F>(&self, name: &'static str, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        match &*self.engine {
            Engine::Sqlite(sqlite) => sqlite.write(name, operation).await,
            Engine::Postgres(postgres) => postgres.write(Lane::Request, name, operation).await,
        }
    }

    /// The same for a loop, or for what one started: it has places of its own, so that no crowd of requests that wait for one
    /// row holds it up.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub async fn write_now<T, F>(&self, name: &'static str, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        match &*self.engine {
            Engine::Sqlite(sqlite) => sqlite.write(name, operation).await,
            Engine::Postgres(postgres) => postgres.write(Lane::Loop, name, operation).await,
        }
    }

    /// The same for the few operations that must come in time and wait for no row for long: fires, and the leases of what
    /// runs.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub async fn write_first<T, F>(&self, name: &'static str, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        match &*self.engine {
            Engine::Sqlite(sqlite) => sqlite.write(name, operation).await,
            Engine::Postgres(postgres) => postgres.write(Lane::First, name, operation).await,
        }
    }

    /// Why nothing can be written, as far as the newest commit tells; `None` where it went through.
    #[must_use]
    pub fn last_commit_failure(&self) -> Option<String> {
        match &*self.engine {
            Engine::Sqlite(sqlite) => sqlite.last_commit_failure(),
            Engine::Postgres(postgres) => postgres.last_commit_failure(),
        }
    }

    /// Runs `operation` on a snapshot of the database, for a request: it waits for one of a few places, and is stopped
    /// when it takes too long, and on the embedded database also when its future is dropped.
    ///
    /// # Errors
    /// The operation's own, and [`StoreError::TooSlow`].
    pub async fn read<T, F>(&self, name: &'static str, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        match &*self.engine {
            Engine::Sqlite(sqlite) => sqlite.readers().read(name, operation).await,
            Engine::Postgres(postgres) => postgres.read(Lane::Request, name, operation).await,
        }
    }

    /// The same for a loop, or for what one started, which no request may hold up: it has places of its own and no
    /// limit, so `operation` must be bounded by itself.
    ///
    /// # Errors
    /// The operation's own.
    pub async fn read_now<T, F>(&self, name: &'static str, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        match &*self.engine {
            Engine::Sqlite(sqlite) => sqlite.readers().read_now(name, operation).await,
            Engine::Postgres(postgres) => postgres.read(Lane::Loop, name, operation).await,
        }
    }
}

/// Makes the tables of a database on PostgreSQL, or changes them to what this program knows: all or nothing.
///
/// # Errors
/// Where it cannot be reached, or not be used; and the error of a migration.
pub async fn migrate(target: &Target) -> Result<Migrated> {
    let mut client = postgres::connect(target, None).await?;
    postgres::inspect(&client, target).await?;
    postgres::may_migrate(&client, target).await?;
    postgres::migrate(&mut client).await
}

/// Where the next page of a list starts: after the row with this instant and id, going back in time. Rows that are
/// added meanwhile are newer than any cursor, so they neither shift nor repeat what is still to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageCursor {
    /// The creation instant of the last row of the page before, in milliseconds.
    pub at: i64,
    /// Its id.
    pub id: String,
}

impl PageCursor {
    /// Reads what `Display` writes; `None` where a client made it up.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (at, id) = text.split_once('_')?;
        let id = uuid::Uuid::try_parse(id).ok()?;
        Some(Self {
            at: at.parse().ok()?,
            id: id.as_hyphenated().to_string(),
        })
    }
}

impl std::fmt::Display for PageCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}_{}", self.at, self.id)
    }
}
