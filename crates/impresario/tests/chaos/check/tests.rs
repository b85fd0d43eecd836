//! A checker that has never caught anything proves nothing: a small run that is right, and each thing that may never
//! happen, planted into it.

use serde_json::{Value, json};

use super::check;
use crate::{
    audit::Entry,
    clocks::Shown,
    ears::Told,
    evidence::{CatchUp, Delivery, Evidence, Fire, Job, Log, Run},
    plan::{Callback, MINUTE, Spec},
    work::{Did, Op, What},
};

/// Where the clocks begin, and each minute after.
const START: i64 = 1_804_000_020_000;
const fn minute(number: i64) -> i64 {
    START + number * MINUTE
}

fn entry(n: i64, who: &str, table: &str, (was, now): (Value, Value)) -> Entry {
    let id = if table == "jobs" { "job" } else { "schedule" };
    Entry {
        n,
        at: 1_000 + n,
        committed: 1_000 + n,
        who: who.to_owned(),
        table: table.to_owned(),
        what: match (was.is_null(), now.is_null()) {
            (true, _) => "INSERT",
            (_, true) => "DELETE",
            _ => "UPDATE",
        }
        .to_owned(),
        id: id.to_owned(),
        was,
        now,
        job: Value::Null,
    }
}

fn schedule(enabled: i64, since: i64) -> Value {
    json!({
        "name": "s", "cron_expr": "* * * * *", "timezone": "UTC", "enabled": enabled, "pattern_since": since,
        "updated_at": since, "jitter_seconds": 0,
    })
}

fn fire(number: i64, outcome: &str) -> Fire {
    Fire {
        schedule_id: "schedule".to_owned(),
        fire_at: minute(number),
        outcome: outcome.to_owned(),
        reason: None,
        recorded_at: minute(number),
        due_at: (outcome != "missed").then(|| minute(number)),
        job_id: None,
        missed: 0,
        missed_until: None,
    }
}

fn row(fire: &Fire) -> Value {
    json!({"fire_at": fire.fire_at, "outcome": fire.outcome, "job_id": fire.job_id})
}

fn job(status: &str, holder: Option<&str>) -> Value {
    json!({
        "schedule_id": "schedule", "fire_at": minute(1), "status": status, "lease_token": holder, "held": 0,
        "lease_until": holder.map(|_| 5_000),
    })
}

fn spec() -> Spec {
    Spec {
        tenant: 0,
        name: "s".to_owned(),
        workflow: "works",
        cron: "* * * * *",
        zone: "UTC",
        misfire: "skip",
        overlap: "skip",
        callback: Callback::Own,
        takes: 0,
        jitter: 0,
        window: 0,
        end: None,
        limit: None,
    }
}

/// Of four minutes: one fired and ran, one was rejected, two were missed. The clocks went with the record.
fn right() -> Evidence {
    let (mut fired, mut missed) = (fire(1, "fired"), fire(3, "missed"));
    fired.job_id = Some("job".to_owned());
    (missed.missed, missed.missed_until) = (2, Some(minute(4)));
    missed.recorded_at = minute(4);
    let rejected = fire(2, "rejected");
    let mut shown = Shown::default();
    shown.note(0, &[START]);
    shown.note(1_000, &[minute(4)]);
    let spec = spec();
    let mut log = entry(9, "a", "job_logs", (Value::Null, json!({"message": "run"})));
    log.id = "job".to_owned();
    log.job = json!({"status": "running", "lease_token": "t"});
    let mut delivery = entry(12, "b", "deliveries", (Value::Null, json!({"status": "pending"})));
    delivery.id = "d".to_owned();
    let body = json!({"job_id": "job", "status": "completed"}).to_string();
    let steps = [
        (Value::Null, job("queued", None)),
        (job("queued", None), job("starting_browser", Some("t"))),
        (job("starting_browser", Some("t")), job("running", Some("t"))),
        (job("running", Some("t")), job("completed", None)),
    ];
    let [queued, claimed, started, ended] = steps;
    Evidence {
        shown,
        end: minute(4),
        speed: 1,
        ops: vec![op(What::Create(spec.clone()), Did::Done(Value::Null))],
        runs: ["begin", "end"].map(run).to_vec(),
        heard: crate::ears::Heard {
            by_id: [("d".to_owned(), told(&body))].into(),
            wrong: Vec::new(),
        },
        audit: vec![
            entry(1, "a", "schedules", (Value::Null, json!({"cron_expr": ""}))),
            entry(
                2,
                "a",
                "schedules",
                (json!({"cron_expr": ""}), schedule(1, START)),
            ),
            entry(3, "a", "fires", (Value::Null, row(&fired))),
            entry(4, "a", "jobs", queued),
            entry(5, "b", "fires", (Value::Null, row(&rejected))),
            entry(6, "b", "fires", (Value::Null, row(&missed))),
            entry(7, "a", "jobs", claimed),
            entry(8, "a", "jobs", started),
            log,
            entry(10, "a", "jobs", ended),
            delivery,
        ],
        fires: vec![fired, rejected, missed],
        jobs: vec![Job {
            id: "job".to_owned(),
            schedule_id: Some("schedule".to_owned()),
            fire_at: Some(minute(1)),
            status: "completed".to_owned(),
            lease_token: None,
            failure_class: None,
            error: None,
            result: Some(json!({"run": "run"}).to_string()),
            params: "{}".to_owned(),
        }],
        deliveries: vec![Delivery {
            id: "d".to_owned(),
            job_id: Some("job".to_owned()),
            event: "job.completed".to_owned(),
            url: "own".to_owned(),
            status: "delivered".to_owned(),
            lease_token: None,
            body,
        }],
        logs: vec![Log {
            job_id: "job".to_owned(),
            message: "run".to_owned(),
        }],
        specs: [("schedule".to_owned(), spec)].into(),
        own_url: "own".to_owned(),
        tenant_urls: vec!["tenant".to_owned()],
        ..Evidence::default()
    }
}

fn op(what: What, did: Did) -> Op {
    Op {
        tenant: 0,
        what,
        begun: 900,
        ended: 2_000,
        did,
    }
}

fn run(what: &str) -> Run {
    Run {
        job: "job".to_owned(),
        run: "run".to_owned(),
        what: what.to_owned(),
    }
}

fn told(body: &str) -> Told {
    Told {
        bodies: vec![body.to_owned()],
        times: 1,
        taken: 1,
    }
}

/// The rules that are broken once this is done to a run that is right.
fn broken(plant: impl FnOnce(&mut Evidence)) -> Vec<&'static str> {
    let mut evidence = right();
    plant(&mut evidence);
    let mut rules: Vec<_> = check(&evidence).violations.iter().map(|one| one.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

#[track_caller]
fn catches(rule: &str, plant: impl FnOnce(&mut Evidence)) {
    let found = broken(plant);
    assert!(found.contains(&rule), "{rule} is not among {found:?}");
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let found = check(&right()).violations;
    assert_eq!(found, []);
}

#[test]
fn a_ledger_with_a_hole_a_double_or_a_stranger_is_caught() {
    catches("instant without a row", |run| {
        run.fires.remove(1);
    });
    catches("instant in two rows", |run| {
        run.fires.insert(0, run.fires[0].clone());
    });
    catches("instant in two rows", |run| {
        run.fires.insert(2, fire(4, "rejected"));
        run.audit
            .push(entry(20, "c", "fires", (Value::Null, row(&fire(4, "rejected")))));
    });
    catches("instant in two rows", |run| {
        run.catch_ups.push(CatchUp {
            schedule_id: "schedule".to_owned(),
            from_at: minute(4),
            until_at: minute(4),
            instants: 1,
        });
    });
    catches("wrong range", |run| run.fires[2].missed = 3);
    catches("row of no instant", |run| {
        for one in &mut run.audit[1..2] {
            one.now["cron_expr"] = "*/2 * * * *".into();
        }
    });
    catches("early", |run| {
        run.shown = Shown::default();
        run.shown.note(0, &[minute(3)]);
    });
    catches("early", |run| run.fires[1].recorded_at -= 1);
    catches("fired while disabled", |run| {
        run.audit.insert(
            2,
            entry(2, "a", "schedules", (schedule(1, START), schedule(0, START))),
        );
    });
    catches("row taken back", |run| {
        let (mut was, now) = (row(&run.fires[0]), row(&run.fires[0]));
        was["job_id"] = "other".into();
        run.audit.push(entry(20, "a", "fires", (was, now)));
    });
    catches("fired after the delete", |run| {
        run.audit
            .insert(2, entry(2, "a", "schedules", (schedule(1, START), Value::Null)));
    });
    // What an owner's change took away is not missing.
    let paused = broken(|run| {
        run.fires.truncate(1);
        run.audit.push(entry(
            20,
            "a",
            "schedules",
            (schedule(1, START), schedule(0, minute(1))),
        ));
    });
    assert_eq!(paused, [] as [&str; 0]);
}

#[test]
fn a_job_that_is_doubled_lost_stolen_or_written_to_by_a_stranger_is_caught() {
    catches("fire without its job", |run| run.jobs.clear());
    catches("job without its fire", |run| run.fires[0].job_id = None);
    catches("two jobs of one fire", |run| run.jobs.push(run.jobs[0].clone()));
    catches("job without an end", |run| {
        run.jobs[0].status = "running".to_owned();
    });
    catches("lease left", |run| run.jobs[0].lease_token = Some("t".to_owned()));
    catches("code started twice", |run| run.runs.push(self::run("begin")));
    catches("wrong end", |run| run.runs[0].run = "another".to_owned());
    catches("failed for no fault of its own", |run| {
        run.jobs[0].status = "failed".to_owned();
        run.jobs[0].failure_class = Some("internal".to_owned());
    });
    catches("cancelled by nobody", |run| {
        run.jobs[0].status = "cancelled".to_owned();
    });
    let step = |was: Value, now: Value, who: &str| entry(10, who, "jobs", (was, now));
    let held = || job("running", Some("t"));
    catches("lease taken while it ran", |run| {
        run.audit[9] = step(held(), job("failed", None), "b");
    });
    // Once it has run out, it is everybody's.
    let over = broken(|run| {
        run.audit[9] = step(held(), job("failed", None), "b");
        run.audit[9].at = 5_000;
    });
    assert_eq!(over, [] as [&str; 0]);
    catches("wrong step", |run| {
        run.audit[9] = step(held(), job("queued", None), "b");
    });
    catches("write after the end", |run| {
        run.audit
            .push(step(job("completed", None), job("failed", None), "a"));
    });
    catches("log of a stale holder", |run| run.audit[8].who = "b".to_owned());
    catches("log of a stale holder", |run| {
        run.audit[8].job["status"] = "failed".into();
    });
    catches("log line twice", |run| run.logs.push(run.logs[0].clone()));
    catches("runs overlap", |run| {
        let mut other = run.audit[7].clone();
        other.id = "other".to_owned();
        run.audit.insert(8, other);
    });
    catches("skipped for nothing", |run| {
        run.fires[1].outcome = "skipped_overlap".to_owned();
        run.audit[4].now["outcome"] = "skipped_overlap".into();
        // Before there was any job.
        run.audit[4].at = 0;
        (run.audit[4].committed, run.audit[3].committed) = (900, 950);
    });
}

#[test]
fn a_callback_that_is_lost_doubled_or_changed_is_caught() {
    catches("wrong receivers", |run| run.deliveries.clear());
    catches("told in two ways", |run| {
        let mut other = run.deliveries[0].clone();
        other.id = "e".to_owned();
        run.deliveries.push(other);
    });
    catches("callback not delivered", |run| {
        run.deliveries[0].status = "pending".to_owned();
    });
    catches("callback that nobody heard", |run| run.heard.by_id.clear());
    catches("callback with another body", |run| {
        run.heard.by_id.get_mut("d").unwrap().bodies.push("{}".to_owned());
    });
    catches("callback from nowhere", |run| {
        run.heard.by_id.insert("x".to_owned(), Told::default());
    });
    catches("told something else", |run| {
        run.deliveries[0].event = "job.failed".to_owned();
    });
    catches("wrong callback", |run| {
        run.heard.wrong.push("a signature".to_owned());
    });
}

#[test]
fn a_request_that_is_lost_doubled_or_refused_for_nothing_is_caught() {
    let update = |did| {
        let what = What::Update {
            schedule: "schedule".to_owned(),
            input: json!({"enabled": false}),
        };
        op(what, did)
    };
    let asked = |mark: &str, did| {
        let what = What::Job {
            mark: mark.to_owned(),
            nonce: true,
        };
        op(what, did)
    };
    let marked = |id: &str| Job {
        id: id.to_owned(),
        schedule_id: None,
        fire_at: None,
        status: "cancelled".to_owned(),
        params: json!({"mark": "m"}).to_string(),
        ..right().jobs[0].clone()
    };
    catches("acknowledged and lost", |run| {
        run.ops.push(update(Did::Done(Value::Null)));
    });
    catches("one request, two changes", |run| {
        for at in [minute(1), minute(2)] {
            let both = (schedule(1, at - MINUTE), schedule(1, at));
            run.audit.push(entry(20, "a", "schedules", both));
        }
        run.ops.push(update(Did::Unknown));
    });
    catches("refused without a reason", |run| {
        run.ops.push(update(Did::Refused(404, String::new())));
    });
    catches("acknowledged and lost", |run| {
        run.ops.push(asked("m", Did::Done(json!({"job_id": "gone"}))));
    });
    catches("one request, two jobs", |run| {
        run.ops.push(asked("m", Did::Unknown));
        run.jobs.extend([marked("j1"), marked("j2")]);
    });
    catches("refused and done", |run| {
        run.ops.push(asked("m", Did::NotSent));
        run.jobs.push(marked("j1"));
    });
    catches("one request, not one schedule", |run| {
        let mut twin = run.audit[1].clone();
        twin.id = "twin".to_owned();
        run.audit.push(twin);
    });
    catches("deployment without an end", |run| {
        run.unbuilt.push("d".to_owned());
    });
}
