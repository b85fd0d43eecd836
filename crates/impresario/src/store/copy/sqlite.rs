//! One side of a copy in an embedded database: the open transaction of one connection.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, types::ValueRef};

use super::{
    Counted,
    shape::{Class, Column, Table, add},
};
use crate::store::{
    Store,
    error::{Result, StoreError},
    sqlite,
    value::Cell,
};

#[derive(Debug)]
pub(super) struct Sqlite {
    connection: Connection,
    /// Holds the lock of the directory, where nobody else does.
    _store: Option<Store>,
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn failed(error: rusqlite::Error) -> StoreError {
    StoreError::Open(format!("the embedded database: {error}"))
}

impl Sqlite {
    /// Begins: to read a snapshot, or to write.
    pub(super) fn begin(dir: &Path, writes: bool, store: Option<Store>) -> Result<Self> {
        let connection = sqlite::connect(&dir.join("impresario.db"), !writes)?;
        connection
            .execute_batch(if writes { "BEGIN IMMEDIATE" } else { "BEGIN" })
            .map_err(failed)?;
        Ok(Self {
            connection,
            _store: store,
        })
    }

    pub(super) fn tables(&self) -> Result<Vec<Table>> {
        // Of those that are worked out of others `hidden` is 2 or 3.
        let sql = "SELECT t.name, c.name, c.type, c.\"notnull\" = 0 OR c.dflt_value IS NOT NULL,
              c.pk = 1 AND t.sql LIKE '%AUTOINCREMENT%'
            FROM sqlite_master t JOIN pragma_table_xinfo(t.name) c
            WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND t.name <> 'schema_migrations'
              AND c.hidden = 0
            ORDER BY t.name, c.name";
        let mut statement = self.connection.prepare(sql).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        let mut tables = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let get = |index| row.get::<_, String>(index).map_err(failed);
            let (table, name, kind) = (get(0)?, get(1)?, get(2)?);
            let class = match &*kind {
                "INTEGER" => Class::Int,
                "TEXT" => Class::Text,
                "BLOB" => Class::Blob,
                other => return Err(unknown(&table, &name, other)),
            };
            let column = Column {
                name,
                class,
                optional: row.get(3).map_err(failed)?,
                numbered: row.get(4).map_err(failed)?,
            };
            add(&mut tables, &table, column);
        }
        for table in &mut tables {
            let sql = "SELECT \"table\" FROM pragma_foreign_key_list($1)";
            let mut statement = self.connection.prepare(sql).map_err(failed)?;
            let found = statement.query_map([&table.name], |row| row.get(0));
            let found = found.and_then(Iterator::collect);
            table.refers_to = found.map_err(failed)?;
        }
        Ok(tables)
    }

    pub(super) fn has_rows(&self, table: &Table) -> Result<bool> {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {})", table.quoted());
        self.connection
            .query_row(&sql, [], |row| row.get(0))
            .map_err(failed)
    }

    /// Reads all rows of a table that this condition holds for.
    pub(super) fn rows(
        &self,
        table: &Table,
        condition: &str,
        each: &mut dyn FnMut(&[Cell<'_>]) -> Result<()>,
    ) -> Result<()> {
        let sql = format!("SELECT {} FROM {}{condition}", table.list(), table.quoted());
        let mut statement = self.connection.prepare(&sql).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        let wrong = |column: &Column, what: &str| {
            let (table, column) = (&table.name, &column.name);
            StoreError::Open(format!("the table {table} holds {what} in its column {column}"))
        };
        while let Some(row) = rows.next().map_err(failed)? {
            let mut cells = Vec::with_capacity(table.columns.len());
            for (index, column) in table.columns.iter().enumerate() {
                cells.push(match row.get_ref(index).map_err(failed)? {
                    ValueRef::Null => Cell::Null,
                    ValueRef::Integer(number) => Cell::Int(number),
                    ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
                        Ok(text) => Cell::Text(text),
                        Err(_) => return Err(wrong(column, "text that is not UTF-8")),
                    },
                    ValueRef::Blob(bytes) => Cell::Blob(bytes),
                    ValueRef::Real(_) => return Err(wrong(column, "a floating-point number")),
                });
            }
            each(&cells)?;
        }
        Ok(())
    }

    /// Writes the rows that `from` gives.
    pub(super) fn fill(
        &self,
        table: &Table,
        from: impl FnOnce(&mut dyn FnMut(&[Cell<'_>]) -> Result<()>) -> Result<Counted>,
    ) -> Result<Counted> {
        let places: Vec<String> = (1..=table.columns.len()).map(|n| format!("?{n}")).collect();
        let places = places.join(", ");
        let sql = format!(
            "INSERT INTO {} ({}) VALUES ({places})",
            table.quoted(),
            table.list()
        );
        let mut statement = self.connection.prepare(&sql).map_err(failed)?;
        from(&mut |cells| {
            for (index, cell) in cells.iter().enumerate() {
                statement
                    .raw_bind_parameter(
                        index + 1,
                        rusqlite::types::ToSqlOutput::Borrowed(match cell {
                            Cell::Null => ValueRef::Null,
                            Cell::Int(number) => ValueRef::Integer(*number),
                            Cell::Text(text) => ValueRef::Text(text.as_bytes()),
                            Cell::Blob(bytes) => ValueRef::Blob(bytes),
                        }),
                    )
                    .map_err(failed)?;
            }
            let done = statement.raw_execute();
            done.map(|_| ())
                .map_err(|error| StoreError::Open(format!("a row of {} is refused: {error}", table.name)))
        })
    }

    /// The highest number that was ever given to a row.
    pub(super) fn last_number(&self, table: &Table) -> Result<i64> {
        let sql = "SELECT seq FROM sqlite_sequence WHERE name = $1";
        let last = self
            .connection
            .query_row(sql, [&table.name], |row| row.get(0))
            .optional();
        last.map(Option::unwrap_or_default).map_err(failed)
    }

    /// Lets numbers go on after this one.
    pub(super) fn number_after(&self, table: &Table, last: i64) -> Result<()> {
        let (name, connection) = (&table.name, &self.connection);
        let sql = "UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1";
        if connection.execute(sql, (name, last)).map_err(failed)? == 0 {
            let sql = "INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)";
            connection.execute(sql, (name, last)).map_err(failed)?;
        }
        Ok(())
    }

    pub(super) fn setting(&self, name: &str) -> Result<Option<String>> {
        let sql = "SELECT value FROM settings WHERE name = $1";
        self.connection
            .query_row(sql, [name], |row| row.get(0))
            .optional()
            .map_err(failed)
    }

    pub(super) fn keep_setting(&self, name: &str, value: &str) -> Result<()> {
        let sql = "INSERT INTO settings (name, value) VALUES (?1, ?2)";
        self.connection
            .execute(sql, (name, value))
            .map(|_| ())
            .map_err(failed)
    }

    pub(super) fn commit(&self) -> Result<()> {
        self.connection.execute_batch("COMMIT").map_err(failed)
    }
}

pub(super) fn unknown(table: &str, column: &str, kind: &str) -> StoreError {
    StoreError::Open(format!(
        "the column {column} of the table {table} has the type {kind}, which is not copied"
    ))
}
