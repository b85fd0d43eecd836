//! The OpenAPI document as a judge: every exchange of every test is held against it.
//!
//! An answer must have a status that its operation names and a body that fits the schema, with no field that the
//! document does not know. And what the server takes must fit the schema of the input, so that the document is not
//! stricter than the server.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
};

use impresario_api::openapi;
use jsonschema::Validator;
use serde_json::{Value, json};

use super::{Answer, Request};

static DOCUMENT: LazyLock<Value> = LazyLock::new(openapi::document);

/// The same, where no object of an answer may have a field that is not named.
static STRICT: LazyLock<Value> = LazyLock::new(|| {
    let mut strict = DOCUMENT.clone();
    for (_, schema) in strict["components"]["schemas"].as_object_mut().unwrap() {
        if schema.get("properties").is_some() && schema.get("additionalProperties").is_none() {
            schema["additionalProperties"] = json!(false);
        }
    }
    strict
});

/// By the document's schema, as text: each is compiled once.
static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

fn validator(root: &Value, strict: bool, schema: &Value) -> Arc<Validator> {
    let name = format!("{strict} {schema}");
    let mut known = VALIDATORS.lock().unwrap();
    let validator = known.entry(name).or_insert_with(|| {
        let mut whole = schema.clone();
        whole["components"] = root["components"].clone();
        let built = jsonschema::options().should_validate_formats(true).build(&whole);
        Arc::new(built.unwrap())
    });
    validator.clone()
}

/// What is wrong with `value` by this schema of the document.
fn flaws(strict: bool, schema: &Value, value: &Value) -> Vec<String> {
    let root = if strict { &*STRICT } else { &*DOCUMENT };
    let validator = validator(root, strict, schema);
    let errors = validator.iter_errors(value);
    errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

/// Follows a reference within the document.
fn resolved(value: &Value) -> &Value {
    match value["$ref"].as_str() {
        Some(reference) => DOCUMENT.pointer(reference.trim_start_matches('#')).unwrap(),
        None => value,
    }
}

/// Holds one exchange against the document. Paths and methods that it does not have are for other tests.
#[track_caller]
pub(crate) fn assert_keeps_the_contract(request: &Request, answer: &Answer) {
    let method = request.method.to_ascii_lowercase();
    let operation = &DOCUMENT["paths"][request.path.as_str()][method.as_str()];
    if operation.is_null() {
        return;
    }
    let shown = format!("{} {}", request.method, request.path);
    let documented = operation["responses"].get(answer.status.to_string());
    let Some(response) = documented else {
        panic!("{shown}: the document has no answer {}", answer.status);
    };
    let schema = &resolved(response)["content"]["application/json"]["schema"];
    if schema.is_null() {
        return;
    }
    let value = answer.value();
    let wrong = flaws(true, schema, &value);
    assert!(wrong.is_empty(), "{shown}: {}: {value}", wrong.join("; "));

    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    let input = serde_json::from_slice::<Value>(&request.body);
    if let (200, false, Ok(input @ Value::Object(_))) = (answer.status, body.is_null(), input) {
        // `{"json": null}` is no input, as is a body without it.
        let empty = input.get("json").is_some_and(Value::is_null);
        let wrong = if empty {
            Vec::new()
        } else {
            flaws(false, body, &input)
        };
        assert!(
            wrong.is_empty(),
            "{shown}: the server took what the document refuses: {}: {input}",
            wrong.join("; ")
        );
    }
}
