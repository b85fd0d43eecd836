//! Several nodes on one database.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::support::{
    Bundle, Client, PATIENCE, Receiver, Request, Server, Setup, assert_signed, signal_pid, wait_for,
    wait_until,
};

const SECRET: &str = "whsec_c2VjcmV0IG9mIHRoZSBub2RlcyB0ZXN0cw";
const START: &str = "2027-01-01T00:00:30Z";

/// Notes that it began, and returns once the file `<note>.go` is there.
const WAITS: &str = r#"
    const fs = await import("node:fs");
    fs.appendFileSync(input.note, "began\n");
    while (!fs.existsSync(input.note + ".go")) await new Promise((done) => setTimeout(done, 20));
    return "done";
"#;

fn bundle() -> Bundle {
    let workflow = crate::support::workflow;
    Bundle::of(&format!(
        "{}{}",
        workflow("waits", WAITS),
        workflow("quick", "return 'quick';")
    ))
}

fn began(note: &Path) -> usize {
    fs::read_to_string(note).map_or(0, |text| text.lines().count())
}

/// Waits until the note says that a run has begun.
fn has_begun(note: &Path) {
    wait_until("the run to begin", PATIENCE, || began(note) == 1);
}

fn waiting(client: &Client, note: &Path) -> Value {
    client.create_job(json!({"workflow": "waits", "params": {"note": note}}))
}

#[test]
fn each_node_does_its_part_and_an_instant_has_one_job() {
    let front = Setup::at(START).shared().roles("api,scheduler").start();
    let mut back = front.node(Setup::at(START).roles("worker,delivery"));
    back.start_again();
    let mut spare = front.node(Setup::at(START).roles("api,scheduler"));
    spare.start_again();
    let (client, receiver) = (front.tenant("acme"), Receiver::start());
    // Accepted here, built there.
    client.deploy(&bundle());
    let schedule = client.schedule(json!({
        "workflow": "quick", "cron_expr": "* * * * *",
        "callback_url": receiver.url(), "callback_secret": SECRET,
    }))["id"]
        .clone();
    for minute in 1..=3 {
        let at = format!("2027-01-01T00:0{minute}:00.000Z");
        // Both schedulers come to it at once.
        for node in [&back, &front, &spare] {
            node.write_clock(&at);
        }
        let fire = client.fired(&schedule, &at);
        assert_eq!(client.job_ended(&fire["job_id"])["result"], "quick");
        let callback = receiver.wait(minute).pop().unwrap();
        assert_eq!(assert_signed(&callback, SECRET)["job_id"], fire["job_id"]);
    }
    let history = client.ok("schedules/history", json!({"id": schedule}));
    assert_eq!(history["fires"].as_array().unwrap().len(), 3, "{history}");
    let jobs = client.ok("jobs/list", json!({}));
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 3, "{jobs}");
    // A node without the role says so, and is well all the same.
    let request = Request::post("/v1/schedules/list", &json!({"json": {}}));
    let answer = back.client(client.key()).send(&request);
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(
        Request::get("/health/ready")
            .send(back.client(client.key()).address())
            .unwrap()
            .status,
        200
    );
    // The other front sees what this one made.
    let shown = spare.client(client.key()).get_schedule(&schedule);
    assert_eq!(shown["last_fire_at"], "2027-01-01T00:03:00.000Z");
}

#[test]
fn a_run_is_cancelled_from_another_node_with_or_without_hints() {
    for hints in [true, false] {
        let setup = || match hints {
            true => Setup::at(START),
            false => Setup::at(START).without_hints(),
        };
        let front = setup().shared().roles("api,scheduler").start();
        let mut back = front.node(setup());
        back.start_again();
        let client = front.tenant("acme");
        client.deploy(&bundle());
        let folder = tempfile::tempdir().unwrap();
        let note = folder.path().join("note");
        let job = waiting(&client, &note);
        has_begun(&note);
        let done = client.ok("jobs/cancel", json!({"id": job}));
        assert_eq!(done["message"], "the job's processes were ended", "{done}");
        assert_eq!(client.job(&job)["status"], "cancelled");
        assert_eq!(back.run_processes(), [] as [u32; 0]);
    }
}

#[test]
fn what_a_dead_node_held_is_settled_by_the_others_and_runs_nowhere_twice() {
    let front = Setup::at(START).shared().roles("api,scheduler").start();
    let mut first = front.node(Setup::at(START).job_slots(1));
    first.start_again();
    let (client, receiver) = (front.tenant("acme"), Receiver::start());
    client.ok(
        "webhooks/create",
        json!({"url": receiver.url(), "signing_secret": SECRET}),
    );
    client.deploy(&bundle());
    let folder = tempfile::tempdir().unwrap();
    let notes = ["lost", "queued"].map(|name| folder.path().join(name));
    let lost = waiting(&client, &notes[0]);
    has_begun(&notes[0]);
    let queued = waiting(&client, &notes[1]);
    first.kill();
    // Both are let go: whoever ran the lost one again would be seen.
    for note in &notes {
        let mut go = note.clone().into_os_string();
        go.push(".go");
        fs::write(go, "").unwrap();
    }
    let mut second = front.node(Setup::at(START));
    second.start_again();
    let ended = client.job_ended(&lost);
    assert_eq!(
        (&ended["status"], &ended["failure_class"]),
        (&json!("failed"), &json!("worker_lost"))
    );
    assert_eq!(client.job_ended(&queued)["status"], "completed");
    assert_eq!((began(&notes[0]), began(&notes[1])), (1, 1));
    let told: Vec<Value> = receiver
        .wait(2)
        .iter()
        .map(|one| assert_signed(one, SECRET)["event"].clone())
        .collect();
    assert!(
        told.contains(&json!("job.failed")) && told.contains(&json!("job.completed")),
        "{told:?}"
    );
}

#[test]
fn a_frozen_node_writes_nothing_once_its_lease_has_run_out() {
    let front = Setup::at(START).shared().roles("api,scheduler").start();
    let mut frozen = front.node(Setup::at(START));
    frozen.start_again();
    let client = front.tenant("acme");
    client.deploy(&bundle());
    let folder = tempfile::tempdir().unwrap();
    let note = folder.path().join("note");
    let job = waiting(&client, &note);
    has_begun(&note);
    signal_pid(frozen.pid(), "STOP");
    let ended = client.job_ended(&job);
    assert_eq!(ended["failure_class"], "worker_lost", "{ended}");
    // Its run goes on by itself and would end well.
    let mut go = note.into_os_string();
    go.push(".go");
    fs::write(go, "").unwrap();
    signal_pid(frozen.pid(), "CONT");
    wait_for("the woken node to see it", PATIENCE, || {
        let log = frozen.log();
        if log.contains("not held any more") || log.contains("leases have run out") {
            Ok(())
        } else {
            Err(log)
        }
    });
    assert_eq!(client.job(&job), ended, "nothing of the end it saw is written");
    let next = client.create_job(json!({"workflow": "quick"}));
    assert_eq!(client.job_ended(&next)["status"], "completed");
}

#[test]
fn nodes_share_the_key_and_the_tables_and_say_what_is_missing() {
    let server = Setup::at(START).shared().start();
    let other = server.node(Setup::at(START));
    fs::remove_file(other.data_dir().join("secret.key")).unwrap();
    let (_, without) = other.cli_fails(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(
        without.contains("this one has no key") && without.contains("secret.key"),
        "{without}"
    );
    assert!(
        !other.data_dir().join("secret.key").exists(),
        "it makes none of its own"
    );
    // Tables that were put back elsewhere are not gone on with by guess.
    let (_, running) = server.cli_fails(&["restored"]);
    assert!(running.contains("stop them all first"), "{running}");
    let mut server = server;
    server.terminate();
    server.ended();
    server.database().put_back();
    let (_, elsewhere) = server.cli_fails(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(
        elsewhere.contains("impresario restored --only-moved"),
        "{elsewhere}"
    );
    server.cli(&["restored", "--only-moved"]);
    server.start_again();
    server.terminate();
    server.ended();
    server.start_again();
}

#[test]
fn a_database_without_tables_is_not_served() {
    let server = Setup::at(START).shared().start();
    let mut other: Server = Setup::at(START).shared().unstarted();
    other.database().drop_tables();
    let (_, refused) = other.cli_fails(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(refused.contains("run `impresario migrate`"), "{refused}");
    other.cli(&["migrate"]);
    other.start_again();
    drop(server);
}
