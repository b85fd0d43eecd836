//! Deployments, and the workflows they export.

use impresario_api::Viewport;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{DeploymentId, TenantId, WorkflowId};

/// Where a deployment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeploymentStatus {
    /// Accepted, not yet looked into.
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

    /// Reads what [`DeploymentStatus::as_str`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Building, Self::Ready, Self::Failed]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// A deployment as it is stored.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Its id.
    pub id: DeploymentId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The SHA-256 of its archive, hexadecimal.
    pub bundle: String,
    /// The module that is loaded.
    pub entry_point: String,
    /// For people.
    pub description: Option<String>,
    /// Where it stands.
    pub status: DeploymentStatus,
    /// Why it failed.
    pub build_error: Option<String>,
    /// What it exports, once it is ready.
    pub workflows: Option<Vec<ExportedWorkflow>>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it was ready.
    pub built_at: Option<Timestamp>,
}

/// What a bundle says of one of its workflows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkflowLaunch {
    /// The credentials it asks for, by lower-case name.
    #[serde(default)]
    pub credential_names: Vec<String>,
    /// JSON Schema of its input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Value>,
    /// JSON Schema of its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// Opened before its code runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_url: Option<String>,
    /// The size of its page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub viewport: Option<Viewport>,
    /// Whether it asks for a GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<bool>,
}

/// A workflow as a bundle exports it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ExportedWorkflow {
    /// Its name, unique within the bundle.
    pub name: String,
    /// What the bundle says of it.
    #[serde(flatten)]
    pub launch: WorkflowLaunch,
}

impl Deployment {
    /// What this deployment says of the workflow `name`; nothing where it does not export it.
    #[must_use]
    pub fn launch_of(&self, name: &str) -> Option<&WorkflowLaunch> {
        self.workflows
            .iter()
            .flatten()
            .find(|workflow| workflow.name == name)
            .map(|workflow| &workflow.launch)
    }
}

/// A workflow's name and the deployment it belongs to.
#[derive(Debug, Clone)]
pub struct Workflow {
    /// Its id: stays the same through redeploys.
    pub id: WorkflowId,
    /// Its name, unique within the tenant.
    pub name: String,
    /// The newest ready deployment that exports it.
    pub deployment: Deployment,
    /// When the name was first deployed.
    pub created_at: Timestamp,
    /// When it last moved to another deployment.
    pub updated_at: Timestamp,
}

impl Workflow {
    /// What the deployment says of it.
    #[must_use]
    pub fn launch(&self) -> WorkflowLaunch {
        self.deployment.launch_of(&self.name).cloned().unwrap_or_default()
    }
}
