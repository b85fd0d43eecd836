//! `webhooks/*`, and the body of a callback.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Secret, set,
    shape::{
        CallbackUrl, Cursor, DeliveredEvent, DeliveryStatus, Description, Event, Id, Instant, JobStatus,
        Label, Message, PingEvent, SigningSecret, Success, WorkflowName,
    },
};

/// The input of `webhooks/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateWebhook {
    /// Where callbacks are posted.
    #[schemars(with = "CallbackUrl")]
    pub url: String,
    /// Signs each callback; the server makes one where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SigningSecret>")]
    pub signing_secret: Option<Secret>,
    /// For people; at most 1,000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Description>")]
    pub description: Option<String>,
    /// Whether it receives anything; default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool", extend("default" = true))]
    pub active: Option<bool>,
    /// Which events it hears of; `job.completed` and `job.failed` where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<Event>>", length(min = 1, max = 6), extend("default" = ["job.completed", "job.failed"]))]
    pub events: Option<Vec<String>>,
}

/// The answer of `webhooks/create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreatedWebhook {
    /// Always `true`.
    #[schemars(with = "Success")]
    pub success: bool,
    /// UUID.
    #[schemars(with = "Id")]
    pub webhook_endpoint_id: String,
    /// For people.
    #[schemars(with = "Message")]
    pub message: String,
    /// The secret the server made, shown this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SigningSecret>")]
    pub signing_secret: Option<Secret>,
}

/// A stored webhook, as `webhooks/list` shows it. Its secret is never returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WebhookEndpoint {
    /// UUID.
    #[schemars(with = "Id")]
    pub webhook_endpoint_id: String,
    /// Where callbacks are posted.
    #[schemars(with = "CallbackUrl")]
    pub url: String,
    /// For people.
    #[schemars(with = "Option<Description>")]
    pub description: Option<String>,
    /// Whether it receives anything.
    pub active: bool,
    /// Which events it hears of.
    #[schemars(with = "Vec<Event>")]
    pub events: Vec<String>,
    /// Since when every attempt has failed; `null` where the newest one did not.
    #[schemars(with = "Option<Instant>")]
    pub failing_since: Option<String>,
    /// When the server made it inactive, because it answered 410 or failed for five days; `null` where it did not. It
    /// is cleared by `active: true`.
    #[schemars(with = "Option<Instant>")]
    pub disabled_at: Option<String>,
    /// Why it did.
    #[schemars(example = &"it answered 410 Gone, which says that nothing more is to be sent there")]
    pub disabled_reason: Option<String>,
    /// Until when secrets that it had before sign beside the one it has; `null` where none does.
    #[schemars(with = "Option<Instant>")]
    pub old_secrets_valid_until: Option<String>,
    /// When it was created.
    #[schemars(with = "Instant")]
    pub created_at: String,
    /// When it was last changed.
    #[schemars(with = "Instant")]
    pub updated_at: String,
}

/// The answer of `webhooks/list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WebhookList {
    /// Oldest first.
    pub webhook_endpoints: Vec<WebhookEndpoint>,
}

/// The input of `webhooks/list`: nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListWebhooks {}

/// The input of `webhooks/update`: what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateWebhook {
    /// The endpoint.
    #[schemars(with = "Id")]
    pub id: String,
    /// Where callbacks are posted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CallbackUrl")]
    pub url: Option<String>,
    /// Signs each callback from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SigningSecret")]
    pub signing_secret: Option<Secret>,
    /// How long the secret before it signs as well, in seconds, up to 30 days; default a day; 0: no secret before it
    /// signs anything from now on. Only with `signing_secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 0, max = 2_592_000), example = 86_400, extend("default" = 86_400))]
    pub secret_grace_seconds: Option<u32>,
    /// For people; `null`: none.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "set")]
    #[schemars(with = "Option<Description>")]
    pub description: Option<Option<String>>,
    /// Whether it receives anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub active: Option<bool>,
    /// Which events it hears of; `null`: `job.completed` and `job.failed`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "set")]
    #[schemars(with = "Option<Vec<Event>>", length(min = 1, max = 6))]
    pub events: Option<Option<Vec<String>>>,
}

/// The input of `webhooks/delete`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteWebhook {
    /// The endpoint.
    #[schemars(with = "Id")]
    pub id: String,
}

/// The input of `webhooks/rotate`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateSecret {
    /// The endpoint.
    #[schemars(with = "Id")]
    pub id: String,
    /// Signs each callback from now on; the server makes one where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SigningSecret>")]
    pub signing_secret: Option<Secret>,
    /// How long the secret before it signs as well, in seconds, up to 30 days; default a day; 0: no secret before it
    /// signs anything from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 0, max = 2_592_000), example = 86_400, extend("default" = 86_400))]
    pub secret_grace_seconds: Option<u32>,
}

/// The answer of `webhooks/rotate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RotatedSecret {
    /// Always `true`.
    #[schemars(with = "Success")]
    pub success: bool,
    /// For people.
    #[schemars(with = "Message")]
    pub message: String,
    /// The secret the server made, shown this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SigningSecret>")]
    pub signing_secret: Option<Secret>,
    /// Until when the secret before it signs as well; `null` where it does not.
    #[schemars(with = "Option<Instant>")]
    pub old_secret_valid_until: Option<String>,
}

/// The input of `webhooks/test`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestWebhook {
    /// The endpoint, active or not.
    #[schemars(with = "Id")]
    pub id: String,
}

/// The answer of `webhooks/test`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TestedWebhook {
    /// Always `true`: the ping is on its way.
    #[schemars(with = "Success")]
    pub success: bool,
    /// The ping: what `webhooks/deliveries` lists it under.
    #[schemars(with = "Id")]
    pub delivery_id: String,
    /// For people.
    #[schemars(with = "Message")]
    pub message: String,
}

/// The input of `webhooks/deliveries`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListDeliveries {
    /// This one alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Id")]
    pub delivery_id: Option<String>,
    /// Only those that tell of this job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Id")]
    pub job_id: Option<String>,
    /// Only those that tell of this schedule, or of a job of its fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Id")]
    pub schedule_id: Option<String>,
    /// Only those that go to this endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Id")]
    pub webhook_endpoint_id: Option<String>,
    /// Only those that stand like this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DeliveryStatus")]
    pub status: Option<String>,
    /// How many, 1 to 200; default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 200), example = 50, extend("default" = 50))]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Cursor>")]
    pub cursor: Option<String>,
}

/// What is owed to a receiver, and how the attempts went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delivery {
    /// The delivery; also the `webhook-id` of every attempt.
    #[schemars(with = "Id")]
    pub delivery_id: String,
    /// The job it tells of.
    #[schemars(with = "Option<Id>")]
    pub job_id: Option<String>,
    /// The schedule it tells of.
    #[schemars(with = "Option<Id>")]
    pub schedule_id: Option<String>,
    /// The stored webhook it goes to; `null` for a callback of the job's own.
    #[schemars(with = "Option<Id>")]
    pub webhook_endpoint_id: Option<String>,
    /// Where it goes.
    #[schemars(with = "CallbackUrl")]
    pub url: String,
    /// What it tells.
    #[schemars(with = "DeliveredEvent")]
    pub event: String,
    /// `pending`, `delivered` or `failed`.
    #[schemars(with = "DeliveryStatus")]
    pub status: String,
    /// How many attempts were made.
    #[schemars(example = 1)]
    pub attempts: u32,
    /// When the next one is due; `null` where it is not pending, and where it is held back.
    #[schemars(with = "Option<Instant>")]
    pub next_attempt_at: Option<String>,
    /// Why no attempt is made any more, or for the time being: none is left, the receiver answered 410, or its endpoint
    /// was deleted or is not active.
    #[schemars(example = &"no attempt is left")]
    pub reason: Option<String>,
    /// When it was put into the outbox.
    #[schemars(with = "Instant")]
    pub created_at: String,
    /// The HTTP status of the newest answer.
    #[schemars(example = 200)]
    pub last_status_code: Option<u32>,
    /// How long the newest attempt took, in milliseconds.
    #[schemars(example = 84)]
    pub last_latency_ms: Option<u64>,
    /// Why the newest attempt failed.
    #[schemars(example = &"the connection was refused")]
    pub last_error: Option<String>,
    /// The attempts, the newest 20 of them, oldest first.
    pub attempt_log: Vec<DeliveryAttempt>,
}

/// One attempt to deliver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryAttempt {
    /// Counted from 1.
    #[schemars(example = 1)]
    pub number: u32,
    /// When it was made.
    #[schemars(with = "Instant")]
    pub attempted_at: String,
    /// The HTTP status of the answer; `null` where there was none.
    #[schemars(example = 500)]
    pub status_code: Option<u32>,
    /// How long it took, in milliseconds.
    #[schemars(example = 84)]
    pub latency_ms: u64,
    /// The kind of failure.
    #[schemars(example = &"connect")]
    pub error_class: Option<String>,
    /// Why it failed.
    #[schemars(example = &"the connection was refused")]
    pub error: Option<String>,
    /// How the body of the answer began: its first 1,024 bytes as text, with what is not printable as `\x1b`. `null`
    /// where there was none.
    #[schemars(example = &"upstream is down")]
    pub response_excerpt: Option<String>,
}

/// The answer of `webhooks/deliveries`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryList {
    /// Newest first.
    pub deliveries: Vec<Delivery>,
    /// Where the next page starts; `null` on the last one.
    #[schemars(with = "Option<Cursor>")]
    pub next_cursor: Option<String>,
}

/// The input of `webhooks/redeliver`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redeliver {
    /// The delivery: `delivered` or `failed`, or `pending` and waiting for its next attempt.
    #[schemars(with = "Id")]
    pub delivery_id: String,
}

/// What is posted when a job ends as completed or failed. Not wrapped in the envelope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallbackBody {
    /// `job.completed` or `job.failed`.
    #[schemars(with = "Event")]
    pub event: String,
    /// The job.
    #[schemars(with = "Id")]
    pub job_id: String,
    /// The nonce it was created with.
    #[schemars(example = &"claims-2026-05-17")]
    pub nonce: Option<String>,
    /// The workflow's name.
    #[schemars(with = "WorkflowName")]
    pub workflow: String,
    /// The deployment that ran.
    #[schemars(with = "Id")]
    pub deployment_id: String,
    /// `completed` or `failed`.
    #[schemars(with = "JobStatus")]
    pub status: String,
    /// What the workflow returned.
    #[schemars(example = json!({"claims": 12}))]
    pub result: Option<Value>,
    /// Why it failed.
    #[schemars(example = &"TimeoutError: locator.click: Timeout 30000ms exceeded.")]
    pub error: Option<String>,
    /// The stack of the error.
    #[schemars(example = &"TimeoutError: locator.click\n    at check (index.js:12:3)")]
    pub mapped_stack: Option<String>,
    /// The schedule that created the job.
    #[schemars(with = "Option<Id>")]
    pub schedule_id: Option<String>,
    /// The fire that created the job: the scheduled instant.
    #[schemars(with = "Option<Instant>")]
    pub fire_at: Option<String>,
}

/// What is posted when something happens to a schedule beside the ends of its jobs. Not wrapped in the envelope.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleEventBody {
    /// `schedule.missed`, `schedule.skipped`, `schedule.disabled` or `schedule.recovered`.
    #[schemars(with = "Event")]
    pub event: String,
    /// The schedule.
    #[schemars(with = "Id")]
    pub schedule_id: String,
    /// The schedule's name, if it has one.
    #[schemars(with = "Option<Label>")]
    pub name: Option<String>,
    /// The workflow's name.
    #[schemars(with = "WorkflowName")]
    pub workflow: String,
    /// When it happened.
    #[schemars(with = "Instant")]
    pub occurred_at: String,
    /// The scheduled instant that was skipped; of missed ones, the oldest.
    #[schemars(with = "Option<Instant>")]
    pub fire_at: Option<String>,
    /// Of missed instants, the newest.
    #[schemars(with = "Option<Instant>")]
    pub missed_until: Option<String>,
    /// How many instants were missed.
    #[schemars(example = 3)]
    pub missed: Option<u64>,
    /// The kind of reason, or `disabled_reason`.
    #[schemars(example = &"down")]
    pub reason: Option<String>,
    /// The job that the event is about, if it is about one.
    #[schemars(with = "Option<Id>")]
    pub job_id: Option<String>,
    /// Failures in a row when it happened; of `schedule.recovered`, how many there had been.
    #[schemars(example = 0)]
    pub consecutive_failures: u64,
}

/// What is posted by `webhooks/test`. Not wrapped in the envelope.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PingBody {
    /// `ping`.
    #[schemars(with = "PingEvent")]
    pub event: String,
    /// The endpoint.
    #[schemars(with = "Id")]
    pub webhook_endpoint_id: String,
    /// When it was asked for.
    #[schemars(with = "Instant")]
    pub occurred_at: String,
}
