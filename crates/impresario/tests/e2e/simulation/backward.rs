//! A clock that goes back by hours, time and again. Which row an instant gets then depends on what was done while the
//! clock was wrong; but each has one row, and no more jobs come of it than fires.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    check::covered,
    cron,
    model::Row,
    ms,
    plan::{DAY, HOUR, MISFIRE, OVERLAP, Rng},
    text,
};
use crate::support::{Bundle, Client, PATIENCE, Setup, wait_for};

const PATTERNS: [(&str, &str); 4] = [
    ("0 * * * *", "UTC"),
    ("*/15 * * * *", "Australia/Lord_Howe"),
    ("20,50 */3 * * *", "America/New_York"),
    ("30 1,2,3 * * *", "America/New_York"),
];
/// Before the night on which New York's clocks go forward.
const START: &str = "2027-03-13T06:00:30Z";
const STEPS: usize = 120;

/// Waits until nothing is due.
fn settle(client: &Client, now: i64) {
    wait_for("what is due to be acted on", PATIENCE, || {
        let listed = client.ok("schedules/list", json!({"limit": 200}));
        let due = |one: &&Value| ms(&one["next_due_at"]).is_some_and(|due| due <= now);
        let waits = listed["schedules"].as_array().unwrap().iter().find(due);
        waits.map_or(Ok(()), |one| Err(one.to_string()))
    });
}

fn jobs(client: &Client, id: &Value) -> usize {
    let (mut count, mut cursor) = (0, Value::Null);
    loop {
        let page = client.ok(
            "jobs/list",
            json!({"schedule_id": id, "limit": 100, "cursor": cursor}),
        );
        count += page["jobs"].as_array().unwrap().len();
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            return count;
        }
    }
}

fn ledger(client: &Client, id: &Value) -> Vec<Row> {
    let (mut rows, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let page = client.ok(
            "schedules/history",
            json!({"id": id, "limit": 200, "cursor": cursor}),
        );
        rows.extend(page["fires"].as_array().unwrap().iter().map(Row::read));
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            return rows;
        }
    }
}

#[test]
fn a_clock_that_goes_back_again_and_again_leaves_no_hole_and_doubles_nothing() {
    back_and_forth(0x0ff_c10c);
}

fn back_and_forth(seed: u64) {
    let start = ms(&json!(START)).unwrap();
    let mut rng = Rng(seed);
    let mut server = Setup::at(START).job_slots(1).start();
    let client = server.tenant("acme");
    let never = "await new Promise((done) => setTimeout(done, 3_600_000));";
    client.deploy(&Bundle::with("never", never));
    client.create_job(json!({"workflow": "never", "timeout_seconds": 3600}));
    let mut schedules = Vec::new();
    for number in 0..24 {
        let (cron, zone) = PATTERNS[number / 3 % 4];
        let input = json!({
            "workflow": "never", "cron_expr": cron, "timezone": zone, "misfire_policy": MISFIRE[number % 3],
            "overlap_policy": OVERLAP[number % 4], "jitter_seconds": if number < 12 { 0 } else { 600 },
            "catchup_window_seconds": if number % 2 == 0 { 7_200 } else { 259_200 },
        });
        schedules.push((client.schedule(input.clone())["id"].clone(), cron, zone, input));
    }
    let (mut now, mut steps) = (start, Vec::new());
    for _ in 0..STEPS {
        now += match rng.below(8) {
            0 => -rng.span(600, 5 * 3_600, 1_000),
            1 => rng.span(4, 20, HOUR),
            _ => rng.span(10, 90 * 60, 1_000),
        };
        now = now.max(start);
        steps.push(text(now));
        if rng.one_in(10) {
            server.kill();
            server.write_clock(&text(now));
            server.start_again();
        } else {
            server.set_clock(&text(now));
        }
        settle(&client, now);
    }
    // Beyond whatever the clock has shown. A pause then takes back what still waits, so that all is in the ledger.
    now = steps
        .iter()
        .map(|at| at.parse::<Timestamp>().unwrap().as_millisecond())
        .max()
        .unwrap()
        + DAY;
    server.set_clock(&text(now));
    settle(&client, now);
    for (id, cron, zone, input) in &schedules {
        client.ok("schedules/update", json!({"id": id, "enabled": false}));
        let rows = ledger(&client, id);
        let instants = cron::instants(cron, zone, start + 1, now).into_iter();
        let whole = covered(instants, &rows);
        let lines: Vec<String> = rows.iter().rev().map(Row::line).collect();
        assert!(
            whole.is_ok(),
            "seed {seed:#x}: {whole:?}\n{input}\nthe clock: {steps:?}\n{}",
            lines.join("\n")
        );
        let fires = rows.iter().filter(|row| row.job).count();
        assert_eq!(
            jobs(&client, id),
            fires,
            "seed {seed:#x}: {input}\n{}",
            lines.join("\n")
        );
    }
}

#[test]
fn of_more_than_a_thousand_missed_instants_the_newest_wait() {
    let server = Setup::at("2027-01-01T00:00:30Z").job_slots(1).start();
    let client = server.tenant("acme");
    let never = "await new Promise((done) => setTimeout(done, 3_600_000));";
    client.deploy(&Bundle::with("never", never));
    let input = json!({"workflow": "never", "cron_expr": "* * * * *", "misfire_policy": "fire_all"});
    let id = client.schedule(input)["id"].clone();
    server.set_clock("2027-01-01T20:00:30Z");
    // The instant of 20:00 is in time; of the 1,199 before it 199 are too many, and the first of the others starts.
    let made_up = text(ms(&json!("2027-01-01T03:20:00Z")).unwrap());
    client.fired(&id, &made_up);
    assert_eq!(client.get_schedule(&id)["catching_up"], 999);
    client.ok("schedules/update", json!({"id": id, "enabled": false}));
    let mut rows = client.history(&id);
    rows.reverse();
    let lines: Vec<String> = rows.iter().map(|row| Row::read(row).line()).collect();
    assert_eq!(
        lines,
        [
            "2027-01-01T00:01:00.000Z missed over_limit 199 until 2027-01-01T03:19:00.000Z",
            "2027-01-01T03:20:00.000Z fired - 0 job",
            "2027-01-01T03:21:00.000Z missed retired 999 until 2027-01-01T19:59:00.000Z",
            "2027-01-01T20:00:00.000Z fired - 0 job",
        ]
    );
}
