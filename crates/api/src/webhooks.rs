//! `webhooks/*`, and the body of a callback.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Secret;

/// The input of `webhooks/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateWebhook {
    /// Where callbacks are posted.
    pub url: String,
    /// Signs each callback; the server makes one where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_secret: Option<Secret>,
}

/// The answer of `webhooks/create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedWebhook {
    /// Always `true`.
    pub success: bool,
    /// UUID.
    pub webhook_endpoint_id: String,
    /// For people.
    pub message: String,
    /// The secret the server made, shown this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_secret: Option<Secret>,
}

/// A stored webhook, as `webhooks/list` shows it. Its secret is never returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookEndpoint {
    /// UUID.
    pub webhook_endpoint_id: String,
    /// Where callbacks are posted.
    pub url: String,
    /// For people.
    pub description: Option<String>,
    /// Whether it receives anything.
    pub active: bool,
    /// When it was created.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
}

/// The answer of `webhooks/list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookList {
    /// Oldest first.
    pub webhook_endpoints: Vec<WebhookEndpoint>,
}

/// What is posted when a job ends as completed or failed. Not wrapped in the envelope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallbackBody {
    /// `job.completed` or `job.failed`.
    pub event: String,
    /// The job.
    pub job_id: String,
    /// The nonce it was created with.
    pub nonce: Option<String>,
    /// The workflow's name.
    pub workflow: String,
    /// The deployment that ran.
    pub deployment_id: String,
    /// `completed` or `failed`.
    pub status: String,
    /// What the workflow returned.
    pub result: Option<Value>,
    /// Why it failed.
    pub error: Option<String>,
    /// The stack of the error.
    pub mapped_stack: Option<String>,
    /// The schedule that created the job.
    pub schedule_id: Option<String>,
    /// The fire that created the job: the scheduled instant.
    pub fire_at: Option<String>,
}
