//! `deployments` and `workflows`: what is deployed, as the server tells it.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use impresario_api::{
    DeleteWorkflow, Deployment, DeploymentList, Done, GetWorkflow, ListDeployments, ListWorkflows,
    SyncDeployment, SyncedDeployment, WorkflowDetail, WorkflowList,
};
use serde_json::Value;

use super::{
    output::{Cell, OutputFlags, Sheet, Table, confirm, printable, printable_lines, remark},
    remote::{self, ServerFlags},
    when::Reader,
};
use crate::clock::{Clock as _, SystemClock};

/// How many names a sentence has.
const NAMED: usize = 5;

#[derive(Debug, Subcommand)]
pub(super) enum DeploymentsCommand {
    /// List deployments, newest first
    #[command(after_help = "Example:\n  impresario deployments list --limit 10")]
    List {
        #[command(flatten)]
        server: ServerFlags,
        /// How many, 1 to 200 [default: 50]
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
        #[command(flatten)]
        output: OutputFlags,
    },
    /// Show a deployment: how its build went, and the schedules whose params do not fit it
    #[command(after_help = "Example:\n  impresario deployments get 019e2a35-1f4e-7c11-9d0a-6b1f0b7a3c58")]
    Get {
        /// Its id
        id: String,
        #[command(flatten)]
        server: ServerFlags,
        #[command(flatten)]
        output: OutputFlags,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum WorkflowsCommand {
    /// List the workflows that are deployed, by name
    #[command(after_help = "Example:\n  impresario workflows list")]
    List {
        #[command(flatten)]
        server: ServerFlags,
        #[command(flatten)]
        output: OutputFlags,
    },
    /// Show a workflow, with the JSON Schemas of its input and its result
    #[command(after_help = "Examples:\n  impresario workflows get claims\n  \
                            impresario workflows get claims --json | jq .input_schema")]
    Get {
        #[command(flatten)]
        what: Named,
        #[command(flatten)]
        output: OutputFlags,
    },
    /// Delete a workflow; its schedules stay, and their fires are rejected until a deployment exports the name again
    #[command(after_help = "Example:\n  impresario workflows delete claims --yes")]
    Delete {
        #[command(flatten)]
        what: Named,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        output: OutputFlags,
    },
}

#[derive(Debug, Args)]
pub(super) struct Named {
    /// Its name
    name: String,
    #[command(flatten)]
    server: ServerFlags,
}

pub(super) async fn deployments(command: DeploymentsCommand) -> anyhow::Result<()> {
    match command {
        DeploymentsCommand::List {
            server,
            limit,
            output,
        } => {
            let client = remote::client(&server)?;
            remote::show(&client, &ListDeployments { limit }, output, |list| table(&list)).await
        }
        DeploymentsCommand::Get { id, server, output } => {
            let client = remote::client(&server)?;
            remote::show(&client, &SyncDeployment { id }, output, |found| {
                sheet(&found, &reader())
            })
            .await
        }
    }
}

pub(super) async fn workflows(command: WorkflowsCommand) -> anyhow::Result<()> {
    match command {
        WorkflowsCommand::List { server, output } => {
            let client = remote::client(&server)?;
            remote::show(&client, &ListWorkflows {}, output, |list| workflow_table(&list)).await
        }
        WorkflowsCommand::Get { what, output } => {
            let client = remote::client(&what.server)?;
            let question = GetWorkflow { workflow: what.name };
            remote::show(&client, &question, output, |found| {
                workflow_sheet(&found, &reader())
            })
            .await
        }
        WorkflowsCommand::Delete { what, yes, output } => {
            let client = remote::client(&what.server)?;
            confirm(
                &format!("Delete the workflow \"{}\"?", printable(&what.name)),
                yes,
            )?;
            let question = DeleteWorkflow { workflow: what.name };
            remote::show(&client, &question, output, |done: Done| printable(&done.message)).await
        }
    }
}

/// Somebody at this machine, now.
pub(super) fn reader() -> Reader {
    Reader::here(SystemClock.now())
}

fn table(list: &DeploymentList) -> String {
    let reader = reader();
    let mut table = Table::new(&["ID", "STATUS", "CREATED", "WORKFLOWS", "DESCRIPTION"]);
    for one in &list.deployments {
        table.row([
            Cell::new(&one.id),
            Cell::status(&one.status),
            Cell::new(reader.away(Some(&one.created_at))),
            Cell::optional(one.workflows.as_ref().map(|workflows| workflows.join(", "))),
            Cell::optional(one.description.as_ref()),
        ]);
    }
    table.for_stdout()
}

fn sheet(found: &SyncedDeployment, reader: &Reader) -> String {
    let one: &Deployment = &found.deployment;
    let mut sheet = Sheet::default();
    sheet.line("id", &one.id);
    sheet.line("status", Cell::status(&one.status));
    sheet.maybe("description", one.description.as_ref());
    sheet.line("entry point", &one.entry_point);
    sheet.maybe("bundle", one.source_path.as_ref());
    sheet.line("created", reader.full(Some(&one.created_at)));
    if one.built_at.is_some() {
        sheet.line("built", reader.full(one.built_at.as_deref()));
    }
    for workflow in one.workflows.iter().flatten() {
        sheet.line("workflow", workflow);
    }
    let mut text = sheet.for_stdout();
    if let Some(error) = &one.build_error {
        let _ = write!(text, "\nThe build failed:\n{}\n", printable_lines(error));
    }
    if let Some(warning) = unfit(found) {
        let _ = write!(text, "\n{warning}\n");
    }
    text
}

/// The schedules whose params do not fit, in lines.
pub(super) fn unfit(found: &SyncedDeployment) -> Option<String> {
    let named = found.schedules_with_invalid_params.as_deref().unwrap_or_default();
    let total = found.deployment.schedules_with_invalid_params_total.unwrap_or(0);
    if total == 0 {
        return None;
    }
    let schedules = if total == 1 {
        "schedule has"
    } else {
        "schedules have"
    };
    let mut text = format!("{total} {schedules} params that do not fit, and every fire is rejected:");
    for one in named {
        let (name, workflow) = (one.name.as_deref().unwrap_or(&one.id), &one.workflow);
        let line = format!("{name} ({}), workflow {workflow}: {}", one.id, one.error);
        let _ = write!(text, "\n  {}", printable(&line));
    }
    let more = total.saturating_sub(named.len() as u64);
    if more > 0 {
        let _ = write!(text, "\n  and {more} more");
    }
    Some(text)
}

fn workflow_table(list: &WorkflowList) -> String {
    let reader = reader();
    let mut table = Table::new(&["NAME", "STATUS", "DEPLOYMENT", "UPDATED"]);
    for one in &list.deployed_workflows {
        table.row([
            Cell::new(&one.name),
            Cell::status(&one.deployment_status),
            Cell::new(&one.deployment_id),
            Cell::new(reader.away(Some(&one.updated_at))),
        ]);
    }
    if !list.in_progress_builds.is_empty() {
        let ids: Vec<String> = list.in_progress_builds.iter().map(|one| one.id.clone()).collect();
        remark(&format!("being built: {}", names(&ids)));
    }
    table.for_stdout()
}

fn workflow_sheet(found: &WorkflowDetail, reader: &Reader) -> String {
    let mut sheet = Sheet::default();
    sheet.line("name", &found.workflow);
    sheet.line("deployment", &found.deployment_id);
    sheet.line("status", Cell::status(&found.deployment_status));
    sheet.line("deployed", reader.full(Some(&found.deployment_created_at)));
    if found.deployment_built_at.is_some() {
        sheet.line("built", reader.full(found.deployment_built_at.as_deref()));
    }
    sheet.line("first deployed", reader.full(Some(&found.created_at)));
    let mut text = sheet.for_stdout();
    for (name, schema) in [("input", &found.input_schema), ("result", &found.output_schema)] {
        match schema {
            Some(schema) => {
                let _ = write!(text, "\nJSON Schema of the {name}:\n{}\n", pretty(schema));
            }
            None => {
                let _ = write!(text, "\nThe bundle says nothing of the {name}.\n");
            }
        }
    }
    text
}

fn pretty(value: &Value) -> String {
    printable_lines(&format!("{value:#}"))
}

/// The first few of some names, for a sentence.
pub(super) fn names(all: &[String]) -> String {
    let mut shown: Vec<String> = all.iter().take(NAMED).map(|name| printable(name)).collect();
    if all.len() > NAMED {
        shown.push(format!("and {} more", all.len() - NAMED));
    }
    shown.join(", ")
}
