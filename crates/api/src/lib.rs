//! The request and response types, the error codes and the envelope of Impresario's HTTP API.
//!
//! What comes in: JSON bodies as the API writes them. What goes out: plain Rust values, one module a group of
//! routes. The server, the command line and the tests share these types, so that a field cannot be spelt two ways.
//!
//! Every body is wrapped: requests are `{"json": {…}}`, answers `{"json": {…}}`, see [`Envelope`]. Times are
//! RFC 3339 strings in UTC with milliseconds; ids are UUIDs in their hyphenated form.

mod deployments;
mod error;
mod jobs;
mod misc;
mod schedules;
mod secret;
mod webhooks;

pub use deployments::{
    CreateDeployment, CreatedDeployment, DeployedWorkflow, Deployment, DeploymentList, SyncedDeployment,
    UnfitSchedule, WorkflowDetail, WorkflowList,
};
pub use error::{ErrorBody, ErrorCode, ErrorData, Issue, PathSegment};
pub use jobs::{CreateJob, CreatedJob, Job, JobList, JobSummary, LogLine, LogList};
pub use misc::{
    CreatedCredential, Credential, CredentialList, CredentialValue, Done, Health, HealthCheck,
    UpsertedCredential,
};
pub use schedules::{
    CreateSchedule, DeletedSchedule, OneSchedule, ResidentialProxy, Schedule, ScheduleCreated, ScheduleList,
    Viewport,
};
pub use secret::Secret;
pub use webhooks::{
    CallbackBody, CreateWebhook, CreatedWebhook, ScheduleEventBody, WebhookEndpoint, WebhookList,
};

use serde::{Deserialize, Serialize};

/// The wrapper of every request and every answer: `{"json": …}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// What is inside.
    pub json: T,
}
