//! Turns accepted archives into bundles that can run. What comes in: deployments that are `building`. What goes out:
//! directories on this machine, and deployments that are `ready` with their workflows, or `failed` with a reason.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    app::App,
    background::{self, Next},
    builder::{self, BuildLimits},
    domain::{Deployment, DeploymentId, ExportedWorkflow, WorkflowId, WorkflowLaunch},
    params,
    runner::NodeRunner,
    store::{
        self,
        ops::{Lease, deployments},
    },
};

/// Builds that run at once: one that installs packages for minutes holds up no other.
const MOST_AT_ONCE: usize = 4;

/// How long a build whose end could not be stored waits before it is built again.
const AFTER_FAULT: Duration = Duration::from_secs(5);

/// How long one try to give a build up may take: the end of the server waits for it.
const LAST_WRITE: Duration = Duration::from_secs(5);

/// A deployment whose build was begun this often without an end is given up.
const MOST_ATTEMPTS: u32 = 5;

/// The deployments that are being built here.
#[derive(Debug, Default)]
pub struct ActiveBuilds {
    ids: Mutex<HashSet<DeploymentId>>,
}

/// Frees what an earlier server of this data directory was building. Where other nodes may be on the database, it may be
/// theirs, and its lease says when it is not any more.
///
/// # Errors
/// The store's.
pub async fn recover(app: &App) -> store::Result<()> {
    if app.store.is_shared() {
        return Ok(());
    }
    let freed = app
        .store
        .write_now("recover_builds", deployments::recover)
        .await?;
    if freed > 0 {
        tracing::warn!(freed, "builds of an earlier server are begun again");
    }
    Ok(())
}

/// Builds until `shutdown`; what is being built then is built again by another node, or by the next server.
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
            let active = Active { app, deployment };
            let token = active.app.ids.uuid(active.app.clock.now()).to_string();
            let ended = tokio::select! {
                ended = build(&active.app, &active.deployment, &token) => ended,
                () = shutdown.cancelled() => false,
            };
            if !ended {
                give_up(&active, &token, &shutdown).await;
            }
        });
    }
    Ok(Next::Idle)
}

/// A build's place among those of this node: given up when its task ends, in whatever way it does.
struct Active {
    app: Arc<App>,
    deployment: Deployment,
}

impl Drop for Active {
    fn drop(&mut self) {
        self.app
            .active_builds
            .ids
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.deployment.id);
        self.app.signals.builds.notify_one();
    }
}

/// Frees a build that did not end here, so that it is begun again: by another node at once, by this one after a pause.
async fn give_up(active: &Active, token: &str, shutdown: &CancellationToken) {
    let id = active.deployment.id;
    loop {
        let held_with = token.to_owned();
        let released = active.app.store.write_now("release_build", move |tx| {
            deployments::release_build(tx, id, &held_with)
        });
        match tokio::time::timeout(LAST_WRITE, released).await {
            Ok(Ok(()) | Err(store::StoreError::Closed { .. })) => break,
            Ok(Err(error)) => {
                tracing::error!(deployment = %id, %error, cause = ?error, "a build could not be given up; trying again");
            }
            Err(_) => {
                tracing::error!(deployment = %id, "a build could not be given up in time; trying again");
            }
        }
        if shutdown.is_cancelled() {
            // It is freed when the next server starts, or when its lease has run out.
            break;
        }
        pause(shutdown).await;
    }
    pause(shutdown).await;
}

async fn pause(shutdown: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(AFTER_FAULT) => {}
        () = shutdown.cancelled() => {}
    }
}

/// Ends when a build is not this node's any more, or that cannot be known: its lease, which is extended meanwhile, has run
/// out by this machine's monotonic clock. Never where leases have no end.
async fn until_lost(app: &App, id: DeploymentId, token: &str, begun: Instant) {
    if !app.store.is_shared() {
        return std::future::pending().await;
    }
    let length = app.lease();
    let mut end = begun + length;
    loop {
        tokio::time::sleep(length / 3).await;
        let (sent, held_with) = (Instant::now(), token.to_owned());
        let extended = app.store.write_now("extend_build", move |tx| {
            deployments::extend_build(tx, (id, &held_with), length)
        });
        match tokio::time::timeout_at(end.into(), extended).await {
            Ok(Ok(true)) => end = sent + length,
            Ok(Ok(false)) => return,
            Ok(Err(error)) => {
                tracing::error!(deployment = %id, %error, cause = ?error, "the lease of a build could not be extended");
            }
            Err(_) => {}
        }
        if Instant::now() >= end {
            return;
        }
    }
}

/// Why there is no bundle.
enum BuildFailure {
    /// It lies in what was uploaded: building again would say the same.
    Bundle(String),
    /// It lies with this server: the disk, the store.
    Server(String),
}

/// Builds under a lease; whether it has come to an end that is in the store.
async fn build(app: &App, deployment: &Deployment, token: &str) -> bool {
    let (id, begun, held_with, length) = (deployment.id, Instant::now(), token.to_owned(), app.lease());
    // Counted before it begins: a bundle that takes the server down with it is not built for ever.
    let attempt = app
        .store
        .write_now("begin_build", move |tx| {
            let token = &held_with;
            deployments::begin_build(tx, id, Lease { token, length })
        })
        .await;
    let ended = match attempt {
        // Those before it had no end: each may have taken a node down with it.
        Ok(Some(attempt)) if attempt > MOST_ATTEMPTS => {
            failed(
                app,
                (id, token),
                "its build was begun again and again and never came to an end; the server's log may have the reason",
            )
            .await
            .map(|_| true)
        }
        Ok(Some(attempt)) => {
            tokio::select! {
                ended = build_held(app, deployment, token, attempt) => ended,
                () = until_lost(app, id, token, begun) => {
                    tracing::warn!(deployment = %id, "a build is not this node's any more; it is stopped");
                    Ok(false)
                }
            }
        }
        // It is built already, or another node builds it.
        Ok(None) => Ok(true),
        Err(error) => Err(error),
    };
    ended.unwrap_or_else(|error| {
        tracing::error!(deployment = %id, %error, cause = ?error, "a build could not be noted in the store");
        false
    })
}

async fn build_held(app: &App, deployment: &Deployment, token: &str, attempt: u32) -> store::Result<bool> {
    let id = deployment.id;
    let noted = match unpack_and_discover(app, deployment).await {
        Ok(workflows) => built(app, (deployment, token), workflows).await,
        Err(BuildFailure::Server(reason)) if attempt < MOST_ATTEMPTS => {
            tracing::error!(deployment = %id, %reason, attempt, "a build failed for a fault of the server's; it is tried again");
            return Ok(false);
        }
        Err(BuildFailure::Server(reason)) => {
            tracing::error!(deployment = %id, %reason, "a build is given up");
            failed(
                app,
                (id, token),
                "the server could not build it, again and again; its log has the reason",
            )
            .await
        }
        Err(BuildFailure::Bundle(reason)) => {
            tracing::info!(deployment = %id, %reason, "deployment failed");
            failed(app, (id, token), &reason).await
        }
    };
    if !noted? {
        tracing::warn!(deployment = %id, "the build was not held any more; its end here changed nothing");
    }
    Ok(true)
}

async fn built(
    app: &App,
    (deployment, token): (&Deployment, &str),
    workflows: Vec<ExportedWorkflow>,
) -> store::Result<bool> {
    // Before the write, so that nobody waits for it but this deployment. What its schedules are changed to meanwhile
    // is checked before their next fire.
    let verdicts = params::judge_for(app, deployment.tenant, &workflows).await;
    let (ids, deployment, now) = (app.ids.clone(), deployment.clone(), app.clock.now());
    let token = token.to_owned();
    tracing::info!(deployment = %deployment.id, workflows = workflows.len(), "deployment ready");
    let new_id = move || WorkflowId(ids.uuid(now));
    app.store
        .write_now("deployment_built", move |tx| {
            let exported = (&*workflows, &*verdicts);
            deployments::built(tx, (&deployment, &token), exported, (new_id.clone(), now))
        })
        .await
}

async fn failed(app: &App, (id, token): (DeploymentId, &str), reason: &str) -> store::Result<bool> {
    let (reason, token) = (reason.to_owned(), token.to_owned());
    app.store
        .write_now("deployment_failed", move |tx| {
            deployments::build_failed(tx, (id, &token), &reason)
        })
        .await
}

async fn unpack_and_discover(
    app: &App,
    deployment: &Deployment,
) -> Result<Vec<ExportedWorkflow>, BuildFailure> {
    let archive = archive(app, deployment.id).await.map_err(BuildFailure::Server)?;
    let dir = bundle_dir(app, deployment.id);
    // Left by a server that stopped between the build and its note in the store.
    if let Err(error) = tokio::fs::remove_dir_all(&dir).await
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(BuildFailure::Server(format!(
            "cannot clear {}: {error}",
            dir.display()
        )));
    }
    let limits = BuildLimits::default();
    let runner = runner(app).map_err(BuildFailure::Server)?;
    match builder::build(archive, &deployment.entry_point, &dir, runner, &limits).await {
        Ok(built) => Ok(built.workflows.into_iter().map(exported).collect()),
        Err(error @ builder::BuildError::Io { .. }) => {
            Err(BuildFailure::Server(format!("{:#}", anyhow::Error::from(error))))
        }
        Err(error) => Err(BuildFailure::Bundle(without_server_paths(
            app,
            &error.to_string(),
        ))),
    }
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

fn runner(app: &App) -> Result<&NodeRunner, String> {
    app.runner().ok_or_else(|| "this node does not build".to_owned())
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

/// A message or a stack with paths as they are in the bundle: where a server keeps it is not its tenants' business.
pub fn without_server_paths(app: &App, text: &str) -> String {
    let data_dir = &app.settings.data_dir;
    let mut text = relative_to_bundles(text, &data_dir.join("bundles").to_string_lossy());
    let modules = app.runner().map(|runner| &runner.settings().modules);
    for dir in [data_dir].into_iter().chain(modules) {
        for start in ["file://", ""] {
            text = text.replace(&format!("{start}{}/", dir.display()), "");
        }
    }
    text
}

fn relative_to_bundles(text: &str, bundles: &str) -> String {
    let place = format!("{bundles}/");
    let mut parts = text.split(&place);
    let mut relative = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        if relative.ends_with("file://") {
            relative.truncate(relative.len() - "file://".len());
        }
        // After the directory's own name comes the path within it.
        let within = part
            .find(|c: char| c == '/' || c.is_whitespace())
            .unwrap_or(part.len());
        relative.push_str(part[within..].strip_prefix('/').unwrap_or(&part[within..]));
    }
    relative
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
    builder::unpack_only(archive, &dir, runner(app)?, &BuildLimits::default())
        .await
        .map_err(|error| error.to_string())?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_stacks_show_paths_as_they_are_in_the_bundle() {
        let text = "Error: no\n    at f (file:///srv/data/bundles/0190-ab/lib/a.js:3:5)\n    at /srv/data/bundles/.x.new/index.js:1\n in /srv/data/bundles/0190-ab";
        assert_eq!(
            relative_to_bundles(text, "/srv/data/bundles"),
            "Error: no\n    at f (lib/a.js:3:5)\n    at index.js:1\n in "
        );
        assert_eq!(
            relative_to_bundles("nothing here", "/srv/data/bundles"),
            "nothing here"
        );
    }
}
