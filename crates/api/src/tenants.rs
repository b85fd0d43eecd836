//! A tenant's own affairs: its settings, its browser profiles, its API keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Secret,
    shape::{Id, Instant, Success},
};

/// The input of `tenant/settings`: what is absent stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeTenantSettings {
    /// Whether the stored webhooks no longer hear of `job.failed`. A callback of a job's own is not touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub disable_job_failure_notifications: Option<bool>,
}

/// The answer of `tenant/settings`: as they now stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TenantSettings {
    /// Always `false`: a matter of the hosted service.
    pub code_sharing_enabled: bool,
    /// Whether the stored webhooks do not hear of `job.failed`.
    pub disable_job_failure_notifications: bool,
    /// Always `null`: a matter of the hosted service.
    #[schemars(example = &"ops@example.com")]
    pub debug_notification_email: Option<String>,
}

/// The input of `browserProfiles/ensure`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnsureBrowserProfile {
    /// Its name, 1 to 100 characters.
    #[schemars(length(min = 1, max = 100), example = &"portal-login")]
    pub name: String,
}

/// The answer of `browserProfiles/ensure`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BrowserProfile {
    /// Always `true`.
    #[schemars(with = "Success")]
    pub success: bool,
    /// The profile.
    #[schemars(with = "Id")]
    pub profile_id: String,
    /// Its name.
    #[schemars(example = &"portal-login")]
    pub name: String,
    /// Whether it was made just now.
    pub created: bool,
}

/// The input of `/api/auth/api-key/create`, which has no envelope.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApiKey {
    /// What the key is for, 1 to 100 characters.
    #[schemars(length(min = 1, max = 100), example = &"laptop")]
    pub name: String,
    /// In how many seconds it expires, 1 to 315,360,000; `null`, and by default: never.
    #[serde(rename = "expiresIn", default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 315_360_000), example = 2_592_000)]
    pub expires_in: Option<u64>,
}

/// The answer of `/api/auth/api-key/create`, which has no envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreatedApiKey {
    /// The key's id, by which it is deleted.
    #[schemars(with = "Id")]
    pub id: String,
    /// What it is for.
    #[schemars(example = &"laptop")]
    pub name: String,
    /// The key itself, shown this once.
    #[schemars(with = "String", example = &"imp_8T4nQ2xw…")]
    pub key: Secret,
    /// When it expires; `null`: never.
    #[serde(rename = "expiresAt")]
    #[schemars(with = "Option<Instant>")]
    pub expires_at: Option<String>,
}

/// A key, as `/api/auth/api-key/list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// The key's id.
    #[schemars(with = "Id")]
    pub id: String,
    /// What it is for.
    #[schemars(example = &"laptop")]
    pub name: String,
    /// How the key begins: enough to know it by, and no secret.
    #[schemars(example = &"imp_8T4nQ2xw")]
    pub start: String,
    /// What every key begins with.
    #[schemars(example = &"imp_")]
    pub prefix: String,
    /// Whether it opens anything: it is neither revoked nor expired.
    pub enabled: bool,
    /// When it was made.
    #[schemars(with = "Instant")]
    pub created_at: String,
    /// When it was last used, exact to a minute.
    #[schemars(with = "Option<Instant>")]
    pub last_request: Option<String>,
    /// When it expires; `null`: never.
    #[schemars(with = "Option<Instant>")]
    pub expires_at: Option<String>,
}

/// The input of `/api/auth/api-key/delete`, which has no envelope.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteApiKey {
    /// The key's id.
    #[serde(rename = "keyId")]
    #[schemars(with = "Id")]
    pub key_id: String,
}

/// The answer of `/api/auth/api-key/delete`, which has no envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeletedApiKey {
    /// Always `true`.
    #[schemars(with = "Success")]
    pub success: bool,
}

/// What the official command line reports of itself: anything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct CliEvent(
    #[schemars(extend("example" = {"command": "deploy"}))] pub serde_json::Map<String, serde_json::Value>,
);

/// The answer of `telemetry/recordCliEvent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CliEventTaken {
    /// Always `true`.
    #[schemars(with = "Success")]
    pub success: bool,
}
