use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::Pattern;

const ID: ScheduleId = ScheduleId(Uuid::from_u128(7));

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn timing(expr: &str, zone: &str) -> Timing {
    Timing::of(Pattern::parse(expr, zone).unwrap())
}

fn policies(misfire: MisfirePolicy, window: u32) -> Policies {
    Policies {
        misfire,
        catchup_window_seconds: window,
        ..Policies::default()
    }
}

fn plan_of(timing: &Timing, policies: Policies, cursor: &str, now: &str) -> Option<FirePlan> {
    let due = Due {
        id: ID,
        timing,
        policies,
        cursor: at(cursor),
        waiting: 0,
    };
    plan_fire(&due, at(now))
}

/// Each range as "from until count reason", and what fires, as "fire" or "owed".
fn shown(plan: &FirePlan) -> Vec<String> {
    let range = |range: &Range, what: &str| {
        let (from, until) = (range.from.strftime("%dT%H:%M"), range.until.strftime("%dT%H:%M"));
        format!("{what} {from}..{until} x{}", range.count)
    };
    let mut lines: Vec<String> = plan
        .missed
        .iter()
        .map(|missed| range(&missed.range, missed.reason.as_str()))
        .collect();
    lines.extend(plan.owed.iter().map(|owed| range(owed, "owed")));
    lines.extend(
        plan.fire_at
            .iter()
            .map(|at| format!("fire {}", at.strftime("%dT%H:%M"))),
    );
    lines.extend(
        plan.next
            .iter()
            .map(|at| format!("next {}", at.strftime("%dT%H:%M"))),
    );
    lines
}

#[test]
fn nothing_fires_early() {
    let every_minute = timing("* * * * *", "UTC");
    for policy in MisfirePolicy::WORDS.iter().map(|(_, policy)| *policy) {
        let plan = plan_of(
            &every_minute,
            policies(policy, 0),
            "2026-01-01T00:01:00Z",
            "2026-01-01T00:00:59.999Z",
        );
        assert_eq!(plan, None);
    }
}

#[test]
fn on_time_one_fire_and_no_miss_whatever_the_policy() {
    let every_minute = timing("* * * * *", "UTC");
    for policy in MisfirePolicy::WORDS.iter().map(|(_, policy)| *policy) {
        for now in ["2026-01-01T00:01:00Z", "2026-01-01T00:01:59Z"] {
            let plan = plan_of(&every_minute, policies(policy, 0), "2026-01-01T00:01:00Z", now).unwrap();
            assert_eq!(
                shown(&plan),
                ["fire 01T00:01", "next 01T00:02"],
                "{policy:?} {now}"
            );
        }
    }
}

/// What each policy makes of the same outages: hourly, the cursor at 01:00 on the 1st.
#[test]
#[allow(clippy::too_many_lines, reason = "a table of cases is read by row")]
fn every_policy_and_window_after_every_outage() {
    use MisfirePolicy::{FireAll, FireOnce, Skip};
    const DAY: u32 = 86_400;
    let hourly = timing("0 * * * *", "UTC");
    for (policy, window, now, expected) in [
        // A few hours.
        (
            FireOnce,
            DAY,
            "2026-01-01T05:30:00Z",
            &["down 01T01:00..01T04:00 x4", "fire 01T05:00", "next 01T06:00"][..],
        ),
        (
            Skip,
            DAY,
            "2026-01-01T05:30:00Z",
            &["down 01T01:00..01T05:00 x5", "next 01T06:00"],
        ),
        (
            FireAll,
            DAY,
            "2026-01-01T05:30:00Z",
            &["owed 01T01:00..01T05:00 x5", "next 01T06:00"],
        ),
        // Back within a minute of an instant: that one is on time.
        (
            Skip,
            DAY,
            "2026-01-01T05:01:00Z",
            &["down 01T01:00..01T04:00 x4", "fire 01T05:00", "next 01T06:00"],
        ),
        (
            FireAll,
            DAY,
            "2026-01-01T05:00:30Z",
            &["owed 01T01:00..01T04:00 x4", "fire 01T05:00", "next 01T06:00"],
        ),
        (
            Skip,
            DAY,
            "2026-01-01T05:01:00.001Z",
            &["down 01T01:00..01T05:00 x5", "next 01T06:00"],
        ),
        // Later than the window.
        (
            FireOnce,
            1_800,
            "2026-01-01T05:30:00Z",
            &["down 01T01:00..01T04:00 x4", "fire 01T05:00", "next 01T06:00"],
        ),
        (
            FireOnce,
            1_799,
            "2026-01-01T05:30:00Z",
            &["outside_catchup 01T01:00..01T05:00 x5", "next 01T06:00"],
        ),
        (
            FireOnce,
            0,
            "2026-01-01T05:00:59Z",
            &["down 01T01:00..01T04:00 x4", "fire 01T05:00", "next 01T06:00"],
        ),
        (
            FireAll,
            2 * 3_600,
            "2026-01-01T05:30:00Z",
            &[
                "outside_catchup 01T01:00..01T03:00 x3",
                "owed 01T04:00..01T05:00 x2",
                "next 01T06:00",
            ],
        ),
        (
            FireAll,
            60,
            "2026-01-01T05:30:00Z",
            &["outside_catchup 01T01:00..01T05:00 x5", "next 01T06:00"],
        ),
        (
            FireAll,
            DAY,
            "2026-01-03T00:30:00Z",
            &[
                "outside_catchup 01T01:00..02T00:00 x24",
                "owed 02T01:00..03T00:00 x24",
                "next 03T01:00",
            ],
        ),
        // One instant only.
        (
            FireOnce,
            DAY,
            "2026-01-01T01:30:00Z",
            &["fire 01T01:00", "next 01T02:00"],
        ),
        (
            Skip,
            DAY,
            "2026-01-01T01:30:00Z",
            &["down 01T01:00..01T01:00 x1", "next 01T02:00"],
        ),
        (
            FireAll,
            DAY,
            "2026-01-01T01:30:00Z",
            &["owed 01T01:00..01T01:00 x1", "next 01T02:00"],
        ),
    ] {
        let plan = plan_of(&hourly, policies(policy, window), "2026-01-01T01:00:00Z", now).unwrap();
        assert_eq!(shown(&plan), expected, "{policy:?} {window} {now}");
    }
}

#[test]
fn a_year_of_downtime_is_bounded_work() {
    let every_minute = timing("* * * * *", "UTC");
    let year = ("2026-01-01T00:00:00Z", "2027-01-01T00:00:30Z");
    let plan = plan_of(&every_minute, Policies::default(), year.0, year.1).unwrap();
    assert_eq!(plan.fire_at, Some(at("2027-01-01T00:00:00Z")));
    assert_eq!(plan.missed.len(), 1);
    assert!(plan.missed[0].range.is_cut_short());
    assert_eq!(plan.missed[0].range.until, at("2026-12-31T23:59:00Z"));

    let all = policies(MisfirePolicy::FireAll, 400 * 86_400);
    let plan = plan_of(&every_minute, all, year.0, year.1).unwrap();
    let owed = plan.owed.unwrap();
    assert_eq!(
        (owed.count, owed.until),
        (MOST_CAUGHT_UP, at("2026-12-31T23:59:00Z"))
    );
    assert_eq!(owed.from, at("2026-12-31T07:20:00Z"));
    assert_eq!(plan.missed.len(), 1);
    let over = plan.missed[0];
    assert_eq!(
        (over.reason, over.range.from, over.range.until),
        (MissedReason::OverLimit, at(year.0), at("2026-12-31T07:19:00Z"))
    );

    // With a window of a day, and 990 that wait already: ten more, the rest of the day over the limit, the year outside.
    let due = Due {
        id: ID,
        timing: &every_minute,
        policies: policies(MisfirePolicy::FireAll, 86_400),
        cursor: at(year.0),
        waiting: 990,
    };
    let plan = plan_fire(&due, at(year.1)).unwrap();
    let reasons: Vec<_> = plan
        .missed
        .iter()
        .map(|missed| (missed.reason.as_str(), missed.range.count))
        .collect();
    assert_eq!(
        reasons,
        [("outside_catchup", MOST_COUNTED), ("over_limit", 1_440 - 1 - 10)]
    );
    assert_eq!(plan.owed.unwrap().count, 10);
    let none = plan_fire(
        &Due {
            waiting: MOST_CAUGHT_UP,
            ..due
        },
        at(year.1),
    )
    .unwrap();
    assert_eq!(none.owed, None);
    assert_eq!(none.missed[1].range.until, at("2026-12-31T23:59:00Z"));
}

#[test]
fn a_fixed_time_in_a_gap_fires_once_right_after_it() {
    let nightly = timing("30 2 * * *", "America/New_York");
    let plan = plan_of(
        &nightly,
        Policies::default(),
        "2027-03-14T07:00:00Z",
        "2027-03-14T07:00:00.004Z",
    )
    .unwrap();
    assert_eq!(plan.fire_at, Some(at("2027-03-14T07:00:00Z")));
    assert_eq!(plan.next, Some(at("2027-03-15T06:30:00Z")));
}

#[test]
fn a_spread_fire_waits_for_its_share_and_the_one_before_it_is_not_taken_for_it() {
    let spread = Timing {
        jitter_seconds: 3_600,
        ..timing("0 * * * *", "UTC")
    };
    let (three, four) = ("2026-01-01T03:00:00Z", "2026-01-01T04:00:00Z");
    let due = spread.due_at(ID, at(three));
    assert!(due > at(three) && due < at(four), "{due}");
    let just_before = due
        .checked_sub(SignedDuration::from_millis(1))
        .unwrap()
        .to_string();
    assert_eq!(plan_of(&spread, Policies::default(), three, &just_before), None);
    let plan = plan_of(&spread, Policies::default(), three, &due.to_string()).unwrap();
    assert_eq!(shown(&plan), ["fire 01T03:00", "next 01T04:00"]);
    // The cursor stands two hours back, and the newest is still in its window: the one before it fires.
    let plan = plan_of(&spread, Policies::default(), "2026-01-01T01:00:00Z", &just_before).unwrap();
    assert_eq!(
        shown(&plan),
        ["down 01T01:00..01T01:00 x1", "fire 01T02:00", "next 01T03:00"]
    );
}

#[test]
fn the_last_instant_within_the_bounds_has_no_next() {
    let bounded = Timing {
        end_at: Some(at("2026-01-01T03:00:00Z")),
        ..timing("0 * * * *", "UTC")
    };
    let plan = plan_of(
        &bounded,
        Policies::default(),
        "2026-01-01T02:00:00Z",
        "2026-01-01T02:00:00Z",
    )
    .unwrap();
    assert_eq!(shown(&plan), ["fire 01T02:00"]);
    // Long after the end, what came before it is still accounted for.
    let plan = plan_of(
        &bounded,
        Policies::default(),
        "2026-01-01T01:00:00Z",
        "2026-01-01T09:00:00Z",
    )
    .unwrap();
    assert_eq!(shown(&plan), ["down 01T01:00..01T01:00 x1", "fire 01T02:00"]);
}

proptest! {
    /// Whatever the policy, the window, the spread and the outage: every instant from the cursor to the newest one that
    /// is due is in exactly one of the plan's parts, in order, and the next is the one after them.
    #[test]
    fn a_plan_accounts_for_every_due_instant_once(
        step in prop::sample::select(vec!["*/7 * * * *", "0 * * * *", "30 2 * * *", "0 9 * * MON", "15 */6 1 * *"]),
        zone in prop::sample::select(vec!["UTC", "America/New_York", "Australia/Lord_Howe"]),
        misfire in prop::sample::select(MisfirePolicy::WORDS.iter().map(|(_, policy)| *policy).collect::<Vec<_>>()),
        window in 0_u32..200_000,
        jitter_seconds in 0_u32..=MAX_JITTER,
        start in 1_790_000_000_i64..1_800_000_000,
        outage_ms in 0_i64..400_000_000,
        waiting in prop::sample::select(vec![0_u64, 3, 995, 1_000]),
    ) {
        let timing = Timing { jitter_seconds, ..timing(step, zone) };
        let cursor = timing.next_after(Timestamp::from_second(start).unwrap()).unwrap();
        let now = timing.due_at(ID, cursor) + SignedDuration::from_millis(outage_ms);
        let due = Due { id: ID, timing: &timing, policies: policies(misfire, window), cursor, waiting };
        let plan = plan_fire(&due, now).unwrap();

        // Every instant, by walking.
        let mut expected = vec![cursor];
        loop {
            let next = timing.next_after(*expected.last().unwrap()).unwrap();
            if timing.due_at(ID, next) > now {
                prop_assert_eq!(plan.next, Some(next));
                break;
            }
            expected.push(next);
        }
        let walk = |range: &Range| {
            let mut instants = vec![range.from];
            while *instants.last().unwrap() < range.until {
                instants.push(timing.next_after(*instants.last().unwrap()).unwrap());
            }
            assert_eq!(instants.len() as u64, range.count, "{range:?}");
            instants
        };
        let mut accounted = Vec::new();
        for missed in &plan.missed {
            accounted.extend(walk(&missed.range));
        }
        let owed = plan.owed.as_ref().map(&walk).unwrap_or_default();
        prop_assert!(owed.len() as u64 + waiting <= MOST_CAUGHT_UP.max(waiting));
        accounted.extend(&owed);
        accounted.extend(plan.fire_at);
        prop_assert_eq!(&accounted, &expected);

        // Nothing that is later than the window fires, and nothing within it is called outside.
        let window = SignedDuration::from_secs(window.into()).max(ON_TIME);
        let late = |at: Timestamp| now.duration_since(timing.due_at(ID, at));
        for at in owed.iter().chain(&plan.fire_at) {
            prop_assert!(late(*at) <= window);
        }
        for missed in &plan.missed {
            if missed.reason == MissedReason::OutsideCatchUp {
                prop_assert!(late(missed.range.until) > window);
            }
        }
        if misfire != MisfirePolicy::FireOnce && plan.fire_at.is_some() {
            prop_assert!(late(*expected.last().unwrap()) <= ON_TIME);
        }
    }
}

const MAX_JITTER: u32 = crate::domain::MOST_JITTER;
