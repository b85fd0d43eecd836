//! Callbacks reach public addresses only: every forbidden address in every notation, as a literal, as the answer of a
//! name server and as the target of a redirect; and through the real binary.
//!
//! Each test runs in a network of its own (see `namespace`) in which every address of the internet is this machine.
//! There a canary hears whatever is connected to, wherever it was meant to go, and the kernel counts what was tried.
//! They need `unshare` and `mount` (util-linux), `ip` (iproute2), and a kernel that lets their user make namespaces;
//! those of the real binary need Node 20 and the runner's packages as well. Where something is missing they fail; they
//! are never skipped.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "helpers of tests stand outside of #[test] functions"
)]
#![allow(
    clippy::needless_pass_by_value,
    reason = "the end-to-end tests' helpers write inputs as `json!` at the call"
)]

#[path = "common/postgres.rs"]
mod postgres_server;
#[allow(
    dead_code,
    unused_imports,
    reason = "the end-to-end tests' helpers, of which this needs a few"
)]
#[path = "e2e/support/mod.rs"]
mod support;

#[path = "reach/canary.rs"]
mod canary;
#[path = "reach/corpus.rs"]
mod corpus;
#[path = "reach/counters.rs"]
mod counters;
#[path = "reach/dns.rs"]
mod dns;
#[path = "reach/namespace.rs"]
mod namespace;
#[path = "reach/oddities.rs"]
mod oddities;
#[path = "reach/sending.rs"]
mod sending;

#[path = "reach/controls.rs"]
mod controls;
#[path = "reach/literals.rs"]
mod literals;
#[path = "reach/names.rs"]
mod names;
#[path = "reach/networks.rs"]
mod networks;
#[path = "reach/redirects.rs"]
mod redirects;
#[path = "reach/resolvers.rs"]
mod resolvers;
#[path = "reach/served.rs"]
mod served;
