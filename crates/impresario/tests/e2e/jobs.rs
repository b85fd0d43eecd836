//! Jobs on request: their life from the queue to one of three ends.

use serde_json::{Value, json};

use crate::support::{Answer, Bundle, Client, PATIENCE, Server, Setup, alive, keys, wait_for, workflow};

const WAIT: &str = "await new Promise((done) => setTimeout(done, 600_000));";

fn start(bundle: &Bundle) -> (Server, Client) {
    begin(Setup::at("2027-01-01T00:00:30Z"), bundle)
}

fn begin(setup: Setup, bundle: &Bundle) -> (Server, Client) {
    let server = setup.start();
    let client = server.tenant("acme");
    client.deploy(bundle);
    (server, client)
}

#[test]
fn a_nonce_makes_one_job_and_another_request_with_it_is_a_conflict() {
    let (server, client) = start(&Bundle::with("w", "return input;"));
    let input = json!({"workflow": "w", "params": {"a": 1, "b": [2]}, "nonce": "n-1"});
    let first = client.create_job(input.clone());
    client.job_ended(&first);
    // The same in another order of keys, after a redeploy, and at another time.
    client.deploy(&Bundle::with("w", "return 'other';"));
    server.set_clock("2027-01-02T00:00:00Z");
    let again = json!({"nonce": "n-1", "params": {"b": [2], "a": 1}, "workflow": "w"});
    assert_eq!(client.create_job(again), first);
    assert_eq!(
        client.ok("jobs/list", json!({}))["jobs"]
            .as_array()
            .unwrap()
            .len(),
        1
    );

    for other in [
        json!({"workflow": "w", "params": {"a": 2, "b": [2]}, "nonce": "n-1"}),
        json!({"workflow": "w", "params": {"a": 1, "b": [2]}, "nonce": "n-1", "timeout_seconds": 60}),
    ] {
        let error = client.refused("jobs/create", other, 409);
        assert!(
            error["message"]
                .as_str()
                .unwrap()
                .contains(first.as_str().unwrap()),
            "{error}"
        );
    }
    let mut fresh = input;
    fresh["nonce"] = json!("n-2");
    assert_ne!(client.create_job(fresh), first);
}

#[test]
fn many_requests_with_one_nonce_at_once_make_one_job() {
    let (_server, client) = start(&Bundle::with("w", "return 1;"));
    let input = json!({"workflow": "w", "nonce": "raced"});
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..12)
            .map(|_| scope.spawn(|| client.call("jobs/create", &input)))
            .collect();
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let ids: Vec<Value> = answers
        .iter()
        .map(|answer| answer.value()["json"]["job_id"].clone())
        .collect();
    assert!(ids.iter().all(|id| id.is_string() && *id == ids[0]), "{ids:?}");
    assert_eq!(
        client.ok("jobs/list", json!({}))["jobs"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_queued_job_is_cancelled_at_once_and_a_finished_one_is_not() {
    let bundle = Bundle::of(&format!(
        "{}{}",
        workflow("wait", WAIT),
        workflow("w", "return 1;")
    ));
    let (_server, client) = begin(Setup::at("2027-01-01T00:00:30Z").job_slots(1), &bundle);
    let running = client.create_job(json!({"workflow": "wait"}));
    client.job_is(&running, "running");
    let queued = client.create_job(json!({"workflow": "w"}));
    assert_eq!(client.ok("jobs/cancel", json!({"id": queued}))["success"], true);
    let job = client.job(&queued);
    assert_eq!(
        (&job["status"], &job["started_at"], &job["attempt"]),
        (&json!("cancelled"), &json!(null), &json!(0))
    );
    assert!(job["completed_at"].is_string());
    client.refused("jobs/cancel", json!({"id": queued}), 409);
    client.ok("jobs/cancel", json!({"id": running}));
    client.refused("jobs/cancel", json!({"id": running}), 409);
    let done = client.run(json!({"workflow": "w"}));
    assert_eq!(done["status"], "completed");
    client.refused("jobs/cancel", json!({"id": done["job_id"]}), 409);
    assert_eq!(client.job(&done["job_id"]), done);
    assert_eq!(client.job(&queued)["status"], "cancelled");
}

/// Starts a process that leaves the group, ignores SIGTERM, and is named in the log.
const STRAY: &str = r#"
    const { spawn } = await import("node:child_process");
    const stray = spawn("/bin/sh", ["-c", "trap '' TERM; setsid sleep 611 & echo $!; wait"], { detached: true });
    stray.stdout.on("data", (text) => console.log(String(text).trim()));
    stray.unref();
"#;

fn stray_of(client: &Client, job: &Value) -> u64 {
    wait_for("the stray process to be named", PATIENCE, || {
        let logs = client.logs(job);
        let first = logs.first().and_then(|(_, text)| text.parse().ok());
        first.ok_or_else(|| format!("{logs:?}"))
    })
}

#[test]
fn cancel_ends_the_whole_tree_with_a_detached_grandchild_before_it_answers() {
    let (server, client) = start(&Bundle::with("w", &format!("{STRAY} {WAIT}")));
    let job = client.create_job(json!({"workflow": "w"}));
    let stray = stray_of(&client, &job);
    assert!(alive(stray) && !server.run_processes().is_empty());
    let asked = std::time::Instant::now();
    client.ok("jobs/cancel", json!({"id": job}));
    assert!(asked.elapsed().as_secs_f64() < 5.5, "{:?}", asked.elapsed());
    assert!(!alive(stray));
    assert_eq!(server.run_processes(), Vec::<u32>::new());
    let ended = client.job(&job);
    assert_eq!(
        (&ended["status"], &ended["error"]),
        (&json!("cancelled"), &json!(null))
    );
}

#[test]
fn a_time_limit_ends_a_run_that_never_yields_and_all_that_it_started() {
    let body = format!("{STRAY} await new Promise((done) => setTimeout(done, 400)); while (true) {{}}");
    let (server, client) = start(&Bundle::with("w", &body));
    let job = client.create_job(json!({"workflow": "w", "timeout_seconds": 2}));
    let ended = client.job_ended(&job);
    assert_eq!(
        (&ended["status"], &ended["failure_class"]),
        (&json!("failed"), &json!("timeout"))
    );
    assert!(
        ended["error"].as_str().unwrap().contains('2'),
        "it names the limit: {ended}"
    );
    assert!(!alive(stray_of(&client, &job)));
    assert_eq!(server.run_processes(), Vec::<u32>::new());
}

#[test]
fn a_run_leaves_no_process_behind_when_it_completes() {
    let (server, client) = start(&Bundle::with(
        "w",
        &format!("{STRAY} await new Promise((done) => setTimeout(done, 400)); return 'left';"),
    ));
    let job = client.run(json!({"workflow": "w"}));
    assert_eq!(job["result"], "left");
    assert!(!alive(stray_of(&client, &job["job_id"])));
    assert_eq!(server.run_processes(), Vec::<u32>::new());
}

#[test]
fn lists_are_filtered_and_paged_newest_first() {
    let bundle = Bundle::of(&format!(
        "{}{}",
        workflow("good", "return 1;"),
        workflow("bad", "throw 1;")
    ));
    let (server, client) = start(&bundle);
    let mut ids = Vec::new();
    for second in 0..5 {
        server.set_clock(&format!("2027-01-01T00:00:4{second}Z"));
        let name = if second % 2 == 0 { "good" } else { "bad" };
        ids.push(client.run(json!({"workflow": name}))["job_id"].clone());
    }
    ids.reverse();
    let list = |input: Value| {
        let answer = client.ok("jobs/list", input);
        let jobs = answer["jobs"].as_array().unwrap().iter();
        (
            jobs.map(|job| job["job_id"].clone()).collect::<Vec<_>>(),
            answer["next_cursor"].clone(),
        )
    };
    assert_eq!(list(json!({})), (ids.clone(), json!(null)));
    let odd = vec![ids[1].clone(), ids[3].clone()];
    assert_eq!(list(json!({"status": "failed"})).0, odd);
    assert_eq!(list(json!({"workflow": "bad"})).0, odd);
    assert_eq!(
        list(json!({"status": "completed", "workflow": "bad"})).0,
        Vec::<Value>::new()
    );
    let (page, cursor) = list(json!({"limit": 2}));
    assert_eq!(page, ids[..2]);
    server.set_clock("2027-01-01T00:00:50Z");
    client.create_job(json!({"workflow": "good"}));
    let (page, cursor) = list(json!({"limit": 2, "cursor": cursor}));
    assert_eq!(page, ids[2..4]);
    assert_eq!(
        list(json!({"limit": 2, "cursor": cursor})),
        (ids[4..].to_vec(), json!(null))
    );
    for bad in [
        json!({"limit": 0}),
        json!({"limit": 101}),
        json!({"status": "done"}),
        json!({"cursor": "x"}),
        json!({"schedule_id": "7"}),
    ] {
        let field = keys(&bad)[0].to_owned();
        assert_eq!(client.issues("jobs/list", bad), [field]);
    }
    let one = &client.ok("jobs/list", json!({"limit": 1, "status": "failed"}))["jobs"][0];
    let known = [
        "completed_at",
        "created_at",
        "deployment_id",
        "job_id",
        "schedule_id",
        "status",
        "workflow",
        "workflow_id",
    ];
    assert_eq!(keys(one), known);
}

#[test]
fn what_is_wrong_with_a_request_for_a_job_is_said_all_at_once() {
    let (_server, client) = start(&Bundle::of(
        "export const w = workflow('w', () => 1, { inputSchema: { type: 'object',
           properties: { n: { type: 'integer' } }, required: ['n'] } });",
    ));
    let input = json!({
        "workflow": "w", "params": {"n": "x"}, "timeout_seconds": 3601, "start_url": "file:///etc/passwd",
        "viewport": {"width": 0}, "nonce": "", "callback_url": "https://example.com/", "headless": 1,
        "credential_id": "7", "residential_proxy": {"country": "US"}, "disable_default_proxy": true, "tiemout": 1,
    });
    assert_eq!(
        client.issues("jobs/create", input),
        [
            "",
            "callback_secret",
            "credential_id",
            "disable_default_proxy",
            "headless",
            "nonce",
            "params.n",
            "start_url",
            "timeout_seconds",
            "viewport.height",
            "viewport.width",
        ]
    );
    client.refused("jobs/create", json!({"workflow": "none", "params": {}}), 404);
    assert_eq!(
        client.run(json!({"workflow": "w", "params": {"n": 1, "more": true}}))["status"],
        "completed"
    );
}
