//! One side of a copy in a database on PostgreSQL: the open transaction of one connection, used from a thread that may wait.

use std::pin::pin;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::runtime::Handle;
use tokio_postgres::{
    Client, Row,
    types::{FromSqlOwned, ToSql},
};

use super::{
    Counted,
    shape::{Class, Column, Table, add},
    sqlite::unknown,
};
use crate::store::{
    error::{Result, StoreError},
    postgres::cell,
    value::Cell,
};

/// What is sent at once. A large value is sent in such parts as well.
const PART: usize = 256 * 1024;

/// The head of the binary format: its signature, no flags, no extension.
const HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Nothing here has the limits of a session of the store: a table is read or filled in one statement.
const LIMITS: &str = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; \
     SET LOCAL lock_timeout = '30s'";

pub(super) struct Postgres {
    client: Client,
    runtime: Handle,
    shown: String,
}

impl Postgres {
    /// Begins: to read a snapshot, or to write.
    pub(super) fn begin(client: Client, runtime: Handle, shown: String, writes: bool) -> Result<Self> {
        let begin = match writes {
            // Each statement sees what was committed last: a lock that was waited for shows what its holder left.
            true => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
            false => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        let postgres = Self {
            client,
            runtime,
            shown,
        };
        postgres.run(&format!("{begin}; {LIMITS}"))?;
        Ok(postgres)
    }

    #[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
    fn failed(&self, error: tokio_postgres::Error) -> StoreError {
        let why = match error.as_db_error() {
            Some(answer) => format!("{} ({})", answer.message(), answer.code().code()),
            None => match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            },
        };
        StoreError::Open(format!("{}: {why}", self.shown))
    }

    fn run(&self, sql: &str) -> Result<()> {
        let done = self.runtime.block_on(self.client.batch_execute(sql));
        done.map_err(|error| self.failed(error))
    }

    fn ask(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        let asked = self.client.query(sql, parameters);
        self.runtime.block_on(asked).map_err(|error| self.failed(error))
    }

    /// The first column of the first row.
    fn one<T: FromSqlOwned>(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Option<T>> {
        let rows = self.ask(sql, parameters)?;
        let found = rows.first().map(|row| row.try_get(0)).transpose();
        found.map_err(|error| self.failed(error))
    }

    pub(super) fn tables(&self) -> Result<Vec<Table>> {
        let sql = "SELECT t.relname::text, c.attname::text, format_type(c.atttypid, NULL),
              NOT c.attnotnull OR c.atthasdef OR c.attidentity <> '', c.attidentity <> ''
            FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace
            JOIN pg_attribute c ON c.attrelid = t.oid AND c.attnum > 0 AND NOT c.attisdropped AND c.attgenerated = ''
            WHERE n.nspname = current_schema() AND t.relkind IN ('r', 'p') AND t.relname <> 'schema_migrations'
            ORDER BY t.relname COLLATE \"C\", c.attname COLLATE \"C\"";
        let mut tables = Vec::new();
        for row in self.ask(sql, &[])? {
            let get = |index: usize| row.try_get::<_, String>(index).map_err(|e| self.failed(e));
            let is = |index: usize| row.try_get::<_, bool>(index).map_err(|e| self.failed(e));
            let (table, name, kind) = (get(0)?, get(1)?, get(2)?);
            let class = match &*kind {
                "bigint" => Class::Int,
                "text" => Class::Text,
                "bytea" => Class::Blob,
                other => return Err(unknown(&table, &name, other)),
            };
            let column = Column {
                name,
                class,
                optional: is(3)?,
                numbered: is(4)?,
            };
            add(&mut tables, &table, column);
        }
        let sql = "SELECT t.relname::text, o.relname::text
            FROM pg_constraint k JOIN pg_class t ON t.oid = k.conrelid JOIN pg_class o ON o.oid = k.confrelid
            JOIN pg_namespace n ON n.oid = t.relnamespace
            WHERE k.contype = 'f' AND n.nspname = current_schema() AND t.relname <> 'schema_migrations'";
        for row in self.ask(sql, &[])? {
            let get = |index: usize| row.try_get::<_, String>(index).map_err(|e| self.failed(e));
            let (table, other) = (get(0)?, get(1)?);
            if let Some(table) = tables.iter_mut().find(|known| known.name == table) {
                table.refers_to.insert(other);
            }
        }
        Ok(tables)
    }

    /// Keeps everybody else from writing to these tables until the end. Those who read are not kept from it.
    pub(super) fn lock(&self, tables: &[Table]) -> Result<()> {
        let names: Vec<String> = tables.iter().map(Table::quoted).collect();
        self.run(&format!("LOCK TABLE {} IN EXCLUSIVE MODE", names.join(", ")))
    }

    pub(super) fn has_rows(&self, table: &Table) -> Result<bool> {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {})", table.quoted());
        Ok(self.one(&sql, &[])?.unwrap_or(false))
    }

    /// Reads all rows of a table that this condition holds for, as they come.
    pub(super) fn rows(
        &self,
        table: &Table,
        condition: &str,
        each: &mut dyn FnMut(&[Cell<'_>]) -> Result<()>,
    ) -> Result<()> {
        let sql = format!("SELECT {} FROM {}{condition}", table.list(), table.quoted());
        let none: [&str; 0] = [];
        let rows = self.runtime.block_on(self.client.query_raw(&sql, none));
        let mut rows = pin!(rows.map_err(|error| self.failed(error))?);
        while let Some(row) = self.runtime.block_on(rows.next()) {
            let row = row.map_err(|error| self.failed(error))?;
            let mut cells = Vec::with_capacity(table.columns.len());
            for (index, column) in table.columns.iter().enumerate() {
                let found = cell(&row, index);
                cells.push(found.map_err(|why| {
                    StoreError::Open(format!("the column {} of {}: {why}", column.name, table.name))
                })?);
            }
            each(&cells)?;
        }
        Ok(())
    }

    /// Writes the rows that `from` gives, with `COPY`, in its binary format.
    pub(super) fn fill(
        &self,
        table: &Table,
        from: impl FnOnce(&mut dyn FnMut(&[Cell<'_>]) -> Result<()>) -> Result<Counted>,
    ) -> Result<Counted> {
        let sql = format!(
            "COPY {} ({}) FROM STDIN (FORMAT binary)",
            table.quoted(),
            table.list()
        );
        let sink = self.runtime.block_on(self.client.copy_in::<_, Bytes>(&sql));
        let mut sink = pin!(sink.map_err(|error| self.failed(error))?);
        let mut part = BytesMut::with_capacity(2 * PART);
        part.extend_from_slice(HEAD);
        // The server says what is wrong with a row only at the end.
        let mut send = |bytes: Bytes| {
            let sent = self.runtime.block_on(sink.send(bytes));
            sent.map_err(|error| self.failed(error))
        };
        let fields = i16::try_from(table.columns.len()).unwrap_or(i16::MAX);
        let counted = from(&mut |cells| {
            part.put_i16(fields);
            for cell in cells {
                match cell {
                    Cell::Null => part.put_i32(-1),
                    Cell::Int(number) => {
                        part.put_i32(8);
                        part.put_i64(*number);
                    }
                    Cell::Text(text) => value(&mut part, text.as_bytes(), &mut send)?,
                    Cell::Blob(bytes) => value(&mut part, bytes, &mut send)?,
                }
            }
            if part.len() >= PART {
                send(part.split().freeze())?;
            }
            Ok(())
        })?;
        part.put_i16(-1);
        send(part.freeze())?;
        let filled = self.runtime.block_on(sink.finish());
        filled.map_err(|error| self.failed(error))?;
        Ok(counted)
    }

    /// The highest number that was ever given to a row.
    pub(super) fn last_number(&self, table: &Table, column: &Column) -> Result<i64> {
        let Some(sequence) = self.sequence(table, column)? else {
            return Ok(0);
        };
        let sql = format!("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}");
        Ok(self.one(&sql, &[])?.unwrap_or(0))
    }

    /// Lets numbers go on after this one.
    pub(super) fn number_after(&self, table: &Table, column: &Column, last: i64) -> Result<()> {
        match self.sequence(table, column)? {
            Some(sequence) if last > 0 => {
                let sql = format!("SELECT setval($1::text::regclass, {last})");
                self.ask(&sql, &[&sequence]).map(|_| ())
            }
            _ => Ok(()),
        }
    }

    /// The name, as SQL writes it, of what numbers the rows.
    fn sequence(&self, table: &Table, column: &Column) -> Result<Option<String>> {
        let sql = "SELECT pg_get_serial_sequence($1, $2)";
        let found = self.one::<Option<String>>(sql, &[&table.quoted(), &column.name])?;
        Ok(found.flatten())
    }

    pub(super) fn setting(&self, name: &str) -> Result<Option<String>> {
        self.one("SELECT value FROM settings WHERE name = $1", &[&name])
    }

    pub(super) fn keep_setting(&self, name: &str, value: &str) -> Result<()> {
        let sql = "INSERT INTO settings (name, value) VALUES ($1, $2)";
        self.ask(sql, &[&name, &value]).map(|_| ())
    }

    /// Makes what is new known to the planner, which would walk whole tables until the server gets round to it by itself.
    pub(super) fn analyze(&self, tables: &[Table]) -> Result<()> {
        let names: Vec<String> = tables.iter().map(Table::quoted).collect();
        self.run(&format!("ANALYZE {}", names.join(", ")))
    }

    /// Commits; the inner error is a commit of which nobody knows whether it arrived.
    pub(super) fn commit(&self) -> Result<Result<()>> {
        match self.runtime.block_on(self.client.batch_execute("COMMIT")) {
            Ok(()) => Ok(Ok(())),
            // Refused. A server that ends, or a session that is ended, may say so after it has committed.
            Err(error) if error.as_db_error().is_some() && !is_of_the_session(&error) => {
                Err(self.failed(error))
            }
            Err(error) => Ok(Err(self.failed(error))),
        }
    }
}

/// Whether an answer says something of the connection or the server and nothing of the statement.
fn is_of_the_session(error: &tokio_postgres::Error) -> bool {
    let code = error.code().map_or("", |state| state.code());
    ["08", "53", "57", "58"]
        .iter()
        .any(|class| code.starts_with(class))
}

/// A value and its length; a large one not in one piece.
fn value(part: &mut BytesMut, bytes: &[u8], send: &mut impl FnMut(Bytes) -> Result<()>) -> Result<()> {
    let length = i32::try_from(bytes.len())
        .map_err(|_| StoreError::Open("a value is larger than PostgreSQL takes".to_owned()))?;
    part.put_i32(length);
    for piece in bytes.chunks(PART) {
        part.extend_from_slice(piece);
        if part.len() >= PART {
            send(part.split().freeze())?;
        }
    }
    Ok(())
}
