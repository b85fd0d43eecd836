//! The rules of a schedule that reach beyond one field: proxies, the workflow's schema, and secrets.

use serde_json::{Value, json};

use crate::{
    schedules_create::{input, start},
    support::Bundle,
};

#[test]
fn residential_proxies_follow_their_rules() {
    let (_server, client) = start();
    for (given, kept) in [
        (json!({"country": "us"}), json!({"country": "US"})),
        (
            json!({"country": "De", "city": "berlin"}),
            json!({"country": "DE", "city": "berlin"}),
        ),
        (
            json!({"country": "US", "state": "CA"}),
            json!({"country": "US", "state": "CA"}),
        ),
        (
            json!({"country": "US", "state": "DC"}),
            json!({"country": "US", "state": "DC"}),
        ),
        (
            json!({"country": "US", "state": "PR"}),
            json!({"country": "US", "state": "PR"}),
        ),
        (
            json!({"country": "US", "state": "CA", "city": "san-francisco"}),
            json!({"country": "US", "state": "CA", "city": "san-francisco"}),
        ),
        (
            json!({"country": "US", "zip": "94105"}),
            json!({"country": "US", "zip": "94105"}),
        ),
        (
            json!({"country": "FR", "asn": "AS3215"}),
            json!({"country": "FR", "asn": "AS3215"}),
        ),
    ] {
        let schedule = client.schedule(input(json!({"residential_proxy": given})));
        assert_eq!(schedule["residential_proxy"], kept);
    }
    for (given, paths) in [
        (json!({}), vec!["residential_proxy.country"]),
        (json!({"country": "USA"}), vec!["residential_proxy.country"]),
        (json!({"country": "XX"}), vec!["residential_proxy.country"]),
        (json!({"country": "UK"}), vec!["residential_proxy.country"]),
        (json!({"country": 1}), vec!["residential_proxy.country"]),
        (
            json!({"country": "DE", "state": "CA"}),
            vec!["residential_proxy.state"],
        ),
        (
            json!({"country": "US", "state": "ZZ"}),
            vec!["residential_proxy.state"],
        ),
        (
            json!({"country": "US", "state": "California"}),
            vec!["residential_proxy.state"],
        ),
        (
            json!({"country": "US", "city": "san francisco"}),
            vec!["residential_proxy.city"],
        ),
        (
            json!({"country": "DE", "zip": "10115"}),
            vec!["residential_proxy.zip"],
        ),
        (
            json!({"country": "US", "zip": "9410"}),
            vec!["residential_proxy.zip"],
        ),
        (
            json!({"country": "US", "zip": "94105", "city": "oakland"}),
            vec!["residential_proxy.zip"],
        ),
        (
            json!({"country": "US", "zip": "94105", "state": "CA"}),
            vec!["residential_proxy.zip"],
        ),
        (
            json!({"country": "US", "asn": "7922"}),
            vec!["residential_proxy.asn"],
        ),
        (
            json!({"country": "US", "asn": "AS7922", "state": "CA"}),
            vec!["residential_proxy.asn"],
        ),
        (
            json!({"country": "US", "asn": "AS7922", "city": "oakland"}),
            vec!["residential_proxy.asn"],
        ),
        (
            json!({"country": "US", "region": "west"}),
            vec!["residential_proxy"],
        ),
        (json!("US"), vec!["residential_proxy"]),
        (json!([]), vec!["residential_proxy"]),
    ] {
        let more = json!({"residential_proxy": given});
        assert_eq!(client.issues("schedules/create", input(more)), paths, "{given}");
    }
    let both = json!({"residential_proxy": {"country": "US"}, "disable_default_proxy": true});
    assert_eq!(
        client.issues("schedules/create", input(both)),
        ["disable_default_proxy"]
    );
}

#[test]
fn params_are_checked_against_the_workflows_schema_with_its_defaults_relaxed() {
    let (_server, client) = start();
    // As the official client writes it: what has a default is required, and more keys are forbidden.
    let schema = json!({
        "type": "object",
        "properties": {
            "url": {"type": "string"},
            "pages": {"type": "integer", "minimum": 1, "default": 1},
            "login": {
                "type": "object",
                "properties": {"user": {"type": "string"}, "retries": {"type": "integer", "default": 3}},
                "required": ["user", "retries"], "additionalProperties": false,
            },
        },
        "required": ["url", "pages", "login"], "additionalProperties": false,
    });
    client.deploy(&Bundle::of(&format!(
        "export const c = workflow('checked', () => 1, {{ inputSchema: {schema} }});"
    )));
    let try_with = |params: Value| json!({"workflow": "checked", "cron_expr": "@daily", "params": params});
    for good in [
        json!({"url": "x", "login": {"user": "a"}}),
        json!({"url": "x", "pages": 2, "login": {"user": "a", "retries": 1}}),
        json!({"url": "x", "login": {"user": "a", "more": 1}, "extra": true}),
    ] {
        assert_eq!(client.schedule(try_with(good.clone()))["params"], good);
    }
    for (bad, paths) in [
        (json!({}), vec!["params.login", "params.url"]),
        (json!({"url": 1, "login": {"user": "a"}}), vec!["params.url"]),
        (
            json!({"url": "x", "pages": 0, "login": {}}),
            vec!["params.login.user", "params.pages"],
        ),
        (
            json!({"url": "x", "login": {"user": "a", "retries": "3"}}),
            vec!["params.login.retries"],
        ),
    ] {
        assert_eq!(
            client.issues("schedules/create", try_with(bad.clone())),
            paths,
            "{bad}"
        );
    }
    let without = json!({"workflow": "checked", "cron_expr": "@daily"});
    assert_eq!(
        client.issues("schedules/create", without),
        ["params.login", "params.url"]
    );
    // A schema that is none is passed over.
    client.deploy(&Bundle::of(
        "export const o = workflow('odd', () => 1, { inputSchema: { type: 'no such type', required: 7 } });",
    ));
    client.schedule(json!({"workflow": "odd", "cron_expr": "@daily", "params": {"a": 1}}));
}

#[test]
fn secrets_are_in_no_answer_no_log_and_no_file() {
    let (server, client) = start();
    let (callback, stored, credential) = ("cb-secret-5f1d2a", "wh-secret-77c0be", "cred-value-91ab3e");
    let more = json!({"callback_url": "https://receiver.invalid/", "callback_secret": callback});
    let created = client.call("schedules/create", &input(more.clone())).value();
    let id = created["json"]["schedule"]["id"].clone();
    client.ok("credentials/create", json!({"name": "a", "value": credential}));
    client.ok(
        "webhooks/create",
        json!({"url": "https://receiver.invalid/", "signing_secret": stored}),
    );
    let mut by_job = more;
    by_job["workflow"] = json!("w");
    let job = client.run(by_job)["job_id"].clone();
    client.ok("webhooks/deliveries", json!({"job_id": job}));
    let mut answers = vec![created];
    for (route, body) in [
        ("schedules/get", json!({"id": id})),
        ("schedules/list", json!({})),
        ("schedules/update", json!({"id": id, "timeout_seconds": 5})),
        ("schedules/history", json!({"id": id})),
        ("jobs/get", json!({"id": job})),
        ("jobs/list", json!({})),
        ("webhooks/list", json!({})),
        ("webhooks/deliveries", json!({})),
        ("credentials/list", json!({})),
        (
            "schedules/create",
            input(json!({"callback_secret": callback, "gpu": 1})),
        ),
        (
            "schedules/update",
            json!({"id": id, "callback_secret": [callback]}),
        ),
        ("credentials/create", json!({"name": "a", "value": credential})),
        ("credentials/create", json!({"name": "b", "value": [credential]})),
    ] {
        answers.push(client.call(route, &body).value());
    }
    let secrets = [callback, stored, credential, client.key()];
    for secret in secrets {
        for answer in &answers {
            assert!(!answer.to_string().contains(secret), "{answer}");
        }
        assert!(!server.log().contains(secret));
    }
    let mut places = vec![server.data_dir()];
    let mut files = 0;
    while let Some(place) = places.pop() {
        for entry in std::fs::read_dir(place).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                places.push(entry.path());
                continue;
            }
            let Ok(bytes) = std::fs::read(entry.path()) else {
                continue;
            };
            files += 1;
            for secret in secrets {
                let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
                assert!(!found, "{secret} stands in {:?}", entry.file_name());
            }
        }
    }
    assert!(files > 2, "the database was looked at");
}
