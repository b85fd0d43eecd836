//! A tenant's keys: made, exchanged, ended and taken back, on the command line and with a key.

use serde_json::{Value, json};

use crate::support::{
    Answer, Client, PATIENCE, Request, Server, Setup, assert_error, keys, wait_for, wait_until,
};

const START: &str = "2027-01-01T00:00:30Z";
const CREATE: &str = "/api/auth/api-key/create";
const LIST: &str = "/api/auth/api-key/list";
const DELETE: &str = "/api/auth/api-key/delete";
const NO_GOOD: &str = "the API key in x-api-key is malformed, unknown, expired or revoked";

fn post(client: &Client, path: &str, input: &Value) -> Answer {
    client.send(&Request::post(path, input).header("x-api-key", client.key()))
}

/// A call of a route without the envelope that must go well.
fn ok(client: &Client, path: &str, input: &Value) -> Value {
    let answer = post(client, path, input);
    assert_eq!(answer.status, 200, "{path} {input}: {answer:?}");
    answer.value()
}

fn list(client: &Client) -> Vec<Value> {
    let answer = client.send(&Request::get(LIST).header("x-api-key", client.key()));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.value().as_array().unwrap().clone()
}

/// A key that opens nothing: every way in says the same.
fn opens_nothing(client: &Client) {
    let error = client.refused("schedules/list", json!({}), 401);
    assert_eq!(error["message"], NO_GOOD);
    let answer = client.send(&Request::get(LIST).header("x-api-key", client.key()));
    assert_eq!(assert_error(&answer, 401, LIST)["message"], NO_GOOD);
}

fn opens(client: &Client) {
    client.ok("schedules/list", json!({}));
}

/// What `api-key list --json` says of acme's keys: label and state.
fn states(server: &Server) -> Vec<(String, String)> {
    let printed = server.cli(&["api-key", "list", "--tenant", "acme", "--json"]);
    let listed: Vec<Value> = serde_json::from_str(&printed).unwrap();
    let text = |key: &Value, field: &str| key[field].as_str().unwrap().to_owned();
    listed
        .iter()
        .map(|key| (text(key, "name"), text(key, "state")))
        .collect()
}

fn state(label: &str, state: &str) -> (String, String) {
    (label.to_owned(), state.to_owned())
}

#[test]
fn a_key_is_exchanged_while_the_server_runs() {
    let server = Setup::at(START).start();
    let old = server.tenant("acme");
    // Keys of the same millisecond are in no order.
    server.set_clock("2027-01-01T00:00:31Z");
    let made = server.cli(&["api-key", "create", "--tenant", "acme", "--label", "new one"]);
    let new = server.client(&made);
    opens(&old);
    opens(&new);
    assert_eq!(
        states(&server),
        [state("new one", "live"), state("test", "live")],
        "newest first"
    );

    let start = &old.key()[..12];
    server.cli(&["api-key", "revoke", "--tenant", "acme", start]);
    opens_nothing(&old);
    opens(&new);
    let table = server.cli(&["api-key", "list", "--tenant", "acme"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(
        lines[0].starts_with("START ") && lines[0].ends_with("STATE"),
        "{table}"
    );
    assert!(
        lines[1].contains("new one") && lines[1].ends_with(" live"),
        "{table}"
    );
    assert!(
        lines[2].starts_with(start) && lines[2].ends_with("revoked"),
        "{table}"
    );
    assert!(!table.contains(&old.key()[12..]) && !table.contains(&new.key()[12..]));

    let (_, said) = server.cli_fails(&["api-key", "revoke", "--tenant", "acme", start]);
    assert!(said.contains("was revoked before"), "{said}");
    server.cli(&["tenant", "create", "other"]);
    let (_, said) = server.cli_fails(&["api-key", "revoke", "--tenant", "other", &made[..12]]);
    assert!(said.contains("api-key list --tenant other"), "{said}");
    opens(&new);
    // Whoever has the whole key at hand gives that, and sees no more of it than lists show.
    let (_, said) = server.cli_fails(&["api-key", "revoke", "--tenant", "other", new.key()]);
    assert!(
        said.contains(&new.key()[..12]) && !said.contains(new.key()),
        "{said}"
    );
    server.cli(&["api-key", "revoke", "--tenant", "acme", new.key()]);
    opens_nothing(&new);
}

#[test]
fn a_key_ends_at_its_instant() {
    let server = Setup::at(START).start();
    let lasting = server.tenant("acme");
    let made = server.cli(&[
        "api-key",
        "create",
        "--tenant",
        "acme",
        "--label",
        "half a day",
        "--expires-in",
        "12h",
    ]);
    let short = server.client(&made);
    server.set_clock("2027-01-01T00:00:40Z");
    let minute = ok(&lasting, CREATE, &json!({"name": "a minute", "expiresIn": 60}));
    assert_eq!(minute["expiresAt"], "2027-01-01T00:01:40.000Z");
    let minute = server.client(minute["key"].as_str().unwrap());
    server.set_clock("2027-01-01T00:01:39.999Z");
    opens(&minute);
    server.set_clock("2027-01-01T00:01:40Z");
    opens_nothing(&minute);
    server.set_clock("2027-01-01T12:00:29.999Z");
    opens(&short);
    server.set_clock("2027-01-01T12:00:30Z");
    opens_nothing(&short);
    opens(&lasting);
    // Keys of one millisecond are in no order.
    let mut found = states(&server);
    found.sort();
    assert_eq!(
        found,
        [
            state("a minute", "expired"),
            state("half a day", "expired"),
            state("test", "live")
        ]
    );
    for wrong in ["12", "0d", "soon"] {
        let (_, said) = server.cli_fails(&[
            "api-key",
            "create",
            "--tenant",
            "acme",
            "--label",
            "x",
            "--expires-in",
            wrong,
        ]);
        assert!(said.contains("such as 90d or 12h"), "{said}");
    }
}

#[test]
fn a_key_makes_lists_and_deletes_keys_of_its_own_tenant() {
    let server = Setup::at(START).start();
    let (client, other) = (server.tenant("acme"), server.tenant("other"));
    server.set_clock("2027-01-01T00:00:31Z");
    let made = ok(&client, CREATE, &json!({"name": "  laptop "}));
    assert_eq!(keys(&made), ["expiresAt", "id", "key", "name"]);
    assert_eq!(
        (&made["name"], &made["expiresAt"]),
        (&json!("laptop"), &json!(null))
    );
    let laptop = server.client(made["key"].as_str().unwrap());
    opens(&laptop);

    let listed = list(&client);
    assert_eq!(listed.len(), 2);
    assert_eq!(
        keys(&listed[0]),
        [
            "createdAt",
            "enabled",
            "expiresAt",
            "id",
            "lastRequest",
            "name",
            "prefix",
            "start"
        ]
    );
    assert_eq!(listed[0]["id"], made["id"]);
    assert_eq!(listed[0]["start"], made["key"].as_str().unwrap()[..12]);
    assert_eq!(
        (&listed[0]["prefix"], &listed[0]["enabled"]),
        (&json!("imp_"), &json!(true))
    );
    assert!(!json!(listed).to_string().contains(&laptop.key()[12..]));
    assert_eq!(list(&other).len(), 1);

    let id = json!({"keyId": made["id"]});
    let unknown = |client: &Client, input: &Value| {
        let error = assert_error(&post(client, DELETE, input), 404, DELETE).to_string();
        error.replace(input["keyId"].as_str().unwrap(), "ID")
    };
    let nobodys = unknown(&client, &json!({"keyId": "0192f0c1-2b3c-7d4e-8f50-123456789abc"}));
    assert_eq!(unknown(&other, &id), nobodys);
    opens(&laptop);
    assert_eq!(ok(&client, DELETE, &id), json!({"success": true}));
    opens_nothing(&laptop);
    assert_eq!(unknown(&client, &id), nobodys, "it is revoked already");
    assert_eq!(list(&client)[0]["enabled"], false);

    // A key may take itself back.
    let own = list(&client)[1]["id"].clone();
    ok(&client, DELETE, &json!({"keyId": own}));
    opens_nothing(&client);
    opens(&other);
}

#[test]
fn what_is_wrong_with_a_request_for_a_key_is_said_in_the_usual_envelope() {
    let server = Setup::at(START).start();
    let client = server.tenant("acme");
    for (input, path, part) in [
        (json!({}), "name", "is required"),
        (json!({"name": " "}), "name", "can be seen"),
        (json!({"name": "a\u{1b}[2J"}), "name", "control"),
        (json!({"name": "a".repeat(101)}), "name", "100"),
        (
            json!({"name": "a", "expiresIn": 0}),
            "expiresIn",
            "1 to 315360000",
        ),
        (
            json!({"name": "a", "expiresIn": "1d"}),
            "expiresIn",
            "whole number",
        ),
        (json!({"name": "a", "expires_in": 5}), "", "expiresIn"),
    ] {
        let error = assert_error(&post(&client, CREATE, &input), 400, CREATE);
        let issue = &error["data"]["issues"][0];
        let shown = issue["path"][0].as_str().unwrap_or("");
        assert_eq!(shown, path, "{input}: {error}");
        assert!(
            issue["message"].as_str().unwrap().contains(part),
            "{input}: {error}"
        );
    }
    let enveloped = post(&client, CREATE, &json!({"json": {"name": "a"}}));
    assert_error(&enveloped, 400, "these routes have no envelope");
    for request in [
        Request::post(CREATE, &json!({"name": "a"})),
        Request::get(LIST),
        Request::post(DELETE, &json!({"keyId": "x"})),
    ] {
        let answer = request.send(client.address()).unwrap();
        assert_error(&answer, 401, &request.path);
    }
    assert_eq!(list(&client).len(), 1, "none was made");
}

#[test]
fn a_tenant_has_a_hundred_live_keys_and_no_more() {
    let server = Setup::at(START).start();
    let client = server.tenant("acme");
    for number in 1..100 {
        ok(&client, CREATE, &json!({"name": format!("key {number}")}));
    }
    let error = assert_error(&post(&client, CREATE, &json!({"name": "one more"})), 409, CREATE);
    assert!(error["message"].as_str().unwrap().contains("100 live"), "{error}");
    let (_, said) = server.cli_fails(&["api-key", "create", "--tenant", "acme", "--label", "x"]);
    assert!(said.contains("100 live keys"), "{said}");
    let listed = list(&client);
    let spare = listed.iter().find(|key| key["name"] == "key 7").unwrap();
    ok(&client, DELETE, &json!({"keyId": spare["id"]}));
    ok(&client, CREATE, &json!({"name": "one more"}));
}

#[test]
fn when_a_key_was_last_used_is_known_to_a_minute() {
    let server = Setup::at(START).start();
    let client = server.tenant("acme");
    let last = || list(&client)[0]["lastRequest"].clone();
    let reader = server.cli(&["api-key", "list", "--tenant", "acme"]);
    assert!(reader.contains("never"), "{reader}");
    let shows = |instant: &str| {
        wait_for("the use to be written down", PATIENCE, || {
            let last = last();
            if last == instant {
                Ok(())
            } else {
                Err(last.to_string())
            }
        });
    };
    shows("2027-01-01T00:00:30.000Z");
    server.set_clock("2027-01-01T00:01:29Z");
    for _ in 0..5 {
        assert_eq!(
            last(),
            "2027-01-01T00:00:30.000Z",
            "within the minute nothing is written"
        );
    }
    server.set_clock("2027-01-01T00:01:30Z");
    shows("2027-01-01T00:01:30.000Z");
}

#[test]
fn a_use_that_cannot_be_written_down_fails_no_request() {
    let server = Setup::at(START).embedded().start();
    let client = server.tenant("acme");
    server.behind_its_back(
        "CREATE TRIGGER full BEFORE UPDATE OF last_used_at ON api_keys BEGIN SELECT RAISE(FAIL, 'full'); END",
        &[],
    );
    for _ in 0..3 {
        opens(&client);
    }
    assert_eq!(list(&client)[0]["lastRequest"], json!(null));
    server.behind_its_back("DROP TRIGGER full", &[]);
    server.set_clock("2027-01-01T00:02:00Z");
    wait_until("the next minute's use", PATIENCE, || {
        list(&client)[0]["lastRequest"] == "2027-01-01T00:02:00.000Z"
    });
}

#[test]
fn what_one_node_takes_back_opens_nothing_on_another() {
    let here = Setup::at(START).shared().start();
    let mut there = here.node(Setup::at(START));
    there.start_again();
    let client = here.tenant("acme");
    let made = ok(&client, CREATE, &json!({"name": "laptop"}));
    let key = made["key"].as_str().unwrap();
    opens(&there.client(key));
    ok(&client, DELETE, &json!({"keyId": made["id"]}));
    opens_nothing(&there.client(key));
    opens(&there.client(client.key()));
}
