//! What a tenant sets for itself: whether it hears of failures, and its browser profiles.

use serde_json::{Value, json};

use crate::support::{Bundle, Client, Receiver, Setup, assert_signed, workflow};

fn deliveries(client: &Client, job: &Value) -> Vec<Value> {
    let answer = client.ok("webhooks/deliveries", json!({"job_id": job["job_id"]}));
    answer["deliveries"].as_array().unwrap().clone()
}

#[test]
fn stored_webhooks_hear_nothing_of_failures_where_the_tenant_says_so() {
    let server = Setup::at("2027-01-01T00:00:30Z").start();
    let (client, other) = (server.tenant("acme"), server.tenant("other"));
    for client in [&client, &other] {
        client.deploy(&Bundle::of(&format!(
            "{}{}",
            workflow("quick", "return 1;"),
            workflow("broken", "throw new Error('no');"),
        )));
    }
    let (stored, own) = (Receiver::start(), Receiver::start());
    for client in [&client, &other] {
        client.ok("webhooks/create", json!({"url": stored.url()}));
    }
    let set = |input: Value| client.ok("tenant/settings", input);
    let settings = |disabled: bool| {
        json!({
            "code_sharing_enabled": false,
            "disable_job_failure_notifications": disabled,
            "debug_notification_email": null,
        })
    };
    assert_eq!(set(json!({})), settings(false));
    let broken = json!({"workflow": "broken"});
    assert_eq!(deliveries(&client, &client.run(broken.clone())).len(), 1);

    assert_eq!(
        set(json!({"disable_job_failure_notifications": true})),
        settings(true)
    );
    assert_eq!(set(json!({})), settings(true), "what is absent stays");
    // What is owed is put down with the end of the job, so what is not there now never will be.
    assert_eq!(deliveries(&client, &client.run(broken.clone())), [] as [Value; 0]);
    let quick = client.run(json!({"workflow": "quick"}));
    assert_eq!(deliveries(&client, &quick)[0]["event"], "job.completed");
    let told = client.run(json!({
        "workflow": "broken", "callback_url": own.url(), "callback_secret": "of its own",
    }));
    let body = assert_signed(&own.wait(1)[0], "of its own");
    assert_eq!(
        (&body["job_id"], &body["event"]),
        (&told["job_id"], &json!("job.failed"))
    );
    assert_eq!(deliveries(&other, &other.run(broken.clone())).len(), 1);
    assert_eq!(
        other.ok("tenant/settings", json!({})),
        settings(false),
        "it is each tenant's own"
    );

    set(json!({"disable_job_failure_notifications": false}));
    assert_eq!(deliveries(&client, &client.run(broken)).len(), 1);

    let wrong = |input| client.issues("tenant/settings", input);
    assert_eq!(
        wrong(json!({"disable_job_failure_notifications": null})),
        ["disable_job_failure_notifications"]
    );
    assert_eq!(wrong(json!({"disable_notifications": true})), [""]);
}

#[test]
fn a_browser_profile_is_made_once_for_its_name() {
    let server = Setup::at("2027-01-01T00:00:30Z").start();
    let (client, other) = (server.tenant("acme"), server.tenant("other"));
    let ensure = |client: &Client, name: &str| client.ok("browserProfiles/ensure", json!({"name": name}));
    let made = ensure(&client, "portal-login");
    assert_eq!(
        made,
        json!({"success": true, "profile_id": made["profile_id"], "name": "portal-login", "created": true})
    );
    let again = ensure(&client, "portal-login");
    assert_eq!(
        (&again["profile_id"], &again["created"]),
        (&made["profile_id"], &json!(false))
    );
    for (client, name) in [(&client, "Portal-Login"), (&other, "portal-login")] {
        let another = ensure(client, name);
        assert_eq!(another["created"], true);
        assert_ne!(another["profile_id"], made["profile_id"]);
    }
    for wrong in [
        json!({}),
        json!({"name": ""}),
        json!({"name": "a".repeat(101)}),
        json!({"name": 1}),
    ] {
        assert_eq!(client.issues("browserProfiles/ensure", wrong), ["name"]);
    }
}
