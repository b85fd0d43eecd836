//! Several nodes on one PostgreSQL, and everything goes wrong.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests stand outside of #[test] functions"
)]

#[path = "e2e/simulation/cron.rs"]
mod cron;
#[allow(
    dead_code,
    unused_imports,
    reason = "the end-to-end tests' helpers, of which this needs a few"
)]
#[path = "e2e/support/mod.rs"]
mod support;

#[path = "chaos/db.rs"]
mod db;
#[path = "chaos/postgres.rs"]
mod postgres;
#[path = "chaos/proxy.rs"]
mod proxy;
#[path = "chaos/rng.rs"]
mod rng;
#[path = "chaos/wire.rs"]
mod wire;
