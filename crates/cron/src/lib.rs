//! Five-field cron expressions in IANA time zones: read, explain, next and previous fires.
//!
//! Right at every clock change, exact to the ends of jiff's range, bounded on every input. No I/O, no async, no
//! clock of its own: every instant comes in as an argument, and the zone database is compiled in.
//!
//! ```
//! use impresario_cron::{Cron, Zone};
//!
//! let cron: Cron = "0 9 * * MON-FRI".parse()?;
//! let zone = Zone::get("America/New_York")?;
//! assert_eq!(cron.describe(), "At 09:00, Monday through Friday");
//!
//! // Saturday: the next fire is on Monday, when the clock has gone back an hour.
//! let next = cron.next_after(&zone, "2026-10-31T12:00:00Z".parse()?);
//! assert_eq!(next, Some("2026-11-02T14:00:00Z".parse()?));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Fields
//!
//! | field | values | besides |
//! |---|---|---|
//! | minute | 0-59 | |
//! | hour | 0-23 | |
//! | day of month | 1-31 | `?`, `L` (last day), `15W` (weekday nearest to the 15th), `LW` (last weekday) |
//! | month | 1-12, JAN-DEC | |
//! | day of week | 0-7, SUN-SAT; 0 and 7 are Sunday | `?`, `5L` (last Friday), `TUE#2` (second Tuesday) |
//!
//! Each is a list with commas of `*`, `*/n`, `a`, `a-b`, `a-b/n`, `a/n` (from `a` to the end). Whole expressions
//! may be `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight` or `@hourly`.
//!
//! **Two day fields.** If one of them starts with `*`, a day must match both; otherwise either will do.
//!
//! # Clock changes
//!
//! A job is *wild* if its minute or hour starts with `*`, and *fixed* otherwise.
//!
//! - Wild jobs follow real time: silent in a gap, twice in an overlap.
//! - Fixed jobs fire once for each time they name: what falls into a gap fires at its end, together with what is
//!   due then; what comes twice fires the first time.
//! - Forward jumps of three hours and more are corrections of the calendar: what they skip is lost.

mod calendar;
mod describe;
mod dialect;
mod display;
mod error;
mod explain;
mod field;
mod fires;
mod nearest;
mod next;
mod offsets;
mod parse;
mod pattern;
mod release;
mod search;
mod steps;
mod zone;

pub use error::{CronError, CronErrorKind};
pub use field::Field;
pub use fires::{Dst, Fire, Fires};
pub use parse::MAX_LENGTH;
pub use pattern::Cron;
pub use zone::{Zone, ZoneError};

/// Runs the example of the README as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
