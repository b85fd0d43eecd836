//! `deploy`: from a directory to a deployment.
//!
//! ```text
//! directory ─► package (what is loaded) ─► walk (which files) ─► pack (gzip tar) ─► server ─► wait for its build
//! ```

mod pack;
mod package;
mod progress;
mod walk;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::bail;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use impresario_api::{
    CreateDeployment, CreatedDeployment, ErrorCode, SyncDeployment, SyncedDeployment,
    client::{CallError, Client},
};
use serde_json::Value;

use self::{progress::Step, walk::size};
use super::{
    deployments,
    output::{OutputFlags, Sheet, print, print_json, remark},
    remote::{self, ServerFlags},
};
use crate::builder::BuildLimits;

/// What the server takes unless it is told otherwise, in bytes of the request's body.
const MAX_BUNDLE_BYTES: u64 = 100 * 1024 * 1024;
/// What stands around the input of a request.
const ENVELOPE: u64 = r#"{"json":}"#.len() as u64;
/// The slowest line that a bundle is sent over, in bytes a second.
const SLOWEST: u64 = 64 * 1024;
const SEND_AT_LEAST: Duration = Duration::from_secs(60);
/// How long to wait between two questions: at first, and at most.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How often a log without a terminal hears that a build goes on.
const STILL: Duration = Duration::from_secs(30);

pub(super) const EXAMPLES: &str = "Examples:\n  \
    impresario deploy .\n  \
    impresario deploy workflows/claims --entry-point dist/index.js --description \"claims, with retries\"\n\n\
    Packed are the files of the directory in the order of their names, without their times and owners: the same files make \
    the same bundle.\n\
    Left out are node_modules (the server installs the dependencies of package.json), .git, .DS_Store, and what an \
    .impresarioignore says, or else an .npmignore, or else a .gitignore, as git reads it; only one of the three counts.\n\
    Never packed are .env* and .npmrc, which may hold secrets: `impresario credentials set` stores those.\n\
    Ends with 1 where the build fails.";

#[derive(Debug, Args)]
pub(super) struct DeployOptions {
    /// The directory of a package.json and of the JavaScript file that exports workflows
    dir: PathBuf,
    #[command(flatten)]
    server: ServerFlags,
    /// The file that is loaded, within the directory [default: main of package.json, else index.js]
    #[arg(long, value_name = "FILE")]
    entry_point: Option<String>,
    /// What `deployments list` shows beside it
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Do not wait for the build
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,
    /// How long to wait for the build; it goes on afterwards
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// The largest request that the server takes, as its max_bundle_bytes says
    #[arg(long, value_name = "BYTES", default_value_t = MAX_BUNDLE_BYTES, value_parser = clap::value_parser!(u64).range(1..))]
    max_bundle_bytes: u64,
    #[command(flatten)]
    output: OutputFlags,
}

/// What is sent.
struct Parcel {
    input: CreateDeployment,
    /// Bytes of the request's body.
    bytes: u64,
    /// The largest files, for a sentence.
    largest: String,
}

pub(super) async fn run(options: DeployOptions) -> anyhow::Result<ExitCode> {
    let client = remote::client(&options.server)?;
    let (wait, output) = (
        (!options.no_wait).then(|| Duration::from_secs(options.timeout)),
        options.output,
    );
    let parcel = tokio::task::spawn_blocking(move || pack(&options)).await??;
    let created = send(&client, &parcel).await?;
    drop(parcel);
    let Some(limit) = wait else {
        if output.json {
            print_json(&created)?;
        } else {
            print(&sheet(&created.deployment_id, &[]))?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let id = created.deployment_id;
    let answer = build(&client, &id, limit).await?;
    let built: SyncedDeployment = remote::typed(answer.clone())?;
    if output.json {
        print_json(&answer)?;
    }
    if built.deployment.status != "ready" {
        let why = built.deployment.build_error.unwrap_or_default();
        bail!("the build of deployment {id} failed: {}", why.trim());
    }
    if !output.json {
        print(&sheet(
            &id,
            &built.deployment.workflows.clone().unwrap_or_default(),
        ))?;
    }
    if let Some(warning) = deployments::unfit(&built) {
        remark(&format!("warning: {warning}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn sheet(id: &str, workflows: &[String]) -> String {
    let mut sheet = Sheet::default();
    sheet.line("deployment", id);
    for workflow in workflows {
        sheet.line("workflow", workflow);
    }
    sheet.for_stdout()
}

/// Reads the directory, and makes of it what is sent.
fn pack(options: &DeployOptions) -> anyhow::Result<Parcel> {
    let dir = options.dir.as_path();
    let package = package::read(dir)?;
    let listing = walk::walk(dir, &BuildLimits::default())?;
    let entry_point = package::entry(dir, &package, &listing, options.entry_point.as_deref())?;
    if !listing.kept_back.is_empty() {
        let names = deployments::names(&listing.kept_back);
        remark(&format!(
            "never packed, because it may hold secrets: {names}; `impresario credentials set` stores what workflows need"
        ));
    }
    let mut input = CreateDeployment {
        source: String::new(),
        entry_point: Some(entry_point),
        description: options.description.clone(),
        auto_repair: None,
    };
    let around = serde_json::to_vec(&input)?.len() as u64 + ENVELOPE;
    let most = options.max_bundle_bytes.saturating_sub(around) / 4 * 3;
    let (files, bytes) = (listing.files.len(), listing.bytes());
    let files = format!("{files} {}", if files == 1 { "file" } else { "files" });
    let step = Step::of_bytes(&format!("packing {files}, {}", size(bytes)), bytes);
    let archive = pack::pack(&listing, most, &|read| step.advance(read))?;
    step.end(&format!("packed {files} into {}", size(archive.len() as u64)));
    input.source = STANDARD.encode(&archive);
    Ok(Parcel {
        bytes: input.source.len() as u64 + around,
        largest: listing.largest(),
        input,
    })
}

async fn send(client: &Client, parcel: &Parcel) -> anyhow::Result<CreatedDeployment> {
    let patience = SEND_AT_LEAST + Duration::from_secs(parcel.bytes / SLOWEST);
    let sender = client.clone().with_timeout(patience);
    let step = Step::waiting(&format!("sending {} to {}", size(parcel.bytes), client.url()));
    let answer = remote::ask(&sender, &parcel.input).await;
    drop(step);
    answer.map_err(|error| match refusal(&error) {
        Some(ErrorCode::PayloadTooLarge) => error.context(format!(
            "this server does not take so large a bundle ({}): leave files out in .impresarioignore, or have its operator raise \
             max_bundle_bytes; the largest are {}",
            size(parcel.bytes),
            parcel.largest
        )),
        None if cut_off(&error) => error.context(format!(
            "the server broke off while it was sent {}: perhaps that is more than its max_bundle_bytes; the largest files are {}",
            size(parcel.bytes),
            parcel.largest
        )),
        _ => error,
    })
}

/// Whether the connection ended while it was in use. A server that refuses a large body may close before its answer is read.
fn cut_off(error: &anyhow::Error) -> bool {
    let mut causes = error.chain();
    causes.any(|cause| match cause.downcast_ref() {
        Some(CallError::NoAnswer { cause, .. }) => !cause.is_connect() && !cause.is_timeout(),
        _ => false,
    })
}

/// Waits for the end of a build: the deployment as it then stands.
async fn build(client: &Client, id: &str, limit: Duration) -> anyhow::Result<Value> {
    let begun = Instant::now();
    let step = Step::waiting(&format!("building deployment {id}"));
    let question = SyncDeployment { id: id.to_owned() };
    let (mut pause, mut told) = (ASK_AGAIN.0, Duration::ZERO);
    loop {
        let trouble = match remote::ask_raw(client, &question).await {
            Ok(answer) if answer["status"] != "building" => {
                let took = begun.elapsed().as_secs_f32();
                if answer["status"] == "ready" {
                    step.end(&format!("built in {took:.1} s"));
                }
                return Ok(answer);
            }
            Ok(_) => None,
            // A server that is started anew goes on with the build.
            Err(error) if may_pass(&error) => Some(error),
            Err(error) => return Err(error),
        };
        let elapsed = begun.elapsed();
        if elapsed >= limit {
            drop(step);
            let seconds = limit.as_secs();
            let sentence = format!(
                "after {seconds} s the build has not ended; it goes on, and `impresario deployments get {id}` shows how"
            );
            return Err(trouble.map_or_else(
                || anyhow::anyhow!("{sentence}"),
                |error| error.context(format!("{sentence} (at the end there was no answer)")),
            ));
        }
        if elapsed >= told + STILL {
            told = elapsed;
            step.say(&format!("still building after {} s", elapsed.as_secs()));
        }
        tokio::time::sleep(pause.min(limit.saturating_sub(elapsed))).await;
        pause = (pause * 2).min(ASK_AGAIN.1);
    }
}

/// What the server refused with, where it did.
fn refusal(error: &anyhow::Error) -> Option<ErrorCode> {
    let mut causes = error.chain();
    causes.find_map(|cause| cause.downcast_ref::<CallError>()?.body().map(|body| body.code))
}

/// Whether the same question may have an answer later.
fn may_pass(error: &anyhow::Error) -> bool {
    match refusal(error) {
        Some(code) => matches!(
            code,
            ErrorCode::ServiceUnavailable | ErrorCode::TooManyRequests | ErrorCode::InternalServerError
        ),
        None => {
            let mut causes = error.chain();
            causes.any(|cause| matches!(cause.downcast_ref(), Some(CallError::NoAnswer { .. })))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_is_away_while_it_builds_is_asked_again() {
        let client = Client::new("http://127.0.0.1:1", &"imp_x".into()).unwrap();
        let limit = Duration::from_millis(500);
        let begun = Instant::now();
        let error = build(&client, "the-id", limit).await.unwrap_err();
        assert!(begun.elapsed() >= limit);
        let error = format!("{error:#}");
        for part in [
            "`impresario deployments get the-id` shows how",
            "at the end there was no answer",
            "no answer from http://127.0.0.1:1",
        ] {
            assert!(error.contains(part), "{error}");
        }
    }
}
