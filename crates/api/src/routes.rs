//! What can be asked: every operation with its path, its types, its errors, and where it comes from.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    ApiKey, BackfillSchedule, Backfilled, BrowserProfile, CancelJob, ChangeTenantSettings, CliEvent,
    CliEventTaken, CreateApiKey, CreateCredential, CreateDeployment, CreateJob, CreateSchedule,
    CreateWebhook, CreatedApiKey, CreatedCredential, CreatedDeployment, CreatedJob, CreatedWebhook,
    CredentialList, CredentialValue, DeleteApiKey, DeleteCredential, DeleteSchedule, DeleteWebhook,
    DeleteWorkflow, DeletedApiKey, DeletedSchedule, DeliveryList, DeploymentList, Done, EnsureBrowserProfile,
    ErrorCode, FireList, GetCredential, GetJob, GetSchedule, GetWorkflow, Job, JobList, ListCredentials,
    ListDeliveries, ListDeployments, ListJobs, ListLogs, ListSchedules, ListWebhooks, ListWorkflows, LogList,
    OneSchedule, PreviewSchedule, Redeliver, RotateSecret, RotatedSecret, ScheduleCreated, ScheduleHistory,
    ScheduleList, SchedulePreview, SyncDeployment, SyncedDeployment, TenantSettings, TestWebhook,
    TestedWebhook, TriggerSchedule, TriggeredJob, UpdateCredential, UpdateSchedule, UpdateWebhook,
    UpsertCredential, UpsertedCredential, WebhookList, WorkflowDetail, WorkflowList,
};

/// An input that a route takes, and what the route answers.
pub trait Call: Serialize {
    /// What it answers.
    type Answer: DeserializeOwned;
    /// `<group>/<verb>`, below `/v1/`.
    const ROUTE: &'static str;
}

/// How a route stands to the public documentation of Libretto Cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// As it is documented there.
    Documented,
    /// As it is documented there, and with more fields, all optional.
    Extended,
    /// As the official client calls it, where the documentation is silent.
    Observed,
    /// The hosted service has nothing like it.
    Own,
}

impl Standing {
    /// One word for tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Documented => "documented",
            Self::Extended => "extended",
            Self::Observed => "observed",
            Self::Own => "own",
        }
    }
}

/// The shape of a request's body and of its answer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `POST`, both inside the envelope.
    Enveloped,
    /// `POST`, neither inside the envelope.
    Plain,
    /// `GET`, without a body; the answer has no envelope.
    Get,
}

/// A schema, made where it is asked for.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// One operation of the API.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// The whole path.
    pub path: &'static str,
    /// How its bodies are wrapped.
    pub form: Form,
    /// Whether it asks for a key.
    pub keyed: bool,
    /// A few words.
    pub summary: &'static str,
    /// What else there is to know.
    pub description: &'static str,
    /// How it stands to the hosted service's.
    pub standing: Standing,
    /// The errors it may answer with, besides those that every route may.
    pub errors: &'static [ErrorCode],
    /// The schema of its input; none where it has no body.
    pub input: Option<SchemaOf>,
    /// The schema of its answer.
    pub output: SchemaOf,
}

impl Operation {
    /// `<group>/<verb>` where the path is below `/v1/`.
    #[must_use]
    pub fn route(&self) -> Option<&'static str> {
        self.path.strip_prefix("/v1/")
    }
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

macro_rules! calls {
    ($($input:ident => $answer:ident, $route:literal, $standing:ident, [$($error:ident),*], $summary:literal, $description:literal;)+) => {
        $(impl Call for $input {
            type Answer = $answer;
            const ROUTE: &'static str = $route;
        })+

        const CALLS: &[Operation] = &[$(Operation {
            path: concat!("/v1/", $route),
            form: Form::Enveloped,
            keyed: true,
            summary: $summary,
            description: $description,
            standing: Standing::$standing,
            errors: &[$(ErrorCode::$error),*],
            input: Some(of::<$input>),
            output: of::<$answer>,
        }),+];
    };
}

calls! {
    CreateSchedule => ScheduleCreated, "schedules/create", Extended, [NotFound, Conflict, Forbidden],
        "Create a schedule", "On each fire of its expression one job of the workflow is created.";
    ListSchedules => ScheduleList, "schedules/list", Extended, [],
        "List schedules", "Newest first, in pages.";
    GetSchedule => OneSchedule, "schedules/get", Documented, [NotFound],
        "Show a schedule", "When it fires next, when it last fired, the last job, the last error and the failures in a row.";
    UpdateSchedule => OneSchedule, "schedules/update", Extended, [NotFound, Conflict],
        "Change a schedule", "What is absent stays as it is. A changed expression or zone, and a re-enable, start anew from now. The workflow cannot be changed.";
    DeleteSchedule => DeletedSchedule, "schedules/delete", Documented, [NotFound],
        "Delete a schedule", "Its jobs stay readable; what is queued or runs goes on.";
    PreviewSchedule => SchedulePreview, "schedules/preview", Own, [],
        "Read an expression", "In plain English, with its next fires and what clock changes do to them.";
    TriggerSchedule => TriggeredJob, "schedules/trigger", Own, [NotFound],
        "Run a schedule now", "It counts as no fire.";
    ScheduleHistory => FireList, "schedules/history", Own, [NotFound],
        "Show what became of each instant", "Newest first, in pages. A range of instants that nobody fired is one row.";
    BackfillSchedule => Backfilled, "schedules/backfill", Own, [NotFound, Conflict],
        "Run the past instants of a range", "Each instant that the schedule's expression names in the range and that has made no job makes one; at most 1,000. Asking again makes none twice.";
    CreateDeployment => CreatedDeployment, "deployments/create", Documented, [Forbidden],
        "Deploy a bundle", "It is built in the background: ask `deployments/sync` how that went. The body may be larger than those of other routes (100 MiB by default).";
    SyncDeployment => SyncedDeployment, "deployments/sync", Extended, [NotFound],
        "Show a deployment", "With the schedules whose params do not fit what it exports.";
    ListDeployments => DeploymentList, "deployments/list", Extended, [],
        "List deployments", "Newest first.";
    ListWorkflows => WorkflowList, "workflows/list", Documented, [],
        "List workflows", "By name, with the deployments that are being built.";
    GetWorkflow => WorkflowDetail, "workflows/get", Documented, [NotFound],
        "Show a workflow", "With the JSON Schemas of its input and its result, where its bundle carries them.";
    DeleteWorkflow => Done, "workflows/delete", Documented, [NotFound],
        "Delete a workflow", "Its schedules stay; their fires are rejected until a deployment exports the name again.";
    CreateJob => CreatedJob, "jobs/create", Documented, [NotFound, Conflict],
        "Run a workflow", "Put into the queue. With a nonce, the same request again answers with the first job and makes none.";
    ListJobs => JobList, "jobs/list", Extended, [],
        "List jobs", "Newest first, in pages.";
    GetJob => Job, "jobs/get", Extended, [NotFound],
        "Show a job", "`result` is absent until it has completed.";
    CancelJob => Done, "jobs/cancel", Documented, [NotFound, Conflict],
        "Cancel a job", "Ends its whole process tree; answers once it is gone. A finished job is a 409.";
    ListLogs => LogList, "logs/list", Documented, [],
        "List log lines", "In the order in which they were written, in pages.";
    CreateWebhook => CreatedWebhook, "webhooks/create", Extended, [Conflict],
        "Store a webhook", "Without a secret the server makes one and shows it this once.";
    ListWebhooks => WebhookList, "webhooks/list", Extended, [],
        "List webhooks", "Oldest first; never with their secrets.";
    UpdateWebhook => Done, "webhooks/update", Extended, [NotFound, Conflict],
        "Change a webhook", "What is absent stays as it is. What it is owed goes to its new URL; while it is not active, it waits.";
    DeleteWebhook => Done, "webhooks/delete", Documented, [NotFound],
        "Delete a webhook", "What it is owed is not sent any more.";
    RotateSecret => RotatedSecret, "webhooks/rotate", Own, [NotFound, Conflict],
        "Change a webhook's secret", "The one before it signs as well for a while, so that the receiver can follow.";
    TestWebhook => TestedWebhook, "webhooks/test", Own, [NotFound, Conflict],
        "Send a ping", "Signed like every callback, and sent once; `webhooks/deliveries` shows how it went.";
    ListDeliveries => DeliveryList, "webhooks/deliveries", Own, [],
        "List deliveries", "Newest first, in pages, each with its attempts, the newest 20 of them.";
    Redeliver => Done, "webhooks/redeliver", Own, [NotFound, Conflict],
        "Send a delivery again", "With the same `webhook-id` and the same body, now, and with all its attempts before it.";
    CreateCredential => CreatedCredential, "credentials/create", Documented, [Conflict],
        "Store a credential", "Encrypted at rest. A name that is there already is a 409.";
    UpsertCredential => UpsertedCredential, "credentials/upsert", Observed, [],
        "Store or replace a credential", "Encrypted at rest.";
    ListCredentials => CredentialList, "credentials/list", Documented, [],
        "List credentials", "By name; never with their values.";
    GetCredential => CredentialValue, "credentials/get", Documented, [NotFound],
        "Read a credential", "With its value in the clear.";
    UpdateCredential => Done, "credentials/update", Documented, [NotFound, Conflict],
        "Change a credential", "What is absent stays as it is.";
    DeleteCredential => Done, "credentials/delete", Documented, [NotFound, Conflict],
        "Delete a credential", "A 409 while queued or running jobs need it.";
    ChangeTenantSettings => TenantSettings, "tenant/settings", Documented, [],
        "Read and change the tenant's settings", "What is absent stays as it is.";
    EnsureBrowserProfile => BrowserProfile, "browserProfiles/ensure", Documented, [Conflict],
        "Make sure that a browser profile is there", "The same name always answers with the same profile.";
}

/// What is called in another way than the others.
const REST: &[Operation] = &[
    Operation {
        path: "/v1/telemetry/recordCliEvent",
        form: Form::Enveloped,
        keyed: false,
        summary: "Take what the official command line reports of itself",
        description: "Nothing of it is kept.",
        standing: Standing::Observed,
        errors: &[],
        input: Some(of::<CliEvent>),
        output: of::<CliEventTaken>,
    },
    Operation {
        path: "/api/auth/api-key/create",
        form: Form::Plain,
        keyed: true,
        summary: "Make an API key",
        description: "For the tenant of the key that asks. The new key is shown this once.",
        standing: Standing::Observed,
        errors: &[ErrorCode::Conflict],
        input: Some(of::<CreateApiKey>),
        output: of::<CreatedApiKey>,
    },
    Operation {
        path: "/api/auth/api-key/list",
        form: Form::Get,
        keyed: true,
        summary: "List the tenant's API keys",
        description: "Newest first; never the keys themselves.",
        standing: Standing::Observed,
        errors: &[],
        input: None,
        output: of::<Vec<ApiKey>>,
    },
    Operation {
        path: "/api/auth/api-key/delete",
        form: Form::Plain,
        keyed: true,
        summary: "Revoke an API key",
        description: "It opens nothing any more, on any node, within 5 seconds.",
        standing: Standing::Observed,
        errors: &[ErrorCode::NotFound],
        input: Some(of::<DeleteApiKey>),
        output: of::<DeletedApiKey>,
    },
];

/// Every operation that speaks JSON of a tenant's things, in the order in which documents list them.
pub fn operations() -> impl Iterator<Item = &'static Operation> {
    CALLS.iter().chain(REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_every_route_and_how_it_stands_to_the_hosted_service() {
        let page =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api.md")).unwrap();
        let mut count = 0;
        for operation in operations() {
            let method = if operation.form == Form::Get {
                "GET"
            } else {
                "POST"
            };
            let route = operation
                .route()
                .map_or_else(|| format!("{method} {}", operation.path), str::to_owned);
            let row = format!(
                "| `{route}` | {} | {} |\n",
                operation.summary,
                operation.standing.as_str()
            );
            assert!(page.contains(&row), "docs/api.md has no row {row}");
            count += 1;
        }
        let rows = page.matches("|\n| `").count();
        assert!(rows >= count, "{rows}");
    }
}
