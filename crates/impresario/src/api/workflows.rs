//! `workflows/*`.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use impresario_api as wire;

use super::{ApiError, Fields, auth::Tenant, deployments as deployments_api, ok, run_input};
use crate::{app::App, domain::rfc3339, store::ops::deployments};

/// More builds than this at once are not shown.
const BUILDS_SHOWN: u32 = 100;

pub(super) async fn list(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    input: Fields,
) -> Result<Response, ApiError> {
    input.finish()?;
    let found = app
        .store
        .read("list_workflows", move |tx| {
            deployments::list_workflows(tx, tenant.0)
        })
        .await?;
    let in_progress_builds = deployments_api::building(&app, tenant.0, BUILDS_SHOWN).await?;
    let deployed_workflows = found
        .into_iter()
        .map(|workflow| wire::DeployedWorkflow {
            name: workflow.name,
            deployment_id: workflow.deployment.to_string(),
            deployment_status: workflow.status.as_str().to_owned(),
            created_at: rfc3339(workflow.created_at),
            updated_at: rfc3339(workflow.updated_at),
        })
        .collect();
    Ok(ok(wire::WorkflowList {
        deployed_workflows,
        in_progress_builds,
    }))
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let name = input.required_string("workflow", run_input::WORKFLOW_NAME);
    let name = input.finish_with(|| name)?;
    let workflow = run_input::find_workflow(&app, tenant.0, &name).await?;
    let launch = workflow.launch();
    Ok(ok(wire::WorkflowDetail {
        workflow: workflow.name,
        deployment_id: workflow.deployment.id.to_string(),
        deployment_status: workflow.deployment.status.as_str().to_owned(),
        deployment_created_at: rfc3339(workflow.deployment.created_at),
        deployment_built_at: workflow.deployment.built_at.map(rfc3339),
        created_at: rfc3339(workflow.created_at),
        updated_at: rfc3339(workflow.updated_at),
        input_schema: launch.input_schema,
        output_schema: launch.output_schema,
    }))
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let name = input.required_string("workflow", run_input::WORKFLOW_NAME);
    let name = input.finish_with(|| name)?;
    // The 404 with a suggestion, where there is none.
    run_input::find_workflow(&app, tenant.0, &name).await?;
    let gone = name.clone();
    if !app
        .store
        .write("delete_workflow", move |tx| {
            deployments::delete_workflow(tx, tenant.0, &gone)
        })
        .await?
    {
        return Err(ApiError::not_found(format!(
            "workflow: no deployed workflow {name:?}"
        )));
    }
    Ok(ok(wire::Done {
        success: true,
        message: format!("the workflow {name} is not deployed any more"),
    }))
}
