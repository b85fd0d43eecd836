//! How often a key may ask, and how much a tenant may have.

use std::thread;

use serde_json::{Value, json};

use crate::support::{
    Answer, Bundle, Client, PATIENCE, Request, Server, Setup, assert_error, wait_for, wait_until, workflow,
};

const START: &str = "2027-01-01T00:00:30Z";
const WAIT: &str = "await new Promise((done) => setTimeout(done, 600_000));";

fn quota(server: &Server, args: &[&str]) -> String {
    server.cli(&[&["tenant", "quota", "acme"], args].concat())
}

/// Asks so many times at once: the statuses, sorted.
fn at_once(times: usize, ask: impl Fn(usize) -> Answer + Sync) -> Vec<u16> {
    let ask = &ask;
    let mut statuses: Vec<u16> = thread::scope(|scope| {
        let asking: Vec<_> = (0..times)
            .map(|number| scope.spawn(move || ask(number).status))
            .collect();
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    });
    statuses.sort_unstable();
    statuses
}

/// A server with one slot, which a job has, so that what is queued stays there.
fn busy() -> (Server, Client, Value) {
    let server = Setup::at(START).job_slots(1).start();
    let client = server.tenant("acme");
    client.deploy(&Bundle::of(&format!(
        "{}{}",
        workflow("wait", WAIT),
        workflow("quick", "return 1;")
    )));
    let running = client.create_job(json!({"workflow": "wait"}));
    client.job_is(&running, "running");
    (server, client, running)
}

#[test]
fn a_key_that_asks_too_often_is_told_when_to_come_back() {
    let server = Setup::at(START).requests(1, 5).start();
    let client = server.tenant("acme");
    let made = server.cli(&["api-key", "create", "--tenant", "acme", "--label", "other"]);
    let other = server.client(&made);
    // Whoever has no good key uses up nobody's.
    let forged = format!("{}{}", &client.key()[..12], &made[12..]);
    for bad in [forged.as_str(), "imp_x", ""] {
        for _ in 0..10 {
            server.client(bad).refused("schedules/list", json!({}), 401);
        }
    }
    let answers: Vec<Answer> = (0..6)
        .map(|_| client.call("schedules/list", &json!({})))
        .collect();
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    assert!(passed >= 5, "the burst goes through: {answers:?}");
    let refused = wait_for("a refusal", PATIENCE, || {
        let answer = client.call("schedules/list", &json!({}));
        if answer.status == 429 {
            Ok(answer)
        } else {
            Err("it still goes through".to_owned())
        }
    });
    assert_eq!(refused.header("retry-after"), Some("1"));
    let error = assert_error(&refused, 429, "the seventh");
    assert_eq!(
        error["message"],
        "this key has asked too often (1 request a second, 5 at once); come back in 1 second"
    );
    // Another key of the same tenant has its own, and what needs no key is not counted.
    other.ok("schedules/list", json!({}));
    let health = Request::get("/health/live").send(client.address()).unwrap();
    assert_eq!(health.status, 200);
    // The routes without an envelope count as well.
    wait_for("a refusal without the envelope", PATIENCE, || {
        let list = Request::get("/api/auth/api-key/list").header("x-api-key", client.key());
        match client.send(&list).status {
            429 => Ok(()),
            status => Err(status.to_string()),
        }
    });
    wait_until("the next to go through", PATIENCE, || {
        client.call("schedules/list", &json!({})).status == 200
    });
}

#[test]
fn the_command_line_waits_where_it_has_asked_too_often() {
    let server = Setup::at(START).requests(1, 1).start();
    let client = server.tenant("acme");
    let url = format!("http://{}", client.address());
    let variables = [
        ("IMPRESARIO_URL", url.as_str()),
        ("LIBRETTO_API_KEY", client.key()),
    ];
    for _ in 0..3 {
        let ran = server.cli_with(&["schedules", "export"], &variables, "");
        assert_eq!(ran.code, 0, "{ran:?}");
    }
}

#[test]
fn a_tenant_s_quotas_are_shown_and_set() {
    let server = Setup::at(START).start();
    let client = server.tenant("acme");
    client.deploy(&Bundle::with("w", "return 1;"));
    client.schedule(json!({"workflow": "w", "cron_expr": "@daily"}));
    let shown = quota(&server, &[]);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(
        lines[..2],
        ["schedules     1, no limit", "queued jobs   0, no limit"]
    );
    assert!(lines[2].starts_with("bundle bytes  ") && lines[2].ends_with(", no limit"));
    let shown = quota(&server, &["--schedules", "5", "--queued-jobs", "0"]);
    assert!(
        shown.starts_with("schedules     1 of 5\nqueued jobs   0 of 0\n"),
        "{shown}"
    );
    let shown = quota(&server, &["--queued-jobs", "none", "--bundle-bytes", "9"]);
    assert!(
        shown.starts_with("schedules     1 of 5\nqueued jobs   0, no limit\n") && shown.ends_with(" of 9"),
        "{shown}"
    );
    assert_eq!(quota(&server, &[]), shown);
    assert!(
        server.cli(&["tenant", "list"]).starts_with("acme  "),
        "the list stays as it is"
    );
    let (_, said) = server.cli_fails(&["tenant", "quota", "acme", "--schedules", "many"]);
    assert!(said.contains("or none"), "{said}");
    let (_, said) = server.cli_fails(&["tenant", "quota", "nobody"]);
    assert!(said.contains("none named \"nobody\""), "{said}");
}

#[test]
fn a_tenant_has_as_many_schedules_as_its_quota_says_also_when_it_asks_at_once() {
    let server = Setup::at(START).start();
    let (client, other) = (server.tenant("acme"), server.tenant("other"));
    for client in [&client, &other] {
        client.deploy(&Bundle::with("w", "return 1;"));
    }
    quota(&server, &["--schedules", "3"]);
    let input = json!({"workflow": "w", "cron_expr": "@daily"});
    let statuses = at_once(12, |_| client.call("schedules/create", &input));
    assert_eq!(statuses, [[200; 3].as_slice(), &[403; 9]].concat());
    let error = client.refused("schedules/create", input.clone(), 403);
    assert_eq!(
        error["message"],
        "schedules: this tenant has 3 schedules, the most its quota allows; delete some, or ask the operator for more"
    );
    for _ in 0..4 {
        other.schedule(input.clone());
    }
    let listed = client.ok("schedules/list", json!({}))["schedules"].clone();
    assert_eq!(listed.as_array().unwrap().len(), 3);
    let id = &listed[0]["id"];
    client.ok("schedules/update", json!({"id": id, "enabled": false}));
    client.refused("schedules/create", input.clone(), 403);
    client.ok("schedules/delete", json!({"id": id}));
    client.schedule(input.clone());
    quota(&server, &["--schedules", "none"]);
    client.schedule(input);
}

#[test]
fn a_full_queue_takes_no_job_from_anybody() {
    let (server, client, _) = busy();
    let schedule = client.schedule(json!({
        "workflow": "quick", "cron_expr": "* * * * *", "max_consecutive_failures": 1,
    }))["id"]
        .clone();
    quota(&server, &["--queued-jobs", "3"]);
    let input = |number: usize| json!({"workflow": "quick", "nonce": format!("n-{number}")});
    let statuses = at_once(12, |number| client.call("jobs/create", &input(number)));
    assert_eq!(statuses, [[200; 3].as_slice(), &[429; 9]].concat());
    for (route, input) in [
        ("jobs/create", json!({"workflow": "quick"})),
        ("schedules/trigger", json!({"id": schedule})),
    ] {
        let answer = client.call(route, &input);
        assert_eq!(answer.header("retry-after"), Some("60"), "{route}");
        let error = assert_error(&answer, 429, route);
        let message = error["message"].as_str().unwrap();
        assert!(
            message.starts_with("jobs: this tenant has 3 jobs in the queue, the most its quota allows; "),
            "{message}"
        );
    }
    // A request that is repeated gets its answer all the same.
    let known = (0..12)
        .filter(|number| {
            let answer = client.call("jobs/create", &input(*number));
            answer.status == 200
                && answer.value()["json"]["message"]
                    .as_str()
                    .unwrap()
                    .contains("nonce")
        })
        .count();
    assert_eq!(known, 3);

    server.set_clock("2027-01-01T00:01:00Z");
    let row = client.fired(&schedule, "2027-01-01T00:01:00.000Z");
    assert_eq!(
        (&row["outcome"], &row["reason"], &row["job_id"]),
        (&json!("rejected"), &json!("quota"), &json!(null))
    );
    let error = row["error"].as_str().unwrap();
    assert!(
        error.starts_with("quota: ") && error.contains("operator"),
        "{error}"
    );
    let now = client.get_schedule(&schedule);
    assert_eq!(
        (&now["enabled"], &now["consecutive_failures"], &now["last_error"]),
        (&json!(true), &json!(1), &json!(error)),
        "it does not disable itself for what is no fault of its own"
    );
    quota(&server, &["--queued-jobs", "4"]);
    server.set_clock("2027-01-01T00:02:00Z");
    assert_eq!(
        client.fired(&schedule, "2027-01-01T00:02:00.000Z")["outcome"],
        "fired"
    );
    client.refused("jobs/create", json!({"workflow": "quick"}), 429);
    // What never fits is wrong input; what fits another time is not.
    let past = |until: &str| json!({"id": schedule, "from": "2026-12-31T23:00:00Z", "to": until});
    assert_eq!(
        client.issues("schedules/backfill", past("2026-12-31T23:10:00Z")),
        ["to"]
    );
    let error = client.refused("schedules/backfill", past("2026-12-31T23:03:00Z"), 429);
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("no room for 3 more") && message.contains("allows 4"),
        "{message}"
    );
    quota(&server, &["--queued-jobs", "none"]);
    let made = client.ok("schedules/backfill", past("2026-12-31T23:03:00Z"));
    assert_eq!(made["job_ids"].as_array().unwrap().len(), 3);
}

#[test]
fn what_is_made_up_for_waits_until_the_queue_has_room() {
    let (server, client, running) = busy();
    let schedule = client.schedule(json!({
        "workflow": "quick", "cron_expr": "* * * * *", "misfire_policy": "fire_all",
    }))["id"]
        .clone();
    quota(&server, &["--queued-jobs", "1"]);
    let first = client.create_job(json!({"workflow": "quick"}));
    server.set_clock("2027-01-01T00:04:05Z");
    let row = client.fired(&schedule, "2027-01-01T00:04:00.000Z");
    assert_eq!(row["reason"], "quota");
    assert_eq!(client.get_schedule(&schedule)["catching_up"], 3);
    assert_eq!(client.history(&schedule).len(), 1);
    client.ok("jobs/cancel", json!({"id": first}));
    let row = client.fired(&schedule, "2027-01-01T00:01:00.000Z");
    assert_eq!(row["outcome"], "fired");
    client.ok("jobs/cancel", json!({"id": running}));
    for instant in ["2027-01-01T00:02:00.000Z", "2027-01-01T00:03:00.000Z"] {
        let row = client.fired(&schedule, instant);
        assert_eq!(row["outcome"], "fired");
        client.job_ended(&row["job_id"]);
    }
    assert_eq!(client.get_schedule(&schedule)["catching_up"], 0);
}

#[test]
fn bundles_are_taken_until_the_quota_is_full() {
    let server = Setup::at(START).start();
    let client = server.tenant("acme");
    let (first, second) = (
        Bundle::with("a", "return 1;"),
        Bundle::with("b", "return 'another';"),
    );
    client.deploy(&first);
    let shown = quota(&server, &[]);
    let used: u64 = shown
        .lines()
        .last()
        .and_then(|line| line.strip_prefix("bundle bytes  ")?.strip_suffix(", no limit"))
        .unwrap()
        .parse()
        .unwrap();
    quota(&server, &["--bundle-bytes", &(used + 10).to_string()]);
    let input = |bundle: &Bundle| json!({"source": bundle.packed(), "entry_point": "index.js"});
    let error = client.refused("deployments/create", input(&second), 403);
    let message = error["message"].as_str().unwrap();
    assert!(
        message.starts_with("source: this bundle has ")
            && message.contains(&format!("the {used} bytes of bundles"))
            && message.contains(&format!("the {} bytes its quota allows", used + 10)),
        "{message}"
    );
    assert_eq!(
        client.ok("deployments/list", json!({}))["deployments"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    client.deploy(&first);
    quota(&server, &["--bundle-bytes", "none"]);
    client.deploy(&second);
}
