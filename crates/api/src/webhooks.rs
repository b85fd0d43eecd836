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
    /// Which events it hears of; `job.completed` and `job.failed` where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<String>>,
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
    /// Which events it hears of.
    pub events: Vec<String>,
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

/// What is posted when something happens to a schedule beside the ends of its jobs. Not wrapped in the envelope.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleEventBody {
    /// `schedule.missed`, `schedule.skipped`, `schedule.disabled` or `schedule.recovered`.
    pub event: String,
    /// The schedule.
    pub schedule_id: String,
    /// The schedule's name, if it has one.
    pub name: Option<String>,
    /// The workflow's name.
    pub workflow: String,
    /// When it happened.
    pub occurred_at: String,
    /// The scheduled instant that was skipped; of missed ones, the oldest.
    pub fire_at: Option<String>,
    /// Of missed instants, the newest.
    pub missed_until: Option<String>,
    /// How many instants were missed.
    pub missed: Option<u64>,
    /// The kind of reason, or `disabled_reason`.
    pub reason: Option<String>,
    /// The job that the event is about, if it is about one.
    pub job_id: Option<String>,
    /// Failures in a row when it happened; of `schedule.recovered`, how many there had been.
    pub consecutive_failures: u64,
}
