//! What can go wrong in the store. Expected outcomes ("not found", "name taken") are not errors but answers.

use std::time::Duration;

use rusqlite::ErrorCode;
use tokio_postgres::error::SqlState;

/// What an engine said.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The embedded one.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// The shared one.
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
    /// The shared one said nothing.
    #[error("the database server did not answer within {} s", .0.as_secs())]
    NoAnswer(Duration),
    /// The transaction was given up by an earlier error of the same operation, so nothing of it can be kept.
    #[error("a statement of this operation had failed before")]
    GivenUp,
}

impl EngineError {
    /// A unique key, a foreign key, a check, a NOT NULL.
    pub(super) fn is_constraint(&self) -> bool {
        match self {
            Self::Sqlite(error) => error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation),
            // Class 23 (https://www.postgresql.org/docs/current/errcodes-appendix.html).
            Self::Postgres(_) => self.state().is_some_and(|state| state.code().starts_with("23")),
            Self::NoAnswer(_) | Self::GivenUp => false,
        }
    }

    /// Two rows with one key, or one that another transaction has just made: the same operation sees that row when it is
    /// run again.
    pub(super) fn is_duplicate(&self) -> bool {
        self.state() == Some(&SqlState::UNIQUE_VIOLATION)
    }

    /// Somebody else's transaction was in the way: the same operation may go through when it is run again.
    pub(super) fn is_conflict(&self) -> bool {
        let conflicts = [
            &SqlState::T_R_SERIALIZATION_FAILURE,
            &SqlState::T_R_DEADLOCK_DETECTED,
            &SqlState::LOCK_NOT_AVAILABLE,
        ];
        self.state().is_some_and(|state| conflicts.contains(&state))
    }

    /// It was told to stop, or took longer than it may.
    pub(super) fn is_interrupted(&self) -> bool {
        match self {
            Self::Sqlite(error) => error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted),
            Self::Postgres(_) => self.state() == Some(&SqlState::QUERY_CANCELED),
            Self::NoAnswer(_) | Self::GivenUp => false,
        }
    }

    /// The connection is of no use any more, or the server as a whole takes no work: nothing was committed by what has
    /// not been told to.
    pub(super) fn is_unavailable(&self) -> bool {
        match self {
            Self::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(
                    ErrorCode::DiskFull
                        | ErrorCode::SystemIoFailure
                        | ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                        | ErrorCode::FileLockingProtocolFailed
                        | ErrorCode::ReadOnly
                        | ErrorCode::CannotOpen
                )
            ),
            Self::NoAnswer(_) => true,
            Self::GivenUp => false,
            // What ended the connection is. Of the server's answers: connection exceptions (08),
            // insufficient resources (53), operator intervention but for a cancelled query (57), system errors (58),
            // a server that only reads (a standby, after a failover), and a plan from before a migration.
            Self::Postgres(error) => match error.code() {
                None => {
                    error.is_closed()
                        || std::error::Error::source(error)
                            .is_some_and(|source| source.is::<std::io::Error>())
                }
                Some(state) => {
                    let code = state.code();
                    ["08", "53", "57", "58"]
                        .iter()
                        .any(|class| code.starts_with(class))
                        && state != &SqlState::QUERY_CANCELED
                        || state == &SqlState::READ_ONLY_SQL_TRANSACTION
                        || state == &SqlState::FEATURE_NOT_SUPPORTED
                        || state == &SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
                }
            },
        }
    }

    fn state(&self) -> Option<&SqlState> {
        match self {
            Self::Postgres(error) => error.code(),
            _ => None,
        }
    }
}

/// A failed operation. Nothing of it was written, but for [`StoreError::Unknown`].
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The data directory or its files cannot be used.
    #[error("{0}")]
    Open(String),
    /// The server with the database cannot be reached, or takes no connection now; trying again may help.
    #[error("{0}")]
    Unreachable(String),
    /// The database was copied elsewhere, and what is on it now is only kept.
    #[error("{0}")]
    Moved(String),
    /// The engine refused a statement.
    #[error("{operation}: the database refused it")]
    Engine {
        /// The operation's name.
        operation: &'static str,
        /// What the engine said.
        #[source]
        source: EngineError,
    },
    /// It was a read for a request that did not come to its end in time, or that nobody waited for any more.
    #[error("{operation}: it took too long and was stopped")]
    TooSlow {
        /// The operation's name.
        operation: &'static str,
    },
    /// The transaction that the operation shared with others could not be committed.
    #[error("{operation}: the commit failed: {reason}")]
    Commit {
        /// The operation's name.
        operation: &'static str,
        /// What the engine said.
        reason: String,
    },
    /// The transaction was to be committed and the answer was lost: it may be there or not, and nobody can say which.
    #[error("{operation}: {reason}; whether it arrived cannot be known")]
    Unknown {
        /// The operation's name.
        operation: &'static str,
        /// What is known.
        reason: String,
    },
    /// A row holds something this version cannot read.
    #[error("{operation}: column {column}: {reason}")]
    Corrupt {
        /// The operation's name.
        operation: &'static str,
        /// The column.
        column: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A write touched another number of rows than it must.
    #[error("{operation}: {touched} rows written where it must be {expected}")]
    Rows {
        /// The operation's name.
        operation: &'static str,
        /// How many it must be.
        expected: u64,
        /// How many it were.
        touched: u64,
    },
    /// The operation panicked; a bug, and its writes were rolled back.
    #[error("{operation}: it panicked: {message}")]
    Panicked {
        /// The operation's name.
        operation: &'static str,
        /// The panic's message.
        message: String,
    },
    /// The store has been closed.
    #[error("{operation}: the store is closed")]
    Closed {
        /// The operation's name.
        operation: &'static str,
    },
}

impl StoreError {
    /// Whether the fault lies in what was read or written rather than in the database: trying again cannot help, and
    /// other rows are not concerned.
    #[must_use]
    pub fn is_of_the_row(&self) -> bool {
        match self {
            Self::Corrupt { .. } | Self::Rows { .. } | Self::Panicked { .. } => true,
            Self::Engine { source, .. } => source.is_constraint(),
            Self::Open(_)
            | Self::Unreachable(_)
            | Self::Moved(_)
            | Self::Commit { .. }
            | Self::Unknown { .. }
            | Self::Closed { .. }
            | Self::TooSlow { .. } => false,
        }
    }

    /// Whether somebody else's transaction was in the way: of this operation, or of the part of it that was isolated.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Engine { source, .. } if source.is_conflict())
    }

    /// Whether the store as a whole is in trouble (a full disk, one that cannot be written or read, a database that
    /// somebody else holds), so that the same operation may go through later. Everything else is a fault of ours.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Open(_)
            | Self::Unreachable(_)
            | Self::Moved(_)
            | Self::Commit { .. }
            | Self::Unknown { .. } => true,
            Self::Engine { source, .. } => source.is_unavailable() || source.is_conflict(),
            _ => false,
        }
    }
}

/// The result of an operation.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;
