//! The database as the checker sees it: directly, past every proxy, each row as JSON whichever engine it is.

use std::{net::SocketAddr, path::Path, time::Duration};

use serde_json::{Map, Value};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::support::{PATIENCE, wait_for};

pub(crate) enum Db {
    Postgres { runtime: Runtime, client: Client },
    Sqlite(rusqlite::Connection),
}

impl Db {
    /// Connects once.
    ///
    /// # Errors
    /// What the server says: it may be starting.
    pub(crate) fn try_postgres(address: SocketAddr) -> Result<Self, String> {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let mut config = Config::new();
        config
            .host(address.ip().to_string())
            .port(address.port())
            .user("postgres")
            .dbname("postgres")
            .application_name("checker")
            .connect_timeout(Duration::from_secs(5));
        let (client, connection) = runtime
            .block_on(config.connect(NoTls))
            .map_err(|error| error.to_string())?;
        runtime.spawn(connection);
        let mut db = Self::Postgres { runtime, client };
        db.try_run("SELECT 1")?;
        Ok(db)
    }

    /// Connects to a server that is there or about to be.
    pub(crate) fn postgres(address: SocketAddr) -> Self {
        wait_for("PostgreSQL", PATIENCE, || Self::try_postgres(address))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the checker reads with its own eyes, not with the store's"
    )]
    pub(crate) fn sqlite(file: &Path) -> Self {
        let connection = rusqlite::Connection::open(file).unwrap();
        connection.busy_timeout(PATIENCE).unwrap();
        Self::Sqlite(connection)
    }

    /// Runs statements.
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) fn try_run(&mut self, sql: &str) -> Result<(), String> {
        match self {
            Self::Postgres { runtime, client } => runtime
                .block_on(client.batch_execute(sql))
                .map_err(|error| describe(&error)),
            Self::Sqlite(connection) => connection.execute_batch(sql).map_err(|error| error.to_string()),
        }
    }

    #[track_caller]
    pub(crate) fn run(&mut self, sql: &str) {
        self.try_run(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// What a query gives, an object for each row.
    #[track_caller]
    pub(crate) fn rows(&mut self, sql: &str) -> Vec<Value> {
        match self {
            Self::Postgres { runtime, client } => {
                let asked = format!("SELECT to_jsonb(t)::text FROM ({sql}) t");
                let messages = runtime
                    .block_on(client.simple_query(&asked))
                    .unwrap_or_else(|error| panic!("{sql}: {}", describe(&error)));
                let text = |message: &SimpleQueryMessage| match message {
                    SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                    _ => None,
                };
                let rows = messages.iter().filter_map(text);
                rows.map(|row| serde_json::from_str(&row).unwrap()).collect()
            }
            Self::Sqlite(connection) => {
                of_sqlite(connection, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
            }
        }
    }
}

/// With what lies behind it: on its own, the error says only that there was one.
fn describe(error: &tokio_postgres::Error) -> String {
    let behind = std::error::Error::source(error).map(ToString::to_string);
    format!("{error}: {}", behind.unwrap_or_default())
}

fn of_sqlite(connection: &rusqlite::Connection, sql: &str) -> rusqlite::Result<Vec<Value>> {
    use rusqlite::types::Value as Cell;
    let mut statement = connection.prepare(sql)?;
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let read = |row: &rusqlite::Row<'_>| {
        let mut object = Map::new();
        for (index, name) in names.iter().enumerate() {
            let value = match row.get(index)? {
                Cell::Null => Value::Null,
                Cell::Integer(number) => number.into(),
                Cell::Real(number) => number.into(),
                Cell::Text(text) => text.into(),
                Cell::Blob(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
            };
            object.insert(name.clone(), value);
        }
        Ok(Value::Object(object))
    };
    statement.query_map([], read)?.collect()
}
