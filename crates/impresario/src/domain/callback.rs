//! Who hears of a job's end, and what they are told.

use impresario_api::CallbackBody;
use jiff::Timestamp;

use super::{EndpointId, Job, JobStatus, SecretId, rfc3339};

/// Where one event goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// The stored webhook; `None` for the job's own callback.
    pub endpoint: Option<EndpointId>,
    /// Where it is posted.
    pub url: String,
    /// Signs it.
    pub secret: SecretId,
}

/// The event of a job's end; `None` where nobody is told: a cancelled job, and one that is not finished.
#[must_use]
pub fn event_of(status: JobStatus) -> Option<&'static str> {
    match status {
        JobStatus::Completed => Some("job.completed"),
        JobStatus::Failed => Some("job.failed"),
        _ => None,
    }
}

/// What is posted when `job` has ended with `event`.
#[must_use]
pub fn callback_body(job: &Job, event: &str) -> CallbackBody {
    let fire_at = |(_, at): (_, Timestamp)| rfc3339(at);
    CallbackBody {
        event: event.to_owned(),
        job_id: job.id.to_string(),
        nonce: job.nonce.clone(),
        workflow: job.workflow.clone(),
        deployment_id: job.deployment.to_string(),
        status: job.status.as_str().to_owned(),
        result: job.result.clone(),
        error: job.error.clone(),
        mapped_stack: job.stack.clone(),
        schedule_id: job.schedule.map(|(id, _)| id.to_string()),
        fire_at: job.schedule.map(fire_at),
    }
}
