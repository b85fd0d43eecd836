//! The nights on which a clock is put forward or back, in New York.

use serde_json::{Value, json};

use crate::support::{Bundle, Client, PATIENCE, Server, Setup, wait_until};

const ZONE: &str = "America/New_York";

fn start(at: &'static str) -> (Server, Client) {
    let server = Setup::at(at).start();
    let client = server.tenant("acme");
    client.deploy(&Bundle::with("quick", "return 1;"));
    (server, client)
}

fn schedule(client: &Client, cron: &str) -> Value {
    client.schedule(json!({"workflow": "quick", "cron_expr": cron, "timezone": ZONE}))
}

/// What the ledger has, oldest first; a row that stands for missed instants fails the test.
fn fires(client: &Client, id: &Value) -> Vec<String> {
    let mut history = client.history(id);
    history.reverse();
    let instant = |row: Value| {
        assert_eq!(
            (&row["outcome"], &row["missed"]),
            (&json!("fired"), &json!(0)),
            "{row}"
        );
        row["fire_at"].as_str().unwrap().to_owned()
    };
    history.into_iter().map(instant).collect()
}

#[test]
fn a_time_that_spring_skips_fires_once_right_after_the_gap() {
    // At 07:00Z New York's clocks go from 02:00 to 03:00: there is no 02:30 that night.
    let (server, client) = start("2027-03-14T06:00:00Z");
    let nightly = schedule(&client, "30 2 * * *");
    assert_eq!(nightly["next_fire_at"], "2027-03-14T07:00:00.000Z");
    let id = &nightly["id"];
    server.set_clock("2027-03-14T07:00:00Z");
    client.fired(id, "2027-03-14T07:00:00.000Z");
    assert_eq!(
        client.get_schedule(id)["next_fire_at"],
        "2027-03-15T06:30:00.000Z"
    );
    // Half an hour later the clocks there show 03:30, and the day after 02:30 again.
    server.set_clock("2027-03-14T07:30:00Z");
    server.set_clock("2027-03-15T06:30:00Z");
    client.fired(id, "2027-03-15T06:30:00.000Z");
    assert_eq!(
        fires(&client, id),
        ["2027-03-14T07:00:00.000Z", "2027-03-15T06:30:00.000Z"]
    );
}

#[test]
fn an_hour_that_autumn_repeats_fires_a_fixed_time_once_and_a_rhythm_all_along() {
    // At 06:00Z New York's clocks go from 02:00 back to 01:00.
    let (server, client) = start("2027-11-07T04:00:00Z");
    let fixed = schedule(&client, "30 1 * * *")["id"].clone();
    let rhythm = schedule(&client, "*/30 1 * * *")["id"].clone();
    for instant in ["05:00", "05:30", "06:00", "06:30"] {
        server.set_clock(&format!("2027-11-07T{instant}:00Z"));
        client.fired(&rhythm, &format!("2027-11-07T{instant}:00.000Z"));
    }
    for instant in ["06:00", "06:30"] {
        server.set_clock(&format!("2027-11-08T{instant}:00Z"));
        client.fired(&rhythm, &format!("2027-11-08T{instant}:00.000Z"));
    }
    client.fired(&fixed, "2027-11-08T06:30:00.000Z");
    assert_eq!(
        fires(&client, &fixed),
        ["2027-11-07T05:30:00.000Z", "2027-11-08T06:30:00.000Z"]
    );
    assert_eq!(
        fires(&client, &rhythm),
        [
            "2027-11-07T05:00:00.000Z",
            "2027-11-07T05:30:00.000Z",
            "2027-11-07T06:00:00.000Z",
            "2027-11-07T06:30:00.000Z",
            "2027-11-08T06:00:00.000Z",
            "2027-11-08T06:30:00.000Z",
        ]
    );
}

#[test]
fn new_rules_of_a_zone_move_only_what_is_to_come_and_say_what_they_moved() {
    let (mut server, client) = start("2027-06-01T12:30:00Z");
    let moved = schedule(&client, "0 9 * * *");
    let (fired, stays) = (schedule(&client, "0 * * * *"), schedule(&client, "0 8 * * *"));
    server.set_clock("2027-06-01T13:00:00Z");
    client.fired(&fired["id"], "2027-06-01T13:00:00.000Z");
    server.terminate();
    server.ended();
    // As an older version would have left it, whose rules had New York an hour further west: nine there was two in the
    // afternoon UTC.
    let set =
        "UPDATE schedules SET next_fire_at = next_fire_at + ?2, next_due_at = next_due_at + ?2 WHERE id = ?1";
    let id = moved["id"].as_str().unwrap();
    assert_eq!(server.behind_its_back(set, &[id, "3600000"]), 1);
    let version = "UPDATE settings SET value = '1999a' WHERE name = 'tzdb_version'";
    assert_eq!(server.behind_its_back(version, &[]), 1);
    server.start_again();
    assert_eq!(
        fires(&client, &fired["id"]),
        ["2027-06-01T13:00:00.000Z"],
        "what has fired stays"
    );
    wait_until("the next fire to be where the rules say", PATIENCE, || {
        client.get_schedule(&moved["id"])["next_fire_at"] == "2027-06-02T13:00:00.000Z"
    });
    wait_until("the log to tell of the new rules", PATIENCE, || {
        server.log().contains("another version's")
    });
    let log = server.log();
    let line = |words: &[&str]| {
        log.lines()
            .any(|line| words.iter().all(|word| line.contains(word)))
    };
    assert!(
        line(&[
            id,
            "2027-06-02T14:00:00.000Z",
            "2027-06-02T13:00:00.000Z",
            "has moved"
        ]),
        "{log}"
    );
    assert!(line(&["1999a", "another version's"]), "{log}");
    for other in [&fired, &stays] {
        assert!(!log.contains(other["id"].as_str().unwrap()), "{log}");
    }
    // At the next start there is nothing new.
    server.terminate();
    server.ended();
    server.start_again();
    assert!(!server.log().contains("another version's"), "{}", server.log());
}
