//! What docs/receiving.md tells receivers, held against what the server signs: the code on the page runs here, letter by
//! letter, each block in its own language, and so do the packages of Standard Webhooks that the page names.
//!
//! Needs Node, Python, Go and those packages: `scripts/setup --tests` installs them. Where one is missing, tests fail; they
//! are never skipped.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may panic, in its helpers too"
)]

#[path = "verify/packages.rs"]
mod packages;
#[path = "verify/page.rs"]
mod page;
#[expect(
    unreachable_pub,
    clippy::expect_used,
    reason = "the page's text, as a receiver has it in a module of its own"
)]
#[path = "verify/receiver.rs"]
mod receiver;
#[path = "verify/run.rs"]
mod run;
#[path = "verify/snippets.rs"]
mod snippets;
#[path = "verify/vectors.rs"]
mod vectors;
