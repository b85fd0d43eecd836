//! One side of a copy, on either engine: first where it is and that it can be used, then its open transaction.

use std::path::PathBuf;

use tokio::runtime::Handle;
use tokio_postgres::Client;

use super::{
    Counted, Place,
    postgres::Postgres,
    shape::{Column, Table},
    sqlite::Sqlite,
};
use crate::store::{
    Access, Store,
    error::{Result, StoreError},
    postgres,
    value::Cell,
};

/// A database that can be used.
pub(super) enum Opened {
    /// Its directory, and a store that holds the lock of it where the reader of the source does not.
    Sqlite(PathBuf, Option<Store>),
    /// A connection, and the database in words.
    Postgres(Box<Client>, String),
}

/// What rows are read from or written to.
pub(super) enum End {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Opened {
    /// The database that is copied to. Where it has no tables it gets them.
    pub(super) async fn target(place: &Place) -> Result<Self> {
        match place {
            Place::Sqlite(dir) => {
                let store = Store::open(dir, Access::Server)?;
                Ok(Self::Sqlite(dir.clone(), Some(store)))
            }
            Place::Postgres(target) => {
                let mut client = postgres::connect(target, None).await?;
                postgres::inspect(&client, target).await?;
                if !postgres::has_tables(&client).await? {
                    postgres::may_migrate(&client, target).await?;
                    postgres::migrate(&mut client).await?;
                }
                // It may be another program's tables, an older schema, or one that was itself copied elsewhere.
                drop(Store::of(Some(target), &PathBuf::new(), Access::Tool).await?);
                let shown = shown(&client, target).await?;
                Ok(Self::Postgres(Box::new(client), shown))
            }
        }
    }

    pub(super) fn shown(&self) -> String {
        match self {
            Self::Sqlite(dir, _) => format!("sqlite:{}", dir.display()),
            Self::Postgres(_, shown) => shown.clone(),
        }
    }

    /// Begins the transaction. On a thread that may wait.
    pub(super) fn begin(self, writes: bool) -> Result<End> {
        Ok(match self {
            Self::Sqlite(dir, store) => End::Sqlite(Sqlite::begin(&dir, writes, store)?),
            Self::Postgres(client, shown) => {
                End::Postgres(Postgres::begin(*client, Handle::current(), shown, writes)?)
            }
        })
    }
}

/// The database in words: with its schema where that is not the usual one, because two copies in two schemas are two.
pub(super) async fn shown(client: &Client, target: &postgres::Target) -> Result<String> {
    let row = client.query_one("SELECT current_schema()::text", &[]).await;
    let schema: Option<String> = row
        .and_then(|row| row.try_get(0))
        .map_err(|error| StoreError::Open(format!("{}: {error}", target.shown())))?;
    Ok(match schema.as_deref() {
        None | Some("public") => target.shown(),
        Some(schema) => format!("{} (schema {schema})", target.shown()),
    })
}

impl End {
    pub(super) fn tables(&self) -> Result<Vec<Table>> {
        match self {
            Self::Sqlite(sqlite) => sqlite.tables(),
            Self::Postgres(postgres) => postgres.tables(),
        }
    }

    /// Keeps others from writing. In an embedded database nobody else can, from the beginning.
    pub(super) fn lock(&self, tables: &[Table]) -> Result<()> {
        match self {
            Self::Sqlite(..) => Ok(()),
            Self::Postgres(postgres) => postgres.lock(tables),
        }
    }

    pub(super) fn has_rows(&self, table: &Table) -> Result<bool> {
        match self {
            Self::Sqlite(sqlite) => sqlite.has_rows(table),
            Self::Postgres(postgres) => postgres.has_rows(table),
        }
    }

    pub(super) fn takes_nul(&self) -> bool {
        matches!(self, Self::Sqlite(..))
    }

    pub(super) fn rows(
        &self,
        table: &Table,
        condition: &str,
        each: &mut dyn FnMut(&[Cell<'_>]) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Sqlite(sqlite) => sqlite.rows(table, condition, each),
            Self::Postgres(postgres) => postgres.rows(table, condition, each),
        }
    }

    pub(super) fn fill(
        &self,
        table: &Table,
        from: impl FnOnce(&mut dyn FnMut(&[Cell<'_>]) -> Result<()>) -> Result<Counted>,
    ) -> Result<Counted> {
        match self {
            Self::Sqlite(sqlite) => sqlite.fill(table, from),
            Self::Postgres(postgres) => postgres.fill(table, from),
        }
    }

    pub(super) fn last_number(&self, table: &Table, column: &Column) -> Result<i64> {
        match self {
            Self::Sqlite(sqlite) => sqlite.last_number(table),
            Self::Postgres(postgres) => postgres.last_number(table, column),
        }
    }

    pub(super) fn number_after(&self, table: &Table, column: &Column, last: i64) -> Result<()> {
        match self {
            Self::Sqlite(sqlite) => sqlite.number_after(table, last),
            Self::Postgres(postgres) => postgres.number_after(table, column, last),
        }
    }

    pub(super) fn setting(&self, name: &str) -> Result<Option<String>> {
        match self {
            Self::Sqlite(sqlite) => sqlite.setting(name),
            Self::Postgres(postgres) => postgres.setting(name),
        }
    }

    pub(super) fn keep_setting(&self, name: &str, value: &str) -> Result<()> {
        match self {
            Self::Sqlite(sqlite) => sqlite.keep_setting(name, value),
            Self::Postgres(postgres) => postgres.keep_setting(name, value),
        }
    }

    /// SQLite's planner does without statistics here, as it does for every server.
    pub(super) fn analyze(&self, tables: &[Table]) -> Result<()> {
        match self {
            Self::Sqlite(..) => Ok(()),
            Self::Postgres(postgres) => postgres.analyze(tables),
        }
    }

    /// Commits; the inner error is a commit of which nobody knows whether it arrived.
    pub(super) fn commit(&self) -> Result<Result<()>> {
        match self {
            Self::Sqlite(sqlite) => Ok(sqlite.commit()),
            Self::Postgres(postgres) => postgres.commit(),
        }
    }
}
