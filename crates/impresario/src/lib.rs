//! Impresario: the open, self-hosted scheduler for browser workflows.
//!
//! The modules are named after the steps of the flow:
//!
//! ```text
//! HTTP request ─► api ─► store ─► scheduler ─► (jobs in the store) ─► worker ─► runner ─► store ─► delivery ─► receiver
//! ```

pub mod api;
pub mod builder;
pub mod clock;
pub mod delivery;
pub mod ids;
pub mod keys;
pub mod runner;
pub mod secrets;
