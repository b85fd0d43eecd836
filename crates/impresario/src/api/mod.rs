//! The HTTP API: requests come in, validated values go on to the store, answers in the one envelope go out.
//!
//! ```text
//! server ─► layers ─► envelope::Input / input::Fields ─► a handler ─► envelope::ok / error::ApiError
//! ```
//!
//! [`server`] owns the sockets and their time limits, [`layers`] what every request and every answer has in common.
//! A handler reads its input with [`Fields`], which collects all that is wrong before it refuses, and answers with
//! [`ok`] or an [`ApiError`]. [`fields`] and [`schema`] hold the rules for single fields.

pub mod envelope;
pub mod error;
pub mod fields;
pub mod input;
mod json;
pub mod layers;
pub mod schema;
pub mod server;
mod values;

pub use envelope::{BodyLimit, Input, ok};
pub use error::ApiError;
pub use input::{Fields, Flaw, Patch};
pub use layers::{Front, front};
pub use server::serve;
