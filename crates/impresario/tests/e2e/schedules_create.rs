//! `schedules/create`: the rules of every field, and what is answered.

use serde_json::{Value, json};

use crate::support::{Bundle, Client, Server, Setup, keys, workflow};

/// What every answer shows of a schedule.
pub(crate) const KEYS: [&str; 36] = [
    "callback_url",
    "catching_up",
    "catchup_window_seconds",
    "consecutive_failures",
    "created_at",
    "cron_expr",
    "description",
    "disable_default_proxy",
    "disabled_reason",
    "enabled",
    "end_at",
    "gpu",
    "id",
    "jitter_seconds",
    "last_error",
    "last_fire_at",
    "last_job_id",
    "max_consecutive_failures",
    "misfire_policy",
    "name",
    "next_due_at",
    "next_fire_at",
    "overlap_policy",
    "params",
    "params_error",
    "residential_proxy",
    "skip_callbacks",
    "start_at",
    "start_url",
    "state",
    "tags",
    "timeout_seconds",
    "timezone",
    "updated_at",
    "viewport",
    "workflow",
];

pub(crate) fn start() -> (Server, Client) {
    let server = Setup::at("2027-01-01T00:00:30Z").start();
    let client = server.tenant("acme");
    client.deploy(&Bundle::with("w", "return 1;"));
    (server, client)
}

/// The smallest input, with this on top.
pub(crate) fn input(more: Value) -> Value {
    let mut input = json!({"workflow": "w", "cron_expr": "0 9 * * *"});
    for (key, value) in more.as_object().unwrap() {
        input[key] = value.clone();
    }
    input
}

#[test]
fn a_schedule_has_exactly_the_documented_keys_and_defaults() {
    let (_server, client) = start();
    let created = client.ok("schedules/create", input(json!({})));
    assert_eq!(keys(&created), ["schedule", "success"]);
    let schedule = &created["schedule"];
    assert_eq!(keys(schedule), KEYS);
    assert!(schedule["id"].as_str().unwrap().parse::<uuid::Uuid>().is_ok());
    let mut expected = json!({
        "workflow": "w", "params": {}, "cron_expr": "0 9 * * *", "timezone": "UTC", "timeout_seconds": 900,
        "start_url": null, "gpu": null, "viewport": null, "residential_proxy": null,
        "disable_default_proxy": null, "callback_url": null, "skip_callbacks": false, "enabled": true,
        "next_fire_at": "2027-01-01T09:00:00.000Z", "last_fire_at": null, "last_job_id": null,
        "last_error": null, "consecutive_failures": 0,
        "name": null, "description": null, "tags": [], "start_at": null, "end_at": null, "jitter_seconds": 0,
        "misfire_policy": "fire_once", "catchup_window_seconds": 86400, "overlap_policy": "allow",
        "max_consecutive_failures": null, "state": "active", "disabled_reason": null,
        "next_due_at": "2027-01-01T09:00:00.000Z", "catching_up": 0, "params_error": null,
        "created_at": "2027-01-01T00:00:30.000Z", "updated_at": "2027-01-01T00:00:30.000Z",
    });
    expected["id"] = schedule["id"].clone();
    assert_eq!(*schedule, expected);
    assert_eq!(client.get_schedule(&schedule["id"]), expected);
    assert_eq!(
        client.ok("schedules/list", json!({}))["schedules"],
        json!([expected])
    );
}

#[test]
fn valid_values_are_kept_as_they_are_written() {
    let (_server, client) = start();
    for more in [
        json!({"params": {"deep": {"list": [1, 2.5, "x", null, true, {"é": []}]}}}),
        json!({"timeout_seconds": 1}),
        json!({"timeout_seconds": 3600}),
        json!({"start_url": "https://user:pw@example.com/a?b#c"}),
        json!({"start_url": "data:text/html,<p>x"}),
        json!({"start_url": "about:blank"}),
        json!({"gpu": true}),
        json!({"gpu": false}),
        json!({"viewport": {"width": 1, "height": 1}}),
        json!({"viewport": {"width": 7680, "height": 4320}}),
        json!({"skip_callbacks": true}),
        json!({"enabled": true}),
        json!({"disable_default_proxy": true}),
        json!({"disable_default_proxy": true, "residential_proxy": null}),
        json!({"disable_default_proxy": false, "residential_proxy": {"country": "FR"}}),
        json!({"callback_url": "https://example.com/hook?token=1", "callback_secret": "s"}),
        json!({"callback_url": "http://example.com/", "callback_secret": "x".repeat(1024)}),
        json!({"timezone": "America/Argentina/Buenos_Aires"}),
        json!({"cron_expr": "*/15 9-17 * * mon-fri"}),
        json!({"cron_expr": "@hourly"}),
        json!({"cron_expr": "0 0 L * ?"}),
        json!({"cron_expr": "0 0 29 2 *"}),
        json!({"cron_expr": "0 12 15W * *"}),
        json!({"cron_expr": "0 12 * * FRI#2"}),
    ] {
        let schedule = client.schedule(input(more.clone()));
        for (key, value) in more.as_object().unwrap() {
            if key != "callback_secret" {
                assert_eq!(schedule[key], *value, "{more}");
            }
        }
        assert_eq!(client.get_schedule(&schedule["id"]), schedule);
    }
}

#[test]
fn an_invalid_value_of_any_field_is_refused_with_its_path() {
    let (_server, client) = start();
    let long_expression = format!("0 {} * * *", "1,".repeat(150) + "1");
    for (path, field, values) in [
        (
            "workflow",
            "workflow",
            vec![json!(null), json!(""), json!(7), json!(["w"])],
        ),
        (
            "params",
            "params",
            vec![json!(null), json!([]), json!("x"), json!(1)],
        ),
        (
            "cron_expr",
            "cron_expr",
            vec![
                json!(null),
                json!(5),
                json!(""),
                json!("* * * *"),
                json!("* * * * * *"),
                json!("60 * * * *"),
                json!("* 24 * * *"),
                json!("0 0 30 2 *"),
                json!("0 0 31 4,6,9,11 *"),
                json!("*/0 * * * *"),
                json!("5-1 * * * *"),
                json!("@reboot"),
                json!("every day"),
                json!("TZ=UTC 0 9 * * *"),
                json!(long_expression),
            ],
        ),
        (
            "timezone",
            "timezone",
            vec![
                json!(null),
                json!(""),
                json!("Mars/Olympus"),
                json!("+01:00"),
                json!(1),
                json!("America/NewYork"),
            ],
        ),
        (
            "timeout_seconds",
            "timeout_seconds",
            vec![
                json!(null),
                json!(0),
                json!(-1),
                json!(3601),
                json!(1.5),
                json!("900"),
                json!(1e300),
            ],
        ),
        (
            "start_url",
            "start_url",
            vec![
                json!(""),
                json!("example.com"),
                json!("file:///etc/passwd"),
                json!("javascript:alert(1)"),
                json!("chrome://settings"),
                json!("ftp://example.com/"),
                json!(1),
            ],
        ),
        ("gpu", "gpu", vec![json!("yes"), json!(1)]),
        (
            "skip_callbacks",
            "skip_callbacks",
            vec![json!(null), json!("no"), json!(0)],
        ),
        ("enabled", "enabled", vec![json!(null), json!("true"), json!(1)]),
        (
            "disable_default_proxy",
            "disable_default_proxy",
            vec![json!("true"), json!(1)],
        ),
        (
            "viewport",
            "viewport",
            vec![json!([1, 2]), json!("800x600"), json!(7)],
        ),
        (
            "viewport.width",
            "viewport",
            vec![
                json!({"height": 1}),
                json!({"width": 0, "height": 1}),
                json!({"width": 7681, "height": 1}),
                json!({"width": 1.5, "height": 1}),
                json!({"width": "1", "height": 1}),
            ],
        ),
        (
            "viewport.height",
            "viewport",
            vec![json!({"width": 1}), json!({"width": 1, "height": 4321})],
        ),
        (
            "viewport",
            "viewport",
            vec![json!({"width": 1, "height": 1, "depth": 1})],
        ),
        (
            "callback_secret",
            "callback_url",
            vec![json!("https://example.com/")],
        ),
        ("callback_url", "callback_secret", vec![json!("s")]),
        ("", "timezoen", vec![json!("UTC")]),
        ("", "id", vec![json!("0192f0c1-2b3c-7d4e-8f50-123456789abc")]),
    ] {
        for value in values {
            assert_eq!(
                client.issues("schedules/create", input(json!({field: value}))),
                [path],
                "{field}: {value}"
            );
        }
    }
    assert_eq!(
        client.issues("schedules/create", json!({"workflow": "w"})),
        ["cron_expr"]
    );
    assert_eq!(
        client.issues("schedules/create", json!({"cron_expr": "@daily"})),
        ["workflow"]
    );
    assert_eq!(
        client.ok("schedules/list", json!({}))["schedules"],
        json!([]),
        "none of these was made"
    );
}

#[test]
fn a_callback_url_that_is_refused_is_not_also_called_missing() {
    let (_server, client) = start();
    for url in [
        "ftp://example.com/",
        "example.com",
        "http://u:p@example.com/",
        "http://192.168.0.1/",
        "",
    ] {
        let more = json!({"callback_url": url, "callback_secret": "s"});
        assert_eq!(
            client.issues("schedules/create", input(more)),
            ["callback_url"],
            "{url}"
        );
    }
    let url = "https://example.com/";
    for secret in [json!(""), json!("x".repeat(1025)), json!(7)] {
        let more = json!({"callback_url": url, "callback_secret": secret});
        assert_eq!(
            client.issues("schedules/create", input(more)),
            ["callback_secret"],
            "{secret}"
        );
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let (_server, client) = start();
    let bad = json!({
        "workflow": "w", "cron_expr": "61 * * * *", "timezone": "Europe/Pari", "timeout_seconds": 0,
        "start_url": "file:///x", "gpu": "x", "viewport": {"width": 0, "height": 9999}, "params": 1,
        "callback_secret": "s", "skip_callbacks": 1, "enabled": 1, "nmae": "x",
        "residential_proxy": {"country": "XX", "planet": "earth"},
    });
    let expected = [
        "",
        "callback_url",
        "cron_expr",
        "enabled",
        "gpu",
        "params",
        "residential_proxy",
        "residential_proxy.country",
        "skip_callbacks",
        "start_url",
        "timeout_seconds",
        "timezone",
        "viewport.height",
        "viewport.width",
    ];
    let error = client.refused("schedules/create", bad.clone(), 400);
    assert_eq!(client.issues("schedules/create", bad), expected, "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("more"),
        "the message says that there is more: {message}"
    );
}

#[test]
fn the_rules_of_the_result_hold_whatever_else_is_missing() {
    let (_server, client) = start();
    let broken = json!({
        "callback_url": "https://example.com/", "disable_default_proxy": true,
        "residential_proxy": {"country": "US"},
    });
    for (more, first) in [
        (json!({}), vec!["cron_expr", "workflow"]),
        (
            json!({"workflow": "w", "cron_expr": "61 * * * *"}),
            vec!["cron_expr"],
        ),
        (
            json!({"workflow": "w", "cron_expr": "0 0 30 2 *"}),
            vec!["cron_expr"],
        ),
        (json!({"cron_expr": "@daily"}), vec!["workflow"]),
        (json!({"workflow": "w", "cron_expr": "@daily"}), vec![]),
    ] {
        let mut input = broken.clone();
        for (key, value) in more.as_object().unwrap() {
            input[key] = value.clone();
        }
        let mut expected = vec!["callback_secret", "disable_default_proxy"];
        expected.extend(first);
        expected.sort_unstable();
        assert_eq!(client.issues("schedules/create", input), expected, "{more}");
    }
}

#[test]
fn an_expression_that_is_null_is_missing() {
    let (_server, client) = start();
    let error = client.refused(
        "schedules/create",
        json!({"workflow": "w", "cron_expr": null}),
        400,
    );
    assert_eq!(error["message"], "cron_expr: is required");
}

#[test]
fn the_longest_name_that_can_be_deployed_can_be_scheduled() {
    let server = Setup::at("2027-01-01T00:00:30Z").start();
    let client = server.tenant("acme");
    let name = "w".repeat(256);
    client.deploy(&Bundle::of(&workflow(&name, "return 1;")));
    let schedule = client.schedule(json!({"workflow": name, "cron_expr": "@daily"}));
    let listed = client.ok("schedules/list", json!({"workflow": name}));
    assert_eq!(listed["schedules"][0]["id"], schedule["id"]);
    client.ok("workflows/delete", json!({"workflow": name}));
}

#[test]
fn messages_help_on() {
    let (_server, client) = start();
    for (more, parts) in [
        (
            json!({"timezone": "America/NewYork"}),
            vec!["America/NewYork", "America/New_York"],
        ),
        (json!({"timezone": "Berlin"}), vec!["Europe/Berlin"]),
        (json!({"cron_expr": "60 * * * *"}), vec!["minute", "60", "59"]),
        (json!({"cron_expr": "0 0 9 * * *"}), vec!["6"]),
        (json!({"cron_expr": "0 0 30 2 *"}), vec!["never"]),
        (
            json!({"timeout_secs": 5}),
            vec!["timeout_secs", "timeout_seconds"],
        ),
        (json!({"start_url": "file:///etc/passwd"}), vec!["file", "https"]),
        (json!({"timeout_seconds": 4000}), vec!["4000", "3600"]),
    ] {
        let error = client.refused("schedules/create", input(more.clone()), 400);
        let message = error["message"].as_str().unwrap();
        for part in parts {
            assert!(message.contains(part), "{more}: no {part:?} in {message:?}");
        }
    }
    let error = client.refused(
        "schedules/create",
        json!({"workflow": "missing-one", "cron_expr": "@daily"}),
        404,
    );
    assert!(
        error["message"].as_str().unwrap().contains("\"missing-one\""),
        "{error}"
    );
}

#[test]
fn zones_are_found_in_any_case_and_kept_canonical() {
    let (_server, client) = start();
    for (given, kept, next) in [
        ("america/new_york", "America/New_York", "2027-01-01T14:00:00.000Z"),
        ("ASIA/TOKYO", "Asia/Tokyo", "2027-01-02T00:00:00.000Z"),
        ("utc", "UTC", "2027-01-01T09:00:00.000Z"),
        ("Asia/Kolkata", "Asia/Kolkata", "2027-01-01T03:30:00.000Z"),
    ] {
        let schedule = client.schedule(input(json!({"timezone": given})));
        assert_eq!(
            (&schedule["timezone"], &schedule["next_fire_at"]),
            (&json!(kept), &json!(next))
        );
    }
}
