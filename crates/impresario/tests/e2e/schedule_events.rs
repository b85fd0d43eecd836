//! Which events an endpoint hears of, and the ones about a schedule's instants: missed and skipped.

use serde_json::{Value, json};

use crate::support::{Bundle, Client, Receiver, Server, Setup, assert_signed, workflow};

const SECRET: &str = "of the endpoint";
const ALL: [&str; 6] = [
    "job.completed",
    "job.failed",
    "schedule.missed",
    "schedule.skipped",
    "schedule.disabled",
    "schedule.recovered",
];

fn start() -> (Server, Client) {
    let server = Setup::at("2027-01-01T00:00:30Z").start();
    let client = server.tenant("acme");
    client.deploy(&Bundle::of(&format!(
        "{}{}",
        workflow("quick", "return 1;"),
        workflow("wait", "await new Promise((done) => setTimeout(done, 600_000));"),
    )));
    (server, client)
}

fn hears(client: &Client, events: Value) -> (Receiver, Value) {
    let receiver = Receiver::start();
    let input = json!({"url": receiver.url(), "signing_secret": SECRET, "events": events});
    let endpoint = client.ok("webhooks/create", input);
    (receiver, endpoint["webhook_endpoint_id"].clone())
}

/// What was ever owed because of a schedule, newest first: the event and the endpoint.
fn owed(client: &Client, filter: Value) -> Vec<(Value, Value)> {
    let answer = client.ok("webhooks/deliveries", filter);
    let deliveries = answer["deliveries"].as_array().unwrap().iter();
    deliveries
        .map(|one| (one["event"].clone(), one["webhook_endpoint_id"].clone()))
        .collect()
}

#[test]
fn instants_that_nobody_fired_are_told_to_those_who_asked() {
    let (mut server, client) = start();
    let (missed, endpoint) = hears(&client, json!(["schedule.missed"]));
    let (results, _) = hears(&client, json!(null));
    let schedule = |more: Value| {
        let mut input = json!({"workflow": "quick", "cron_expr": "* * * * *"});
        input
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        client.schedule(input)["id"].clone()
    };
    let every_minute = schedule(json!({"name": "every minute"}));
    let too_late = schedule(json!({"cron_expr": "*/2 * * * *", "catchup_window_seconds": 0}));
    let quiet = schedule(json!({"skip_callbacks": true}));
    server.kill();
    server.write_clock("2027-01-01T00:05:30Z");
    server.start_again();

    let mut told: Vec<Value> = missed
        .wait(2)
        .iter()
        .map(|callback| assert_signed(callback, SECRET))
        .collect();
    told.sort_by_key(|body| body["name"].is_null());
    let body = |schedule: &Value, name: Value, [from, until]: [u32; 2], (count, reason): (u32, &str)| {
        json!({
            "event": "schedule.missed",
            "schedule_id": schedule,
            "name": name,
            "workflow": "quick",
            "occurred_at": "2027-01-01T00:05:30.000Z",
            "fire_at": format!("2027-01-01T00:0{from}:00.000Z"),
            "missed_until": format!("2027-01-01T00:0{until}:00.000Z"),
            "missed": count,
            "reason": reason,
            "job_id": null,
            "consecutive_failures": 0,
        })
    };
    assert_eq!(
        told,
        [
            body(&every_minute, json!("every minute"), [1, 4], (4, "down")),
            body(&too_late, json!(null), [2, 4], (2, "outside_catchup")),
        ]
    );

    // The newest instant fires all the same, and its result goes where results go.
    let fire = client.fired(&every_minute, "2027-01-01T00:05:00.000Z");
    assert_eq!(client.job_ended(&fire["job_id"])["status"], "completed");
    let result = assert_signed(&results.wait(1)[0], SECRET);
    assert_eq!(
        (&result["event"], &result["job_id"]),
        (&json!("job.completed"), &fire["job_id"])
    );
    let fire = client.fired(&quiet, "2027-01-01T00:05:00.000Z");
    assert_eq!(fire["missed"], 4);
    client.job_ended(&fire["job_id"]);
    assert_eq!(owed(&client, json!({"schedule_id": quiet})), []);
    assert_eq!(
        owed(&client, json!({"schedule_id": too_late})),
        [(json!("schedule.missed"), endpoint)]
    );
    assert_eq!(results.received().len(), 1);
}

#[test]
fn an_instant_that_is_skipped_is_told_to_those_who_asked() {
    let (server, client) = start();
    let (skipped, endpoint) = hears(&client, json!(["schedule.skipped"]));
    let (results, _) = hears(&client, json!(null));
    let schedule = |quiet: bool| {
        client.schedule(json!({
            "workflow": "wait", "cron_expr": "* * * * *", "overlap_policy": "skip", "skip_callbacks": quiet,
        }))["id"]
            .clone()
    };
    let (loud, quiet) = (schedule(false), schedule(true));
    server.set_clock("2027-01-01T00:01:00Z");
    for id in [&loud, &quiet] {
        client.fired(id, "2027-01-01T00:01:00.000Z");
    }
    server.set_clock("2027-01-01T00:02:00Z");
    for id in [&loud, &quiet] {
        let fire = client.fired(id, "2027-01-01T00:02:00.000Z");
        assert_eq!(fire["outcome"], "skipped_overlap", "{fire}");
    }
    let told = assert_signed(&skipped.wait(1)[0], SECRET);
    let expected = json!({
        "event": "schedule.skipped",
        "schedule_id": loud,
        "name": null,
        "workflow": "wait",
        "occurred_at": "2027-01-01T00:02:00.000Z",
        "fire_at": "2027-01-01T00:02:00.000Z",
        "missed_until": null,
        "missed": null,
        "reason": "overlap",
        "job_id": null,
        "consecutive_failures": 0,
    });
    assert_eq!(told, expected);
    assert_eq!(owed(&client, json!({})), [(json!("schedule.skipped"), endpoint)]);
    assert_eq!(results.received().len(), 0);
}

#[test]
fn an_endpoint_hears_of_what_it_names_and_of_results_where_it_does_not_say() {
    let (server, client) = start();
    let url = "http://127.0.0.1:9/";
    let default = json!(["job.completed", "job.failed"]);
    let create = |events: Option<Value>| {
        let mut input = json!({"url": url});
        if let Some(events) = events {
            input["events"] = events;
        }
        client.ok("webhooks/create", input)["webhook_endpoint_id"].clone()
    };
    let listed = |id: &Value| {
        let list = client.ok("webhooks/list", json!({}));
        let all = list["webhook_endpoints"].as_array().unwrap();
        let found = all.iter().find(|one| one["webhook_endpoint_id"] == *id).unwrap();
        found["events"].clone()
    };
    assert_eq!(listed(&create(None)), default);
    assert_eq!(listed(&create(Some(json!(null)))), default);
    assert_eq!(listed(&create(Some(json!(ALL)))), json!(ALL));
    let twice = create(Some(json!(["schedule.missed", "job.failed", "schedule.missed"])));
    assert_eq!(
        listed(&twice),
        json!(["schedule.missed", "job.failed"]),
        "each once"
    );

    let update = |more: Value| {
        let mut input = json!({"id": twice});
        input
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        client.ok("webhooks/update", input);
        listed(&twice)
    };
    assert_eq!(
        update(json!({"description": "x"})),
        json!(["schedule.missed", "job.failed"])
    );
    assert_eq!(
        update(json!({"events": ["schedule.disabled"]})),
        json!(["schedule.disabled"])
    );
    assert_eq!(update(json!({"events": null})), default);

    for (events, paths) in [
        (json!([]), vec!["events"]),
        (json!("job.failed"), vec!["events"]),
        (json!({}), vec!["events"]),
        (json!([ALL.as_slice(), &["job.failed"]].concat()), vec!["events"]),
        (json!(["job.failed", "job.done"]), vec!["events.1"]),
        (
            json!(["Job.Failed", 1, "job.failed", ""]),
            vec!["events.0", "events.1", "events.3"],
        ),
        (
            json!(["schedule.mised", "job.failed", "*"]),
            vec!["events.0", "events.2"],
        ),
    ] {
        let input = json!({"url": url, "events": events});
        assert_eq!(client.issues("webhooks/create", input), paths, "{events}");
        let input = json!({"id": twice, "events": events});
        assert_eq!(client.issues("webhooks/update", input), paths, "{events}");
    }
    let refused = client.refused(
        "webhooks/create",
        json!({"url": url, "events": ["schedule.mised"]}),
        400,
    );
    let message = refused["data"]["issues"][0]["message"].as_str().unwrap();
    assert!(
        message.starts_with("events[0]: \"schedule.mised\"")
            && message.contains("did you mean \"schedule.missed\"?")
            && ALL.iter().all(|event| message.contains(event)),
        "{message}"
    );
    assert_eq!(listed(&twice), default, "what was refused changed nothing");
    drop(server);
}

#[test]
fn the_deliveries_of_a_schedule_are_its_owners_alone() {
    let (server, client) = start();
    let (receiver, endpoint) = hears(&client, json!(["job.completed"]));
    let id = client.schedule(json!({"workflow": "quick", "cron_expr": "1 0 * * *"}))["id"].clone();
    client.run(json!({"workflow": "quick"}));
    server.set_clock("2027-01-01T00:01:00Z");
    let fire = client.fired(&id, "2027-01-01T00:01:00.000Z");
    client.job_ended(&fire["job_id"]);
    receiver.wait(2);
    let completed = (json!("job.completed"), endpoint);
    assert_eq!(
        owed(&client, json!({"schedule_id": id})),
        std::slice::from_ref(&completed)
    );
    let both = json!({"schedule_id": id, "job_id": fire["job_id"]});
    assert_eq!(owed(&client, both), std::slice::from_ref(&completed));
    assert_eq!(owed(&client, json!({})), [completed.clone(), completed]);
    let stranger = server.tenant("other");
    assert_eq!(owed(&stranger, json!({"schedule_id": id})), []);
    assert_eq!(
        client.issues("webhooks/deliveries", json!({"schedule_id": "x"})),
        ["schedule_id"]
    );
}
