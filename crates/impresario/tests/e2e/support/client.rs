//! A tenant's client of the API. Whatever it asks, it also checks what every answer owes.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use super::{Answer, Bundle, PATIENCE, Request, contract::assert_keeps_the_contract, wait_for};

/// The statuses a job never leaves.
const FINAL: [&str; 3] = ["completed", "failed", "cancelled"];

#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// The server may come back on another port.
    address: Arc<Mutex<SocketAddr>>,
    key: String,
}

impl Client {
    pub(crate) fn new(address: Arc<Mutex<SocketAddr>>, key: String) -> Self {
        Self { address, key }
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn address(&self) -> SocketAddr {
        *self.address.lock().unwrap()
    }

    /// Sends any request, with the headers it has and no more.
    #[track_caller]
    pub(crate) fn send(&self, request: &Request) -> Answer {
        let answer = request
            .send(self.address())
            .unwrap_or_else(|error| panic!("{} {}: {error}", request.method, request.path));
        assert_every_answers_headers(&answer);
        assert_keeps_the_contract(request, &answer);
        answer
    }

    /// A POST to `/v1/<route>` with this input.
    #[track_caller]
    pub(crate) fn call(&self, route: &str, input: &Value) -> Answer {
        self.send(
            &Request::post(&format!("/v1/{route}"), &json!({"json": input})).header("x-api-key", &self.key),
        )
    }

    /// A call that must go well: the output.
    #[track_caller]
    pub(crate) fn ok(&self, route: &str, input: Value) -> Value {
        let answer = self.call(route, &input);
        let value = answer.value();
        assert_eq!(answer.status, 200, "{route} {input}: {value}");
        assert_eq!(
            keys(&value),
            ["json"],
            "{route}: the envelope and nothing beside it"
        );
        value["json"].clone()
    }

    /// A call that must be refused: the error under `json`.
    #[track_caller]
    pub(crate) fn refused(&self, route: &str, input: Value, status: u16) -> Value {
        let answer = self.call(route, &input);
        assert_error(&answer, status, &format!("{route} {input}"))
    }

    /// The paths of the issues of a 400, dotted and sorted, e.g. `["timezone", "viewport.width"]`; the root is "".
    #[track_caller]
    pub(crate) fn issues(&self, route: &str, input: Value) -> Vec<String> {
        let error = self.refused(route, input.clone(), 400);
        let issues = error["data"]["issues"]
            .as_array()
            .unwrap_or_else(|| panic!("{route} {input}: no issues in {error}"));
        let mut paths: Vec<String> = issues.iter().map(dotted_path).collect();
        paths.sort();
        paths
    }

    /// Deploys a bundle and waits until it is ready: the deployment's id.
    #[track_caller]
    pub(crate) fn deploy(&self, bundle: &Bundle) -> String {
        let deployment = self.build(bundle);
        assert_eq!(deployment["status"], "ready", "{deployment}");
        deployment["id"].as_str().unwrap().to_owned()
    }

    /// Deploys a bundle and waits until it is ready or failed: the deployment as it then stands.
    #[track_caller]
    pub(crate) fn build(&self, bundle: &Bundle) -> Value {
        let input = json!({"source": bundle.packed(), "entry_point": bundle.entry_point()});
        let created = self.ok("deployments/create", input);
        assert_eq!(created["status"], "building", "{created}");
        let id = created["deployment_id"].clone();
        wait_for("the build's end", PATIENCE, || {
            let deployment = self.ok("deployments/sync", json!({"id": id}));
            match deployment["status"].as_str() {
                Some("building") => Err(deployment.to_string()),
                _ => Ok(deployment),
            }
        })
    }

    /// Makes a schedule.
    #[track_caller]
    pub(crate) fn schedule(&self, input: Value) -> Value {
        let created = self.ok("schedules/create", input);
        assert_eq!(created["success"], true);
        created["schedule"].clone()
    }

    #[track_caller]
    pub(crate) fn get_schedule(&self, id: &Value) -> Value {
        self.ok("schedules/get", json!({"id": id}))["schedule"].clone()
    }

    /// The ledger of a schedule, newest first.
    #[track_caller]
    pub(crate) fn history(&self, id: &Value) -> Vec<Value> {
        let answer = self.ok("schedules/history", json!({"id": id, "limit": 200}));
        answer["fires"].as_array().unwrap().clone()
    }

    /// Waits for the fire of `instant` (as the API writes it): its ledger row.
    #[track_caller]
    pub(crate) fn fired(&self, id: &Value, instant: &str) -> Value {
        wait_for(&format!("the fire of {instant}"), PATIENCE, || {
            let history = self.history(id);
            let row = history.iter().find(|row| row["fire_at"] == instant);
            row.cloned().ok_or_else(|| json!(history).to_string())
        })
    }

    /// Puts a job into the queue: its id.
    #[track_caller]
    pub(crate) fn create_job(&self, input: Value) -> Value {
        let created = self.ok("jobs/create", input);
        assert_eq!(created["success"], true);
        created["job_id"].clone()
    }

    #[track_caller]
    pub(crate) fn job(&self, id: &Value) -> Value {
        self.ok("jobs/get", json!({"id": id}))
    }

    /// Waits until a job stands somewhere; fails at once when it can never get there.
    #[track_caller]
    pub(crate) fn job_is(&self, id: &Value, status: &str) -> Value {
        wait_for(&format!("job {id} to be {status}"), PATIENCE, || {
            let job = self.job(id);
            let now = job["status"].as_str().unwrap();
            assert!(
                now == status || !FINAL.contains(&now),
                "the job is not {status}: {job}"
            );
            if now == status {
                Ok(job)
            } else {
                Err(job.to_string())
            }
        })
    }

    /// Waits for the end of a job, whichever it is.
    #[track_caller]
    pub(crate) fn job_ended(&self, id: &Value) -> Value {
        wait_for(&format!("the end of job {id}"), PATIENCE, || {
            let job = self.job(id);
            let ended = job["status"]
                .as_str()
                .is_some_and(|status| FINAL.contains(&status));
            if ended { Ok(job) } else { Err(job.to_string()) }
        })
    }

    /// Runs a workflow to its end: the job.
    #[track_caller]
    pub(crate) fn run(&self, input: Value) -> Value {
        let id = self.create_job(input);
        self.job_ended(&id)
    }

    /// The log of a job: level and message of each line.
    #[track_caller]
    pub(crate) fn logs(&self, job: &Value) -> Vec<(String, String)> {
        let answer = self.ok("logs/list", json!({"jobId": job, "limit": 1000}));
        let text = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
        let lines = answer["logs"].as_array().unwrap().iter();
        lines
            .map(|line| (text(line, "level"), text(line, "message")))
            .collect()
    }
}

/// The keys of an object, sorted.
#[track_caller]
pub(crate) fn keys(value: &Value) -> Vec<&str> {
    let object = value
        .as_object()
        .unwrap_or_else(|| panic!("not an object: {value}"));
    let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn dotted_path(issue: &Value) -> String {
    assert!(
        issue["code"].is_string() && issue["message"].is_string(),
        "{issue}"
    );
    let path = issue["path"].as_array().unwrap().iter();
    let parts: Vec<String> = path
        .map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned))
        .collect();
    parts.join(".")
}

#[track_caller]
fn assert_every_answers_headers(answer: &Answer) {
    assert_eq!(
        answer.header("content-type"),
        Some("application/json"),
        "{answer:?}"
    );
    assert!(
        answer.header("x-request-id").is_some_and(|id| !id.is_empty()),
        "{answer:?}"
    );
}

/// Checks the envelope of an error: the object under `json`.
#[track_caller]
pub(crate) fn assert_error(answer: &Answer, status: u16, context: &str) -> Value {
    let value = answer.value();
    assert_eq!(answer.status, status, "{context}: {value}");
    assert_eq!(keys(&value), ["json"], "{context}");
    let error = value["json"].clone();
    let code = match status {
        400 => "BAD_REQUEST",
        401 => "UNAUTHORIZED",
        403 => "FORBIDDEN",
        404 => "NOT_FOUND",
        405 => "METHOD_NOT_SUPPORTED",
        409 => "CONFLICT",
        413 => "PAYLOAD_TOO_LARGE",
        415 => "UNSUPPORTED_MEDIA_TYPE",
        429 => "TOO_MANY_REQUESTS",
        other => panic!("{context}: no code for {other}"),
    };
    assert_eq!(error["code"], code, "{context}: {error}");
    assert_eq!(error["status"], status, "{context}: {error}");
    assert_eq!(error["defined"], false, "{context}: {error}");
    assert!(
        error["message"].as_str().is_some_and(|text| !text.is_empty()),
        "{context}: {error}"
    );
    for key in keys(&error) {
        assert!(
            ["code", "data", "defined", "message", "status"].contains(&key),
            "{context}: {error}"
        );
    }
    error
}
