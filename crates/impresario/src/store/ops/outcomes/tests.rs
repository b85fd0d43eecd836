//! What must hold in the one transaction in which a schedule disables itself, and what of it a later one finds.

mod news;
mod owed;

use serde_json::json;

use super::*;
use crate::{
    domain::{
        EVENTS, Ending, EndpointId, MisfirePolicy, OverlapPolicy, Pattern, TenantId, Timing, WorkflowId,
    },
    ids::Ids,
    store::{
        ops::{
            fires::{LedgerRow, Realigned, catch_up, fire_due, history, realign, wake_all},
            fixture::{Db, LEASE, at},
            jobs,
            schedules::{Change, ChangeOutcome},
            secrets::SealedSecret,
            webhooks::{self, Endpoint, Health},
        },
        value::Json,
    },
};

/// 2027-01-01T00:00:00Z.
const BEGIN: i64 = 1_798_761_600_000;

fn minute(number: i64) -> jiff::Timestamp {
    at(BEGIN + number * 60_000)
}

/// Half a minute after that minute.
fn half_past(number: i64) -> jiff::Timestamp {
    at(BEGIN + number * 60_000 + 30_000)
}

/// A schedule of every minute that disables itself at its second failure in a row, and an endpoint that hears of all.
struct Stage {
    db: Db,
    ids: Ids,
    tenant: TenantId,
    id: ScheduleId,
}

impl Stage {
    fn new(decide: impl FnOnce(&mut ScheduleDraft)) -> Self {
        let db = Db::new();
        let tenant = db.tenant();
        let deployment = db.deployment(tenant, &[]);
        db.sql(
            "INSERT INTO workflows (id, tenant_id, name, deployment_id, deployment_number, created_at, updated_at)
             VALUES ($1, $2, 'w', $3, 1, 0, 0)",
            params![db.id::<WorkflowId>(), tenant, deployment],
        );
        let endpoint = Endpoint {
            id: db.id::<EndpointId>(),
            url: "https://a.example/".to_owned(),
            description: None,
            active: true,
            events: EVENTS.map(str::to_owned).to_vec(),
            created_at: minute(0),
            updated_at: minute(0),
            health: Health::default(),
        };
        let secret = SealedSecret {
            id: db.id(),
            sealed: vec![0],
        };
        assert!(db.run(|tx| webhooks::create(tx, tenant, (endpoint, secret), 1)));
        let mut draft = ScheduleDraft::plain("w", "* * * * *");
        draft.policies.max_consecutive_failures = Some(2);
        decide(&mut draft);
        let id = ScheduleId(uuid::Uuid::from_u128(7));
        db.run(|tx| schedules::create(tx, (tenant, id), (draft, Some(deployment)), None, half_past(0)));
        Self {
            db,
            ids: Ids::seeded(1),
            tenant,
            id,
        }
    }

    fn moment(&self, now: jiff::Timestamp) -> Moment<'_> {
        Moment::at(now, &self.ids)
    }

    /// Fires what is due, and claims the one job that it makes.
    fn fire(&self, now: jiff::Timestamp) -> JobId {
        let fired = self.db.run(|tx| fire_due(tx, &self.moment(now), 10));
        assert_eq!((fired.jobs, &fired.quarantined), (1, &Vec::new()));
        self.claim(now)
    }

    fn claim(&self, now: jiff::Timestamp) -> JobId {
        let claimed = self.db.run(|tx| jobs::claim(tx, 10, LEASE, now));
        assert_eq!(claimed.len(), 1, "{claimed:?}");
        claimed[0].id
    }

    fn end(&self, job: JobId, ending: Ending, now: jiff::Timestamp) {
        let moment = self.moment(now);
        assert!(
            self.db
                .run(|tx| jobs::finish(tx, (job, "token"), ending, || moment))
        );
    }

    fn fail(&self, job: JobId, class: &str, now: jiff::Timestamp) {
        let ending = Ending::Failed {
            class: class.to_owned(),
            error: format!("a failure of class {class}"),
            stack: None,
        };
        self.end(job, ending, now);
    }

    /// One failure, so that the next one is the last straw.
    fn with_a_failure(self) -> Self {
        let job = self.fire(minute(1));
        self.fail(job, "workflow", minute(1));
        self
    }

    fn delete_workflow(&self) {
        self.db.sql("DELETE FROM workflows", &[]);
    }

    fn schedule(&self) -> Schedule {
        self.db.run(|tx| schedules::by_id(tx, self.id)).unwrap()
    }

    /// Failures in a row, those that count, and whether it fires.
    fn count(&self) -> (u64, u32, bool) {
        let schedule = self.schedule();
        (
            schedule.consecutive_failures,
            schedule.counted_failures,
            schedule.draft.enabled,
        )
    }

    fn change(&self, now: jiff::Timestamp, decide: impl FnOnce(&mut ScheduleDraft)) -> Schedule {
        let changed = self.db.run(|tx| {
            schedules::change(tx, (self.tenant, self.id), &self.moment(now), |before| {
                let mut draft = before.clone();
                decide(&mut draft);
                Ok::<_, ()>(Change {
                    draft,
                    secret: None,
                    checked: None,
                })
            })
        });
        match changed {
            ChangeOutcome::Changed(schedule) => *schedule,
            other => panic!("{other:?}"),
        }
    }

    fn ledger(&self) -> Vec<LedgerRow> {
        let mut rows = self.db.run(|tx| history(tx, self.tenant, self.id, None, 1_000));
        rows.reverse();
        rows
    }

    /// The rows from this minute on, oldest first: the minute, what became of it, why, and how many it stands for.
    fn since(&self, first: i64) -> Vec<(i64, String, Option<String>, u64)> {
        self.ledger()
            .into_iter()
            .map(|row| ((row.fire_at.as_millisecond() - BEGIN) / 60_000, row))
            .filter(|(minute, _)| *minute >= first)
            .map(|(minute, row)| (minute, row.outcome, row.reason, row.missed))
            .collect()
    }

    /// The events about the schedule that were told, oldest first, with their bodies.
    fn told(&self) -> Vec<(String, serde_json::Value)> {
        let sql = "SELECT event, body FROM deliveries WHERE event LIKE 'schedule.%' ORDER BY created_at, id";
        self.db.run(|tx| {
            tx.query(sql, &[], |row| {
                Ok((row.get("event")?, row.get::<Json<serde_json::Value>>("body")?.0))
            })
        })
    }

    fn events(&self) -> Vec<String> {
        self.told().into_iter().map(|(event, _)| event).collect()
    }
}

fn row(minute: i64, outcome: &str, reason: Option<&str>, missed: u64) -> (i64, String, Option<String>, u64) {
    (minute, outcome.to_owned(), reason.map(str::to_owned), missed)
}

#[test]
fn the_last_straw_disables_once_and_says_why() {
    let stage = Stage::new(|_| {}).with_a_failure();
    assert_eq!(stage.count(), (1, 1, true));
    assert_eq!(stage.events(), Vec::<String>::new());
    let job = stage.fire(minute(2));
    stage.fail(job, "timeout", half_past(2));
    assert_eq!(stage.count(), (2, 2, false));
    let reason = "disabled after 2 failures in a row (max_consecutive_failures is 2); the last one: a failure of class timeout";
    let disabled = stage.schedule().self_disabled.unwrap();
    assert_eq!((disabled.reason.as_str(), disabled.at), (reason, half_past(2)));
    let told = stage.told();
    assert_eq!(told.len(), 1, "{told:?}");
    let body = &told[0].1;
    assert_eq!(body["reason"], reason);
    assert_eq!(body["job_id"], job.to_string());
    assert_eq!(body["consecutive_failures"], 2);
    assert_eq!(
        stage
            .db
            .run(|tx| fire_due(tx, &stage.moment(minute(9)), 10))
            .looked_at,
        0
    );
    assert_eq!(stage.since(3), []);
}

#[test]
fn the_reason_repeats_the_beginning_of_a_long_error() {
    let stage = Stage::new(|draft| draft.policies.max_consecutive_failures = Some(1));
    let job = stage.fire(minute(1));
    let ending = Ending::Failed {
        class: "workflow".to_owned(),
        error: "ü".repeat(30_000),
        stack: None,
    };
    stage.end(job, ending, minute(1));
    let schedule = stage.schedule();
    let reason = schedule.self_disabled.unwrap().reason;
    assert!(
        reason.starts_with("disabled after 1 failure (") && reason.ends_with("üü…"),
        "{reason}"
    );
    assert!(reason.chars().count() < 600, "{}", reason.len());
    assert_eq!(schedule.last_error.unwrap().chars().count(), 30_000);
}

#[test]
fn faults_of_the_server_are_neither_counted_nor_the_last_straw() {
    let stage = Stage::new(|_| {}).with_a_failure();
    for (number, class) in ["worker_lost", "internal", "runner", "browser", "configuration"]
        .into_iter()
        .enumerate()
    {
        let now = minute(2 + i64::try_from(number).unwrap());
        let job = stage.fire(now);
        stage.fail(job, class, now);
        assert_eq!(stage.count(), (2 + number as u64, 1, true), "{class}");
    }
    // What counts is in a row all the same: nothing has succeeded between.
    let job = stage.fire(minute(7));
    stage.fail(job, "process_exit", minute(7));
    assert_eq!(stage.count(), (7, 2, false));
}

#[test]
fn a_limit_that_is_lowered_below_the_count_acts_at_the_next_failure_and_not_before() {
    let stage = Stage::new(|draft| draft.policies.max_consecutive_failures = None);
    for number in 1..=3 {
        let job = stage.fire(minute(number));
        stage.fail(job, "workflow", minute(number));
    }
    let changed = stage.change(half_past(3), |draft| {
        draft.policies.max_consecutive_failures = Some(1);
    });
    assert!(changed.draft.enabled);
    let job = stage.fire(minute(4));
    stage.fail(job, "workflow", minute(4));
    let reason = stage.schedule().self_disabled.unwrap().reason;
    assert!(
        reason.starts_with("disabled after 4 failures in a row (max_consecutive_failures is 1)"),
        "{reason}"
    );
}

#[test]
fn a_success_starts_the_count_again_and_is_told_once() {
    let stage = Stage::new(|_| {}).with_a_failure();
    for number in 2..=3 {
        let job = stage.fire(minute(number));
        stage.end(job, Ending::Completed(None), minute(number));
        assert_eq!(stage.count(), (0, 0, true));
        assert_eq!(stage.events(), ["schedule.recovered"]);
    }
    assert_eq!(stage.told()[0].1["consecutive_failures"], 1);
    // A cancel is neither.
    let job = stage.fire(minute(4));
    stage.fail(job, "workflow", minute(4));
    let job = stage.fire(minute(5));
    stage.end(job, Ending::Cancelled, minute(5));
    assert_eq!(stage.count(), (1, 1, true));
    assert_eq!(stage.events().len(), 1);
}

#[test]
fn what_is_due_when_the_last_straw_falls_fires_and_nothing_after_it_does() {
    let stage = Stage::new(|_| {}).with_a_failure();
    let job = stage.fire(minute(2));
    // Minute 3 has come, and the scheduler has not looked yet.
    stage.fail(job, "workflow", half_past(3));
    assert_eq!(
        stage.since(2),
        [row(2, "fired", None, 0), row(3, "fired", None, 0)]
    );
    assert_eq!(stage.count(), (2, 2, false));
    assert_eq!(stage.events(), ["schedule.disabled"]);
    assert_eq!(
        stage
            .db
            .run(|tx| fire_due(tx, &stage.moment(minute(9)), 10))
            .looked_at,
        0
    );
    // Its job runs; what becomes of it changes nothing about the pause.
    let late = stage.claim(minute(9));
    stage.fail(late, "workflow", minute(9));
    assert_eq!(stage.count(), (3, 3, false));
    assert_eq!(stage.events(), ["schedule.disabled"]);
    assert_eq!(stage.schedule().self_disabled.unwrap().at, half_past(3));
}

#[test]
fn what_is_due_when_the_last_straw_falls_may_fail_as_well_and_disables_nothing_twice() {
    let stage = Stage::new(|_| {}).with_a_failure();
    let job = stage.fire(minute(2));
    stage.delete_workflow();
    stage.fail(job, "workflow", half_past(3));
    assert_eq!(stage.since(3), [row(3, "rejected", Some("no_workflow"), 0)]);
    assert_eq!(stage.count(), (3, 3, false));
    assert_eq!(stage.events(), ["schedule.disabled"]);
    let schedule = stage.schedule();
    assert!(
        schedule
            .self_disabled
            .unwrap()
            .reason
            .contains("a failure of class workflow")
    );
}

#[test]
fn a_fire_without_a_workflow_is_the_last_straw_too() {
    let stage = Stage::new(|_| {}).with_a_failure();
    stage.delete_workflow();
    let fired = stage.db.run(|tx| fire_due(tx, &stage.moment(minute(2)), 10));
    assert_eq!((fired.rejected, fired.quarantined), (1, Vec::new()));
    assert_eq!(stage.count(), (2, 2, false));
    let told = stage.told();
    assert_eq!((told.len(), &told[0].1["job_id"]), (1, &json!(null)));
    assert!(
        told[0].1["reason"]
            .as_str()
            .unwrap()
            .contains("no deployed workflow"),
        "{told:?}"
    );
}

#[test]
fn a_change_that_finds_it_disable_itself_keeps_it_disabled_and_one_that_enables_it_does() {
    for (enables, after) in [(false, (2, 2, false)), (true, (2, 0, true))] {
        let stage = Stage::new(|_| {}).with_a_failure();
        stage.delete_workflow();
        // Minute 2 is due: the change fires it first, and that is the last straw.
        let changed = stage.change(minute(2), |draft| {
            draft.label.name = Some("renamed".to_owned());
            draft.enabled |= enables;
        });
        assert_eq!(stage.count(), after);
        assert_eq!(changed.draft.label.name.as_deref(), Some("renamed"));
        assert_eq!(changed.self_disabled.is_some(), !enables);
        assert_eq!(stage.events(), ["schedule.disabled"]);
        assert_eq!(stage.since(3), []);
    }
}

#[test]
fn a_job_that_waits_for_the_last_straw_still_runs() {
    let stage = Stage::new(|draft| draft.policies.overlap = OverlapPolicy::BufferOne).with_a_failure();
    let job = stage.fire(minute(2));
    let fired = stage.db.run(|tx| fire_due(tx, &stage.moment(minute(3)), 10));
    assert_eq!(fired.jobs, 1);
    assert!(!stage.db.run(jobs::any_queued), "it waits");
    stage.fail(job, "workflow", half_past(3));
    assert_eq!(stage.count(), (2, 2, false));
    let waited = stage.claim(half_past(3));
    stage.end(waited, Ending::Completed(None), half_past(3));
    // A success after failures, and still a schedule that its owner has to look at.
    assert_eq!(stage.count(), (0, 0, false));
    assert!(stage.schedule().self_disabled.is_some());
    assert_eq!(stage.events(), ["schedule.disabled", "schedule.recovered"]);
}

#[test]
fn the_pause_is_written_down_by_the_pattern_that_held_and_only_where_it_disabled_itself() {
    let disabled = || {
        let stage = Stage::new(|draft| draft.policies.max_consecutive_failures = Some(1));
        let job = stage.fire(minute(1));
        stage.fail(job, "workflow", half_past(1));
        stage
    };
    let stage = disabled();
    let every = |minutes: &str| {
        let pattern = Pattern::parse(&format!("*/{minutes} * * * *"), "UTC").unwrap();
        move |draft: &mut ScheduleDraft| draft.timing = Timing::of(pattern)
    };
    let changed = stage.change(half_past(4), every("5"));
    assert!(changed.self_disabled.is_some(), "a change is no pardon");
    let again = stage.change(minute(20), |draft| draft.enabled = true);
    assert_eq!((again.self_disabled, again.counted_failures), (None, 0));
    assert_eq!(again.next_fire_at, Some(minute(25)));
    assert_eq!(
        stage.since(2),
        [
            row(2, "missed", Some("paused_by_limit"), 3),
            row(5, "missed", Some("paused_by_limit"), 4)
        ],
        "minutes 2 to 4, and 5, 10, 15 and 20"
    );

    // What its owner pauses is nobody's loss; not even with a changed pattern.
    let stage = Stage::new(|_| {});
    stage.change(half_past(0), |draft| draft.enabled = false);
    stage.change(half_past(4), every("5"));
    stage.change(minute(20), |draft| draft.enabled = true);
    assert_eq!(stage.since(0), []);

    // Its owner may say so once more without its becoming the owner's pause.
    let stage = disabled();
    let paused = stage.change(half_past(3), |draft| draft.enabled = false);
    assert_eq!(paused.self_disabled.unwrap().at, half_past(1));
    stage.change(half_past(3), |draft| draft.enabled = true);
    assert_eq!(stage.since(2), [row(2, "missed", Some("paused_by_limit"), 2)]);
}
