//! `schedules/*`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Secret, set,
    shape::{
        CallbackUrl, CronExpr, Cursor, Description, Id, Instant, InstantIn, Label, MisfirePolicy,
        OverlapPolicy, ScheduleState, SigningSecret, StartUrl, Success, WorkflowName, Zone,
    },
};

/// The size of the page a workflow sees, in CSS pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Viewport {
    /// 1 to 7680.
    #[schemars(range(min = 1, max = 7680), example = 1366)]
    pub width: u32,
    /// 1 to 4320.
    #[schemars(range(min = 1, max = 4320), example = 768)]
    pub height: u32,
}

/// Where in the world the run's traffic should leave from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ResidentialProxy {
    /// ISO 3166-1 alpha-2, in any case; kept in upper case.
    #[schemars(length(equal = 2), example = &"US")]
    pub country: String,
    /// A two-letter US state, district or territory; only with `US`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(equal = 2), example = &"CA")]
    pub state: Option<String>,
    /// A slug such as `san-francisco`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100), regex(pattern = "^[a-z0-9]+(-[a-z0-9]+)*$"), example = &"san-francisco")]
    pub city: Option<String>,
    /// Five digits; only with `US`, not with `city` or `state`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[0-9]{5}$"), example = &"94105")]
    pub zip: Option<String>,
    /// `AS` and a number up to 4,294,967,295; not with `city` or `state`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100), regex(pattern = "^[Aa][Ss][0-9]{1,10}$"), example = &"AS7922")]
    pub asn: Option<String>,
}

/// The input of `schedules/create`; absent fields take the API's defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSchedule {
    /// The name of a deployed workflow.
    #[schemars(with = "WorkflowName")]
    pub workflow: String,
    /// The workflow's input, checked against the JSON Schema that its deployment carries, if it carries one.
    #[serde(default)]
    #[schemars(example = json!({"clinic": "north"}))]
    pub params: Map<String, Value>,
    /// Five fields (minute, hour, day of month, month, day of week), or a nickname such as `@daily`; at most 256 bytes.
    #[schemars(with = "CronExpr")]
    pub cron_expr: String,
    /// An IANA zone name, in any case; default `UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Zone", extend("default" = "UTC"))]
    pub timezone: Option<String>,
    /// How long one run may take, in seconds, 1 to 3600; default 900.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 3600), example = 600, extend("default" = 900))]
    pub timeout_seconds: Option<u32>,
    /// Opened before the workflow runs; overrides the workflow's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<StartUrl>")]
    pub start_url: Option<String>,
    /// Whether the browser may use a GPU; handed to the runner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<bool>,
    /// The size of the page; overrides the workflow's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub viewport: Option<Viewport>,
    /// Where the result of each run is posted, at most 2,048 bytes; needs `callback_secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<CallbackUrl>")]
    pub callback_url: Option<String>,
    /// Signs each callback; never returned. Needs `callback_url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SigningSecret>")]
    pub callback_secret: Option<Secret>,
    /// Send no callback at all, not even to the tenant's stored webhooks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool", extend("default" = false))]
    pub skip_callbacks: Option<bool>,
    /// Where the run's traffic leaves from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residential_proxy: Option<ResidentialProxy>,
    /// Go past the operator's default proxy; not together with `residential_proxy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_default_proxy: Option<bool>,
    /// Whether it fires; default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool", extend("default" = true))]
    pub enabled: Option<bool>,
    /// What people know it by: unique within the tenant, 1 to 100 characters, without control characters and without blanks
    /// at its ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Label>")]
    pub name: Option<String>,
    /// At most 1,000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Description>")]
    pub description: Option<String>,
    /// At most 20, each of 1 to 50 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), inner(length(min = 1, max = 50)), example = ["billing"], extend("default" = []))]
    pub tags: Option<Vec<String>>,
    /// No fire before this instant; inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<InstantIn>")]
    pub start_at: Option<String>,
    /// No fire from this instant on; exclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<InstantIn>", extend("examples" = ["2026-12-31T00:00:00Z"]))]
    pub end_at: Option<String>,
    /// How far a fire may be put off to spread the load, in seconds, 0 to 3600; default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 3600), example = 300, extend("default" = 0))]
    pub jitter_seconds: Option<u32>,
    /// `fire_once` (default), `skip` or `fire_all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MisfirePolicy>", extend("default" = "fire_once"))]
    pub misfire_policy: Option<String>,
    /// How late a missed fire may be and still be made up for, in seconds, 0 to 31,622,400; default 86,400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 31_622_400), example = 3600, extend("default" = 86_400))]
    pub catchup_window_seconds: Option<u32>,
    /// `allow` (default), `skip`, `buffer_one` or `cancel_running`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<OverlapPolicy>", extend("default" = "allow"))]
    pub overlap_policy: Option<String>,
    /// So many failures in a row disable it, 1 to 1,000; default never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000), example = 5)]
    pub max_consecutive_failures: Option<u32>,
}

/// The input of `schedules/update`: what is absent stays as it is. Where a field is an `Option` of an `Option`,
/// `Some(None)` is sent as `null` and puts the default back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateSchedule {
    /// The schedule.
    #[schemars(with = "Id")]
    pub id: String,
    /// Replaces the whole object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Map<String, Value>", example = json!({"clinic": "north"}))]
    pub params: Option<Map<String, Value>>,
    /// Another pattern starts anew from now; at most 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CronExpr")]
    pub cron_expr: Option<String>,
    /// Another zone starts anew from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Zone")]
    pub timezone: Option<String>,
    /// How long one run may take, in seconds, 1 to 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 3600), example = 600)]
    pub timeout_seconds: Option<u32>,
    /// `null`: the workflow's own.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "set")]
    #[schemars(with = "Option<StartUrl>")]
    pub start_url: Option<Option<String>>,
    /// `null`: not set.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "set")]
    #[schemars(with = "Option<bool>")]
    pub gpu: Option<Option<bool>>,
    /// `null`: the workflow's own.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "set")]
    #[schemars(with = "Option<Viewport>")]
    pub viewport: Option<Option<Viewport>>,
    /// `null`, together with `callback_secret`: results go to the stored webhooks again.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "set")]
    #[schemars(with = "Option<CallbackUrl>")]
    pub callback_url: Option<Option<String>>,
    /// Never returned. `null` only together with `callback_url`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "set")]
    #[schemars(with = "Option<SigningSecret>")]
    pub callback_secret: Option<Option<Secret>>,
    /// Send no callback at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub skip_callbacks: Option<bool>,
    /// `null`: none.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "set")]
    #[schemars(with = "Option<ResidentialProxy>")]
    pub residential_proxy: Option<Option<ResidentialProxy>>,
    /// `null`: not set.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "set")]
    #[schemars(with = "Option<bool>")]
    pub disable_default_proxy: Option<Option<bool>>,
    /// Whether it fires. `true` starts a disabled one anew from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub enabled: Option<bool>,
    /// Unique within the tenant; `null`: none.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "set")]
    #[schemars(with = "Option<Label>")]
    pub name: Option<Option<String>>,
    /// `null`: none.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "set")]
    #[schemars(with = "Option<Description>")]
    pub description: Option<Option<String>>,
    /// Replaces the whole list; `null`: none.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "set")]
    #[schemars(with = "Option<Vec<String>>", length(max = 20), inner(length(min = 1, max = 50)), example = ["billing"])]
    pub tags: Option<Option<Vec<String>>>,
    /// `null`: not bounded.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "set")]
    #[schemars(with = "Option<InstantIn>")]
    pub start_at: Option<Option<String>>,
    /// `null`: not bounded.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "set")]
    #[schemars(with = "Option<InstantIn>", extend("examples" = ["2026-12-31T00:00:00Z"]))]
    pub end_at: Option<Option<String>>,
    /// In seconds, 0 to 3600; `null`: 0.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "set")]
    #[schemars(with = "Option<u32>", range(max = 3600), example = 300)]
    pub jitter_seconds: Option<Option<u32>>,
    /// `null`: `fire_once`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "set")]
    #[schemars(with = "Option<MisfirePolicy>")]
    pub misfire_policy: Option<Option<String>>,
    /// In seconds, 0 to 31,622,400; `null`: 86,400.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "set")]
    #[schemars(with = "Option<u32>", range(max = 31_622_400), example = 3600)]
    pub catchup_window_seconds: Option<Option<u32>>,
    /// `null`: `allow`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "set")]
    #[schemars(with = "Option<OverlapPolicy>")]
    pub overlap_policy: Option<Option<String>>,
    /// 1 to 1,000; `null`: never.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "set")]
    #[schemars(with = "Option<u32>", range(min = 1, max = 1000), example = 5)]
    pub max_consecutive_failures: Option<Option<u32>>,
}

/// The input of `schedules/list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListSchedules {
    /// Only those that fire, or only those that do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub enabled: Option<bool>,
    /// Only those of this workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "WorkflowName")]
    pub workflow: Option<String>,
    /// Only the one of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Label")]
    pub name: Option<String>,
    /// Only those with this tag; 1 to 50 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 50), example = &"billing")]
    pub tag: Option<String>,
    /// Only those whose params fit the workflow, or only those whose do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub params_valid: Option<bool>,
    /// How many, 1 to 200; default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 200), example = 50, extend("default" = 50))]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Cursor>")]
    pub cursor: Option<String>,
}

/// The input of `schedules/get`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetSchedule {
    /// The schedule.
    #[schemars(with = "Id")]
    pub id: String,
}

/// The input of `schedules/delete`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteSchedule {
    /// The schedule.
    #[schemars(with = "Id")]
    pub id: String,
}

/// A schedule, as every answer shows it. Unset values are `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Schedule {
    /// UUID.
    #[schemars(with = "Id")]
    pub id: String,
    /// The name of the workflow it runs.
    #[schemars(with = "WorkflowName")]
    pub workflow: String,
    /// Unique within the tenant.
    #[schemars(with = "Option<Label>")]
    pub name: Option<String>,
    /// For people.
    #[schemars(with = "Option<Description>")]
    pub description: Option<String>,
    /// For people and for filters.
    #[schemars(example = ["billing"])]
    pub tags: Vec<String>,
    /// The workflow's input.
    #[schemars(example = json!({"clinic": "north"}))]
    pub params: Map<String, Value>,
    /// The expression as it was written.
    #[schemars(with = "CronExpr")]
    pub cron_expr: String,
    /// The zone's canonical spelling.
    #[schemars(with = "Zone")]
    pub timezone: String,
    /// No fire before this instant; inclusive.
    #[schemars(with = "Option<Instant>")]
    pub start_at: Option<String>,
    /// No fire from this instant on; exclusive.
    #[schemars(with = "Option<Instant>")]
    pub end_at: Option<String>,
    /// How far a fire may be put off to spread the load, in seconds.
    #[schemars(range(max = 3600), example = 300)]
    pub jitter_seconds: u32,
    /// `fire_once`, `skip` or `fire_all`.
    #[schemars(with = "MisfirePolicy")]
    pub misfire_policy: String,
    /// How late a missed fire may be and still be made up for, in seconds.
    #[schemars(range(max = 31_622_400), example = 3600)]
    pub catchup_window_seconds: u32,
    /// `allow`, `skip`, `buffer_one` or `cancel_running`.
    #[schemars(with = "OverlapPolicy")]
    pub overlap_policy: String,
    /// So many failures in a row disable it; `null` never does.
    #[schemars(range(min = 1, max = 1000), example = 5)]
    pub max_consecutive_failures: Option<u32>,
    /// 1 to 3600.
    #[schemars(range(min = 1, max = 3600), example = 600)]
    pub timeout_seconds: u32,
    /// Overrides the workflow's own.
    #[schemars(with = "Option<StartUrl>")]
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
    #[schemars(with = "Option<CallbackUrl>")]
    pub callback_url: Option<String>,
    /// No callbacks at all.
    pub skip_callbacks: bool,
    /// Whether it fires.
    pub enabled: bool,
    /// `active`, `disabled`, `finished` (it never fires again), or `set_aside` (this version cannot read it).
    #[schemars(with = "ScheduleState")]
    pub state: String,
    /// Why it disabled itself; `null` where its owner did, or nobody has.
    #[schemars(example = &"5 failures in a row, the most it may have")]
    pub disabled_reason: Option<String>,
    /// The next fire, as the expression names it; of a disabled one, when it would fire were it enabled now.
    #[schemars(with = "Option<Instant>")]
    pub next_fire_at: Option<String>,
    /// When that fire is acted on: `next_fire_at` and its share of the spread.
    #[schemars(with = "Option<Instant>")]
    pub next_due_at: Option<String>,
    /// How many missed instants wait to be made up for.
    #[schemars(example = 0)]
    pub catching_up: u64,
    /// Why its params do not fit the workflow as it is deployed now.
    #[schemars(example = &"params.clinic: is required")]
    pub params_error: Option<String>,
    /// The scheduled instant of the newest fire.
    #[schemars(with = "Option<Instant>")]
    pub last_fire_at: Option<String>,
    /// The job the newest fire created.
    #[schemars(with = "Option<Id>")]
    pub last_job_id: Option<String>,
    /// The error of the newest finished run, or of the newest fire that could create no job; `null` after a success.
    #[schemars(example = &"TimeoutError: locator.click: Timeout 30000ms exceeded.")]
    pub last_error: Option<String>,
    /// Failures in a row.
    #[schemars(example = 0)]
    pub consecutive_failures: u64,
    /// When it was created.
    #[schemars(with = "Instant")]
    pub created_at: String,
    /// When it was last changed by its owner.
    #[schemars(with = "Instant")]
    pub updated_at: String,
}

/// The answer of `schedules/create`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleCreated {
    /// Always `true`.
    #[schemars(with = "Success")]
    pub success: bool,
    /// The new schedule.
    pub schedule: Schedule,
}

/// The answer of `schedules/get` and `schedules/update`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OneSchedule {
    /// The schedule as it now stands.
    pub schedule: Schedule,
}

/// The answer of `schedules/list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleList {
    /// Newest first.
    pub schedules: Vec<Schedule>,
    /// Where the next page starts; `null` on the last one.
    #[schemars(with = "Option<Cursor>")]
    pub next_cursor: Option<String>,
}

/// The answer of `schedules/delete`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeletedSchedule {
    /// Always `true`.
    #[schemars(with = "Success")]
    pub success: bool,
    /// The id that is no more.
    #[schemars(with = "Id")]
    pub id: String,
}
