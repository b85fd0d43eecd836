//! `schedules export|plan|apply`: schedules as code. A client of the HTTP API, as anybody could write one.
//!
//! ```text
//! file ─► yaml ─► file ─┐
//!                       ├─► plan ─► show ─► apply ─► server
//! server ───────────────┘
//! ```

mod apply;
mod export;
mod fields;
mod file;
mod plan;
mod show;
mod yaml;

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use impresario_api::{
    ErrorCode,
    client::{CallError, Client},
};
use serde_json::{Value, json};

use self::{
    file::File,
    plan::{Found, Options, Plan},
    yaml::Problem,
};
use super::{
    output::{self, print, printable, remark},
    remote::{self, ServerFlags},
    say,
};
use crate::config;

/// The largest file that is read.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;
/// How many schedules one page has: the most that the server gives.
const PAGE: u32 = 200;
/// What `plan` ends with where there is something to do.
const DIFFERENCES: u8 = 2;

#[derive(Debug, Subcommand)]
pub(super) enum SchedulesCommand {
    /// Write a file of all schedules that have a name
    #[command(after_help = "Example:\n  impresario schedules export --output schedules.yaml")]
    Export {
        #[command(flatten)]
        server: ServerFlags,
        /// The file to write, which must not be there yet [default: stdout]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Show what `apply` would do; ends with 0 where that is nothing, 2 where it is something, 1 on errors
    #[command(after_help = "Example:\n  impresario schedules plan schedules.yaml --prune")]
    Plan {
        #[command(flatten)]
        what: What,
        /// Show it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the server's schedules what a file says, after showing the difference
    #[command(after_help = "Example:\n  impresario schedules apply schedules.yaml\n\n\
                      A file:\n  version: 1\n  schedules:\n    - name: nightly-claims\n      workflow: claims\n      \
                      cron_expr: \"0 2 * * *\"\n      timezone: America/New_York\n      params: {payer: acme}\n\n\
                      Every field of schedules/create may stand there; one that does not has its default.\n\
                      enabled and callback_secret are left as they are unless the file has them.")]
    Apply {
        #[command(flatten)]
        what: What,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct What {
    /// The YAML file with the schedules
    file: PathBuf,
    #[command(flatten)]
    server: ServerFlags,
    /// Delete the schedules that have a name which the file does not have
    #[arg(long)]
    prune: bool,
    /// Send every callback_secret of the file again; otherwise one is sent only with a new callback_url
    #[arg(long)]
    set_secrets: bool,
}

pub(super) async fn run(command: SchedulesCommand) -> anyhow::Result<ExitCode> {
    match command {
        SchedulesCommand::Export { server, output } => {
            let found = list(&remote::client(&server)?).await?;
            export_to(&found, output.as_deref())?;
            Ok(ExitCode::SUCCESS)
        }
        SchedulesCommand::Plan { what, json } => {
            let (_, plan) = compare(&what).await?;
            if json {
                say(&format!("{:#}", show::json(&plan)))?;
            } else {
                print(&show::text(&plan))?;
            }
            solvable(&what.file, &plan)?;
            Ok(if plan.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(DIFFERENCES)
            })
        }
        SchedulesCommand::Apply { what, yes } => {
            let (client, plan) = compare(&what).await?;
            print(&show::text(&plan))?;
            solvable(&what.file, &plan)?;
            if plan.is_empty() {
                return Ok(ExitCode::SUCCESS);
            }
            let steps = apply::steps(&plan, config::variable)?;
            output::confirm("Apply this?", yes)?;
            let report = |line: &str| {
                // What was begun goes on, also where nobody reads of it any more.
                let _closed = say(line);
            };
            apply::carry_out(&client, steps, report).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The file and the server, side by side.
async fn compare(what: &What) -> anyhow::Result<(Client, Plan)> {
    // The file first: what is wrong with it shows without a server.
    let file = read_file(&what.file)?;
    let client = remote::client(&what.server)?;
    let found = list(&client).await?;
    let options = Options {
        prune: what.prune,
        set_secrets: what.set_secrets,
    };
    let mut plan = plan::plan(&file.wanted, &found, options);
    ask_ahead(&client, &mut plan).await?;
    Ok((client, plan))
}

fn read_file(path: &Path) -> anyhow::Result<File> {
    let shown = path.display();
    let opened = std::fs::File::open(path).with_context(|| format!("{shown} cannot be read"))?;
    let mut bytes = Vec::new();
    opened
        .take(LARGEST_FILE + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("{shown} cannot be read"))?;
    if bytes.len() as u64 > LARGEST_FILE {
        bail!("{shown} is larger than 4 MiB");
    }
    let text = String::from_utf8(bytes)
        .ok()
        .with_context(|| format!("{shown} is not UTF-8"))?;
    let file = file::read(&text).map_err(|problems| anyhow::Error::msg(all_of(path, &problems)))?;
    for warning in &file.warnings {
        remark(&format!("warning: {shown}: {warning}"));
    }
    Ok(file)
}

fn all_of(path: &Path, problems: &[Problem]) -> String {
    let lines = problems.iter().map(|problem| printable(&problem.to_string()));
    match lines.collect::<Vec<_>>().as_slice() {
        [only] => format!("{}: {only}", path.display()),
        lines => format!("{}:\n  {}", path.display(), lines.join("\n  ")),
    }
}

fn solvable(path: &Path, plan: &Plan) -> anyhow::Result<()> {
    if plan.problems.is_empty() {
        return Ok(());
    }
    bail!(
        "this cannot be applied, and nothing was changed: {}",
        all_of(path, &plan.problems)
    );
}

/// All schedules of the tenant.
async fn list(client: &Client) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut input = json!({"limit": PAGE});
    loop {
        let mut answer = remote::ask_any(client, "schedules/list", &input).await?;
        let page = answer["schedules"]
            .as_array()
            .context("the server's list has no schedules")?;
        for schedule in page {
            found.push(
                Found::of(schedule)
                    .context("the server's list has a schedule that this program cannot read")?,
            );
        }
        match answer["next_cursor"].take() {
            Value::Null => return Ok(found),
            cursor => input["cursor"] = cursor,
        }
    }
}

/// Asks the server about the workflows, expressions and zones of the plan, so that what is wrong with them shows before
/// anything is applied.
async fn ask_ahead(client: &Client, plan: &mut Plan) -> anyhow::Result<()> {
    let mut unknown: HashMap<&str, Option<String>> = HashMap::new();
    let mut problems = Vec::new();
    for question in &plan.questions {
        let mut refused = Vec::new();
        if let Some(workflow) = question.workflow.as_deref() {
            let known = match unknown.get(workflow) {
                Some(known) => known.clone(),
                None => objection(client, "workflows/get", json!({"workflow": workflow})).await?,
            };
            refused.extend(known.clone());
            unknown.insert(workflow, known);
        }
        let timing = json!({"cron_expr": question.cron_expr, "timezone": question.timezone, "count": 1});
        refused.extend(objection(client, "schedules/preview", timing).await?);
        let problem = |text| Problem::new(question.line, format!("the schedule {:?}: {text}", question.name));
        problems.extend(refused.into_iter().map(problem));
    }
    plan.problems.append(&mut problems);
    plan.problems.sort();
    Ok(())
}

/// What the server has against an input, where it is the input that is wrong.
async fn objection(client: &Client, route: &str, input: Value) -> anyhow::Result<Option<String>> {
    match client.send(route, &input).await {
        Ok(_) => Ok(None),
        Err(CallError::Refused { body, .. })
            if matches!(body.code, ErrorCode::BadRequest | ErrorCode::NotFound) =>
        {
            Ok(Some(body.message))
        }
        Err(error) => Err(error.into()),
    }
}

fn export_to(found: &[Found], output: Option<&Path>) -> anyhow::Result<()> {
    let export::Export { text, remarks } = export::export(found);
    match output {
        None => print(&text)?,
        Some(path) => {
            let shown = path.display();
            // A file that somebody keeps by hand has remarks in it, and secrets that this one has not.
            let mut file = std::fs::File::create_new(path).with_context(|| match path.exists() {
                true => format!("{shown} is there already, and is not written over"),
                false => format!("{shown} cannot be written"),
            })?;
            file.write_all(text.as_bytes())
                .with_context(|| format!("{shown} cannot be written"))?;
        }
    }
    for line in remarks {
        remark(&line);
    }
    Ok(())
}
