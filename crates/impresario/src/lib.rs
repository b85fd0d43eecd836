//! Impresario: the open, self-hosted scheduler for browser workflows.
//!
//! The modules are named after the steps of the flow:
//!
//! ```text
//! HTTP request ─► api ─► store ─► scheduler ─► (jobs in the store) ─► worker ─► runner ─► store ─► delivery ─► receiver
//! ```

pub mod api;
pub mod app;
pub mod background;
pub mod builder;
pub mod builds;
pub mod cli;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod domain;
pub mod hints;
pub mod ids;
pub mod keys;
pub mod metrics;
pub mod params;
pub mod quickstart;
pub mod reaper;
pub mod restored;
pub mod rotation;
pub mod runner;
pub mod scheduler;
pub mod secrets;
pub mod serve;
mod spelling;
pub mod store;
pub mod vault;
pub mod worker;
