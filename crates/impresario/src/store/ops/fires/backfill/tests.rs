use super::*;
use crate::{
    domain::{DeploymentId, Ending, OverlapPolicy, ScheduleDraft, WorkflowId},
    ids::Ids,
    store::ops::{
        fires::{self, Realigned, fire_due, history, realign},
        fixture::{Db, LEASE},
        jobs, schedules as stored,
    },
};

/// An hourly schedule that was made at half past midnight.
struct Stage {
    db: Db,
    ids: Ids,
    who: (TenantId, ScheduleId),
    deployment: DeploymentId,
}

fn at(hour: &str) -> Timestamp {
    format!("2027-01-01T{hour}:00Z").parse().unwrap()
}

impl Stage {
    fn new(edit: impl Fn(&mut ScheduleDraft)) -> Self {
        let (db, ids) = (Db::new(), Ids::seeded(1));
        let tenant = db.tenant();
        let deployment = db.deployment(tenant, &[]);
        let who = (tenant, ScheduleId(uuid::Uuid::from_u128(7)));
        let mut draft = ScheduleDraft::plain("w", "0 * * * *");
        edit(&mut draft);
        db.run(|tx| stored::create(tx, who, (draft, Some(deployment)), None, at("00:30")));
        let stage = Self {
            db,
            ids,
            who,
            deployment,
        };
        stage.deploy();
        stage
    }

    fn deploy(&self) {
        let sql = "INSERT INTO workflows (id, tenant_id, name, deployment_id, deployment_number, created_at, updated_at)
                   VALUES ($1, $2, 'w', $3, 1, 0, 0)";
        let id: WorkflowId = self.db.id();
        self.db.sql(sql, params![id, self.who.0, self.deployment]);
    }

    fn pass(&self, now: &str) {
        let moment = Moment::at(at(now), &self.ids);
        self.db.run(|tx| fire_due(tx, &moment, 10));
    }

    fn change(&self, now: &str, edit: impl Fn(&mut ScheduleDraft)) {
        let apply = |before: &ScheduleDraft| {
            let mut draft = before.clone();
            edit(&mut draft);
            Ok::<_, ()>(stored::Change {
                draft,
                secret: None,
                checked: None,
            })
        };
        let moment = Moment::at(at(now), &self.ids);
        self.db.run(|tx| stored::change(tx, self.who, &moment, apply));
    }

    fn ask(&self, range: (&str, &str), now: &str) -> BackfillOutcome {
        let moment = Moment::at(at(now), &self.ids);
        let range = (at(range.0), at(range.1));
        self.db.run(|tx| backfill(tx, self.who, range, &moment))
    }

    /// How many jobs it has made, and how many instants had one.
    fn made(&self, range: (&str, &str), now: &str) -> (usize, u64) {
        match self.ask(range, now) {
            BackfillOutcome::Done { jobs, already_fired } => (jobs.len(), already_fired),
            other => panic!("{other:?}"),
        }
    }

    /// Oldest first: what became of it, why, and which instants.
    fn rows(&self) -> Vec<String> {
        let mut rows = self.db.run(|tx| history(tx, self.who.0, self.who.1, None, 100));
        rows.reverse();
        let hour = |at: Timestamp| at.strftime("%H:%M").to_string();
        rows.iter()
            .map(|row| {
                let range = row
                    .missed_until
                    .map_or_else(String::new, |until| format!("..{} {}", hour(until), row.missed));
                let reason = row.reason.as_deref().unwrap_or("-");
                format!("{}{range} {} {reason}", hour(row.fire_at), row.outcome)
            })
            .collect()
    }

    fn schedule(&self) -> Schedule {
        self.db.run(|tx| stored::by_id(tx, self.who.1)).unwrap()
    }

    fn unfinished(&self) -> i64 {
        self.db
            .count("SELECT COUNT(*) FROM jobs WHERE status IN ('queued', 'starting_browser', 'running')")
    }
}

#[test]
fn what_is_made_up_for_is_cut_out_of_the_missed_and_asking_again_makes_nothing() {
    let stage = Stage::new(|_| ());
    stage.pass("06:30");
    assert_eq!(stage.rows(), ["01:00..05:00 5 missed down", "06:00 fired -"]);
    assert_eq!(stage.made(("02:00", "04:00"), "06:31"), (2, 0));
    let after = [
        "01:00..01:00 1 missed down",
        "02:00 fired backfill",
        "03:00 fired backfill",
        "04:00..05:00 2 missed down",
        "06:00 fired -",
    ];
    assert_eq!(stage.rows(), after);
    assert_eq!(stage.made(("02:00", "04:00"), "06:31"), (0, 2));
    assert_eq!(stage.rows(), after);
    // From before the schedule was made, up to what has fired by itself.
    assert_eq!(stage.made(("00:00", "06:30"), "06:31"), (4, 3));
    assert_eq!(stage.rows().len(), 7);
    assert_eq!(stage.rows()[0], "00:00 fired backfill");
    let distinct = "SELECT COUNT(DISTINCT fire_at) FROM jobs WHERE backfill = 1 AND schedule_id IS NOT NULL";
    assert_eq!((stage.db.count(distinct), stage.unfinished()), (6, 7));
    assert_eq!(
        stage.made(("00:01", "00:59"), "06:31"),
        (0, 0),
        "no instant, no error"
    );
}

#[test]
fn a_skipped_or_rejected_instant_gets_its_job_and_its_row_says_so() {
    let stage = Stage::new(|draft| draft.policies.overlap = OverlapPolicy::Skip);
    stage.pass("01:00");
    stage.pass("02:00");
    stage.db.sql("DELETE FROM workflows", &[]);
    stage.pass("03:00");
    assert_eq!(
        stage.rows(),
        [
            "01:00 fired -",
            "02:00 skipped_overlap overlap",
            "03:00 rejected no_workflow"
        ]
    );
    assert_eq!(
        stage.ask(("01:00", "03:01"), "03:01"),
        BackfillOutcome::NoWorkflow
    );
    stage.deploy();
    let before = stage.schedule();
    assert_eq!(stage.made(("01:00", "03:01"), "03:01"), (2, 1));
    assert_eq!(
        stage.rows(),
        ["01:00 fired -", "02:00 fired backfill", "03:00 fired backfill"]
    );
    let errors = "SELECT COUNT(*) FROM fires WHERE error IS NOT NULL OR job_id IS NULL";
    assert_eq!(stage.db.count(errors), 0);
    let after = stage.schedule();
    assert_eq!(
        (
            after.last_fire_at,
            after.last_job_id,
            after.last_error,
            after.consecutive_failures
        ),
        (
            before.last_fire_at,
            before.last_job_id,
            before.last_error,
            before.consecutive_failures
        )
    );
}

#[test]
fn what_the_scheduler_still_owes_is_left_to_it() {
    // Within its spread, an instant that has come is not made up for.
    let stage = Stage::new(|draft| draft.timing.jitter_seconds = 3_600);
    let due = stage.schedule().due_at(at("01:00"));
    assert!(due > at("01:01"), "{due}");
    assert_eq!(stage.made(("01:00", "01:01"), "01:01"), (0, 0));
    stage.pass("02:00");
    assert_eq!(stage.made(("01:00", "01:01"), "02:01"), (0, 1));
    // What waits to be made up for has its turn.
    let stage = Stage::new(|draft| draft.policies.misfire = crate::domain::MisfirePolicy::FireAll);
    assert_eq!(stage.made(("01:00", "04:30"), "04:30"), (0, 0));
    assert_eq!(stage.schedule().catching_up, 4);
    stage.change("04:31", |draft| draft.enabled = false);
    assert_eq!(stage.rows(), ["01:00..04:00 4 missed retired"]);
    assert_eq!(stage.made(("01:00", "04:30"), "04:32"), (4, 0));
    assert_eq!(stage.rows().len(), 4);
}

#[test]
fn what_a_restored_backup_has_written_off_stays_so() {
    let stage = Stage::new(|_| ());
    let moment = Moment::at(at("03:30"), &stage.ids);
    let mut state = fires::WrittenOff::default();
    while !state.done {
        state = stage
            .db
            .run(|tx| fires::write_off(tx, state, moment.now, &moment, 10));
    }
    stage.pass("04:00");
    assert_eq!(stage.rows(), ["01:00..03:00 3 missed restored", "04:00 fired -"]);
    assert_eq!(stage.made(("00:00", "04:30"), "04:30"), (1, 1));
    assert_eq!(
        stage.rows(),
        [
            "00:00 fired backfill",
            "01:00..03:00 3 missed restored",
            "04:00 fired -"
        ]
    );
}

/// A change to another expression.
fn every(expr: &'static str) -> impl Fn(&mut ScheduleDraft) {
    move |draft| draft.timing.pattern = crate::domain::Pattern::parse(expr, "UTC").unwrap()
}

#[test]
fn of_a_pattern_that_is_no_more_only_the_ends_are_known() {
    let stage = Stage::new(|_| ());
    stage.pass("06:30");
    stage.change("06:31", every("0 1-5/2 * * *"));
    assert_eq!(stage.made(("00:00", "04:00"), "06:32"), (2, 0));
    assert_eq!(
        stage.rows(),
        [
            "01:00 fired backfill",
            "01:00..05:00 4 missed down",
            "03:00 fired backfill",
            "06:00 fired -"
        ]
    );
    // Back to the first one: whatever the numbers say, nothing fires twice.
    stage.change("06:33", every("0 * * * *"));
    assert_eq!(stage.made(("00:00", "06:30"), "06:34"), (4, 3));
    assert_eq!(stage.made(("00:00", "06:30"), "06:34"), (0, 7));
}

#[test]
fn a_row_inside_a_range_of_the_same_pattern_is_no_obstacle() {
    let stage = Stage::new(|_| ());
    stage.pass("06:30");
    stage.change("06:31", every("0 2 * * *"));
    assert_eq!(stage.made(("00:00", "06:00"), "06:32"), (1, 0));
    stage.change("06:33", every("0 * * * *"));
    assert_eq!(stage.made(("01:00", "02:00"), "06:34"), (1, 0));
    assert_eq!(
        stage.rows(),
        [
            "01:00 fired backfill",
            "02:00 fired backfill",
            "03:00..05:00 3 missed down",
            "06:00 fired -"
        ]
    );
}

#[test]
fn a_request_that_begins_behind_such_a_row_finds_the_range_as_well() {
    let stage = Stage::new(|_| ());
    stage.pass("06:30");
    stage.change("06:31", every("0 2 * * *"));
    assert_eq!(stage.made(("02:00", "02:01"), "06:32"), (1, 0));
    stage.change("06:33", every("0 * * * *"));
    assert_eq!(stage.made(("03:00", "05:00"), "06:34"), (2, 0));
    assert_eq!(
        stage.rows(),
        [
            "01:00..01:00 1 missed down",
            "02:00 fired backfill",
            "03:00 fired backfill",
            "04:00 fired backfill",
            "05:00..05:00 1 missed down",
            "06:00 fired -"
        ]
    );
}

#[test]
fn a_range_of_more_than_a_thousand_is_refused_with_the_end_of_the_first_thousand() {
    let stage = Stage::new(|draft| {
        draft.timing.pattern = crate::domain::Pattern::parse("* * * * *", "UTC").unwrap();
    });
    stage.pass("20:00");
    assert_eq!(
        stage.ask(("00:00", "16:41"), "20:00"),
        BackfillOutcome::TooMany(at("16:40"))
    );
    assert_eq!(stage.made(("00:00", "16:40"), "20:00"), (1_000, 0));
    assert_eq!(stage.made(("00:00", "16:40"), "20:00"), (0, 1_000));
}

#[test]
fn bounds_hold_and_a_finished_schedule_can_be_made_up_for() {
    let stage = Stage::new(|draft| {
        draft.timing.start_at = Some(at("02:00"));
        draft.timing.end_at = Some(at("04:00"));
    });
    stage.pass("05:30");
    assert_eq!(stage.schedule().next_fire_at, None);
    assert_eq!(stage.made(("00:00", "05:00"), "05:31"), (1, 1));
    assert_eq!(stage.rows(), ["02:00 fired backfill", "03:00 fired -"]);
}

#[test]
fn a_count_that_was_cut_short_is_said_anew() {
    let stage = Stage::new(|draft| {
        draft.timing.pattern = crate::domain::Pattern::parse("* * * * *", "UTC").unwrap();
    });
    let year = "2027-12-31T00:00:00Z".parse().unwrap();
    let moment = Moment::at(year, &stage.ids);
    stage.db.run(|tx| fire_due(tx, &moment, 10));
    let error = |number: usize| {
        let rows = stage
            .db
            .run(|tx| history(tx, stage.who.0, stage.who.1, None, 100));
        rows.iter().rev().nth(number).unwrap().error.clone().unwrap()
    };
    assert!(error(0).contains("at least 100000"), "{}", error(0));
    let range = (at("01:00"), at("01:01"));
    stage.db.run(|tx| backfill(tx, stage.who, range, &moment));
    assert!(!error(0).contains("at least"), "{}", error(0));
    assert!(error(2).contains("at least 100000"), "{}", error(2));
}

#[test]
fn the_run_says_nothing_of_how_the_schedule_fares() {
    let stage = Stage::new(|draft| draft.policies.max_consecutive_failures = Some(1));
    stage.pass("03:30");
    let jobs = "SELECT COUNT(*) FROM deliveries";
    let before = stage.schedule();
    assert_eq!(stage.made(("01:00", "03:00"), "03:31"), (2, 0));
    let now = Moment::at(at("03:32"), &stage.ids);
    let fails = Ending::Failed {
        class: "workflow".to_owned(),
        error: "no".to_owned(),
        stack: None,
    };
    let claimed = stage.db.run(|tx| jobs::claim(tx, 3, LEASE, now.now));
    assert_eq!(claimed.len(), 3);
    for (job, ending) in claimed
        .iter()
        .filter(|job| job.backfill)
        .zip([fails, Ending::Completed(None)])
    {
        assert!(
            stage
                .db
                .run(|tx| jobs::finish(tx, (job.id, "token"), ending, || now))
        );
    }
    let after = stage.schedule();
    assert!(after.draft.enabled);
    assert_eq!(
        (
            after.last_fire_at,
            after.last_job_id,
            after.last_error,
            after.consecutive_failures,
            after.counted_failures
        ),
        (before.last_fire_at, before.last_job_id, None, 0, 0)
    );
    assert_eq!(stage.db.count(jobs), 0);
    // A success of one that was asked for does not end a row of failures either.
    let sql = "UPDATE schedules SET consecutive_failures = 3, last_error = 'x' WHERE id = $1";
    stage.db.sql(sql, params![stage.who.1]);
    assert_eq!(stage.made(("00:00", "00:01"), "03:33"), (1, 0));
    let job = stage.db.run(|tx| jobs::claim(tx, 3, LEASE, now.now)).remove(0);
    stage
        .db
        .run(|tx| jobs::finish(tx, (job.id, "token"), Ending::Completed(None), || now));
    assert_eq!(stage.schedule().consecutive_failures, 3);
}

#[test]
fn the_overlap_policy_of_what_comes_knows_nothing_of_it() {
    for policy in [
        OverlapPolicy::Skip,
        OverlapPolicy::BufferOne,
        OverlapPolicy::CancelRunning,
    ] {
        let stage = Stage::new(|draft| draft.policies.overlap = policy);
        stage.pass("00:40");
        assert_eq!(stage.made(("00:00", "00:40"), "00:40"), (1, 0));
        stage.pass("01:00");
        assert_eq!(
            stage.rows(),
            ["00:00 fired backfill", "01:00 fired -"],
            "{policy:?}"
        );
        assert_eq!(stage.unfinished(), 2, "{policy:?}: nothing is cancelled");
        if policy == OverlapPolicy::BufferOne {
            // What waits goes on when the ordinary run has ended, and not when the other has.
            stage.pass("02:00");
            let held = "SELECT COUNT(*) FROM jobs WHERE held = 1";
            assert_eq!(stage.db.count(held), 1);
            let now = Moment::at(at("02:01"), &stage.ids);
            for (backfill, left) in [(true, 1), (false, 0)] {
                let claimed = stage.db.run(|tx| jobs::claim(tx, 9, LEASE, now.now));
                let sql = "SELECT id FROM jobs WHERE backfill = $1 AND status = 'starting_browser'";
                let running: Vec<JobId> = stage
                    .db
                    .run(|tx| tx.query(sql, params![backfill], |row| row.get("id")));
                assert_eq!(running.len(), 1, "{claimed:?}");
                let ending = Ending::Completed(None);
                stage
                    .db
                    .run(|tx| jobs::finish(tx, (running[0], "token"), ending, || now));
                assert_eq!(stage.db.count(held), left);
            }
        }
    }
}

#[test]
fn a_clock_that_goes_back_fires_nothing_of_it_again() {
    let stage = Stage::new(|draft| draft.enabled = false);
    assert_eq!(stage.made(("00:00", "06:00"), "06:30"), (6, 0));
    stage.change("06:31", |draft| draft.enabled = true);
    let mut state = Realigned::default();
    while !state.done {
        state = stage
            .db
            .run(|tx| realign(tx, state, (|| at("02:30"), SignedDuration::ZERO)));
    }
    for hour in 3..8 {
        stage.pass(&format!("0{hour}:00"));
    }
    let rows = stage.rows();
    assert_eq!(rows.len(), 8, "{rows:?}");
    assert_eq!(rows[6..], ["06:00 fired -", "07:00 fired -"]);
    assert_eq!(stage.unfinished(), 8);
}
