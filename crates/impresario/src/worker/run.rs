//! One job, from the claim to its end.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use secrecy::ExposeSecret;
use tokio::sync::{mpsc, oneshot};

use super::{Running, StopReason, logs::LogBuffer};
use crate::{
    app::App,
    builds::without_server_paths,
    domain::{Ending, Job, WorkflowLaunch},
    metrics::Count,
    runner::{RunEvent, RunFailure, RunOutcome, RunRequest},
    store::{
        self,
        ops::{Moment, credentials, deployments, jobs, secrets},
    },
    vault,
};

/// How old a log line gets before it is written.
pub(super) const FLUSH_AFTER: Duration = Duration::from_millis(250);

/// How long to wait before a store that failed is asked again.
const AFTER_FAULT: Duration = Duration::from_secs(1);

/// Events that wait while the store is busy; beyond that the run's pipes fill up and the workflow waits.
const EVENT_QUEUE: usize = 1024;

/// How often the end of a run is tried to be stored although the store says that the fault lies in the row.
const STUBBORN_TRIES: u32 = 5;

/// Whether the workflow's code was let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// It was not asked yet.
    NotYet,
    /// It was: from here on the job is never run again.
    LetGo,
    /// The job was cancelled, or is not held any more.
    Refused,
    /// The start could not be stored, or the process had gone by then: none of the code has run.
    Failed,
}

/// Runs a claimed job and writes down how it ended. A panic on the way is the job's failure, not the worker's.
pub(super) async fn run(app: &App, job: Job, token: &str, running: &Running) {
    let mut start = Start::NotYet;
    let outcome = AssertUnwindSafe(attempt(app, &job, token, running, &mut start))
        .catch_unwind()
        .await;
    let ending = match outcome {
        Ok(RunOutcome::Completed(result)) => Ending::Completed(result),
        Ok(RunOutcome::Failed(failure)) => Ending::Failed {
            class: failure.class.as_str().to_owned(),
            error: without_server_paths(app, &failure.message),
            stack: failure.stack.map(|stack| without_server_paths(app, &stack)),
        },
        Ok(RunOutcome::Cancelled) => match (running.reason(), start) {
            (Some(StopReason::Lost), _) => {
                tracing::warn!(job = %job.id, "stopped, because the job is not this node's any more; whoever settles it writes its end");
                return;
            }
            (Some(StopReason::Cancel), _) | (_, Start::Refused) => Ending::Cancelled,
            (_, Start::LetGo) => Ending::worker_lost(true),
            (_, Start::NotYet | Start::Failed) => return hand_back(app, &job, token).await,
        },
        Err(_) => internal("the server failed while it ran this job; its log has the reason"),
    };
    finish(app, &job, token, ending).await;
}

fn internal(message: &str) -> Ending {
    Ending::Failed {
        class: "internal".to_owned(),
        error: message.to_owned(),
        stack: None,
    }
}

/// Tries until the store takes it: a run that has ended must not stay open because the disk was full for a minute.
async fn finish(app: &App, job: &Job, token: &str, ending: Ending) {
    let status = ending.status();
    let class = match &ending {
        Ending::Failed { class, .. } => class.clone(),
        Ending::Completed(_) | Ending::Cancelled => String::new(),
    };
    let mut tries = 0;
    loop {
        let (id, lease, ending) = (job.id, token.to_owned(), ending.clone());
        let (clock, ids) = (app.clock.clone(), app.ids.clone());
        let hopeless = tries >= STUBBORN_TRIES;
        let finished = app
            .store
            .write_now("finish_job", move |tx| {
                if hopeless {
                    return jobs::abandon(tx, (id, &lease), clock.now());
                }
                let moment = || Moment::of(&*clock, &ids);
                jobs::finish(tx, (id, &lease), ending.clone(), moment)
            })
            .await;
        match finished {
            Ok(true) => {
                let ended = match hopeless {
                    true => Count::Jobs("failed", "internal".to_owned()),
                    false => Count::Jobs(status.as_str(), class),
                };
                app.metrics.add(ended, 1);
                tracing::info!(job = %id, workflow = %job.workflow, status = status.as_str(), hopeless, "job ended");
                return;
            }
            Ok(false) => {
                tracing::warn!(job = %id, "the job was not held any more; its end here changed nothing");
                return;
            }
            Err(store::StoreError::Closed { .. }) => return,
            Err(error) => {
                tracing::error!(job = %id, %error, cause = ?error, "the end of a job could not be stored; trying again");
                tries += u32::from(error.is_of_the_row());
                tokio::time::sleep(AFTER_FAULT).await;
            }
        }
    }
}

/// Gives a job back to the queue whose code has not started.
async fn hand_back(app: &App, job: &Job, token: &str) {
    loop {
        let (id, lease) = (job.id, token.to_owned());
        match app
            .store
            .write_now("requeue_job", move |tx| jobs::requeue(tx, id, &lease))
            .await
        {
            Ok(true) => {
                tracing::info!(job = %id, "handed back to the queue: its code had not started");
                return;
            }
            // Its owner cancelled it, or it is not held any more; then this changes nothing.
            Ok(false) => return finish(app, job, token, Ending::Cancelled).await,
            // It is settled when the next server starts, or when the lease has run out.
            Err(store::StoreError::Closed { .. }) => return,
            Err(error) => {
                tracing::error!(job = %id, %error, cause = ?error, "a job could not be handed back; trying again");
                tokio::time::sleep(AFTER_FAULT).await;
            }
        }
    }
}

async fn attempt(app: &App, job: &Job, token: &str, running: &Running, start: &mut Start) -> RunOutcome {
    // Preparing may take as long as npm does, so it can be told to end as well.
    let prepared = tokio::select! {
        prepared = prepare(app, job) => prepared,
        () = running.stop.cancelled() => return RunOutcome::Cancelled,
    };
    let request = match prepared {
        Ok(request) => request,
        Err(failure) => return RunOutcome::Failed(failure),
    };
    let (events, received) = mpsc::channel(EVENT_QUEUE);
    let Some(runner) = app.runner() else {
        let message = "this node does not run workflows".to_owned();
        return RunOutcome::Failed(failure(crate::runner::FailureClass::Runner, message));
    };
    // Side by side: a store that is slow to take a line must not hold up the run's time limit or its cancel.
    let run = runner.run(request, events, running.stop.clone());
    let (outcome, ()) = tokio::join!(run, follow(app, job, token, received, start));
    outcome
}

/// Writes a run's lines to the store as they come, and lets its code go when it is ready; ends after the run's last
/// event, so that everything it wrote is stored before its end is.
async fn follow(
    app: &App,
    job: &Job,
    token: &str,
    mut received: mpsc::Receiver<RunEvent>,
    start: &mut Start,
) {
    let mut logs = LogBuffer::default();
    let mut flush = tokio::time::interval(FLUSH_AFTER);
    loop {
        tokio::select! {
            event = received.recv() => match event {
                Some(RunEvent::Ready(go)) => *start = let_go(app, job, token, go).await,
                Some(RunEvent::Log(record)) => logs.push(app, (job, token), record).await,
                None => break,
            },
            _ = flush.tick(), if !logs.is_empty() => logs.flush(app, (job, token)).await,
        }
    }
    logs.flush(app, (job, token)).await;
}

/// Commits that the workflow's code is let go, and only then lets it go: whoever finds the job `starting_browser`
/// later knows that none of it has run.
async fn let_go(app: &App, job: &Job, token: &str, go: oneshot::Sender<()>) -> Start {
    let (id, lease) = (job.id, token.to_owned());
    match app
        .store
        .write_now("start_job", move |tx| jobs::start(tx, id, &lease))
        .await
    {
        Ok(true) if go.send(()).is_ok() => Start::LetGo,
        Ok(true) => Start::Failed,
        Ok(false) => Start::Refused,
        Err(error) => {
            tracing::error!(job = %id, %error, cause = ?error, "the start of a job could not be stored; it does not start");
            Start::Failed
        }
    }
}

fn failure(class: crate::runner::FailureClass, message: String) -> RunFailure {
    RunFailure {
        class,
        message,
        stack: None,
        started: false,
    }
}

/// Everything the runner needs: the bundle on this machine's disk, the declared credentials, the launch options.
async fn prepare(app: &App, job: &Job) -> Result<RunRequest, RunFailure> {
    use crate::runner::FailureClass::Runner;
    let (tenant, deployment) = (job.tenant, job.deployment);
    let deployment = app
        .store
        .read_now("job_deployment", move |tx| {
            deployments::get(tx, tenant, deployment)
        })
        .await
        .map_err(|error| failure(Runner, error.to_string()))?
        .ok_or_else(|| failure(Runner, "the job's deployment is gone".to_owned()))?;
    let launch = deployment.launch_of(&job.workflow).cloned().unwrap_or_default();
    let bundle_dir = crate::builds::ensure_bundle(app, &deployment)
        .await
        .map_err(|reason| failure(Runner, format!("the bundle could not be unpacked: {reason}")))?;
    let credentials = credentials(app, job, &launch).await?;
    Ok(RunRequest {
        job_id: job.id.to_string(),
        bundle_dir,
        entry_point: deployment.entry_point,
        workflow: job.workflow.clone(),
        params: job.params.clone(),
        credentials,
        start_url: job.launch.start_url.clone().or(launch.start_url),
        viewport: job.launch.viewport.or(launch.viewport),
        gpu: job.launch.gpu.or(launch.gpu).unwrap_or(false),
        headless: job.launch.headless.unwrap_or(true),
        residential_proxy: job.launch.residential_proxy.clone(),
        disable_default_proxy: job.launch.disable_default_proxy.unwrap_or(false),
        timeout: Duration::from_secs(job.launch.timeout_seconds.into()),
        screenshot: Some(
            app.settings
                .data_dir
                .join("screenshots")
                .join(format!("{}.png", job.id)),
        ),
    })
}

/// The credentials that the workflow declares and the one the job names, in the clear; never more than those.
async fn credentials(
    app: &App,
    job: &Job,
    launch: &WorkflowLaunch,
) -> Result<BTreeMap<String, String>, RunFailure> {
    use crate::runner::FailureClass::{Configuration, Credential, Runner};
    let (tenant, extra) = (job.tenant, job.launch.credential_id);
    let declared: Vec<String> = launch
        .credential_names
        .iter()
        .map(|name| name.to_lowercase())
        .collect();
    let found = app
        .store
        .read_now("job_credentials", move |tx| {
            let mut found = Vec::new();
            for name in &declared {
                let credential = credentials::by_name(tx, tenant, name)?;
                found.push((format!("\"{name}\", which the workflow declares,"), credential));
            }
            if let Some(id) = extra {
                found.push((
                    format!("{id}, which the job names,"),
                    credentials::by_id(tx, tenant, id)?,
                ));
            }
            let mut sealed = Vec::new();
            for (what, credential) in found {
                let secret = match credential {
                    Some(credential) => {
                        secrets::get(tx, tenant, credential.secret)?.map(|it| (credential, it))
                    }
                    None => None,
                };
                sealed.push((what, secret));
            }
            Ok(sealed)
        })
        .await
        .map_err(|error| failure(Runner, error.to_string()))?;
    let mut values = BTreeMap::new();
    for (what, secret) in found {
        let Some((credential, sealed)) = secret else {
            let reason = format!("the credential {what} does not exist; make it with credentials/create");
            return Err(failure(Credential, reason));
        };
        let value = vault::open(&app.keyring, tenant, credential.secret, &sealed).map_err(|error| {
            let reason = format!(
                "the credential \"{}\" cannot be decrypted: {error}",
                credential.name
            );
            failure(Configuration, reason)
        })?;
        values.insert(credential.name, value.expose_secret().to_owned());
    }
    Ok(values)
}
