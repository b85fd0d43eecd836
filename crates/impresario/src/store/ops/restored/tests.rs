use serde_json::Value;

use super::*;
use crate::{
    domain::{DeploymentId, JobId, ScheduleDraft, ScheduleId, TenantId},
    ids::Ids,
    store::{
        ops::{fixture::Db, schedules, secrets::SealedSecret},
        tx::params,
        value::Json,
    },
};

fn at(text: &str) -> Timestamp {
    format!("2027-01-01T{text}Z").parse().unwrap()
}

const MARKS: &str = "SELECT COUNT(*) FROM settings WHERE name = 'restored_from'";
const UNFINISHED: &str =
    "SELECT COUNT(*) FROM jobs WHERE status IN ('queued', 'starting_browser', 'running')";

struct Stage {
    db: Db,
    ids: Ids,
    tenant: TenantId,
    deployment: DeploymentId,
}

impl Stage {
    fn new() -> Self {
        let db = Db::new();
        let tenant = db.tenant();
        let deployment = db.deployment(tenant, &[]);
        Self {
            db,
            ids: Ids::seeded(1),
            tenant,
            deployment,
        }
    }

    fn job(&self, status: &str) -> JobId {
        self.db.job((self.tenant, self.deployment), status, 1)
    }

    fn settle(&self, state: Settling) -> Settling {
        let moment = Moment::at(at("00:05:10"), &self.ids);
        self.db.run(|tx| settle(tx, state, &moment))
    }

    /// On a database that carries the mark of a backup.
    fn begin(&self) -> Settling {
        self.db.run(|tx| settings::mark_restored(tx, at("00:00:40")));
        self.db.run(|tx| begin(tx, at("00:05:10")))
    }

    fn to_the_end(&self) -> Settling {
        let mut state = self.begin();
        while !state.done {
            state = self.settle(state);
        }
        state
    }

    /// Hears of everything.
    fn webhook(&self) {
        let secret = SealedSecret {
            id: self.db.id(),
            sealed: vec![0],
        };
        let sql = "INSERT INTO secrets (id, tenant_id, sealed, created_at) VALUES ($1, $2, $3, 0)";
        self.db.sql(sql, params![secret.id, self.tenant, secret.sealed]);
        let events = ["job.failed", "schedule.missed", "schedule.disabled"];
        self.db.sql(
            "INSERT INTO webhook_endpoints (id, tenant_id, url, active, secret_id, created_at, updated_at, events)
             VALUES ($1, $2, 'https://a.example/', 1, $3, 0, 0, $4)",
            params![
                self.db.id::<crate::domain::EndpointId>(),
                self.tenant,
                secret.id,
                Json(events)
            ],
        );
    }
}

#[test]
fn no_job_that_was_unfinished_runs_again_and_whoever_waits_is_told() {
    let stage = Stage::new();
    stage.webhook();
    let unfinished = ["queued", "starting_browser", "running"].map(|status| stage.job(status));
    let done = stage.job("completed");
    let damaged = stage.job("queued");
    stage
        .db
        .sql("UPDATE jobs SET launch = '{' WHERE id = $1", params![damaged]);
    assert_eq!(stage.to_the_end().jobs, 4);
    for id in unfinished {
        let job = stage.db.run(|tx| jobs::get(tx, stage.tenant, id)).unwrap();
        assert_eq!(
            (job.status.as_str(), job.failure_class.as_deref()),
            ("failed", Some("restored"))
        );
        assert!(job.error.unwrap().contains("does not run again"));
    }
    let job = stage.db.run(|tx| jobs::get(tx, stage.tenant, done)).unwrap();
    assert_eq!(job.status.as_str(), "completed");
    assert_eq!(stage.db.count(UNFINISHED), 0);
    assert_eq!(
        stage
            .db
            .count("SELECT COUNT(*) FROM deliveries WHERE event = 'job.failed'"),
        3
    );
}

#[test]
fn a_job_that_may_have_run_since_counts_against_no_limit_and_lets_no_other_start() {
    let stage = Stage::new();
    let id: ScheduleId = stage.db.id();
    let mut draft = ScheduleDraft::plain("w", "0 0 1 1 *");
    draft.policies.max_consecutive_failures = Some(1);
    stage.db.run(|tx| {
        schedules::create(
            tx,
            (stage.tenant, id),
            (draft.clone(), None),
            None,
            at("00:00:30"),
        )
    });
    let (running, held) = (stage.job("running"), stage.job("queued"));
    let sql = "UPDATE jobs SET schedule_id = $2, fire_at = $3, held = $4 WHERE id = $1";
    stage.db.sql(sql, params![running, id, 1_i64, false]);
    stage.db.sql(sql, params![held, id, 2_i64, true]);
    stage.to_the_end();
    assert_eq!(stage.db.count(UNFINISHED), 0);
    let schedule = stage.db.run(|tx| schedules::by_id(tx, id)).unwrap();
    assert!(schedule.draft.enabled);
    assert_eq!((schedule.consecutive_failures, schedule.counted_failures), (2, 0));
}

#[test]
fn what_was_written_off_is_told_to_whoever_hears_of_missed_instants() {
    let stage = Stage::new();
    stage.webhook();
    let id: ScheduleId = stage.db.id();
    let draft = ScheduleDraft::plain("w", "* * * * *");
    stage.db.run(|tx| {
        schedules::create(
            tx,
            (stage.tenant, id),
            (draft.clone(), None),
            None,
            at("00:00:30"),
        )
    });
    stage.to_the_end();
    let sql = "SELECT body FROM deliveries WHERE event = 'schedule.missed'";
    let bodies = stage
        .db
        .run(|tx| tx.query(sql, &[], |row| Ok(row.get::<Json<Value>>("body")?.0)));
    assert_eq!(bodies.len(), 1);
    assert_eq!(
        (&bodies[0]["missed"], &bodies[0]["reason"]),
        (&5.into(), &"restored".into())
    );
}

#[test]
fn it_may_be_cut_off_after_any_transaction_and_the_mark_goes_with_the_last() {
    let stage = Stage::new();
    for _ in 0..3 * JOBS {
        stage.job("queued");
    }
    let draft = ScheduleDraft::plain("w", "* * * * *");
    for _ in 0..SCHEDULES + 1 {
        let id: ScheduleId = stage.db.id();
        stage.db.run(|tx| {
            schedules::create(
                tx,
                (stage.tenant, id),
                (draft.clone(), None),
                None,
                at("00:00:30"),
            )
        });
    }
    let owed = "SELECT COUNT(*) FROM schedules WHERE next_fire_at <= 1798761910000";
    assert_eq!(stage.db.count(owed), SCHEDULES as i64 + 1);
    let mut passes = 0;
    // Each time from the beginning, with one pass more than before.
    loop {
        let mut state = stage.begin();
        for _ in 0..=passes {
            state = stage.settle(state);
            let left = stage.db.count(UNFINISHED) + stage.db.count(owed);
            assert_eq!(stage.db.count(MARKS), i64::from(!state.done));
            assert!(!state.done || left == 0, "{left} left");
            if state.done {
                assert!(passes >= 3, "{passes}");
                assert_eq!(stage.db.count("SELECT COUNT(*) FROM fires"), SCHEDULES as i64 + 1);
                return;
            }
        }
        passes += 1;
    }
}

#[test]
fn of_two_nodes_that_start_at_once_none_ends_what_the_other_has_begun_since() {
    let stage = Stage::new();
    let (mut one, mut other) = (stage.begin(), stage.begin());
    while !one.done {
        one = stage.settle(one);
    }
    let (job, id): (JobId, ScheduleId) = (stage.job("queued"), stage.db.id());
    let draft = ScheduleDraft::plain("w", "* * * * *");
    stage.db.run(|tx| {
        schedules::create(
            tx,
            (stage.tenant, id),
            (draft.clone(), None),
            None,
            at("00:00:30"),
        )
    });
    while !other.done {
        other = stage.settle(other);
    }
    assert_eq!((other.jobs, other.written_off.schedules), (0, 0));
    let job = stage.db.run(|tx| jobs::get(tx, stage.tenant, job)).unwrap();
    assert_eq!(job.status.as_str(), "queued");
    // Nor does one that has seen the mark, and comes to begin only now, bring it back.
    assert!(stage.db.run(|tx| begin(tx, at("00:05:11"))).done);
    assert_eq!(stage.db.count(MARKS), 0);
}
