//! What can go wrong in the store. Expected outcomes ("not found", "name taken") are not errors but answers.

use rusqlite::ErrorCode;

/// A failed operation. Nothing of it was written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The data directory or its files cannot be used.
    #[error("{0}")]
    Open(String),
    /// The engine refused a statement.
    #[error("{operation}: the database refused it")]
    Engine {
        /// The operation's name.
        operation: &'static str,
        /// What the engine said.
        #[source]
        source: rusqlite::Error,
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
            Self::Engine { source, .. } => {
                source.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation)
            }
            Self::Open(_) | Self::Commit { .. } | Self::Closed { .. } | Self::TooSlow { .. } => false,
        }
    }

    /// Whether the store as a whole is in trouble (a full disk, one that cannot be written or read, a database that
    /// somebody else holds), so that the same operation may go through later. Everything else is a fault of ours.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Open(_) | Self::Commit { .. } => true,
            Self::Engine { source, .. } => matches!(
                source.sqlite_error_code(),
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
            _ => false,
        }
    }
}

/// The result of an operation.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;
