use bytes::Bytes;
use jiff::Timestamp;

use super::*;
use crate::{
    domain::{
        Deployment, DeploymentId, DeploymentStatus, JobId, MisfirePolicy, NewJob, OverlapPolicy,
        ScheduleDraft, WorkflowId,
    },
    ids::Ids,
    store::ops::{
        Moment, deployments,
        fires::{Fired, catch_up, fire_due, history, wake_all},
        fixture::{Db, LEASE},
        jobs, schedules,
    },
};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The start of a minute.
fn minute(number: u8) -> Timestamp {
    at(&format!("2026-01-01T00:{number:02}:00Z"))
}

/// A tenant with a workflow `w`.
struct World {
    db: Db,
    ids: Ids,
    tenant: TenantId,
    deployment: DeploymentId,
}

impl World {
    fn new() -> Self {
        Self::on(Db::new())
    }

    fn on(db: Db) -> Self {
        let tenant = db.tenant();
        let deployment = db.deployment(tenant, &[]);
        let sql = "INSERT INTO workflows (id, tenant_id, name, deployment_id, deployment_number, created_at, updated_at)
                   VALUES ($1, $2, 'w', $3, 1, 0, 0)";
        db.sql(sql, params![db.id::<WorkflowId>(), tenant, deployment]);
        Self {
            db,
            ids: Ids::seeded(1),
            tenant,
            deployment,
        }
    }

    fn quota(&self, change: QuotaChange) {
        self.db.run(|tx| set(tx, self.tenant, change));
    }

    fn queue_of(&self, most: u64) {
        self.quota(QuotaChange {
            queued_jobs: Some(Some(most)),
            ..QuotaChange::default()
        });
    }

    /// A schedule of every minute, made half a minute after midnight.
    fn schedule(&self, decide: impl FnOnce(&mut ScheduleDraft)) -> ScheduleId {
        let mut draft = ScheduleDraft::plain("w", "* * * * *");
        decide(&mut draft);
        let id: ScheduleId = self.db.id();
        let checked = (draft, Some(self.deployment));
        let made = at("2026-01-01T00:00:30Z");
        let made = self
            .db
            .run(|tx| schedules::create(tx, (self.tenant, id), checked, None, made));
        assert!(matches!(made, schedules::CreateOutcome::Created(_)), "{made:?}");
        id
    }

    fn queued(&self) -> JobId {
        self.db.job((self.tenant, self.deployment), "queued", 0)
    }

    fn fire(&self, now: Timestamp) -> Fired {
        self.db.run(|tx| fire_due(tx, &Moment::at(now, &self.ids), 10))
    }

    fn catch_up(&self, now: Timestamp) -> Fired {
        self.db.run(|tx| catch_up(tx, &Moment::at(now, &self.ids), 10))
    }

    /// The ledger, newest first: what became of each instant, and why.
    fn ledger(&self, id: ScheduleId) -> Vec<(String, Option<String>)> {
        let rows = self.db.run(|tx| history(tx, self.tenant, id, None, 10));
        rows.into_iter().map(|row| (row.outcome, row.reason)).collect()
    }

    fn counts(&self, id: ScheduleId) -> (u64, u32, bool) {
        let schedule = self.db.run(|tx| schedules::by_id(tx, id)).unwrap();
        (
            schedule.consecutive_failures,
            schedule.counted_failures,
            schedule.draft.enabled,
        )
    }

    fn create_job(&self, nonce: Option<&str>) -> jobs::CreateOutcome {
        let new = NewJob {
            id: self.db.id(),
            workflow: "w".to_owned(),
            params: serde_json::Map::new(),
            launch: ScheduleDraft::plain("w", "* * * * *").launch,
            nonce: nonce.map(|nonce| (nonce.to_owned(), nonce.to_owned())),
            callback_url: None,
            callback_secret: None,
            skip_callbacks: false,
        };
        self.db
            .run(|tx| jobs::create(tx, self.tenant, new, None, minute(0)))
    }
}

fn rejected() -> (String, Option<String>) {
    ("rejected".to_owned(), Some("quota".to_owned()))
}

fn fired() -> (String, Option<String>) {
    ("fired".to_owned(), None)
}

#[test]
fn what_is_not_named_stays_and_none_is_no_limit() {
    let world = World::new();
    let quotas = || world.db.run(|tx| get(tx, world.tenant)).0;
    assert_eq!(quotas(), Quotas::default());
    world.quota(QuotaChange {
        schedules: Some(Some(1)),
        queued_jobs: Some(Some(0)),
        bundle_bytes: Some(Some(3)),
    });
    world.quota(QuotaChange {
        queued_jobs: Some(None),
        ..QuotaChange::default()
    });
    let expected = Quotas {
        schedules: Some(1),
        queued_jobs: None,
        bundle_bytes: Some(3),
    };
    assert_eq!(quotas(), expected);
}

#[test]
fn a_tenant_has_as_many_schedules_as_its_quota_says() {
    let world = World::new();
    let other = world.db.tenant();
    world.quota(QuotaChange {
        schedules: Some(Some(2)),
        ..QuotaChange::default()
    });
    let create = |tenant| {
        let id: ScheduleId = world.db.id();
        let draft = ScheduleDraft::plain("w", "* * * * *");
        let made = world
            .db
            .run(|tx| schedules::create(tx, (tenant, id), (draft, None), None, minute(0)));
        (id, made)
    };
    let first = create(world.tenant).0;
    create(world.tenant);
    let third = create(world.tenant).1;
    assert!(
        matches!(third, schedules::CreateOutcome::QuotaReached(2)),
        "{third:?}"
    );
    for _ in 0..3 {
        let theirs = create(other).1;
        assert!(matches!(theirs, schedules::CreateOutcome::Created(_)));
    }
    assert_eq!(world.db.run(|tx| get(tx, world.tenant)).1.schedules, 2);
    let moment = Moment::at(minute(0), &world.ids);
    world
        .db
        .run(|tx| schedules::delete(tx, world.tenant, first, &moment));
    let again = create(world.tenant).1;
    assert!(matches!(again, schedules::CreateOutcome::Created(_)), "{again:?}");
}

#[test]
fn a_job_that_waits_for_another_counts_and_one_that_runs_does_not() {
    let world = World::new();
    world.queue_of(2);
    let held = world.queued();
    world
        .db
        .sql("UPDATE jobs SET held = 1 WHERE id = $1", params![held]);
    for status in ["starting_browser", "running", "completed", "failed", "cancelled"] {
        world.db.job((world.tenant, world.deployment), status, 0);
    }
    assert!(matches!(world.create_job(None), jobs::CreateOutcome::Created(_)));
    assert_eq!(world.db.run(|tx| get(tx, world.tenant)).1.queued_jobs, 2);
    let full = world.create_job(None);
    assert!(matches!(full, jobs::CreateOutcome::QuotaReached(2)), "{full:?}");
    world.db.run(|tx| jobs::claim(tx, 1, LEASE, minute(0)));
    assert!(matches!(world.create_job(None), jobs::CreateOutcome::Created(_)));
}

#[test]
fn a_nonce_that_is_known_answers_with_its_job_whatever_the_quota() {
    let world = World::new();
    world.queue_of(1);
    let jobs::CreateOutcome::Created(job) = world.create_job(Some("n")) else {
        panic!("there is room for one");
    };
    let again = world.create_job(Some("n"));
    assert!(
        matches!(&again, jobs::CreateOutcome::Known(known) if known.id == job.id),
        "{again:?}"
    );
    let other = world.create_job(Some("m"));
    assert!(matches!(other, jobs::CreateOutcome::QuotaReached(1)), "{other:?}");
}

#[test]
fn a_fire_over_the_quota_makes_no_job_and_never_disables_its_schedule() {
    let world = World::new();
    world.queue_of(1);
    let id = world.schedule(|draft| draft.policies.max_consecutive_failures = Some(1));
    let in_the_way = world.queued();
    for number in 1..=2 {
        let fired = world.fire(minute(number));
        assert_eq!((fired.jobs, fired.rejected), (0, 1));
    }
    assert_eq!(world.ledger(id), [rejected(), rejected()]);
    assert_eq!(world.counts(id), (2, 0, true));
    let schedule = world.db.run(|tx| schedules::by_id(tx, id)).unwrap();
    let error = schedule.last_error.unwrap();
    assert!(
        error.starts_with("quota: ") && error.contains("(1)") && error.contains("operator"),
        "{error}"
    );
    world.db.sql(
        "UPDATE jobs SET status = 'completed' WHERE id = $1",
        params![in_the_way],
    );
    assert_eq!(world.fire(minute(3)).jobs, 1);
    assert_eq!(world.ledger(id)[0], fired());
}

#[test]
fn a_fire_that_replaces_takes_the_place_of_what_it_cancels() {
    let world = World::new();
    world.queue_of(1);
    let id = world.schedule(|draft| draft.policies.overlap = OverlapPolicy::CancelRunning);
    assert_eq!(world.fire(minute(1)).jobs, 1);
    assert_eq!(world.fire(minute(2)).jobs, 1, "its own job makes room for it");
    // Its job runs by now, and somebody else has the place.
    let running = world.db.run(|tx| jobs::claim(tx, 1, LEASE, minute(2)));
    assert_eq!(running.len(), 1);
    world.queued();
    assert_eq!(world.fire(minute(3)).rejected, 1);
    assert_eq!(world.ledger(id)[0], rejected());
    assert!(
        world.db.run(jobs::to_cancel).is_empty(),
        "a run does not end for one that does not come"
    );
}

#[test]
fn a_fire_that_its_policy_skips_needs_no_place() {
    let world = World::new();
    let id = world.schedule(|draft| draft.policies.overlap = OverlapPolicy::Skip);
    assert_eq!(world.fire(minute(1)).jobs, 1);
    world.queue_of(0);
    assert_eq!(world.fire(minute(2)).skipped, 1);
    assert_eq!(world.ledger(id)[0].0, "skipped_overlap");
}

#[test]
fn what_is_made_up_for_waits_for_a_place() {
    let world = World::new();
    world.queue_of(1);
    let id = world.schedule(|draft| draft.policies.misfire = MisfirePolicy::FireAll);
    let first = world.queued();
    // Down from 00:00:30 on: 00:01 to 00:03 are owed, and 00:04 is on time.
    world.fire(minute(4));
    assert_eq!(world.ledger(id), [rejected()]);
    let now = at("2026-01-01T00:04:01Z");
    for _ in 0..2 {
        let waits = world.catch_up(now);
        assert_eq!(
            (waits.looked_at, waits.waiting, waits.jobs),
            (1, 1, 0),
            "{waits:?}"
        );
    }
    assert_eq!(world.ledger(id).len(), 1, "nothing of it is in the ledger yet");
    assert_eq!(world.counts(id).0, 1, "and waiting is no failure");
    world.db.sql(
        "UPDATE jobs SET status = 'completed' WHERE id = $1",
        params![first],
    );
    assert_eq!(world.catch_up(now).jobs, 1);
    for _ in 0..2 {
        world.db.sql("UPDATE jobs SET status = 'completed'", &[]);
        world.db.run(wake_all);
        assert_eq!(world.catch_up(now).jobs, 1);
    }
    assert_eq!(world.ledger(id), [rejected(), fired(), fired(), fired()]);
    assert_eq!(world.catch_up(now).looked_at, 0);
}

#[test]
fn a_bundle_costs_its_bytes_once() {
    let world = World::new();
    let other = world.db.tenant();
    // The fixture's deployment has a bundle of one byte.
    assert_eq!(world.db.run(|tx| get(tx, world.tenant)).1.bundle_bytes, 1);
    world.quota(QuotaChange {
        bundle_bytes: Some(Some(10)),
        ..QuotaChange::default()
    });
    let accept = |tenant, bundle: &str, bytes: usize| {
        let deployment = Deployment {
            id: world.db.id(),
            tenant,
            bundle: bundle.to_owned(),
            entry_point: "index.js".to_owned(),
            description: None,
            status: DeploymentStatus::Building,
            build_error: None,
            workflows: None,
            created_at: minute(0),
            built_at: None,
        };
        let archive = Bytes::from(vec![0; bytes]);
        world.db.run(|tx| deployments::accept(tx, &deployment, archive))
    };
    let too_much = |stored| Some(TooMuch { stored, most: 10 });
    assert_eq!(accept(world.tenant, "aa", 10), too_much(1));
    assert_eq!(accept(world.tenant, "aa", 9), None);
    assert_eq!(accept(world.tenant, "aa", 9), None, "it is stored already");
    assert_eq!(accept(world.tenant, "00", 1), None);
    assert_eq!(accept(other, "bb", 1000), None);
    // That somebody else has stored it is nothing to this tenant.
    assert_eq!(accept(world.tenant, "bb", 1000), too_much(10));
    let used = |tenant| world.db.run(|tx| get(tx, tenant)).1.bundle_bytes;
    assert_eq!((used(world.tenant), used(other)), (10, 1000));
    let stored = world.db.count("SELECT COUNT(*) FROM deployments");
    assert_eq!(stored, 5, "nothing of those that were refused");
}

#[test]
fn a_quota_is_not_counted_past_itself() {
    let world = World::on(Db::embedded());
    let work = |queued: usize| {
        for _ in 0..queued {
            world.queued();
        }
        world.db.work(|tx| no_room_for_job(tx, world.tenant, None))
    };
    world.queue_of(10);
    let (full, few) = work(20);
    assert_eq!(full, Some(10));
    let (full, many) = work(1000);
    assert_eq!(full, Some(10));
    assert!(many <= few * 2, "{few}, {many}");
}
