//! A job: one run of a workflow, from the queue to its end.

use impresario_api::{ResidentialProxy, Viewport};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{CredentialId, DeploymentId, JobId, ScheduleId, SecretId, TenantId, WorkflowId};

/// How a run is started: kept with a schedule and copied to each of its jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// The wall-clock limit of the run, in seconds, 1 to 3600.
    pub timeout_seconds: u32,
    /// Opened before the workflow's code runs; overrides the workflow's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_url: Option<String>,
    /// Whether the browser may use a GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<bool>,
    /// `false` asks for a browser with a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headless: Option<bool>,
    /// The size of the page; overrides the workflow's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub viewport: Option<Viewport>,
    /// Where the run's traffic leaves from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residential_proxy: Option<ResidentialProxy>,
    /// Go past the operator's default proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_default_proxy: Option<bool>,
    /// A credential that the run gets besides those its workflow declares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_id: Option<CredentialId>,
}

/// Where a job stands. The last three are for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobStatus {
    /// Waits for a worker.
    Queued,
    /// A worker has it; none of the workflow's code has run.
    StartingBrowser,
    /// The workflow's code has been let go.
    Running,
    /// The workflow returned.
    Completed,
    /// It threw, timed out, or could not be run.
    Failed,
    /// Its owner ended it.
    Cancelled,
}

impl JobStatus {
    /// All of them, in the order of a job's life.
    pub const ALL: [Self; 6] = [
        Self::Queued,
        Self::StartingBrowser,
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// As the API and the store write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::StartingBrowser => "starting_browser",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads what [`JobStatus::as_str`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether it is for good.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// A job that is to be created on request.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Its id.
    pub id: JobId,
    /// The name of a deployed workflow.
    pub workflow: String,
    /// The workflow's input.
    pub params: Map<String, Value>,
    /// How the run is started.
    pub launch: Launch,
    /// The request's nonce and the hash of the whole request.
    pub nonce: Option<(String, String)>,
    /// Its own receiver.
    pub callback_url: Option<String>,
    /// Signs what is sent there.
    pub callback_secret: Option<SecretId>,
    /// Send no callback at all.
    pub skip_callbacks: bool,
}

/// A job as it is stored.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The schedule that created it and the fire that did.
    pub schedule: Option<(ScheduleId, Timestamp)>,
    /// The workflow's id.
    pub workflow_id: WorkflowId,
    /// The workflow's name.
    pub workflow: String,
    /// The deployment it runs.
    pub deployment: DeploymentId,
    /// The SHA-256 of that deployment's bundle, hexadecimal.
    pub bundle: String,
    /// The workflow's input.
    pub params: Map<String, Value>,
    /// How the run is started.
    pub launch: Launch,
    /// The nonce it was created with.
    pub nonce: Option<String>,
    /// Where it stands.
    pub status: JobStatus,
    /// How often a worker took it.
    pub attempt: u32,
    /// What the workflow returned.
    pub result: Option<Value>,
    /// Why it failed.
    pub error: Option<String>,
    /// The stack of the error.
    pub stack: Option<String>,
    /// The kind of failure.
    pub failure_class: Option<String>,
    /// Its own receiver.
    pub callback: Option<(String, SecretId)>,
    /// Send no callback at all.
    pub skip_callbacks: bool,
    /// Whether its owner has asked for it (`schedules/backfill`): then it says nothing of how its schedule fares.
    pub backfill: bool,
    /// When it was created.
    pub created_at: Timestamp,
    /// When a worker last took it.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
}

/// A job that was given back to the queue this often before its code started is not tried again: it may be what stops
/// the server.
pub const MOST_ATTEMPTS: u32 = 5;

/// How a job ends.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// The workflow returned, perhaps nothing.
    Completed(Option<Value>),
    /// It did not.
    Failed {
        /// The kind of failure, e.g. `workflow`, `timeout`, `worker_lost`.
        class: String,
        /// A sentence for the user.
        error: String,
        /// The stack, where there is one.
        stack: Option<String>,
    },
    /// Its owner ended it.
    Cancelled,
}

impl Ending {
    /// How a job ends whose server went away; `started` says whether its code had been let go.
    #[must_use]
    pub fn worker_lost(started: bool) -> Self {
        let error = if started {
            "the server that ran the workflow stopped or lost its database meanwhile; it was not run again, because what \
             it had already done cannot be known"
        } else {
            "the server stopped again and again while this job was being started; it is not tried any more"
        };
        Self::Failed {
            class: "worker_lost".to_owned(),
            error: error.to_owned(),
            stack: None,
        }
    }

    /// How a job ends that was unfinished in a backup that was put back.
    #[must_use]
    pub fn restored() -> Self {
        Self::Failed {
            class: "restored".to_owned(),
            error: "this job was unfinished in the backup from which the database was put back; it may have run since, \
                    so it does not run again"
                .to_owned(),
            stack: None,
        }
    }

    /// The status it leads to.
    #[must_use]
    pub fn status(&self) -> JobStatus {
        match self {
            Self::Completed(_) => JobStatus::Completed,
            Self::Failed { .. } => JobStatus::Failed,
            Self::Cancelled => JobStatus::Cancelled,
        }
    }
}
