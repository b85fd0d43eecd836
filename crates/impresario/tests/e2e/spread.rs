//! Fires that are spread, kept within bounds, and changed while they are owed.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    schedules_create::{input, start},
    support::{Client, Server},
};

const NOMINAL: &str = "2027-01-01T09:00:00.000Z";

/// A schedule that is spread over an hour, and one at the same instant that is not.
struct Stage {
    server: Server,
    client: Client,
    spread: Value,
    plain: Value,
    /// Fires every minute.
    witness: Value,
    due: String,
}

impl Stage {
    fn new() -> Self {
        let (server, client) = start();
        // Ids are random, and a share may be tiny by chance: not one that leaves no time to do anything in.
        let spread = loop {
            let spread = client.schedule(input(json!({"jitter_seconds": 3600})));
            assert_eq!(spread["next_fire_at"], NOMINAL);
            let due: Timestamp = spread["next_due_at"].as_str().unwrap().parse().unwrap();
            let share = due.duration_since(NOMINAL.parse().unwrap()).as_secs();
            assert!((0..=3_600).contains(&share), "{spread}");
            if (60..3_500).contains(&share) {
                break spread;
            }
            client.ok("schedules/delete", json!({"id": spread["id"]}));
        };
        let plain = client.schedule(input(json!({})));
        assert_eq!(plain["next_due_at"], NOMINAL);
        let witness = client.schedule(input(json!({"cron_expr": "* * * * *"})));
        Self {
            due: spread["next_due_at"].as_str().unwrap().to_owned(),
            server,
            client,
            spread: spread["id"].clone(),
            plain: plain["id"].clone(),
            witness: witness["id"].clone(),
        }
    }

    /// Lets the nominal instant come: the fire that is not spread shows that the scheduler has been by.
    fn enter_the_window(&self) {
        self.server.set_clock(NOMINAL);
        self.client.fired(&self.plain, NOMINAL);
        assert_eq!(self.client.history(&self.spread), [] as [Value; 0]);
        let schedule = self.client.get_schedule(&self.spread);
        assert_eq!(
            (&schedule["next_fire_at"], &schedule["next_due_at"]),
            (&json!(NOMINAL), &json!(self.due))
        );
    }

    /// Moves the clock; the fire of the minute shows that the scheduler has been by.
    fn let_it_be(&self, instant: &str) {
        self.server.set_clock(instant);
        self.scheduler_has_been_by(instant);
    }

    fn scheduler_has_been_by(&self, instant: &str) {
        self.client
            .fired(&self.witness, &format!("{}:00.000Z", &instant[..16]));
    }

    fn update(&self, change: Value) -> Value {
        let mut input = change;
        input["id"] = self.spread.clone();
        self.client.ok("schedules/update", input)["schedule"].clone()
    }

    fn just_before(&self) -> String {
        let due: Timestamp = self.due.parse().unwrap();
        format!("{:.3}", due - jiff::SignedDuration::from_millis(1))
    }
}

#[test]
fn a_spread_fire_comes_at_its_share_and_never_before() {
    let mut stage = Stage::new();
    stage.enter_the_window();
    stage.let_it_be(&stage.just_before());
    stage.server.kill();
    stage.server.start_again();
    stage.scheduler_has_been_by(&stage.just_before());
    assert_eq!(
        stage.client.get_schedule(&stage.spread)["next_due_at"],
        json!(stage.due),
        "the same after a restart"
    );
    assert_eq!(stage.client.history(&stage.spread), [] as [Value; 0]);
    stage.server.set_clock(&stage.due);
    let row = stage.client.fired(&stage.spread, NOMINAL);
    assert_eq!(
        (&row["outcome"], &row["due_at"], &row["fired_at"], &row["missed"]),
        (&json!("fired"), &json!(stage.due), &json!(stage.due), &json!(0))
    );
    let job = stage.client.job(&row["job_id"]);
    assert_eq!(job["fire_at"], NOMINAL, "the job knows the nominal instant");
    let schedule = stage.client.get_schedule(&stage.spread);
    assert_eq!(schedule["last_fire_at"], NOMINAL);
    assert_eq!(schedule["next_fire_at"], "2027-01-02T09:00:00.000Z");
    assert_ne!(
        schedule["next_due_at"].as_str().unwrap()[11..],
        stage.due[11..],
        "another day has another share"
    );
}

#[test]
fn within_the_window_a_change_of_anything_but_the_pattern_keeps_the_fire() {
    let stage = Stage::new();
    stage.enter_the_window();
    for change in [
        json!({"params": {"a": 1}}),
        json!({"overlap_policy": "skip", "name": "spread"}),
        json!({"end_at": "2027-02-01T00:00:00Z"}),
        json!({"cron_expr": "0 9 * * *", "timezone": "utc", "enabled": true}),
    ] {
        let after = stage.update(change);
        assert_eq!(
            (&after["next_fire_at"], &after["next_due_at"]),
            (&json!(NOMINAL), &json!(stage.due))
        );
    }
    stage.server.set_clock(&stage.due);
    assert_eq!(stage.client.fired(&stage.spread, NOMINAL)["outcome"], "fired");
}

#[test]
fn within_the_window_a_smaller_spread_that_is_over_fires_at_once() {
    let stage = Stage::new();
    stage.enter_the_window();
    let after = stage.update(json!({"jitter_seconds": 0}));
    assert_eq!(
        (&after["last_fire_at"], &after["next_fire_at"]),
        (&json!(NOMINAL), &json!("2027-01-02T09:00:00.000Z"))
    );
    assert_eq!(stage.client.fired(&stage.spread, NOMINAL)["outcome"], "fired");
}

#[test]
fn within_the_window_another_pattern_a_pause_and_bounds_that_leave_it_out_take_the_fire_back() {
    for (change, next) in [
        (
            json!({"cron_expr": "30 9 * * *"}),
            json!("2027-01-01T09:30:00.000Z"),
        ),
        (
            json!({"timezone": "America/New_York"}),
            json!("2027-01-01T14:00:00.000Z"),
        ),
        (
            json!({"start_at": "2027-01-01T09:00:00.001Z"}),
            json!("2027-01-02T09:00:00.000Z"),
        ),
        (json!({"end_at": "2027-01-01T09:00:00Z"}), json!(null)),
        (json!({"enabled": false}), json!("2027-01-02T09:00:00.000Z")),
    ] {
        let stage = Stage::new();
        stage.enter_the_window();
        let after = stage.update(change.clone());
        assert_eq!(after["next_fire_at"], next, "{change}");
        let history = stage.client.history(&stage.spread);
        let shown: Vec<_> = history
            .iter()
            .map(|row| (&row["fire_at"], &row["outcome"], &row["reason"], &row["missed"]))
            .collect();
        assert_eq!(
            shown,
            [(&json!(NOMINAL), &json!("missed"), &json!("retired"), &json!(1))],
            "{change}"
        );
        // Back within the hour, as it was: the instant has its row, and does not come again.
        stage.update(json!({"cron_expr": "0 9 * * *", "timezone": "UTC", "start_at": null, "end_at": null, "enabled": true}));
        stage.let_it_be(&stage.due);
        stage.let_it_be("2027-01-01T10:00:01Z");
        assert_eq!(
            stage.client.get_schedule(&stage.spread)["next_fire_at"],
            "2027-01-02T09:00:00.000Z"
        );
        assert_eq!(stage.client.history(&stage.spread).len(), 1, "{change}");
    }
}

fn instants(client: &Client, id: &Value) -> Vec<Value> {
    let history = client.history(id);
    history.iter().map(|row| row["fire_at"].clone()).collect()
}

#[test]
fn pausing_and_going_on_makes_no_burst() {
    let (server, client) = start();
    let id = client.schedule(input(json!({"cron_expr": "* * * * *"})))["id"].clone();
    for minutes in [10, 20, 30] {
        server.set_clock(&format!("2027-01-01T00:{minutes}:30Z"));
        client.ok("schedules/update", json!({"id": id, "enabled": false}));
        let paused = instants(&client, &id);
        server.set_clock(&format!("2027-01-01T00:{}:30Z", minutes + 5));
        let after = client.ok("schedules/update", json!({"id": id, "enabled": true}))["schedule"].clone();
        assert_eq!(
            after["next_fire_at"],
            format!("2027-01-01T00:{}:00.000Z", minutes + 6)
        );
        assert_eq!(
            instants(&client, &id),
            paused,
            "nothing of the pause fires, or is owed"
        );
    }
}

#[test]
fn a_schedule_keeps_within_its_bounds_and_is_finished_at_the_end() {
    let (server, client) = start();
    let bounds = json!({"cron_expr": "0 * * * *", "start_at": "2027-01-01T02:00:00Z", "end_at": "2027-01-01T04:00:00Z"});
    let bounded = client.schedule(input(bounds))["id"].clone();
    let witness = client.schedule(input(json!({"cron_expr": "0 * * * *"})))["id"].clone();
    for hour in 1..=5 {
        let instant = format!("2027-01-01T0{hour}:00:00.000Z");
        server.set_clock(&instant);
        client.fired(&witness, &instant);
    }
    assert_eq!(
        instants(&client, &bounded),
        [
            json!("2027-01-01T03:00:00.000Z"),
            json!("2027-01-01T02:00:00.000Z")
        ]
    );
    let schedule = client.get_schedule(&bounded);
    assert_eq!(
        (
            &schedule["state"],
            &schedule["enabled"],
            &schedule["next_fire_at"],
            &schedule["last_error"]
        ),
        (&json!("finished"), &json!(true), &json!(null), &json!(null))
    );
}
