//! The engine against a walk over real minutes that was written from the rules alone.
//!
//! `CRON_CASES=1000000 cargo test --release -p impresario-cron --test oracle` is the long run.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

mod expressions;
mod rules;
mod walk;

use std::cell::Cell;
use std::sync::LazyLock;

use impresario_cron::{Cron, Dst, Fire, Zone};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestRunner};

use crate::expressions::any_expression;
use crate::rules::Rules;
use crate::walk::{Due, Walk, on_the_wall};

/// Expressions tried on each walk.
const AT_ONCE: usize = 8;
/// Minutes walked on either side of the instant asked about.
const REACH: i64 = 2 * 1440;

#[allow(clippy::disallowed_methods, reason = "a test has no settings file")]
fn runner() -> (TestRunner, u32) {
    let cases = std::env::var("CRON_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(800);
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    (TestRunner::new(config), cases)
}

/// Every zone with the minutes at which its clock changes, the far ones thinned out.
static ZONES: LazyLock<Vec<(Zone, Vec<i64>)>> = LazyLock::new(|| {
    Zone::all_names()
        .map(|name| {
            let zone = Zone::get(name).unwrap();
            let changes = zone
                .time_zone()
                .following(Timestamp::MIN)
                .map(|t| t.timestamp().as_second().div_euclid(60));
            let near = changes.take_while(|minute| *minute < 70_000_000);
            let far = [2_499, 2_500, 2_501, 2_899, 2_900, 6_000, 9_998].map(|year| {
                let start = jiff::civil::date(year, 1, 1)
                    .to_zoned_datetime(TimeZone::UTC)
                    .unwrap()
                    .timestamp();
                let next = zone.time_zone().following(start).next();
                next.map_or(start, |t| t.timestamp()).as_second().div_euclid(60)
            });
            let ends = [Timestamp::MIN, Timestamp::MAX].map(|end| end.as_second().div_euclid(60));
            let minutes = near.chain(far).chain(ends).collect();
            (zone, minutes)
        })
        .collect()
});

/// The changes that go wrong first: over an hour and a half, by odd minutes, or close upon another.
static UNUSUAL: LazyLock<Vec<(&'static Zone, i64)>> = LazyLock::new(|| {
    let mut unusual = Vec::new();
    for (zone, minutes) in ZONES.iter() {
        let offset = |minute: i64| {
            Timestamp::from_second(minute * 60).map_or(0, |at| zone.time_zone().to_offset(at).seconds())
        };
        for (index, &minute) in minutes.iter().enumerate() {
            let jump = (offset(minute + 1) - offset(minute - 1)).abs();
            let close = index > 0 && minute - minutes[index - 1] < 5 * 1440;
            if jump > 5_400 || jump % 1_800 != 0 || close {
                unusual.push((zone, minute));
            }
        }
    }
    unusual
});

fn any_zone() -> impl Strategy<Value = &'static (Zone, Vec<i64>)> {
    any::<proptest::sample::Index>().prop_map(|index| &ZONES[index.index(ZONES.len())])
}

/// A zone and an instant within a day or so of one of its changes, half of them on whole minutes.
fn near_a_change() -> impl Strategy<Value = (&'static Zone, Timestamp)> {
    let near = prop_oneof![-200..200_i64, -1_700..1_700_i64];
    let nanos = prop_oneof![
        proptest::strategy::Just(0_i64),
        -70_000_000_000..70_000_000_000_i64
    ];
    let index = any::<proptest::sample::Index>;
    let usual = (any_zone(), index())
        .prop_map(|((zone, changes), index)| (zone, changes[index.index(changes.len())]));
    let unusual = index().prop_map(|index| UNUSUAL[index.index(UNUSUAL.len())]);
    (prop_oneof![3 => usual, 1 => unusual], near, nanos).prop_map(|((zone, change), near, nanos)| {
        let bounds = [Timestamp::MIN, Timestamp::MAX].map(|end| end.as_second());
        let second = ((change + near) * 60).clamp(bounds[0], bounds[1]);
        let at = Timestamp::from_second(second).unwrap();
        (
            zone,
            at.checked_add(SignedDuration::from_nanos(nanos)).unwrap_or(at),
        )
    })
}

fn as_due(fire: Fire) -> Due {
    let gap = fire.dst == Some(Dst::Gap);
    Due {
        at: fire.at,
        scheduled: fire.scheduled,
        gap,
        overlap: fire.dst == Some(Dst::Overlap),
    }
}

#[test]
fn fires_are_those_of_a_walk_over_real_minutes() {
    let (_, cases) = runner();
    let walks = cases.div_ceil(AT_ONCE as u32);
    let mut runner = TestRunner::new(Config {
        cases: walks,
        failure_persistence: None,
        ..Config::default()
    });
    let compared = Cell::new((0_u64, 0_u64, 0_u64));
    let strategy = (near_a_change(), vec(any_expression(), AT_ONCE));
    let outcome = runner.run(&strategy, |((zone, instant), expressions)| {
        let minute = instant.as_second().div_euclid(60);
        // A day more, to know whether the last minutes come again.
        let walk = Walk::new(zone.time_zone(), minute - REACH, minute + REACH + 1440);
        let last = Timestamp::from_second((minute + REACH) * 60).unwrap_or(Timestamp::MAX);
        for text in &expressions {
            let cron: Cron = text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"));
            let due: Vec<Due> = walk
                .due(&Rules::read(text), minute - REACH)
                .into_iter()
                .filter(|due| due.at <= last)
                // A fire that a gap moved is told as such, even if its own minute comes twice.
                .map(|due| Due {
                    overlap: due.overlap && !due.gap,
                    ..due
                })
                .collect();
            let expected: Vec<Due> = due
                .iter()
                .copied()
                .filter(|due| due.at > instant)
                .take(50)
                .collect();
            let found: Vec<Due> = cron
                .fires_after(zone, instant)
                .take_while(|fire| fire.at <= last)
                .take(50)
                .map(as_due)
                .collect();
            assert_eq!(found, expected, "{text:?} in {zone} after {instant}");
            assert_eq!(
                cron.next_after(zone, instant).filter(|at| *at <= last),
                expected.first().map(|due| due.at)
            );

            let expected: Vec<Due> = due
                .iter()
                .rev()
                .copied()
                .filter(|due| due.at < instant)
                .take(50)
                .collect();
            let first = Timestamp::from_second((minute - REACH) * 60).unwrap_or(Timestamp::MIN);
            let found: Vec<Due> = cron
                .fires_before(zone, instant)
                .take_while(|fire| fire.at >= first)
                .take(50)
                .map(as_due)
                .collect();
            assert_eq!(found, expected, "{text:?} in {zone} before {instant}");
            let (cases, fires, touched) = compared.get();
            let changed = expected.iter().filter(|due| due.gap || due.overlap).count() as u64;
            compared.set((cases + 1, fires + expected.len() as u64, touched + changed));
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    let (cases, fires, touched) = compared.get();
    eprintln!("{cases} cases: {fires} earlier fires, {touched} of them touched by a clock change");
}

#[test]
fn rare_dates_are_those_of_a_walk_over_days() {
    let (mut runner, _) = runner();
    let days = -3_000_000..2_900_000_i64;
    let outcome = runner.run(&(any_expression(), days), |(text, day)| {
        let zone = Zone::get("UTC").unwrap();
        let cron: Cron = text.parse().unwrap();
        let rules = Rules::read(&text);
        let midnight = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
        let matches = |day: &i64| rules.match_date(on_the_wall(day * 1440).date());
        let date_of = |at: Timestamp| at.as_second().div_euclid(86_400);
        let expected = (day..day + 800).find(matches);
        let just_before = midnight(day) - SignedDuration::from_nanos(1);
        let found = cron
            .next_after(&zone, just_before)
            .map(date_of)
            .filter(|found| *found < day + 800);
        assert_eq!(found, expected, "{text:?} from day {day}");
        let expected = (day - 800..day).rev().find(matches);
        let found = cron
            .previous_before(&zone, midnight(day))
            .map(date_of)
            .filter(|found| *found >= day - 800);
        assert_eq!(found, expected, "{text:?} before day {day}");
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn next_and_previous_are_inverses() {
    let (mut runner, _) = runner();
    let anywhere = (Timestamp::MIN.as_second()..Timestamp::MAX.as_second())
        .prop_map(|second| Timestamp::from_second(second).unwrap());
    let anywhere = (any_zone(), anywhere).prop_map(|((zone, _), at)| (zone, at));
    let outcome = runner.run(
        &(prop_oneof![near_a_change(), anywhere], any_expression()),
        |((zone, at), text)| {
            let cron: Cron = text.parse().unwrap();
            let tick = SignedDuration::from_nanos(1);
            if let Some(next) = cron.next_after(zone, at) {
                assert!(next > at);
                assert_eq!(
                    cron.previous_before(zone, next.checked_add(tick).unwrap()),
                    Some(next),
                    "{text:?} {zone}"
                );
                assert!(
                    cron.previous_before(zone, next) <= Some(at),
                    "{text:?} in {zone}: {at} {next}"
                );
            }
            if let Some(previous) = cron.previous_before(zone, at) {
                assert!(previous < at);
                assert_eq!(
                    cron.next_after(zone, previous - tick),
                    Some(previous),
                    "{text:?} {zone}"
                );
                let next = cron.next_after(zone, previous);
                assert!(
                    next.is_none_or(|next| next >= at),
                    "{text:?} in {zone}: {previous} {at} {next:?}"
                );
            }
            Ok(())
        },
    );
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn what_is_displayed_reads_back_as_equal() {
    let (mut runner, _) = runner();
    let outcome = runner.run(&any_expression(), |text| {
        let cron: Cron = text.parse().unwrap();
        let shown = cron.to_string();
        let again: Cron = shown
            .parse()
            .unwrap_or_else(|error| panic!("{text:?} shown as {shown:?}: {error}"));
        assert_eq!(again, cron, "{text:?} shown as {shown:?}");
        assert_eq!(again.to_string(), shown);
        assert!(!cron.describe().is_empty());
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
