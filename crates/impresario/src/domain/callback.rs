//! Who hears of a job's end, and what they are told.

use impresario_api::{CallbackBody, ScheduleEventBody};
use jiff::Timestamp;

use super::{EndpointId, Job, JobId, JobStatus, MissedReason, Schedule, SecretId, rfc3339};

/// Every event that an endpoint can hear of.
pub const EVENTS: [&str; 6] = [
    "job.completed",
    "job.failed",
    "schedule.missed",
    "schedule.skipped",
    "schedule.disabled",
    "schedule.recovered",
];

/// Those that an endpoint hears of where it does not say.
pub const DEFAULT_EVENTS: [&str; 2] = ["job.completed", "job.failed"];

/// What is sent because somebody asks for it, and heard of in no other way.
pub const PING: &str = "ping";

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

/// What happened to a schedule, beside the ends of its jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScheduleEvent {
    /// Instants came that nobody fires any more.
    Missed {
        /// The oldest.
        from: Timestamp,
        /// The newest.
        until: Timestamp,
        /// How many.
        count: u64,
        /// Why.
        reason: MissedReason,
    },
    /// Its overlap policy let an instant go by.
    Skipped {
        /// Which.
        fire_at: Timestamp,
    },
    /// It disabled itself.
    Disabled {
        /// Why, as `disabled_reason` says.
        reason: String,
        /// The job whose failure was the last straw, if it was a job's.
        job: Option<JobId>,
    },
    /// A run succeeded after failures.
    Recovered {
        /// That run.
        job: JobId,
        /// How many failures in a row there had been.
        failures: u64,
    },
}

impl ScheduleEvent {
    /// Its name, one of [`EVENTS`].
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Missed { .. } => "schedule.missed",
            Self::Skipped { .. } => "schedule.skipped",
            Self::Disabled { .. } => "schedule.disabled",
            Self::Recovered { .. } => "schedule.recovered",
        }
    }

    /// What is posted about `schedule`.
    #[must_use]
    pub fn body(&self, schedule: &Schedule, now: Timestamp) -> ScheduleEventBody {
        let mut body = ScheduleEventBody {
            event: self.name().to_owned(),
            schedule_id: schedule.id.to_string(),
            name: schedule.draft.label.name.clone(),
            workflow: schedule.draft.workflow.clone(),
            occurred_at: rfc3339(now),
            consecutive_failures: schedule.consecutive_failures,
            ..ScheduleEventBody::default()
        };
        match self {
            Self::Missed {
                from,
                until,
                count,
                reason,
            } => {
                body.fire_at = Some(rfc3339(*from));
                body.missed_until = Some(rfc3339(*until));
                body.missed = Some(*count);
                body.reason = Some(reason.as_str().to_owned());
            }
            Self::Skipped { fire_at } => {
                body.fire_at = Some(rfc3339(*fire_at));
                body.reason = Some("overlap".to_owned());
            }
            Self::Disabled { reason, job } => {
                body.reason = Some(reason.clone());
                body.job_id = job.map(|job| job.to_string());
            }
            Self::Recovered { job, failures } => {
                body.job_id = Some(job.to_string());
                body.consecutive_failures = *failures;
            }
        }
        body
    }
}
