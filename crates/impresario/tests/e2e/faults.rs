//! Crowds, kills at bad moments, and parts that are broken: what must hold all the same.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    Bundle, Client, PATIENCE, Receiver, Reply, Server, Setup, assert_signed, wait_for, workflow,
};

const WAIT: &str = "await new Promise((done) => setTimeout(done, 600_000));";

fn begin(setup: Setup) -> (Server, Client) {
    let server = setup.start();
    let client = server.tenant("acme");
    let source = format!("{}{}", workflow("quick", "return 1;"), workflow("wait", WAIT));
    client.deploy(&Bundle::of(&source));
    (server, client)
}

/// All jobs of a client, however many pages they fill.
fn all_jobs(client: &Client) -> Vec<Value> {
    let mut jobs = Vec::new();
    let mut input = json!({"limit": 100});
    loop {
        let answer = client.ok("jobs/list", input.clone());
        jobs.extend(answer["jobs"].as_array().unwrap().iter().cloned());
        if answer["next_cursor"].is_null() {
            return jobs;
        }
        input["cursor"] = answer["next_cursor"].clone();
    }
}

#[test]
fn more_schedules_than_one_batch_holds_fire_once_each_at_their_common_minute() {
    const MANY: usize = 620;
    let (server, client) = begin(Setup::at("2027-01-01T00:00:30Z").job_slots(1));
    // The only slot is taken, so the jobs stay in the queue and can be counted in peace.
    let taken = client.create_job(json!({"workflow": "wait"}));
    client.job_is(&taken, "running");
    let input = json!({"workflow": "quick", "cron_expr": "* * * * *"});
    let mut ids: Vec<String> = std::thread::scope(|scope| {
        let making: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let ids = (0..MANY / 4).map(|_| client.schedule(input.clone())["id"].to_string());
                    ids.collect::<Vec<_>>()
                })
            })
            .collect();
        making.into_iter().flat_map(|one| one.join().unwrap()).collect()
    });
    server.set_clock("2027-01-01T00:01:00Z");
    let jobs = wait_for("a job of every schedule", PATIENCE, || {
        let jobs = all_jobs(&client);
        if jobs.len() > MANY {
            Ok(jobs)
        } else {
            Err(jobs.len().to_string())
        }
    });
    let scheduled = jobs.iter().filter(|job| job["schedule_id"].is_string());
    let mut owners: Vec<String> = scheduled.map(|job| job["schedule_id"].to_string()).collect();
    ids.sort();
    owners.sort();
    assert_eq!(owners, ids);
}

#[test]
fn kill_9_around_a_fire_neither_loses_nor_doubles_it() {
    let (mut server, client) = begin(Setup::at("2027-01-01T00:00:30Z").job_slots(1));
    let create = || client.schedule(json!({"workflow": "quick", "cron_expr": "* * * * *"}))["id"].clone();
    let ids = [create(), create(), create()];
    const ROUNDS: u32 = 14;
    for round in 1..=ROUNDS {
        server.write_clock(&format!("2027-01-01T00:{round:02}:00Z"));
        // The server looks at the clock file every 5 ms, then writes: the kill comes before, within and after.
        std::thread::sleep(Duration::from_millis(u64::from(round) * 2));
        server.kill();
        server.start_again();
        for id in &ids {
            client.fired(id, &format!("2027-01-01T00:{round:02}:00.000Z"));
        }
    }
    for id in &ids {
        let mut history = client.history(id);
        history.reverse();
        let fires: Vec<_> = history
            .iter()
            .map(|row| (&row["fire_at"], &row["outcome"], &row["missed"]))
            .collect();
        let instants: Vec<Value> = (1..=ROUNDS)
            .map(|round| json!(format!("2027-01-01T00:{round:02}:00.000Z")))
            .collect();
        let expected: Vec<_> = instants
            .iter()
            .map(|at| (at, &history[0]["outcome"], &history[0]["missed"]))
            .collect();
        assert_eq!(history[0]["outcome"], "fired");
        assert_eq!(fires, expected);
        let jobs = client.ok("jobs/list", json!({"schedule_id": id, "limit": 100}));
        assert_eq!(jobs["jobs"].as_array().unwrap().len(), ROUNDS as usize);
    }
}

#[test]
fn a_change_at_the_instant_of_a_fire_neither_loses_it_nor_fires_it_twice() {
    const MINUTES: u32 = 30;
    let (server, client) = begin(Setup::at("2027-01-01T00:00:30Z"));
    let id = client.schedule(json!({"workflow": "quick", "cron_expr": "* * * * *"}))["id"].clone();
    let mut changes = ["*/1 * * * *", "* * * * *"]
        .into_iter()
        .cycle()
        .map(|cron| client.ok("schedules/update", json!({"id": id, "cron_expr": cron}))["schedule"].clone());
    for minute in 1..=MINUTES {
        let at = format!("2027-01-01T00:{minute:02}:00.000Z");
        server.write_clock(&at);
        // Changes without a pause, so that one is made in the moment in which the clock strikes: the first that is
        // answered after it must find the fire accounted for, whoever came first.
        let after = changes
            .by_ref()
            .take(10_000)
            .find(|after| after["updated_at"] == at)
            .expect("the clock to strike");
        assert_eq!(after["last_fire_at"], at);
        assert_eq!(
            after["next_fire_at"],
            format!("2027-01-01T00:{:02}:00.000Z", minute + 1)
        );
    }
    let history = client.history(&id);
    assert_eq!(history.len(), MINUTES as usize);
    assert!(history.iter().all(|row| row["outcome"] == "fired"), "{history:?}");
}

#[test]
fn a_clock_that_jumps_ten_years_fires_once_and_holds_nobody_up() {
    let (server, client) = begin(Setup::at("2027-01-01T00:00:30Z").job_slots(1));
    let input = json!({"workflow": "quick", "cron_expr": "* * * * *", "timezone": "America/New_York"});
    let ids: Vec<Value> = (0..20)
        .map(|_| client.schedule(input.clone())["id"].clone())
        .collect();
    server.set_clock("2037-01-01T00:00:30Z");
    let asked = Instant::now();
    client.schedule(input);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    for id in &ids {
        client.fired(id, "2037-01-01T00:00:00.000Z");
        let history = client.history(id);
        let outcomes: Vec<&Value> = history.iter().map(|row| &row["outcome"]).collect();
        assert_eq!(outcomes, ["fired", "missed"]);
        assert_eq!(history[1]["fire_at"], "2027-01-01T00:01:00.000Z");
        assert!(
            history[1]["missed"].as_u64().unwrap() >= 100_000,
            "counted as far as it is counted"
        );
        assert_eq!(
            client.get_schedule(id)["next_fire_at"],
            "2037-01-01T00:01:00.000Z"
        );
    }
}

#[test]
fn jobs_run_in_order_and_no_more_at_once_than_there_are_slots() {
    let server = Setup::at("2027-01-01T00:00:30Z").job_slots(2).start();
    let client = server.tenant("acme");
    let notes = tempfile::tempdir().unwrap();
    let note = notes.path().join("note");
    client.deploy(&Bundle::with(
        "w",
        "const fs = await import('node:fs'); const say = (what) => fs.appendFileSync(input.note, what + input.n + '\\n');
         say('+'); await new Promise((done) => setTimeout(done, 300)); say('-');",
    ));
    let jobs: Vec<Value> = (0..6)
        .map(|n| {
            server.set_clock(&format!("2027-01-01T00:00:4{n}Z"));
            client.create_job(json!({"workflow": "w", "params": {"note": note, "n": n}}))
        })
        .collect();
    for job in &jobs {
        assert_eq!(client.job_ended(job)["status"], "completed");
    }
    let text = fs::read_to_string(note).unwrap();
    let (mut now, mut most) = (0, 0);
    for line in text.lines() {
        now += if line.starts_with('+') { 1 } else { -1 };
        most = most.max(now);
    }
    assert_eq!((now, most), (0, 2), "{text}");
    let started: Vec<&str> = text.lines().filter(|line| line.starts_with('+')).collect();
    // Two that are claimed together may begin in either order.
    let place = |n: usize| started.iter().position(|line| *line == format!("+{n}")).unwrap();
    assert!((0..6).all(|n| place(n).abs_diff(n) <= 1), "{text}");
}

/// A Chromium that hangs for as long as a file is there, and is the real one otherwise.
fn hanging_chromium() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (program, hang) = (dir.path().join("chromium"), dir.path().join("hang"));
    let path = hang.display();
    fs::write(
        &program,
        format!("#!/bin/sh\nif [ -e {path} ]; then sleep 600; fi\nexec chromium \"$@\"\n"),
    )
    .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&hang, "").unwrap();
    (dir, program, hang)
}

#[test]
fn a_job_whose_code_had_not_started_at_kill_9_goes_back_to_the_queue_and_runs() {
    let (_dir, program, hang) = hanging_chromium();
    let (mut server, client) = begin(Setup::at("2027-01-01T00:00:30Z").chromium(&program));
    let receiver = Receiver::start();
    let job = client.create_job(json!({
        "workflow": "quick", "callback_url": receiver.url(), "callback_secret": "s",
    }));
    client.job_is(&job, "starting_browser");
    server.kill();
    fs::remove_file(hang).unwrap();
    server.start_again();
    let ended = client.job_ended(&job);
    assert_eq!(
        (&ended["status"], &ended["attempt"]),
        (&json!("completed"), &json!(2))
    );
    assert_eq!(assert_signed(&receiver.wait(1)[0], "s")["event"], "job.completed");
}

#[test]
fn a_job_that_is_starting_is_cancelled_or_handed_back_at_sigterm() {
    let (_dir, program, _hang) = hanging_chromium();
    let (mut server, client) = begin(Setup::at("2027-01-01T00:00:30Z").chromium(&program));
    let cancelled = client.create_job(json!({"workflow": "quick"}));
    client.job_is(&cancelled, "starting_browser");
    client.ok("jobs/cancel", json!({"id": cancelled}));
    assert_eq!(client.job(&cancelled)["status"], "cancelled");
    assert_eq!(server.run_processes(), Vec::<u32>::new());

    let handed_back = client.create_job(json!({"workflow": "quick"}));
    client.job_is(&handed_back, "starting_browser");
    server.terminate();
    assert_eq!(server.ended().code(), Some(0));
    server.start_again();
    let job = client.job(&handed_back);
    assert!(
        ["queued", "starting_browser"].contains(&job["status"].as_str().unwrap()),
        "{job}"
    );
}

#[test]
fn sigterm_at_any_moment_of_a_start_ends_the_server_in_time_and_loses_no_job() {
    let (mut server, client) = begin(Setup::at("2027-01-01T00:00:30Z"));
    for round in 0..64_u64 {
        let job = client.create_job(json!({"workflow": "wait"}));
        // Before the claim and within it, and now and then while Node starts.
        let later = if round % 8 == 7 { 40_000 } else { 0 };
        std::thread::sleep(Duration::from_micros(round * 130 % 2_500 + later));
        server.terminate();
        let told = Instant::now();
        let (status, log) = server.ended_with_log();
        assert_eq!(status.code(), Some(0), "{log}");
        // Ending the tree of a run takes 5 s at the most.
        assert!(
            told.elapsed() < Duration::from_secs(7),
            "round {round}: {:?}\n{log}",
            told.elapsed()
        );
        assert_eq!(server.run_processes(), Vec::<u32>::new());
        server.start_again();
        let after = client.job(&job);
        match after["status"].as_str().unwrap() {
            "failed" => assert_eq!(after["failure_class"], "worker_lost", "{after}"),
            _ => drop(client.ok("jobs/cancel", json!({"id": job}))),
        }
    }
}

#[test]
fn a_chromium_that_does_not_start_fails_the_job_and_says_so() {
    let (_server, client) = begin(Setup::at("2027-01-01T00:00:30Z").chromium(&PathBuf::from("/bin/false")));
    let job = client.run(json!({"workflow": "quick"}));
    assert_eq!(
        (&job["status"], &job["failure_class"]),
        (&json!("failed"), &json!("browser"))
    );
    assert!(
        job["error"]
            .as_str()
            .unwrap()
            .contains("Chromium could not be started"),
        "{job}"
    );
}

#[test]
fn a_residential_proxy_without_a_provider_fails_the_run_and_says_what_to_set() {
    let (_server, client) = begin(Setup::at("2027-01-01T00:00:30Z"));
    let job = client.run(json!({"workflow": "quick", "residential_proxy": {"country": "US"}}));
    assert_eq!(
        (&job["status"], &job["failure_class"]),
        (&json!("failed"), &json!("configuration"))
    );
    assert!(
        job["error"]
            .as_str()
            .unwrap()
            .contains("IMPRESARIO_RESIDENTIAL_PROXY"),
        "{job}"
    );
}

#[test]
fn a_second_sigterm_ends_the_runs_at_once() {
    let (mut server, client) = begin(Setup::at("2027-01-01T00:00:30Z").grace(600));
    let job = client.create_job(json!({"workflow": "wait"}));
    client.job_is(&job, "running");
    server.terminate();
    wait_for("the first signal to be taken", PATIENCE, || {
        let log = server.log();
        if log.contains("runs may finish") {
            Ok(())
        } else {
            Err(log)
        }
    });
    assert_eq!(server.run_processes().len(), 1, "the run goes on");
    server.terminate();
    assert_eq!(server.ended().code(), Some(0));
    server.start_again();
    assert_eq!(client.job(&job)["failure_class"], "worker_lost");
}

#[test]
fn a_receiver_that_asks_for_time_gets_it() {
    let (server, client) = begin(Setup::at("2027-01-01T00:00:30Z"));
    let receiver = Receiver::start();
    receiver.reply([Reply::Busy(3600)]);
    let job = client.create_job(json!({
        "workflow": "quick", "callback_url": receiver.url(), "callback_secret": "s",
    }));
    let next = wait_for("the attempt on record", PATIENCE, || {
        let found = client.ok("webhooks/deliveries", json!({"job_id": job}))["deliveries"][0].clone();
        if found["attempts"] == 1 {
            Ok(found["next_attempt_at"].clone())
        } else {
            Err(found.to_string())
        }
    });
    let next = next.as_str().unwrap();
    assert!(
        ("2027-01-01T01:00:30".."2027-01-01T01:10").contains(&next),
        "{next}"
    );
    server.set_clock(next);
    let seen = receiver.wait(2);
    assert_eq!(seen[0].header("webhook-id"), seen[1].header("webhook-id"));
}

/// Writes into the database of a server that is down.
fn poison(server: &Server, sql: &str, id: &Value) {
    assert_eq!(server.behind_its_back(sql, &[id.as_str().unwrap()]), 1);
}

#[test]
fn a_row_that_cannot_be_read_stops_no_other_schedule() {
    let (mut server, client) = begin(Setup::at("2027-01-01T00:00:30Z"));
    let create = || client.schedule(json!({"workflow": "quick", "cron_expr": "* * * * *"}))["id"].clone();
    let (bad, good) = (create(), create());
    server.kill();
    poison(
        &server,
        "UPDATE schedules SET cron_expr = 'poison' WHERE id = ?1",
        &bad,
    );
    server.start_again();
    for minute in 1..=2 {
        let at = format!("2027-01-01T00:0{minute}:00.000Z");
        server.set_clock(&at);
        let fire = client.fired(&good, &at);
        assert_eq!(client.job_ended(&fire["job_id"])["status"], "completed");
    }
    assert!(
        server.log().contains(bad.as_str().unwrap()),
        "the server's log names it"
    );
    // Its owner sees why, still has the list, and can mend it.
    let shown = client.get_schedule(&bad);
    assert_eq!(shown["next_fire_at"], Value::Null, "{shown}");
    assert!(
        shown["last_error"]
            .as_str()
            .unwrap()
            .contains("expected 5 fields"),
        "{shown}"
    );
    assert_eq!(
        client.ok("schedules/list", json!({}))["schedules"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let mended = client.ok("schedules/update", json!({"id": bad, "cron_expr": "*/2 * * * *"}));
    assert_eq!(
        mended["schedule"]["next_fire_at"], "2027-01-01T00:04:00.000Z",
        "{mended}"
    );
}

#[test]
fn a_row_that_cannot_be_read_can_still_be_seen_and_deleted_by_its_owner() {
    let (mut server, client) = begin(Setup::at("2027-01-01T00:00:30Z"));
    let create = || client.schedule(json!({"workflow": "quick", "cron_expr": "* * * * *"}))["id"].clone();
    let (bad, good) = (create(), create());
    server.kill();
    poison(
        &server,
        "UPDATE schedules SET cron_expr = 'poison' WHERE id = ?1",
        &bad,
    );
    server.start_again();
    server.set_clock("2027-01-01T00:01:00Z");
    client.fired(&good, "2027-01-01T00:01:00.000Z");
    let list = client.ok("schedules/list", json!({}));
    let listed = list["schedules"].as_array().unwrap().iter();
    assert!(
        listed.clone().any(|one| one["id"] == good),
        "one bad row does not hide the others: {list}"
    );
    client.ok("schedules/delete", json!({"id": bad}));
}
