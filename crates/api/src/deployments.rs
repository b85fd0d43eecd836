//! `deployments/*` and `workflows/*`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::shape::{DeploymentStatus, Description, Id, Instant, Label, WorkflowName};

/// The input of `deployments/create`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateDeployment {
    /// A gzip-compressed tar, base64.
    #[schemars(length(min = 1), example = &"H4sIAAAAAAAA…")]
    pub source: String,
    /// The module to load, relative to the bundle's root; default `index.ts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 255), example = &"index.js", extend("default" = "index.ts"))]
    pub entry_point: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Description>")]
    pub description: Option<String>,
    /// Offered by the hosted service, and without effect here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = false)]
    pub auto_repair: Option<Value>,
}

/// The answer of `deployments/create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreatedDeployment {
    /// UUID.
    #[schemars(with = "Id")]
    pub deployment_id: String,
    /// `building`; ask `deployments/sync` how it went on.
    #[schemars(with = "DeploymentStatus")]
    pub status: String,
    /// When it was accepted.
    #[schemars(with = "Instant")]
    pub created_at: String,
}

/// A deployment, as `deployments/sync` and `deployments/list` show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deployment {
    /// UUID.
    #[schemars(with = "Id")]
    pub id: String,
    /// For people.
    #[schemars(with = "Option<Description>")]
    pub description: Option<String>,
    /// `building`, `ready` or `failed`.
    #[schemars(with = "DeploymentStatus")]
    pub status: String,
    /// Where the source is: `sha256:<hash of the archive>`.
    #[schemars(example = &"sha256:9f86d081884c7d65…")]
    pub source_path: Option<String>,
    /// Where the built bundle is, once it is ready.
    #[schemars(example = &"sha256:9f86d081884c7d65…")]
    pub bundle_path: Option<String>,
    /// Why the build failed.
    #[schemars(example = &"index.js exports no workflow")]
    pub build_error: Option<String>,
    /// The module that is loaded.
    #[schemars(example = &"index.js")]
    pub entry_point: String,
    /// When the build ended well.
    #[schemars(with = "Option<Instant>")]
    pub built_at: Option<String>,
    /// When it was accepted.
    #[schemars(with = "Instant")]
    pub created_at: String,
    /// The names it exports; `null` until it is ready.
    #[schemars(with = "Option<Vec<WorkflowName>>")]
    pub workflows: Option<Vec<String>>,
    /// How many schedules have params that do not fit the workflows that belong to this deployment now; `null` until
    /// it is ready.
    #[schemars(example = 0)]
    pub schedules_with_invalid_params_total: Option<u64>,
}

/// The answer of `deployments/sync`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncedDeployment {
    /// The deployment.
    #[serde(flatten)]
    pub deployment: Deployment,
    /// Those schedules, the newest 100 of them; `null` until it is ready.
    pub schedules_with_invalid_params: Option<Vec<UnfitSchedule>>,
}

/// A schedule whose params do not fit its workflow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnfitSchedule {
    /// UUID.
    #[schemars(with = "Id")]
    pub id: String,
    /// What people know it by.
    #[schemars(with = "Option<Label>")]
    pub name: Option<String>,
    /// The workflow's name.
    #[schemars(with = "WorkflowName")]
    pub workflow: String,
    /// What is wrong with the params, in one sentence.
    #[schemars(example = &"params.clinic: is required")]
    pub error: String,
}

/// The answer of `deployments/list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentList {
    /// Newest first.
    pub deployments: Vec<Deployment>,
}

/// A deployed workflow, as `workflows/list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeployedWorkflow {
    /// Unique within the tenant.
    #[schemars(with = "WorkflowName")]
    pub name: String,
    /// The deployment that the name belongs to.
    #[schemars(with = "Id")]
    pub deployment_id: String,
    /// That deployment's status.
    #[schemars(with = "DeploymentStatus")]
    pub deployment_status: String,
    /// When the name was first deployed.
    #[schemars(with = "Instant")]
    pub created_at: String,
    /// When it last moved to another deployment.
    #[schemars(with = "Instant")]
    pub updated_at: String,
}

/// The answer of `workflows/list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowList {
    /// By name.
    pub deployed_workflows: Vec<DeployedWorkflow>,
    /// Deployments that are still building.
    pub in_progress_builds: Vec<Deployment>,
}

/// The answer of `workflows/get`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowDetail {
    /// The name.
    #[schemars(with = "WorkflowName")]
    pub workflow: String,
    /// The deployment that the name belongs to.
    #[schemars(with = "Id")]
    pub deployment_id: String,
    /// That deployment's status.
    #[schemars(with = "DeploymentStatus")]
    pub deployment_status: String,
    /// When that deployment was accepted.
    #[schemars(with = "Instant")]
    pub deployment_created_at: String,
    /// When that deployment was built.
    #[schemars(with = "Option<Instant>")]
    pub deployment_built_at: Option<String>,
    /// When the name was first deployed.
    #[schemars(with = "Instant")]
    pub created_at: String,
    /// When it last moved to another deployment.
    #[schemars(with = "Instant")]
    pub updated_at: String,
    /// JSON Schema of the input, where the bundle carries one.
    #[schemars(example = serde_json::json!({"type": "object"}))]
    pub input_schema: Option<Value>,
    /// JSON Schema of the result, where the bundle carries one.
    #[schemars(example = serde_json::json!({"type": "object"}))]
    pub output_schema: Option<Value>,
}

/// The input of `deployments/sync`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyncDeployment {
    /// The deployment.
    #[schemars(with = "Id")]
    pub id: String,
}

/// The input of `deployments/list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListDeployments {
    /// How many, 1 to 200; default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 200), example = 50, extend("default" = 50))]
    pub limit: Option<u32>,
}

/// The input of `workflows/list`: nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListWorkflows {}

/// The input of `workflows/get`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetWorkflow {
    /// Its name.
    #[schemars(with = "WorkflowName")]
    pub workflow: String,
}

/// The input of `workflows/delete`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteWorkflow {
    /// Its name.
    #[schemars(with = "WorkflowName")]
    pub workflow: String,
}
