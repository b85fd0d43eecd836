//! Five-field cron expressions in IANA time zones.

mod calendar;
mod dialect;
mod display;
mod error;
mod explain;
mod field;
mod nearest;
mod next;
mod offsets;
mod parse;
mod pattern;
mod release;
mod search;
mod zone;

pub use error::{CronError, CronErrorKind};
pub use field::Field;
pub use parse::MAX_LENGTH;
pub use pattern::Cron;
pub use zone::{Zone, ZoneError};
