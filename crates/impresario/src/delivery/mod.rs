//! The webhook outbox: sign, send, retry, record.
//!
//! ```text
//! attempt ─► gate (may it go there?) ─► sign ─► http (one attempt) ─► result ─► backoff (when again?)
//! ```
//!
//! Those parts know no database: what is due and what came of it is the affair of the `outbox`, and what is
//! kept of it that of `keeping`.

pub mod backoff;
mod failure;
pub mod gate;
pub mod http;
pub mod keeping;
pub mod lanes;
mod lookups;
pub mod outbox;
pub mod resolver;
pub mod sign;
