//! Every kind of job that can be left, and what is not left yet.

use super::*;
use crate::{
    domain::JobId,
    ids::Ids,
    store::ops::{
        fixture::{Db, LEASE, at},
        jobs::{claim, heartbeat, start},
    },
};

/// A database with `count` jobs that were claimed at 1 and whose leases end at 100.
fn claimed(count: i64) -> (Db, Vec<JobId>) {
    claimed_on(Db::new(), count)
}

fn claimed_on(db: Db, count: i64) -> (Db, Vec<JobId>) {
    let tenant = db.tenant();
    let deployment = db.deployment(tenant, &[]);
    let jobs = (0..count).map(|number| db.job((tenant, deployment), "queued", number));
    let jobs: Vec<_> = jobs.collect();
    assert_eq!(db.run(|tx| claim(tx, 99, LEASE, at(1))).len(), jobs.len());
    db.sql("UPDATE jobs SET lease_until = 100", &[]);
    (db, jobs)
}

fn reaped(db: &Db, job: JobId, now: i64) -> Option<Settled> {
    let ids = Ids::seeded(1);
    db.run(|tx| reap(tx, &job.to_string(), now, || Moment::at(at(7), &ids)))
}

fn of(db: &Db, job: JobId, condition: &str) -> bool {
    db.count(&format!(
        "SELECT COUNT(*) FROM jobs WHERE id = '{job}' AND {condition}"
    )) == 1
}

#[test]
fn what_has_not_started_goes_back_and_what_has_is_lost() {
    let (db, jobs) = claimed(4);
    assert!(db.run(|tx| start(tx, jobs[1], "token")));
    db.sql(
        "UPDATE jobs SET cancel_requested = 1 WHERE id = $1",
        params![jobs[2]],
    );
    db.sql("UPDATE jobs SET attempt = 5 WHERE id = $1", params![jobs[3]]);
    let left = db.run(|tx| expired(tx, 100, 9));
    assert_eq!(left.len(), 4);
    assert_eq!(reaped(&db, jobs[0], 100), Some(Settled::Requeued));
    assert_eq!(reaped(&db, jobs[1], 100), Some(Settled::Lost));
    assert_eq!(reaped(&db, jobs[2], 100), Some(Settled::Cancelled));
    assert_eq!(reaped(&db, jobs[3], 100), Some(Settled::Lost));
    // The attempt that was lost counts.
    assert!(of(&db, jobs[0], "status = 'queued' AND attempt = 1"));
    let lost = "status = 'failed' AND failure_class = 'worker_lost' AND completed_at = 7";
    assert!(of(&db, jobs[1], lost) && of(&db, jobs[3], lost));
    assert!(of(&db, jobs[2], "status = 'cancelled'"));
    let held = "SELECT COUNT(*) FROM jobs WHERE lease_token IS NOT NULL OR lease_until IS NOT NULL";
    assert_eq!(db.count(held), 0);
    assert!(db.run(|tx| expired(tx, 100, 9)).is_empty());
    assert_eq!(reaped(&db, jobs[1], 100), None, "once");
}

#[test]
fn a_lease_that_runs_keeps_its_job() {
    let (db, jobs) = claimed(1);
    assert!(db.run(|tx| expired(tx, 99, 9)).is_empty());
    assert_eq!(reaped(&db, jobs[0], 99), None);
    // It was extended between the look and the reaping.
    db.sql("UPDATE jobs SET lease_until = 200", &[]);
    assert_eq!(reaped(&db, jobs[0], 150), None);
    assert!(of(&db, jobs[0], "status = 'starting_browser'"));
}

#[test]
fn a_lease_without_an_end_is_none_of_the_reaper_s() {
    let (db, jobs) = claimed_on(Db::embedded(), 1);
    let held = [(jobs[0], "token".to_owned())];
    assert_eq!(db.run(|tx| heartbeat(tx, &held, LEASE.length)).lost, []);
    assert!(db.run(|tx| expired(tx, i64::MAX, 9)).is_empty());
}

#[test]
fn a_holder_that_comes_back_late_writes_nothing() {
    let (db, jobs) = claimed(1);
    assert_eq!(reaped(&db, jobs[0], 100), Some(Settled::Requeued));
    assert!(!db.run(|tx| start(tx, jobs[0], "token")));
    let other = crate::store::ops::Lease {
        token: "another",
        ..LEASE
    };
    assert_eq!(db.run(|tx| claim(tx, 1, other, at(9)))[0].id, jobs[0]);
    assert!(!db.run(|tx| start(tx, jobs[0], "token")));
    let ids = Ids::seeded(1);
    let moment = || Moment::at(at(9), &ids);
    let ending = Ending::Completed(None);
    assert!(!db.run(|tx| super::super::finish(tx, (jobs[0], "token"), ending.clone(), moment)));
    assert!(!db.run(|tx| super::super::abandon(tx, (jobs[0], "token"), at(9))));
    assert!(db.run(|tx| super::super::finish(tx, (jobs[0], "another"), ending, moment)));
}

#[test]
fn a_job_that_cannot_be_read_is_failed_and_stops_nobody() {
    let (db, jobs) = claimed(3);
    for job in &jobs {
        assert!(db.run(|tx| start(tx, *job, "token")));
    }
    for job in &jobs[..2] {
        db.sql("UPDATE jobs SET launch = '{' WHERE id = $1", params![*job]);
    }
    assert_eq!(reaped(&db, jobs[0], 100), Some(Settled::Lost));
    let ids = Ids::seeded(1);
    let recovered = db.run(|tx| recover(tx, &Moment::at(at(7), &ids)));
    assert_eq!((recovered.lost, recovered.requeued), (2, 0));
    for job in &jobs[..2] {
        assert!(of(&db, *job, "status = 'failed' AND failure_class = 'internal'"));
    }
}

#[test]
fn the_look_for_what_has_expired_reads_no_history() {
    let (db, jobs) = claimed_on(Db::embedded(), 1);
    let (found, few) = db.work(|tx| expired(tx, 100, 9));
    assert_eq!(found, [jobs[0].to_string()]);
    let tenant = db.tenant();
    let deployment = db.deployment(tenant, &[]);
    for number in 0..2_000 {
        db.job((tenant, deployment), "completed", number);
    }
    let (_, many) = db.work(|tx| expired(tx, 100, 9));
    assert!(many <= few + 20, "{few}, {many}");
}
