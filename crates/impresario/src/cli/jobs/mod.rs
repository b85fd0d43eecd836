//! `jobs …`: runs of workflows. A client of the HTTP API.

mod logs;
mod show;
mod watch;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use impresario_api::{CancelJob, CreateJob, GetJob, ListJobs, client::Client};
use serde_json::{Map, Value};

use self::logs::Level;
pub(super) use self::watch::watch;
use super::{
    input::{LaunchFlags, ParamFlags, Seconds, put},
    output::{OutputFlags, print_json, remark},
    remote::{self, PageFlags, Paging, ServerFlags},
    say,
    schedules::find,
    when::Reader,
};
use crate::clock::{Clock as _, SystemClock};

const PAGING: Paging = Paging::of("jobs", 100);

#[derive(Debug, Subcommand)]
pub(super) enum JobsCommand {
    /// List jobs, newest first
    #[command(after_help = "Examples:\n  impresario jobs list --status failed\n  \
                      impresario jobs list --schedule nightly-claims --limit 5")]
    List(ListFlags),
    /// Show a job: where it stands, what it returned, why it failed
    #[command(after_help = "Example:\n  impresario jobs get 019e2a35-1f4e-7c11-9d0a-6b1f0b7a3c58 --json")]
    Get {
        #[command(flatten)]
        job: OneJob,
        #[command(flatten)]
        output: OutputFlags,
    },
    /// Show what a job wrote
    #[command(
        after_help = "Example:\n  impresario jobs logs 019e2a35-1f4e-7c11-9d0a-6b1f0b7a3c58 --follow\n\n\
                      With --follow, --json prints each line as a document of its own, as it comes."
    )]
    Logs {
        #[command(flatten)]
        job: OneJob,
        /// Only the lines of this level
        #[arg(long, value_enum)]
        level: Option<Level>,
        /// Go on until the job has ended
        #[arg(long, short)]
        follow: bool,
        #[command(flatten)]
        output: OutputFlags,
    },
    /// Cancel a job: end its processes, browser included, or take it off the queue
    #[command(after_help = "Example:\n  impresario jobs cancel 019e2a35-1f4e-7c11-9d0a-6b1f0b7a3c58")]
    Cancel {
        #[command(flatten)]
        job: OneJob,
        #[command(flatten)]
        output: OutputFlags,
    },
    /// Watch a job to its end; prints its result. Ends with 5 where it failed, 6 where it was cancelled
    #[command(
        after_help = "Example:\n  impresario jobs watch 019e2a35-1f4e-7c11-9d0a-6b1f0b7a3c58 --timeout 10m"
    )]
    Watch {
        #[command(flatten)]
        job: OneJob,
        /// Watch no longer than this, such as 90s or 10m; the job goes on
        #[arg(long, value_name = "LENGTH")]
        timeout: Option<Seconds>,
        #[command(flatten)]
        output: OutputFlags,
    },
    /// Run a workflow now; prints the job's id, and with --watch its result
    #[command(
        after_help = "Examples:\n  impresario jobs run check-claims --param clinic=north --watch\n  \
                      impresario jobs run check-claims --params @params.json --nonce claims-2026-05-17"
    )]
    Run(Box<RunFlags>),
}

#[derive(Debug, Args)]
pub(super) struct OneJob {
    /// The job
    id: String,
    #[command(flatten)]
    server: ServerFlags,
}

#[derive(Debug, Args)]
pub(super) struct ListFlags {
    #[command(flatten)]
    server: ServerFlags,
    /// Only those that stand here: queued, starting_browser, running, completed, failed or cancelled
    #[arg(long)]
    status: Option<String>,
    /// Only those of this schedule's fires
    #[arg(long, value_name = "NAME|ID")]
    schedule: Option<String>,
    /// Only those of this workflow
    #[arg(long)]
    workflow: Option<String>,
    #[command(flatten)]
    page: PageFlags,
    #[command(flatten)]
    output: OutputFlags,
}

#[derive(Debug, Args)]
pub(super) struct RunFlags {
    /// The workflow
    workflow: String,
    #[command(flatten)]
    server: ServerFlags,
    #[command(flatten)]
    params: ParamFlags,
    /// The same nonce again answers with the first job and runs nothing
    #[arg(long)]
    nonce: Option<String>,
    /// Whether the browser has no window
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    headless: Option<bool>,
    /// A credential that the run gets besides those that its workflow declares
    #[arg(long, value_name = "ID")]
    credential_id: Option<String>,
    #[command(flatten)]
    launch: LaunchFlags,
    /// Watch it to its end
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    output: OutputFlags,
}

pub(super) async fn run(command: JobsCommand) -> anyhow::Result<ExitCode> {
    match command {
        JobsCommand::List(flags) => list(flags).await?,
        JobsCommand::Get { job, output } => {
            let client = remote::client(&job.server)?;
            let reader = Reader::here(SystemClock.now());
            let call = GetJob { id: job.id };
            remote::show(&client, &call, output, |job| show::sheet(&job, &reader)).await?;
        }
        JobsCommand::Logs {
            job,
            level,
            follow,
            output,
        } => logs::logs(&remote::client(&job.server)?, &job.id, level, follow, output).await?,
        JobsCommand::Cancel { job, output } => {
            let client = remote::client(&job.server)?;
            let answer = remote::ask_raw(&client, &CancelJob { id: job.id }).await?;
            remote::done(&answer, output)?;
        }
        JobsCommand::Watch { job, timeout, output } => {
            return watch(&remote::client(&job.server)?, &job.id, timeout, output).await;
        }
        JobsCommand::Run(flags) => return start(*flags).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(flags: ListFlags) -> anyhow::Result<()> {
    let client = remote::client(&flags.server)?;
    let schedule_id = match &flags.schedule {
        Some(schedule) => Some(find::id(&client, schedule).await?),
        None => None,
    };
    let call = ListJobs {
        status: flags.status,
        schedule_id,
        workflow: flags.workflow,
        ..ListJobs::default()
    };
    let answer = remote::pages(&client, &call, PAGING, flags.page).await?;
    let reader = Reader::here(SystemClock.now());
    remote::show_value(answer, flags.output, |list| show::table(&list, &reader))
}

async fn start(flags: RunFlags) -> anyhow::Result<ExitCode> {
    let client = remote::client(&flags.server)?;
    let mut fields = Map::new();
    put(&mut fields, "workflow", Some(flags.workflow));
    put(&mut fields, "params", flags.params.read(None)?);
    put(&mut fields, "nonce", flags.nonce);
    put(&mut fields, "headless", flags.headless);
    put(&mut fields, "credential_id", flags.credential_id);
    flags.launch.add_to(&mut fields)?;
    let call: CreateJob = serde_json::from_value(fields.into())?;
    let answer = remote::ask_raw(&client, &call).await?;
    started(&client, &answer, flags.watch, flags.output).await
}

/// Goes on with a job that was just put into the queue: watches it, or says which it is.
pub(super) async fn started(
    client: &Client,
    answer: &Value,
    to_the_end: bool,
    output: OutputFlags,
) -> anyhow::Result<ExitCode> {
    let job = answer["job_id"].as_str().unwrap_or_default();
    if to_the_end {
        return watch(client, job, None, output).await;
    }
    if output.json {
        print_json(answer)?;
    } else {
        let status = answer["status"].as_str().unwrap_or_default();
        remark(&format!(
            "the job is {status}; `impresario jobs watch {job}` shows how it goes"
        ));
        say(job)?;
    }
    Ok(ExitCode::SUCCESS)
}
