//! Plain types with their rules, and decisions as pure functions: no I/O, no SQL, no clock of its own.
//!
//! What comes in: validated input and rows that were read. What goes out: values that the store writes down.

mod callback;
mod endpoint;
mod fire;
mod ids;
mod job;
mod pattern;
mod policy;
mod schedule;
mod timing;
mod workflow;

pub use callback::{DEFAULT_EVENTS, EVENTS, PING, Receiver, ScheduleEvent, callback_body, event_of};
pub use endpoint::{failing_since, why_disabled};
pub use fire::{
    Due, FirePlan, MOST_CAUGHT_UP, MOST_COUNTED, Missed, MissedReason, ON_TIME, Range, plan_fire,
};
pub use ids::{
    CredentialId, DeliveryId, DeploymentId, EndpointId, JobId, KeyId, ProfileId, ScheduleId, SecretId,
    TenantId, WorkflowId,
};
pub use job::{Ending, Job, JobStatus, Launch, MOST_ATTEMPTS, NewJob};
pub use pattern::{Pattern, PatternError};
pub use policy::{
    Admission, DEFAULT_CATCHUP_WINDOW, LONGEST_CATCHUP_WINDOW, MOST_FAILURES, MisfirePolicy, OverlapPolicy,
    Policies, Unfinished, counts_against,
};
pub use schedule::{Label, ParamsCheck, Schedule, ScheduleDraft, ScheduleState, SelfDisabled, Transition};
pub use timing::{MOST_JITTER, Timing};
pub use workflow::{Deployment, DeploymentStatus, ExportedWorkflow, Workflow, WorkflowLaunch};

use jiff::Timestamp;

/// How the API writes an instant: RFC 3339 in UTC with milliseconds, e.g. `2026-05-17T01:15:26.670Z`.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    format!("{at:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_with_milliseconds() {
        let at = Timestamp::from_millisecond(1_778_980_526_670).unwrap();
        assert_eq!(rfc3339(at), "2026-05-17T01:15:26.670Z");
        assert_eq!(rfc3339(Timestamp::UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }
}
