//! The two engines and every difference between them that an operation can see: which statements lock rows, and the few
//! texts that must differ, each with its reason.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::{
    error::{Result, StoreError},
    postgres::Postgres,
    sqlite::Sqlite,
};

/// The open database.
#[derive(Debug)]
pub(super) enum Engine {
    /// A file of this machine; one server has it.
    Sqlite(Sqlite),
    /// A server that any number of nodes share.
    Postgres(Postgres),
}

/// Which SQL an engine speaks, where the two do not agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// The embedded one.
    Sqlite,
    /// The shared one.
    Postgres,
}

impl Dialect {
    /// At the end of a SELECT of rows that the operation will decide on: nobody else changes them until it has ended, and
    /// what they hold is what was committed last. SQLite has a single writer. Weaker than `FOR UPDATE` in one point:
    /// whoever only refers to the row by a foreign key need not wait.
    #[must_use]
    pub fn lock(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR NO KEY UPDATE",
        }
    }

    /// The same for work that any node may do: rows that another one has already are passed over.
    #[must_use]
    pub fn claim(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR NO KEY UPDATE SKIP LOCKED",
        }
    }

    /// After the name of a table in FROM: the index that the planner does not find by itself. PostgreSQL has statistics
    /// and no such hint.
    #[must_use]
    pub fn by_index(self, index: &str) -> String {
        match self {
            Self::Sqlite => format!("INDEXED BY {index}"),
            Self::Postgres => String::new(),
        }
    }

    /// A FROM item that has each text of a JSON array as `item.value`: JSON is no part of the SQL that both have.
    #[must_use]
    pub fn texts_of(self, array: &str) -> String {
        match self {
            Self::Sqlite => format!("json_each({array}) AS item"),
            Self::Postgres => {
                format!("json_array_elements_text(CAST(CAST({array} AS TEXT) AS JSON)) AS item (value)")
            }
        }
    }

    /// The same for an array of arrays, of which `item.value ->> 0` is the first.
    #[must_use]
    pub fn rows_of(self, array: &str) -> String {
        match self {
            Self::Sqlite => format!("json_each({array}) AS item"),
            Self::Postgres => {
                format!("json_array_elements(CAST(CAST({array} AS TEXT) AS JSON)) AS item (value)")
            }
        }
    }

    /// What tells one place of a database from another, as a query with one column `home`: it is another once the tables
    /// were put back from a dump, on whatever server. Nothing where a file is a place.
    #[must_use]
    pub fn home(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some(
                "SELECT system_identifier::text || '/' || (SELECT oid::text FROM pg_database
                   WHERE datname = current_database()) || '/' || 'settings'::regclass::oid::text AS home
                 FROM pg_control_system()",
            ),
        }
    }

    /// The clock that all nodes go by and leases are measured on, in whole milliseconds, as a query with one column `now`;
    /// nothing where a lease ends with the process that holds it: SQLite's one server finds at its start what an earlier
    /// one left.
    #[must_use]
    pub fn lease_clock(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => {
                Some("SELECT CAST(FLOOR(EXTRACT(EPOCH FROM clock_timestamp()) * 1000) AS BIGINT) AS now")
            }
        }
    }
}

/// Who opens the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The server: there may be only one on a data directory.
    Server,
    /// A command beside it.
    Tool,
    /// The command that copies everything elsewhere. On a data directory it is alone, as a server is; and it may open what
    /// has been copied already.
    Mover,
}

/// Turns a panic of one operation into its error, so that it takes nobody else down.
pub(super) fn guarded<T>(operation: &'static str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        Err(StoreError::Panicked {
            operation,
            message: panic_message(&*panic),
        })
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// Lowercase hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
