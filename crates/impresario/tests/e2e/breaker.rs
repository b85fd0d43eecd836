//! A schedule that fails again and again disables itself: when, what it says, who hears of it, and the way back.

use std::path::Path;

use serde_json::{Value, json};

use super::{
    failures::{OBEDIENT, minute},
    support::{Bundle, Client, Receiver, Server, Setup, assert_signed},
};

const SECRET: &str = "of the endpoint";

struct Stage {
    server: Server,
    client: Client,
    id: Value,
}

impl Stage {
    /// A schedule of every minute with this limit.
    fn new(setup: Setup, limit: u32) -> Self {
        let server = setup.start();
        let client = server.tenant("acme");
        client.deploy(&Bundle::with("w", OBEDIENT));
        let id = client.schedule(json!({
            "workflow": "w", "cron_expr": "* * * * *", "max_consecutive_failures": limit,
        }))["id"]
            .clone();
        Self { server, client, id }
    }

    fn at_half_past_midnight(limit: u32) -> Self {
        Self::new(Setup::at("2027-01-01T00:00:30Z"), limit)
    }

    fn hears(&self, events: Value) -> (Receiver, Value) {
        let receiver = Receiver::start();
        let input = json!({"url": receiver.url(), "signing_secret": SECRET, "events": events});
        let endpoint = self.client.ok("webhooks/create", input);
        (receiver, endpoint["webhook_endpoint_id"].clone())
    }

    fn update(&self, mut change: Value) -> Value {
        change["id"] = self.id.clone();
        self.client.ok("schedules/update", change)["schedule"].clone()
    }

    /// Moves the clock to this minute: the job that its fire created.
    fn fire(&self, number: u32) -> Value {
        self.server.set_clock(&minute(number));
        let fire = self.client.fired(&self.id, &minute(number));
        assert_eq!(fire["outcome"], "fired", "{fire}");
        fire["job_id"].clone()
    }

    /// As [`Stage::fire`], with these params, to the job's end.
    fn run(&self, number: u32, params: Value) -> Value {
        self.update(json!({"params": params}));
        self.client.job_ended(&self.fire(number))
    }

    fn fail(&self, number: u32) -> Value {
        let job = self.run(number, json!({"fail": "dns"}));
        assert_eq!(job["failure_class"], "workflow", "{job}");
        job
    }

    fn schedule(&self) -> Value {
        self.client.get_schedule(&self.id)
    }

    /// `enabled`, `state` and `consecutive_failures`.
    fn stands(&self) -> (bool, String, u64) {
        let schedule = self.schedule();
        (
            schedule["enabled"].as_bool().unwrap(),
            schedule["state"].as_str().unwrap().to_owned(),
            schedule["consecutive_failures"].as_u64().unwrap(),
        )
    }

    fn is_active(&self, failures: u64) {
        assert_eq!(self.stands(), (true, "active".to_owned(), failures));
        assert_eq!(self.schedule()["disabled_reason"], json!(null));
    }

    /// Whether it has disabled itself: the reason.
    fn is_disabled(&self, failures: u64) -> String {
        assert_eq!(self.stands(), (false, "disabled".to_owned(), failures));
        self.schedule()["disabled_reason"].as_str().unwrap().to_owned()
    }

    /// The event and the endpoint of all that was ever owed because of the schedule, oldest first. What is owed is
    /// written in the transaction in which it happens, so what is not here now never will be.
    fn owed(&self) -> Vec<(Value, Value)> {
        let answer = self
            .client
            .ok("webhooks/deliveries", json!({"schedule_id": self.id}));
        let deliveries = answer["deliveries"].as_array().unwrap().iter().rev();
        deliveries
            .map(|one| {
                assert_eq!(one["schedule_id"], self.id, "{one}");
                (one["event"].clone(), one["webhook_endpoint_id"].clone())
            })
            .collect()
    }

    /// Of the ledger, oldest first: the instant, what became of it, why, how many it stands for, and the newest of
    /// them.
    fn ledger(&self) -> Vec<[Value; 5]> {
        let mut rows = self.client.history(&self.id);
        rows.reverse();
        rows.iter()
            .map(|row| ["fire_at", "outcome", "reason", "missed", "missed_until"].map(|key| row[key].clone()))
            .collect()
    }
}

#[test]
fn the_last_failure_disables_the_schedule_and_is_told_to_those_who_asked() {
    let stage = Stage::at_half_past_midnight(2);
    let own = Receiver::start();
    stage.update(json!({"callback_url": own.url(), "callback_secret": "its own"}));
    let (subscribed, endpoint) = stage.hears(json!(["schedule.disabled"]));
    let (results, _) = stage.hears(json!(null));
    let (other, _) = stage.hears(json!(["schedule.recovered", "schedule.missed", "job.failed"]));
    let witness = stage
        .client
        .schedule(json!({"workflow": "w", "cron_expr": "* * * * *", "skip_callbacks": true}));

    stage.fail(1);
    stage.is_active(1);
    let last = stage.fail(2);
    let reason = stage.is_disabled(2);
    assert!(
        reason.contains("2 failures in a row") && reason.contains("the portal is down: dns"),
        "{reason}"
    );

    let told = assert_signed(&subscribed.wait(1)[0], SECRET);
    let expected = json!({
        "event": "schedule.disabled",
        "schedule_id": stage.id,
        "name": null,
        "workflow": "w",
        "occurred_at": minute(2),
        "fire_at": null,
        "missed_until": null,
        "missed": null,
        "reason": reason,
        "job_id": last["job_id"],
        "consecutive_failures": 2,
    });
    assert_eq!(told, expected);
    // Its own receiver was made for results, and gets those alone.
    for callback in own.wait(2) {
        assert_eq!(assert_signed(&callback, "its own")["event"], "job.failed");
    }
    let failed = (json!("job.failed"), json!(null));
    assert_eq!(
        stage.owed(),
        [failed.clone(), failed, (json!("schedule.disabled"), endpoint)]
    );

    stage.server.set_clock(&minute(9));
    stage.client.fired(&witness["id"], &minute(9));
    assert_eq!(stage.ledger().len(), 2, "it fires no more");
    assert_eq!((results.received().len(), other.received().len()), (0, 0));
}

#[test]
fn faults_of_the_server_do_not_count() {
    let mut stage = Stage::at_half_past_midnight(1);
    let job = stage.run(1, json!({"page": true}));
    assert_eq!(job["failure_class"], "configuration", "{job}");
    stage.is_active(1);

    stage.update(json!({"params": {"wait": true}}));
    let job = stage.fire(2);
    stage.client.job_is(&job, "running");
    stage.server.kill();
    stage.server.start_again();
    assert_eq!(stage.client.job_ended(&job)["failure_class"], "worker_lost");
    stage.is_active(2);
    assert_eq!(stage.owed(), []);

    // The next one is the workflow's own, and one is the limit.
    stage.fail(3);
    let reason = stage.is_disabled(3);
    assert!(reason.contains("1 failure "), "{reason}");
}

#[test]
fn a_chromium_that_does_not_start_does_not_count() {
    let setup = Setup::at("2027-01-01T00:00:30Z").chromium(Path::new("/bin/false"));
    let stage = Stage::new(setup, 1);
    let job = stage.run(1, json!({}));
    assert_eq!(job["failure_class"], "browser", "{job}");
    stage.is_active(1);
}

#[test]
fn a_fire_that_could_create_no_job_counts() {
    let stage = Stage::at_half_past_midnight(2);
    let (subscribed, _) = stage.hears(json!(["schedule.disabled"]));
    stage.client.ok("workflows/delete", json!({"workflow": "w"}));
    for number in 1..=2 {
        assert_eq!(stage.schedule()["enabled"], true);
        stage.server.set_clock(&minute(number));
        let fire = stage.client.fired(&stage.id, &minute(number));
        assert_eq!(fire["outcome"], "rejected", "{fire}");
    }
    let reason = stage.is_disabled(2);
    assert!(reason.contains("no deployed workflow \"w\""), "{reason}");
    let told = assert_signed(&subscribed.wait(1)[0], SECRET);
    assert_eq!((&told["job_id"], &told["reason"]), (&json!(null), &json!(reason)));
}

#[test]
fn a_success_starts_the_count_again_and_is_told_once() {
    let stage = Stage::at_half_past_midnight(2);
    let (subscribed, endpoint) = stage.hears(json!(["schedule.recovered"]));
    let mut recovered = Vec::new();
    for (number, params) in [
        (1, json!({})),
        (2, json!({"fail": "dns"})),
        (3, json!({})),
        (4, json!({})),
        (5, json!({"fail": "tls"})),
        (6, json!({})),
    ] {
        let job = stage.run(number, params);
        let failed = job["status"] == "failed";
        stage.is_active(u64::from(failed));
        if [3, 6].contains(&number) {
            recovered.push(job["job_id"].clone());
            subscribed.wait(recovered.len());
        }
    }
    let told: Vec<Value> = subscribed
        .wait(2)
        .iter()
        .map(|callback| assert_signed(callback, SECRET))
        .map(|body| {
            assert_eq!(
                (&body["event"], &body["consecutive_failures"]),
                (&json!("schedule.recovered"), &json!(1))
            );
            body["job_id"].clone()
        })
        .collect();
    assert_eq!(told, recovered);
    let told = (json!("schedule.recovered"), endpoint);
    assert_eq!(stage.owed(), [told.clone(), told]);
}

#[test]
fn enabling_it_starts_anew_and_writes_the_pause_down_as_one_row() {
    let stage = Stage::at_half_past_midnight(1);
    stage.fail(1);
    let reason = stage.is_disabled(1);
    stage.server.set_clock("2027-01-01T00:03:30Z");
    // Neither a change nor an owner who disables it as well takes the reason away.
    stage.update(json!({"name": "renamed", "max_consecutive_failures": 2, "params": {}}));
    stage.update(json!({"enabled": false}));
    assert_eq!(stage.is_disabled(1), reason);

    stage.server.set_clock("2027-01-01T00:07:30Z");
    let enabled = stage.update(json!({"enabled": true}));
    assert_eq!(enabled["next_fire_at"], minute(8));
    stage.is_active(1);
    let fired = |number: u32| {
        [
            json!(minute(number)),
            json!("fired"),
            json!(null),
            json!(0),
            json!(null),
        ]
    };
    let pause = [
        json!(minute(2)),
        json!("missed"),
        json!("paused_by_limit"),
        json!(6),
        json!(minute(7)),
    ];
    assert_eq!(stage.ledger(), [fired(1), pause.clone()]);

    // The count starts anew; the failures in a row do not, because nothing has succeeded.
    stage.fail(8);
    stage.is_active(2);
    stage.fail(9);
    let reason = stage.is_disabled(3);
    assert!(reason.contains("2 failures in a row"), "{reason}");
    assert_eq!(stage.ledger(), [fired(1), pause.clone(), fired(8), fired(9)]);
    stage.update(json!({"enabled": true, "params": {}}));
    stage.client.job_ended(&stage.fire(10));
    stage.is_active(0);
    assert_eq!(stage.ledger(), [fired(1), pause, fired(8), fired(9), fired(10)]);
}

#[test]
fn an_owners_pause_leaves_no_row() {
    let stage = Stage::at_half_past_midnight(1);
    let disabled = stage.update(json!({"enabled": false}));
    assert_eq!(
        (&disabled["state"], &disabled["disabled_reason"]),
        (&json!("disabled"), &json!(null))
    );
    stage.server.set_clock("2027-01-01T00:07:30Z");
    stage.update(json!({"enabled": true}));
    assert_eq!(stage.ledger(), Vec::<[Value; 5]>::new());
    stage.client.job_ended(&stage.fire(8));
    assert_eq!(stage.ledger().len(), 1);
}
