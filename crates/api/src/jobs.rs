//! `jobs/*` and `logs/list`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Secret;

/// The input of `jobs/create`; absent fields take the API's defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CreateJob {
    /// The name of a deployed workflow.
    pub workflow: String,
    /// The workflow's input.
    #[serde(default)]
    pub params: Map<String, Value>,
    /// The same nonce again answers with the first job and creates none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// How long the run may take, in seconds, 1 to 3600; default 1800.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// Where the result is posted; needs `callback_secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<String>,
    /// Signs the callback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_secret: Option<Secret>,
}

/// The answer of `jobs/create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedJob {
    /// Always `true`.
    pub success: bool,
    /// UUID.
    pub job_id: String,
    /// The job's status: `queued` for a new one.
    pub status: String,
    /// For people.
    pub message: String,
}

/// A job, as `jobs/list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSummary {
    /// UUID.
    pub job_id: String,
    /// The deployment it runs.
    pub deployment_id: String,
    /// The workflow's id.
    pub workflow_id: String,
    /// The workflow's name.
    pub workflow: String,
    /// `queued`, `starting_browser`, `running`, `completed`, `failed` or `cancelled`.
    pub status: String,
    /// When it was created.
    pub created_at: String,
    /// When it ended.
    pub completed_at: Option<String>,
    /// The schedule that created it.
    pub schedule_id: Option<String>,
}

/// The answer of `jobs/list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobList {
    /// Newest first.
    pub jobs: Vec<JobSummary>,
    /// Where the next page starts; `null` on the last one.
    pub next_cursor: Option<String>,
}

/// The answer of `jobs/get`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// UUID.
    pub job_id: String,
    /// The deployment it runs.
    pub deployment_id: String,
    /// The deployment's version: the first twelve digits of its bundle's SHA-256.
    pub deployment_version: String,
    /// The workflow's id.
    pub workflow_id: String,
    /// The workflow's name.
    pub workflow: String,
    /// The input, without credentials.
    pub params: Map<String, Value>,
    /// `queued`, `starting_browser`, `running`, `completed`, `failed` or `cancelled`.
    pub status: String,
    /// When it was created.
    pub created_at: String,
    /// When a worker took it.
    pub started_at: Option<String>,
    /// When it ended.
    pub completed_at: Option<String>,
    /// What the workflow returned; absent until it completed, and where it returned nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why it failed.
    pub error: Option<String>,
    /// The stack of the error.
    pub mapped_stack: Option<String>,
    /// The schedule that created it.
    pub schedule_id: Option<String>,
    /// The fire that created it: the scheduled instant.
    pub fire_at: Option<String>,
    /// 1, and one more for each time it went back to the queue before its code had started.
    pub attempt: u32,
    /// The kind of failure, e.g. `workflow`, `timeout`, `worker_lost`, `restored`.
    pub failure_class: Option<String>,
}

/// One line a workflow wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// The job that wrote it.
    pub job_id: String,
    /// The job's workflow.
    pub workflow: String,
    /// `info`, `warn` or `error`.
    pub level: String,
    /// The line, without its newline.
    pub message: String,
    /// When it was written.
    pub timestamp: String,
}

/// The answer of `logs/list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogList {
    /// Oldest first.
    pub logs: Vec<LogLine>,
    /// Where the next page starts; `null` on the last one.
    pub next_page_token: Option<String>,
}
