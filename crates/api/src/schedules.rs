//! `schedules/*`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Secret;

/// The size of the page a workflow sees, in CSS pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Viewport {
    /// 1 to 7680.
    pub width: u32,
    /// 1 to 4320.
    pub height: u32,
}

/// Where in the world the run's traffic should leave from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResidentialProxy {
    /// ISO 3166-1 alpha-2, upper case.
    pub country: String,
    /// A two-letter US state, district or territory; only with `US`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// A slug such as `san-francisco`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    /// Five digits; only with `US`, not with `city` or `state`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zip: Option<String>,
    /// `AS` and digits; not with `city` or `state`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<String>,
}

/// The input of `schedules/create`; absent fields take the API's defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CreateSchedule {
    /// The name of a deployed workflow.
    pub workflow: String,
    /// The workflow's input.
    #[serde(default)]
    pub params: Map<String, Value>,
    /// Five fields, or a nickname such as `@daily`.
    pub cron_expr: String,
    /// An IANA zone name; default `UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// How long one run may take, in seconds, 1 to 3600; default 900.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// Opened before the workflow runs; overrides the workflow's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_url: Option<String>,
    /// Where the result of each run is posted; needs `callback_secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<String>,
    /// Signs each callback; never returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_secret: Option<Secret>,
    /// Send no callback at all, not even to the tenant's stored webhooks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_callbacks: Option<bool>,
    /// Whether it fires; default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// A schedule, as every answer shows it. Unset values are `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// UUID.
    pub id: String,
    /// The name of the workflow it runs.
    pub workflow: String,
    /// The workflow's input.
    pub params: Map<String, Value>,
    /// The expression as it was written.
    pub cron_expr: String,
    /// The zone's canonical spelling.
    pub timezone: String,
    /// 1 to 3600.
    pub timeout_seconds: u32,
    /// Overrides the workflow's own.
    pub start_url: Option<String>,
    /// Whether the browser may use a GPU.
    pub gpu: Option<bool>,
    /// Overrides the workflow's own.
    pub viewport: Option<Viewport>,
    /// Where the traffic leaves from.
    pub residential_proxy: Option<ResidentialProxy>,
    /// Go past the operator's default proxy.
    pub disable_default_proxy: Option<bool>,
    /// Its own receiver.
    pub callback_url: Option<String>,
    /// No callbacks at all.
    pub skip_callbacks: bool,
    /// Whether it fires.
    pub enabled: bool,
    /// The next fire; of a disabled one, when it would fire were it enabled now.
    pub next_fire_at: Option<String>,
    /// The scheduled instant of the newest fire.
    pub last_fire_at: Option<String>,
    /// The job the newest fire created.
    pub last_job_id: Option<String>,
    /// The error of the newest finished run, `null` after a success.
    pub last_error: Option<String>,
    /// Failures in a row.
    pub consecutive_failures: u64,
    /// When it was created.
    pub created_at: String,
    /// When it was last changed by its owner.
    pub updated_at: String,
}

/// The answer of `schedules/create`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleCreated {
    /// Always `true`.
    pub success: bool,
    /// The new schedule.
    pub schedule: Schedule,
}

/// The answer of `schedules/get` and `schedules/update`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OneSchedule {
    /// The schedule as it now stands.
    pub schedule: Schedule,
}

/// The answer of `schedules/list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleList {
    /// Newest first.
    pub schedules: Vec<Schedule>,
    /// Where the next page starts; `null` on the last one.
    pub next_cursor: Option<String>,
}

/// The answer of `schedules/delete`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedSchedule {
    /// Always `true`.
    pub success: bool,
    /// The id that is no more.
    pub id: String,
}
