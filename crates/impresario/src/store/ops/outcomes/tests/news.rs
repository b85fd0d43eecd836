//! Who hears of what, and what damaged rows cost.

use super::*;

#[test]
fn a_job_whose_schedule_is_gone_or_damaged_ends_all_the_same() {
    let stage = Stage::new(|_| {}).with_a_failure();
    let [failing, succeeding] = [2, 3].map(|number| stage.fire(minute(number)));
    assert!(
        stage
            .db
            .run(|tx| schedules::delete(tx, stage.tenant, stage.id, &stage.moment(half_past(3))))
    );
    stage.fail(failing, "workflow", half_past(3));
    stage.end(succeeding, Ending::Completed(None), half_past(3));
    assert_eq!(stage.events(), Vec::<String>::new());

    for ending in [
        Ending::worker_lost(true),
        Ending::Failed {
            class: "workflow".to_owned(),
            error: "x".to_owned(),
            stack: None,
        },
        Ending::Completed(None),
    ] {
        let stage = Stage::new(|_| {}).with_a_failure();
        let job = stage.fire(minute(2));
        stage.db.sql("UPDATE schedules SET params = '{'", &[]);
        let status = ending.status().as_str();
        stage.end(job, ending, half_past(2));
        let sql = format!("SELECT COUNT(*) FROM jobs WHERE status = '{status}' AND completed_at IS NOT NULL");
        assert!(stage.db.count(&sql) > 0, "{status}");
        let sql = format!("SELECT COUNT(*) FROM deliveries WHERE job_id = '{job}'");
        assert_eq!(stage.db.count(&sql), 1, "its receiver hears of it: {status}");
    }
}

#[test]
fn an_endpoint_that_cannot_be_read_costs_nobody_else_the_news() {
    let stage = Stage::new(|_| {}).with_a_failure();
    let (id, secret): (EndpointId, _) = (stage.db.id(), stage.db.id::<crate::domain::SecretId>());
    stage.db.sql(
        "INSERT INTO secrets (id, tenant_id, sealed, created_at) VALUES ($1, $2, $3, 0)",
        params![secret, stage.tenant, vec![0]],
    );
    stage.db.sql(
        "INSERT INTO webhook_endpoints (id, tenant_id, url, active, secret_id, created_at, updated_at, events)
         VALUES ($1, $2, 'https://b.example/', 1, $3, 0, 0, '[')",
        params![id, stage.tenant, secret],
    );
    let job = stage.fire(minute(2));
    stage.fail(job, "workflow", minute(2));
    assert_eq!(stage.count(), (2, 2, false));
    let sql = format!("SELECT COUNT(*) FROM deliveries WHERE job_id = '{job}'");
    assert_eq!((stage.db.count(&sql), stage.events().len()), (1, 1));
}

#[test]
fn what_is_told_as_missed_is_what_the_ledger_says() {
    let stage = Stage::new(|_| {});
    for number in 1..=4 {
        let job = stage.fire(minute(number));
        stage.end(job, Ending::Cancelled, minute(number));
    }
    // The clock goes back to before minutes 3 and 4, which have fired, and then nobody looks until minute 9.
    let mut state = Realigned::default();
    while !state.done {
        state = stage
            .db
            .run(|tx| realign(tx, state, (|| half_past(2), jiff::SignedDuration::ZERO)));
    }
    assert_eq!(stage.schedule().next_fire_at, Some(minute(5)));
    stage.fire(minute(9));
    assert_eq!(
        stage.since(5),
        [row(5, "missed", Some("down"), 4), row(9, "fired", None, 4)]
    );
    let (event, body) = stage.told().remove(0);
    assert_eq!((event.as_str(), &body["missed"]), ("schedule.missed", &json!(4)));
    let shown = |number| crate::domain::rfc3339(minute(number));
    assert_eq!(
        (&body["fire_at"], &body["missed_until"]),
        (&json!(shown(5)), &json!(shown(8)))
    );
}

#[test]
fn nothing_is_told_of_a_schedule_that_skips_callbacks() {
    let stage = Stage::new(|draft| draft.skip_callbacks = true).with_a_failure();
    let job = stage.fire(minute(2));
    stage.end(job, Ending::Completed(None), minute(2));
    for number in 3..=4 {
        let job = stage.fire(minute(number));
        stage.fail(job, "workflow", minute(number));
    }
    assert_eq!(stage.count(), (2, 2, false));
    assert_eq!(stage.db.count("SELECT COUNT(*) FROM deliveries"), 0);
}
