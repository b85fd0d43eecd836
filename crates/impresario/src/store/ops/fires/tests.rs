use super::*;
use crate::{
    domain::{ScheduleDraft, ScheduleId, TenantId},
    ids::Ids,
    store::ops::fixture::{Db, LEASE},
};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The ledger, newest first, of a schedule of every minute that was made at `made` and fires at `now`.
fn fired_after_downtime(made: Timestamp, now: Timestamp) -> Vec<LedgerRow> {
    let db = Db::new();
    let ids = Ids::seeded(1);
    let (tenant, id) = (db.tenant(), ScheduleId(uuid::Uuid::from_u128(7)));
    let draft = every_minute();
    db.run(|tx| schedules::create(tx, (tenant, id), (draft, None), None, made));
    let fired = db.run(|tx| fire_due(tx, &Moment::at(now, &ids), 10));
    assert_eq!(fired.looked_at, 1);
    db.run(|tx| history(tx, tenant, id, None, 10))
}

/// Of a workflow that may not be there.
fn every_minute() -> ScheduleDraft {
    ScheduleDraft::plain("gone", "* * * * *")
}

#[test]
fn the_fire_that_catches_up_says_how_many_it_stands_for() {
    let rows = fired_after_downtime(at("2026-01-01T00:00:30Z"), at("2026-01-01T00:05:10Z"));
    let shown: Vec<_> = rows
        .iter()
        .map(|row| (row.outcome.as_str(), row.missed))
        .collect();
    assert_eq!(shown, [("rejected", 4), ("missed", 4)]);
    assert!(!rows[1].error.as_ref().unwrap().contains("at least"));
    let rows = fired_after_downtime(at("2026-01-01T00:00:30Z"), at("2026-01-01T00:01:00Z"));
    assert_eq!(
        (rows.len(), rows[0].missed),
        (1, 0),
        "on time, nothing was missed"
    );
}

#[test]
fn a_count_that_was_cut_short_says_so() {
    let rows = fired_after_downtime(at("2026-01-01T00:00:30Z"), at("2027-01-01T00:00:00Z"));
    let error = rows[1].error.as_ref().unwrap();
    assert!(error.contains("at least 100000"), "{error}");
}

#[test]
fn a_fire_and_an_end_cost_the_same_however_long_the_history_is() {
    let work = |history: i64| {
        let (db, ids) = (Db::embedded(), Ids::seeded(1));
        let tenant = db.tenant();
        let deployment = db.deployment(tenant, &[]);
        let sql = "INSERT INTO workflows (id, tenant_id, name, deployment_id, deployment_number, created_at, updated_at)
                   VALUES ($1, $2, 'gone', $3, 1, 0, 0)";
        db.sql(sql, params![db.id::<WorkflowId>(), tenant, deployment]);
        let mut draft = every_minute();
        draft.policies.overlap = OverlapPolicy::CancelRunning;
        let id = ScheduleId(uuid::Uuid::from_u128(7));
        let checked = (draft, Some(deployment));
        db.run(|tx| schedules::create(tx, (tenant, id), checked, None, at("2026-01-01T00:00:30Z")));
        for number in 0..history {
            let job = db.job((tenant, deployment), "completed", number);
            let sql = "UPDATE jobs SET schedule_id = $2, fire_at = $3 WHERE id = $1";
            db.sql(sql, params![job, id, number]);
        }
        let mut steps = 0;
        for minute in 1..=3 {
            let moment = Moment::at(at(&format!("2026-01-01T00:0{minute}:00Z")), &ids);
            let (fired, work) = db.work(|tx| fire_due(tx, &moment, 10));
            assert_eq!(fired.jobs, 1, "{fired:?}");
            steps += work;
        }
        let moment = Moment::at(at("2026-01-01T00:03:01Z"), &ids);
        let job = db.run(|tx| jobs::claim(tx, 1, LEASE, moment.now)).remove(0).id;
        let ending = crate::domain::Ending::Completed(None);
        let (ended, work) = db.work(|tx| jobs::finish(tx, (job, "token"), ending, || moment));
        assert!(ended);
        steps + work
    };
    let (few, many) = (work(10), work(2_000));
    assert!(many < few * 2, "{few}, {many}");
}

#[test]
fn what_came_while_a_schedule_was_set_aside_is_accounted_for_once_it_can_be_read() {
    let (db, ids) = (Db::new(), Ids::seeded(1));
    let (tenant, id) = (db.tenant(), ScheduleId(uuid::Uuid::from_u128(7)));
    let made = at("2026-01-01T00:00:30Z");
    db.run(|tx| schedules::create(tx, (tenant, id), (every_minute(), None), None, made));
    let damage = |text: &str| {
        db.sql(
            "UPDATE schedules SET cron_expr = $2 WHERE id = $1",
            params![id, text],
        );
    };
    damage("of another version");
    let fired = db.run(|tx| fire_due(tx, &Moment::at(at("2026-01-01T00:01:00Z"), &ids), 10));
    assert_eq!(fired.quarantined.len(), 1);
    let schedule = db.run(|tx| schedules::by_id(tx, id)).unwrap();
    assert!(schedule.set_aside);
    assert_eq!(db.run(next_due), None, "it is out of the loop's way");
    // A version that can read it starts five minutes later.
    damage("* * * * *");
    let now = at("2026-01-01T00:05:10Z");
    let mut state = Realigned::default();
    while !state.done {
        state = db.run(|tx| realign(tx, state, (|| now, jiff::SignedDuration::ZERO)));
    }
    db.run(|tx| fire_due(tx, &Moment::at(now, &ids), 10));
    let rows = db.run(|tx| history(tx, tenant, id, None, 10));
    let shown: Vec<_> = rows
        .iter()
        .map(|row| (row.outcome.as_str(), row.fire_at, row.missed))
        .collect();
    assert_eq!(
        shown,
        [
            ("rejected", at("2026-01-01T00:05:00Z"), 4),
            ("missed", at("2026-01-01T00:01:00Z"), 4)
        ]
    );
    assert!(!db.run(|tx| schedules::by_id(tx, id)).unwrap().set_aside);
}

#[test]
fn a_pass_over_much_to_count_lets_others_write_in_between() {
    let (db, ids) = (Db::new(), Ids::seeded(1));
    let tenant = db.tenant();
    for number in 0..200_u128 {
        let who = (tenant, ScheduleId(uuid::Uuid::from_u128(number)));
        let draft = every_minute();
        db.run(|tx| schedules::create(tx, who, (draft, None), None, at("2026-01-01T00:00:30Z")));
    }
    let moment = Moment::at(at("2027-01-01T00:00:00Z"), &ids);
    let mut passes = 0;
    while db.run(next_due).is_some_and(|due| due <= moment.now) {
        let fired = db.run(|tx| fire_due(tx, &moment, 500));
        assert!(fired.rejected > 0, "each pass gets somewhere");
        passes += 1;
    }
    assert!(
        passes > 1,
        "a year of minutes of 200 schedules is more than one pass"
    );
}

#[test]
fn an_update_mends_what_was_set_aside_and_takes_back_the_instant_of_then() {
    let (db, ids) = (Db::new(), Ids::seeded(1));
    let who = (db.tenant(), ScheduleId(uuid::Uuid::from_u128(7)));
    let made = at("2026-01-01T00:00:30Z");
    db.run(|tx| schedules::create(tx, who, (every_minute(), None), None, made));
    let sql = "UPDATE schedules SET cron_expr = 'of another version' WHERE id = $1";
    db.sql(sql, params![who.1]);
    db.run(|tx| fire_due(tx, &Moment::at(at("2026-01-01T00:01:00Z"), &ids), 10));
    let change = |now: &str, expr: Option<&str>| {
        let apply = |before: &ScheduleDraft| {
            let mut draft = before.clone();
            if let Some(expr) = expr {
                draft.timing.pattern = crate::domain::Pattern::parse(expr, "UTC").unwrap();
            }
            Ok::<_, ()>(schedules::Change {
                draft,
                secret: None,
                checked: None,
            })
        };
        let moment = Moment::at(at(now), &ids);
        db.run(|tx| schedules::change(tx, who, &moment, apply));
        db.run(|tx| fire_due(tx, &moment, 10));
    };
    // A change of something else does not mend it.
    change("2026-01-01T00:05:10Z", None);
    assert!(db.run(|tx| schedules::by_id(tx, who.1)).unwrap().set_aside);
    assert_eq!(db.run(|tx| history(tx, who.0, who.1, None, 10)), []);
    change("2026-01-01T00:06:10Z", Some("30 * * * *"));
    let schedule = db.run(|tx| schedules::by_id(tx, who.1)).unwrap();
    assert_eq!(
        (schedule.set_aside, schedule.next_fire_at),
        (false, Some(at("2026-01-01T00:30:00Z")))
    );
    let rows = db.run(|tx| history(tx, who.0, who.1, None, 10));
    let shown: Vec<_> = rows
        .iter()
        .map(|row| (row.outcome.as_str(), row.reason.as_deref(), row.fire_at))
        .collect();
    assert_eq!(shown, [("missed", Some("retired"), at("2026-01-01T00:01:00Z"))]);
}

/// A schedule of a workflow that is not there: each fire is a row, and no job stands in the way.
struct Ledger {
    db: Db,
    ids: Ids,
    who: (TenantId, ScheduleId),
}

impl Ledger {
    fn new(expr: &str, made: &str) -> Self {
        let (db, ids) = (Db::new(), Ids::seeded(1));
        let who = (db.tenant(), ScheduleId(uuid::Uuid::from_u128(7)));
        let draft = ScheduleDraft::plain("gone", expr);
        db.run(|tx| schedules::create(tx, who, (draft, None), None, at(made)));
        Self { db, ids, who }
    }

    fn pass(&self, now: &str) {
        let moment = Moment::at(at(now), &self.ids);
        self.db.run(|tx| fire_due(tx, &moment, 10));
    }

    fn clock_goes_back(&self, now: &str) {
        let mut state = Realigned::default();
        while !state.done {
            state = self
                .db
                .run(|tx| realign(tx, state, (|| at(now), jiff::SignedDuration::ZERO)));
        }
    }

    fn change(&self, now: &str, edit: impl Fn(&mut ScheduleDraft)) {
        let apply = |before: &ScheduleDraft| {
            let mut draft = before.clone();
            edit(&mut draft);
            Ok::<_, ()>(schedules::Change {
                draft,
                secret: None,
                checked: None,
            })
        };
        let moment = Moment::at(at(now), &self.ids);
        self.db.run(|tx| schedules::change(tx, self.who, &moment, apply));
    }

    /// Oldest first: the hour, the outcome, and of missed ones the last hour.
    fn rows(&self) -> Vec<String> {
        let mut rows = self.db.run(|tx| history(tx, self.who.0, self.who.1, None, 100));
        rows.reverse();
        let hour = |at: Timestamp| at.strftime("%d-%H").to_string();
        rows.iter()
            .map(|row| match row.missed_until {
                Some(until) => format!(
                    "{} {} {}..{}",
                    row.outcome,
                    row.missed,
                    hour(row.fire_at),
                    hour(until)
                ),
                None => format!("{} {}", row.outcome, hour(row.fire_at)),
            })
            .collect()
    }
}

#[test]
fn what_a_clock_that_was_ahead_wrote_down_by_an_old_pattern_keeps_no_fire_of_the_new_one_away() {
    let ledger = Ledger::new("0 * * * *", "2026-01-01T08:30:00Z");
    ledger.pass("2026-01-01T09:00:00Z");
    ledger.pass("2026-01-01T14:30:00Z");
    ledger.change("2026-01-01T14:31:00Z", |draft| {
        draft.timing.pattern = crate::domain::Pattern::parse("0 10,11,14 * * *", "UTC").unwrap();
    });
    ledger.clock_goes_back("2026-01-01T09:45:00Z");
    for hour in ["10", "11"] {
        ledger.pass(&format!("2026-01-01T{hour}:00:00Z"));
    }
    assert_eq!(
        ledger.rows(),
        [
            "rejected 01-09",
            "rejected 01-10",
            "rejected 01-11",
            "rejected 01-14"
        ]
    );
}

#[test]
fn what_fires_after_all_is_cut_out_of_what_was_missed() {
    let ledger = Ledger::new("0 * * * *", "2026-01-01T00:30:00Z");
    ledger.pass("2026-01-01T06:30:00Z");
    ledger.change("2026-01-01T06:31:00Z", |draft| draft.enabled = false);
    // The clock was ahead: half past two, and the pause was one of a wrong clock.
    ledger.clock_goes_back("2026-01-01T02:30:00Z");
    assert_eq!(ledger.rows(), ["missed 5 01-01..01-05", "rejected 01-06"]);
    ledger.change("2026-01-01T02:31:00Z", |draft| draft.enabled = true);
    ledger.pass("2026-01-01T03:00:00Z");
    assert_eq!(
        ledger.rows(),
        [
            "missed 2 01-01..01-02",
            "rejected 01-03",
            "missed 2 01-04..01-05",
            "rejected 01-06"
        ]
    );
    // What is missed once more is what is left.
    ledger.pass("2026-01-01T08:30:00Z");
    assert_eq!(
        ledger.rows(),
        [
            "missed 2 01-01..01-02",
            "rejected 01-03",
            "missed 2 01-04..01-05",
            "rejected 01-06",
            "missed 1 01-07..01-07",
            "rejected 01-08"
        ]
    );
}

#[test]
fn a_clock_that_is_behind_for_a_moment_takes_nothing_out_of_the_ledger_for_good() {
    type Edit = fn(&mut ScheduleDraft);
    let edits: [(&str, Edit); 2] = [
        ("a pause", |draft| draft.enabled = false),
        ("another pattern", |draft| {
            draft.timing.pattern = crate::domain::Pattern::parse("30 12 * * *", "UTC").unwrap();
        }),
    ];
    for (what, edit) in edits {
        let ledger = Ledger::new("0 * * * *", "2026-01-01T00:30:00Z");
        ledger.pass("2026-01-01T05:10:00Z");
        ledger.change("2026-01-01T05:11:00Z", edit);
        let before = ledger.rows();
        assert_eq!(before, ["missed 4 01-01..01-04", "rejected 01-05"]);
        ledger.clock_goes_back("2025-12-20T00:00:00Z");
        ledger.pass("2025-12-20T00:00:00Z");
        ledger.pass("2026-01-01T05:12:00Z");
        assert_eq!(ledger.rows()[..2], before, "{what}");
    }
}

#[test]
fn a_cursor_that_another_version_s_zone_rules_have_put_there_is_put_right_and_does_not_fire() {
    let ledger = Ledger::new("0 8 * * *", "2027-01-10T00:00:00Z");
    let (seven, id) = (at("2027-01-10T07:00:00Z"), ledger.who.1);
    let sql = "UPDATE schedules SET next_fire_at = $2, next_due_at = $2 WHERE id = $1";
    ledger.db.sql(sql, params![id, seven]);
    ledger.pass("2027-01-10T07:00:00Z");
    assert!(ledger.rows().is_empty(), "an hour early: {:?}", ledger.rows());
    ledger.pass("2027-01-10T08:00:00Z");
    assert_eq!(ledger.rows(), ["rejected 10-08"]);
    ledger.pass("2027-01-10T09:00:00Z");
    assert_eq!(ledger.rows().len(), 1, "once");
}
