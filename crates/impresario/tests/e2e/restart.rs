//! What a server that is killed, or told to end, leaves to the next one on the same data directory.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    Bundle, Client, PATIENCE, Receiver, Reply, Server, Setup, alive, assert_signed, wait_for, wait_until,
};

const SECRET: &str = "whsec_c2VjcmV0IG9mIHRoZSByZXN0YXJ0IHRlc3Rz";

/// Starts a process that detaches itself, notes that it began with the id of that process, and returns once the file
/// `<note>.go` is there.
const NOTES: &str = r#"
    const fs = await import("node:fs");
    const { spawn } = await import("node:child_process");
    const stray = spawn("/bin/sleep", ["600"], { detached: true, stdio: "ignore" });
    stray.unref();
    fs.appendFileSync(input.note, stray.pid + "\n");
    while (!fs.existsSync(input.note + ".go")) await new Promise((done) => setTimeout(done, 20));
    return "done";
"#;

struct Stage {
    server: Server,
    client: Client,
    receiver: Receiver,
    notes: tempfile::TempDir,
}

impl Stage {
    fn new(setup: Setup) -> Self {
        let server = setup.start();
        let client = server.tenant("acme");
        client.deploy(&Bundle::of(&format!(
            "{}{}",
            crate::support::workflow("notes", NOTES),
            crate::support::workflow("quick", "return 'quick';"),
        )));
        Self {
            server,
            client,
            receiver: Receiver::start(),
            notes: tempfile::tempdir().unwrap(),
        }
    }

    fn note(&self, name: &str) -> PathBuf {
        self.notes.path().join(name)
    }

    /// Queues a job that waits to be let go.
    fn waiting_job(&self, name: &str) -> Value {
        self.client.create_job(json!({
            "workflow": "notes", "params": {"note": self.note(name)},
            "callback_url": self.receiver.url(), "callback_secret": SECRET,
        }))
    }

    fn quick_job(&self) -> Value {
        self.client.create_job(json!({
            "workflow": "quick", "callback_url": self.receiver.url(), "callback_secret": SECRET,
        }))
    }
}

/// The detached processes of each beginning, once there is one.
fn began(note: &Path) -> Vec<u64> {
    wait_for("the workflow to begin", PATIENCE, || {
        let text = fs::read_to_string(note).map_err(|error| error.to_string())?;
        let pids: Option<Vec<u64>> = text.lines().map(|line| line.parse().ok()).collect();
        pids.filter(|pids| text.ends_with('\n') && !pids.is_empty())
            .ok_or(text)
    })
}

fn let_go(note: &Path) {
    let mut go = note.as_os_str().to_owned();
    go.push(".go");
    fs::write(go, "").unwrap();
}

#[test]
fn after_kill_9_a_running_job_is_lost_once_and_a_queued_one_runs() {
    let mut stage = Stage::new(Setup::at("2027-01-01T00:00:30Z").job_slots(1));
    let note = stage.note("running");
    let running = stage.waiting_job("running");
    let pid = began(&note)[0];
    stage.client.job_is(&running, "running");
    let queued = stage.quick_job();
    assert_eq!(stage.client.job(&queued)["status"], "queued");

    stage.server.kill();
    assert!(
        alive(pid),
        "the stray process outlives its server, or this test shows nothing"
    );
    stage.server.start_again();
    assert!(!alive(pid), "the next server ends what the last one left");
    let lost = stage.client.job_ended(&running);
    assert_eq!(
        (&lost["status"], &lost["failure_class"]),
        (&json!("failed"), &json!("worker_lost"))
    );
    assert!(
        lost["error"].as_str().unwrap().contains("not run again"),
        "{lost}"
    );
    let ran = stage.client.job_ended(&queued);
    assert_eq!(
        (&ran["status"], &ran["attempt"]),
        (&json!("completed"), &json!(1))
    );

    let mut events: Vec<(Value, Value)> = Vec::new();
    for callback in stage.receiver.wait(2) {
        let body = assert_signed(&callback, SECRET);
        events.push((body["event"].clone(), body["job_id"].clone()));
    }
    assert!(
        events.contains(&(json!("job.failed"), running.clone())),
        "{events:?}"
    );
    assert!(events.contains(&(json!("job.completed"), queued)), "{events:?}");
    assert_eq!(began(&note), [pid], "it was not run again");
    assert_eq!(stage.client.job(&running)["attempt"], 1);
}

#[test]
fn after_kill_9_a_lost_scheduled_job_counts_as_a_failure_of_its_schedule() {
    let mut stage = Stage::new(Setup::at("2027-01-01T00:00:30Z"));
    let note = stage.note("scheduled");
    let schedule = stage.client.schedule(json!({
        "workflow": "notes", "params": {"note": note}, "cron_expr": "1 0 * * *",
    }));
    stage.server.set_clock("2027-01-01T00:01:00Z");
    began(&note);
    stage.server.kill();
    stage.server.start_again();
    let job = stage.client.get_schedule(&schedule["id"])["last_job_id"].clone();
    let job = stage.client.job_ended(&job);
    let after = stage.client.get_schedule(&schedule["id"]);
    assert_eq!(job["failure_class"], "worker_lost");
    assert_eq!(
        (&after["last_error"], &after["consecutive_failures"]),
        (&job["error"], &json!(1))
    );
    assert_eq!(stage.client.history(&schedule["id"]).len(), 1);
}

#[test]
fn a_server_that_was_down_fires_the_newest_missed_instant_and_counts_the_others() {
    let mut stage = Stage::new(Setup::at("2027-01-01T00:00:30Z"));
    let create = |cron: &str| {
        stage
            .client
            .schedule(json!({"workflow": "quick", "cron_expr": cron}))["id"]
            .clone()
    };
    let (every_minute, once, later) = (create("* * * * *"), create("3 0 * * *"), create("30 0 * * *"));
    stage.server.kill();
    stage.server.write_clock("2027-01-01T00:05:10Z");
    stage.server.start_again();

    let client = &stage.client;
    let fire = client.fired(&every_minute, "2027-01-01T00:05:00.000Z");
    assert_eq!(
        (&fire["outcome"], &fire["fired_at"]),
        (&json!("fired"), &json!("2027-01-01T00:05:10.000Z"))
    );
    assert_eq!(client.job_ended(&fire["job_id"])["status"], "completed");
    let history = client.history(&every_minute);
    assert_eq!(history.len(), 2, "{history:?}");
    assert_eq!(history[0]["missed"], 4, "what the fire makes up for");
    let newest = client.ok(
        "schedules/history",
        json!({"id": every_minute, "limit": 1, "cursor": null}),
    );
    assert_eq!(
        newest["fires"],
        json!([history[0]]),
        "though the range is on the next page"
    );
    let cursor = &newest["next_cursor"];
    let rest = client.ok(
        "schedules/history",
        json!({"id": every_minute, "limit": 1, "cursor": cursor}),
    );
    assert_eq!(
        (&rest["fires"], &rest["next_cursor"]),
        (&json!([history[1]]), &json!(null))
    );
    let missed = &history[1];
    assert_eq!(
        (&missed["outcome"], &missed["missed"]),
        (&json!("missed"), &json!(4))
    );
    assert_eq!(
        (&missed["fire_at"], &missed["job_id"]),
        (&json!("2027-01-01T00:01:00.000Z"), &json!(null))
    );
    let after = client.get_schedule(&every_minute);
    assert_eq!(after["last_fire_at"], "2027-01-01T00:05:00.000Z");
    assert_eq!(after["next_fire_at"], "2027-01-01T00:06:00.000Z");
    // Missed instants are no failures.
    assert_eq!(
        (&after["last_error"], &after["consecutive_failures"]),
        (&json!(null), &json!(0))
    );

    let fire = client.fired(&once, "2027-01-01T00:03:00.000Z");
    assert_eq!(
        client.job_ended(&fire["job_id"])["fire_at"],
        "2027-01-01T00:03:00.000Z"
    );
    assert_eq!(client.history(&once).len(), 1);
    assert_eq!(client.history(&later), Vec::<Value>::new());

    // A second restart at the same time fires nothing twice.
    stage.server.kill();
    stage.server.start_again();
    stage.server.set_clock("2027-01-01T00:06:00Z");
    stage.client.fired(&every_minute, "2027-01-01T00:06:00.000Z");
    assert_eq!(stage.client.history(&every_minute).len(), 3);
    let jobs = stage.client.ok("jobs/list", json!({"schedule_id": every_minute}));
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 2, "{jobs}");
}

#[test]
fn a_delivery_that_waits_for_its_retry_is_made_after_kill_9_with_the_same_id_and_body() {
    let mut stage = Stage::new(Setup::at("2027-01-01T00:00:30Z"));
    stage.receiver.reply([Reply::Status(500)]);
    let job = stage.quick_job();
    let first = stage.receiver.wait(1)[0].clone();
    let pending = wait_for("the attempt on record", PATIENCE, || {
        let found = stage.client.ok("webhooks/deliveries", json!({"job_id": job}))["deliveries"][0].clone();
        if found["attempts"] == 1 {
            Ok(found)
        } else {
            Err(found.to_string())
        }
    });
    assert_eq!(
        (&pending["status"], &pending["last_status_code"]),
        (&json!("pending"), &json!(500))
    );

    stage.server.kill();
    stage.server.write_clock("2027-01-01T00:01:00Z");
    stage.server.start_again();
    let second = stage.receiver.wait(2)[1].clone();
    assert_signed(&second, SECRET);
    assert_eq!(second.header("webhook-id"), first.header("webhook-id"));
    assert_eq!(second.body, first.body);
    assert_ne!(
        second.header("webhook-timestamp"),
        first.header("webhook-timestamp")
    );
}

#[test]
fn a_delivery_that_was_under_way_at_kill_9_is_made_again_with_the_same_id() {
    let mut stage = Stage::new(Setup::at("2027-01-01T00:00:30Z"));
    stage.receiver.reply([Reply::Hang]);
    let job = stage.quick_job();
    let first = stage.receiver.wait(1)[0].clone();
    stage.server.kill();
    stage.server.start_again();
    let second = stage.receiver.wait(2)[1].clone();
    assert_eq!(assert_signed(&second, SECRET)["job_id"], job);
    assert_eq!(second.header("webhook-id"), first.header("webhook-id"));
    assert_eq!(second.body, first.body);
}

#[test]
fn sigterm_lets_a_run_finish_starts_nothing_new_and_keeps_the_queue() {
    let mut stage = Stage::new(Setup::at("2027-01-01T00:00:30Z").job_slots(1).grace(40));
    let note = stage.note("finishing");
    let running = stage.waiting_job("finishing");
    began(&note);
    let queued = stage.quick_job();
    stage.server.terminate();
    wait_until("the server to take no more requests", PATIENCE, || {
        std::net::TcpStream::connect_timeout(&stage.client.address(), Duration::from_secs(1)).is_err()
    });
    let_go(&note);
    let status = stage.server.ended();
    assert_eq!(status.code(), Some(0));
    assert_eq!(stage.server.run_processes(), Vec::<u32>::new());

    stage.server.start_again();
    let ended = stage.client.job(&running);
    assert_eq!(
        (&ended["status"], &ended["result"]),
        (&json!("completed"), &json!("done"))
    );
    assert_eq!(stage.client.job_ended(&queued)["status"], "completed");
    stage.receiver.wait(2);
}

#[test]
fn sigterm_ends_what_does_not_finish_in_time_and_says_so() {
    let mut stage = Stage::new(Setup::at("2027-01-01T00:00:30Z").grace(1));
    let note = stage.note("endless");
    let running = stage.waiting_job("endless");
    let pid = began(&note)[0];
    stage.server.terminate();
    assert_eq!(stage.server.ended().code(), Some(0));
    assert!(!alive(pid));
    stage.server.start_again();
    let ended = stage.client.job(&running);
    assert_eq!(
        (&ended["status"], &ended["failure_class"]),
        (&json!("failed"), &json!("worker_lost"))
    );
    assert_eq!(
        assert_signed(&stage.receiver.wait(1)[0], SECRET)["event"],
        "job.failed"
    );
    assert_eq!(began(&note).len(), 1);
}

#[test]
fn a_second_server_on_a_data_directory_refuses_to_start_and_the_first_goes_on() {
    let stage = Stage::new(Setup::at("2027-01-01T00:00:30Z"));
    let (status, stderr) = stage.server.start_another();
    assert!(!status.success());
    assert!(
        stderr.contains("another server is running on the data directory"),
        "{stderr}"
    );
    assert_eq!(
        stage.client.run(json!({"workflow": "quick"}))["status"],
        "completed"
    );
}

#[test]
fn what_was_acknowledged_is_there_after_kill_9() {
    let mut stage = Stage::new(Setup::at("2027-01-01T00:00:30Z"));
    let before = stage.client.schedule(json!({
        "workflow": "quick", "cron_expr": "@daily", "timezone": "Asia/Tokyo", "params": {"a": [1, null, "é"]},
        "viewport": {"width": 800, "height": 600}, "start_url": "https://example.com/", "gpu": true,
        "residential_proxy": {"country": "de", "city": "berlin"},
    }));
    stage.server.kill();
    stage.server.start_again();
    assert_eq!(stage.client.get_schedule(&before["id"]), before);
    let other = stage.server.tenant("made-after");
    assert_eq!(other.ok("schedules/list", json!({}))["schedules"], json!([]));
}
