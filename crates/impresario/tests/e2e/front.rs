//! What holds for every route: keys, methods, content types, envelopes, request ids, and health.

use impresario_api::routes::{Operation, operations};
use serde_json::json;

use crate::support::{Bundle, Client, Request, Server, Setup, assert_error, keys};

fn start() -> (Server, Client) {
    let server = Setup::at("2027-01-01T00:00:30Z").start();
    let client = server.tenant("acme");
    (server, client)
}

fn list() -> Request {
    Request::post("/v1/schedules/list", &json!({"json": {}}))
}

#[test]
fn no_route_answers_without_a_good_key() {
    let (server, client) = start();
    let key = client.key();
    let last = if key.ends_with('A') { "B" } else { "A" };
    // Of the right form and checksum, but of another server.
    let stranger = Setup::at("2027-01-01T00:00:30Z")
        .start()
        .tenant("else")
        .key()
        .to_owned();
    for route in operations()
        .filter(|operation| operation.keyed)
        .filter_map(Operation::route)
    {
        let request = Request::post(&format!("/v1/{route}"), &json!({"json": {"not": "looked at"}}));
        assert_error(&client.send(&request), 401, route);
        assert_error(&client.send(&request.header("x-api-key", &stranger)), 401, route);
    }
    for bad in [
        String::new(),
        "imp_".to_owned(),
        format!("{}{last}", &key[..key.len() - 1]),
        format!("{key}0"),
        key.to_lowercase(),
        key[4..].to_owned(),
        format!("Bearer {key}"),
        "é".to_owned(),
    ] {
        let answer = client.send(&list().header("x-api-key", &bad));
        let error = assert_error(&answer, 401, &bad);
        assert!(
            bad.is_empty() || !error.to_string().contains(&bad),
            "the key is not repeated: {error}"
        );
    }
    assert_error(
        &client.send(&list().header("authorization", &format!("Bearer {key}"))),
        401,
        "authorization",
    );
    assert_eq!(client.send(&list().header("x-api-key", key)).status, 200);
    // A second key of the tenant sees the same; a name and an id both find the tenant.
    let second = server.client(&server.cli(&["api-key", "create", "--tenant", "acme", "--label", "second"]));
    client.deploy(&Bundle::with("w", ""));
    let made = client.schedule(json!({"workflow": "w", "cron_expr": "@daily"}));
    assert_eq!(second.get_schedule(&made["id"]), made);
}

#[test]
fn wrong_methods_and_unknown_routes_have_the_envelope_too() {
    let (_server, client) = start();
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let request = Request {
            method,
            ..list().header("x-api-key", client.key())
        };
        assert_error(&client.send(&request), 405, method);
    }
    let post = Request {
        method: "POST",
        ..Request::get("/health/live")
    };
    assert_error(&client.send(&post), 405, "POST /health/live");
    for path in [
        "/",
        "/v1",
        "/v1/schedules",
        "/v1/schedules/lists",
        "/v1/schedules/list/",
        "/v2/schedules/list",
    ] {
        let request = Request {
            path: path.to_owned(),
            ..list().header("x-api-key", client.key())
        };
        assert_error(&client.send(&request), 404, path);
    }
}

#[test]
fn bodies_are_json_in_their_envelope() {
    let (_server, client) = start();
    let with = |body: &str| Request {
        body: body.as_bytes().to_vec(),
        ..list().header("x-api-key", client.key())
    };
    for nothing in ["", "{}", r#"{"json":{}}"#, r#"{"json":null}"#] {
        assert_eq!(client.send(&with(nothing)).status, 200, "{nothing}");
    }
    assert_eq!(
        client.send(&with("").without("content-type")).status,
        200,
        "no body needs no type"
    );
    for bad in [
        "{",
        "[]",
        "7",
        "\"x\"",
        r#"{"json":[]}"#,
        r#"{"limit":1}"#,
        "{\"json\":{}} x",
        "{\"json\":{\"a\":\"\u{0}\"}}",
    ] {
        assert_error(&client.send(&with(bad)), 400, bad);
    }
    let invalid = Request {
        body: vec![b'{', b'"', 0xff, b'"', b'}'],
        ..with("")
    };
    assert_error(&client.send(&invalid), 400, "not UTF-8");
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/json",
    ] {
        assert_error(&client.send(&with("{}").header("content-type", kind)), 415, kind);
    }
    assert_error(&client.send(&with("{}").without("content-type")), 415, "no type");
    assert_eq!(
        client
            .send(&with("{}").header("content-type", "Application/JSON; charset=UTF-8"))
            .status,
        200
    );
    let large = format!(r#"{{"json":{{"workflow":"{}"}}}}"#, "x".repeat(1 << 20));
    assert_error(&client.send(&with(&large)), 413, "more than 1 MiB");
}

#[test]
fn request_ids_are_given_or_taken_over() {
    let (_server, client) = start();
    let id = |request: &Request| client.send(request).header("x-request-id").unwrap().to_owned();
    let (first, second) = (id(&list()), id(&list()));
    assert_ne!(first, second);
    assert!(first.parse::<uuid::Uuid>().is_ok(), "{first}");
    assert_eq!(id(&list().header("x-request-id", "of-mine_1")), "of-mine_1");
    let bad = "x".repeat(5000);
    assert_ne!(id(&list().header("x-request-id", &bad)), bad);
}

#[test]
fn health_and_telemetry_need_no_key() {
    let (_server, client) = start();
    for path in ["/health/live", "/health/ready"] {
        let answer = client.send(&Request::get(path));
        assert_eq!(
            (answer.status, &answer.value()["status"]),
            (200, &json!("ok")),
            "{path}"
        );
    }
    let document = client.send(&Request::get("/openapi.json"));
    assert_eq!(
        (document.status, &document.value()["openapi"]),
        (200, &json!("3.1.0"))
    );
    let ready = client.send(&Request::get("/health/ready")).value();
    let names: Vec<&str> = ready["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    for name in ["store", "scheduler", "worker", "outbox", "node", "chromium"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    let event = Request::post(
        "/v1/telemetry/recordCliEvent",
        &json!({"json": {"command": "deploy"}}),
    );
    let answer = client.send(&event);
    assert_eq!(answer.status, 200);
    assert_eq!(keys(&answer.value()), ["json"]);
    assert!(answer.value()["json"].is_object(), "null would crash the client");
}

#[test]
fn the_command_line_makes_and_lists_tenants_and_says_what_is_wrong() {
    let server = Setup::at("2027-01-01T00:00:30Z").embedded().start();
    server.tenant("acme");
    let id = server.cli(&["tenant", "create", "second"]);
    assert!(id.parse::<uuid::Uuid>().is_ok(), "the id alone: {id}");
    let listed = server.cli(&["tenant", "list"]);
    assert!(
        listed.contains("acme") && listed.contains("second") && listed.contains(&id),
        "{listed}"
    );
    let by_id = server.cli(&["api-key", "create", "--tenant", &id, "--label", "by id"]);
    assert_eq!(
        server.client(&by_id).ok("schedules/list", json!({}))["schedules"],
        json!([])
    );
    let other = tempfile::tempdir().unwrap();
    let other = other.path().to_str().unwrap();
    let elsewhere = |flag| {
        vec![
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            other,
            flag,
            "/nonexistent",
        ]
    };
    for (args, part) in [
        (vec!["tenant", "create", "second"], "second"),
        (vec!["tenant", "create", " "], "characters"),
        (
            vec!["api-key", "create", "--tenant", "nobody", "--label", "x"],
            "nobody",
        ),
        (vec!["serve", "--job-slots", "0"], "0"),
        (vec!["serve", "--listen", "127.0.0.1:0"], "another server"),
        (elsewhere("--chromium"), "IMPRESARIO_CHROMIUM"),
        (elsewhere("--node"), "IMPRESARIO_NODE"),
        (elsewhere("--config"), "/nonexistent"),
        (elsewhere("--runner-dirr"), "--runner-dir"),
    ] {
        let (code, stderr) = server.cli_fails(&args);
        assert!(code != 0 && stderr.contains(part), "{args:?}: {code} {stderr}");
    }
}
