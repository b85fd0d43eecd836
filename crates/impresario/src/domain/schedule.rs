//! A schedule: which workflow, with what input, when, and who is told.

use jiff::Timestamp;
use uuid::Uuid;

use super::{Callback, Launch, Object};

/// The shortest and the longest time one run may take, in seconds.
pub const TIMEOUT_SECONDS: std::ops::RangeInclusive<u32> = 1..=3600;
/// How long a run of a schedule that says nothing may take, in seconds.
pub const DEFAULT_TIMEOUT_SECONDS: u32 = 900;

/// A schedule, as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub tenant_id: Uuid,
    /// The name of the workflow; the name is followed through redeploys.
    pub workflow: String,
    /// The workflow's input.
    pub params: Object,
    /// The expression as it was written.
    pub cron_expr: String,
    /// The zone's canonical name.
    pub timezone: String,
    /// How long one run may take.
    pub timeout_seconds: u32,
    /// How its browser is started.
    pub launch: Launch,
    /// Its own receiver; the secret is sealed for this row.
    pub callback: Option<Callback>,
    /// Nobody is told.
    pub skip_callbacks: bool,
    /// Whether it fires.
    pub enabled: bool,
    /// The oldest instant it still owes; `None` while it is disabled, or where no more is to come.
    pub next_fire_at: Option<Timestamp>,
    /// The scheduled instant of the newest fire.
    pub last_fire_at: Option<Timestamp>,
    /// The job that the newest fire created.
    pub last_job_id: Option<Uuid>,
    /// The error of the newest finished run, or of the newest fire that could not create one.
    pub last_error: Option<String>,
    /// Failures in a row.
    pub consecutive_failures: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its owner last changed it.
    pub updated_at: Timestamp,
}
