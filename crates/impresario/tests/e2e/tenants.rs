//! Two tenants on one server: neither can see, change or hear of what is the other's.

use serde_json::{Value, json};

use crate::support::{Bundle, Client, Receiver, Server, Setup, assert_signed};

/// An id of the right form that belongs to nobody.
const NOBODYS: &str = "0192f0c1-2b3c-7d4e-8f50-123456789abc";

/// Everything of one tenant's that has an id or a name.
struct Owned {
    schedule: Value,
    deployment: Value,
    job: Value,
    running: Value,
    webhook: Value,
    credential: Value,
}

fn start() -> (Server, Client, Client) {
    let server = Setup::at("2027-01-01T00:00:30Z").start();
    let (ours, theirs) = (server.tenant("ours"), server.tenant("theirs"));
    (server, ours, theirs)
}

fn fill(client: &Client, receiver: &Receiver) -> Owned {
    let deployment = client.deploy(&Bundle::of(&format!(
        "{}{}",
        crate::support::workflow("private-work", "return 'private';"),
        crate::support::workflow(
            "private-wait",
            "await new Promise((done) => setTimeout(done, 600_000));"
        ),
    )));
    let webhook = client.ok(
        "webhooks/create",
        json!({"url": receiver.url(), "signing_secret": "of ours"}),
    );
    let credential = client.ok(
        "credentials/create",
        json!({"name": "private_name", "value": "private value"}),
    );
    let schedule = client.schedule(json!({"workflow": "private-work", "cron_expr": "@daily"}));
    let job = client.run(json!({"workflow": "private-work", "nonce": "same"}));
    let running = client.create_job(json!({"workflow": "private-wait"}));
    client.job_is(&running, "running");
    Owned {
        schedule: schedule["id"].clone(),
        deployment: json!(deployment),
        job: job["job_id"].clone(),
        running,
        webhook: webhook["webhook_endpoint_id"].clone(),
        credential: credential["credential_id"].clone(),
    }
}

#[test]
fn another_tenants_id_is_answered_exactly_as_one_that_does_not_exist() {
    let (_server, ours, theirs) = start();
    let receiver = Receiver::start();
    let owned = fill(&ours, &receiver);
    theirs.deploy(&Bundle::with("their-work", "return 1;"));
    let before = ours.get_schedule(&owned.schedule);

    let by_id = [
        ("schedules/get", &owned.schedule, json!({})),
        (
            "schedules/update",
            &owned.schedule,
            json!({"enabled": false, "params": {"a": 1}}),
        ),
        ("schedules/delete", &owned.schedule, json!({})),
        ("schedules/trigger", &owned.schedule, json!({})),
        ("schedules/history", &owned.schedule, json!({})),
        ("deployments/sync", &owned.deployment, json!({})),
        ("jobs/get", &owned.job, json!({})),
        ("jobs/cancel", &owned.job, json!({})),
        ("jobs/cancel", &owned.running, json!({})),
        ("webhooks/update", &owned.webhook, json!({"active": false})),
        ("webhooks/delete", &owned.webhook, json!({})),
        (
            "credentials/update",
            &owned.credential,
            json!({"value": "theirs now"}),
        ),
        ("credentials/delete", &owned.credential, json!({})),
    ];
    for (route, id, more) in by_id {
        let ask = |id: &Value| {
            let mut input = more.clone();
            input["id"] = id.clone();
            let error = theirs.refused(route, input, 404).to_string();
            error.replace(id.as_str().unwrap(), "ID")
        };
        assert_eq!(ask(id), ask(&json!(NOBODYS)), "{route}");
    }

    let by_name = [
        ("workflows/get", "workflow", "private-work", json!({})),
        ("workflows/delete", "workflow", "private-work", json!({})),
        ("jobs/create", "workflow", "private-work", json!({})),
        (
            "schedules/create",
            "workflow",
            "private-work",
            json!({"cron_expr": "@daily"}),
        ),
        ("credentials/get", "name", "private_name", json!({})),
    ];
    for (route, key, name, more) in by_name {
        let ask = |name: &str| {
            let mut input = more.clone();
            input[key] = json!(name);
            theirs
                .refused(route, input, 404)
                .to_string()
                .replace(name, "NAME")
        };
        assert_eq!(ask(name), ask("nobodys-own-thing"), "{route}");
    }
    let with_credential = |id: &Value| {
        let input = json!({"workflow": "their-work", "credential_id": id});
        let error = theirs.refused("jobs/create", input, 404).to_string();
        error.replace(id.as_str().unwrap(), "ID")
    };
    assert_eq!(
        with_credential(&owned.credential),
        with_credential(&json!(NOBODYS))
    );

    // Nothing of it had an effect.
    assert_eq!(ours.get_schedule(&owned.schedule), before);
    assert_eq!(ours.job(&owned.running)["status"], "running");
    assert_eq!(
        ours.ok("credentials/get", json!({"name": "private_name"}))["value"],
        "private value"
    );
    assert_eq!(
        ours.ok("webhooks/list", json!({}))["webhook_endpoints"][0]["active"],
        true
    );
    assert_eq!(
        ours.ok("workflows/get", json!({"workflow": "private-work"}))["deployment_id"],
        owned.deployment
    );
    ours.ok("jobs/cancel", json!({"id": owned.running}));
}

#[test]
fn lists_show_nothing_of_another_tenants() {
    let (_server, ours, theirs) = start();
    let receiver = Receiver::start();
    let owned = fill(&ours, &receiver);
    for (route, key, input) in [
        ("schedules/list", "schedules", json!({})),
        ("schedules/list", "schedules", json!({"workflow": "private-work"})),
        ("deployments/list", "deployments", json!({})),
        ("workflows/list", "deployed_workflows", json!({})),
        ("workflows/list", "in_progress_builds", json!({})),
        ("jobs/list", "jobs", json!({})),
        ("jobs/list", "jobs", json!({"schedule_id": owned.schedule})),
        ("jobs/list", "jobs", json!({"workflow": "private-work"})),
        ("logs/list", "logs", json!({})),
        ("logs/list", "logs", json!({"jobId": owned.job})),
        ("webhooks/list", "webhook_endpoints", json!({})),
        ("webhooks/deliveries", "deliveries", json!({})),
        ("webhooks/deliveries", "deliveries", json!({"job_id": owned.job})),
        (
            "webhooks/deliveries",
            "deliveries",
            json!({"webhook_endpoint_id": owned.webhook}),
        ),
        ("credentials/list", "credentials", json!({})),
    ] {
        assert_eq!(theirs.ok(route, input.clone())[key], json!([]), "{route} {input}");
    }
    ours.ok("jobs/cancel", json!({"id": owned.running}));
}

#[test]
fn names_nonces_and_callbacks_do_not_cross() {
    let (server, ours, theirs) = start();
    let sides = [(&ours, "ours"), (&theirs, "theirs")].map(|(client, word)| {
        let receiver = Receiver::start();
        client.deploy(&Bundle::of(&format!(
            "{}{}",
            format_args!("const side = {word:?};\n"),
            "export const w = workflow('same-name', (ctx, input) => ({ side, credentials: input.credentials }), \
             { credentialNames: ['same_name'] });"
        )));
        client.ok("credentials/create", json!({"name": "same_name", "value": word}));
        client.ok("webhooks/create", json!({"url": receiver.url(), "signing_secret": word}));
        (client, word, receiver)
    });
    let ids = sides.each_ref().map(|(client, _, _)| {
        client.schedule(json!({"workflow": "same-name", "cron_expr": "* * * * *"}));
        client.create_job(json!({"workflow": "same-name", "nonce": "the same"}))
    });
    assert_ne!(ids[0], ids[1]);
    server.set_clock("2027-01-01T00:01:00Z");
    for (client, word, receiver) in &sides {
        let callbacks = receiver.wait(2);
        for callback in callbacks {
            let body = assert_signed(&callback, word);
            assert_eq!(
                body["result"],
                json!({"side": word, "credentials": {"same_name": word}})
            );
            assert_eq!(client.job(&body["job_id"])["status"], "completed");
        }
    }
    // Both servings are over: nothing more is owed to anybody.
    for (client, _, receiver) in &sides {
        let deliveries = client.ok("webhooks/deliveries", json!({}));
        assert_eq!(
            deliveries["deliveries"].as_array().unwrap().len(),
            2,
            "{deliveries}"
        );
        assert_eq!(receiver.received().len(), 2);
    }
}

#[test]
fn a_tenant_that_fills_the_queue_does_not_make_another_wait_for_all_of_it() {
    let server = Setup::at("2027-01-01T00:00:30Z").job_slots(2).start();
    let (greedy, other) = (server.tenant("greedy"), server.tenant("other"));
    greedy.deploy(&Bundle::with(
        "slow",
        "await new Promise((done) => setTimeout(done, 1_000));",
    ));
    other.deploy(&Bundle::with("quick", "return 1;"));
    for second in 0..8 {
        server.set_clock(&format!("2027-01-01T00:00:4{second}Z"));
        greedy.create_job(json!({"workflow": "slow"}));
    }
    server.set_clock("2027-01-01T00:00:50Z");
    other.run(json!({"workflow": "quick"}));
    let waiting = greedy.ok("jobs/list", json!({"status": "queued"}));
    let waiting = waiting["jobs"].as_array().unwrap().len();
    assert!(
        waiting >= 3,
        "only {waiting} of the 8 jobs that filled the queue still wait"
    );
    for job in greedy.ok("jobs/list", json!({}))["jobs"].as_array().unwrap() {
        // Some have ended by now, which is as good.
        greedy.call("jobs/cancel", &json!({"id": job["job_id"]}));
    }
}
