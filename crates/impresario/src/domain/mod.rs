//! Plain types with their rules, and the decisions; no I/O, no SQL, no HTTP, no clock.
//!
//! What comes in: values that were read from a request or from the store. What goes out: types that are valid because
//! they exist, and plans that the scheduler and the worker carry out.

pub mod deployment;
pub mod fire;
pub mod job;
pub mod launch;
pub mod params;
pub mod pattern;
pub mod proxy;
pub mod schedule;
pub mod webhook;

pub use deployment::{Deployment, DeploymentStatus, DeployedWorkflow};
pub use job::{Ending, FailureClass, Job, JobStatus, NewJob, Origin};
pub use launch::{Callback, Launch, Viewport};
pub use params::ParamsSchema;
pub use pattern::Pattern;
pub use proxy::ResidentialProxy;
pub use schedule::Schedule;

/// A JSON object.
pub type Object = serde_json::Map<String, serde_json::Value>;

/// One thing that is wrong with a value: where (below the value itself), a machine-readable kind, and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Keys and indexes, from the value down to what is wrong.
    pub path: Vec<impresario_api::PathSegment>,
    /// E.g. `invalid_format`, `too_big`, `custom`.
    pub code: &'static str,
    /// Names the value and what is allowed.
    pub message: String,
}

impl Violation {
    /// Something wrong with the value itself.
    pub fn here(code: &'static str, message: impl Into<String>) -> Self {
        Self { path: Vec::new(), code, message: message.into() }
    }

    /// Something wrong with the field `key` of the value.
    pub fn at(key: &str, code: &'static str, message: impl Into<String>) -> Self {
        Self { path: vec![impresario_api::PathSegment::Key(key.to_owned())], code, message: message.into() }
    }
}
