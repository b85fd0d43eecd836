//! How a stored webhook fares: pings, secrets that change, receivers that are gone or only fail, and what becomes of what
//! they are owed.

use serde_json::{Value, json};

use crate::{
    cli_deploy::Shell,
    support::{
        Bundle, Client, PATIENCE, Receiver, Reply, Request, Server, Setup, assert_signed, signal_pid,
        signed_by, wait_for, workflow,
    },
};

const OLD: &str = "the secret before";
const NEW: &str = "whsec_c2VjcmV0IG9mIHRoZSBlbmRwb2ludCB0ZXN0cw==";

struct Stage {
    server: Server,
    client: Client,
    receiver: Receiver,
    endpoint: Value,
}

impl Stage {
    fn new(setup: Setup) -> Self {
        let server = setup.start();
        let client = server.tenant("acme");
        client.deploy(&Bundle::of(&workflow("quick", "return 1;")));
        let receiver = Receiver::start();
        let made = client.ok(
            "webhooks/create",
            json!({"url": receiver.url(), "signing_secret": OLD}),
        );
        Self {
            server,
            client,
            receiver,
            endpoint: made["webhook_endpoint_id"].clone(),
        }
    }

    fn at_noon() -> Self {
        Self::new(Setup::at("2027-01-01T12:00:00Z"))
    }

    fn shown(&self) -> Value {
        self.client.ok("webhooks/list", json!({}))["webhook_endpoints"][0].clone()
    }

    fn update(&self, mut change: Value) {
        change["id"] = self.endpoint.clone();
        self.client.ok("webhooks/update", change);
    }

    fn run(&self) -> Value {
        self.client.run(json!({"workflow": "quick"}))["job_id"].clone()
    }

    fn delivery(&self, filter: Value, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, PATIENCE, || {
            let found = self.client.ok("webhooks/deliveries", filter.clone())["deliveries"][0].clone();
            if fits(&found) {
                Ok(found)
            } else {
                Err(found.to_string())
            }
        })
    }

    fn of_job(&self, job: &Value, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        self.delivery(json!({"job_id": job}), what, fits)
    }

    fn wait_for_metric(&self, line: &str) {
        wait_for(line, PATIENCE, || {
            let answer = Request::get("/metrics").send(self.client.address()).unwrap();
            let page = String::from_utf8_lossy(&answer.body).into_owned();
            if page.lines().any(|found| found == line) {
                Ok(())
            } else {
                Err(page)
            }
        });
    }

    /// Sends a ping and waits for its end.
    fn ping(&self) -> Value {
        let sent = self.client.ok("webhooks/test", json!({"id": self.endpoint}));
        let filter = json!({"delivery_id": sent["delivery_id"]});
        self.delivery(filter, "the ping's end", |found| found["status"] != "pending")
    }
}

#[test]
fn a_ping_is_signed_and_sent_once_and_says_how_it_went() {
    let stage = Stage::at_noon();
    let ping = stage.ping();
    assert_eq!(
        (
            &ping["status"],
            &ping["event"],
            &ping["job_id"],
            &ping["attempts"]
        ),
        (&json!("delivered"), &json!("ping"), &json!(null), &json!(1))
    );
    let told = assert_signed(&stage.receiver.wait(1)[0], OLD);
    assert_eq!(
        told,
        json!({
            "event": "ping", "webhook_endpoint_id": stage.endpoint, "occurred_at": "2027-01-01T12:00:00.000Z",
        })
    );

    // Also to one that is not active: so its owner sees whether it is well again. A failure is not tried again.
    stage.update(json!({"active": false}));
    stage
        .receiver
        .reply([Reply::Body(503, b"<b>\x1b[31mnot\0 today\xff</b>\n\xe2\x80\xae")]);
    let ping = stage.ping();
    assert_eq!(
        (&ping["status"], &ping["reason"], &ping["attempts"]),
        (&json!("failed"), &json!("no attempt is left"), &json!(1))
    );
    let attempt = &ping["attempt_log"][0];
    assert_eq!(
        (&attempt["status_code"], &attempt["error_class"]),
        (&json!(503), &json!("status"))
    );
    assert_eq!(
        attempt["response_excerpt"],
        "<b>\\x1b[31mnot\\x00 today\u{fffd}</b>\n\\u{202e}"
    );
    assert_eq!(stage.shown()["failing_since"], "2027-01-01T12:00:00.000Z");
    stage.ping();
    assert_eq!(stage.shown()["failing_since"], json!(null));

    let listed = |status: &str| {
        let found = stage.client.ok("webhooks/deliveries", json!({"status": status}));
        found["deliveries"].as_array().unwrap().len()
    };
    assert_eq!(["delivered", "failed", "pending"].map(listed), [2, 1, 0]);
    let error = stage
        .client
        .refused("webhooks/deliveries", json!({"status": "lost"}), 400);
    assert!(
        error.to_string().contains("pending, delivered, failed"),
        "{error}"
    );

    let error = stage.client.refused("webhooks/test", json!({}), 400);
    assert_eq!(error["data"]["issues"][0]["path"], json!(["id"]), "{error}");
    // To hear of pings is not a thing to subscribe to.
    let error = stage.client.refused(
        "webhooks/update",
        json!({"id": stage.endpoint, "events": ["ping"]}),
        400,
    );
    assert!(error.to_string().contains("is not an event"), "{error}");
}

#[test]
fn the_command_waits_for_what_comes_of_a_ping() {
    let server = Setup::at("2027-01-01T12:00:00Z").start();
    let shell = Shell::of(&server, "acme");
    let receiver = Receiver::start();
    let id = shell.json(&["webhooks", "create", &receiver.url()])["webhook_endpoint_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let ran = shell.ok(&["webhooks", "test", &id]);
    assert!(
        ran.stdout.is_empty() && ran.stderr.contains("the ping arrived") && ran.stderr.contains("with 204"),
        "{ran:?}"
    );
    receiver.reply([Reply::Status(404), Reply::Status(410)]);
    let said = shell.fails(1, &["webhooks", "test", &id]);
    assert!(said.contains("did not arrive: answered 404"), "{said}");
    let said = shell.fails(1, &["webhooks", "test", &id]);
    assert!(said.contains("answered 410"), "{said}");
    let listed = shell.ok(&["webhooks", "list"]).stdout;
    assert!(
        listed.contains("disabled") && listed.contains("410 Gone"),
        "{listed}"
    );
    // It is inactive now, and answers again.
    let ping = shell.json(&["webhooks", "test", &id]);
    assert_eq!(ping["status"], "delivered", "{ping}");
    shell.fails(3, &["webhooks", "test", "019e2a35-1f4e-7c11-9d0a-6b1f0b7a3c58"]);

    let made = shell.ok(&["webhooks", "rotate", &id, "--grace", "2d"]);
    assert!(
        made.stdout.starts_with("whsec_") && made.stderr.contains("signs as well until 2027-01-03T12:00:00"),
        "{made:?}"
    );
    shell.ok(&["webhooks", "update", &id, "--active"]);
    shell.ok(&["webhooks", "test", &id]);
    assert_signed(receiver.received().last().unwrap(), made.stdout.trim());
    let said = shell.fails(2, &["webhooks", "update", &id, "--grace", "2d"]);
    assert!(said.contains("--secret-env"), "{said}");
}

#[test]
fn a_new_secret_signs_beside_the_old_one_until_its_time_is_over() {
    let stage = Stage::at_noon();
    // What waits for its next attempt is signed by what holds then.
    stage.receiver.reply([Reply::Status(500)]);
    let job = stage.run();
    let waiting = stage.of_job(&job, "the failed attempt", |found| found["attempts"] == 1);
    let rotated = stage.client.ok(
        "webhooks/rotate",
        json!({"id": stage.endpoint, "signing_secret": NEW, "secret_grace_seconds": 60}),
    );
    assert_eq!(
        (&rotated["signing_secret"], &rotated["old_secret_valid_until"]),
        (&Value::Null, &json!("2027-01-01T12:01:00.000Z"))
    );
    assert_eq!(
        stage.shown()["old_secrets_valid_until"],
        rotated["old_secret_valid_until"]
    );
    stage.server.set_clock("2027-01-01T12:00:30Z");
    let again = stage.receiver.wait(2)[1].clone();
    assert_eq!(again.header("webhook-id"), waiting["delivery_id"].as_str());
    assert_signed(&again, NEW);
    assert_eq!(signed_by(&again, &[NEW, OLD]), [true, true]);

    stage.server.set_clock("2027-01-01T12:01:00Z");
    stage.ping();
    let after = stage.receiver.wait(3)[2].clone();
    assert_signed(&after, NEW);
    assert_eq!(signed_by(&after, &[NEW, OLD]), [true, false]);
    assert_eq!(stage.shown()["old_secrets_valid_until"], json!(null));

    // The server makes one, and none before it signs any more.
    let rotated = stage.client.ok(
        "webhooks/rotate",
        json!({"id": stage.endpoint, "secret_grace_seconds": 0}),
    );
    assert_eq!(rotated["old_secret_valid_until"], json!(null));
    let made = rotated["signing_secret"].as_str().unwrap();
    stage.ping();
    let last = stage.receiver.wait(4)[3].clone();
    assert_signed(&last, made);
    assert_eq!(signed_by(&last, &[made, NEW, OLD]), [true, false, false]);

    for (input, path) in [
        (
            json!({"id": stage.endpoint, "secret_grace_seconds": 5}),
            "secret_grace_seconds",
        ),
        (
            json!({"id": stage.endpoint, "signing_secret": "x", "secret_grace_seconds": 2_592_001}),
            "secret_grace_seconds",
        ),
        (
            json!({"id": stage.endpoint, "signing_secret": "whsec_"}),
            "signing_secret",
        ),
    ] {
        let error = stage.client.refused("webhooks/update", input, 400);
        assert_eq!(error["data"]["issues"][0]["path"], json!([path]), "{error}");
    }
}

#[test]
fn one_that_says_it_is_gone_is_disabled_and_gets_all_it_is_owed_once_it_is_active_again() {
    let stage = Stage::at_noon();
    stage.receiver.reply([Reply::Status(500), Reply::Status(410)]);
    let first = stage.run();
    stage.of_job(&first, "the failed attempt", |found| found["attempts"] == 1);
    let second = stage.run();
    let held = stage.of_job(&second, "the one that is held back", |found| {
        found["attempts"] == 1
    });
    assert_eq!(
        (&held["status"], &held["next_attempt_at"], &held["reason"]),
        (
            &json!("pending"),
            &json!(null),
            &json!("held back: its webhook endpoint is not active")
        )
    );
    let shown = stage.shown();
    assert_eq!(
        (&shown["active"], &shown["disabled_at"]),
        (&json!(false), &json!("2027-01-01T12:00:00.000Z"))
    );
    assert!(
        shown["disabled_reason"].as_str().unwrap().contains("410 Gone"),
        "{shown}"
    );
    // The one that waited is held back when its turn comes, and what happens now is told to nobody.
    stage.server.set_clock("2027-01-01T12:00:30Z");
    stage.of_job(&first, "the other one", |found| {
        found["next_attempt_at"].is_null() && found["status"] == "pending"
    });
    let third = stage.run();
    assert_eq!(
        stage.client.ok("webhooks/deliveries", json!({"job_id": third}))["deliveries"],
        json!([])
    );
    stage.client.refused(
        "webhooks/redeliver",
        json!({"delivery_id": held["delivery_id"]}),
        409,
    );
    for line in [
        "impresario_webhook_endpoints_disabled 1",
        "impresario_deliveries_held_back 2",
    ] {
        stage.wait_for_metric(line);
    }

    stage.update(json!({"active": true}));
    let shown = stage.shown();
    for cleared in ["disabled_at", "disabled_reason", "failing_since"] {
        assert_eq!(shown[cleared], json!(null), "{cleared}");
    }
    for job in [&first, &second] {
        stage.of_job(job, "what was owed", |found| found["status"] == "delivered");
    }
    let ids: Vec<Option<String>> = stage
        .receiver
        .wait(4)
        .iter()
        .map(|one| one.header("webhook-id").map(str::to_owned))
        .collect();
    assert!(
        ids[2..].contains(&ids[0]) && ids[2..].contains(&ids[1]),
        "{ids:?}"
    );
}

#[test]
fn one_that_says_it_is_gone_is_asked_once_also_where_the_clock_is_behind_its_making() {
    let stage = Stage::at_noon();
    stage.server.set_clock("2027-01-01T11:00:00Z");
    stage.receiver.reply([410; 9].map(Reply::Status));
    let job = stage.run();
    let held = stage.of_job(&job, "the attempt", |found| found["attempts"] != 0);
    assert_eq!(held["next_attempt_at"], json!(null), "{held}");
    assert_eq!(stage.shown()["active"], false);
    assert_eq!(stage.receiver.received().len(), 1);
}

#[test]
fn five_days_of_nothing_but_failures_disable_it_and_a_success_begins_them_anew() {
    let stage = Stage::at_noon();
    let mut day = 1;
    let mut ping_after_a_day = |replies: Option<u16>| {
        stage.receiver.reply(replies.map(Reply::Status));
        stage.ping();
        day += 1;
        stage.server.set_clock(&format!("2027-01-{day:02}T12:00:00Z"));
        stage.shown()
    };
    for _ in 0..4 {
        assert_eq!(ping_after_a_day(Some(500))["active"], true);
    }
    assert_eq!(ping_after_a_day(None)["failing_since"], json!(null));
    for _ in 0..5 {
        let shown = ping_after_a_day(Some(502));
        assert_eq!(
            (&shown["active"], &shown["failing_since"]),
            (&json!(true), &json!("2027-01-06T12:00:00.000Z"))
        );
    }
    let shown = ping_after_a_day(Some(502));
    assert_eq!(
        (&shown["active"], &shown["disabled_at"]),
        (&json!(false), &json!("2027-01-11T12:00:00.000Z"))
    );
    let reason = shown["disabled_reason"].as_str().unwrap();
    assert!(
        reason.contains("five days") && reason.contains("answered 502"),
        "{reason}"
    );
    assert!(stage.server.log().contains("webhook endpoint disabled"));
}

#[test]
fn what_it_is_owed_goes_to_where_it_is_now_and_nowhere_once_it_is_deleted() {
    let stage = Stage::at_noon();
    stage.receiver.reply([Reply::Status(500), Reply::Status(500)]);
    let (first, second) = (stage.run(), stage.run());
    for job in [&first, &second] {
        stage.of_job(job, "the failed attempt", |found| found["attempts"] == 1);
    }
    let other = Receiver::start();
    other.reply([Reply::Status(500), Reply::Status(500)]);
    stage.update(json!({"url": other.url()}));
    stage.server.set_clock("2027-01-01T12:00:30Z");
    other.wait(2);
    assert_eq!(stage.receiver.received().len(), 2);
    let moved = stage.of_job(&first, "the second attempt", |found| found["attempts"] == 2);
    assert_eq!(moved["url"], other.url());

    stage.client.ok("webhooks/delete", json!({"id": stage.endpoint}));
    stage.server.set_clock("2027-01-01T13:00:00Z");
    for job in [&first, &second] {
        let ended = stage.of_job(job, "the end", |found| found["status"] == "failed");
        assert_eq!(
            (&ended["reason"], &ended["attempts"]),
            (&json!("its webhook endpoint was deleted"), &json!(2))
        );
    }
    assert_eq!(other.received().len(), 2);
}

#[test]
fn what_was_answered_and_not_recorded_at_kill_9_is_sent_again_with_the_same_id() {
    let mut stage = Stage::at_noon();
    stage.receiver.reply([Reply::Hang]);
    let job = stage.run();
    let first = stage.receiver.wait(1)[0].clone();
    // It stands still while it is answered, so the answer is never read.
    signal_pid(stage.server.pid(), "STOP");
    stage.receiver.answer_hanging(204);
    stage.server.kill();
    stage.server.start_again();
    let second = stage.receiver.wait(2)[1].clone();
    assert_eq!(second.header("webhook-id"), first.header("webhook-id"));
    assert_eq!(second.body, first.body);
    let delivered = stage.of_job(&job, "the delivery", |found| found["status"] == "delivered");
    assert_eq!(
        delivered["attempts"], 1,
        "what was not recorded is not on record: {delivered}"
    );
}

#[test]
fn deliveries_go_thirty_days_after_their_end() {
    let mut stage = Stage::at_noon();
    let old = stage.run();
    stage.of_job(&old, "the delivery", |found| found["status"] == "delivered");
    // By this clock all that there is would be old: it is perhaps wrong.
    stage.server.kill();
    stage.server.write_clock("2027-02-05T12:00:00Z");
    stage.server.start_again();
    wait_for("the warning", PATIENCE, || {
        let log = stage.server.log();
        if log.contains("nothing is pruned for an hour") {
            Ok(())
        } else {
            Err(log)
        }
    });
    let found = stage.client.ok("webhooks/deliveries", json!({"job_id": old}));
    assert_eq!(found["deliveries"].as_array().unwrap().len(), 1);
    let new = stage.run();
    stage.of_job(&new, "the delivery", |found| found["status"] == "delivered");

    // Two days later it has gone on, so it is right.
    stage.server.kill();
    stage.server.write_clock("2027-02-07T12:00:00Z");
    stage.server.start_again();
    stage.delivery(json!({"job_id": old}), "nothing", Value::is_null);
    let found = stage.client.ok("webhooks/deliveries", json!({"job_id": new}));
    assert_eq!(found["deliveries"].as_array().unwrap().len(), 1);
    // The job itself stays.
    assert_eq!(stage.client.job(&old)["status"], "completed");
    stage.wait_for_metric("impresario_deliveries_pruned_total 1");
}
