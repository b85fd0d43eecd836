//! The HTTP API: requests come in, validated values go on to the store, answers in the one envelope go out.
//!
//! ```text
//! server ─► layers ─► envelope::Input / input::Fields ─► a handler ─► envelope::ok / error::ApiError
//! ```
//!
//! [`server`] owns the sockets and their time limits, [`layers`] what every request and every answer has in common.
//! A handler reads its input with [`Fields`], which collects all that is wrong before it refuses, and answers with
//! [`ok`] or an [`ApiError`]. [`fields`] holds the rules for single fields.

mod api_keys;
mod auth;
mod credentials;
mod deliveries;
mod deployments;
pub mod envelope;
pub mod error;
pub mod fields;
mod health;
pub mod input;
mod jobs;
mod json;
pub mod key_uses;
pub mod layers;
mod logs;
mod metrics;
mod page;
pub mod rate;
mod reference;
mod router;
mod run_input;
mod schedules;
pub mod schema;
pub mod server;
mod tenant;
mod values;
mod webhooks;
mod workflows;

pub(crate) use api_keys::view as key_view;
pub use envelope::{BodyLimit, Input, ok};
pub use error::ApiError;
pub use input::{Fields, Flaw, Patch};
pub use layers::{Front, front};
pub use router::router;
pub use server::serve;
