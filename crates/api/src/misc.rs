//! `credentials/*`, the health routes, and answers that are only a message.

use serde::{Deserialize, Serialize};

use super::Secret;

/// The answer of routes that only say that it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Always `true`.
    pub success: bool,
    /// For people.
    pub message: String,
}

/// The answer of `credentials/create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedCredential {
    /// Always `true`.
    pub success: bool,
    /// UUID.
    pub credential_id: String,
    /// For people.
    pub message: String,
}

/// The answer of `credentials/upsert`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpsertedCredential {
    /// Always `true`.
    pub success: bool,
    /// UUID.
    pub credential_id: String,
    /// For people.
    pub message: String,
    /// Whether a value of that name was there before.
    pub overwritten: bool,
}

/// A credential, as `credentials/list` shows it: never with its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// UUID.
    pub credential_id: String,
    /// Lower case.
    pub name: String,
    /// When it was created.
    pub created_at: String,
    /// When its value or name last changed.
    pub updated_at: String,
}

/// The answer of `credentials/list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialList {
    /// By name.
    pub credentials: Vec<Credential>,
}

/// The answer of `credentials/get`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialValue {
    /// UUID.
    pub id: String,
    /// The value in the clear.
    pub value: Secret,
}

/// The answer of `/health/live` and `/health/ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok` or `unavailable`.
    pub status: String,
    /// What was looked at.
    pub checks: Vec<HealthCheck>,
}

/// One thing that `/health/ready` looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// E.g. `store`, `scheduler`, `node`, `chromium`.
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// What there is to say about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}
