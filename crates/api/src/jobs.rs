//! `jobs/*` and `logs/list`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    ResidentialProxy, Secret, Viewport,
    shape::{
        CallbackUrl, Cursor, FailureClass, Id, Instant, JobStatus, LogLevel, Message, SigningSecret,
        StartUrl, Success, WorkflowName,
    },
};

/// The input of `jobs/create`; absent fields take the API's defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateJob {
    /// The name of a deployed workflow.
    #[schemars(with = "WorkflowName")]
    pub workflow: String,
    /// The workflow's input.
    #[serde(default)]
    #[schemars(example = json!({"clinic": "north"}))]
    pub params: Map<String, Value>,
    /// The same nonce again answers with the first job and makes none; with another request it is a 409.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), example = &"claims-2026-05-17")]
    pub nonce: Option<String>,
    /// How long the run may take, in seconds, 1 to 3600; default 1800.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 3600), example = 600, extend("default" = 1800))]
    pub timeout_seconds: Option<u32>,
    /// Taken, and without effect: browsers have no window here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headless: Option<bool>,
    /// Opened before the workflow runs; overrides the workflow's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<StartUrl>")]
    pub start_url: Option<String>,
    /// Whether the browser may use a GPU; handed to the runner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<bool>,
    /// The size of the page; overrides the workflow's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub viewport: Option<Viewport>,
    /// A credential that the run gets besides those that its workflow declares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Id>")]
    pub credential_id: Option<String>,
    /// Where the result is posted; needs `callback_secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<CallbackUrl>")]
    pub callback_url: Option<String>,
    /// Signs the callback; never returned. Needs `callback_url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SigningSecret>")]
    pub callback_secret: Option<Secret>,
    /// Send no callback at all, not even to the tenant's stored webhooks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool", extend("default" = false))]
    pub skip_callbacks: Option<bool>,
    /// Where the run's traffic leaves from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residential_proxy: Option<ResidentialProxy>,
    /// Go past the operator's default proxy; not together with `residential_proxy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_default_proxy: Option<bool>,
}

/// The answer of `jobs/create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreatedJob {
    /// Always `true`.
    #[schemars(with = "Success")]
    pub success: bool,
    /// The job.
    #[schemars(with = "Id")]
    pub job_id: String,
    /// Where it stands: `queued`, or further on where the nonce was used before.
    #[schemars(with = "JobStatus")]
    pub status: String,
    /// For people.
    #[schemars(with = "Message")]
    pub message: String,
}

/// The input of `jobs/list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListJobs {
    /// Only those that stand here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "JobStatus")]
    pub status: Option<String>,
    /// Only those of this schedule's fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Id")]
    pub schedule_id: Option<String>,
    /// Only those of this workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "WorkflowName")]
    pub workflow: Option<String>,
    /// How many, 1 to 100; default 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 100), example = 20, extend("default" = 20))]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Cursor>")]
    pub cursor: Option<String>,
}

/// A job, as `jobs/list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobSummary {
    /// The job.
    #[schemars(with = "Id")]
    pub job_id: String,
    /// The deployment that runs.
    #[schemars(with = "Id")]
    pub deployment_id: String,
    /// The workflow.
    #[schemars(with = "Id")]
    pub workflow_id: String,
    /// The workflow's name.
    #[schemars(with = "WorkflowName")]
    pub workflow: String,
    /// Where it stands.
    #[schemars(with = "JobStatus")]
    pub status: String,
    /// When it was created.
    #[schemars(with = "Instant")]
    pub created_at: String,
    /// When it ended.
    #[schemars(with = "Option<Instant>")]
    pub completed_at: Option<String>,
    /// The schedule whose fire created it.
    #[schemars(with = "Option<Id>")]
    pub schedule_id: Option<String>,
}

/// The answer of `jobs/list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobList {
    /// Newest first.
    pub jobs: Vec<JobSummary>,
    /// Where the next page starts; `null` on the last one.
    #[schemars(with = "Option<Cursor>")]
    pub next_cursor: Option<String>,
}

/// The input of `jobs/get`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetJob {
    /// The job.
    #[schemars(with = "Id")]
    pub id: String,
}

/// The input of `jobs/cancel`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelJob {
    /// The job.
    #[schemars(with = "Id")]
    pub id: String,
}

/// A job, as `jobs/get` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    /// The job.
    #[schemars(with = "Id")]
    pub job_id: String,
    /// The deployment that runs.
    #[schemars(with = "Id")]
    pub deployment_id: String,
    /// Tells one bundle from another: the first twelve digits of its SHA-256.
    #[schemars(example = &"9f86d081884c")]
    pub deployment_version: String,
    /// The workflow.
    #[schemars(with = "Id")]
    pub workflow_id: String,
    /// The workflow's name.
    #[schemars(with = "WorkflowName")]
    pub workflow: String,
    /// The workflow's input.
    #[schemars(example = json!({"clinic": "north"}))]
    pub params: Map<String, Value>,
    /// `queued`, `starting_browser`, `running`, `completed`, `failed` or `cancelled`.
    #[schemars(with = "JobStatus")]
    pub status: String,
    /// When it was created.
    #[schemars(with = "Instant")]
    pub created_at: String,
    /// When its newest attempt was started.
    #[schemars(with = "Option<Instant>")]
    pub started_at: Option<String>,
    /// When it ended.
    #[schemars(with = "Option<Instant>")]
    pub completed_at: Option<String>,
    /// What the workflow returned; absent until it has completed.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "super::set"
    )]
    #[schemars(with = "Value", example = json!({"claims": 12}))]
    pub result: Option<Value>,
    /// Why it failed.
    #[schemars(example = &"TimeoutError: locator.click: Timeout 30000ms exceeded.")]
    pub error: Option<String>,
    /// The stack of that error.
    #[schemars(example = &"TimeoutError: locator.click\n    at check (index.js:12:3)")]
    pub mapped_stack: Option<String>,
    /// The schedule whose fire created it.
    #[schemars(with = "Option<Id>")]
    pub schedule_id: Option<String>,
    /// The scheduled instant of that fire.
    #[schemars(with = "Option<Instant>")]
    pub fire_at: Option<String>,
    /// How often it was started.
    #[schemars(example = 1)]
    pub attempt: u32,
    /// Whose fault a failure is.
    #[schemars(with = "Option<FailureClass>")]
    pub failure_class: Option<String>,
}

/// The input of `logs/list`. Its names are in camel case, as the hosted service has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListLogs {
    /// Only the lines of this job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Id")]
    pub job_id: Option<String>,
    /// Only the lines of this workflow's jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "WorkflowName")]
    pub workflow: Option<String>,
    /// Only the lines of this level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "LogLevel")]
    pub level: Option<String>,
    /// The `nextPageToken` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), example = &"100")]
    pub page_token: Option<String>,
    /// How many, 1 to 1,000; default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 1000), example = 100, extend("default" = 100))]
    pub limit: Option<u32>,
}

/// A line of a job's log. Its names are in camel case, as the hosted service has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// The job that wrote it.
    #[schemars(with = "Id")]
    pub job_id: String,
    /// The job's workflow.
    #[schemars(with = "WorkflowName")]
    pub workflow: String,
    /// `info` (stdout), `warn` (`console.warn`) or `error` (stderr).
    #[schemars(with = "LogLevel")]
    pub level: String,
    /// What was written.
    #[schemars(example = &"12 claims found")]
    pub message: String,
    /// When.
    #[schemars(with = "Instant")]
    pub timestamp: String,
}

/// The answer of `logs/list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogList {
    /// In the order in which they were written.
    pub logs: Vec<LogLine>,
    /// Where the next page starts; `null` on the last one.
    #[schemars(example = &"100")]
    pub next_page_token: Option<String>,
}
