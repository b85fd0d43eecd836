//! What goes into a statement and what comes out of a row, in the types that both engines have: NULL, 64-bit
//! integers, text and bytes. Instants are milliseconds, booleans 0 and 1, ids and JSON text.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::domain;

/// A parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// An integer, a boolean or an instant.
    Int(i64),
    /// Text, an id or JSON.
    Text(String),
    /// Bytes, shared and never copied: an archive may have a hundred megabytes.
    Blob(Bytes),
}

/// A column of a row, borrowed from the engine.
#[derive(Debug, Clone, Copy)]
pub enum Cell<'a> {
    /// SQL NULL.
    Null,
    /// An integer, a boolean or an instant.
    Int(i64),
    /// Text, an id or JSON.
    Text(&'a str),
    /// Bytes.
    Blob(&'a [u8]),
}

/// A value that is stored as JSON text.
#[derive(Debug, Clone, PartialEq)]
pub struct Json<T>(pub T);

/// A type a column can be read as.
pub trait Column: Sized {
    /// Reads it, or says what it should have been.
    fn read(cell: Cell<'_>) -> Result<Self, String>;
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Blob(bytes.into())
    }
}

impl From<Bytes> for Value {
    fn from(bytes: Bytes) -> Self {
        Self::Blob(bytes)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Int(number.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Int(truth.into())
    }
}

impl From<Timestamp> for Value {
    fn from(at: Timestamp) -> Self {
        Self::Int(at.as_millisecond())
    }
}

impl From<Uuid> for Value {
    fn from(id: Uuid) -> Self {
        Self::Text(id.as_hyphenated().to_string())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<T: Serialize> From<Json<T>> for Value {
    fn from(json: Json<T>) -> Self {
        // Everything stored as JSON is a map with string keys or a plain struct, which cannot fail to serialise;
        // NULL would be caught by the column's NOT NULL.
        serde_json::to_string(&json.0).map_or(Self::Null, Self::Text)
    }
}

impl Column for i64 {
    fn read(cell: Cell<'_>) -> Result<Self, String> {
        match cell {
            Cell::Int(number) => Ok(number),
            other => Err(format!("expected an integer, found {}", other.kind())),
        }
    }
}

impl Column for u32 {
    fn read(cell: Cell<'_>) -> Result<Self, String> {
        i64::read(cell)?
            .try_into()
            .map_err(|_| "out of range for u32".to_owned())
    }
}

impl Column for u64 {
    fn read(cell: Cell<'_>) -> Result<Self, String> {
        i64::read(cell)?.try_into().map_err(|_| "negative".to_owned())
    }
}

impl Column for bool {
    fn read(cell: Cell<'_>) -> Result<Self, String> {
        i64::read(cell).map(|number| number != 0)
    }
}

impl Column for Timestamp {
    fn read(cell: Cell<'_>) -> Result<Self, String> {
        Self::from_millisecond(i64::read(cell)?).map_err(|error| error.to_string())
    }
}

impl Column for String {
    fn read(cell: Cell<'_>) -> Result<Self, String> {
        match cell {
            Cell::Text(text) => Ok(text.to_owned()),
            other => Err(format!("expected text, found {}", other.kind())),
        }
    }
}

impl Column for Vec<u8> {
    fn read(cell: Cell<'_>) -> Result<Self, String> {
        match cell {
            Cell::Blob(bytes) => Ok(bytes.to_owned()),
            other => Err(format!("expected bytes, found {}", other.kind())),
        }
    }
}

impl<T: Column> Column for Option<T> {
    fn read(cell: Cell<'_>) -> Result<Self, String> {
        if matches!(cell, Cell::Null) {
            Ok(None)
        } else {
            T::read(cell).map(Some)
        }
    }
}

impl<T: DeserializeOwned> Column for Json<T> {
    fn read(cell: Cell<'_>) -> Result<Self, String> {
        match cell {
            Cell::Text(text) => serde_json::from_str(text)
                .map(Self)
                .map_err(|error| error.to_string()),
            other => Err(format!("expected JSON, found {}", other.kind())),
        }
    }
}

impl Cell<'_> {
    fn kind(self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Int(_) => "an integer",
            Self::Text(_) => "text",
            Self::Blob(_) => "bytes",
        }
    }
}

macro_rules! stored_ids {
    ($($id:ty),+ $(,)?) => {$(
        impl From<$id> for Value {
            fn from(id: $id) -> Self {
                id.0.into()
            }
        }

        impl Column for $id {
            fn read(cell: Cell<'_>) -> Result<Self, String> {
                match cell {
                    Cell::Text(text) => text.parse().map_err(|error| format!("not an id: {error}")),
                    other => Err(format!("expected an id, found {}", other.kind())),
                }
            }
        }
    )+};
}

stored_ids!(
    domain::TenantId,
    domain::KeyId,
    domain::SecretId,
    domain::DeploymentId,
    domain::WorkflowId,
    domain::ScheduleId,
    domain::JobId,
    domain::EndpointId,
    domain::DeliveryId,
    domain::CredentialId,
    domain::ProfileId,
);
