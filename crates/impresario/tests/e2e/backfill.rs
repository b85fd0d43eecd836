//! Instants of a past range that have made no job, made up for because their owner asks: each once.

use std::thread;

use serde_json::{Value, json};

use super::support::{
    Bundle, Client, PATIENCE, Receiver, Server, Setup, assert_signed, wait_until, workflow,
};

struct Stage {
    server: Server,
    client: Client,
}

impl Stage {
    fn new(setup: Setup) -> Self {
        let server = setup.start();
        let client = server.tenant("acme");
        client.deploy(&Bundle::of(
            &(workflow("quick", "return 1;") + &workflow("broken", "throw new Error('no');")),
        ));
        Self { server, client }
    }

    /// An hourly schedule of a server that was down from five past midnight to half past five.
    fn after_downtime(&mut self, more: Value) -> Value {
        let mut input = json!({"workflow": "quick", "cron_expr": "0 * * * *"});
        for (key, value) in more.as_object().unwrap() {
            input[key] = value.clone();
        }
        let id = self.client.schedule(input)["id"].clone();
        self.server.kill();
        self.server.write_clock("2027-01-01T05:30:00Z");
        self.server.start_again();
        let fire = self.client.fired(&id, "2027-01-01T05:00:00.000Z");
        self.client.job_ended(&fire["job_id"]);
        id
    }

    /// Oldest first: the hour, what became of it, why, and for how many it stands.
    fn ledger(&self, id: &Value) -> Vec<String> {
        let rows = self.client.history(id);
        let shown = rows.iter().rev().map(|row| {
            let reason = row["reason"].as_str().unwrap_or("-");
            let (at, outcome) = (row["fire_at"].as_str().unwrap(), row["outcome"].as_str().unwrap());
            format!("{} {outcome} {reason} {}", &at[11..16], row["missed"])
        });
        shown.collect()
    }

    fn jobs(&self, id: &Value) -> Vec<Value> {
        let answer = self
            .client
            .ok("jobs/list", json!({"schedule_id": id, "limit": 100}));
        answer["jobs"].as_array().unwrap().clone()
    }
}

fn range(id: &Value, from: &str, to: &str) -> Value {
    json!({"id": id, "from": format!("2027-01-01T{from}:00Z"), "to": format!("2027-01-01T{to}:00Z")})
}

#[test]
fn what_was_missed_runs_once_and_the_ledger_tells_of_each_instant_once() {
    let mut stage = Stage::new(Setup::at("2027-01-01T00:05:00Z"));
    let receiver = Receiver::start();
    let id = stage.after_downtime(json!({
        "overlap_policy": "skip", "callback_url": receiver.url(), "callback_secret": "of the schedule",
    }));
    receiver.wait(1);
    assert_eq!(stage.ledger(&id), ["01:00 missed down 4", "05:00 fired - 4"]);
    let before = stage.client.get_schedule(&id);
    let answer = stage
        .client
        .ok("schedules/backfill", range(&id, "02:00", "04:00"));
    assert_eq!(
        (&answer["success"], &answer["already_fired"]),
        (&json!(true), &json!(0))
    );
    let made = answer["job_ids"].as_array().unwrap();
    assert_eq!(made.len(), 2, "{answer}");
    for (job, instant) in made.iter().zip(["02", "03"]) {
        let job = stage.client.job_ended(job);
        assert_eq!(job["status"], "completed");
        assert_eq!(job["schedule_id"], id);
        assert_eq!(job["fire_at"], format!("2027-01-01T{instant}:00:00.000Z"));
    }
    assert_eq!(
        stage.ledger(&id),
        [
            "01:00 missed down 1",
            "02:00 fired backfill 0",
            "03:00 fired backfill 0",
            "04:00 missed down 1",
            "05:00 fired - 4"
        ]
    );
    // Its callbacks are sent as for any run, and the schedule itself has heard of nothing.
    for callback in &receiver.wait(3)[1..] {
        assert_eq!(assert_signed(callback, "of the schedule")["schedule_id"], id);
    }
    assert_eq!(stage.client.get_schedule(&id), before);

    // Asked for again, beside what is around it.
    let answer = stage
        .client
        .ok("schedules/backfill", range(&id, "00:00", "05:30"));
    assert_eq!(answer["already_fired"], 3);
    assert_eq!(answer["job_ids"].as_array().unwrap().len(), 3, "{answer}");
    let answer = stage
        .client
        .ok("schedules/backfill", range(&id, "00:00", "05:30"));
    assert_eq!(
        answer,
        json!({"success": true, "job_ids": [], "already_fired": 6})
    );
    assert_eq!(stage.ledger(&id).len(), 6);
    // A crash and a clock that is behind for a moment change nothing of it, and what comes fires.
    stage.server.kill();
    stage.server.write_clock("2027-01-01T02:30:00Z");
    stage.server.start_again();
    stage.server.set_clock("2027-01-01T06:00:00Z");
    stage.client.fired(&id, "2027-01-01T06:00:00.000Z");
    assert_eq!(stage.ledger(&id).len(), 7, "{:?}", stage.ledger(&id));
    assert_eq!(stage.jobs(&id).len(), 7);
}

#[test]
fn two_at_once_make_one_job_for_each_instant() {
    let mut stage = Stage::new(Setup::at("2027-01-01T00:05:00Z"));
    let id = stage.after_downtime(json!({}));
    at_once(
        &stage,
        &[stage.client.clone(), stage.client.clone(), stage.client.clone()],
        &id,
    );
}

#[test]
fn two_at_once_on_two_nodes_make_one_job_for_each_instant() {
    let mut stage = Stage::new(Setup::at("2027-01-01T00:05:00Z").shared());
    let id = stage.after_downtime(json!({}));
    let mut other = stage.server.node(Setup::at("2027-01-01T05:30:00Z"));
    other.start_again();
    let clients = [stage.client.clone(), other.client(stage.client.key())];
    at_once(&stage, &clients, &id);
}

fn at_once(stage: &Stage, clients: &[Client], id: &Value) {
    let answers: Vec<Value> = thread::scope(|scope| {
        let asked: Vec<_> = clients
            .iter()
            .map(|client| scope.spawn(|| client.ok("schedules/backfill", range(id, "00:00", "05:30"))))
            .collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let mut made: Vec<&Value> = answers
        .iter()
        .flat_map(|answer| answer["job_ids"].as_array().unwrap())
        .collect();
    assert_eq!(made.len(), 5, "{answers:?}");
    made.sort_by_key(|id| id.to_string());
    made.dedup();
    assert_eq!(made.len(), 5, "{answers:?}");
    for answer in &answers {
        let all =
            answer["job_ids"].as_array().unwrap().len() as u64 + answer["already_fired"].as_u64().unwrap();
        assert_eq!(all, 6, "{answer}");
    }
    assert_eq!(stage.jobs(id).len(), 6);
    assert_eq!(stage.ledger(id).len(), 6);
}

#[test]
fn a_failed_run_of_the_past_does_not_disable_its_schedule() {
    let mut stage = Stage::new(Setup::at("2027-01-01T00:05:00Z"));
    let id = stage.after_downtime(json!({"max_consecutive_failures": 2}));
    stage
        .server
        .behind_its_back("UPDATE schedules SET workflow = 'broken'", &[]);
    let answer = stage
        .client
        .ok("schedules/backfill", range(&id, "01:00", "05:00"));
    for job in answer["job_ids"].as_array().unwrap() {
        assert_eq!(stage.client.job_ended(job)["status"], "failed");
    }
    let schedule = stage.client.get_schedule(&id);
    assert_eq!(
        (
            &schedule["enabled"],
            &schedule["last_error"],
            &schedule["consecutive_failures"]
        ),
        (&json!(true), &json!(null), &json!(0))
    );
}

#[test]
fn a_paused_schedule_s_instants_can_be_made_up_for_and_are_not_told_of_twice_when_it_goes_on() {
    let stage = Stage::new(Setup::at("2027-01-01T00:05:00Z"));
    let id = stage
        .client
        .schedule(json!({"workflow": "quick", "cron_expr": "0 * * * *", "enabled": false}))["id"]
        .clone();
    stage.server.set_clock("2027-01-01T03:30:00Z");
    let answer = stage
        .client
        .ok("schedules/backfill", range(&id, "01:00", "03:00"));
    assert_eq!(answer["job_ids"].as_array().unwrap().len(), 2);
    stage
        .client
        .ok("schedules/update", json!({"id": id, "enabled": true}));
    stage.server.set_clock("2027-01-01T04:00:00Z");
    stage.client.fired(&id, "2027-01-01T04:00:00.000Z");
    assert_eq!(
        stage.ledger(&id),
        [
            "01:00 fired backfill 0",
            "02:00 fired backfill 0",
            "04:00 fired - 0"
        ]
    );
    wait_until("the runs", PATIENCE, || {
        stage.jobs(&id).iter().all(|job| job["status"] == "completed")
    });
}

#[test]
fn what_is_refused_says_why_and_makes_nothing() {
    let stage = Stage::new(Setup::at("2027-01-02T00:05:00Z"));
    let id = stage
        .client
        .schedule(json!({"workflow": "quick", "cron_expr": "* * * * *"}))["id"]
        .clone();
    let refused = |input: Value| {
        let error = stage.client.refused("schedules/backfill", input, 400);
        error["data"]["issues"][0]["message"].as_str().unwrap().to_owned()
    };
    let same = refused(range(&id, "01:00", "01:00"));
    assert!(
        same.starts_with("to: ") && same.contains("not later than from"),
        "{same}"
    );
    let ahead = refused(json!({"id": id, "from": "2027-01-01T00:00:00Z", "to": "2027-01-02T00:05:01Z"}));
    assert!(
        ahead.contains("2027-01-02T00:05:01.000Z is later than now"),
        "{ahead}"
    );
    let many = refused(range(&id, "00:00", "16:41"));
    assert!(
        many.contains("at least 1001 instants") && many.contains("2027-01-01T16:40:00.000Z"),
        "{many}"
    );
    assert_eq!(
        stage
            .client
            .issues("schedules/backfill", json!({"id": "x", "until": 1})),
        ["", "from", "id", "to"]
    );
    let other = stage.server.tenant("other");
    other.refused("schedules/backfill", range(&id, "00:00", "01:00"), 404);
    let none = stage.client.ok(
        "schedules/backfill",
        json!({"id": id, "from": "2027-01-01T00:00:01Z", "to": "2027-01-01T00:00:59Z"}),
    );
    assert_eq!(none, json!({"success": true, "job_ids": [], "already_fired": 0}));
    stage.client.ok("workflows/delete", json!({"workflow": "quick"}));
    let error = stage
        .client
        .refused("schedules/backfill", range(&id, "00:00", "01:00"), 404);
    assert!(error["message"].as_str().unwrap().contains("quick"), "{error}");
    assert_eq!(stage.jobs(&id).len(), 0);
    // Params that do not fit are the owner's to mend.
    let checked = workflow("quick", "return 1;");
    let schema = json!({"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]});
    stage.client.deploy(
        &Bundle::of(&checked)
            .manifest(&json!([{"name": "quick", "credentialNames": [], "inputSchema": schema}])),
    );
    assert_eq!(
        stage
            .client
            .issues("schedules/backfill", range(&id, "00:00", "01:00")),
        ["params.n"]
    );
}
