//! The webhook outbox: sign, send, retry, record.
//!
//! ```text
//! attempt ─► gate (may it go there?) ─► sign ─► http (one attempt) ─► result ─► backoff (when again?)
//! ```
//!
//! These parts know no database: what is due and what came of it is the outbox's affair.

pub mod backoff;
mod failure;
pub mod gate;
pub mod http;
pub mod resolver;
pub mod sign;
