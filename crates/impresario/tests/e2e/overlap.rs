//! Instants that come while an earlier run of the same schedule is not finished.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::{Bundle, Client, PATIENCE, Server, Setup, wait_until, workflow};

/// A server at five past midnight with a workflow that runs until a file is there, and one that ends at once.
struct Stage {
    server: Server,
    client: Client,
    dir: TempDir,
}

impl Stage {
    fn new(setup: Setup) -> Self {
        let server = setup.start();
        let client = server.tenant("acme");
        let waits = workflow(
            "gate",
            "const fs = await import('node:fs');
             while (!fs.existsSync(input.open)) await new Promise((done) => setTimeout(done, 20));
             return 1;",
        );
        client.deploy(&Bundle::of(&(waits + &workflow("quick", "return 1;"))));
        Self {
            server,
            client,
            dir: TempDir::new().unwrap(),
        }
    }

    fn gate(&self) -> PathBuf {
        self.dir.path().join("open")
    }

    fn open(&self) {
        std::fs::write(self.gate(), "").unwrap();
    }

    fn hourly(&self, more: Value) -> Value {
        let mut input =
            json!({"workflow": "gate", "cron_expr": "0 * * * *", "params": {"open": self.gate()}});
        for (key, value) in more.as_object().unwrap() {
            input[key] = value.clone();
        }
        self.client.schedule(input)["id"].clone()
    }

    /// Lets an hour come: its row of the ledger.
    #[track_caller]
    fn hour(&self, id: &Value, hour: u32) -> Value {
        let instant = format!("2027-01-01T{hour:02}:00:00.000Z");
        self.server.set_clock(&instant);
        self.client.fired(id, &instant)
    }

    /// A job that was made later and needs a place as well has come and gone: what could start has had its chance.
    fn let_others_by(&self) {
        let job = self.client.run(json!({"workflow": "quick"}));
        assert_eq!(job["status"], "completed");
    }
}

fn outcome(row: &Value) -> (&str, &str) {
    (
        row["outcome"].as_str().unwrap(),
        row["reason"].as_str().unwrap_or("-"),
    )
}

#[test]
fn skip_lets_instants_go_by_until_the_run_has_ended() {
    let stage = Stage::new(Setup::at("2027-01-01T00:05:00Z"));
    let id = stage.hourly(json!({"overlap_policy": "skip"}));
    let first = stage.hour(&id, 1);
    stage.client.job_is(&first["job_id"], "running");
    let second = stage.hour(&id, 2);
    assert_eq!(outcome(&second), ("skipped_overlap", "overlap"));
    assert_eq!(second["job_id"], json!(null));
    assert!(
        second["error"].as_str().unwrap().contains("not finished"),
        "{second}"
    );
    // A skipped instant is no fire: the schedule shows the one before, and no failure.
    let schedule = stage.client.get_schedule(&id);
    assert_eq!(schedule["last_fire_at"], "2027-01-01T01:00:00.000Z");
    assert_eq!(schedule["last_job_id"], first["job_id"]);
    assert_eq!(schedule["consecutive_failures"], 0);
    assert_eq!(schedule["next_fire_at"], "2027-01-01T03:00:00.000Z");
    stage.open();
    stage.client.job_is(&first["job_id"], "completed");
    assert_eq!(outcome(&stage.hour(&id, 3)), ("fired", "-"));
}

#[test]
fn a_run_that_somebody_triggered_is_none_of_the_schedule_s_fires() {
    let stage = Stage::new(Setup::at("2027-01-01T00:05:00Z"));
    let id = stage.hourly(json!({"overlap_policy": "skip"}));
    let job = stage.client.ok("schedules/trigger", json!({"id": id}))["job_id"].clone();
    stage.client.job_is(&job, "running");
    assert_eq!(outcome(&stage.hour(&id, 1)), ("fired", "-"));
    stage.open();
}

#[test]
fn buffer_one_keeps_one_waiting_and_starts_it_when_the_run_has_ended() {
    let stage = Stage::new(Setup::at("2027-01-01T00:05:00Z"));
    let id = stage.hourly(json!({"overlap_policy": "buffer_one"}));
    let first = stage.hour(&id, 1);
    stage.client.job_is(&first["job_id"], "running");
    let second = stage.hour(&id, 2);
    assert_eq!(outcome(&second), ("fired", "buffered"));
    let third = stage.hour(&id, 3);
    assert_eq!(outcome(&third), ("skipped_overlap", "overlap"));
    stage.let_others_by();
    assert_eq!(
        stage.client.job(&second["job_id"])["status"],
        "queued",
        "places are free, and it waits"
    );
    stage.open();
    stage.client.job_is(&first["job_id"], "completed");
    stage.client.job_is(&second["job_id"], "completed");
    assert_eq!(stage.client.get_schedule(&id)["last_job_id"], second["job_id"]);
}

#[test]
fn a_buffered_job_starts_after_a_cancel_and_after_a_crash_as_well() {
    let mut stage = Stage::new(Setup::at("2027-01-01T00:05:00Z"));
    let id = stage.hourly(json!({"overlap_policy": "buffer_one"}));
    let first = stage.hour(&id, 1);
    stage.client.job_is(&first["job_id"], "running");
    let second = stage.hour(&id, 2);
    stage.client.ok("jobs/cancel", json!({"id": first["job_id"]}));
    stage.client.job_is(&second["job_id"], "running");
    let third = stage.hour(&id, 3);
    assert_eq!(outcome(&third), ("fired", "buffered"));
    stage.server.kill();
    stage.server.start_again();
    stage.client.job_is(&second["job_id"], "failed");
    stage.client.job_is(&third["job_id"], "running");
    // One that waits can be cancelled, and then the next instant may wait in its place.
    let fourth = stage.hour(&id, 4);
    stage.client.ok("jobs/cancel", json!({"id": fourth["job_id"]}));
    assert_eq!(outcome(&stage.hour(&id, 5)), ("fired", "buffered"));
    stage.open();
}

#[test]
fn cancel_running_ends_the_run_and_then_starts_the_new_one() {
    let stage = Stage::new(Setup::at("2027-01-01T00:05:00Z"));
    let id = stage.hourly(json!({"overlap_policy": "cancel_running"}));
    let first = stage.hour(&id, 1);
    assert_eq!(outcome(&first), ("fired", "-"));
    stage.client.job_is(&first["job_id"], "running");
    let second = stage.hour(&id, 2);
    assert_eq!(outcome(&second), ("fired", "replaced"));
    let first = stage.client.job_is(&first["job_id"], "cancelled");
    let second = stage.client.job_is(&second["job_id"], "running");
    let started: jiff::Timestamp = second["started_at"].as_str().unwrap().parse().unwrap();
    let ended: jiff::Timestamp = first["completed_at"].as_str().unwrap().parse().unwrap();
    assert!(started >= ended, "{first} {second}");
    stage.open();
    stage.client.job_is(&second["job_id"], "completed");
    assert_eq!(stage.client.get_schedule(&id)["consecutive_failures"], 0);
}

#[test]
fn cancel_running_takes_the_place_of_what_only_waits_at_once() {
    let stage = Stage::new(Setup::at("2027-01-01T00:05:00Z").job_slots(1));
    let blocker = stage
        .client
        .create_job(json!({"workflow": "gate", "params": {"open": stage.gate()}}));
    stage.client.job_is(&blocker, "running");
    let id = stage.hourly(json!({"overlap_policy": "cancel_running"}));
    let first = stage.hour(&id, 1);
    let second = stage.hour(&id, 2);
    assert_eq!(outcome(&second), ("fired", "replaced"));
    assert_eq!(stage.client.job(&first["job_id"])["status"], "cancelled");
    assert_eq!(stage.client.job(&second["job_id"])["status"], "queued");
    stage.open();
    stage.client.job_is(&second["job_id"], "completed");
}

#[test]
fn allow_runs_side_by_side() {
    let stage = Stage::new(Setup::at("2027-01-01T00:05:00Z"));
    let id = stage.hourly(json!({}));
    let jobs = [1, 2, 3].map(|hour| stage.hour(&id, hour)["job_id"].clone());
    for job in &jobs {
        stage.client.job_is(job, "running");
    }
    stage.open();
}

/// How many jobs of the schedule are not finished, and the instants of those that have begun to exist, oldest first.
fn jobs_of(client: &Client, id: &Value) -> (usize, usize) {
    let answer = client.ok("jobs/list", json!({"schedule_id": id, "limit": 100}));
    let jobs = answer["jobs"].as_array().unwrap().clone();
    let unfinished = jobs
        .iter()
        .filter(|job| ["queued", "starting_browser", "running"].contains(&job["status"].as_str().unwrap()))
        .count();
    (unfinished, jobs.len())
}

#[test]
fn missed_instants_are_made_up_for_one_by_one_beside_what_comes() {
    let mut stage = Stage::new(Setup::at("2027-01-01T00:05:00Z"));
    let id = stage.hourly(json!({"misfire_policy": "fire_all"}));
    stage.server.kill();
    stage.server.write_clock("2027-01-01T05:30:00Z");
    stage.server.start_again();
    let first = stage.client.fired(&id, "2027-01-01T01:00:00.000Z");
    stage.client.job_is(&first["job_id"], "running");
    let schedule = stage.client.get_schedule(&id);
    assert_eq!(
        (&schedule["catching_up"], &schedule["next_fire_at"]),
        (&json!(4), &json!("2027-01-01T06:00:00.000Z"))
    );
    stage.let_others_by();
    assert_eq!(jobs_of(&stage.client, &id), (1, 1), "the others wait for it");
    // What comes is on time, beside what is made up for.
    let live = stage.hour(&id, 6);
    stage.client.job_is(&live["job_id"], "running");
    assert_eq!(jobs_of(&stage.client, &id), (2, 2));
    stage.open();
    wait_until("the end of the backlog", PATIENCE, || {
        stage.client.get_schedule(&id)["catching_up"] == 0 && jobs_of(&stage.client, &id) == (0, 6)
    });
    let history = stage.client.history(&id);
    assert_eq!(history.len(), 6, "{history:?}");
    let created: Vec<String> = history
        .iter()
        .rev()
        .map(|row| stage.client.job(&row["job_id"]))
        .inspect(|job| assert_eq!(job["status"], "completed"))
        .map(|job| job["job_id"].as_str().unwrap().to_owned())
        .collect();
    // Ids sort by the time of their making: oldest first, but for the live one, which came second.
    let mut by_age = created.clone();
    by_age.sort();
    let order: Vec<_> = by_age
        .iter()
        .map(|job| created.iter().position(|other| other == job).unwrap() + 1)
        .collect();
    assert_eq!(order, [1, 6, 2, 3, 4, 5]);
    assert_eq!(
        stage.client.get_schedule(&id)["last_fire_at"],
        "2027-01-01T06:00:00.000Z",
        "the newest by its instant"
    );
}

#[test]
fn a_backlog_takes_turns_with_what_comes_where_runs_must_not_overlap() {
    for policy in ["skip", "buffer_one", "cancel_running"] {
        let mut stage = Stage::new(Setup::at("2027-01-01T00:05:00Z"));
        let id = stage.hourly(json!({"misfire_policy": "fire_all", "overlap_policy": policy}));
        stage.server.kill();
        stage.server.write_clock("2027-01-01T03:30:00Z");
        stage.server.start_again();
        let first = stage.client.fired(&id, "2027-01-01T01:00:00.000Z");
        stage.client.job_is(&first["job_id"], "running");
        // It waits for the run that makes up for one, and neither goes by nor ends it.
        let live = stage.hour(&id, 4);
        assert_eq!(outcome(&live), ("fired", "buffered"), "{policy}");
        assert_eq!(
            stage.client.job(&first["job_id"])["status"],
            "running",
            "{policy}"
        );
        stage.client.ok("jobs/cancel", json!({"id": first["job_id"]}));
        stage.client.job_is(&live["job_id"], "running");
        stage.let_others_by();
        assert_eq!(
            stage.client.get_schedule(&id)["catching_up"],
            2,
            "{policy}: the backlog waits in turn"
        );
        stage.open();
        wait_until("the end of the backlog", PATIENCE, || {
            stage.client.get_schedule(&id)["catching_up"] == 0 && jobs_of(&stage.client, &id) == (0, 4)
        });
    }
}

#[test]
fn a_year_of_downtime_makes_no_burst_and_a_pause_ends_it() {
    let mut stage = Stage::new(Setup::at("2027-01-01T00:05:00Z"));
    let all =
        json!({"cron_expr": "* * * * *", "misfire_policy": "fire_all", "catchup_window_seconds": 31_622_400});
    let (id, other) = (stage.hourly(all), stage.hourly(json!({"cron_expr": "* * * * *"})));
    stage.server.kill();
    stage.server.write_clock("2027-12-31T00:00:30Z");
    stage.server.start_again();
    let first = stage.client.fired(&id, "2027-12-30T07:20:00.000Z");
    stage.client.job_is(&first["job_id"], "running");
    // The newest is on time, so it is not among those that wait.
    let schedule = stage.client.get_schedule(&id);
    assert_eq!(schedule["catching_up"], 999);
    let history = stage.client.history(&id);
    let shown: Vec<_> = history.iter().map(|row| (outcome(row), &row["missed"])).collect();
    assert_eq!(
        shown,
        [
            (("fired", "-"), &json!(0)),
            (("fired", "-"), &json!(0)),
            (("missed", "over_limit"), &json!(100_000))
        ]
    );
    assert_eq!(jobs_of(&stage.client, &id), (2, 2));
    let once = stage.client.history(&other);
    assert_eq!(once.len(), 2, "{once:?}");
    stage
        .client
        .ok("schedules/update", json!({"id": id, "enabled": false}));
    let history = stage.client.history(&id);
    let retired = history.iter().find(|row| row["reason"] == "retired").unwrap();
    assert_eq!(
        (&retired["missed"], &retired["fire_at"], &retired["missed_until"]),
        (
            &json!(999),
            &json!("2027-12-30T07:21:00.000Z"),
            &json!("2027-12-30T23:59:00.000Z")
        )
    );
    assert_eq!(stage.client.get_schedule(&id)["catching_up"], 0);
    stage.open();
}
