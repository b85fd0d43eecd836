//! `jobs/*`.

use std::{sync::Arc, time::Duration};

use axum::{extract::State, response::Response};
use impresario_api as wire;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{
    ApiError, Fields, Input,
    auth::Tenant,
    ok, page,
    run_input::{self, CallbackPatch, LaunchPatch},
    values,
};
use crate::{
    app::App,
    domain::{CredentialId, Job, JobId, JobStatus, Launch, NewJob, ScheduleId, TenantId, rfc3339},
    metrics::Count,
    params,
    secrets::Keyring,
    store::{
        hex,
        ops::{
            Moment, credentials,
            jobs::{self, CancelOutcome, CreateOutcome, JobFilter},
        },
    },
};

/// Where a request does not say how long the run may take, in seconds.
const DEFAULT_TIMEOUT: u32 = 1800;
/// When to come back where the queue is full.
const QUEUE_WAIT: Duration = Duration::from_secs(60);
/// How long a cancel waits for the process tree to be gone before it answers: promise 6, and some air.
const CANCEL_WAIT: Duration = Duration::from_secs(8);
/// How often it looks meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

fn not_found(id: JobId) -> ApiError {
    ApiError::not_found(format!("job: there is no job {id}"))
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    Input(object): Input,
) -> Result<Response, ApiError> {
    let request = digest(&app.keyring, tenant.0, object.clone());
    let mut input = Fields::new(object);
    let workflow = input.required_string("workflow", run_input::WORKFLOW_NAME);
    let params = input.optional_object("params").unwrap_or_default();
    let nonce = input.patch_string("nonce", 1..=255).into_option();
    let headless = input.patch_bool("headless").into_option();
    let credential = input
        .patch_with("credential_id", |value| values::uuid(&value))
        .into_option()
        .map(CredentialId);
    let launch = LaunchPatch::read(&mut input);
    let callback = CallbackPatch::read(&app, tenant.0, &mut input);
    let skip_callbacks = input.optional_bool("skip_callbacks").unwrap_or(false);
    let launch = launch
        .apply(&defaults(headless, credential))
        .map_err(|(f, flaw)| input.report(f, vec![flaw]))
        .ok();
    let callback = callback
        .apply((None, None))
        .map_err(|(f, flaw)| input.report(f, vec![flaw]))
        .ok();
    let nonce = nonce.map(|nonce| (nonce, request));

    // A request that is repeated gets the first one's answer, whatever has been redeployed since.
    if let (true, Some((nonce, request))) = (input.is_fine(), nonce.clone()) {
        let known = app
            .store
            .read("job_by_nonce", move |tx| {
                jobs::by_nonce(tx, tenant.0, &nonce, &request)
            })
            .await?;
        if let Some(known) = known {
            input.finish()?;
            return answer(known);
        }
    }
    let found = match &workflow {
        Some(name) => Some(run_input::find_workflow(&app, tenant.0, name).await),
        None => None,
    };
    if let Some(Ok(found)) = &found {
        input.report("params", params::flaws(found, &params).await);
    }
    let (workflow, launch, callback) = input.finish_with(|| Some((workflow?, launch?, callback?)))?;
    found.transpose()?;
    if let Some(id) = credential {
        let known = app
            .store
            .read("get_credential", move |tx| credentials::by_id(tx, tenant.0, id))
            .await?;
        known.ok_or_else(|| ApiError::not_found(format!("credential_id: there is no credential {id}")))?;
    }
    let now = app.clock.now();
    let new = NewJob {
        id: JobId(app.ids.uuid(now)),
        workflow,
        params,
        launch,
        nonce,
        callback_url: callback.url,
        callback_secret: callback.secret,
        skip_callbacks,
    };
    let outcome = app
        .store
        .write("create_job", move |tx| {
            jobs::create(tx, tenant.0, new.clone(), callback.new_secret.clone(), now)
        })
        .await?;
    app.signals.worker.notify_one();
    answer(outcome)
}

/// As many jobs of the tenant are in the queue as its quota allows.
pub(super) fn queue_full(most: u64) -> ApiError {
    let jobs = if most == 1 { "job" } else { "jobs" };
    let message = format!(
        "jobs: this tenant has {most} {jobs} in the queue, the most its quota allows; come back when some have begun to run, \
         cancel some, or ask the operator for more"
    );
    ApiError::too_many_requests(message, QUEUE_WAIT)
}

/// So many jobs at once are more than the tenant's quota has room for.
pub(super) fn no_room(wanted: u64, most: u64) -> ApiError {
    let message = format!(
        "jobs: there is no room for {wanted} more in the queue: this tenant's quota allows {most} there; ask for a part of them, come \
         back when some have begun to run, or ask the operator for more"
    );
    ApiError::too_many_requests(message, QUEUE_WAIT)
}

fn defaults(headless: Option<bool>, credential: Option<CredentialId>) -> Launch {
    Launch {
        timeout_seconds: DEFAULT_TIMEOUT,
        start_url: None,
        gpu: None,
        headless,
        viewport: None,
        residential_proxy: None,
        disable_default_proxy: None,
        credential_id: credential,
    }
}

fn answer(outcome: CreateOutcome) -> Result<Response, ApiError> {
    let (job, message) = match outcome {
        CreateOutcome::Created(job) => (job, "job queued"),
        CreateOutcome::Known(job) => (
            job,
            "this nonce was used by the same request before; this is its job",
        ),
        CreateOutcome::NonceTaken(job) => {
            let message = format!("nonce: it was used by another request before, for job {}", job.id);
            return Err(ApiError::conflict(message));
        }
        CreateOutcome::NoWorkflow => return Err(ApiError::not_found("workflow: it has just been deleted")),
        CreateOutcome::QuotaReached(most) => return Err(queue_full(most)),
    };
    Ok(ok(wire::CreatedJob {
        success: true,
        job_id: job.id.to_string(),
        status: job.status.as_str().to_owned(),
        message: message.to_owned(),
    }))
}

/// What tells one request from another under the same nonce.
///
/// It is kept in the database, where everything else of the request stands beside it: a plain hash of the whole would
/// let whoever reads the row try callback secrets until one fits. So the secret's place is taken by an HMAC under the
/// server's key; another secret is still another request. A change of that key makes a repeated request with a secret
/// look like another one: it is refused, and not run twice.
fn digest(keyring: &Keyring, tenant: TenantId, mut request: Map<String, Value>) -> String {
    if let Some(Value::String(secret)) = request.get_mut("callback_secret") {
        *secret = keyring.fingerprint(&tenant.to_string(), secret);
    }
    hex(&Sha256::digest(canonical(&Value::Object(request)).as_bytes()))
}

/// The same text for the same JSON, whatever the order of its keys.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let mut pairs: Vec<_> = object.iter().collect();
            pairs.sort_by_key(|(key, _)| *key);
            let pairs: Vec<_> = pairs
                .into_iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", pairs.join(","))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(canonical).collect::<Vec<_>>().join(",")),
        plain => plain.to_string(),
    }
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let statuses = JobStatus::ALL.map(|status| (status.as_str(), status));
    let filter = JobFilter {
        status: input.optional_choice("status", &statuses),
        schedule: input.optional_uuid("schedule_id").map(ScheduleId),
        workflow: input.optional_string("workflow", run_input::WORKFLOW_NAME),
        after: page::cursor(&mut input),
    };
    let limit = page::limit(&mut input, "limit", 20, 100);
    input.finish()?;
    let found = app
        .store
        .read("list_jobs", move |tx| {
            jobs::list(tx, tenant.0, filter.clone(), limit + 1)
        })
        .await?;
    let (found, next_cursor) = page::cut(found, limit, |job| (job.created_at, job.id.0));
    let jobs = found
        .into_iter()
        .map(|job| wire::JobSummary {
            job_id: job.id.to_string(),
            deployment_id: job.deployment.to_string(),
            workflow_id: job.workflow_id.to_string(),
            workflow: job.workflow,
            status: job.status.as_str().to_owned(),
            created_at: rfc3339(job.created_at),
            completed_at: job.completed_at.map(rfc3339),
            schedule_id: job.schedule.map(|id| id.to_string()),
        })
        .collect();
    Ok(ok(wire::JobList { jobs, next_cursor }))
}

async fn find(app: &App, tenant: Tenant, id: JobId) -> Result<Job, ApiError> {
    let found = app
        .store
        .read("get_job", move |tx| jobs::get(tx, tenant.0, id))
        .await?;
    found.ok_or_else(|| not_found(id))
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    input: Fields,
) -> Result<Response, ApiError> {
    let id: JobId = input.only_id()?;
    Ok(ok(view(find(&app, tenant, id).await?)))
}

fn view(job: Job) -> wire::Job {
    wire::Job {
        job_id: job.id.to_string(),
        deployment_id: job.deployment.to_string(),
        deployment_version: job.bundle.chars().take(12).collect(),
        workflow_id: job.workflow_id.to_string(),
        workflow: job.workflow,
        params: job.params,
        status: job.status.as_str().to_owned(),
        created_at: rfc3339(job.created_at),
        started_at: job.started_at.map(rfc3339),
        completed_at: job.completed_at.map(rfc3339),
        result: job.result,
        error: job.error,
        mapped_stack: job.stack,
        schedule_id: job.schedule.map(|(id, _)| id.to_string()),
        fire_at: job.schedule.map(|(_, at)| rfc3339(at)),
        attempt: job.attempt,
        failure_class: job.failure_class,
    }
}

pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    input: Fields,
) -> Result<Response, ApiError> {
    let id: JobId = input.only_id()?;
    let (clock, ids) = (app.clock.clone(), app.ids.clone());
    let conflict = |job: &Job| ApiError::conflict(format!("job: it is {} already", job.status.as_str()));
    let done = |message: &str| {
        Ok(ok(wire::Done {
            success: true,
            message: message.to_owned(),
        }))
    };
    match app
        .store
        .write("cancel_job", move |tx| {
            jobs::cancel(tx, tenant.0, id, || Moment::of(&*clock, &ids))
        })
        .await?
    {
        CancelOutcome::Unknown => Err(not_found(id)),
        CancelOutcome::Finished(job) => Err(conflict(&job)),
        CancelOutcome::Cancelled(_) => {
            app.metrics.add(Count::Jobs("cancelled", String::new()), 1);
            // Another job of its schedule may have waited for it.
            app.signals.worker.notify_one();
            app.signals.scheduler.notify_one();
            done("the job was waiting and is cancelled")
        }
        CancelOutcome::Requested(_) => {
            app.running.cancel(id);
            match ended(&app, tenant, id).await? {
                Some(job) if job.status == JobStatus::Cancelled => done("the job's processes were ended"),
                Some(job) => Err(conflict(&job)),
                None => done("the job is being ended"),
            }
        }
    }
}

/// The job once it has ended, if that comes soon.
async fn ended(app: &App, tenant: Tenant, id: JobId) -> Result<Option<Job>, ApiError> {
    let wait = async {
        loop {
            // Registered before the look, so that an end between the two is not missed.
            let mut signal = std::pin::pin!(app.signals.job_ended.notified());
            signal.as_mut().enable();
            let job = find(app, tenant, id).await?;
            if job.status.is_final() {
                return Ok(job);
            }
            // Another node rings no bell here.
            tokio::time::timeout(LOOK_AGAIN, signal).await.ok();
        }
    };
    tokio::time::timeout(CANCEL_WAIT, wait).await.ok().transpose()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(secret: &str) -> Map<String, Value> {
        match json!({"workflow": "a", "nonce": "1", "callback_secret": secret}) {
            Value::Object(object) => object,
            _ => Map::new(),
        }
    }

    #[test]
    fn a_digest_is_no_way_to_guess_the_secret_and_another_secret_is_another_request() {
        let ring = |byte: &str| Keyring::from_base64(&(byte.repeat(42) + "8=")).unwrap();
        let tenant = TenantId(uuid::Uuid::from_u128(1));
        let one = digest(&ring("A"), tenant, request("hunter2"));
        assert_eq!(one, digest(&ring("A"), tenant, request("hunter2")));
        assert_ne!(one, digest(&ring("A"), tenant, request("hunter3")));
        // What somebody without the key can compute from a guess that is right.
        let guess = canonical(&Value::Object(request("hunter2")));
        assert_ne!(one, hex(&Sha256::digest(guess.as_bytes())));
        assert_ne!(one, digest(&ring("B"), tenant, request("hunter2")));
    }

    #[test]
    fn the_order_of_keys_does_not_make_another_request() {
        let one = json!({"workflow": "a", "params": {"x": [1, {"b": 2, "a": "\"}"}], "y": null}});
        let same = json!({"params": {"y": null, "x": [1, {"a": "\"}", "b": 2}]}, "workflow": "a"});
        let other = json!({"params": {"y": null, "x": [{"a": "\"}", "b": 2}, 1]}, "workflow": "a"});
        assert_eq!(canonical(&one), canonical(&same));
        assert_ne!(canonical(&one), canonical(&other));
        assert_eq!(canonical(&Value::Object(Map::new())), "{}");
    }
}
