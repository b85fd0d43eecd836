//! What the simulations have found, each by itself.

use serde_json::{Value, json};

use super::model::Row;
use crate::support::{Bundle, Client, PATIENCE, Server, Setup, wait_for};

fn start(more: Value) -> (Server, Client, Value) {
    let server = Setup::at("2027-01-01T00:30:00Z").job_slots(1).start();
    let client = server.tenant("acme");
    client.deploy(&Bundle::with(
        "never",
        "await new Promise(() => setTimeout(() => {}, 3_600_000));",
    ));
    let mut input = json!({"workflow": "never", "cron_expr": "0 * * * *"});
    for (key, value) in more.as_object().unwrap() {
        input[key] = value.clone();
    }
    let id = client.schedule(input)["id"].clone();
    (server, client, id)
}

fn ledger(client: &Client, id: &Value) -> Vec<String> {
    let mut rows = client.history(id);
    rows.reverse();
    rows.iter().map(|row| Row::read(row).line()).collect()
}

/// Waits until the schedule shows this.
fn shows(client: &Client, id: &Value, key: &str, wanted: Value) {
    wait_for(&format!("{key} to be {wanted}"), PATIENCE, || {
        let found = client.get_schedule(id);
        if found[key] == wanted {
            Ok(())
        } else {
            Err(found.to_string())
        }
    });
}

#[test]
fn what_waits_beyond_its_catch_up_window_does_not_fire_any_more() {
    let more =
        json!({"cron_expr": "0 1,2,3 * * *", "misfire_policy": "fire_all", "catchup_window_seconds": 7200});
    let (server, client, id) = start(more);
    server.set_clock("2027-01-01T03:30:00Z");
    let running = client.fired(&id, "2027-01-01T02:00:00.000Z")["job_id"].clone();
    shows(&client, &id, "catching_up", json!(1));
    server.set_clock("2027-01-01T08:00:00Z");
    client.ok("jobs/cancel", json!({"id": running}));
    shows(&client, &id, "catching_up", json!(0));
    assert_eq!(
        ledger(&client, &id),
        [
            "2027-01-01T01:00:00.000Z missed outside_catchup 1 until 2027-01-01T01:00:00.000Z",
            "2027-01-01T02:00:00.000Z fired - 0 job",
            "2027-01-01T03:00:00.000Z missed outside_catchup 1 until 2027-01-01T03:00:00.000Z",
        ]
    );
}

#[test]
fn a_fire_in_time_makes_up_for_nothing_where_missed_instants_are_skipped() {
    let (server, client, id) = start(json!({"misfire_policy": "skip"}));
    server.set_clock("2027-01-01T03:00:00Z");
    client.fired(&id, "2027-01-01T03:00:00.000Z");
    assert_eq!(
        ledger(&client, &id),
        [
            "2027-01-01T01:00:00.000Z missed down 2 until 2027-01-01T02:00:00.000Z",
            "2027-01-01T03:00:00.000Z fired - 0 job",
        ]
    );
}

#[test]
fn an_owed_fire_whose_new_share_is_over_was_not_missed() {
    let (server, client, id) = start(json!({"misfire_policy": "skip", "jitter_seconds": 3600}));
    let due = client.get_schedule(&id)["next_due_at"]
        .as_str()
        .unwrap()
        .to_owned();
    // Just before its share is over, and nearly always more than a minute after the instant.
    let before: jiff::Timestamp = due.parse().unwrap();
    let before = before - jiff::SignedDuration::from_millis(1);
    server.set_clock(&before.to_string());
    let after = client.ok("schedules/update", json!({"id": id, "jitter_seconds": 0}));
    assert_eq!(after["schedule"]["next_fire_at"], "2027-01-01T02:00:00.000Z");
    assert_eq!(ledger(&client, &id), ["2027-01-01T01:00:00.000Z fired - 0 job"]);
}

#[test]
fn a_schedule_that_disables_itself_while_two_outages_wait_is_not_taken_for_broken() {
    let more = json!({"misfire_policy": "fire_all", "overlap_policy": "skip", "max_consecutive_failures": 1});
    let (server, client, id) = start(more);
    server.set_clock("2027-01-01T01:00:00Z");
    let running = client.fired(&id, "2027-01-01T01:00:00.000Z")["job_id"].clone();
    for (at, waiting) in [("2027-01-01T03:30:00Z", 2), ("2027-01-01T05:30:00Z", 4)] {
        server.set_clock(at);
        shows(&client, &id, "catching_up", json!(waiting));
    }
    client.ok("workflows/delete", json!({"workflow": "never"}));
    client.ok("jobs/cancel", json!({"id": running}));
    shows(&client, &id, "state", json!("disabled"));
    let after = client.get_schedule(&id);
    assert_eq!(after["consecutive_failures"], 1, "{after}");
    assert!(
        after["last_error"]
            .as_str()
            .unwrap()
            .contains("no deployed workflow"),
        "{after}"
    );
    assert_eq!(
        ledger(&client, &id)[1..],
        [
            "2027-01-01T02:00:00.000Z rejected no_workflow 0",
            "2027-01-01T03:00:00.000Z missed retired 1 until 2027-01-01T03:00:00.000Z",
            "2027-01-01T04:00:00.000Z missed retired 2 until 2027-01-01T05:00:00.000Z",
        ]
    );
}

#[test]
fn what_waits_for_another_run_starts_once_runs_may_overlap() {
    let (server, client, id) = start(json!({"misfire_policy": "fire_all", "overlap_policy": "skip"}));
    server.set_clock("2027-01-01T01:00:00Z");
    client.fired(&id, "2027-01-01T01:00:00.000Z");
    server.set_clock("2027-01-01T03:30:00Z");
    shows(&client, &id, "catching_up", json!(2));
    client.ok("schedules/update", json!({"id": id, "overlap_policy": "allow"}));
    shows(&client, &id, "catching_up", json!(1));
}

#[test]
fn a_clock_that_goes_back_into_a_missed_range_reckons_all_of_it_anew() {
    let (mut server, client, id) = start(json!({"misfire_policy": "skip"}));
    // A restart, and the next fire that it shows, make sure that the server has seen each of these times.
    for (at, next) in [
        ("05:00", "06:00"), // fires; four are missed
        ("01:30", "02:00"),
        ("09:30", "10:00"), // the fire of 05:00 lies within what is missed
        ("10:00", "11:00"), // fires
        ("09:40", "11:00"), // what was missed reaches beyond 05:00; 10:00 has fired
        ("06:30", "07:00"), // and begins before it
        ("07:00", "08:00"), // fires
        ("11:30", "12:00"),
    ] {
        server.kill();
        server.write_clock(&format!("2027-01-01T{at}:00Z"));
        server.start_again();
        shows(
            &client,
            &id,
            "next_fire_at",
            json!(format!("2027-01-01T{next}:00.000Z")),
        );
    }
    assert_eq!(
        ledger(&client, &id),
        [
            "2027-01-01T01:00:00.000Z missed down 1 until 2027-01-01T01:00:00.000Z",
            "2027-01-01T02:00:00.000Z missed down 3 until 2027-01-01T04:00:00.000Z",
            "2027-01-01T05:00:00.000Z fired - 0 job",
            "2027-01-01T06:00:00.000Z missed down 1 until 2027-01-01T06:00:00.000Z",
            "2027-01-01T07:00:00.000Z fired - 0 job",
            "2027-01-01T08:00:00.000Z missed down 2 until 2027-01-01T09:00:00.000Z",
            "2027-01-01T10:00:00.000Z fired - 0 job",
            "2027-01-01T11:00:00.000Z missed down 1 until 2027-01-01T11:00:00.000Z",
        ]
    );
}
