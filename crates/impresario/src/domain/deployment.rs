//! Deployments and the workflows they export.

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::launch::LaunchMetadata;

/// Where a deployment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeploymentStatus {
    /// Accepted, not yet built.
    Building,
    /// Its workflows can run.
    Ready,
    /// It could not be built.
    Failed,
}

impl DeploymentStatus {
    /// As the API and the store write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Ready => "ready",
            Self::Failed => "failed",
        }
    }
}

/// A deployment, as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub tenant_id: Uuid,
    /// For people.
    pub description: Option<String>,
    /// `building`, `ready` or `failed`.
    pub status: String,
    /// The archive it was made of.
    pub bundle_sha256: String,
    /// The module that is loaded.
    pub entry_point: String,
    /// Why it could not be built.
    pub build_error: Option<String>,
    /// When it was built.
    pub built_at: Option<Timestamp>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// The names it exports, once it is ready.
    pub workflows: Option<Vec<String>>,
}

/// A workflow of one deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct DeployedWorkflow {
    /// Its name.
    pub name: String,
    /// JSON Schema of its input.
    pub input_schema: Option<Value>,
    /// JSON Schema of its result.
    pub output_schema: Option<Value>,
    /// What it says of its launch.
    pub launch: LaunchMetadata,
}
