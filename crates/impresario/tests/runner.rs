//! Runs of real bundles, with the real Node and the real Chromium.
//!
//! They need Node 20, Chromium, and the runner's packages: `npm ci --ignore-scripts` in the project's `runner` folder, or
//! `IMPRESARIO_RUNNER_DIR` set to a copy of it. Where one is missing they fail; they are never skipped.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests stand outside of #[test] functions"
)]

#[path = "runner/support.rs"]
mod support;

#[path = "runner/build.rs"]
mod build;
#[path = "runner/endings.rs"]
mod endings;
#[path = "runner/examples.rs"]
mod examples;
#[path = "runner/packages.rs"]
mod packages;
#[path = "runner/page.rs"]
mod page;
#[path = "runner/proxied.rs"]
mod proxied;
#[path = "runner/tree.rs"]
mod tree;
