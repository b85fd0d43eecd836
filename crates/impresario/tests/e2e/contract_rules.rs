//! Rules of the contract that hold in one place alone: sizes, defaults, and what is let through.

use serde_json::{Value, json};

use crate::support::{Bundle, Client, PATIENCE, Receiver, Server, Setup, wait_for, workflow};

fn start() -> (Server, Client) {
    let server = Setup::at("2027-01-01T00:00:30Z").start();
    let client = server.tenant("acme");
    (server, client)
}

#[test]
fn a_bundle_may_be_larger_than_other_bodies_and_needs_to_name_no_entry_point() {
    let (_server, client) = start();
    // It does not compress, so that the request itself has more than 1 MiB.
    let mut state = 1_u64;
    let mut noise = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + u8::try_from((state >> 33) % 90).unwrap())
    };
    let noise: String = (0..1_400_000).map(|_| noise()).collect();
    let source = Bundle::with("w", "return 1;")
        .file("./noise.txt", &noise)
        .packed();
    assert!(source.len() > 1024 * 1024, "{}", source.len());
    let made = client.ok(
        "deployments/create",
        json!({"source": source, "auto_repair": true, "description": "big"}),
    );
    let ready = wait_for("the build", PATIENCE, || {
        let deployment = client.ok("deployments/sync", json!({"id": made["deployment_id"]}));
        match deployment["status"].as_str() {
            Some("building") => Err(deployment.to_string()),
            _ => Ok(deployment),
        }
    });
    assert_eq!(ready["status"], "ready", "{ready}");
    assert_eq!(ready["entry_point"], "index.ts", "the hosted service's default");
    assert_eq!(ready["description"], "big");
    // Any other body of that size is refused.
    client.refused(
        "jobs/create",
        json!({"workflow": "w", "params": {"text": noise}}),
        413,
    );
}

#[test]
fn what_is_being_built_is_listed() {
    let (_server, client) = start();
    let slow = Bundle::of(&format!(
        "await new Promise((done) => setTimeout(done, 3_000));\n{}",
        workflow("w", "return 1;")
    ));
    let made = client.ok(
        "deployments/create",
        json!({"source": slow.packed(), "entry_point": slow.entry_point()}),
    );
    let listed = client.ok("workflows/list", json!({}));
    assert_eq!(
        listed["in_progress_builds"][0]["id"], made["deployment_id"],
        "{listed}"
    );
}

#[test]
fn lists_have_their_default_sizes() {
    let (_server, client) = start();
    client.deploy(&Bundle::with(
        "w",
        "for (let n = 0; n < 101; n++) console.log(n);",
    ));
    let job = client.run(json!({"workflow": "w", "headless": false}));
    let logs = client.ok("logs/list", json!({"jobId": job["job_id"]}));
    assert_eq!(logs["logs"].as_array().unwrap().len(), 100);
    assert!(logs["nextPageToken"].is_string());
    let input = |nonce: usize| json!({"workflow": "w", "nonce": nonce.to_string(), "headless": true});
    let ids: Vec<Value> = (0..20).map(|nonce| client.create_job(input(nonce))).collect();
    let jobs = client.ok("jobs/list", json!({}));
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 20);
    assert!(jobs["next_cursor"].is_string());
    // A request that is repeated gets its job, also where the workflow has gone since.
    client.ok("workflows/delete", json!({"workflow": "w"}));
    assert_eq!(client.create_job(input(0)), ids[0]);
    client.refused("jobs/create", input(20), 404);
}

#[test]
fn the_most_that_may_be_asked_for() {
    let (_server, client) = start();
    client.deploy(&Bundle::with("w", "return 1;"));
    let id = client.schedule(json!({"workflow": "w", "cron_expr": "@hourly"}))["id"].clone();
    for (route, field, more, most) in [
        ("schedules/preview", "count", json!({"cron_expr": "@hourly"}), 100),
        ("schedules/history", "limit", json!({"id": id}), 200),
        ("schedules/list", "limit", json!({}), 200),
        ("jobs/list", "limit", json!({}), 100),
        ("logs/list", "limit", json!({}), 1000),
        ("webhooks/deliveries", "limit", json!({}), 200),
        ("deployments/list", "limit", json!({}), 200),
    ] {
        let with = |count: u32| {
            let mut input = more.clone();
            input[field] = json!(count);
            input
        };
        client.ok(route, with(1));
        client.ok(route, with(most));
        for count in [0, most + 1] {
            assert_eq!(client.issues(route, with(count)), [field], "{route} {count}");
        }
    }
    let cleared = client.ok(
        "schedules/update",
        json!({"id": id, "disable_default_proxy": true}),
    );
    assert_eq!(cleared["schedule"]["disable_default_proxy"], true);
    let cleared = client.ok(
        "schedules/update",
        json!({"id": id, "disable_default_proxy": null}),
    );
    assert_eq!(cleared["schedule"]["disable_default_proxy"], json!(null));
    // What has no value may be said to have none.
    let proxy = json!({"country": "us", "state": "ca", "city": null, "zip": null, "asn": null});
    let set = client.ok("schedules/update", json!({"id": id, "residential_proxy": proxy}));
    assert_eq!(
        set["schedule"]["residential_proxy"],
        json!({"country": "US", "state": "CA"})
    );
    client.ok(
        "schedules/preview",
        json!({"cron_expr": "@daily", "after": null, "start_at": null, "end_at": null}),
    );
    client.create_job(json!({"workflow": "w", "credential_id": null}));
}

#[test]
fn a_schedule_whose_start_lies_behind_its_last_fire_is_finished() {
    let (_server, client) = start();
    client.deploy(&Bundle::with("w", "return 1;"));
    let id = client.schedule(json!({"workflow": "w", "cron_expr": "0 9 29 2 *"}))["id"].clone();
    let changed = client.ok(
        "schedules/update",
        json!({"id": id, "start_at": "9998-03-01T00:00:00Z"}),
    );
    let schedule = &changed["schedule"];
    assert_eq!(
        (&schedule["state"], &schedule["next_fire_at"]),
        (&json!("finished"), &json!(null))
    );
}

#[test]
fn a_webhook_moves_and_its_deliveries_come_in_pages_with_every_attempt() {
    let (_server, client) = start();
    client.deploy(&Bundle::with("w", "return 1;"));
    let (first, second) = (Receiver::start(), Receiver::start());
    let made = client.ok("webhooks/create", json!({"url": first.url(), "description": "d"}));
    let id = &made["webhook_endpoint_id"];
    let listed = || client.ok("webhooks/list", json!({}))["webhook_endpoints"][0].clone();
    let before = listed();
    client.ok("webhooks/update", json!({"id": id}));
    assert_eq!(listed(), before, "nothing was asked for, and nothing has changed");
    client.ok(
        "webhooks/update",
        json!({"id": id, "url": second.url(), "description": null}),
    );
    let shown = listed();
    assert_eq!(
        (&shown["url"], &shown["description"]),
        (&json!(second.url()), &json!(null))
    );
    for _ in 0..2 {
        client.run(json!({"workflow": "w"}));
    }
    second.wait(2);
    assert_eq!(first.received().len(), 0);
    let page = wait_for("both deliveries", PATIENCE, || {
        let all = client.ok("webhooks/deliveries", json!({}));
        let delivered = all["deliveries"].as_array().unwrap();
        match delivered
            .iter()
            .filter(|one| one["status"] == "delivered")
            .count()
        {
            2 => Ok(client.ok("webhooks/deliveries", json!({"limit": 1}))),
            _ => Err(all.to_string()),
        }
    });
    let rest = client.ok(
        "webhooks/deliveries",
        json!({"limit": 1, "cursor": page["next_cursor"]}),
    );
    assert_ne!(
        page["deliveries"][0]["delivery_id"],
        rest["deliveries"][0]["delivery_id"]
    );
    assert_eq!(rest["next_cursor"], json!(null));
    let attempts = page["deliveries"][0]["attempt_log"].as_array().unwrap();
    assert_eq!(attempts.len(), 1);
    assert_eq!(
        (&attempts[0]["number"], &attempts[0]["status_code"]),
        (&json!(1), &json!(204))
    );
}

#[test]
fn a_credentials_name_is_one_in_any_case_and_stays_while_a_job_needs_it() {
    let (_server, client) = start();
    let source = workflow("w", "await new Promise((done) => setTimeout(done, 600_000));");
    let manifest = json!({"workflows": [{"name": "w", "credentialNames": ["pin"]}]});
    client.deploy(&Bundle::of(&source).manifest(&manifest["workflows"]));
    let pin = client.ok("credentials/create", json!({"name": "Pin", "value": "1"}))["credential_id"].clone();
    client.refused("credentials/create", json!({"name": "pIN", "value": "2"}), 409);
    assert_eq!(
        client.ok("credentials/get", json!({"name": "PIN"})),
        json!({"id": pin, "value": "1"})
    );
    let near = client.refused("credentials/get", json!({"name": "pinn"}), 404);
    assert!(
        near["message"]
            .as_str()
            .unwrap()
            .ends_with("did you mean \"pin\"?"),
        "{near}"
    );
    let other = client.ok("credentials/upsert", json!({"name": "other", "value": "3"}));
    assert_eq!(other["overwritten"], false);
    client.refused(
        "credentials/update",
        json!({"id": other["credential_id"], "name": "PIN"}),
        409,
    );
    let before = client.ok("credentials/list", json!({}));
    client.ok("credentials/update", json!({"id": pin}));
    assert_eq!(client.ok("credentials/list", json!({})), before);

    let job = client.create_job(json!({"workflow": "w"}));
    client.job_is(&job, "running");
    client.refused("credentials/delete", json!({"id": pin}), 409);
    client.refused("credentials/update", json!({"id": pin, "name": "pin2"}), 409);
    // Its own name is no other one, and a new value no other credential.
    client.ok(
        "credentials/update",
        json!({"id": pin, "name": "PIN", "value": "4"}),
    );
    client.ok("jobs/cancel", json!({"id": job}));
    client.ok("credentials/update", json!({"id": pin, "name": "pin2"}));
    client.ok("credentials/delete", json!({"id": pin}));
}

#[test]
fn what_nobody_has_is_named_with_what_is_there() {
    let (_server, client) = start();
    let said = |route: &str, input: Value| {
        let error = client.refused(route, input, 404);
        error["message"].as_str().unwrap().to_owned()
    };
    let told = said("workflows/get", json!({"workflow": "check"}));
    assert_eq!(
        told,
        "workflow: no deployed workflow \"check\"; nothing is deployed yet"
    );
    client.deploy(&Bundle::with("claims", "return 1;"));
    let told = said("workflows/get", json!({"workflow": "check"}));
    assert_eq!(told, "workflow: no deployed workflow \"check\"; deployed: claims");
    let told = said("workflows/get", json!({"workflow": "clams"}));
    assert_eq!(
        told,
        "workflow: no deployed workflow \"clams\"; did you mean \"claims\"?"
    );
    let told = said("schedule/list", json!({}));
    assert_eq!(
        told,
        "no route POST /v1/schedule/list; did you mean /v1/schedules/list?"
    );
}
