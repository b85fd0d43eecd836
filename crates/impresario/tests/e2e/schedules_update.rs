//! `schedules/update`, `delete` and `trigger`: what changes, what stays, and when the next fire moves.

use serde_json::{Value, json};

use crate::{
    schedules_create::KEYS,
    support::{Bundle, Client, PATIENCE, Receiver, Server, Setup, assert_signed, keys, wait_for},
};

/// An id of the right form that belongs to nobody.
const NOBODYS: &str = "0192f0c1-2b3c-7d4e-8f50-123456789abc";

struct Stage {
    server: Server,
    client: Client,
    id: Value,
}

impl Stage {
    /// With a schedule that has this on top of the smallest input.
    fn new(more: Value) -> Self {
        let server = Setup::at("2027-01-01T12:00:30Z").start();
        let client = server.tenant("acme");
        client.deploy(&Bundle::with("w", "return input;"));
        let mut input = json!({"workflow": "w", "cron_expr": "0 * * * *"});
        for (key, value) in more.as_object().unwrap() {
            input[key] = value.clone();
        }
        let id = client.schedule(input)["id"].clone();
        Self { server, client, id }
    }

    fn with_id(&self, changes: Value) -> Value {
        let mut input = changes;
        input["id"] = self.id.clone();
        input
    }

    /// Makes the change: the schedule afterwards, as `get` shows it too.
    #[track_caller]
    fn update(&self, changes: Value) -> Value {
        let answer = self.client.ok("schedules/update", self.with_id(changes));
        assert_eq!(keys(&answer), ["schedule"]);
        assert_eq!(keys(&answer["schedule"]), KEYS);
        assert_eq!(self.client.get_schedule(&self.id), answer["schedule"]);
        answer["schedule"].clone()
    }

    /// Tries the change, which must be refused and change nothing: the paths of the issues.
    #[track_caller]
    fn issues(&self, changes: Value) -> Vec<String> {
        let before = self.client.get_schedule(&self.id);
        let issues = self.client.issues("schedules/update", self.with_id(changes));
        assert_eq!(self.client.get_schedule(&self.id), before);
        issues
    }
}

#[test]
fn each_field_changes_alone_and_params_are_replaced_whole() {
    let stage = Stage::new(json!({"params": {"a": 1, "b": 2}}));
    stage.server.set_clock("2027-01-01T12:10:00Z");
    let mut expected = stage.client.get_schedule(&stage.id);
    expected["updated_at"] = json!("2027-01-01T12:10:00.000Z");
    for (key, value) in [
        ("params", json!({"c": 3})),
        ("timeout_seconds", json!(60)),
        ("start_url", json!("https://example.com/")),
        ("gpu", json!(true)),
        ("viewport", json!({"width": 10, "height": 20})),
        ("skip_callbacks", json!(true)),
        ("residential_proxy", json!({"country": "FR"})),
        ("disable_default_proxy", json!(false)),
    ] {
        expected[key] = value.clone();
        assert_eq!(stage.update(json!({key: value})), expected, "{key}");
    }
    assert_eq!(stage.update(json!({})), expected);
}

#[test]
fn null_clears_what_can_be_cleared_and_is_refused_elsewhere() {
    let stage = Stage::new(json!({
        "start_url": "https://example.com/", "gpu": true, "viewport": {"width": 1, "height": 1},
        "residential_proxy": {"country": "US"},
        "callback_url": "https://example.com/", "callback_secret": "s",
    }));
    for key in ["start_url", "gpu", "viewport", "residential_proxy"] {
        assert_eq!(stage.update(json!({key: null}))[key], json!(null));
    }
    assert_eq!(stage.issues(json!({"callback_url": null})), ["callback_url"]);
    assert_eq!(
        stage.issues(json!({"callback_secret": null})),
        ["callback_secret"]
    );
    let after = stage.update(json!({"callback_url": null, "callback_secret": null}));
    assert_eq!(after["callback_url"], json!(null));
    for key in [
        "params",
        "cron_expr",
        "timezone",
        "timeout_seconds",
        "skip_callbacks",
        "enabled",
    ] {
        assert_eq!(stage.issues(json!({key: null})), [key]);
    }
}

#[test]
fn the_rules_hold_for_what_the_schedule_becomes() {
    let stage = Stage::new(json!({"disable_default_proxy": true}));
    let proxy = json!({"country": "US"});
    assert_eq!(
        stage.issues(json!({"residential_proxy": proxy})),
        ["disable_default_proxy"]
    );
    let after = stage.update(json!({"residential_proxy": proxy, "disable_default_proxy": false}));
    assert_eq!(
        (&after["residential_proxy"], &after["disable_default_proxy"]),
        (&proxy, &json!(false))
    );
    assert_eq!(
        stage.issues(json!({"disable_default_proxy": true})),
        ["disable_default_proxy"]
    );
    let after = stage.update(json!({"residential_proxy": null, "disable_default_proxy": true}));
    assert_eq!(after["residential_proxy"], json!(null));

    assert_eq!(
        stage.issues(json!({"callback_url": "https://example.com/"})),
        ["callback_secret"]
    );
    assert_eq!(stage.issues(json!({"callback_secret": "s"})), ["callback_url"]);
    stage.update(json!({"callback_url": "https://example.com/", "callback_secret": "s"}));
    // Where the pair is there, each half can be changed by itself.
    assert_eq!(
        stage.update(json!({"callback_url": "https://example.org/"}))["callback_url"],
        "https://example.org/"
    );
    stage.update(json!({"callback_secret": "another"}));
}

#[test]
fn what_cannot_be_changed_or_is_wrong_is_refused_all_at_once() {
    let stage = Stage::new(json!({}));
    assert_eq!(stage.issues(json!({"workflow": "w"})), ["workflow"]);
    assert_eq!(
        stage.issues(json!({
            "cron_expr": "x", "timezone": "x", "timeout_seconds": 0, "viewport": {}, "workflow": "v", "fromage": 1,
        })),
        ["", "cron_expr", "timeout_seconds", "timezone", "viewport.height", "viewport.width", "workflow"]
    );
    assert_eq!(stage.issues(json!({"cron_expr": "0 0 30 2 *"})), ["cron_expr"]);
    let client = &stage.client;
    for route in [
        "schedules/get",
        "schedules/update",
        "schedules/delete",
        "schedules/trigger",
        "schedules/history",
    ] {
        client.refused(route, json!({"id": NOBODYS}), 404);
        for id in [json!("7"), json!(7), json!(null), json!(format!("{{{NOBODYS}}}"))] {
            assert_eq!(client.issues(route, json!({"id": id})), ["id"], "{route} {id}");
        }
        assert_eq!(client.issues(route, json!({})), ["id"], "{route}");
    }
}

#[test]
fn changed_params_are_checked_against_the_schema_of_today() {
    let stage = Stage::new(json!({"params": {"anything": "goes"}}));
    stage.client.deploy(&Bundle::of(
        "export const w = workflow('w', () => 1, { inputSchema: { type: 'object',
           properties: { n: { type: 'integer' } }, required: ['n'], additionalProperties: false } });",
    ));
    assert_eq!(stage.issues(json!({"params": {"n": "1"}})), ["params.n"]);
    assert_eq!(
        stage.update(json!({"params": {"n": 1, "m": 2}}))["params"],
        json!({"n": 1, "m": 2})
    );
}

#[test]
fn the_next_fire_moves_only_with_the_pattern_or_a_re_enable() {
    let stage = Stage::new(json!({}));
    let next = |changes: Value| stage.update(changes)["next_fire_at"].clone();
    stage.server.set_clock("2027-01-01T12:59:59.900Z");
    let every_minute = json!({"cron_expr": "* * * * *"});
    assert_eq!(next(every_minute), "2027-01-01T13:00:00.000Z");
    stage.server.set_clock("2027-01-01T13:00:00.400Z");
    stage.client.fired(&stage.id, "2027-01-01T13:00:00.000Z");
    // The clock goes back by less than is taken for a wrong clock, so that an instant reckoned anew shows: 13:00.
    stage.server.set_clock("2027-01-01T12:59:59.900Z");
    for kept in [
        json!({"timeout_seconds": 5}),
        json!({"params": {"a": 1}}),
        json!({"enabled": true}),
        json!({"cron_expr": "* * * * *"}),
        json!({"timezone": "utc"}),
        json!({"start_url": "about:blank"}),
    ] {
        assert_eq!(next(kept.clone()), "2027-01-01T13:01:00.000Z", "{kept}");
    }
    stage.server.set_clock("2027-01-01T13:00:30Z");
    assert_eq!(
        next(json!({"cron_expr": "15 * * * *"})),
        "2027-01-01T13:15:00.000Z"
    );
    assert_eq!(
        next(json!({"timezone": "Asia/Kolkata"})),
        "2027-01-01T13:45:00.000Z"
    );

    // A disabled schedule shows when it would fire were it enabled now, and never the past.
    assert_eq!(next(json!({"enabled": false})), "2027-01-01T13:45:00.000Z");
    stage.server.set_clock("2027-01-01T20:00:00Z");
    assert_eq!(
        stage.client.get_schedule(&stage.id)["next_fire_at"],
        "2027-01-01T20:45:00.000Z"
    );
    assert_eq!(next(json!({"timeout_seconds": 6})), "2027-01-01T20:45:00.000Z");
    assert_eq!(next(json!({"enabled": true})), "2027-01-01T20:45:00.000Z");
    // What came while it was disabled is neither fired nor missed.
    stage.server.set_clock("2027-01-01T20:45:00Z");
    stage.client.fired(&stage.id, "2027-01-01T20:45:00.000Z");
    assert_eq!(stage.client.history(&stage.id).len(), 2);
}

#[test]
fn a_clock_that_goes_back_fires_nothing_a_second_time() {
    let stage = Stage::new(json!({"cron_expr": "* * * * *"}));
    stage.server.set_clock("2027-01-01T12:01:00Z");
    let first = stage.client.fired(&stage.id, "2027-01-01T12:01:00.000Z");
    stage.server.set_clock("2027-01-01T12:00:40Z");
    let cursor_is = |instant: &str| {
        wait_for(&format!("the cursor to be at {instant}"), PATIENCE, || {
            let next = stage.client.get_schedule(&stage.id)["next_fire_at"].clone();
            if next == instant {
                Ok(())
            } else {
                Err(next.to_string())
            }
        });
    };
    // A changed pattern is reckoned from now; the cursor may be put back to an instant that has fired, until the
    // scheduler looks.
    let change = json!({"id": stage.id, "cron_expr": "*/1 * * * *"});
    stage.client.ok("schedules/update", change);
    stage.server.set_clock("2027-01-01T12:01:00Z");
    cursor_is("2027-01-01T12:02:00.000Z");
    stage.server.set_clock("2027-01-01T12:02:00Z");
    stage.client.fired(&stage.id, "2027-01-01T12:02:00.000Z");
    assert_eq!(
        stage.client.fired(&stage.id, "2027-01-01T12:01:00.000Z")["job_id"],
        first["job_id"]
    );
    let jobs = stage.client.ok("jobs/list", json!({"schedule_id": stage.id}));
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 2, "{jobs}");
}

#[test]
fn a_deleted_schedule_is_gone_and_its_jobs_stay() {
    let stage = Stage::new(json!({"cron_expr": "* * * * *"}));
    stage.server.set_clock("2027-01-01T12:01:00Z");
    let job = stage.client.fired(&stage.id, "2027-01-01T12:01:00.000Z")["job_id"].clone();
    let ended = stage.client.job_ended(&job);
    let gone = stage.client.ok("schedules/delete", json!({"id": stage.id}));
    assert_eq!(gone, json!({"success": true, "id": stage.id}));
    for route in [
        "schedules/delete",
        "schedules/get",
        "schedules/update",
        "schedules/trigger",
        "schedules/history",
    ] {
        stage.client.refused(route, json!({"id": stage.id}), 404);
    }
    assert_eq!(
        stage.client.ok("schedules/list", json!({}))["schedules"],
        json!([])
    );
    assert_eq!(stage.client.job(&job), ended);
}

#[test]
fn a_trigger_runs_it_now_and_counts_as_no_fire() {
    let receiver = Receiver::start();
    let stage = Stage::new(json!({
        "params": {"a": 1}, "enabled": false, "callback_url": receiver.url(), "callback_secret": "s",
    }));
    let before = stage.client.get_schedule(&stage.id);
    let own = stage.client.ok("schedules/trigger", json!({"id": stage.id}));
    assert_eq!(
        (&own["success"], &own["status"]),
        (&json!(true), &json!("queued"))
    );
    assert_eq!(stage.client.job_ended(&own["job_id"])["result"], json!({"a": 1}));
    let other = stage
        .client
        .ok("schedules/trigger", json!({"id": stage.id, "params": {"b": 2}}));
    assert_eq!(
        stage.client.job_ended(&other["job_id"])["params"],
        json!({"b": 2})
    );
    for callback in receiver.wait(2) {
        assert_signed(&callback, "s");
    }
    assert_eq!(stage.client.get_schedule(&stage.id), before);
    assert_eq!(stage.client.history(&stage.id), Vec::<Value>::new());
}
