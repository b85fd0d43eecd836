//! Who hears of a job's end, what they are told, and what happens when they do not take it.

use serde_json::{Value, json};

use crate::support::{
    Bundle, Client, PATIENCE, Receiver, Reply, Server, Setup, assert_signed, wait_for, wait_until, workflow,
};

const SECRET: &str = "of the job's own callback";

struct Stage {
    server: Server,
    client: Client,
}

fn start() -> Stage {
    begin(Setup::at("2027-01-01T00:00:30Z"))
}

fn begin(setup: Setup) -> Stage {
    let server = setup.start();
    let client = server.tenant("acme");
    client.deploy(&Bundle::of(&format!(
        "{}{}{}",
        workflow("quick", "return { text: 'Grüße 🎭', n: 1.5 };"),
        workflow("broken", "throw new TypeError('no such button');"),
        workflow("wait", "await new Promise((done) => setTimeout(done, 600_000));"),
    )));
    Stage { server, client }
}

impl Stage {
    fn webhook(&self, input: Value) -> Value {
        self.client.ok("webhooks/create", input)
    }

    /// What is owed for a job, newest first.
    fn deliveries(&self, job: &Value) -> Vec<Value> {
        let answer = self.client.ok("webhooks/deliveries", json!({"job_id": job}));
        answer["deliveries"].as_array().unwrap().clone()
    }

    /// Waits until the one delivery of a job has had so many attempts and none is under way.
    fn attempted(&self, job: &Value, attempts: u32) -> Value {
        wait_for(&format!("attempt {attempts} on record"), PATIENCE, || {
            let found = self.deliveries(job);
            assert!(found.len() < 2, "{found:?}");
            let found = found.first().ok_or("the job has not ended")?;
            if found["attempts"] == attempts {
                Ok(found.clone())
            } else {
                Err(found.to_string())
            }
        })
    }

    fn own(&self, workflow: &str, receiver: &Receiver) -> Value {
        json!({"workflow": workflow, "callback_url": receiver.url(), "callback_secret": SECRET})
    }
}

#[test]
fn a_schedules_own_callback_is_told_alone_and_stored_webhooks_where_there_is_none() {
    let stage = start();
    let (own, stored) = (Receiver::start(), Receiver::start());
    let endpoint = stage.webhook(json!({"url": stored.url(), "signing_secret": "of the stored one"}));
    assert!(
        endpoint.get("signing_secret").is_none(),
        "a given secret is never shown: {endpoint}"
    );
    let mut with_own = stage.own("quick", &own);
    with_own["cron_expr"] = json!("1 0 * * *");
    stage.client.schedule(with_own);
    stage
        .client
        .schedule(json!({"workflow": "quick", "cron_expr": "2 0 * * *"}));

    stage.server.set_clock("2027-01-01T00:01:00Z");
    let told = assert_signed(&own.wait(1)[0], SECRET);
    assert_eq!(told["result"], json!({"text": "Grüße 🎭", "n": 1.5}));
    assert_eq!(
        stage.attempted(&told["job_id"], 1)["webhook_endpoint_id"],
        json!(null)
    );
    assert_eq!(stored.received().len(), 0);

    stage.server.set_clock("2027-01-01T00:02:00Z");
    let told = assert_signed(&stored.wait(1)[0], "of the stored one");
    let delivery = stage.attempted(&told["job_id"], 1);
    assert_eq!(delivery["webhook_endpoint_id"], endpoint["webhook_endpoint_id"]);
    assert_eq!(
        (&delivery["status"], &delivery["last_status_code"]),
        (&json!("delivered"), &json!(204))
    );
    assert_eq!(own.received().len(), 1);
}

#[test]
fn skip_callbacks_sends_nothing_and_neither_does_a_cancelled_job() {
    let stage = start();
    let (own, stored) = (Receiver::start(), Receiver::start());
    stage.webhook(json!({"url": stored.url()}));
    let mut skipped = stage.own("quick", &own);
    skipped["skip_callbacks"] = json!(true);
    let by_job = stage.client.run(skipped.clone());
    skipped["cron_expr"] = json!("1 0 * * *");
    let schedule = stage.client.schedule(skipped);
    stage.server.set_clock("2027-01-01T00:01:00Z");
    let by_schedule = stage
        .client
        .job_ended(&stage.client.fired(&schedule["id"], "2027-01-01T00:01:00.000Z")["job_id"]);
    let waiting = stage.client.create_job(stage.own("wait", &own));
    stage.client.job_is(&waiting, "running");
    stage.client.ok("jobs/cancel", json!({"id": waiting}));
    // Callbacks are owed from the instant of the end on, so what is not owed now never will be.
    for job in [&by_job["job_id"], &by_schedule["job_id"], &waiting] {
        assert_eq!(stage.deliveries(job), Vec::<Value>::new());
    }
    assert_eq!((own.received().len(), stored.received().len()), (0, 0));
}

#[test]
fn inactive_and_deleted_webhooks_get_nothing_and_a_new_secret_holds_from_then_on() {
    let stage = start();
    let [first, second, third] = [(); 3].map(|()| Receiver::start());
    let made = stage.webhook(json!({"url": first.url(), "description": "the first"}));
    let secret = made["signing_secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_") && secret.len() == 6 + 44, "{secret}");
    let inactive = stage.webhook(json!({"url": second.url(), "signing_secret": "second", "active": false}));
    let deleted = stage.webhook(json!({"url": third.url()}));
    let gone = stage
        .client
        .ok("webhooks/delete", json!({"id": deleted["webhook_endpoint_id"]}));
    assert_eq!(gone["success"], true);
    stage.client.refused(
        "webhooks/delete",
        json!({"id": deleted["webhook_endpoint_id"]}),
        404,
    );

    let job = stage.client.run(json!({"workflow": "quick"}));
    // The secret that the server made works as it is shown.
    let told = assert_signed(&first.wait(1)[0], secret);
    assert_eq!(
        (&told["job_id"], &told["schedule_id"], &told["fire_at"]),
        (&job["job_id"], &json!(null), &json!(null))
    );
    assert_eq!(stage.attempted(&job["job_id"], 1)["status"], "delivered");

    let list = stage.client.ok("webhooks/list", json!({}));
    assert!(!list.to_string().contains("whsec_"), "{list}");
    let listed: Vec<(&Value, &Value)> = list["webhook_endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|endpoint| (&endpoint["description"], &endpoint["active"]))
        .collect();
    assert_eq!(listed.len(), 2);
    assert!(
        listed.contains(&(&json!("the first"), &json!(true)))
            && listed.contains(&(&json!(null), &json!(false)))
    );

    stage.client.ok(
        "webhooks/update",
        json!({"id": inactive["webhook_endpoint_id"], "active": true}),
    );
    let change = json!({"id": made["webhook_endpoint_id"], "signing_secret": "a new one"});
    stage.client.ok("webhooks/update", change);
    stage.client.run(json!({"workflow": "quick"}));
    assert_signed(&second.wait(1)[0], "second");
    assert_signed(&first.wait(2)[1], "a new one");
    assert_eq!(third.received().len(), 0);
}

#[test]
fn a_failed_job_is_told_with_its_error_and_its_stack() {
    let stage = start();
    let receiver = Receiver::start();
    let mut input = stage.own("broken", &receiver);
    input["nonce"] = json!("order 66");
    let job = stage.client.run(input);
    let told = assert_signed(&receiver.wait(1)[0], SECRET);
    assert_eq!(
        (&told["event"], &told["status"]),
        (&json!("job.failed"), &json!("failed"))
    );
    assert_eq!(
        (&told["error"], &told["result"]),
        (&json!("no such button"), &json!(null))
    );
    assert_eq!(
        (&told["nonce"], &told["job_id"]),
        (&json!("order 66"), &job["job_id"])
    );
    let stack = told["mapped_stack"].as_str().unwrap();
    assert!(
        stack.contains("TypeError: no such button") && stack.contains("index.js"),
        "{stack}"
    );
    assert_eq!(told["mapped_stack"], job["mapped_stack"]);
}

#[test]
fn a_receiver_that_answers_500_is_tried_again_with_the_same_id_until_none_is_left() {
    let stage = start();
    let receiver = Receiver::start();
    receiver.reply([500; 20].map(Reply::Status));
    let job = stage.client.create_job(stage.own("quick", &receiver));
    let mut now: jiff::Timestamp = "2027-01-01T00:00:30Z".parse().unwrap();
    let mut waits = Vec::new();
    for attempts in 1.. {
        let delivery = stage.attempted(&job, attempts);
        assert_eq!(delivery["last_status_code"], 500, "{delivery}");
        let Some(next) = delivery["next_attempt_at"].as_str() else {
            assert_eq!(delivery["status"], "failed", "{delivery}");
            break;
        };
        assert_eq!(delivery["status"], "pending", "{delivery}");
        // The clock stands still, so until it is moved there is no further attempt.
        assert_eq!(receiver.received().len(), attempts as usize);
        let next: jiff::Timestamp = next.parse().unwrap();
        waits.push(next.as_second() - now.as_second());
        now = next;
        stage.server.set_clock(&now.to_string());
    }
    let seen = receiver.received();
    assert_eq!(seen.len(), 10, "about ten attempts: {waits:?}");
    assert!(
        (3..=7).contains(&waits[0]),
        "the second comes after seconds: {waits:?}"
    );
    assert!(
        waits.windows(2).take(6).all(|pair| pair[0] < pair[1]),
        "each wait is longer: {waits:?}"
    );
    let in_all: i64 = waits.iter().sum();
    assert!(
        (43_200..7 * 86_400).contains(&in_all),
        "over a day or so: {waits:?}"
    );
    for callback in &seen {
        assert_signed(callback, SECRET);
        assert_eq!(callback.header("webhook-id"), seen[0].header("webhook-id"));
        assert_eq!(callback.body, seen[0].body);
    }
    assert_ne!(
        seen[1].header("webhook-timestamp"),
        seen[0].header("webhook-timestamp")
    );
}

#[test]
fn a_redirect_is_not_followed_and_counts_as_a_failure() {
    let stage = start();
    let (asked, elsewhere) = (Receiver::start(), Receiver::start());
    asked.reply([Reply::Redirect(elsewhere.url())]);
    let job = stage.client.create_job(stage.own("quick", &asked));
    let delivery = stage.attempted(&job, 1);
    assert_eq!(
        (&delivery["status"], &delivery["last_status_code"]),
        (&json!("pending"), &json!(302))
    );
    assert!(
        delivery["last_error"].as_str().unwrap().contains("redirect"),
        "{delivery}"
    );
    stage.server.set_clock("2027-01-01T00:00:40Z");
    assert_eq!(stage.attempted(&job, 2)["status"], "delivered");
    assert_eq!((asked.received().len(), elsewhere.received().len()), (2, 0));
}

#[test]
fn a_receiver_that_hangs_delays_nobody_else() {
    let stage = start();
    let (hanging, other) = (Receiver::start(), Receiver::start());
    hanging.reply((0..4).map(|_| Reply::Hang));
    for _ in 0..4 {
        stage.client.run(stage.own("quick", &hanging));
    }
    hanging.wait_at_least(1);
    let started = std::time::Instant::now();
    stage.client.run(stage.own("quick", &other));
    other.wait(1);
    // The one that hangs is given up after 15 s.
    assert!(started.elapsed().as_secs() < 12, "{:?}", started.elapsed());
    hanging.release();
}

#[test]
fn a_receiver_that_is_slow_to_answer_is_asked_nothing_more_until_it_has() {
    let stage = start();
    let (slow, other) = (Receiver::start(), Receiver::start());
    slow.reply([Reply::Hang]);
    let [to_slow, to_other] = [&slow, &other].map(|receiver| {
        let made = stage.webhook(json!({"url": receiver.url()}));
        json!({"id": made["webhook_endpoint_id"]})
    });
    let ping = |input: &Value| stage.client.ok("webhooks/test", input.clone());
    ping(&to_slow);
    wait_until("it to be known as slow", PATIENCE, || {
        stage.server.log().contains("slow to answer")
    });
    ping(&to_slow);
    ping(&to_other);
    other.wait(1);
    assert_eq!(slow.received().len(), 1);
    slow.release();
    slow.wait(2);
}

#[test]
fn private_networks_are_refused_unless_the_operator_allows_them() {
    let stage = begin(Setup::at("2027-01-01T00:00:30Z").public_callbacks_only());
    let receiver = Receiver::start();
    let url = receiver.url();
    let input = |url: &str| json!({"workflow": "quick", "callback_url": url, "callback_secret": "s"});
    for url in [
        &url,
        "http://10.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://169.254.169.254/",
        "http://localhost:1/",
        "http://2130706433/",
    ] {
        let mut paths = stage.client.issues("jobs/create", input(url));
        paths.dedup();
        assert_eq!(paths, ["callback_url"], "{url}");
        assert_eq!(
            stage.client.issues("webhooks/create", json!({"url": url})),
            ["url"],
            "{url}"
        );
    }
    assert_eq!(receiver.received().len(), 0);
}
