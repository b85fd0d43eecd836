//! The OpenAPI 3.1 document: made of [`operations`] and the schemas of their types.

use std::collections::BTreeSet;

use schemars::{
    SchemaGenerator,
    generate::{Contract, SchemaSettings},
};
use serde_json::{Map, Value, json};

use super::{
    CallbackBody, ErrorBody, ErrorCode, Health, PingBody, ScheduleEventBody,
    routes::{Form, Operation, operations},
};

/// Every error there is.
const ERRORS: [ErrorCode; 12] = [
    ErrorCode::BadRequest,
    ErrorCode::Unauthorized,
    ErrorCode::Forbidden,
    ErrorCode::NotFound,
    ErrorCode::MethodNotSupported,
    ErrorCode::Timeout,
    ErrorCode::Conflict,
    ErrorCode::PayloadTooLarge,
    ErrorCode::UnsupportedMediaType,
    ErrorCode::TooManyRequests,
    ErrorCode::InternalServerError,
    ErrorCode::ServiceUnavailable,
];

/// What of an answer is the input of which other operation: from, where in the answer's body, to, its field.
const LINKS: &[(&str, &str, &str, &str)] = &[
    ("schedules/create", "/json/schedule/id", "schedules/get", "id"),
    ("schedules/create", "/json/schedule/id", "schedules/update", "id"),
    ("schedules/create", "/json/schedule/id", "schedules/history", "id"),
    ("schedules/create", "/json/schedule/id", "schedules/trigger", "id"),
    ("schedules/create", "/json/schedule/id", "schedules/delete", "id"),
    ("schedules/update", "/json/schedule/id", "schedules/get", "id"),
    ("schedules/update", "/json/schedule/id", "schedules/delete", "id"),
    ("schedules/delete", "/json/id", "schedules/get", "id"),
    ("schedules/trigger", "/json/job_id", "jobs/get", "id"),
    ("jobs/create", "/json/job_id", "jobs/get", "id"),
    ("jobs/create", "/json/job_id", "jobs/cancel", "id"),
    ("jobs/create", "/json/job_id", "logs/list", "jobId"),
    ("jobs/create", "/json/job_id", "webhooks/deliveries", "job_id"),
    (
        "deployments/create",
        "/json/deployment_id",
        "deployments/sync",
        "id",
    ),
    (
        "webhooks/create",
        "/json/webhook_endpoint_id",
        "webhooks/update",
        "id",
    ),
    (
        "webhooks/create",
        "/json/webhook_endpoint_id",
        "webhooks/rotate",
        "id",
    ),
    (
        "webhooks/create",
        "/json/webhook_endpoint_id",
        "webhooks/test",
        "id",
    ),
    (
        "webhooks/test",
        "/json/delivery_id",
        "webhooks/deliveries",
        "delivery_id",
    ),
    (
        "webhooks/create",
        "/json/webhook_endpoint_id",
        "webhooks/delete",
        "id",
    ),
    (
        "webhooks/create",
        "/json/webhook_endpoint_id",
        "webhooks/deliveries",
        "webhook_endpoint_id",
    ),
    (
        "credentials/create",
        "/json/credential_id",
        "credentials/update",
        "id",
    ),
    (
        "credentials/create",
        "/json/credential_id",
        "credentials/delete",
        "id",
    ),
    (
        "credentials/create",
        "/json/credential_id",
        "jobs/create",
        "credential_id",
    ),
];

/// The errors that every operation may answer with.
const COMMON: [ErrorCode; 6] = [
    ErrorCode::BadRequest,
    ErrorCode::Timeout,
    ErrorCode::PayloadTooLarge,
    ErrorCode::UnsupportedMediaType,
    ErrorCode::InternalServerError,
    ErrorCode::ServiceUnavailable,
];

/// Those that every operation with a key may answer with besides.
const KEYED: [ErrorCode; 2] = [ErrorCode::Unauthorized, ErrorCode::TooManyRequests];

const INTRODUCTION: &str = "Impresario runs deployed browser workflows on schedules, for many tenants. It speaks the HTTP API of Libretto Cloud.\n\n\
    Every operation below `/v1/` is a `POST` with the header `x-api-key`. Its input stands under `json`, and so does its answer; \
    an empty body, `{}` and `{\"json\": {}}` all mean no input. Unknown input fields are refused. Errors have one shape, with a sentence in \
    `message`; a 400 lists everything that is wrong with the input in `data.issues`, each with the path of its field. \
    Ids are UUIDs; instants are RFC 3339 in UTC with milliseconds. What belongs to another tenant answers as what does not exist: 404. \
    `x-hosted-service` says how an operation stands to the public documentation of Libretto Cloud: `documented`, `extended` (with more \
    fields, all optional), `observed` (as the official client calls it), or `own`.";

/// The document, as `/openapi.json` serves it.
#[must_use]
pub fn document() -> Value {
    let generator = |contract: Contract| -> SchemaGenerator {
        SchemaSettings::draft2020_12()
            .with(|settings| {
                settings.meta_schema = None;
                settings.definitions_path = "/components/schemas".into();
                settings.contract = contract;
            })
            .into_generator()
    };
    let (mut inputs, mut outputs) = (generator(Contract::Deserialize), generator(Contract::Serialize));
    let mut paths = Map::new();
    for operation in operations() {
        let method = match operation.form {
            Form::Enveloped | Form::Plain => "post",
            Form::Get => "get",
        };
        let described = described(operation, &mut inputs, &mut outputs);
        paths.insert(operation.path.to_owned(), json!({ method: described }));
    }
    paths.extend(unkeyed(&mut outputs));
    let webhooks = webhooks(&mut outputs);
    outputs.subschema_for::<ErrorBody>();
    let mut schemas: Map<String, Value> = outputs.take_definitions(true);
    schemas.extend(inputs.take_definitions(true));
    schemas.sort_keys();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Impresario",
            "summary": "The open, self-hosted scheduler for browser workflows",
            "description": INTRODUCTION,
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0 OR MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "tags": tags(),
        "paths": paths,
        "webhooks": webhooks,
        "components": {
            "securitySchemes": {"key": {
                "type": "apiKey", "in": "header", "name": "x-api-key",
                "description": "A tenant's key, as `impresario api-key create` prints it.",
            }},
            "headers": {"x-request-id": {
                "description": "Names the request in the server's log: the client's own, where it sent one.",
                "required": true,
                "schema": {"type": "string", "examples": ["019e2a35-1f4e-7c11-9d0a-6b1f0b7a3c58"]},
            }},
            "responses": Map::from_iter(ERRORS.map(|code| (name_of(code), failure(code)))),
            "schemas": schemas,
        },
    })
}

/// The group of an operation: what stands before the verb.
fn tag(operation: &Operation) -> &'static str {
    match operation.route() {
        Some(route) => route.split('/').next().unwrap_or(route),
        None => "api-keys",
    }
}

fn tags() -> Vec<Value> {
    let mut seen = BTreeSet::new();
    let groups = operations().map(tag).filter(|tag| seen.insert(*tag));
    groups
        .chain(["server"])
        .map(|name| json!({"name": name}))
        .collect()
}

/// An error's code as answers write it.
fn name_of(code: ErrorCode) -> String {
    json!(code).as_str().unwrap_or_default().to_owned()
}

/// Where what an operation answers leads to.
fn links(route: &str) -> Map<String, Value> {
    let from_here = LINKS.iter().filter(|(from, ..)| *from == route);
    let link = |(_, pointer, to, field): &(&str, &str, &str, &str)| {
        let to = operation_id(to);
        let input = Map::from_iter([((*field).to_owned(), json!(format!("$response.body#{pointer}")))]);
        (
            to.clone(),
            json!({"operationId": to, "requestBody": {"json": input}}),
        )
    };
    from_here.map(link).collect()
}

/// `schedules/create` is `schedules_create`.
fn operation_id(path: &str) -> String {
    let name = path.trim_start_matches("/v1/").trim_start_matches("/api/auth/");
    name.trim_start_matches('/')
        .replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

fn described(operation: &Operation, inputs: &mut SchemaGenerator, outputs: &mut SchemaGenerator) -> Value {
    let answer = (operation.output)(outputs).to_value();
    let answer = match operation.form {
        Form::Enveloped => enveloped(&answer),
        Form::Plain | Form::Get => answer,
    };
    let mut responses = Map::new();
    let mut success = response("What was asked for.", &answer, &[]);
    let links = links(operation.route().unwrap_or_default());
    if !links.is_empty() {
        success["links"] = Value::Object(links);
    }
    responses.insert("200".to_owned(), success);
    let mut errors: Vec<ErrorCode> = [&COMMON[..], operation.errors].concat();
    if operation.keyed {
        errors.extend(KEYED);
    }
    errors.sort_by_key(|code| code.status());
    for code in errors {
        let shared = format!("#/components/responses/{}", name_of(code));
        responses.insert(code.status().to_string(), json!({"$ref": shared}));
    }
    let mut described = json!({
        "operationId": operation_id(operation.path),
        "tags": [tag(operation)],
        "summary": operation.summary,
        "description": operation.description,
        "x-hosted-service": operation.standing.as_str(),
        "responses": responses,
    });
    if let Some(input) = operation.input {
        let schema = input(inputs).to_value();
        let required = needs_something(&schema, inputs);
        let body = match (operation.form, operation.keyed) {
            (Form::Enveloped, true) => wrapped(&schema, required),
            // What anybody may send is taken whatever it looks like, and thrown away.
            (Form::Enveloped, false) => {
                json!({"description": "Anything.", "examples": [{"json": {"command": "deploy"}}]})
            }
            (Form::Plain | Form::Get, _) => schema,
        };
        described["requestBody"] = json!({
            "required": required,
            "content": {"application/json": {"schema": body}},
        });
    }
    if !operation.keyed {
        described["security"] = json!([]);
    }
    described
}

/// Whether an input has a field that must be there.
fn needs_something(schema: &Value, generator: &SchemaGenerator) -> bool {
    let name = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next());
    let target = name
        .and_then(|name| generator.definitions().get(name))
        .unwrap_or(schema);
    target["required"]
        .as_array()
        .is_some_and(|required| !required.is_empty())
}

/// The body of a request whose input is `schema`. `null` is no input.
fn wrapped(schema: &Value, required: bool) -> Value {
    let input = match required {
        true => schema.clone(),
        false => json!({"anyOf": [schema, {"type": "null"}]}),
    };
    let meta = "Passed over: some clients describe types there that JSON lacks.";
    let mut body = json!({
        "type": "object",
        "properties": {"json": input, "meta": {"description": meta, "examples": [[]]}},
        "additionalProperties": false,
    });
    match required {
        true => body["required"] = json!(["json"]),
        // As is a body of `null`.
        false => body["type"] = json!(["object", "null"]),
    }
    body
}

fn enveloped(inner: &Value) -> Value {
    json!({"type": "object", "properties": {"json": inner}, "required": ["json"]})
}

fn response(description: &str, schema: &Value, more_headers: &[(&str, Value)]) -> Value {
    let mut headers = json!({"x-request-id": {"$ref": "#/components/headers/x-request-id"}});
    for (name, header) in more_headers {
        headers[*name] = header.clone();
    }
    json!({
        "description": description,
        "headers": headers,
        "content": {"application/json": {"schema": schema}},
    })
}

fn failure(code: ErrorCode) -> Value {
    let (description, example) = match code {
        ErrorCode::BadRequest => (
            "The input is not what the operation takes.",
            "cron_expr: hour \"25\" is out of range (0-23)",
        ),
        ErrorCode::Unauthorized => (
            "There is no key, or one that is malformed, unknown, expired or revoked.",
            "the API key in x-api-key is malformed, unknown, expired or revoked",
        ),
        ErrorCode::Forbidden => (
            "A quota of the tenant is used up.",
            "schedules: this tenant has 100 schedules, the most its quota allows; delete some, or ask the operator for more",
        ),
        ErrorCode::NotFound => (
            "There is no such thing for this tenant.",
            "schedule: there is no schedule 019e2a35-1f4e-7c11-9d0a-6b1f0b7a3c58",
        ),
        ErrorCode::MethodNotSupported => (
            "Another HTTP method is needed.",
            "/v1/schedules/list does not answer GET; the header Allow names what it does",
        ),
        ErrorCode::Timeout => (
            "The request's body did not arrive in time.",
            "the body did not arrive within 30 seconds",
        ),
        ErrorCode::Conflict => (
            "It is in a state that does not allow this, or a name is taken.",
            "name: another schedule is called \"morning\"; a name belongs to one schedule",
        ),
        ErrorCode::PayloadTooLarge => (
            "The request's body is too large.",
            "the body is larger than the 1 MiB this route takes",
        ),
        ErrorCode::UnsupportedMediaType => (
            "The request's body is not `application/json`.",
            "content-type must be application/json in UTF-8, got \"text/plain\"",
        ),
        ErrorCode::TooManyRequests => (
            "The key asks too often, or too many jobs of the tenant wait. `Retry-After` says when to come back.",
            "this key has asked too often; come back in 1 second",
        ),
        ErrorCode::InternalServerError => (
            "A fault of the server's own; it is in the server's log under the request id.",
            "internal error; the server's log has it under request id 019e2a35-1f4e-7c11-9d0a-6b1f0b7a3c58",
        ),
        ErrorCode::ServiceUnavailable => (
            "The server cannot serve this now. Unless the message says otherwise, nothing was changed.",
            "the store takes no writes at the moment; nothing was changed",
        ),
    };
    let wait = json!({
        "description": "In how many seconds to come back.",
        "required": code == ErrorCode::TooManyRequests,
        "schema": {"type": "integer", "minimum": 0, "examples": [1]},
    });
    let headers = match code {
        ErrorCode::TooManyRequests | ErrorCode::ServiceUnavailable => vec![("Retry-After", wait)],
        _ => Vec::new(),
    };
    let schema = enveloped(&json!({"$ref": "#/components/schemas/ErrorBody"}));
    let mut response = response(description, &schema, &headers);
    let body = ErrorBody {
        defined: false,
        code,
        status: code.status(),
        message: example.to_owned(),
        data: None,
    };
    response["content"]["application/json"]["example"] = json!({"json": body});
    response
}

/// What answers without a key and speaks of the server itself.
fn unkeyed(outputs: &mut SchemaGenerator) -> Map<String, Value> {
    let health = outputs.subschema_for::<Health>().to_value();
    let get = |path: &str, summary: &str, description: &str, responses: Value| {
        let operation = json!({
            "operationId": operation_id(path),
            "tags": ["server"],
            "summary": summary,
            "description": description,
            "x-hosted-service": "own",
            "security": [],
            "responses": responses,
        });
        (path.to_owned(), json!({"get": operation}))
    };
    let ok = |schema: &Value| response("What was asked for.", schema, &[]);
    let text = json!({
        "description": "What was asked for.",
        "headers": {"x-request-id": {"$ref": "#/components/headers/x-request-id"}},
        "content": {"text/plain": {"schema": {"type": "string"}}},
    });
    Map::from_iter([
        get(
            "/health/live",
            "Does the process answer?",
            "For supervisors.",
            json!({"200": ok(&health)}),
        ),
        get(
            "/health/ready",
            "Does it do its work?",
            "503 where the store does not read or does not take a write, or a loop is stuck.",
            json!({"200": ok(&health), "503": response("Something does not work.", &health, &[])}),
        ),
        get(
            "/metrics",
            "Figures for Prometheus",
            "In the text format of Prometheus.",
            json!({"200": text}),
        ),
        get(
            "/openapi.json",
            "This document",
            "A page to read it on is at `/docs`.",
            json!({"200": ok(&json!({"type": "object"}))}),
        ),
    ])
}

/// What is posted to receivers.
fn webhooks(outputs: &mut SchemaGenerator) -> Value {
    let job = outputs.subschema_for::<CallbackBody>().to_value();
    let schedule = outputs.subschema_for::<ScheduleEventBody>().to_value();
    let ping = outputs.subschema_for::<PingBody>().to_value();
    let header = |name: &str, description: &str, example: &str| {
        json!({
            "name": name, "in": "header", "required": true, "description": description,
            "schema": {"type": "string", "examples": [example]},
        })
    };
    let posted = |id: &str, summary: &str, schema: &Value| {
        json!({"post": {
            "operationId": id,
            "summary": summary,
            "security": [],
            "parameters": [
                header("x-event-type", "The event's name.", "job.completed"),
                header("x-webhook-signature", "The HMAC-SHA256 of the body's bytes with the secret, in lower-case hexadecimal.", "5d41402abc4b2a76…"),
                header("webhook-id", "The delivery: the same for every attempt.", "019e2a35-1f4e-7c11-9d0a-6b1f0b7a3c58"),
                header("webhook-timestamp", "When this attempt was made, in seconds since 1970.", "1779066926"),
                header("webhook-signature", "As Standard Webhooks has it: one signature for each secret that is valid, with spaces between them.", "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="),
            ],
            "requestBody": {"required": true, "content": {"application/json": {"schema": schema}}},
            "responses": {"2XX": {"description": "Received. Anything else is tried again."}},
        }})
    };
    json!({
        "job": posted("job_event", "A job has completed or failed", &job),
        "schedule": posted("schedule_event", "Something happened to a schedule beside the ends of its jobs", &schedule),
        "ping": posted("ping", "Somebody wants to see whether the endpoint works", &ping),
    })
}

#[cfg(test)]
mod tests;
