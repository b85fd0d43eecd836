//! `schedules/preview`, and through it the cron rules as a user meets them.

use serde_json::{Value, json};

use crate::support::Setup;

const VECTORS: &str = include_str!("../../../cron/tests/data/vectors.jsonl");
const INVALID: &str = include_str!("../../../cron/tests/data/invalid.jsonl");

fn rows(text: &str) -> impl Iterator<Item = Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap())
}

#[test]
fn a_preview_tells_in_english_in_utc_and_by_the_wall_and_marks_clock_changes() {
    let server = Setup::at("2027-03-13T12:00:00Z").start();
    let client = server.tenant("acme");
    let gap = client.ok(
        "schedules/preview",
        json!({"cron_expr": "30 2 * * *", "timezone": "america/new_york", "count": 2}),
    );
    assert_eq!(
        gap,
        json!({"description": "At 02:30, every day", "timezone": "America/New_York", "fires": [
            {"at": "2027-03-14T07:00:00.000Z", "local": "2027-03-14T03:00:00-04:00", "dst": "gap"},
            {"at": "2027-03-15T06:30:00.000Z", "local": "2027-03-15T02:30:00-04:00", "dst": null},
        ], "tzdb_version": gap["tzdb_version"]})
    );
    let version = gap["tzdb_version"].as_str().unwrap();
    let (year, letter) = version.split_at(4);
    assert!(
        year.parse::<u16>().is_ok_and(|year| year >= 2025) && letter.len() == 1,
        "{version}"
    );
    let overlap = client.ok(
        "schedules/preview",
        json!({"cron_expr": "0 1 * * *", "timezone": "America/New_York", "count": 1, "after": "2027-11-07T00:00:00-04:00"}),
    );
    assert_eq!(
        overlap["fires"],
        json!([{"at": "2027-11-07T05:00:00.000Z", "local": "2027-11-07T01:00:00-04:00", "dst": "overlap"}])
    );
    let plain = client.ok("schedules/preview", json!({"cron_expr": "0 9 * * MON-FRI"}));
    assert_eq!(plain["description"], "At 09:00, Monday through Friday");
    assert_eq!(plain["fires"].as_array().unwrap().len(), 5);
}

#[test]
fn a_preview_keeps_within_bounds() {
    let server = Setup::at("2027-03-13T12:00:00Z").start();
    let client = server.tenant("acme");
    let input = json!({"cron_expr": "0 * * * *", "start_at": "2027-03-14T00:00:00Z", "end_at": "2027-03-14T03:00:00Z"});
    let answer = client.ok("schedules/preview", input);
    let fires: Vec<&str> = answer["fires"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fire| &fire["at"].as_str().unwrap()[..16])
        .collect();
    assert_eq!(
        fires,
        ["2027-03-14T00:00", "2027-03-14T01:00", "2027-03-14T02:00"]
    );
    let backwards = json!({"cron_expr": "0 * * * *", "start_at": "2027-03-14T03:00:00Z", "end_at": "2027-03-14T03:00:00Z"});
    assert_eq!(client.issues("schedules/preview", backwards), ["end_at"]);
}

#[test]
fn a_preview_refuses_what_create_refuses() {
    let server = Setup::at("2027-03-13T12:00:00Z").start();
    let client = server.tenant("acme");
    let all =
        json!({"cron_expr": "0 25 * * *", "timezone": "Mars/Base", "count": 0, "after": "soon", "x": 1});
    assert_eq!(
        client.issues("schedules/preview", all),
        ["", "after", "count", "cron_expr", "timezone"]
    );
    assert_eq!(client.issues("schedules/preview", json!({})), ["cron_expr"]);
    assert_eq!(
        client.issues("schedules/preview", json!({"cron_expr": "0 0 30 2 *"})),
        ["cron_expr"]
    );
    for row in rows(INVALID) {
        let input = json!({"cron_expr": row["expr"], "timezone": row["tz"], "count": 1});
        let error = client.refused("schedules/preview", input, 400);
        let message = error["message"].as_str().unwrap();
        assert!(
            message.starts_with("cron_expr: ") || message.starts_with("timezone: "),
            "{row}: {message}"
        );
    }
}

#[test]
fn previews_agree_with_the_vectors() {
    let server = Setup::at("2027-03-13T12:00:00Z").start();
    let client = server.tenant("acme");
    // Every tenth: the engine's own tests take them all.
    for row in rows(VECTORS).step_by(10) {
        let wanted: Vec<_> = row["next"].as_array().unwrap().iter().map(instant).collect();
        if wanted.is_empty() {
            continue;
        }
        let input = json!({"cron_expr": row["expr"], "timezone": row["tz"], "after": row["after"], "count": wanted.len()});
        let answer = client.ok("schedules/preview", input);
        let found: Vec<_> = answer["fires"]
            .as_array()
            .unwrap()
            .iter()
            .map(|fire| instant(&fire["at"]))
            .collect();
        assert_eq!(found, wanted, "{row}");
    }
}

/// Without its milliseconds, which are zero and which the vectors leave out.
fn instant(value: &Value) -> String {
    value.as_str().unwrap().replace(".000Z", "Z")
}
