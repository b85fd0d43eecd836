//! What a schedule owes when it disables itself.

use super::*;

#[test]
fn instants_that_wait_for_their_share_of_the_spread_are_taken_back() {
    let stage = Stage::new(|draft| {
        draft.timing.jitter_seconds = 50;
        draft.policies.max_consecutive_failures = Some(1);
    });
    let due = |number| stage.schedule().due_at(minute(number));
    let job = stage.fire(due(1));
    assert!(due(2) > minute(2), "or this test shows nothing");
    stage.fail(job, "workflow", minute(2));
    assert_eq!(
        stage.since(2),
        [row(2, "missed", Some("retired"), 1)],
        "its time had come, and it had not fired"
    );
    assert!(!stage.schedule().draft.enabled);
}

/// A schedule that makes up for all it misses, with one failure, and a job that runs since minute 2.
fn catching_up() -> (Stage, JobId) {
    let stage = Stage::new(|draft| draft.policies.misfire = MisfirePolicy::FireAll).with_a_failure();
    let job = stage.fire(minute(2));
    (stage, job)
}

#[test]
fn what_waits_to_be_made_up_for_is_given_up_as_one_row() {
    let (stage, job) = catching_up();
    // Down from minute 3 to 9; minute 9 is on time.
    stage.fire(minute(9));
    assert_eq!(stage.schedule().catching_up, 6);
    stage.fail(job, "workflow", half_past(9));
    assert_eq!(
        stage.since(3),
        [row(3, "missed", Some("retired"), 6), row(9, "fired", None, 0)]
    );
    assert_eq!(stage.db.count("SELECT COUNT(*) FROM catch_ups"), 0);
    assert_eq!(stage.schedule().catching_up, 0);
    let again = stage.change(half_past(11), |draft| draft.enabled = true);
    assert_eq!((again.catching_up, again.next_fire_at), (0, Some(minute(12))));
    assert_eq!(stage.since(10), [row(10, "missed", Some("paused_by_limit"), 2)]);
}

#[test]
fn a_backlog_that_is_found_only_when_the_last_straw_falls_is_given_up_as_well() {
    let (stage, job) = catching_up();
    stage.fail(job, "workflow", minute(9));
    assert_eq!(
        stage.since(3),
        [row(3, "missed", Some("retired"), 6), row(9, "fired", None, 0)]
    );
    assert_eq!(stage.db.count("SELECT COUNT(*) FROM catch_ups"), 0);
    assert_eq!(stage.count(), (2, 2, false));
}

#[test]
fn a_catch_up_that_is_the_last_straw_leaves_nothing_of_two_outages_and_no_fault() {
    let (stage, job) = catching_up();
    stage.end(job, Ending::Cancelled, half_past(2));
    for on_time in [6, 9] {
        let live = stage.fire(minute(on_time));
        stage.end(live, Ending::Cancelled, minute(on_time));
    }
    assert_eq!(stage.db.count("SELECT COUNT(*) FROM catch_ups"), 2);
    stage.delete_workflow();
    stage.db.run(wake_all);
    let fired = stage.db.run(|tx| catch_up(tx, &stage.moment(half_past(9)), 10));
    assert_eq!(
        (fired.looked_at, fired.rejected, fired.quarantined),
        (2, 1, Vec::new())
    );
    assert_eq!(stage.count(), (2, 2, false));
    assert!(
        stage
            .schedule()
            .last_error
            .unwrap()
            .contains("no deployed workflow")
    );
    assert_eq!(
        stage.since(3),
        [
            row(3, "rejected", Some("no_workflow"), 0),
            row(4, "missed", Some("retired"), 2),
            row(6, "fired", None, 0),
            row(7, "missed", Some("retired"), 2),
            row(9, "fired", None, 0),
        ]
    );
    assert_eq!(stage.events(), ["schedule.disabled"]);
}

#[test]
fn one_that_cannot_be_read_fires_nothing_when_it_disables_itself() {
    let stage = Stage::new(|draft| draft.policies.max_consecutive_failures = Some(1));
    let job = stage.fire(minute(1));
    let sql = "UPDATE schedules SET timezone = 'Of/Another_Version' WHERE id = $1";
    stage.db.sql(sql, params![stage.id]);
    // The instant of minute 2 has come by the old pattern, and nobody knows whether it is one.
    stage.fail(job, "workflow", half_past(2));
    let schedule = stage.schedule();
    assert!(!schedule.draft.enabled);
    assert_eq!(stage.db.count("SELECT COUNT(*) FROM jobs"), 1);
    assert_eq!(
        stage.since(2),
        [row(2, "missed", Some("retired"), 1)],
        "the instant is taken back"
    );
}
