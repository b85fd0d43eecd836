//! The request and response types, the error codes and the envelope of Impresario's HTTP API, the document that
//! describes them, and a client.
//!
//! What comes in: JSON bodies as the API writes them. What goes out: plain Rust values, one module a group of
//! routes. The server, the command line and the tests share these types, so that a field cannot be spelt two ways.
//!
//! Every body is wrapped: requests are `{"json": {…}}`, answers `{"json": {…}}`, see [`Envelope`]. Times are
//! RFC 3339 strings in UTC with milliseconds; ids are UUIDs in their hyphenated form. [`routes::operations`] lists what
//! can be asked, and [`openapi::document`] makes an OpenAPI 3.1 document of that list.
//!
//! With the feature `client` (on by default):
//!
//! ```no_run
//! use impresario_api::{ListSchedules, client::Client};
//!
//! # async fn list() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new("http://127.0.0.1:8080", &"imp_…".into())?;
//! let found = client.call(&ListSchedules { enabled: Some(true), ..ListSchedules::default() }).await?;
//! for schedule in found.schedules {
//!     println!("{} next fires at {:?}", schedule.workflow, schedule.next_fire_at);
//! }
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "client")]
pub mod client;
mod deployments;
mod error;
mod fires;
mod jobs;
mod misc;
pub mod openapi;
pub mod routes;
mod schedules;
mod secret;
mod shape;
mod tenants;
mod webhooks;

pub use deployments::{
    CreateDeployment, CreatedDeployment, DeleteWorkflow, DeployedWorkflow, Deployment, DeploymentList,
    GetWorkflow, ListDeployments, ListWorkflows, SyncDeployment, SyncedDeployment, UnfitSchedule,
    WorkflowDetail, WorkflowList,
};
pub use error::{ErrorBody, ErrorCode, ErrorData, Issue, PathSegment};
pub use fires::{
    BackfillSchedule, Backfilled, Fire, FireList, PreviewSchedule, PreviewedFire, ScheduleHistory,
    SchedulePreview, TriggerSchedule, TriggeredJob,
};
pub use jobs::{
    CancelJob, CreateJob, CreatedJob, GetJob, Job, JobList, JobSummary, ListJobs, ListLogs, LogLine, LogList,
};
pub use misc::{
    CreateCredential, CreatedCredential, Credential, CredentialList, CredentialValue, DeleteCredential, Done,
    GetCredential, Health, HealthCheck, ListCredentials, UpdateCredential, UpsertCredential,
    UpsertedCredential,
};
pub use routes::Call;
pub use schedules::{
    CreateSchedule, DeleteSchedule, DeletedSchedule, GetSchedule, ListSchedules, OneSchedule,
    ResidentialProxy, Schedule, ScheduleCreated, ScheduleList, UpdateSchedule, Viewport,
};
pub use secret::Secret;
pub use tenants::{
    ApiKey, BrowserProfile, ChangeTenantSettings, CliEvent, CliEventTaken, CreateApiKey, CreatedApiKey,
    DeleteApiKey, DeletedApiKey, EnsureBrowserProfile, TenantSettings,
};
pub use webhooks::{
    CallbackBody, CreateWebhook, CreatedWebhook, DeleteWebhook, Delivery, DeliveryAttempt, DeliveryList,
    ListDeliveries, ListWebhooks, PingBody, Redeliver, RotateSecret, RotatedSecret, ScheduleEventBody,
    TestWebhook, TestedWebhook, UpdateWebhook, WebhookEndpoint, WebhookList,
};

use serde::{Deserialize, Deserializer, Serialize};

/// The wrapper of every request and every answer: `{"json": …}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// What is inside.
    pub json: T,
}

/// Reads a field that is there, `null` too: by default serde takes `null` for absent.
fn set<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
