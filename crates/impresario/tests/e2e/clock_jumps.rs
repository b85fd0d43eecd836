//! The server's clock is set wrong, and right again: while it runs, and while it is down.

use serde_json::{Value, json};

use crate::support::{Bundle, Client, PATIENCE, Server, Setup, wait_until};

fn start() -> (Server, Client, Value) {
    let server = Setup::at("2027-01-01T00:00:30Z").start();
    let client = server.tenant("acme");
    client.deploy(&Bundle::with("quick", "return 1;"));
    let id = client.schedule(json!({"workflow": "quick", "cron_expr": "* * * * *"}))["id"].clone();
    (server, client, id)
}

/// The instants before 2030 that made a job, oldest first.
fn fired(client: &Client, id: &Value) -> Vec<String> {
    let mut history = client.history(id);
    history.reverse();
    let instant = |row: &Value| row["fire_at"].as_str().unwrap().to_owned();
    history
        .iter()
        .filter(|row| row["outcome"] == "fired")
        .map(instant)
        .filter(|at| at.as_str() < "2030")
        .collect()
}

#[test]
fn a_clock_that_was_years_ahead_for_a_moment_silences_no_schedule() {
    let (server, client, id) = start();
    server.set_clock("2027-01-01T00:01:00Z");
    client.fired(&id, "2027-01-01T00:01:00.000Z");
    server.set_clock("2036-06-01T12:00:00Z");
    client.fired(&id, "2036-06-01T12:00:00.000Z");
    // Back again, two instants later: the newest of them fires, the other is missed.
    server.set_clock("2027-01-01T00:03:10Z");
    client.fired(&id, "2027-01-01T00:03:00.000Z");
    server.set_clock("2027-01-01T00:04:00Z");
    client.fired(&id, "2027-01-01T00:04:00.000Z");
    assert_eq!(
        fired(&client, &id),
        [
            "2027-01-01T00:01:00.000Z",
            "2027-01-01T00:03:00.000Z",
            "2027-01-01T00:04:00.000Z"
        ]
    );
    let missed: Vec<_> = client
        .history(&id)
        .into_iter()
        .filter(|row| row["outcome"] == "missed")
        .collect();
    assert_eq!(missed.len(), 1, "{missed:?}");
    assert_eq!(
        (&missed[0]["fire_at"], &missed[0]["missed"]),
        (&json!("2027-01-01T00:02:00.000Z"), &json!(1))
    );
}

#[test]
fn a_clock_that_is_set_back_an_hour_doubles_no_fire() {
    let (server, client, id) = start();
    for minute in ["00:01", "00:02", "00:03"] {
        server.set_clock(&format!("2027-01-01T{minute}:00Z"));
        client.fired(&id, &format!("2027-01-01T{minute}:00.000Z"));
    }
    server.set_clock("2026-12-31T23:59:30Z");
    for minute in ["00:00", "00:01", "00:02", "00:03", "00:04"] {
        server.set_clock(&format!("2027-01-01T{minute}:00Z"));
    }
    client.fired(&id, "2027-01-01T00:04:00.000Z");
    let all = fired(&client, &id);
    let mut once = all.clone();
    once.dedup();
    assert_eq!(all, once);
    let scheduled = client.ok("jobs/list", json!({"schedule_id": id}))["jobs"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(scheduled, all.len(), "a job for each fire and no other");
}

#[test]
fn a_server_that_starts_after_its_clock_was_ahead_goes_on_from_the_right_time() {
    let (mut server, client, id) = start();
    server.set_clock("2036-06-01T12:00:00Z");
    client.fired(&id, "2036-06-01T12:00:00.000Z");
    server.kill();
    server.write_clock("2027-01-01T00:05:30Z");
    server.start_again();
    client.fired(&id, "2027-01-01T00:05:00.000Z");
    assert_eq!(
        client.get_schedule(&id)["next_fire_at"],
        "2027-01-01T00:06:00.000Z"
    );
}

#[test]
fn a_clock_that_has_not_been_set_fires_nothing_and_harms_nothing() {
    let mut server = Setup::at("2027-01-10T12:00:00Z").start();
    let client = server.tenant("acme");
    client.deploy(&Bundle::with("quick", "return 1;"));
    let create = |cron: &str| client.schedule(json!({"workflow": "quick", "cron_expr": cron}))["id"].clone();
    let (yearly, daily) = (create("0 0 1 1 *"), create("0 9 * * *"));
    server.kill();
    server.write_clock("1970-01-01T00:00:30Z");
    server.start_again();
    server.set_clock("1970-01-01T00:02:00Z");
    server.set_clock("2027-01-10T12:05:00Z");
    assert_eq!(
        client.get_schedule(&yearly)["next_fire_at"],
        "2028-01-01T00:00:00.000Z"
    );
    assert_eq!(
        client.get_schedule(&daily)["next_fire_at"],
        "2027-01-11T09:00:00.000Z"
    );
    server.set_clock("2027-01-11T09:00:00Z");
    client.fired(&daily, "2027-01-11T09:00:00.000Z");
    assert_eq!(client.history(&daily).len(), 1);
    assert_eq!(client.history(&yearly), Vec::<Value>::new());
}

#[test]
fn a_clock_that_was_a_day_behind_for_a_moment_fires_nothing_from_before_the_schedule() {
    let server = Setup::at("2027-01-10T12:00:00Z").start();
    let client = server.tenant("acme");
    client.deploy(&Bundle::with("quick", "return 1;"));
    let id = client.schedule(json!({"workflow": "quick", "cron_expr": "0 9 * * *"}))["id"].clone();
    server.set_clock("2027-01-09T12:00:00Z");
    server.set_clock("2027-01-10T12:05:00Z");
    server.set_clock("2027-01-11T09:00:00Z");
    client.fired(&id, "2027-01-11T09:00:00.000Z");
    assert_eq!(client.history(&id).len(), 1, "{:?}", client.history(&id));
}

#[test]
fn a_small_correction_of_the_clock_leaves_the_ledger_alone() {
    let (mut server, client, id) = start();
    server.set_clock("2027-01-01T00:01:00Z");
    client.fired(&id, "2027-01-01T00:01:00.000Z");
    server.kill();
    server.write_clock("2027-01-01T00:50:10Z");
    server.start_again();
    client.fired(&id, "2027-01-01T00:50:00.000Z");
    let before = client.history(&id).len();
    server.set_clock("2027-01-01T00:50:07Z");
    server.set_clock("2027-01-01T00:51:00Z");
    client.fired(&id, "2027-01-01T00:51:00.000Z");
    let after = client.history(&id);
    assert_eq!(after.len(), before + 1);
    let missed: Vec<_> = after.iter().filter(|row| row["outcome"] == "missed").collect();
    assert_eq!((missed.len(), &missed[0]["missed"]), (1, &json!(48)), "{after:?}");
}

#[test]
fn a_correction_that_the_store_refuses_is_tried_again() {
    let server = Setup::at("2027-03-01T00:05:00Z").embedded().start();
    let client = server.tenant("acme");
    client.deploy(&Bundle::with("quick", "return 1;"));
    let daily = client.schedule(json!({"workflow": "quick", "cron_expr": "0 12 * * *"}))["id"].clone();
    server.set_clock("2027-04-01T12:00:00Z");
    client.fired(&daily, "2027-04-01T12:00:00.000Z");
    #[expect(
        clippy::disallowed_methods,
        reason = "the test holds the database behind the store's back"
    )]
    let database = rusqlite::Connection::open(server.data_dir().join("impresario.db")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    server.set_clock("2027-03-01T00:10:00Z");
    // The store waits 10 s for a foreign write before it gives up.
    wait_until("a pass to fail", PATIENCE, || {
        server.log().contains("a pass failed")
    });
    database.execute_batch("ROLLBACK").unwrap();
    wait_until("the next fire to be where the clock says", PATIENCE, || {
        client.get_schedule(&daily)["next_fire_at"] == "2027-03-01T12:00:00.000Z"
    });
    server.set_clock("2027-03-01T12:00:00Z");
    assert_eq!(
        client.fired(&daily, "2027-03-01T12:00:00.000Z")["outcome"],
        "fired"
    );
}

#[test]
fn what_has_fired_is_never_shown_as_what_fires_next() {
    let (server, client, id) = start();
    let next = |instant: &str| {
        wait_until(&format!("{instant} to be next"), PATIENCE, || {
            client.get_schedule(&id)["next_fire_at"] == instant
        });
    };
    server.set_clock("2027-01-01T00:03:10Z");
    client.fired(&id, "2027-01-01T00:03:00.000Z");
    server.set_clock("2027-01-01T00:00:40Z");
    next("2027-01-01T00:01:00.000Z");
    server.set_clock("2027-01-01T00:02:00Z");
    client.fired(&id, "2027-01-01T00:02:00.000Z");
    next("2027-01-01T00:04:00.000Z");
    // Nor by a change of the owner's.
    client.ok("schedules/update", json!({"id": id, "enabled": false}));
    let enabled = client.ok("schedules/update", json!({"id": id, "enabled": true}));
    assert_eq!(enabled["schedule"]["next_fire_at"], "2027-01-01T00:04:00.000Z");
}
