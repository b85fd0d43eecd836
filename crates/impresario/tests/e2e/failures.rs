//! `schedules/get` tells the truth about what failed, and a schedule follows its workflow's name.

use serde_json::{Value, json};

use crate::support::{Bundle, Client, PATIENCE, Server, Setup, wait_for};

/// Does as its params say.
pub(crate) const OBEDIENT: &str = r#"
    if (input.fail) throw new Error("the portal is down: " + input.fail);
    if (input.page) await ctx.page.title();
    if (input.wait) await new Promise((done) => setTimeout(done, 600_000));
    return "fine";
"#;

/// A minute of the first hour, as the API writes it.
pub(crate) fn minute(number: u32) -> String {
    format!("2027-01-01T00:{number:02}:00.000Z")
}

struct Stage {
    server: Server,
    client: Client,
    id: Value,
}

impl Stage {
    fn new(bundle: &Bundle) -> Self {
        let server = Setup::at("2027-01-01T00:00:30Z").start();
        let client = server.tenant("acme");
        client.deploy(bundle);
        let id = client.schedule(json!({"workflow": "w", "cron_expr": "* * * * *"}))["id"].clone();
        Self { server, client, id }
    }

    /// Moves the clock to this minute: the job that its fire created.
    fn fire(&self, number: u32) -> Value {
        self.server.set_clock(&minute(number));
        let fire = self.client.fired(&self.id, &minute(number));
        assert_eq!(fire["outcome"], "fired", "{fire}");
        fire["job_id"].clone()
    }

    fn set_params(&self, params: Value) {
        self.client
            .ok("schedules/update", json!({"id": self.id, "params": params}));
    }

    /// `last_fire_at`, `last_job_id`, `last_error` and `consecutive_failures`.
    fn truth(&self) -> [Value; 4] {
        let schedule = self.client.get_schedule(&self.id);
        [
            "last_fire_at",
            "last_job_id",
            "last_error",
            "consecutive_failures",
        ]
        .map(|key| schedule[key].clone())
    }
}

#[test]
fn failures_count_up_with_their_error_a_success_clears_them_and_a_cancel_changes_nothing() {
    let stage = Stage::new(&Bundle::with("w", OBEDIENT));
    for (number, why) in [(1, "dns"), (2, "tls")] {
        stage.set_params(json!({"fail": why}));
        let job = stage.fire(number);
        let ended = stage.client.job_ended(&job);
        let error = format!("the portal is down: {why}");
        assert_eq!(ended["status"], "failed");
        assert_eq!(ended["failure_class"], "workflow");
        assert_eq!(ended["error"], error);
        assert!(
            ended["mapped_stack"].as_str().unwrap().contains("index.js"),
            "{ended}"
        );
        assert!(
            ended.get("result").is_none(),
            "no result of a failed job: {ended}"
        );
        assert_eq!(
            stage.truth(),
            [json!(minute(number)), job, json!(error), json!(number)]
        );
    }

    stage.set_params(json!({}));
    let job = stage.fire(3);
    assert_eq!(stage.client.job_ended(&job)["status"], "completed");
    assert_eq!(stage.truth(), [json!(minute(3)), job, json!(null), json!(0)]);

    stage.set_params(json!({"fail": "again"}));
    let failed = stage.fire(4);
    stage.client.job_ended(&failed);
    stage.set_params(json!({"wait": true}));
    let waiting = stage.fire(5);
    stage.client.job_is(&waiting, "running");
    stage.client.ok("jobs/cancel", json!({"id": waiting}));
    assert_eq!(stage.client.job(&waiting)["status"], "cancelled");
    assert_eq!(
        stage.truth(),
        [
            json!(minute(5)),
            waiting,
            json!("the portal is down: again"),
            json!(1)
        ]
    );
}

#[test]
fn a_fire_whose_workflow_was_deleted_is_rejected_and_counts_until_a_redeploy() {
    let bundle = Bundle::with("w", OBEDIENT);
    let stage = Stage::new(&bundle);
    let first = stage.fire(1);
    stage.client.job_ended(&first);
    let gone = stage.client.ok("workflows/delete", json!({"workflow": "w"}));
    assert_eq!(gone["success"], true);

    for (number, failures) in [(2, 1), (3, 2)] {
        stage.server.set_clock(&minute(number));
        let fire = stage.client.fired(&stage.id, &minute(number));
        assert_eq!(fire["outcome"], "rejected");
        assert_eq!(
            (&fire["job_id"], &fire["job_status"]),
            (&json!(null), &json!(null))
        );
        assert!(
            fire["error"].as_str().unwrap().contains("\"w\""),
            "it names the workflow: {fire}"
        );
        let [fire_at, job, error, count] = stage.truth();
        assert_eq!(
            (fire_at, job, count),
            (json!(minute(number)), json!(null), json!(failures))
        );
        assert_eq!(error, fire["error"]);
    }
    let jobs = stage.client.ok("jobs/list", json!({"schedule_id": stage.id}));
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 1, "{jobs}");

    let deployment = stage.client.deploy(&bundle);
    let job = stage.fire(4);
    let ended = stage.client.job_ended(&job);
    assert_eq!(
        (&ended["status"], &ended["deployment_id"]),
        (&json!("completed"), &json!(deployment))
    );
    assert_eq!(stage.truth(), [json!(minute(4)), job, json!(null), json!(0)]);
}

#[test]
fn a_schedule_follows_its_workflows_name_to_the_newest_deployment() {
    let stage = Stage::new(&Bundle::with("w", "return { version: 1 };"));
    let ended = stage.client.job_ended(&stage.fire(1));
    assert_eq!(ended["result"], json!({"version": 1}));
    let second = stage.client.deploy(&Bundle::with("w", "return { version: 2 };"));
    let ended = stage.client.job_ended(&stage.fire(2));
    assert_eq!(ended["result"], json!({"version": 2}));
    assert_eq!(ended["deployment_id"], second);

    // A deployment that cannot be built, or exports other names, takes nothing away.
    assert_eq!(
        stage.client.build(&Bundle::of("throw new Error('x');"))["status"],
        "failed"
    );
    stage.client.deploy(&Bundle::with("other", "return 3;"));
    let ended = stage.client.job_ended(&stage.fire(3));
    assert_eq!(ended["result"], json!({"version": 2}));
}

#[test]
fn a_change_or_a_delete_of_a_schedule_takes_effect_at_once() {
    let stage = Stage::new(&Bundle::with("w", OBEDIENT));
    let other = stage
        .client
        .schedule(json!({"workflow": "w", "cron_expr": "* * * * *"}))["id"]
        .clone();
    let witness = stage
        .client
        .schedule(json!({"workflow": "w", "cron_expr": "* * * * *"}))["id"]
        .clone();
    stage.client.ok(
        "schedules/update",
        json!({"id": stage.id, "cron_expr": "30 * * * *"}),
    );
    stage
        .client
        .ok("schedules/update", json!({"id": other, "enabled": false}));
    let deleted = stage
        .client
        .schedule(json!({"workflow": "w", "cron_expr": "* * * * *"}))["id"]
        .clone();
    stage.client.ok("schedules/delete", json!({"id": deleted}));

    stage.server.set_clock(&minute(1));
    stage.client.fired(&witness, &minute(1));
    for id in [&stage.id, &other] {
        assert_eq!(stage.client.history(id), Vec::<Value>::new());
    }
    let count = |id: &Value| {
        let jobs = stage.client.ok("jobs/list", json!({"schedule_id": id}));
        jobs["jobs"].as_array().unwrap().len()
    };
    assert_eq!(
        (count(&stage.id), count(&other), count(&deleted), count(&witness)),
        (0, 0, 0, 1)
    );
}

#[test]
fn a_deleted_schedules_running_job_goes_on_and_stays_readable() {
    let stage = Stage::new(&Bundle::with("w", OBEDIENT));
    stage.set_params(json!({"wait": true}));
    let job = stage.fire(1);
    stage.client.job_is(&job, "running");
    stage.client.ok("schedules/delete", json!({"id": stage.id}));
    assert_eq!(stage.client.job(&job)["status"], "running");
    stage.client.ok("jobs/cancel", json!({"id": job}));
    let after = wait_for("the end", PATIENCE, || {
        let job = stage.client.job(&job);
        if job["status"] == "cancelled" {
            Ok(job)
        } else {
            Err(job.to_string())
        }
    });
    assert_eq!(after["schedule_id"], stage.id);
}
