//! What a verdict counts for, what becomes of a schedule without one, and how little is read to find the unfit.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::{
    domain::{
        Deployment, DeploymentStatus, ExportedWorkflow, ParamsCheck, Schedule, ScheduleDraft, WorkflowLaunch,
    },
    ids::Ids,
    store::ops::{
        Moment, deployments,
        fires::{self, Fired},
        fixture::{Db, LEASE, at},
        schedules::{self, Change, ChangeOutcome},
    },
};

/// A quarter past a minute in which every schedule here is due at the end.
const MADE: i64 = 1_767_225_615_000;
const DUE: i64 = 1_767_225_660_000;

fn accepted(db: &Db, tenant: TenantId) -> Deployment {
    let deployment = Deployment {
        id: db.id(),
        tenant,
        bundle: "00".to_owned(),
        entry_point: "index.js".to_owned(),
        description: None,
        status: DeploymentStatus::Building,
        build_error: None,
        workflows: None,
        created_at: at(MADE),
        built_at: None,
    };
    db.run(|tx| deployments::accept(tx, &deployment, Bytes::from_static(&[0])));
    deployment
}

fn exported(name: &str, input_schema: Option<Value>) -> ExportedWorkflow {
    ExportedWorkflow {
        name: name.to_owned(),
        launch: WorkflowLaunch {
            input_schema,
            ..WorkflowLaunch::default()
        },
    }
}

/// Notes that a deployment of workflows with a schema is built.
fn build(db: &Db, deployment: &Deployment, names: &[&str], verdicts: &[Verdict]) {
    let workflows: Vec<_> = names.iter().map(|name| exported(name, Some(json!({})))).collect();
    db.run(|tx| deployments::begin_build(tx, deployment.id, LEASE));
    let held = (deployment, LEASE.token);
    assert!(db.run(|tx| deployments::built(tx, held, (&workflows, verdicts), (|| db.id(), at(MADE)))));
}

fn deploy(db: &Db, tenant: TenantId, names: &[&str], verdicts: &[Verdict]) -> DeploymentId {
    let deployment = accepted(db, tenant);
    build(db, &deployment, names, verdicts);
    deployment.id
}

fn draft(workflow: &str) -> ScheduleDraft {
    ScheduleDraft::plain(workflow, "* * * * *")
}

fn schedule(db: &Db, tenant: TenantId, workflow: &str, checked: Option<DeploymentId>) -> ScheduleId {
    let id = db.id();
    db.run(|tx| schedules::create(tx, (tenant, id), (draft(workflow), checked), None, at(MADE)));
    id
}

fn read(db: &Db, id: ScheduleId) -> Schedule {
    db.run(|tx| schedules::by_id(tx, id)).unwrap()
}

/// Gives a schedule other params in the very millisecond in which it was made.
fn change(db: &Db, tenant: TenantId, id: ScheduleId, params: &Value, checked: Option<DeploymentId>) {
    let ids = Ids::seeded(2);
    let outcome = db.run(|tx| {
        schedules::change(tx, (tenant, id), &Moment::at(at(MADE), &ids), |before| {
            Ok::<_, ()>(Change {
                draft: ScheduleDraft {
                    params: params.as_object().unwrap().clone(),
                    ..before.clone()
                },
                secret: None,
                checked,
            })
        })
    });
    assert!(matches!(outcome, ChangeOutcome::Changed(_)), "{outcome:?}");
}

fn all(db: &Db, tenant: TenantId, workflow: &str) -> Vec<Unjudged> {
    db.run(|tx| params_page(tx, (tenant, workflow), None, 100_000)).0
}

fn verdict(unjudged: &Unjudged, error: Option<&str>) -> Verdict {
    Verdict {
        id: unjudged.id,
        revision: unjudged.revision,
        error: error.map(str::to_owned),
    }
}

fn fire(db: &Db, now: Timestamp) -> Fired {
    let ids = Ids::seeded(3);
    db.run(|tx| fires::fire_due(tx, &Moment::at(now, &ids), 500))
}

fn check(against: DeploymentId, error: Option<&str>) -> ParamsCheck {
    ParamsCheck {
        against: Some(against),
        error: error.map(str::to_owned),
    }
}

#[test]
fn a_verdict_is_void_once_the_params_are_others_even_in_the_same_millisecond() {
    let db = Db::new();
    let tenant = db.tenant();
    let old = deploy(&db, tenant, &["w"], &[]);
    let ids: Vec<_> = (0..4).map(|_| schedule(&db, tenant, "w", Some(old))).collect();
    let judged = all(&db, tenant, "w");
    change(&db, tenant, ids[1], &json!({"n": 1}), Some(old));
    change(&db, tenant, ids[3], &json!({"n": 1}), Some(old));
    let verdicts = [None, None, Some("n: is required"), Some("n: is required")];
    let verdicts: Vec<_> = judged
        .iter()
        .zip(verdicts)
        .map(|(one, error)| verdict(one, error))
        .collect();
    // Made after the check, before the deployment is ready.
    let late = schedule(&db, tenant, "w", Some(old));
    let new = deploy(&db, tenant, &["w"], &verdicts);
    let found = |id| read(&db, id).params_check;
    assert_eq!(found(ids[0]), check(new, None));
    assert_eq!(found(ids[2]), check(new, Some("n: is required")));
    for id in [ids[1], ids[3], late] {
        assert_eq!(found(id), check(old, None), "it is checked before it fires");
    }
    let unchecked = fire(&db, at(DUE)).unchecked;
    assert_eq!(unchecked, [ids[1], ids[3], late]);
}

#[test]
fn a_change_of_anything_else_leaves_the_verdict_good() {
    let db = Db::new();
    let tenant = db.tenant();
    let old = deploy(&db, tenant, &["w"], &[]);
    let id = schedule(&db, tenant, "w", Some(old));
    let judged = all(&db, tenant, "w");
    change(&db, tenant, id, &json!({}), None);
    let new = deploy(&db, tenant, &["w"], &[verdict(&judged[0], Some("bad"))]);
    assert_eq!(read(&db, id).params_check, check(new, Some("bad")));
}

#[test]
fn an_older_build_marks_only_the_schedules_of_the_names_it_takes() {
    let db = Db::new();
    let tenant = db.tenant();
    let slow = accepted(&db, tenant);
    let newest = deploy(&db, tenant, &["w"], &[]);
    let (kept, taken) = (
        schedule(&db, tenant, "w", Some(newest)),
        schedule(&db, tenant, "v", None),
    );
    let verdicts = [
        verdict(&all(&db, tenant, "w")[0], Some("bad")),
        verdict(&all(&db, tenant, "v")[0], Some("bad")),
    ];
    build(&db, &slow, &["w", "v"], &verdicts);
    assert_eq!(read(&db, kept).params_check, check(newest, None));
    assert_eq!(read(&db, taken).params_check, check(slow.id, Some("bad")));
    let unfit = |id| db.run(|tx| unfit(tx, tenant, id, 9)).total;
    assert_eq!((unfit(slow.id), unfit(newest)), (1, 0));
}

#[test]
fn what_takes_everything_clears_every_verdict_of_its_own_schedules() {
    let db = Db::new();
    let (tenant, other) = (db.tenant(), db.tenant());
    let theirs = deploy(&db, other, &["w"], &[]);
    let elsewhere = schedule(&db, other, "w", Some(theirs));
    let id = schedule(&db, tenant, "w", None);
    deploy(
        &db,
        tenant,
        &["w"],
        &[verdict(&all(&db, tenant, "w")[0], Some("bad"))],
    );
    assert_eq!(read(&db, id).params_check.error.as_deref(), Some("bad"));
    let slow = accepted(&db, tenant);
    let lax = accepted(&db, tenant);
    let built = |deployment: &Deployment| {
        let workflows = [exported("w", None)];
        db.run(|tx| deployments::begin_build(tx, deployment.id, LEASE));
        let held = (deployment, LEASE.token);
        assert!(db.run(|tx| deployments::built(tx, held, (&workflows, &[]), (|| db.id(), at(MADE)))));
    };
    built(&lax);
    assert_eq!(read(&db, id).params_check, check(lax.id, None));
    built(&slow);
    assert_eq!(read(&db, id).params_check, check(lax.id, None), "an older build");
    assert_eq!(read(&db, elsewhere).params_check, check(theirs, None));
}

#[test]
fn the_params_come_in_pages_and_what_cannot_be_read_is_left_out() {
    let db = Db::new();
    let (tenant, other) = (db.tenant(), db.tenant());
    let ids: Vec<_> = (0..7).map(|_| schedule(&db, tenant, "w", None)).collect();
    schedule(&db, tenant, "v", None);
    schedule(&db, other, "w", None);
    // The last of a page, where the next one begins, and one in the middle.
    for broken in [ids[1], ids[2]] {
        db.sql("UPDATE schedules SET params = '[' WHERE id = $1", params![broken]);
    }
    let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let (page, next) = db.run(|tx| params_page(tx, (tenant, "w"), after.as_ref(), 3));
        seen.extend(page.iter().map(|one| one.id));
        pages += 1;
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, 3);
    assert_eq!(seen, [ids[0], ids[3], ids[4], ids[5], ids[6]]);
    deploy(&db, tenant, &["w"], &[]);
    let found = db.run(|tx| to_check(tx, &[ids[6], ids[1], db.id(), ids[0]]));
    let found: Vec<_> = found.iter().map(|one| one.unjudged.id).collect();
    assert_eq!(found, [ids[0], ids[6]]);
}

#[test]
fn a_schedule_without_a_verdict_fires_once_it_has_one() {
    let db = Db::new();
    let tenant = db.tenant();
    let fine = schedule(&db, tenant, "w", None);
    let bad = schedule(&db, tenant, "w", None);
    let first = deploy(&db, tenant, &["w"], &[]);
    let second = deploy(&db, tenant, &["w"], &[]);
    let handed_back = || {
        let fired = fire(&db, at(DUE));
        assert_eq!((fired.jobs, fired.rejected), (0, 0));
        fired.unchecked
    };
    assert_eq!(handed_back(), [fine, bad]);
    let verdicts: Vec<_> = db
        .run(|tx| to_check(tx, &[fine, bad]))
        .iter()
        .map(|one| {
            assert_eq!(
                (one.tenant, one.deployment, &*one.workflow),
                (tenant, second, "w")
            );
            verdict(
                &one.unjudged,
                (one.unjudged.id == bad).then_some("params.n: is required"),
            )
        })
        .collect();
    // The version it was checked against is not the one that would run.
    db.run(|tx| note_params(tx, first, &verdicts));
    assert_eq!(handed_back(), [fine, bad]);
    db.run(|tx| note_params(tx, second, &verdicts));
    let fired = fire(&db, at(DUE));
    assert_eq!((fired.jobs, fired.rejected, fired.unchecked.len()), (1, 1, 0));
    let row = db.run(|tx| fires::history(tx, tenant, bad, None, 9)).remove(0);
    assert_eq!(
        (
            row.outcome.as_str(),
            row.reason.as_deref(),
            row.error.as_deref(),
            row.job
        ),
        (
            "rejected",
            Some("invalid_params"),
            Some("params.n: is required"),
            None
        )
    );
    let after = read(&db, bad);
    assert_eq!(after.last_error.as_deref(), Some("params.n: is required"));
    assert_eq!(after.consecutive_failures, 1);
    assert_eq!(read(&db, fine).consecutive_failures, 0);
}

#[test]
fn what_is_made_up_for_waits_for_a_verdict_as_well() {
    let db = Db::new();
    let tenant = db.tenant();
    let first = deploy(&db, tenant, &["w"], &[]);
    let id = schedule(&db, tenant, "w", Some(first));
    let sql = "UPDATE schedules SET misfire_policy = 'fire_all' WHERE id = $1";
    db.sql(sql, params![id]);
    let now = at(DUE + 3 * 60_000);
    assert_eq!(fire(&db, now).jobs, 1);
    let second = deploy(&db, tenant, &["w"], &[]);
    let ids = Ids::seeded(4);
    let catch_up = || db.run(|tx| fires::catch_up(tx, &Moment::at(now, &ids), 9));
    for _ in 0..2 {
        let fired = catch_up();
        assert_eq!((fired.jobs, fired.rejected, &*fired.unchecked), (0, 0, &[id][..]));
    }
    let verdicts = [verdict(&all(&db, tenant, "w")[0], Some("bad"))];
    db.run(|tx| note_params(tx, second, &verdicts));
    for _ in 0..3 {
        let fired = catch_up();
        assert_eq!((fired.rejected, fired.unchecked.len()), (1, 0));
    }
    assert_eq!(catch_up().looked_at, 0);
    let rows = db.run(|tx| fires::history(tx, tenant, id, None, 9));
    let reasons: Vec<_> = rows.iter().map(|row| row.reason.as_deref()).collect();
    let bad = Some("invalid_params");
    assert_eq!(reasons, [None, bad, bad, bad]);
}

#[test]
fn a_workflow_that_was_deleted_and_deployed_again_has_its_schedules_checked_again() {
    let db = Db::new();
    let tenant = db.tenant();
    let first = deploy(&db, tenant, &["w"], &[]);
    let id = schedule(&db, tenant, "w", Some(first));
    db.run(|tx| deployments::delete_workflow(tx, tenant, "w"));
    let fired = fire(&db, at(DUE));
    assert_eq!(
        (fired.rejected, fired.unchecked.len()),
        (1, 0),
        "there is none to fit"
    );
    assert_eq!(db.run(|tx| to_check(tx, &[id])), []);
    deploy(&db, tenant, &["w"], &[]);
    assert_eq!(fire(&db, at(DUE + 60_000)).unchecked, [id]);
}

#[test]
fn a_deployment_names_the_newest_that_do_not_fit_it_and_counts_all() {
    let db = Db::new();
    let (tenant, other) = (db.tenant(), db.tenant());
    let (old, others) = (
        deploy(&db, tenant, &["w", "v"], &[]),
        deploy(&db, other, &["w"], &[]),
    );
    let ids: Vec<_> = (0..3).map(|_| schedule(&db, tenant, "w", Some(old))).collect();
    schedule(&db, tenant, "w", Some(old));
    let stays = schedule(&db, tenant, "v", Some(old));
    schedule(&db, other, "w", Some(others));
    db.sql(
        "UPDATE schedules SET name = 'nightly' WHERE id = $1",
        params![ids[2]],
    );
    let fourth = all(&db, tenant, "w").remove(3).id;
    let bad = |id: &ScheduleId| Some("bad").filter(|_| *id != fourth);
    let noted = |workflow| {
        let found = all(&db, tenant, workflow);
        found
            .iter()
            .map(|one| verdict(one, bad(&one.id)))
            .collect::<Vec<_>>()
    };
    let bad_of_old = noted("v");
    db.run(|tx| note_params(tx, old, &bad_of_old));
    let theirs: Vec<_> = all(&db, other, "w")
        .iter()
        .map(|one| verdict(one, Some("bad")))
        .collect();
    db.run(|tx| note_params(tx, others, &theirs));
    let new = deploy(&db, tenant, &["w"], &noted("w"));
    let found = db.run(|tx| unfit(tx, tenant, new, 2));
    assert_eq!(found.total, 3);
    let named: Vec<_> = found.newest.iter().map(|one| one.id.clone()).collect();
    assert_eq!(named, [ids[2].to_string(), ids[1].to_string()]);
    assert_eq!(
        found.newest[0],
        UnfitSchedule {
            id: ids[2].to_string(),
            name: Some("nightly".to_owned()),
            workflow: "w".to_owned(),
            error: "bad".to_owned(),
        }
    );
    let found = db.run(|tx| unfit(tx, tenant, old, 2));
    assert_eq!((found.total, &*found.newest[0].id), (1, &*stays.to_string()));
    let totals = db.run(|tx| unfit_totals(tx, tenant));
    assert_eq!(totals, HashMap::from([(old, 1), (new, 3)]));
    // A verdict of a version that has lost the name is nobody's.
    db.run(|tx| deployments::delete_workflow(tx, tenant, "w"));
    assert_eq!(db.run(|tx| unfit(tx, tenant, new, 2)), Unfit::default());
}

#[test]
fn neither_the_unfit_nor_a_verdict_costs_more_for_all_that_fit() {
    let work = |others: usize| {
        let db = Db::embedded();
        let tenant = db.tenant();
        let old = deploy(&db, tenant, &["w", "v"], &[]);
        let id = schedule(&db, tenant, "v", Some(old));
        for _ in 0..others {
            schedule(&db, tenant, "w", Some(old));
        }
        let verdicts = [verdict(&all(&db, tenant, "v")[0], Some("bad"))];
        let noting = db.work(|tx| note_params(tx, old, &verdicts)).1;
        let (found, finding) = db.work(|tx| unfit(tx, tenant, old, 100));
        assert_eq!(found.total, 1);
        let checking = db.work(|tx| to_check(tx, &[id])).1;
        noting + finding + checking
    };
    let (few, many) = (work(5), work(1_000));
    assert!(many < few * 2, "{few}, {many}");
}
