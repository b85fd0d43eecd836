//! The whole program from outside: the real binary, real HTTP, real Node and Chromium, a real receiver of callbacks.
//!
//! Each test starts a server of its own in a temporary directory, most of them with an injected clock (`--clock-file`)
//! that the test moves. Nothing here links the server's code: what is checked is what a user sees.
//!
//! They need Node 20, Chromium, `openssl`, and the runner's packages: `npm ci --ignore-scripts` in the project's
//! `runner` folder, or `IMPRESARIO_RUNNER_DIR` set to a copy of it. Where one is missing they fail; they are never
//! skipped.

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
    reason = "inputs are written as `json!` at the call: an ampersand before each would only be noise"
)]
#![allow(
    clippy::too_many_lines,
    reason = "a table of cases is read by row, however many there are"
)]

#[path = "../common/postgres.rs"]
mod postgres_server;
mod support;

mod api_keys;
mod as_code;
mod as_code_refusals;
mod backfill;
mod backups;
mod behaviour;
mod breaker;
mod callbacks;
mod cli_deploy;
mod cli_jobs;
mod cli_schedules;
mod cli_texts;
mod cli_webhooks;
mod clock_changes;
mod clock_jumps;
mod contract_rules;
mod deployments;
mod edges;
mod endpoints;
mod endpoints_crowd;
mod failures;
mod faults;
mod front;
mod jobs;
mod limits;
mod main_job;
mod matrix;
mod metrics;
mod moving;
mod nodes;
mod overlap;
mod params;
mod preview;
mod quickstart;
mod redeliver;
mod restart;
mod runs;
mod schedule_events;
mod schedules_create;
mod schedules_list;
mod schedules_rules;
mod schedules_update;
mod secrets;
mod simulation;
mod spread;
mod tenant_settings;
mod tenants;
mod typed_client;
mod versions;
