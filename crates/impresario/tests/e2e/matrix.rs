//! Every operation of the OpenAPI document × {own, another tenant's, missing, deleted, malformed} id or name.
//!
//! The cases are made from the document: an operation that is added to it is tried here without a line of its own, or
//! this test says what it has to be told to try it.

use std::collections::{BTreeMap, BTreeSet};

use impresario_api::openapi;
use serde_json::{Map, Value, json};

use crate::support::{Answer, Bundle, Client, Receiver, Request, Server, Setup, workflow};

/// An id of the right form that belongs to nobody.
const MISSING: &str = "0192f0c1-2b3c-7d4e-8f50-123456789abc";
const NOW: &str = "2027-01-01T00:00:30Z";

/// What an input field names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Schedule,
    Job,
    Deployment,
    Workflow,
    Webhook,
    Delivery,
    Credential,
    CredentialName,
    ApiKey,
}

/// Whose, or what has become of it.
const STATES: [&str; 4] = ["own", "another tenant's", "missing", "deleted"];

/// One operation of the document.
struct Operation {
    method: &'static str,
    path: String,
    enveloped: bool,
    input: Map<String, Value>,
    required: Vec<String>,
}

fn operations() -> Vec<Operation> {
    let document = openapi::document();
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if operation.get("security").is_some() {
                continue; // No key: nothing of a tenant's.
            }
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            let enveloped = path.starts_with("/v1/");
            let schema = if enveloped {
                &body["properties"]["json"]
            } else {
                body
            };
            // An input of which nothing is required may also be null.
            let schema = schema.get("anyOf").map_or(schema, |choices| &choices[0]);
            let schema = match schema["$ref"].as_str() {
                Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
                None => schema,
            };
            let required = schema["required"].as_array().into_iter().flatten();
            found.push(Operation {
                method: if method == "get" { "GET" } else { "POST" },
                path: path.clone(),
                enveloped,
                input: schema["properties"].as_object().cloned().unwrap_or_default(),
                required: required.map(|name| name.as_str().unwrap().to_owned()).collect(),
            });
        }
    }
    found
}

impl Operation {
    fn group(&self) -> &str {
        self.path.trim_start_matches("/v1/").split('/').next().unwrap()
    }

    /// The fields that name something of a tenant's.
    fn names(&self) -> Vec<(String, Kind)> {
        let kind = |field: &str| match (field, self.group()) {
            ("id", "schedules") | ("schedule_id", _) => Some(Kind::Schedule),
            ("id", "jobs") | ("job_id" | "jobId", _) => Some(Kind::Job),
            ("id", "deployments") => Some(Kind::Deployment),
            ("id", "webhooks") | ("webhook_endpoint_id", _) => Some(Kind::Webhook),
            ("delivery_id", _) => Some(Kind::Delivery),
            ("id", "credentials") | ("credential_id", _) => Some(Kind::Credential),
            ("keyId", _) => Some(Kind::ApiKey),
            ("workflow", _) => Some(Kind::Workflow),
            ("name", "credentials") if self.path.ends_with("/get") => Some(Kind::CredentialName),
            _ => None,
        };
        let mut found = Vec::new();
        for (field, schema) in &self.input {
            let kind = kind(field);
            assert!(
                kind.is_some() || schema["format"] != "uuid",
                "{}: what does the id {field} name? Say so in `names`",
                self.path
            );
            found.extend(kind.map(|kind| (field.clone(), kind)));
        }
        found
    }

    /// Whether it lists what fits a filter: what another tenant has then fits nothing, and is no error.
    fn lists(&self) -> bool {
        ["/list", "/deliveries"]
            .iter()
            .any(|verb| self.path.ends_with(verb))
    }

    /// An input that is taken but for the one field.
    fn input(&self, field: &str, value: &Value) -> Value {
        let more = [
            ("cron_expr", json!("@daily")),
            ("from", json!("2026-12-01T00:00:00Z")),
            ("to", json!("2026-12-02T00:00:00Z")),
            // Of a job that names a credential.
            ("workflow", json!("work")),
        ];
        let mut input = Map::new();
        input.insert(field.to_owned(), value.clone());
        for name in &self.required {
            if name == field {
                continue;
            }
            let known = more.iter().find(|(known, _)| known == name);
            let (_, value) =
                known.unwrap_or_else(|| panic!("{}: what is a good {name}? Say so in `input`", self.path));
            input.insert(name.clone(), value.clone());
        }
        Value::Object(input)
    }

    fn ask(&self, client: &Client, input: &Value) -> Answer {
        let body = if self.enveloped {
            json!({"json": input})
        } else {
            input.clone()
        };
        let request = Request {
            method: self.method,
            ..Request::post(&self.path, &body)
        };
        client.send(&request.header("x-api-key", client.key()))
    }
}

/// One tenant's things of every kind.
struct Owned(BTreeMap<Kind, Value>);

impl Owned {
    /// Things of every kind; those that can be deleted are made anew for each use.
    fn new(client: &Client, receiver: &Receiver) -> Self {
        client.deploy(&Bundle::of(&workflow("work", "return 'done';")));
        client.ok(
            "webhooks/create",
            json!({"url": receiver.url(), "signing_secret": "secret"}),
        );
        let job = client.run(json!({"workflow": "work"}));
        let delivery = crate::support::wait_for("the delivery", crate::support::PATIENCE, || {
            let listed = client.ok("webhooks/deliveries", json!({"job_id": job["job_id"]}));
            let delivery = listed["deliveries"][0].clone();
            if delivery["status"] == "delivered" {
                Ok(delivery)
            } else {
                Err(listed.to_string())
            }
        });
        Self(BTreeMap::from([
            (Kind::Job, job["job_id"].clone()),
            (Kind::Deployment, job["deployment_id"].clone()),
            (Kind::Delivery, delivery["delivery_id"].clone()),
        ]))
    }

    /// One that is there.
    fn get(&self, client: &Client, kind: Kind, serial: usize) -> Value {
        let name = format!("thing-{serial}");
        match kind {
            Kind::Schedule => {
                client.schedule(json!({"workflow": "work", "cron_expr": "@daily"}))["id"].clone()
            }
            Kind::Workflow => {
                client.deploy(&Bundle::of(&format!(
                    "{}{}",
                    workflow("work", "return 'done';"),
                    workflow(&name, "return 'done';")
                )));
                json!(name)
            }
            Kind::Webhook => {
                let created = client.ok("webhooks/create", json!({"url": "https://hooks.example.com/x"}));
                created["webhook_endpoint_id"].clone()
            }
            Kind::Credential => {
                client.ok("credentials/create", json!({"name": name, "value": "v"}))["credential_id"].clone()
            }
            Kind::CredentialName => {
                client.ok("credentials/create", json!({"name": name, "value": "v"}));
                json!(name)
            }
            Kind::ApiKey => {
                let request = Request::post("/api/auth/api-key/create", &json!({"name": name}));
                client.send(&request.header("x-api-key", client.key())).value()["id"].clone()
            }
            Kind::Job => client.create_job(json!({"workflow": "work"})),
            Kind::Deployment | Kind::Delivery => self.0[&kind].clone(),
        }
    }

    /// One that was there; `None` where nothing of the kind can be deleted.
    fn deleted(&self, client: &Client, kind: Kind, serial: usize) -> Option<Value> {
        let route = match kind {
            Kind::Schedule => "schedules/delete",
            Kind::Workflow => "workflows/delete",
            Kind::Webhook => "webhooks/delete",
            Kind::Credential => "credentials/delete",
            Kind::CredentialName => {
                let name = format!("thing-{serial}");
                let id = self.get(client, Kind::Credential, serial);
                client.ok("credentials/delete", json!({"id": id}));
                return Some(json!(name));
            }
            Kind::ApiKey => {
                let id = self.get(client, kind, serial);
                let request = Request::post("/api/auth/api-key/delete", &json!({"keyId": id}));
                client.send(&request.header("x-api-key", client.key()));
                return Some(id);
            }
            Kind::Job | Kind::Deployment | Kind::Delivery => return None,
        };
        let value = self.get(client, kind, serial);
        let field = if kind == Kind::Workflow { "workflow" } else { "id" };
        client.ok(route, json!({field: value}));
        Some(value)
    }
}

/// What is no id at all, and no name either.
fn malformed(kind: Kind) -> Vec<Value> {
    let mut bad = vec![
        json!(5),
        json!(true),
        json!([MISSING]),
        json!({"id": MISSING}),
        json!(""),
    ];
    if !matches!(kind, Kind::Workflow | Kind::CredentialName) {
        bad.extend([
            json!("not-an-id"),
            json!(MISSING.replace('-', "")),
            json!(format!("{{{MISSING}}}")),
            json!(format!("{MISSING} ")),
            json!(format!("{MISSING}' OR '1'='1")),
            json!("../../etc/passwd"),
        ]);
    }
    bad
}

/// An answer without what may differ: the id that was asked for.
fn told(answer: &Answer, value: &Value) -> String {
    let text = answer.value()["json"]["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    match value.as_str() {
        // What is near it, or deployed, is of the asking tenant's own.
        Some(id) if !id.is_empty() => text
            .replace(id, "IT")
            .split(';')
            .next()
            .unwrap_or_default()
            .to_owned(),
        _ => text,
    }
}

#[test]
fn every_operation_keeps_one_tenants_things_from_another() {
    let server: Server = Setup::at(NOW).start();
    let (ours, theirs) = (server.tenant("ours"), server.tenant("theirs"));
    let (our_ear, their_ear) = (Receiver::start(), Receiver::start());
    let owned = Owned::new(&ours, &our_ear);
    let others = Owned::new(&theirs, &their_ear);

    let (mut serial, mut cases) = (0, 0);
    let mut tried: BTreeSet<Kind> = BTreeSet::new();
    for operation in operations() {
        for (field, kind) in operation.names() {
            tried.insert(kind);
            let what = format!("{} {field}", operation.path);
            let mut strangers = BTreeSet::new();
            for state in STATES {
                serial += 1;
                let value = match state {
                    "own" => Some(owned.get(&ours, kind, serial)),
                    "another tenant's" => Some(others.get(&theirs, kind, serial)),
                    "missing" if matches!(kind, Kind::Workflow | Kind::CredentialName) => {
                        Some(json!("nobodys-own-thing"))
                    }
                    "missing" => Some(json!(MISSING)),
                    _ => owned.deleted(&ours, kind, serial),
                };
                let Some(value) = value else { continue };
                cases += 1;
                let answer = operation.ask(&ours, &operation.input(&field, &value));
                match (state, operation.lists()) {
                    ("own", _) => assert_eq!(answer.status, 200, "{what}: {state}: {}", answer.value()),
                    (_, true) => {
                        assert_eq!(answer.status, 200, "{what}: {state}: {}", answer.value());
                        let list = answer.value()["json"]
                            .as_object()
                            .unwrap()
                            .values()
                            .next()
                            .unwrap()
                            .clone();
                        // Of what was deleted, its owner may still read.
                        assert!(state == "deleted" || list == json!([]), "{what}: {state}: {list}");
                    }
                    (_, false) => {
                        assert_eq!(answer.status, 404, "{what}: {state}: {}", answer.value());
                        strangers.insert(told(&answer, &value));
                    }
                }
            }
            assert!(
                strangers.len() <= 1,
                "{what}: one answer to all that is not there: {strangers:?}"
            );
            for value in malformed(kind) {
                cases += 1;
                let answer = operation.ask(&ours, &operation.input(&field, &value));
                assert_eq!(answer.status, 400, "{what}: {value}: {}", answer.value());
                let issues = answer.value()["json"]["data"]["issues"].to_string();
                assert!(
                    issues.contains(&format!("[\"{field}\"]")),
                    "{what}: {value}: {issues}"
                );
            }
        }
    }
    assert_eq!(tried.len(), 9, "every kind of thing was asked for: {tried:?}");
    assert!(cases > 350, "{cases}");
}

#[test]
fn every_operation_asks_for_a_key_but_those_that_say_so() {
    let server = Setup::at(NOW).start();
    let client = server.tenant("acme");
    for operation in operations() {
        let request = Request {
            method: operation.method,
            ..Request::post(&operation.path, &json!({}))
        };
        for request in [
            request.clone(),
            request.clone().header("x-api-key", ""),
            request
                .clone()
                .header("x-api-key", &client.key().replace("imp_", "imp-")),
            request.header("authorization", &format!("Bearer {}", client.key())),
        ] {
            let answer = client.send(&request);
            assert_eq!(answer.status, 401, "{}: {}", operation.path, answer.value());
        }
    }
}
