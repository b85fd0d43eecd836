//! What the strings of the API must look like: types that stand for a `String` in the schemas, and are never made.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

macro_rules! shape {
    ($(#[doc = $doc:literal] $name:ident = $schema:tt;)+) => { $(
        #[doc = $doc]
        #[derive(Debug)]
        pub(crate) enum $name {}

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )+ };
}

shape! {
    #[doc = "A UUID in its hyphenated form, in either case; answers have it in lower case."]
    Id = {"type": "string", "format": "uuid", "examples": ["019e2a35-1f4e-7c11-9d0a-6b1f0b7a3c58"]};
    #[doc = "An instant as answers write it: RFC 3339 in UTC with milliseconds."]
    Instant = {
        "type": "string", "format": "date-time",
        "pattern": r"^-?\d{4,}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", "examples": ["2026-05-17T01:15:26.670Z"]
    };
    #[doc = "An instant as a request writes it: RFC 3339 with any offset."]
    InstantIn = {"type": "string", "format": "date-time", "examples": ["2026-05-17T01:15:26.670Z"]};
    #[doc = "A receiver of callbacks. No format of JSON Schema's: URLs are read as browsers read them."]
    CallbackUrl = {
        "type": "string", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://", "minLength": 1, "maxLength": 2048,
        "examples": ["https://hooks.example.com/impresario"]
    };
    #[doc = "The page a run begins on."]
    StartUrl = {
        "type": "string",
        "pattern": "^([Hh][Tt][Tt][Pp][Ss]?://|[Dd][Aa][Tt][Aa]:|[Aa][Bb][Oo][Uu][Tt]:)", "minLength": 1,
        "maxLength": 65536, "examples": ["https://portal.example.com/login"]
    };
    #[doc = "The name of a workflow."]
    WorkflowName = {"type": "string", "minLength": 1, "maxLength": 256, "examples": ["check-claims"]};
    #[doc = "A cron expression."]
    CronExpr = {"type": "string", "minLength": 1, "maxLength": 256, "examples": ["*/5 8-18 * * MON-FRI"]};
    #[doc = "A zone of the tz database."]
    Zone = {"type": "string", "minLength": 1, "examples": ["America/New_York"]};
    #[doc = "Where a list goes on."]
    Cursor = {
        "type": "string", "minLength": 1, "maxLength": 80,
        "examples": ["1779066926670_019e2a35-1f4e-7c11-9d0a-6b1f0b7a3c58"]
    };
    #[doc = "The name of a schedule or a tag."]
    Label = {"type": "string", "minLength": 1, "maxLength": 100, "examples": ["claims, every morning"]};
    #[doc = "What a schedule or an endpoint is for."]
    Description = {"type": "string", "maxLength": 1000, "examples": ["For the billing team"]};
    #[doc = "The name of a credential."]
    CredentialName = {
        "type": "string", "pattern": r"^[A-Za-z0-9_.\-]+$", "minLength": 1, "maxLength": 200,
        "examples": ["portal_password"]
    };
    #[doc = "The key of an HMAC."]
    SigningSecret = {"type": "string", "minLength": 1, "maxLength": 1024, "examples": ["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"]};
    #[doc = "What a schedule may do with an instant that nobody fired in time."]
    MisfirePolicy = {"type": "string", "enum": ["fire_once", "skip", "fire_all"], "examples": ["fire_once"]};
    #[doc = "What a schedule does while an earlier run of its own is not finished."]
    OverlapPolicy = {
        "type": "string", "enum": ["allow", "skip", "buffer_one", "cancel_running"], "examples": ["skip"]
    };
    #[doc = "Where a schedule stands."]
    ScheduleState = {
        "type": "string", "enum": ["active", "disabled", "finished", "set_aside"], "examples": ["active"]
    };
    #[doc = "Where a job stands; the last three are for good."]
    JobStatus = {
        "type": "string",
        "enum": ["queued", "starting_browser", "running", "completed", "failed", "cancelled"], "examples": ["completed"]
    };
    #[doc = "Whose fault a failure is."]
    FailureClass = {
        "type": "string",
        "enum": [
            "workflow", "invalid_input", "timeout", "process_exit", "browser", "configuration", "credential",
            "result_too_large", "bundle", "protocol", "runner", "worker_lost", "restored", "internal"
        ],
        "examples": ["timeout"]
    };
    #[doc = "Where a deployment stands."]
    DeploymentStatus = {"type": "string", "enum": ["building", "ready", "failed"], "examples": ["ready"]};
    #[doc = "How much a line of the log matters."]
    LogLevel = {"type": "string", "enum": ["info", "warn", "error"], "examples": ["info"]};
    #[doc = "What became of an instant."]
    FireOutcome = {
        "type": "string", "enum": ["fired", "skipped_overlap", "missed", "rejected"], "examples": ["fired"]
    };
    #[doc = "What an endpoint may hear of."]
    Event = {
        "type": "string",
        "enum": [
            "job.completed", "job.failed", "schedule.missed", "schedule.skipped", "schedule.disabled",
            "schedule.recovered"
        ],
        "examples": ["job.failed"]
    };
    #[doc = "What a delivery may tell."]
    DeliveredEvent = {
        "type": "string",
        "enum": [
            "job.completed", "job.failed", "schedule.missed", "schedule.skipped", "schedule.disabled",
            "schedule.recovered", "ping"
        ],
        "examples": ["job.failed"]
    };
    #[doc = "What a ping tells."]
    PingEvent = {"type": "string", "const": "ping", "examples": ["ping"]};
    #[doc = "Where a delivery stands."]
    DeliveryStatus = {"type": "string", "enum": ["pending", "delivered", "failed"], "examples": ["delivered"]};
    #[doc = "What a clock change does to a fire."]
    Dst = {"type": "string", "enum": ["gap", "overlap"], "examples": ["gap"]};
    #[doc = "An answer's `success`."]
    Success = {"type": "boolean", "const": true, "examples": [true]};
    #[doc = "A sentence for people."]
    Message = {"type": "string", "examples": ["job queued"]};
}
