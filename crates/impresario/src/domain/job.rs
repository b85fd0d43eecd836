//! A job: one run of a workflow.

use jiff::Timestamp;
use uuid::Uuid;

use super::{Callback, Launch, Object};

/// How long a job that says nothing may run, in seconds.
pub const DEFAULT_TIMEOUT_SECONDS: u32 = 1800;
/// How often a job goes back to the queue because its worker was lost before its code had started. A job that takes
/// the server down with it must not do so for ever.
pub const ATTEMPTS_MAX: u32 = 5;

/// Where a job stands. The last three are for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobStatus {
    /// Waits for a worker.
    Queued,
    /// A worker has it; none of the workflow's code has run.
    StartingBrowser,
    /// The workflow's code may have run.
    Running,
    /// It returned.
    Completed,
    /// It did not.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

impl JobStatus {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Queued, "queued"),
        (Self::StartingBrowser, "starting_browser"),
        (Self::Running, "running"),
        (Self::Completed, "completed"),
        (Self::Failed, "failed"),
        (Self::Cancelled, "cancelled"),
    ];

    /// As the API and the store write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(status, _)| *status == self).map_or("", |(_, name)| name)
    }

    /// Reads what [`JobStatus::as_str`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(status, _)| *status)
    }

    /// All names, for messages.
    #[must_use]
    pub fn names() -> String {
        Self::ALL.map(|(_, name)| name).join(", ")
    }

    /// Whether it is for good.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// Where a job comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A fire of a schedule.
    Fire {
        /// The schedule.
        schedule_id: Uuid,
        /// The scheduled instant.
        fire_at: Timestamp,
    },
    /// `jobs/create`.
    Request {
        /// Makes the request repeatable: the same nonce again creates no second job.
        nonce: Option<String>,
        /// Tells whether a repeated request is the same one.
        request_hash: String,
    },
}

/// A job to be.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub tenant_id: Uuid,
    /// The workflow's name.
    pub workflow: String,
    /// The workflow's id.
    pub workflow_id: Uuid,
    /// The deployment that the name belongs to now; a later redeploy does not change what this job runs.
    pub deployment_id: Uuid,
    /// The workflow's input.
    pub params: Object,
    /// What created it.
    pub origin: Origin,
    /// How long it may run.
    pub timeout_seconds: u32,
    /// Whether its browser has no window.
    pub headless: bool,
    /// How its browser is started.
    pub launch: Launch,
    /// A credential it is given besides the declared ones.
    pub credential_id: Option<Uuid>,
    /// Its own receiver; the secret is sealed for this job's row.
    pub callback: Option<Callback>,
    /// Nobody is told.
    pub skip_callbacks: bool,
    /// Now.
    pub created_at: Timestamp,
}

/// A job, as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// What it was created with.
    pub new: NewJob,
    /// Where it stands.
    pub status: JobStatus,
    /// 1, and one more for each return to the queue.
    pub attempt: u32,
    /// Somebody asked for it to stop.
    pub cancel_requested: bool,
    /// When a worker took it.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// What it returned, as JSON text.
    pub result: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// The stack of the error.
    pub mapped_stack: Option<String>,
    /// The kind of failure.
    pub failure_class: Option<String>,
}

/// The kinds of failure that do not come from the runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureClass {
    /// The server was lost or stopped while the workflow's code was running.
    WorkerLost,
    /// A declared credential is not stored.
    CredentialMissing,
    /// The run asks for something the operator did not configure, or the server lacks.
    Configuration,
    /// A fault of the server's own.
    Internal,
}

impl FailureClass {
    /// As the API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WorkerLost => "worker_lost",
            Self::CredentialMissing => "credential_missing",
            Self::Configuration => "configuration",
            Self::Internal => "internal",
        }
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It returned; JSON text, or nothing.
    Completed {
        /// What it returned.
        result: Option<String>,
    },
    /// It did not.
    Failed {
        /// Why, as a sentence.
        error: String,
        /// The stack.
        stack: Option<String>,
        /// The kind.
        class: String,
    },
    /// Somebody stopped it.
    Cancelled,
}

impl Ending {
    /// A failure that is not the workflow's.
    pub fn failed(class: FailureClass, error: impl Into<String>) -> Self {
        Self::Failed { error: error.into(), stack: None, class: class.as_str().to_owned() }
    }

    /// The status a job has after it.
    #[must_use]
    pub fn status(&self) -> JobStatus {
        match self {
            Self::Completed { .. } => JobStatus::Completed,
            Self::Failed { .. } => JobStatus::Failed,
            Self::Cancelled => JobStatus::Cancelled,
        }
    }
}
