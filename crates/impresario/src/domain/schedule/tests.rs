use uuid::Uuid;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn daily_at_nine(since: &str, cursor: &str) -> Schedule {
    Schedule {
        next_fire_at: Some(at(cursor)),
        ..Schedule::begun(
            ScheduleId(Uuid::nil()),
            TenantId(Uuid::nil()),
            ScheduleDraft::plain("w", "0 9 * * *"),
            at(since),
        )
    }
}

#[test]
fn nothing_before_a_pattern_began_fires_however_wrong_the_clock_was() {
    // Changed on the 10th at noon; a clock a day behind put the cursor to the same day's nine.
    let mut schedule = daily_at_nine("2027-01-10T12:00:00Z", "2027-01-10T09:00:00Z");
    schedule.created_at = at("2027-01-01T00:00:00Z");
    let now = at("2027-01-10T12:05:00Z");
    let plan = schedule.plan(now).unwrap();
    assert_eq!(
        (plan.fire_at, plan.next),
        (None, Some(at("2027-01-11T09:00:00Z")))
    );
    // It is not passed over in silence: by one of the two clocks it came.
    let missed = plan.missed[0];
    assert_eq!(
        (missed.range.from, missed.range.count, missed.reason),
        (at("2027-01-10T09:00:00Z"), 1, MissedReason::Down)
    );
    // After a longer outage the newest fires, if it is not one of those.
    let plan = schedule.plan(at("2027-01-12T09:00:01Z")).unwrap();
    assert_eq!(plan.fire_at, Some(at("2027-01-12T09:00:00Z")));
    let ranges: Vec<_> = plan.missed.iter().map(|missed| missed.range.from).collect();
    assert_eq!(ranges, [at("2027-01-10T09:00:00Z"), at("2027-01-11T09:00:00Z")]);
    // By no clock anything came before it was made.
    let made = daily_at_nine("2027-01-10T12:00:00Z", "2027-01-10T09:00:00Z");
    assert_eq!(made.plan(now), None);
    assert_eq!(made.first_owed(now), Some(at("2027-01-11T09:00:00Z")));
    // While the begin lies ahead, or what comes is just coming, it fires: which clock is right cannot be known.
    let just = daily_at_nine("2027-01-10T09:00:10Z", "2027-01-10T09:00:00Z");
    assert_eq!(
        just.plan(at("2027-01-10T09:00:30Z")).unwrap().fire_at,
        Some(at("2027-01-10T09:00:00Z"))
    );
    let plan = schedule.plan(at("2027-01-10T09:00:00Z")).unwrap();
    assert_eq!(
        (plan.fire_at, plan.missed.len()),
        (Some(at("2027-01-10T09:00:00Z")), 0)
    );
    // Only a real debt stays one.
    let owed = daily_at_nine("2027-01-10T12:00:00Z", "2027-01-11T09:00:00Z");
    let later = at("2027-01-13T12:00:00Z");
    assert_eq!(owed.first_owed(later), Some(at("2027-01-11T09:00:00Z")));
    assert_eq!(
        owed.true_cursor((later, jiff::SignedDuration::ZERO), false, None),
        Some(at("2027-01-11T09:00:00Z"))
    );
}

#[test]
fn a_cursor_that_a_clock_put_far_ahead_comes_back() {
    let schedule = daily_at_nine("2027-01-10T12:00:00Z", "2036-01-01T09:00:00Z");
    let now = at("2027-01-12T12:00:00Z");
    assert_eq!(
        schedule.true_cursor((now, jiff::SignedDuration::ZERO), false, None),
        Some(at("2027-01-13T09:00:00Z"))
    );
    let accounted = Some(at("2027-01-11T09:00:00Z"));
    assert_eq!(
        schedule.true_cursor((now, jiff::SignedDuration::ZERO), true, accounted),
        Some(at("2027-01-12T09:00:00Z")),
        "owed since the 12th"
    );
}

#[test]
fn a_node_that_is_a_little_behind_owes_nothing_from_before_the_begin() {
    let schedule = daily_at_nine("2027-01-10T09:00:20Z", "2027-01-11T09:00:00Z");
    let (behind, near) = (at("2027-01-10T08:59:50Z"), jiff::SignedDuration::from_mins(10));
    for ahead in [false, true] {
        assert_eq!(
            schedule.true_cursor((behind, near), ahead, None),
            Some(at("2027-01-11T09:00:00Z")),
            "another node's clock made it"
        );
        assert_eq!(
            schedule.true_cursor((behind, jiff::SignedDuration::ZERO), ahead, None),
            Some(at("2027-01-10T09:00:00Z")),
            "the only clock was ahead"
        );
    }
    let long_before = at("2027-01-09T08:59:50Z");
    assert_eq!(
        schedule.true_cursor((long_before, near), false, None),
        Some(at("2027-01-09T09:00:00Z"))
    );
}

#[test]
fn under_new_rules_the_nearest_instant_takes_the_place_of_the_next() {
    // The rules have moved nine from ten; at half past nine, today's is owed: nobody has fired it.
    let moved = daily_at_nine("2027-01-01T00:00:00Z", "2027-01-10T10:00:00Z");
    let (now, yesterday) = (at("2027-01-10T09:30:00Z"), Some(at("2027-01-09T10:00:00Z")));
    assert!(moved.is_misplaced());
    assert_eq!(
        moved.true_cursor((now, jiff::SignedDuration::ZERO), false, yesterday),
        Some(at("2027-01-10T09:00:00Z"))
    );
    // The other way round today's has fired, at eight: nine is the same day's, and not fired once more.
    let fired = daily_at_nine("2027-01-01T00:00:00Z", "2027-01-11T08:00:00Z");
    let today = Some(at("2027-01-10T08:00:00Z"));
    assert_eq!(
        fired.true_cursor((now, jiff::SignedDuration::ZERO), false, today),
        Some(at("2027-01-11T09:00:00Z"))
    );
    // What is on record is never owed again.
    let on_record = Some(at("2027-01-10T09:00:00Z"));
    assert_eq!(
        moved.true_cursor((now, jiff::SignedDuration::ZERO), false, on_record),
        Some(at("2027-01-11T09:00:00Z"))
    );
    assert!(!daily_at_nine("2027-01-01T00:00:00Z", "2027-01-10T09:00:00Z").is_misplaced());
}

#[test]
fn one_that_was_set_aside_shows_no_next_fire_and_says_so() {
    let mut schedule = daily_at_nine("2027-01-01T00:00:00Z", "2027-01-10T09:00:00Z");
    schedule.set_aside = true;
    let now = at("2027-01-09T12:00:00Z");
    assert_eq!(
        (schedule.shown_next_fire(now), schedule.state(now)),
        (None, ScheduleState::SetAside)
    );
}

/// The instant of nine is owed and not yet due: its share of the spread ends at some time until ten.
fn in_its_window() -> (Schedule, Timestamp) {
    let mut schedule = daily_at_nine("2027-01-01T00:00:00Z", "2027-01-10T09:00:00Z");
    schedule.draft.timing.jitter_seconds = 3_600;
    let now = at("2027-01-10T09:00:00.001Z");
    assert!(schedule.due_at(at("2027-01-10T09:00:00Z")) > now);
    (schedule, now)
}

type Edit = fn(&mut ScheduleDraft);

#[test]
fn a_change_within_the_window_of_an_owed_fire_keeps_or_retires_it_by_rule() {
    let (schedule, now) = in_its_window();
    let (owed, next) = (Some(at("2027-01-10T09:00:00Z")), Some(at("2027-01-11T09:00:00Z")));
    let keeps: [(&str, Edit); 5] = [
        ("nothing", |_| {}),
        ("params", |draft| {
            draft.params.insert("a".to_owned(), 1.into());
        }),
        ("the spread", |draft| draft.timing.jitter_seconds = 60),
        ("the policies", |draft| {
            draft.policies.max_consecutive_failures = Some(3);
        }),
        ("bounds around it", |draft| {
            draft.timing.end_at = Some("2027-02-01T00:00:00Z".parse().unwrap());
        }),
    ];
    for (what, edit) in keeps {
        let mut draft = schedule.draft.clone();
        edit(&mut draft);
        let moved = schedule.transition(&draft, now);
        assert_eq!(
            (moved.cursor, moved.retires, moved.begins_anew),
            (owed, None, false),
            "{what}"
        );
    }
    let retires: [(&str, Edit, Option<Timestamp>); 4] = [
        (
            "another expression",
            |draft| draft.timing.pattern = draft.timing.pattern.changed(Some("0 10 * * *"), None).unwrap(),
            Some(at("2027-01-10T10:00:00Z")),
        ),
        (
            "another zone",
            |draft| {
                draft.timing.pattern = draft
                    .timing
                    .pattern
                    .changed(None, Some("America/New_York"))
                    .unwrap();
            },
            Some(at("2027-01-10T14:00:00Z")),
        ),
        (
            "a start after it",
            |draft| draft.timing.start_at = Some("2027-01-10T09:00:00.001Z".parse().unwrap()),
            next,
        ),
        (
            "an end at it",
            |draft| draft.timing.end_at = Some("2027-01-10T09:00:00Z".parse().unwrap()),
            None,
        ),
    ];
    for (what, edit, cursor) in retires {
        let mut draft = schedule.draft.clone();
        edit(&mut draft);
        let moved = schedule.transition(&draft, now);
        assert_eq!(
            (moved.cursor, moved.retires, moved.begins_anew),
            (cursor, owed, true),
            "{what}"
        );
    }
    let mut paused = schedule.draft.clone();
    paused.enabled = false;
    assert_eq!(schedule.transition(&paused, now).retires, owed);
}

#[test]
fn an_enable_begins_anew_and_owes_nothing_of_the_pause() {
    let (mut schedule, now) = in_its_window();
    schedule.draft.enabled = false;
    let mut enabled = schedule.draft.clone();
    enabled.enabled = true;
    let moved = schedule.transition(&enabled, now);
    assert_eq!(
        (moved.cursor, moved.retires, moved.begins_anew),
        (Some(at("2027-01-11T09:00:00Z")), None, true)
    );
}

#[test]
fn what_waits_to_be_made_up_for_goes_on_only_while_nothing_about_it_changes() {
    let (mut schedule, now) = in_its_window();
    schedule.draft.policies.misfire = MisfirePolicy::FireAll;
    let edits: [(&str, bool, Edit); 6] = [
        ("nothing", false, |_| {}),
        ("the spread", false, |draft| draft.timing.jitter_seconds = 60),
        ("a pause", true, |draft| draft.enabled = false),
        ("the misfire policy", true, |draft| {
            draft.policies.misfire = MisfirePolicy::FireOnce;
        }),
        ("the bounds", true, |draft| {
            draft.timing.start_at = Some("2027-01-01T00:00:00Z".parse().unwrap());
        }),
        ("the expression", true, |draft| {
            draft.timing.pattern = draft.timing.pattern.changed(Some("0 10 * * *"), None).unwrap();
        }),
    ];
    for (what, retires, edit) in edits {
        let mut draft = schedule.draft.clone();
        edit(&mut draft);
        assert_eq!(
            schedule.transition(&draft, now).retires_catch_up,
            retires,
            "{what}"
        );
    }
}

#[test]
fn a_schedule_past_its_end_is_finished_once_nothing_is_left() {
    let mut schedule = daily_at_nine("2027-01-01T00:00:00Z", "2027-01-10T09:00:00Z");
    schedule.draft.timing.end_at = Some(at("2027-01-11T00:00:00Z"));
    let later = at("2027-02-01T00:00:00Z");
    assert_eq!(schedule.state(later), ScheduleState::Active, "one is still owed");
    schedule.next_fire_at = None;
    assert_eq!(schedule.state(later), ScheduleState::Finished);
    schedule.catching_up = 1;
    assert_eq!(schedule.state(later), ScheduleState::Active);
    schedule.catching_up = 0;
    schedule.draft.enabled = false;
    assert_eq!(schedule.state(later), ScheduleState::Finished);
    assert_eq!(
        schedule.state(at("2027-01-01T00:00:00Z")),
        ScheduleState::Disabled
    );
    // One that was set aside because it cannot be read has no end that it came to.
    schedule.draft.timing.end_at = None;
    schedule.draft.enabled = true;
    assert_eq!(schedule.state(later), ScheduleState::Active);
}
