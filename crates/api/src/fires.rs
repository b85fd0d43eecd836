//! The routes beside a schedule's own: what an expression means, a run now, the ledger, and making up for instants.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::shape::{CronExpr, Dst, FireOutcome, Id, Instant, InstantIn, JobStatus, Success, Zone};

/// The input of `schedules/preview`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PreviewSchedule {
    /// Five fields, or a nickname such as `@daily`.
    #[schemars(with = "CronExpr")]
    pub cron_expr: String,
    /// An IANA zone name; default `UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Zone", extend("default" = "UTC"))]
    pub timezone: Option<String>,
    /// How many fires, 1 to 100; default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 100), example = 5, extend("default" = 5))]
    pub count: Option<u32>,
    /// Fires later than this instant; default now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<InstantIn>")]
    pub after: Option<String>,
    /// No fire before this instant; inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<InstantIn>")]
    pub start_at: Option<String>,
    /// No fire from this instant on; exclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<InstantIn>", extend("examples" = ["2026-12-31T00:00:00Z"]))]
    pub end_at: Option<String>,
}

/// One fire that an expression names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PreviewedFire {
    /// When.
    #[schemars(with = "Instant")]
    pub at: String,
    /// By the clock on the wall, with the zone's offset.
    #[schemars(example = &"2026-05-17T03:15:00+02:00")]
    pub local: String,
    /// `gap` where the scheduled time did not exist, `overlap` where it comes twice.
    #[schemars(with = "Option<Dst>")]
    pub dst: Option<String>,
}

/// The answer of `schedules/preview`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SchedulePreview {
    /// The expression in plain English.
    #[schemars(example = &"every 5 minutes")]
    pub description: String,
    /// The zone's canonical spelling.
    #[schemars(with = "Zone")]
    pub timezone: String,
    /// In order; fewer than asked for where it does not fire as often.
    pub fires: Vec<PreviewedFire>,
    /// The version of the tz database it goes by.
    #[schemars(example = &"2026c")]
    pub tzdb_version: Option<String>,
}

/// The input of `schedules/trigger`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TriggerSchedule {
    /// The schedule.
    #[schemars(with = "Id")]
    pub id: String,
    /// In place of the schedule's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Map<String, Value>", example = json!({"clinic": "north"}))]
    pub params: Option<Map<String, Value>>,
}

/// The answer of `schedules/trigger`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TriggeredJob {
    /// Always `true`.
    #[schemars(with = "Success")]
    pub success: bool,
    /// The job that runs it.
    #[schemars(with = "Id")]
    pub job_id: String,
    /// `queued`.
    #[schemars(with = "JobStatus")]
    pub status: String,
}

/// The input of `schedules/history`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleHistory {
    /// The schedule.
    #[schemars(with = "Id")]
    pub id: String,
    /// How many rows, 1 to 200; default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 200), example = 50, extend("default" = 50))]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), example = &"1779066926670")]
    pub cursor: Option<String>,
}

/// A row of the ledger: what became of an instant, or of a range of instants that nobody fired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fire {
    /// The scheduled instant; of a range, the oldest.
    #[schemars(with = "Instant")]
    pub fire_at: String,
    /// When it was to be acted on: the instant and its share of the spread.
    #[schemars(with = "Instant")]
    pub due_at: String,
    /// When it was written down.
    #[schemars(with = "Instant")]
    pub fired_at: String,
    /// `fired`, `skipped_overlap`, `missed` or `rejected`.
    #[schemars(with = "FireOutcome")]
    pub outcome: String,
    /// The kind of reason.
    #[schemars(example = &"down")]
    pub reason: Option<String>,
    /// The job it created.
    #[schemars(with = "Option<Id>")]
    pub job_id: Option<String>,
    /// Where that job stands.
    #[schemars(with = "Option<JobStatus>")]
    pub job_status: Option<String>,
    /// How many instants a range stands for, or a fire makes up for.
    #[schemars(example = 0)]
    pub missed: u64,
    /// The newest instant of a range.
    #[schemars(with = "Option<Instant>")]
    pub missed_until: Option<String>,
    /// Why no job was created.
    #[schemars(example = &"no deployed workflow \"check-claims\"")]
    pub error: Option<String>,
}

/// The answer of `schedules/history`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FireList {
    /// Newest first.
    pub fires: Vec<Fire>,
    /// Where the next page starts; `null` on the last one.
    #[schemars(example = &"1779066926670")]
    pub next_cursor: Option<String>,
}

/// The input of `schedules/backfill`: runs the instants of a past range that have made no job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackfillSchedule {
    /// The schedule.
    #[schemars(with = "Id")]
    pub id: String,
    /// The first instant of the range; inclusive.
    #[schemars(with = "InstantIn")]
    pub from: String,
    /// The end of the range; exclusive, and not later than now.
    #[schemars(with = "InstantIn", extend("examples" = ["2026-05-18T00:00:00Z"]))]
    pub to: String,
}

/// The answer of `schedules/backfill`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Backfilled {
    /// Always `true`.
    #[schemars(with = "Success")]
    pub success: bool,
    /// A job for each instant that had none, oldest first.
    #[schemars(with = "Vec<Id>")]
    pub job_ids: Vec<String>,
    /// How many instants of the range had made a job before, and did not make another.
    #[schemars(example = 0)]
    pub already_fired: u64,
}
