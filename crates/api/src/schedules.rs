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
    /// Unique within the tenant; 1 to 100 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// At most 1,000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// At most 20, each of 1 to 50 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// No fire before this instant; inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<String>,
    /// No fire from this instant on; exclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_at: Option<String>,
    /// How far a fire may be put off to spread the load, in seconds, 0 to 3600; default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_seconds: Option<u32>,
    /// `fire_once` (default), `skip` or `fire_all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misfire_policy: Option<String>,
    /// How late a missed fire may be and still be made up for, in seconds, 0 to 31,622,400; default 86,400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catchup_window_seconds: Option<u32>,
    /// `allow` (default), `skip`, `buffer_one` or `cancel_running`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap_policy: Option<String>,
    /// So many failures in a row disable it, 1 to 1,000; default never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_consecutive_failures: Option<u32>,
}

/// A schedule, as every answer shows it. Unset values are `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// UUID.
    pub id: String,
    /// The name of the workflow it runs.
    pub workflow: String,
    /// Unique within the tenant.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// For people and for filters.
    pub tags: Vec<String>,
    /// The workflow's input.
    pub params: Map<String, Value>,
    /// The expression as it was written.
    pub cron_expr: String,
    /// The zone's canonical spelling.
    pub timezone: String,
    /// No fire before this instant; inclusive.
    pub start_at: Option<String>,
    /// No fire from this instant on; exclusive.
    pub end_at: Option<String>,
    /// How far a fire may be put off to spread the load, in seconds.
    pub jitter_seconds: u32,
    /// `fire_once`, `skip` or `fire_all`.
    pub misfire_policy: String,
    /// How late a missed fire may be and still be made up for, in seconds.
    pub catchup_window_seconds: u32,
    /// `allow`, `skip`, `buffer_one` or `cancel_running`.
    pub overlap_policy: String,
    /// So many failures in a row disable it; `null` never does.
    pub max_consecutive_failures: Option<u32>,
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
    /// `active`, `disabled` or `finished`.
    pub state: String,
    /// Why it disabled itself; `null` where its owner did, or nobody has.
    pub disabled_reason: Option<String>,
    /// The next fire, as the expression names it; of a disabled one, when it would fire were it enabled now.
    pub next_fire_at: Option<String>,
    /// When that fire is acted on: `next_fire_at` and its share of the spread.
    pub next_due_at: Option<String>,
    /// How many missed instants wait to be made up for.
    pub catching_up: u64,
    /// Why its params do not fit the workflow as it is deployed now.
    pub params_error: Option<String>,
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
