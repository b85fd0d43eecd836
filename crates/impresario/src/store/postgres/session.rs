//! One connection, used by one thread at a time: statements with parameters, each with a deadline of this side's.

use std::{
    cell::{Cell as Flag, RefCell},
    collections::HashMap,
    fmt,
    time::Duration,
};

use bytes::BytesMut;
use tokio::runtime::Handle;
use tokio_postgres::{
    Client, Row, SimpleQueryMessage, Statement,
    row::RowIndex,
    types::{FromSql, IsNull, ToSql, Type, to_sql_checked},
};

use crate::store::{
    error::EngineError,
    value::{Cell, Value},
};

/// How long a statement may take. The server stops it sooner (`statement_timeout`), where it hears of it: this is for a
/// server, or a proxy before it, that has gone silent.
const LONGEST_ANSWER: Duration = Duration::from_secs(35);

/// Statements that a connection keeps prepared. There are a few hundred texts; lists are put together from conditions.
const MOST_PREPARED: usize = 512;

/// A connection.
pub(in crate::store) struct Session {
    client: Client,
    runtime: Handle,
    prepared: RefCell<HashMap<String, Statement>>,
    /// A statement has failed, so the server will undo the transaction whatever it is told.
    failed: Flag<bool>,
    /// It is of no use any more.
    broken: Flag<bool>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(client: Client, runtime: Handle) -> Self {
        Self {
            client,
            runtime,
            prepared: RefCell::default(),
            failed: Flag::new(false),
            broken: Flag::new(false),
        }
    }

    /// Whether another transaction may be begun on it.
    pub(super) fn is_good(&self) -> bool {
        !self.broken.get() && !self.client.is_closed()
    }

    /// Whether a statement has failed and nobody has undone it.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.get()
    }

    /// The transaction is as it was before what failed.
    pub(in crate::store) fn forgive(&self) {
        self.failed.set(false);
    }

    /// Statements without parameters, in one round trip.
    pub(in crate::store) fn batch(&self, sql: &str) -> Result<(), EngineError> {
        self.wait(self.client.batch_execute(sql))
    }

    /// The first column of the first row of the last of some statements without parameters.
    pub(super) fn text(&self, sql: &str) -> Result<Option<String>, EngineError> {
        let messages = self.wait(self.client.simple_query(sql))?;
        Ok(messages.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        }))
    }

    /// Runs a statement and says how many rows it touched.
    pub(in crate::store) fn execute(&self, sql: &str, params: &[Value]) -> Result<u64, EngineError> {
        let statement = self.prepare(sql)?;
        self.wait(self.client.execute(&statement, &refs(params)))
    }

    /// Runs a query.
    pub(in crate::store) fn query(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, EngineError> {
        let statement = self.prepare(sql)?;
        self.wait(self.client.query(&statement, &refs(params)))
    }

    fn prepare(&self, sql: &str) -> Result<Statement, EngineError> {
        if let Some(known) = self.prepared.borrow().get(sql) {
            return Ok(known.clone());
        }
        let statement = self.wait(self.client.prepare(sql))?;
        let mut prepared = self.prepared.borrow_mut();
        if prepared.len() >= MOST_PREPARED {
            prepared.clear();
        }
        prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    fn wait<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, EngineError> {
        let answer = async { tokio::time::timeout(LONGEST_ANSWER, answer).await };
        let answer = match self.runtime.block_on(answer) {
            Ok(answer) => answer.map_err(EngineError::from),
            Err(_) => Err(EngineError::NoAnswer(LONGEST_ANSWER)),
        };
        answer.inspect_err(|error| {
            self.failed.set(true);
            if error.is_unavailable() {
                self.broken.set(true);
            }
        })
    }
}

fn refs(params: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    params.iter().map(|value| value as _).collect()
}

/// PostgreSQL's text has no NUL. It can only come from what a workflow or a receiver wrote; it is shown as a character
/// that says that there was one which cannot be shown.
fn without_nul(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}").into()
    } else {
        text.into()
    }
}

impl ToSql for Value {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(number) if *ty == Type::INT8 => number.to_sql(ty, out),
            // What is compared with a number that stands in the statement.
            Self::Int(number) if *ty == Type::INT4 => i32::try_from(*number)?.to_sql(ty, out),
            Self::Text(text) if *ty == Type::TEXT => without_nul(text).to_sql(ty, out),
            Self::Blob(bytes) if *ty == Type::BYTEA => (&**bytes).to_sql(ty, out),
            _ => Err(format!("a parameter of another type than {ty}").into()),
        }
    }

    /// Of the types of columns that there are; what fits which is asked of each value.
    fn accepts(ty: &Type) -> bool {
        [Type::INT8, Type::INT4, Type::TEXT, Type::BYTEA].contains(ty)
    }

    to_sql_checked!();
}

/// A column of a row, as what it is.
struct Any<'a>(Cell<'a>);

impl<'a> FromSql<'a> for Any<'a> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(match *ty {
            Type::INT8 => Cell::Int(i64::from_sql(ty, raw)?),
            Type::INT4 => Cell::Int(i32::from_sql(ty, raw)?.into()),
            Type::BYTEA => Cell::Blob(raw),
            _ => Cell::Text(<&str>::from_sql(ty, raw)?),
        }))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(Cell::Null))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::INT8
            || *ty == Type::INT4
            || *ty == Type::BYTEA
            || *ty == Type::TEXT
            || *ty == Type::VARCHAR
            || *ty == Type::NAME
    }
}

/// Reads a column by its name or number, or says why it cannot be read.
pub(in crate::store) fn cell<'r>(
    row: &'r Row,
    column: impl RowIndex + fmt::Display,
) -> Result<Cell<'r>, String> {
    row.try_get::<_, Any<'r>>(column)
        .map(|any| any.0)
        .map_err(|error| match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })
}
