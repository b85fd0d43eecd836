//! Turns accepted archives into bundles that can run. What comes in: deployments that are `building`. What goes out:
//! directories on this machine, and deployments that are `ready` with their workflows, or `failed` with a reason.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    app::App,
    background::{self, Next},
    builder::{self, BuildLimits},
    domain::{Deployment, DeploymentId, ExportedWorkflow, WorkflowId, WorkflowLaunch},
    store::{self, ops::deployments},
};

/// Builds that run at once: one that installs packages for minutes holds up no other.
const MOST_AT_ONCE: usize = 4;

/// How long a build whose end could not be stored waits before it is built again.
const AFTER_FAULT: Duration = Duration::from_secs(5);

/// The deployments that are being built here.
#[derive(Debug, Default)]
pub struct ActiveBuilds {
    ids: Mutex<HashSet<DeploymentId>>,
}

/// Builds until `shutdown`; what is being built then is built again by the next server.
pub async fn run(app: &Arc<App>, tasks: &TaskTracker, shutdown: &CancellationToken) {
    let around = (&app.clock, &app.signals.builds, &*app.pulse);
    background::run("builds", around, shutdown, || tick(app, tasks, shutdown)).await;
}

async fn tick(app: &Arc<App>, tasks: &TaskTracker, shutdown: &CancellationToken) -> store::Result<Next> {
    let active: Vec<_> = app
        .active_builds
        .ids
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .copied()
        .collect();
    let places = MOST_AT_ONCE.saturating_sub(active.len());
    if places == 0 {
        return Ok(Next::Idle);
    }
    let waiting = app
        .store
        .read_now("building_deployments", move |tx| {
            deployments::building(tx, &active, places)
        })
        .await?;
    for deployment in waiting {
        if !app
            .active_builds
            .ids
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(deployment.id)
        {
            continue;
        }
        let (app, shutdown) = (Arc::clone(app), shutdown.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = build(&app, &deployment) => {}
                () = shutdown.cancelled() => {}
            }
            app.active_builds
                .ids
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&deployment.id);
            app.signals.builds.notify_one();
        });
    }
    Ok(Next::Idle)
}

async fn build(app: &App, deployment: &Deployment) {
    let (id, now) = (deployment.id, app.clock.now());
    let outcome = match unpack_and_discover(app, deployment).await {
        Ok(workflows) => {
            let (ids, deployment) = (app.ids.clone(), deployment.clone());
            tracing::info!(deployment = %id, workflows = workflows.len(), "deployment ready");
            let new_id = move || WorkflowId(ids.uuid(now));
            app.store
                .write("deployment_built", move |tx| {
                    deployments::built(tx, &deployment, &workflows, (new_id, now))
                })
                .await
        }
        Err(reason) => {
            tracing::info!(deployment = %id, %reason, "deployment failed");
            app.store
                .write("deployment_failed", move |tx| {
                    deployments::build_failed(tx, id, &reason)
                })
                .await
        }
    };
    if let Err(error) = outcome {
        // It is still `building` in the store, so a later pass builds it again.
        tracing::error!(deployment = %id, %error, cause = ?error, "the end of a build could not be stored");
        tokio::time::sleep(AFTER_FAULT).await;
    }
}

async fn unpack_and_discover(app: &App, deployment: &Deployment) -> Result<Vec<ExportedWorkflow>, String> {
    let archive = archive(app, deployment.id).await?;
    let dir = bundle_dir(app, deployment.id);
    // Left by a server that stopped between the build and its note in the store.
    if let Err(error) = tokio::fs::remove_dir_all(&dir).await
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(format!("cannot clear {}: {error}", dir.display()));
    }
    let built = builder::build(
        archive,
        &deployment.entry_point,
        &dir,
        &app.runner,
        &BuildLimits::default(),
    )
    .await
    .map_err(|error| error.to_string())?;
    Ok(built.workflows.into_iter().map(exported).collect())
}

fn exported(found: builder::DiscoveredWorkflow) -> ExportedWorkflow {
    ExportedWorkflow {
        name: found.name,
        launch: WorkflowLaunch {
            credential_names: found.credential_names,
            input_schema: found.input_schema,
            output_schema: found.output_schema,
            start_url: found.start_url,
            viewport: found.viewport,
            gpu: found.gpu,
        },
    }
}

async fn archive(app: &App, id: DeploymentId) -> Result<Vec<u8>, String> {
    let archive = app
        .store
        .read_now("bundle_archive", move |tx| deployments::archive(tx, id))
        .await;
    archive
        .map_err(|error| error.to_string())?
        .ok_or_else(|| "its archive is gone".to_owned())
}

/// One directory a deployment, never shared: what one tenant's run writes there, another's never sees.
fn bundle_dir(app: &App, id: DeploymentId) -> PathBuf {
    app.settings.data_dir.join("bundles").join(id.to_string())
}

/// The bundle's directory on this machine; unpacked again from the store where it is missing.
///
/// # Errors
/// Why it cannot be.
pub async fn ensure_bundle(app: &App, deployment: &Deployment) -> Result<PathBuf, String> {
    let dir = bundle_dir(app, deployment.id);
    if tokio::fs::try_exists(&dir)
        .await
        .map_err(|error| error.to_string())?
    {
        return Ok(dir);
    }
    let archive = archive(app, deployment.id).await?;
    builder::unpack_only(archive, &dir, &app.runner, &BuildLimits::default())
        .await
        .map_err(|error| error.to_string())?;
    Ok(dir)
}
