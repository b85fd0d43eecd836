//! `deployments/*` and `workflows/*`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The input of `deployments/create`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CreateDeployment {
    /// A gzip-compressed tar, base64.
    pub source: String,
    /// The module to load, relative to the bundle's root; default `index.ts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_point: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// The answer of `deployments/create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedDeployment {
    /// UUID.
    pub deployment_id: String,
    /// `building`; ask `deployments/sync` how it went on.
    pub status: String,
    /// When it was accepted.
    pub created_at: String,
}

/// A deployment, as `deployments/sync` and `deployments/list` show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// UUID.
    pub id: String,
    /// For people.
    pub description: Option<String>,
    /// `building`, `ready` or `failed`.
    pub status: String,
    /// Where the source is: `sha256:<hash of the archive>`.
    pub source_path: Option<String>,
    /// Where the built bundle is, once it is ready.
    pub bundle_path: Option<String>,
    /// Why the build failed.
    pub build_error: Option<String>,
    /// The module that is loaded.
    pub entry_point: String,
    /// When the build ended well.
    pub built_at: Option<String>,
    /// When it was accepted.
    pub created_at: String,
    /// The names it exports; `null` until it is ready.
    pub workflows: Option<Vec<String>>,
    /// How many schedules have params that do not fit the workflows that belong to this deployment now; `null` until
    /// it is ready.
    pub schedules_with_invalid_params_total: Option<u64>,
}

/// The answer of `deployments/sync`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncedDeployment {
    /// The deployment.
    #[serde(flatten)]
    pub deployment: Deployment,
    /// Those schedules, the newest 100 of them; `null` until it is ready.
    pub schedules_with_invalid_params: Option<Vec<UnfitSchedule>>,
}

/// A schedule whose params do not fit its workflow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnfitSchedule {
    /// UUID.
    pub id: String,
    /// What people know it by.
    pub name: Option<String>,
    /// The workflow's name.
    pub workflow: String,
    /// What is wrong with the params, in one sentence.
    pub error: String,
}

/// The answer of `deployments/list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentList {
    /// Newest first.
    pub deployments: Vec<Deployment>,
}

/// A deployed workflow, as `workflows/list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployedWorkflow {
    /// Unique within the tenant.
    pub name: String,
    /// The deployment that the name belongs to.
    pub deployment_id: String,
    /// That deployment's status.
    pub deployment_status: String,
    /// When the name was first deployed.
    pub created_at: String,
    /// When it last moved to another deployment.
    pub updated_at: String,
}

/// The answer of `workflows/list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkflowList {
    /// By name.
    pub deployed_workflows: Vec<DeployedWorkflow>,
    /// Deployments that are still building.
    pub in_progress_builds: Vec<Deployment>,
}

/// The answer of `workflows/get`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkflowDetail {
    /// The name.
    pub workflow: String,
    /// The deployment that the name belongs to.
    pub deployment_id: String,
    /// That deployment's status.
    pub deployment_status: String,
    /// When that deployment was accepted.
    pub deployment_created_at: String,
    /// When that deployment was built.
    pub deployment_built_at: Option<String>,
    /// When the name was first deployed.
    pub created_at: String,
    /// When it last moved to another deployment.
    pub updated_at: String,
    /// JSON Schema of the input, where the bundle carries one.
    pub input_schema: Option<Value>,
    /// JSON Schema of the result, where the bundle carries one.
    pub output_schema: Option<Value>,
}
