//! The command line: what was typed, and which part of the program does it.

pub(crate) mod admin;
pub(crate) mod api_key;
mod backup;
mod completions;
mod copy;
mod credentials;
mod database;
mod deploy;
mod deployments;
mod input;
mod jobs;
mod output;
mod remote;
mod schedules;
mod secrets;
mod telemetry;
mod webhooks;
mod when;

use std::{io::Write, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{
    config::{self, Flags, ServeFlags, Settings},
    serve::{self, Server},
};

/// The open, self-hosted scheduler for browser workflows.
#[derive(Debug, Parser)]
#[command(name = "impresario", version, about, propagate_version = true, after_help = remote::EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API, fire schedules, run jobs and deliver callbacks
    Serve(Box<ServeFlags>),
    /// Show the whole thing at work in one process: a tenant, a workflow, a schedule, a run, a signed callback
    Quickstart(Box<crate::quickstart::Options>),
    /// Make the tables of a database on PostgreSQL, or bring them to what this version needs
    Migrate,
    /// Make and list tenants, and say how much each may have
    #[command(subcommand)]
    Tenant(admin::TenantCommand),
    /// Make, list and revoke API keys
    #[command(subcommand)]
    ApiKey(api_key::ApiKeyCommand),
    /// Copy the embedded database to a file, also while a server runs on it
    Backup(backup::BackupOptions),
    /// Say that this database was put back from an older backup: what came due since is written down as missed, and does
    /// not fire again
    Restored(backup::RestoredOptions),
    /// Copy everything from the embedded database to one on PostgreSQL, or back, and go on there
    Copy(copy::CopyOptions),
    /// Which keys secrets are sealed under, and how to change them
    #[command(subcommand)]
    Secrets(secrets::SecretsCommand),
    /// Make, change, run and keep schedules on a server, also as code in a file
    #[command(subcommand)]
    Schedules(schedules::SchedulesCommand),
    /// Run workflows on a server, and see what became of them
    #[command(subcommand)]
    Jobs(jobs::JobsCommand),
    /// Pack a directory, deploy it and wait for its build
    #[command(after_help = deploy::EXAMPLES)]
    Deploy(Box<deploy::DeployOptions>),
    /// List and show deployments
    #[command(subcommand)]
    Deployments(deployments::DeploymentsCommand),
    /// List, show and delete workflows
    #[command(subcommand)]
    Workflows(deployments::WorkflowsCommand),
    /// Webhooks: who hears of the ends of jobs, and what was sent
    #[command(subcommand)]
    Webhooks(webhooks::WebhooksCommand),
    /// Credentials: what workflows are given by name
    #[command(subcommand)]
    Credentials(credentials::CredentialsCommand),
    /// Write what a shell needs to complete these commands
    #[command(after_help = completions::INSTALL)]
    Completions(completions::CompletionsOptions),
    /// Write the OpenAPI document of the HTTP API, as a server has it at /openapi.json
    #[command(after_help = "Example:\n  impresario openapi > openapi.json")]
    Openapi,
}

/// Runs what was typed. What it answers goes to stdout, everything else to stderr.
pub async fn run(cli: Cli) -> ExitCode {
    if let Some(line) = config::unknown_variables() {
        // Before and beside the log, whose level somebody may have set too high to see it.
        let _closed = writeln!(std::io::stderr(), "impresario: warning: {line}");
    }
    let outcome = match cli.command {
        Command::Serve(serve_flags) => done(serve_command(&cli.flags, &serve_flags).await),
        Command::Quickstart(options) => {
            telemetry::init("warn");
            done(crate::quickstart::run(&cli.flags, *options).await)
        }
        Command::Migrate => done(database::migrate(&cli.flags).await),
        Command::Tenant(command) => done(admin::tenant(&cli.flags, command).await),
        Command::ApiKey(command) => done(api_key::api_key(&cli.flags, command).await),
        Command::Backup(options) => done(backup::backup(&cli.flags, options).await),
        Command::Restored(options) => done(backup::restored(&cli.flags, options).await),
        Command::Copy(options) => done(copy::copy(&cli.flags, options).await),
        Command::Secrets(command) => done(secrets::secrets(&cli.flags, command).await),
        Command::Schedules(command) => schedules::run(command).await,
        Command::Jobs(command) => jobs::run(command).await,
        Command::Deploy(options) => deploy::run(*options).await,
        Command::Deployments(command) => done(deployments::deployments(command).await),
        Command::Workflows(command) => done(deployments::workflows(command).await),
        Command::Webhooks(command) => done(webhooks::run(command).await),
        Command::Credentials(command) => done(credentials::run(command).await),
        Command::Completions(options) => done(completions::completions(&options)),
        Command::Openapi => done(completions::openapi()),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            if !output::nobody_reads(&error) {
                output::remark(&remote::sentences(&error));
            }
            remote::code(&error)
        }
    }
}

/// What a command line that cannot be read ends with. `schedules plan` says with 2 that there is something to do, so that
/// it says 1 here.
#[must_use]
pub fn usage_code(args: &[String]) -> u8 {
    let mut words = args.iter().skip(1).filter(|arg| !arg.starts_with('-'));
    let plan =
        words.by_ref().any(|word| word == "schedules") && words.next().is_some_and(|word| word == "plan");
    if plan { 1 } else { remote::USAGE }
}

fn done(outcome: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn serve_command(flags: &Flags, serve_flags: &ServeFlags) -> anyhow::Result<()> {
    telemetry::init("info");
    let settings = Settings::load(flags, Some(serve_flags)).map_err(anyhow::Error::msg)?;
    serve::serve(settings, |server: &Server| {
        // The one line on stdout: whoever started the server waits for it.
        let _closed = say(&format!("listening on {}", server.url()));
    })
    .await
}

/// Writes a line to stdout, at once.
///
/// # Errors
/// Where nobody reads it any more.
pub fn say(line: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}
