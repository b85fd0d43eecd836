//! The main job: a schedule fires, its workflow runs in a real browser, a signed callback arrives.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::{Bundle, Receiver, Setup, assert_signed};

const SECRET: &str = "a secret of the receiver's";

/// Reads a page, and says something on each level.
const PAGE: &str = r#"
    console.log("opening", input.greeting);
    console.warn("be careful");
    console.error("this is bad");
    await ctx.page.setContent(`<title>Portal</title><p>${input.greeting}</p>`);
    return { title: await ctx.page.title(), text: await ctx.page.locator("p").innerText(), session: ctx.session };
"#;

#[test]
fn a_schedule_fires_at_the_minute_runs_a_page_and_its_signed_callback_arrives() {
    let server = Setup::at("2027-01-01T00:00:30Z").with_browser().start();
    let client = server.tenant("acme");
    let receiver = Receiver::start();
    let deployment = client.deploy(&Bundle::with("read-page", PAGE));
    let schedule = client.schedule(json!({
        "workflow": "read-page", "params": {"greeting": "hello"}, "cron_expr": "* * * * *",
        "callback_url": receiver.url(), "callback_secret": SECRET,
    }));
    assert_eq!(schedule["next_fire_at"], "2027-01-01T00:01:00.000Z");
    assert_eq!(schedule["last_fire_at"], json!(null));

    server.set_clock("2027-01-01T00:01:00.004Z");
    let callbacks = receiver.wait(1);
    let body = assert_signed(&callbacks[0], SECRET);
    assert_eq!(callbacks[0].path, "/callback?of=test");
    let job = body["job_id"].clone();
    assert_eq!(
        body,
        json!({
            "event": "job.completed", "job_id": job, "nonce": null, "workflow": "read-page",
            "deployment_id": deployment, "status": "completed",
            "result": {"title": "Portal", "text": "hello", "session": job},
            "error": null, "mapped_stack": null,
            "schedule_id": schedule["id"], "fire_at": "2027-01-01T00:01:00.000Z",
        })
    );

    let after = client.get_schedule(&schedule["id"]);
    assert_eq!(after["last_fire_at"], "2027-01-01T00:01:00.000Z");
    assert_eq!(after["last_job_id"], job);
    assert_eq!(after["next_fire_at"], "2027-01-01T00:02:00.000Z");
    assert_eq!(after["last_error"], json!(null));
    assert_eq!(after["consecutive_failures"], 0);

    let stored = client.job(&job);
    assert_eq!(stored["status"], "completed");
    assert_eq!(stored["schedule_id"], schedule["id"]);
    assert_eq!(stored["fire_at"], "2027-01-01T00:01:00.000Z");
    assert_eq!(stored["params"], json!({"greeting": "hello"}));
    assert_eq!(stored["result"], body["result"]);
    assert_eq!(stored["attempt"], 1);
    let line = |level: &str, message: &str| (level.to_owned(), message.to_owned());
    assert_eq!(
        client.logs(&job),
        [
            line("info", "opening hello"),
            line("warn", "be careful"),
            line("error", "this is bad")
        ]
    );
    let fires = client.history(&schedule["id"]);
    assert_eq!(fires.len(), 1);
    assert_eq!(fires[0]["outcome"], "fired");
    assert_eq!(fires[0]["job_id"], job);
    assert_eq!(fires[0]["job_status"], "completed");
}

#[test]
fn a_millisecond_before_its_instant_nothing_fires() {
    let server = Setup::at("2027-01-01T00:00:30Z").start();
    let client = server.tenant("acme");
    client.deploy(&Bundle::with("quick", "return 1;"));
    let create = |cron: &str| client.schedule(json!({"workflow": "quick", "cron_expr": cron}))["id"].clone();
    let (witness, watched) = (create("1 0 * * *"), create("2 0 * * *"));

    // The pass that fires the witness goes by the same clock, so it has looked at the other schedule too.
    server.set_clock("2027-01-01T00:01:59.999Z");
    client.fired(&witness, "2027-01-01T00:01:00.000Z");
    assert_eq!(client.history(&watched), Vec::<Value>::new());
    assert_eq!(client.get_schedule(&watched)["last_fire_at"], json!(null));
    let jobs = client.ok("jobs/list", json!({"schedule_id": watched}));
    assert_eq!(jobs["jobs"], json!([]));

    server.set_clock("2027-01-01T00:02:00Z");
    let fire = client.fired(&watched, "2027-01-01T00:02:00.000Z");
    assert_eq!(fire["fired_at"], "2027-01-01T00:02:00.000Z");
    assert_eq!(fire["missed"], 0);
}

#[test]
fn by_the_machines_clock_a_schedule_fires_on_time_and_never_early() {
    let server = Setup::real_clock().start();
    let client = server.tenant("acme");
    let receiver = Receiver::start();
    client.deploy(&Bundle::with("quick", "return { ran: true };"));
    let schedule = client.schedule(json!({
        "workflow": "quick", "cron_expr": "* * * * *", "callback_url": receiver.url(), "callback_secret": SECRET,
    }));
    let due = schedule["next_fire_at"].as_str().unwrap();
    assert!(due.ends_with(":00.000Z"), "{due}");

    let callback = &receiver.wait_within(1, Duration::from_secs(70))[0];
    let body = assert_signed(callback, SECRET);
    assert_eq!(body["result"], json!({"ran": true}));
    assert_eq!(body["fire_at"], due);
    let fire = client.fired(&schedule["id"], due);
    let instant = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
    let (due, fired_at) = (instant(&fire["fire_at"]), instant(&fire["fired_at"]));
    let late = fired_at.as_millisecond() - due.as_millisecond();
    // An idle machine is late by a few milliseconds; this one runs other tests as well.
    assert!((0..2_000).contains(&late), "late by {late} ms");
    let job = client.job(&fire["job_id"]);
    assert_eq!(instant(&job["created_at"]), fired_at);
    let sent: i64 = callback.header("webhook-timestamp").unwrap().parse().unwrap();
    assert!(sent >= due.as_second(), "{sent}");
}
