use super::*;
use crate::{
    domain::{MisfirePolicy, ScheduleDraft, ScheduleId, TenantId},
    ids::Ids,
    store::ops::{
        fires::{LedgerRow, Realigned, catch_up, fire_due, history, realign, wake_all},
        fixture::Db,
    },
};

fn at(text: &str) -> Timestamp {
    format!("2027-01-01T{text}Z").parse().unwrap()
}

struct Stage {
    db: Db,
    ids: Ids,
    tenant: TenantId,
}

impl Stage {
    fn new() -> Self {
        let db = Db::new();
        let tenant = db.tenant();
        Self {
            db,
            ids: Ids::seeded(1),
            tenant,
        }
    }

    /// Every minute, made half a minute past midnight.
    fn schedule(&self, decide: impl FnOnce(&mut ScheduleDraft)) -> ScheduleId {
        let mut draft = ScheduleDraft::plain("gone", "* * * * *");
        decide(&mut draft);
        let id = self.db.id();
        let made = at("00:00:30");
        self.db
            .run(|tx| schedules::create(tx, (self.tenant, id), (draft.clone(), None), None, made));
        id
    }

    fn fire(&self, now: &str) {
        let moment = Moment::at(at(now), &self.ids);
        self.db.run(|tx| fire_due(tx, &moment, 100));
    }

    fn catch_up(&self, now: &str) {
        let moment = Moment::at(at(now), &self.ids);
        self.db.run(|tx| catch_up(tx, &moment, 100));
    }

    fn write_off(&self, until: &str) -> WrittenOff {
        let moment = Moment::at(at(until), &self.ids);
        let mut state = WrittenOff::default();
        while !state.done {
            // One at a time, as if each pass were cut off after it.
            state = self.db.run(|tx| write_off(tx, state, at(until), &moment, 1));
        }
        state
    }

    /// What the server does at its start and when its clock goes back.
    fn realign(&self, now: &str) {
        let mut state = Realigned::default();
        while !state.done {
            state = self
                .db
                .run(|tx| realign(tx, state, (|| at(now), jiff::SignedDuration::ZERO)));
        }
    }

    fn rows(&self, id: ScheduleId) -> Vec<LedgerRow> {
        let mut rows = self.db.run(|tx| history(tx, self.tenant, id, None, 100));
        rows.reverse();
        rows
    }

    /// A line a row, oldest first: from, until, what became of them, why, how many.
    fn shown(&self, id: ScheduleId) -> Vec<String> {
        let clock = |at: Timestamp| at.to_string()[11..16].to_owned();
        let line = |row: &LedgerRow| {
            format!(
                "{}-{} {} {} {}",
                clock(row.fire_at),
                clock(row.missed_until.unwrap_or(row.fire_at)),
                row.outcome,
                row.reason.as_deref().unwrap_or("-"),
                row.missed
            )
        };
        self.rows(id).iter().map(line).collect()
    }

    fn cursor(&self, id: ScheduleId) -> Option<Timestamp> {
        self.db.run(|tx| schedules::by_id(tx, id)).unwrap().next_fire_at
    }
}

/// Fires each instant as far as its workflow, which is not there.
const NOBODY: &str = "rejected no_workflow";

#[test]
fn whatever_the_policy_all_that_has_come_is_written_off_and_the_next_instant_fires() {
    let stage = Stage::new();
    let policies = [
        MisfirePolicy::FireOnce,
        MisfirePolicy::Skip,
        MisfirePolicy::FireAll,
    ];
    let ids = policies.map(|misfire| stage.schedule(|draft| draft.policies.misfire = misfire));
    stage.fire("00:01:00");
    let settled = stage.write_off("00:05:10");
    assert_eq!((settled.schedules, settled.instants, settled.damaged), (3, 12, 0));
    stage.realign("00:05:10");
    stage.fire("00:05:10");
    stage.catch_up("00:05:10");
    stage.fire("00:06:00");
    for id in ids {
        assert_eq!(
            stage.shown(id),
            [
                format!("00:01-00:01 {NOBODY} 0"),
                "00:02-00:05 missed restored 4".to_owned(),
                format!("00:06-00:06 {NOBODY} 0"),
            ]
        );
    }
    assert_eq!(
        stage.write_off("00:06:10").instants,
        0,
        "what is settled stays as it is"
    );
}

#[test]
fn what_waits_to_be_made_up_for_is_written_off_as_well() {
    let stage = Stage::new();
    let id = stage.schedule(|draft| draft.policies.misfire = MisfirePolicy::FireAll);
    stage.fire("00:04:00");
    stage.catch_up("00:04:00");
    stage.write_off("00:05:10");
    stage.db.run(wake_all);
    stage.catch_up("00:05:10");
    assert_eq!(
        stage.shown(id),
        [
            format!("00:01-00:01 {NOBODY} 0"),
            "00:02-00:03 missed restored 2".to_owned(),
            format!("00:04-00:04 {NOBODY} 0"),
            "00:05-00:05 missed restored 1".to_owned(),
        ]
    );
}

#[test]
fn an_instant_whose_share_of_the_spread_is_still_to_come_is_written_off_too() {
    let stage = Stage::new();
    let id = stage.schedule(|draft| {
        *draft = ScheduleDraft::plain("gone", "0 1 * * *");
        draft.timing.jitter_seconds = 3600;
    });
    let due = stage
        .db
        .run(|tx| schedules::by_id(tx, id))
        .unwrap()
        .due_at(at("01:00:00"));
    assert!(due > at("01:00:01"), "or this test shows nothing: {due}");
    // The spread may have been narrower after the backup.
    stage.write_off("01:00:01");
    assert_eq!(stage.shown(id), ["01:00-01:00 missed restored 1"]);
}

#[test]
fn disabled_and_finished_schedules_get_nothing() {
    let stage = Stage::new();
    let disabled = stage.schedule(|draft| draft.enabled = false);
    let finished = stage.schedule(|draft| draft.timing.end_at = Some(at("00:02:00")));
    stage.fire("00:01:00");
    stage.write_off("00:05:10");
    assert_eq!(stage.shown(disabled), Vec::<String>::new());
    assert_eq!(stage.shown(finished), [format!("00:01-00:01 {NOBODY} 0")]);
    assert_eq!(stage.cursor(finished), None);
}

#[test]
fn a_clock_that_goes_back_brings_nothing_that_was_written_off_to_fire() {
    let stage = Stage::new();
    let id = stage.schedule(|_| ());
    stage.fire("00:01:00");
    stage.write_off("00:05:10");
    stage.realign("00:02:30");
    assert_eq!(stage.cursor(id), Some(at("00:06:00")));
    // Nor does a cursor that something has put there.
    stage.db.sql(
        "UPDATE schedules SET next_fire_at = $1, next_due_at = $1",
        params![at("00:03:00")],
    );
    for now in ["00:03:00", "00:04:00", "00:05:00", "00:06:00"] {
        stage.fire(now);
    }
    assert_eq!(
        stage.shown(id),
        [
            format!("00:01-00:01 {NOBODY} 0"),
            "00:02-00:05 missed restored 4".to_owned(),
            format!("00:06-00:06 {NOBODY} 0"),
        ]
    );
}

#[test]
fn what_was_written_off_by_a_clock_that_was_ahead_comes_back_when_the_operator_says_so() {
    let stage = Stage::new();
    let id = stage.schedule(|_| ());
    stage.write_off("09:00:10");
    assert_eq!(stage.shown(id), ["00:01-09:00 missed restored 540"]);
    stage.write_off("00:05:10");
    assert_eq!(stage.shown(id), ["00:01-00:05 missed restored 5"]);
    stage.realign("00:05:10");
    stage.fire("00:06:00");
    assert_eq!(stage.shown(id)[1], format!("00:06-00:06 {NOBODY} 0"));
}

#[test]
fn what_a_clock_that_was_ahead_at_the_backup_had_passed_over_is_written_off() {
    let stage = Stage::new();
    let id = stage.schedule(|_| ());
    stage.fire("00:01:00");
    stage.fire("09:00:00");
    // The clock was set right after the backup, and what came then fired.
    stage.write_off("00:05:10");
    stage.realign("00:05:10");
    stage.fire("00:05:10");
    stage.fire("00:06:00");
    assert_eq!(
        stage.shown(id),
        [
            format!("00:01-00:01 {NOBODY} 0"),
            "00:02-00:05 missed restored 4".to_owned(),
            format!("00:06-00:06 {NOBODY} 0"),
            format!("09:00-09:00 {NOBODY} 0"),
        ]
    );
}

#[test]
fn a_schedule_that_cannot_be_read_stops_nobody_and_does_not_fire_once_it_can() {
    let stage = Stage::new();
    let faulty = stage.schedule(|draft| draft.policies.misfire = MisfirePolicy::FireAll);
    let unreadable = stage.schedule(|_| ());
    let fine = stage.schedule(|_| ());
    stage.fire("00:03:00");
    let damage = |expr: &str, params: &str| {
        let sql = "UPDATE schedules SET cron_expr = $2 WHERE id = $1";
        stage.db.sql(sql, params![faulty, expr]);
        let sql = "UPDATE schedules SET params = $2 WHERE id = $1";
        stage.db.sql(sql, params![unreadable, params]);
    };
    damage("of another version", "{");
    let settled = stage.write_off("00:05:10");
    assert_eq!((settled.damaged, settled.schedules), (2, 1));
    assert_eq!(stage.shown(fine).last().unwrap(), "00:04-00:05 missed restored 2");
    assert_eq!(stage.db.count("SELECT COUNT(*) FROM catch_ups"), 0);
    damage("* * * * *", "{}");
    stage.realign("00:07:10");
    stage.fire("00:07:10");
    stage.catch_up("00:07:10");
    let fired = |number: u32, missed: u32| format!("00:0{number}-00:0{number} {NOBODY} {missed}");
    assert_eq!(
        stage.shown(faulty),
        [
            "00:01-00:02 missed restored 2".to_owned(),
            fired(3, 0),
            "00:04-00:05 missed down 2".to_owned(),
            fired(6, 0),
            fired(7, 0),
        ]
    );
    assert_eq!(
        stage.shown(unreadable)[2..],
        [
            "00:04-00:05 missed down 2".to_owned(),
            "00:06-00:06 missed down 1".to_owned(),
            fired(7, 3),
        ]
    );
}
