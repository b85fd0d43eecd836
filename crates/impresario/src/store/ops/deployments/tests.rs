//! Whose name it is, whose build is next, and how little a list reads.

use super::*;
use crate::{
    domain::ExportedWorkflow,
    store::ops::{
        Lease,
        fixture::{Db, LEASE, at},
    },
};
use bytes::Bytes;

fn accepted(db: &Db, tenant: TenantId, created_at: i64) -> Deployment {
    let deployment = Deployment {
        id: db.id(),
        tenant,
        bundle: "00".to_owned(),
        entry_point: "index.js".to_owned(),
        description: None,
        status: DeploymentStatus::Building,
        build_error: None,
        workflows: None,
        created_at: at(created_at),
        built_at: None,
    };
    db.run(|tx| accept(tx, &deployment, Bytes::from_static(&[0])));
    deployment
}

fn build(db: &Db, deployment: &Deployment) {
    let exported = ExportedWorkflow {
        name: "w".to_owned(),
        ..ExportedWorkflow::default()
    };
    assert!(db.run(|tx| begin_build(tx, deployment.id, LEASE)).is_some());
    let held = (deployment, LEASE.token);
    assert!(db.run(|tx| built(tx, held, (&[exported], &[]), (|| db.id(), at(9)))));
}

#[test]
fn a_name_belongs_to_what_was_accepted_last_whatever_the_clock_said() {
    let db = Db::new();
    let tenant = db.tenant();
    let owner = || db.run(|tx| get_workflow(tx, tenant, "w")).unwrap().deployment.id;
    let year = 365 * 86_400_000;
    let (ahead, now, slow, last) = (
        accepted(&db, tenant, 10 * year),
        accepted(&db, tenant, year),
        accepted(&db, tenant, year),
        accepted(&db, tenant, 1),
    );
    build(&db, &ahead);
    build(&db, &now);
    assert_eq!(owner(), now.id);
    build(&db, &last);
    assert_eq!(owner(), last.id);
    build(&db, &slow);
    assert_eq!(owner(), last.id, "a slower, older build does not take it back");
    let listed = db.run(|tx| list(tx, tenant, None, 9));
    let ids: Vec<_> = listed.iter().map(|deployment| deployment.id).collect();
    assert_eq!(ids, [last.id, slow.id, now.id, ahead.id]);
    assert_eq!(listed[0].workflows, Some(vec!["w".to_owned()]));
    assert_eq!(db.run(|tx| find(tx, tenant, last.id)), Some(listed[0].clone()));
    assert_eq!(db.run(|tx| list_workflows(tx, tenant))[0].deployment, last.id);
    assert_eq!(db.run(|tx| workflow_names(tx, tenant, 9)), ["w"]);
    assert!(db.run(|tx| workflow_names(tx, tenant, 0)).is_empty());
}

#[test]
fn a_tenant_s_crowd_of_builds_holds_up_nobody() {
    let db = Db::new();
    let (crowd, other) = (db.tenant(), db.tenant());
    let many: Vec<_> = (0..9).map(|_| accepted(&db, crowd, 5).id).collect();
    let one = accepted(&db, other, 1).id;
    let next = |active: Vec<DeploymentId>, places| {
        let next = db.run(|tx| building(tx, &active, places));
        next.iter().map(|deployment| deployment.id).collect::<Vec<_>>()
    };
    assert_eq!(next(vec![], 4), [many[0], one, many[1], many[2]]);
    assert_eq!(next(many[..4].to_vec(), 1), [one]);
    assert_eq!(
        next(vec![many[0], one], 2),
        many[1..3],
        "what is active is not named again"
    );
}

#[test]
fn a_build_has_one_holder_and_whoever_else_comes_changes_nothing() {
    let db = Db::new();
    let tenant = db.tenant();
    let one = accepted(&db, tenant, 1);
    let other = Lease {
        token: "another",
        ..LEASE
    };
    assert_eq!(db.run(|tx| begin_build(tx, one.id, LEASE)), Some(1));
    assert_eq!(db.run(|tx| begin_build(tx, one.id, other)), None);
    assert!(db.run(|tx| building(tx, &[], 9)).is_empty());
    assert!(db.run(|tx| extend_build(tx, (one.id, "token"), LEASE.length)));
    assert!(!db.run(|tx| extend_build(tx, (one.id, "another"), LEASE.length)));
    assert!(!db.run(|tx| build_failed(tx, (one.id, "another"), "no")));
    let late = (&one, "another");
    assert!(!db.run(|tx| built(tx, late, (&[], &[]), (|| db.id(), at(9)))));
    db.run(|tx| release_build(tx, one.id, "another"));
    assert!(db.run(|tx| building(tx, &[], 9)).is_empty(), "not the holder's");
    assert!(db.run(|tx| build_failed(tx, (one.id, "token"), "no")));
    let held = "SELECT COUNT(*) FROM deployments WHERE lease_token IS NOT NULL";
    assert_eq!(db.count(held), 0);
}

#[test]
fn a_build_that_was_left_is_taken_by_another() {
    let db = Db::new();
    let tenant = db.tenant();
    let left = [accepted(&db, tenant, 1), accepted(&db, tenant, 2)];
    for one in &left {
        assert_eq!(db.run(|tx| begin_build(tx, one.id, LEASE)), Some(1));
    }
    let until = |until: i64| {
        let sql = "UPDATE deployments SET lease_until = $1 WHERE id = $2";
        db.sql(sql, params![until, left[0].id]);
    };
    db.sql("UPDATE deployments SET lease_until = 9000", &[]);
    until(100);
    assert!(db.run(|tx| expired(tx, 99)).is_empty());
    assert!(!db.run(|tx| reap(tx, left[0].id, 99)));
    assert_eq!(db.run(|tx| expired(tx, 100)), [left[0].id]);
    assert!(db.run(|tx| reap(tx, left[0].id, 100)));
    assert!(!db.run(|tx| extend_build(tx, (left[0].id, "token"), LEASE.length)));
    assert_eq!(db.run(|tx| building(tx, &[], 9))[0].id, left[0].id);
    assert_eq!(db.run(|tx| begin_build(tx, left[0].id, LEASE)), Some(2));
    // And the next server of a data directory frees all of them.
    assert_eq!(db.run(recover), 2);
    assert_eq!(db.run(|tx| building(tx, &[], 9)).len(), 2);
}

#[test]
fn a_tenant_s_builds_on_any_node_count_as_its_places() {
    let db = Db::new();
    let (crowd, other) = (db.tenant(), db.tenant());
    let many: Vec<_> = (0..4).map(|_| accepted(&db, crowd, 5).id).collect();
    let one = accepted(&db, other, 9).id;
    for id in &many[..2] {
        assert!(db.run(|tx| begin_build(tx, *id, LEASE)).is_some());
    }
    let next = db.run(|tx| building(tx, &[], 2));
    let ids: Vec<_> = next.iter().map(|deployment| deployment.id).collect();
    assert_eq!(ids, [one, many[2]]);
}

#[test]
fn looking_for_builds_costs_the_same_however_many_wait_or_are_done() {
    let work = |count: i64| {
        let db = Db::embedded();
        let tenant = db.tenant();
        for number in 0..count {
            db.deployment(tenant, &[]);
            accepted(&db, tenant, number);
        }
        db.work(|tx| building(tx, &[], 4)).1
    };
    let (few, many) = (work(10), work(500));
    assert!(many < few * 2, "{few}, {many}");
}

#[test]
fn a_list_does_not_read_what_a_bundle_says_of_its_workflows() {
    let db = Db::embedded();
    let tenant = db.tenant();
    let deployment = accepted(&db, tenant, 0);
    build(&db, &deployment);
    db.sql("UPDATE deployments SET workflows = '{'", &[]);
    assert_eq!(db.run(|tx| list(tx, tenant, None, 9)).len(), 1);
    assert_eq!(db.run(|tx| list_workflows(tx, tenant)).len(), 1);
    let plan = |status| {
        let query = Query::new(SUMMARY, [tenant.into()]).and("status = ?", status);
        db.run(|tx| query.plan(tx, ("ORDER BY number DESC LIMIT 9", [])))
    };
    let by_tenant = "SEARCH deployments USING INDEX deployments_by_tenant (tenant_id=?)";
    let by_status = "SEARCH deployments USING INDEX deployments_by_status (status=? AND tenant_id=?)";
    assert_eq!(plan(None), by_tenant);
    assert_eq!(plan(Some(["building".into()])), by_status);
}
