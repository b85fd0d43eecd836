//! `credentials/*`, the health routes, and answers that are only a message.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Secret,
    shape::{CredentialName, Id, Instant, Message, Success},
};

/// The answer of routes that only say that it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Done {
    /// Always `true`.
    #[schemars(with = "Success")]
    pub success: bool,
    /// For people.
    #[schemars(with = "Message")]
    pub message: String,
}

/// The answer of `credentials/create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreatedCredential {
    /// Always `true`.
    #[schemars(with = "Success")]
    pub success: bool,
    /// UUID.
    #[schemars(with = "Id")]
    pub credential_id: String,
    /// For people.
    #[schemars(with = "Message")]
    pub message: String,
}

/// The answer of `credentials/upsert`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpsertedCredential {
    /// Always `true`.
    #[schemars(with = "Success")]
    pub success: bool,
    /// UUID.
    #[schemars(with = "Id")]
    pub credential_id: String,
    /// For people.
    #[schemars(with = "Message")]
    pub message: String,
    /// Whether a value of that name was there before.
    pub overwritten: bool,
}

/// A credential, as `credentials/list` shows it: never with its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Credential {
    /// UUID.
    #[schemars(with = "Id")]
    pub credential_id: String,
    /// Lower case.
    #[schemars(with = "CredentialName")]
    pub name: String,
    /// When it was created.
    #[schemars(with = "Instant")]
    pub created_at: String,
    /// When its value or name last changed.
    #[schemars(with = "Instant")]
    pub updated_at: String,
}

/// The answer of `credentials/list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CredentialList {
    /// By name.
    pub credentials: Vec<Credential>,
}

/// The answer of `credentials/get`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CredentialValue {
    /// UUID.
    #[schemars(with = "Id")]
    pub id: String,
    /// The value in the clear.
    #[schemars(with = "String", example = &"hunter2")]
    pub value: Secret,
}

/// The answer of `/health/live` and `/health/ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// `ok` or `unavailable`.
    #[schemars(example = &"ok")]
    pub status: String,
    /// What was looked at.
    pub checks: Vec<HealthCheck>,
}

/// One thing that `/health/ready` looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthCheck {
    /// E.g. `store`, `scheduler`, `node`, `chromium`.
    #[schemars(example = &"store")]
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// What there is to say about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"takes no writes")]
    pub detail: Option<String>,
}

/// The input of `credentials/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateCredential {
    /// Letters, digits, `_`, `-` and `.`; kept in lower case.
    #[schemars(with = "CredentialName")]
    pub name: String,
    /// Kept encrypted; 1 to 65,536 characters.
    #[schemars(with = "String", length(min = 1, max = 65_536), example = &"hunter2")]
    pub value: Secret,
}

/// The input of `credentials/upsert`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpsertCredential {
    /// Letters, digits, `_`, `-` and `.`; kept in lower case.
    #[schemars(with = "CredentialName")]
    pub name: String,
    /// Kept encrypted; 1 to 65,536 characters.
    #[schemars(with = "String", length(min = 1, max = 65_536), example = &"hunter2")]
    pub value: Secret,
}

/// The input of `credentials/list`: nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListCredentials {}

/// The input of `credentials/get`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetCredential {
    /// Its name, in any case.
    #[schemars(with = "CredentialName")]
    pub name: String,
}

/// The input of `credentials/update`: what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateCredential {
    /// The credential.
    #[schemars(with = "Id")]
    pub id: String,
    /// Letters, digits, `_`, `-` and `.`; kept in lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CredentialName")]
    pub name: Option<String>,
    /// Kept encrypted; 1 to 65,536 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 65_536), example = &"hunter2")]
    pub value: Option<Secret>,
}

/// The input of `credentials/delete`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteCredential {
    /// The credential.
    #[schemars(with = "Id")]
    pub id: String,
}
