//! Several nodes on one PostgreSQL, and everything goes wrong.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests stand outside of #[test] functions"
)]
#![allow(
    clippy::needless_pass_by_value,
    reason = "the end-to-end tests' helpers write inputs as `json!` at the call"
)]

#[path = "common/postgres.rs"]
mod postgres_server;

#[path = "e2e/simulation/cron.rs"]
mod cron;
#[allow(
    dead_code,
    unused_imports,
    reason = "the end-to-end tests' helpers, of which this needs a few"
)]
#[path = "e2e/support/mod.rs"]
mod support;

#[path = "chaos/audit.rs"]
mod audit;
#[path = "chaos/check/mod.rs"]
mod check;
#[path = "chaos/clocks.rs"]
mod clocks;
#[path = "chaos/cluster.rs"]
mod cluster;
#[path = "chaos/db.rs"]
mod db;
#[path = "chaos/ears.rs"]
mod ears;
#[path = "chaos/evidence.rs"]
mod evidence;
#[path = "chaos/faults.rs"]
mod faults;
#[path = "chaos/plan.rs"]
mod plan;
#[path = "chaos/postgres.rs"]
mod postgres;
#[path = "chaos/proxy.rs"]
mod proxy;
#[path = "chaos/rng.rs"]
mod rng;
#[path = "chaos/run.rs"]
mod run;
#[path = "chaos/wire.rs"]
mod wire;
#[path = "chaos/work.rs"]
mod work;

use run::Setup;

/// What a run is told by its environment.
#[expect(
    clippy::disallowed_methods,
    reason = "a long run is asked for by its environment"
)]
fn told(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    Some(number.unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the engine of a long run is asked for by its environment"
)]
fn on_sqlite() -> bool {
    std::env::var("CHAOS_ENGINE").is_ok_and(|engine| engine == "sqlite")
}

/// The runs that are made where nobody asks for another: a seed, and how many seconds things go wrong. One that has found
/// something stays here, with no more seconds than it needs for that.
const RUNS: [(u64, u64); 1] = [(0xc4a0_5001, 100)];

#[test]
fn whatever_breaks_each_instant_is_accounted_for_once_and_nothing_runs_twice() {
    let (seed, seconds) = (told("CHAOS_SEED"), told("CHAOS_SECONDS"));
    let asked = seed.or(seconds).is_some();
    let one = [(seed.unwrap_or(RUNS[0].0), seconds.unwrap_or(RUNS[0].1))];
    for (seed, seconds) in if asked { &one[..] } else { &RUNS[..] } {
        run::run(Setup {
            seed: *seed,
            seconds: *seconds,
            postgres: !on_sqlite(),
            nodes: if on_sqlite() { 1 } else { 3 },
            schedules: 200,
        });
    }
}
