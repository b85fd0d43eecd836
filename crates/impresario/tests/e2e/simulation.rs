//! A year of a hundred schedules with every policy, against a recomputation that shares no code with the server.
//!
//! The model (`simulation/model.rs`) is written from docs/schedules.md, its instants (`simulation/cron.rs`) from the
//! rules of cron. The one thing it takes from the server is the share of a fire that is spread, which is the server's
//! secret; that each keeps its limits is checked.

mod backward;
mod check;
mod cron;
mod found;
mod model;
mod plan;
mod world;

use jiff::Timestamp;
use serde_json::Value;

use plan::{DAY, HOUR};
use world::{Move, World};

/// As the API writes an instant.
fn text(at: i64) -> String {
    format!("{:.3}", Timestamp::from_millisecond(at).unwrap())
}

fn ms(instant: &Value) -> Option<i64> {
    let at: Timestamp = instant.as_str()?.parse().unwrap();
    Some(at.as_millisecond())
}

/// The nights on which the zones of the plan change their clocks.
const CLOCK_CHANGES: [&str; 9] = [
    "2027-02-07T02:00:00Z",
    "2027-03-14T05:00:00Z",
    "2027-03-27T23:00:00Z",
    "2027-04-03T12:00:00Z",
    "2027-09-25T12:00:00Z",
    "2027-10-02T14:00:00Z",
    "2027-10-30T22:00:00Z",
    "2027-11-07T04:00:00Z",
    "2027-03-13T23:00:00Z",
];

#[test]
fn a_year_of_a_hundred_schedules_goes_as_the_documentation_says() {
    year(0x1e55_0a7e, 100);
}

/// Runs a year with this seed.
fn year(seed: u64, schedules: usize) {
    let mut world = World::new(seed, schedules);
    let begin = world.now;
    let mut chapters: Vec<i64> = (1..=52).map(|week| begin + week * 7 * DAY).collect();
    chapters.extend(
        CLOCK_CHANGES
            .iter()
            .map(|at| at.parse::<Timestamp>().unwrap().as_millisecond()),
    );
    chapters.sort_unstable();
    for (number, chapter) in chapters.into_iter().enumerate() {
        some_hours(&mut world, number);
        if world.now < chapter {
            let away = if number % 3 == 0 {
                Move::Outage
            } else {
                Move::Clock
            };
            let late = world.rng.span(0, 30, 1_000);
            world.go(chapter + late, away);
        }
        if number % 12 == 11 {
            world.compare_all();
        }
    }
    world.compare_all();
    world.summary();
}

/// Goes from instant to instant, with whatever else may happen in between.
fn some_hours(world: &mut World, chapter: usize) {
    // The workflow of some is gone for a part of these.
    let (gone, back) = if chapter % 6 == 2 { (1, 5) } else { (99, 99) };
    for step in 0..7 {
        if step == gone {
            world.undeploy();
        }
        if step == back {
            world.deploy();
        }
        match world.rng.below(12) {
            0 => {
                let to = world.now + world.rng.span(1, 20, HOUR);
                world.go(to, Move::Clock);
            }
            1 | 2 => world.go_into_a_spread(),
            3 if step == 4 => world.go_to_next(Move::Crash),
            3 => {
                let to = world.now + world.rng.span(1, 50, 60_000);
                world.go(to, Move::Clock);
            }
            4 => world.change_as_it_comes(),
            _ => world.go_to_next(Move::Clock),
        }
        world.end_jobs();
        for _ in 0..world.rng.below(3) {
            world.change_any();
        }
    }
}
