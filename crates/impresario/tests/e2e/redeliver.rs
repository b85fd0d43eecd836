//! A delivery that is sent once more because its owner asks.

use serde_json::{Value, json};

use crate::support::{
    Bundle, Client, PATIENCE, Receiver, Reply, Server, Setup, assert_signed, wait_for, wait_until, workflow,
};

struct Stage {
    server: Server,
    client: Client,
    receiver: Receiver,
}

impl Stage {
    fn new() -> Self {
        let server = Setup::at("2027-01-01T00:00:30Z").start();
        let client = server.tenant("acme");
        client.deploy(&Bundle::of(&workflow("quick", "return 1;")));
        Self {
            server,
            client,
            receiver: Receiver::start(),
        }
    }

    fn delivery(&self, filter: Value, what: impl Fn(&Value) -> bool) -> Value {
        wait_for("the delivery", PATIENCE, || {
            let found = self.client.ok("webhooks/deliveries", filter.clone())["deliveries"][0].clone();
            if what(&found) {
                Ok(found)
            } else {
                Err(found.to_string())
            }
        })
    }

    fn again(&self, delivery: &Value) -> Value {
        self.client.ok(
            "webhooks/redeliver",
            json!({"delivery_id": delivery["delivery_id"]}),
        )
    }
}

#[test]
fn what_was_delivered_goes_out_again_with_the_same_id_and_body_and_may_fail_and_be_tried_again() {
    let stage = Stage::new();
    let endpoint = stage.client.ok(
        "webhooks/create",
        json!({"url": stage.receiver.url(), "signing_secret": "of the endpoint"}),
    )["webhook_endpoint_id"]
        .clone();
    let job = stage.client.run(json!({"workflow": "quick"}))["job_id"].clone();
    let first = stage.receiver.wait(1)[0].clone();
    let of_job = json!({"job_id": job});
    let delivery = stage.delivery(of_job.clone(), |found| found["status"] == "delivered");
    assert_eq!(delivery["next_attempt_at"], json!(null));

    stage.receiver.reply([Reply::Status(500)]);
    let answer = stage.again(&delivery);
    assert_eq!(answer["success"], true);
    assert!(
        answer["message"].as_str().unwrap().contains("due now"),
        "{answer}"
    );
    let second = stage.receiver.wait(2)[1].clone();
    assert_eq!(assert_signed(&second, "of the endpoint")["job_id"], job);
    assert_eq!(second.header("webhook-id"), first.header("webhook-id"));
    assert_eq!(second.body, first.body);
    // It failed: the first wait of the schedule is before it, and not the second one.
    let waiting = stage.delivery(of_job.clone(), |found| found["attempts"] == 2);
    assert_eq!(
        (&waiting["status"], &waiting["last_status_code"]),
        (&json!("pending"), &json!(500))
    );
    let next: jiff::Timestamp = waiting["next_attempt_at"].as_str().unwrap().parse().unwrap();
    let wait = next.duration_since("2027-01-01T00:00:30Z".parse().unwrap());
    assert!(wait <= jiff::SignedDuration::from_secs(10), "{wait:?}");
    // One that waits is due at once.
    stage.again(&delivery);
    assert_eq!(stage.receiver.wait(3)[2].body, first.body);
    let after = stage.delivery(of_job.clone(), |found| found["status"] == "delivered");
    assert_eq!(after["attempts"], 3);

    // Under way: nobody knows how it ends.
    stage.receiver.reply([Reply::Hang]);
    stage.again(&delivery);
    stage.receiver.wait(4);
    let input = json!({"delivery_id": delivery["delivery_id"]});
    let refused = stage.client.refused("webhooks/redeliver", input.clone(), 409);
    assert!(
        refused["message"].as_str().unwrap().contains("under way"),
        "{refused}"
    );
    stage.receiver.release();
    stage.delivery(of_job, |found| found["attempts"] == 4);

    // The owner wants nothing sent there.
    let update = json!({"id": endpoint, "active": false});
    stage.client.ok("webhooks/update", update);
    let refused = stage.client.refused("webhooks/redeliver", input.clone(), 409);
    assert!(
        refused["message"].as_str().unwrap().contains("not active"),
        "{refused}"
    );
    stage.client.ok("webhooks/delete", json!({"id": endpoint}));
    let refused = stage.client.refused("webhooks/redeliver", input.clone(), 409);
    assert!(
        refused["message"].as_str().unwrap().contains("deleted"),
        "{refused}"
    );

    let other = stage.server.tenant("other");
    other.refused("webhooks/redeliver", input, 404);
    let unknown = json!({"delivery_id": "00000000-0000-0000-0000-000000000000"});
    stage.client.refused("webhooks/redeliver", unknown, 404);
    assert_eq!(
        stage.client.issues("webhooks/redeliver", json!({"id": job})),
        ["", "delivery_id"]
    );
}

#[test]
fn what_was_given_up_has_all_its_attempts_before_it_again() {
    let stage = Stage::new();
    stage.receiver.reply((0..30).map(|_| Reply::Status(500)));
    let job = stage.client.run(json!({
        "workflow": "quick", "callback_url": stage.receiver.url(), "callback_secret": "of the job",
    }))["job_id"]
        .clone();
    let of_job = json!({"job_id": job});
    // The clock runs ahead of every wait until none is left.
    let mut day = 1;
    let mut attempts = 0;
    wait_until("the delivery to be given up", 4 * PATIENCE, || {
        let found = stage.client.ok("webhooks/deliveries", of_job.clone())["deliveries"][0].clone();
        if found["status"] == "pending" && found["attempts"].as_u64() > Some(attempts) {
            attempts = found["attempts"].as_u64().unwrap();
            day += 2;
            stage.server.write_clock(&format!("2027-01-{day:02}T00:00:30Z"));
        }
        found["status"] == "failed"
    });
    let failed = stage.delivery(of_job.clone(), |found| found["status"] == "failed");
    let round = failed["attempts"].as_u64().unwrap();
    assert!(round >= 5, "{failed}");
    stage.again(&failed);
    let waiting = stage.delivery(of_job, |found| found["attempts"].as_u64() == Some(round + 1));
    assert_eq!(waiting["status"], "pending", "it is tried again: {waiting}");
}
