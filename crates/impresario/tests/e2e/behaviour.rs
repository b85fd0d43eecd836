//! The fields that say what a schedule is called and how it behaves: what is taken, what is refused, and what an update
//! makes of them.

use serde_json::{Value, json};

use super::{
    schedules_create::{input, start},
    support::{Bundle, Setup},
};

#[test]
fn what_is_given_is_kept() {
    let (_server, client) = start();
    let given = json!({
        "name": "nightly claims", "description": "what the payer owes", "tags": ["claims", "payer: acme"],
        "start_at": "2027-01-02T00:00:00.000Z", "end_at": "2027-06-01T12:00:00.500Z", "jitter_seconds": 3600,
        "misfire_policy": "fire_all", "catchup_window_seconds": 31_622_400, "overlap_policy": "cancel_running",
        "max_consecutive_failures": 1000,
    });
    let schedule = client.schedule(input(given.clone()));
    for (key, value) in given.as_object().unwrap() {
        assert_eq!(&schedule[key], value, "{key}");
    }
    assert_eq!(schedule["next_fire_at"], "2027-01-02T09:00:00.000Z");
    assert_eq!(client.get_schedule(&schedule["id"]), schedule);
    // Instants of any offset, and the edges.
    let edges = json!({
        "start_at": "2027-01-02T01:00:00+01:00", "end_at": null, "jitter_seconds": 0, "catchup_window_seconds": 0,
        "max_consecutive_failures": 1, "tags": ["a", "b", "a"], "name": "n".repeat(100),
    });
    let schedule = client.schedule(input(edges));
    assert_eq!(schedule["start_at"], "2027-01-02T00:00:00.000Z");
    assert_eq!(schedule["tags"], json!(["a", "b"]));
}

#[test]
fn what_cannot_be_is_refused_by_the_name_of_its_field() {
    let (_server, client) = start();
    let cases: Vec<(Value, &[&str])> = vec![
        (json!({"name": ""}), &["name"]),
        (json!({"name": " a"}), &["name"]),
        (json!({"name": "a\u{7}"}), &["name"]),
        (json!({"name": "n".repeat(101)}), &["name"]),
        (json!({"name": 7}), &["name"]),
        (json!({"name": "\u{202e}evil"}), &["name"]),
        (json!({"name": "\u{200b}"}), &["name"]),
        (json!({"start_at": "2027-02-01T00:00:00+25:00"}), &["start_at"]),
        (json!({"start_at": "2027-02-01T00:00:00,5Z"}), &["start_at"]),
        (json!({"start_at": "2027-02-01T00:00:00Z[UTC]"}), &["start_at"]),
        (json!({"start_at": "2027-02-01"}), &["start_at"]),
        (json!({"start_at": "2027-02-30T00:00:00Z"}), &["start_at"]),
        (json!({"start_at": "2027-02-01 00:00:00Z"}), &["start_at"]),
        (json!({"start_at": "2027-02-01T00:00:60Z"}), &["start_at"]),
        // No fire is left from then on.
        (json!({"start_at": "9999-12-30T21:59:59Z"}), &["start_at"]),
        (
            json!({"cron_expr": "0 9 29 2 *", "start_at": "9998-03-01T00:00:00Z"}),
            &["start_at"],
        ),
        (json!({"end_at": "9999-12-31T23:59:59Z"}), &["end_at"]),
        (json!({"description": "d".repeat(1_001)}), &["description"]),
        (json!({"tags": "a"}), &["tags"]),
        (json!({"tags": ["a", "", "b\n"]}), &["tags.1"]),
        (json!({"tags": ["a", "b\n"]}), &["tags.1"]),
        (json!({"tags": vec!["t"; 21]}), &["tags"]),
        (json!({"jitter_seconds": -1}), &["jitter_seconds"]),
        (json!({"jitter_seconds": 3_601}), &["jitter_seconds"]),
        (json!({"jitter_seconds": 0.5}), &["jitter_seconds"]),
        (json!({"misfire_policy": "fire_twice"}), &["misfire_policy"]),
        (json!({"overlap_policy": "Skip"}), &["overlap_policy"]),
        (
            json!({"catchup_window_seconds": 31_622_401}),
            &["catchup_window_seconds"],
        ),
        (
            json!({"max_consecutive_failures": 0}),
            &["max_consecutive_failures"],
        ),
        (
            json!({"max_consecutive_failures": 1_001}),
            &["max_consecutive_failures"],
        ),
        (json!({"start_at": "tomorrow"}), &["start_at"]),
        (json!({"end_at": 1_800_000_000}), &["end_at"]),
        (
            json!({"start_at": "2027-02-01T00:00:00Z", "end_at": "2027-02-01T00:00:00Z"}),
            &["end_at"],
        ),
        (json!({"end_at": "2026-12-31T00:00:00Z"}), &["end_at"]),
        (json!({"end_at": "2027-01-01T09:00:00Z"}), &["end_at"]),
        (
            json!({"start_at": "2027-02-01T09:00:00.001Z", "end_at": "2027-02-02T09:00:00Z"}),
            &["end_at"],
        ),
        (
            json!({"jitter_seconds": "a", "tags": 1, "misfire_policy": null, "overlap_policy": 3}),
            &["jitter_seconds", "overlap_policy", "tags"],
        ),
    ];
    for (more, expected) in cases {
        assert_eq!(
            client.issues("schedules/create", input(more.clone())),
            expected,
            "{more}"
        );
    }
    let error = client.refused("schedules/create", input(json!({"overlap_policy": "queue"})), 400);
    assert_eq!(
        error["data"]["issues"][0]["message"],
        "overlap_policy: \"queue\" is not allowed (one of allow, skip, buffer_one, cancel_running)"
    );
    assert_eq!(client.ok("schedules/list", json!({}))["schedules"], json!([]));
}

#[test]
fn an_update_changes_one_at_a_time_and_null_is_the_default() {
    let (server, client) = start();
    let plain = client.schedule(input(json!({})));
    let id = &plain["id"];
    server.set_clock("2027-01-01T00:10:00Z");
    let update = |key: &str, value: &Value| {
        let answer = client.ok("schedules/update", json!({"id": id, key: value}));
        answer["schedule"].clone()
    };
    let mut expected = plain.clone();
    expected["updated_at"] = json!("2027-01-01T00:10:00.000Z");
    let changes = [
        ("name", json!("a")),
        ("description", json!("d")),
        ("tags", json!(["t"])),
        ("start_at", json!("2026-01-01T00:00:00.000Z")),
        ("end_at", json!("2028-01-01T00:00:00.000Z")),
        ("misfire_policy", json!("skip")),
        ("catchup_window_seconds", json!(60)),
        ("overlap_policy", json!("skip")),
        ("max_consecutive_failures", json!(3)),
    ];
    for (key, value) in &changes {
        expected[key] = value.clone();
        assert_eq!(update(key, value), expected, "{key}");
    }
    for (key, _) in &changes {
        expected[key] = plain[key].clone();
        assert_eq!(update(key, &json!(null)), expected, "{key}");
    }
    // A later start moves the next fire; an end before now finishes the schedule, and another end brings it back.
    let later = update("start_at", &json!("2027-03-01T00:00:00Z"));
    assert_eq!(later["next_fire_at"], "2027-03-01T09:00:00.000Z");
    let back = update("start_at", &json!(null));
    assert_eq!(back["next_fire_at"], "2027-01-01T09:00:00.000Z");
    let over = update("end_at", &json!("2027-01-01T00:05:00Z"));
    assert_eq!(
        (&over["state"], &over["next_fire_at"], &over["next_due_at"]),
        (&json!("finished"), &json!(null), &json!(null))
    );
    assert_eq!(over["enabled"], true);
    let again = update("end_at", &json!("2027-01-05T00:00:00Z"));
    assert_eq!(
        (&again["state"], &again["next_fire_at"]),
        (&json!("active"), &json!("2027-01-01T09:00:00.000Z"))
    );
    // Bounds that leave no fire end it as well.
    let none = update("start_at", &json!("2027-01-04T10:00:00Z"));
    assert_eq!(
        (&none["state"], &none["next_fire_at"]),
        (&json!("finished"), &json!(null))
    );
    let order = json!({"id": id, "end_at": "2027-01-04T10:00:00Z"});
    assert_eq!(client.issues("schedules/update", order), ["end_at"]);
}

#[test]
fn a_name_belongs_to_one_schedule_of_a_tenant() {
    let (server, client) = start();
    let first = client.schedule(input(json!({"name": "nightly"})));
    let taken = client.refused("schedules/create", input(json!({"name": "nightly"})), 409);
    assert!(
        taken["message"].as_str().unwrap().contains("\"nightly\""),
        "{taken}"
    );
    let second = client.schedule(input(json!({"name": "weekly"})));
    let rename = json!({"id": second["id"], "name": "nightly"});
    client.refused("schedules/update", rename.clone(), 409);
    assert_eq!(client.get_schedule(&second["id"]), second);
    // Its own name is no conflict, another tenant's is none, and a deleted one's is free.
    client.ok("schedules/update", json!({"id": first["id"], "name": "nightly"}));
    let other = server.tenant("other");
    other.deploy(&Bundle::with("w", "return 1;"));
    other.schedule(input(json!({"name": "nightly"})));
    client.ok("schedules/delete", json!({"id": first["id"]}));
    client.ok("schedules/update", rename);
}

#[test]
fn a_list_finds_by_name_tag_and_state_of_the_params() {
    let server = Setup::at("2027-01-01T00:00:30Z").start();
    let client = server.tenant("acme");
    client.deploy(&Bundle::with("w", "return 1;"));
    let names = |filter: Value| {
        let answer = client.ok("schedules/list", filter);
        let schedules = answer["schedules"].as_array().unwrap().clone();
        let mut names: Vec<String> = schedules
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    for (name, tags) in [
        ("a", json!(["x", "y"])),
        ("b", json!(["y"])),
        ("c", json!(["%", "xy"])),
    ] {
        client.schedule(input(json!({"name": name, "tags": tags})));
    }
    assert_eq!(names(json!({"tag": "y"})), ["a", "b"]);
    assert_eq!(names(json!({"tag": "x"})), ["a"]);
    assert_eq!(names(json!({"tag": "%"})), ["c"]);
    assert_eq!(names(json!({"name": "b"})), ["b"]);
    assert_eq!(names(json!({"name": "B"})), [] as [&str; 0]);
    assert_eq!(
        names(json!({"tag": "y", "name": "b", "enabled": true, "workflow": "w"})),
        ["b"]
    );
    assert_eq!(names(json!({"params_valid": true})), ["a", "b", "c"]);
    assert_eq!(names(json!({"params_valid": false})), [] as [&str; 0]);
    assert_eq!(
        client.issues(
            "schedules/list",
            json!({"tag": 1, "name": "", "params_valid": "no"})
        ),
        ["name", "params_valid", "tag"]
    );
}
