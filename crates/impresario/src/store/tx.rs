//! What an operation sees of the database: one open transaction, statements with `$1` parameters, rows by name.

use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};

use super::{
    engine::{Dialect, guarded},
    error::{EngineError, Result, StoreError},
    postgres,
    value::{Cell, Column, Value},
};

/// An open transaction. It commits when the operation returns `Ok` and leaves nothing behind when it does not.
#[derive(Debug)]
pub struct Tx<'c> {
    session: Session<'c>,
    operation: &'static str,
}

/// The connection that has the transaction open.
#[derive(Debug, Clone, Copy)]
pub(super) enum Session<'c> {
    Sqlite(&'c rusqlite::Connection),
    Postgres(&'c postgres::Session),
}

/// A row of an answer.
#[derive(Debug)]
pub struct Row<'r> {
    row: Cells<'r>,
    operation: &'static str,
}

#[derive(Debug)]
enum Cells<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    Postgres(&'r tokio_postgres::Row),
}

/// `params![a, b]`: the parameters `$1`, `$2` of a statement.
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::store::value::Value::from($value)),*][..] };
}
pub(crate) use params;

impl<'c> Tx<'c> {
    pub(super) fn new(session: Session<'c>, operation: &'static str) -> Self {
        Self { session, operation }
    }

    /// Which SQL the engine speaks, for the few statements that must differ.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        match self.session {
            Session::Sqlite(_) => Dialect::Sqlite,
            Session::Postgres(_) => Dialect::Postgres,
        }
    }

    /// The time on the clock that leases are measured on, in milliseconds; nothing where leases have no end: see
    /// [`Dialect::lease_clock`].
    ///
    /// # Errors
    /// What the engine refuses.
    pub fn lease_clock(&mut self) -> Result<Option<i64>> {
        match self.dialect().lease_clock() {
            Some(sql) => self.query_opt(sql, &[], |row| row.get("now")),
            None => Ok(None),
        }
    }

    /// From here on the operation waits for rows that others have locked no longer than `patience`, each time; what it is
    /// refused for it is an error that [`is_conflict`](StoreError::is_conflict). SQLite has no such rows.
    ///
    /// # Errors
    /// What the engine refuses.
    pub fn wait_at_most(&mut self, patience: Duration) -> Result<()> {
        match self.session {
            Session::Sqlite(_) => Ok(()),
            Session::Postgres(session) => {
                let sql = format!("SET LOCAL lock_timeout = '{}ms'", patience.as_millis());
                session.batch(&sql).map_err(|source| self.refused(source))
            }
        }
    }

    /// Runs a statement and says how many rows it touched.
    ///
    /// # Errors
    /// What the engine refuses.
    pub fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64> {
        let touched = match self.session {
            Session::Sqlite(connection) => connection
                .prepare_cached(sql)
                .and_then(|mut statement| {
                    bind(&mut statement, params)?;
                    statement.raw_execute()
                })
                .map(|touched| touched as u64)
                .map_err(EngineError::from),
            Session::Postgres(session) => session.execute(sql, params),
        };
        touched.map_err(|source| self.refused(source))
    }

    /// Runs a statement that must touch exactly one row.
    ///
    /// # Errors
    /// What the engine refuses, and any other number of rows.
    pub fn execute_one(&mut self, sql: &str, params: &[Value]) -> Result<()> {
        match self.execute(sql, params)? {
            1 => Ok(()),
            touched => Err(StoreError::Rows {
                operation: self.operation,
                expected: 1,
                touched,
            }),
        }
    }

    /// Runs a query and reads each row with `read`.
    ///
    /// # Errors
    /// What the engine refuses, and rows that cannot be read.
    pub fn query<T>(
        &mut self,
        sql: &str,
        params: &[Value],
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let operation = self.operation;
        let refused = |source: rusqlite::Error| self.refused(source.into());
        match self.session {
            Session::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql).map_err(refused)?;
                bind(&mut statement, params).map_err(refused)?;
                let mut rows = statement.raw_query();
                let mut all = Vec::new();
                while let Some(row) = rows.next().map_err(refused)? {
                    let row = Cells::Sqlite(row);
                    all.push(read(&Row { row, operation })?);
                }
                Ok(all)
            }
            Session::Postgres(session) => {
                let rows = session
                    .query(sql, params)
                    .map_err(|source| self.refused(source))?;
                let row = |row| {
                    let row = Cells::Postgres(row);
                    read(&Row { row, operation })
                };
                rows.iter().map(row).collect()
            }
        }
    }

    /// Runs a query for at most one row; of several it reads the first.
    ///
    /// # Errors
    /// What the engine refuses, and a row that cannot be read.
    pub fn query_opt<T>(
        &mut self,
        sql: &str,
        params: &[Value],
        read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.query(sql, params, read)?.into_iter().next())
    }

    /// Runs `body` in a savepoint: where it fails, or panics, its writes are undone and the transaction goes on. So one
    /// bad row of a batch costs the others nothing.
    ///
    /// # Errors
    /// Only where the savepoint itself cannot be made or undone; what `body` says is the inner result.
    pub fn isolated<T>(&mut self, body: impl FnOnce(&mut Self) -> Result<T>) -> Result<Result<T>> {
        let run = |sql: &str| {
            let ran = match self.session {
                Session::Sqlite(connection) => connection.execute_batch(sql).map_err(EngineError::from),
                Session::Postgres(session) => session.batch(sql),
            };
            ran.map_err(|source| self.refused(source))
        };
        run("SAVEPOINT one")?;
        let mut inner = Tx::new(self.session, self.operation);
        let outcome = guarded(self.operation, || body(&mut inner));
        match &outcome {
            Ok(_) => run("RELEASE one")?,
            Err(_) => {
                run("ROLLBACK TO one; RELEASE one")?;
                if let Session::Postgres(session) = self.session {
                    session.forgive();
                }
            }
        }
        Ok(outcome)
    }

    fn refused(&self, source: EngineError) -> StoreError {
        StoreError::Engine {
            operation: self.operation,
            source,
        }
    }
}

/// Binds `$1`, `$2` … by their names. To SQLite they are names, not numbers: it counts parameters in the order in which
/// a statement first mentions them.
fn bind(statement: &mut rusqlite::Statement<'_>, params: &[Value]) -> rusqlite::Result<()> {
    if statement.parameter_count() != params.len() {
        return Err(rusqlite::Error::InvalidParameterCount(
            params.len(),
            statement.parameter_count(),
        ));
    }
    for (number, value) in (1_u32..).zip(params) {
        let name = format!("${number}");
        let index = statement.parameter_index(&name)?;
        let index = index.ok_or(rusqlite::Error::InvalidParameterName(name))?;
        statement.raw_bind_parameter(index, value)?;
    }
    Ok(())
}

impl Row<'_> {
    /// Reads a column.
    ///
    /// # Errors
    /// Where there is no such column, or it holds something else.
    pub fn get<T: Column>(&self, column: &str) -> Result<T> {
        let corrupt = |reason: String| StoreError::Corrupt {
            operation: self.operation,
            column: column.to_owned(),
            reason,
        };
        let cell = match &self.row {
            Cells::Sqlite(row) => row
                .get_ref(column)
                .map_err(|error| error.to_string())
                .and_then(sqlite_cell),
            Cells::Postgres(row) => postgres::cell(row, column),
        };
        cell.and_then(T::read).map_err(corrupt)
    }

    /// An error that says that `column` holds what it should not.
    #[must_use]
    pub fn corrupt(&self, column: &str, reason: impl Into<String>) -> StoreError {
        StoreError::Corrupt {
            operation: self.operation,
            column: column.to_owned(),
            reason: reason.into(),
        }
    }
}

fn sqlite_cell(value: ValueRef<'_>) -> Result<Cell<'_>, String> {
    Ok(match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(number) => Cell::Int(number),
        ValueRef::Real(_) => return Err("a floating-point number".to_owned()),
        ValueRef::Text(bytes) => Cell::Text(std::str::from_utf8(bytes).map_err(|error| error.to_string())?),
        ValueRef::Blob(bytes) => Cell::Blob(bytes),
    })
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Self::Int(number) => ToSqlOutput::Borrowed(ValueRef::Integer(*number)),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Blob(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}
