//! `webhooks`: who hears of the ends of jobs, and what became of what was sent.

mod deliveries;

use clap::{Args, Subcommand};
use impresario_api::{
    CreateWebhook, CreatedWebhook, DeleteWebhook, Done, ListWebhooks, Redeliver, RotateSecret, RotatedSecret,
    Secret, UpdateWebhook, WebhookEndpoint, WebhookList,
};

use self::deliveries::DeliveriesOptions;
use super::{
    deployments::reader,
    input::Seconds,
    output::{Cell, OutputFlags, Table, confirm, print, print_json, printable, remark},
    remote::{self, ServerFlags, Stop},
};
use crate::config;

#[derive(Debug, Subcommand)]
pub(super) enum WebhooksCommand {
    /// List the stored webhooks, oldest first
    #[command(after_help = "Example:\n  impresario webhooks list")]
    List {
        #[command(flatten)]
        server: ServerFlags,
        #[command(flatten)]
        output: OutputFlags,
    },
    /// Store a webhook; prints its signing secret, this once, or its id where the secret is yours
    #[command(
        after_help = "Examples:\n  impresario webhooks create https://hooks.example.com/jobs > secret.txt\n  \
                      impresario webhooks create https://hooks.example.com/alarms --secret-env HOOK_SECRET \
                      --event job.failed --event schedule.missed"
    )]
    Create(CreateOptions),
    /// Change a webhook; what is not named stays as it is
    #[command(
        after_help = "Examples:\n  impresario webhooks update 019e2a35-1f4e-7c11-9d0a-6b1f0b7a3c58 --inactive\n  \
                      impresario webhooks update 019e2a35-1f4e-7c11-9d0a-6b1f0b7a3c58 --secret-env NEW_SECRET"
    )]
    Update(UpdateOptions),
    /// Give a webhook a new secret; prints it, this once, where the server makes it. The one before it signs as well for
    /// a while, so that the receiver can follow
    #[command(
        after_help = "Examples:\n  impresario webhooks rotate 019e2a35-1f4e-7c11-9d0a-6b1f0b7a3c58 > secret.txt\n  \
                      impresario webhooks rotate 019e2a35-1f4e-7c11-9d0a-6b1f0b7a3c58 --secret-env NEW_SECRET --grace 0"
    )]
    Rotate(RotateOptions),
    /// Send a webhook a ping, active or not, and wait for what comes of it
    #[command(after_help = "Example:\n  impresario webhooks test 019e2a35-1f4e-7c11-9d0a-6b1f0b7a3c58")]
    Test {
        /// Its id
        id: String,
        #[command(flatten)]
        server: ServerFlags,
        #[command(flatten)]
        output: OutputFlags,
    },
    /// Delete a webhook; what it is owed is not sent any more
    #[command(
        after_help = "Example:\n  impresario webhooks delete 019e2a35-1f4e-7c11-9d0a-6b1f0b7a3c58 --yes"
    )]
    Delete {
        /// Its id
        id: String,
        #[command(flatten)]
        server: ServerFlags,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        output: OutputFlags,
    },
    /// List deliveries, newest first, each with how its newest attempt went
    #[command(
        after_help = "Examples:\n  impresario webhooks deliveries --job 019e2a35-1f4e-7c11-9d0a-6b1f0b7a3c58\n  \
                      impresario webhooks deliveries --status failed --all"
    )]
    Deliveries(DeliveriesOptions),
    /// Send a delivery again, now, with the same webhook-id and body
    #[command(after_help = "Example:\n  impresario webhooks redeliver 019e2a35-1f4e-7c11-9d0a-6b1f0b7a3c58")]
    Redeliver {
        /// The delivery's id, as `webhooks deliveries` lists it
        id: String,
        #[command(flatten)]
        server: ServerFlags,
        #[command(flatten)]
        output: OutputFlags,
    },
}

#[derive(Debug, Args)]
pub(super) struct CreateOptions {
    /// Where callbacks are posted
    #[arg(value_name = "CALLBACK_URL")]
    to: String,
    #[command(flatten)]
    server: ServerFlags,
    /// Sign with the secret in this variable of the environment; without it the server makes one
    #[arg(long, value_name = "VARIABLE")]
    secret_env: Option<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// An event that it hears of, such as job.failed; may be given several times [default: job.completed and job.failed]
    #[arg(long = "event", value_name = "EVENT")]
    events: Vec<String>,
    /// Store it, but send nothing to it yet
    #[arg(long)]
    inactive: bool,
    #[command(flatten)]
    output: OutputFlags,
}

#[derive(Debug, Args)]
pub(super) struct UpdateOptions {
    /// Its id
    id: String,
    #[command(flatten)]
    server: ServerFlags,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    output: OutputFlags,
}

#[derive(Debug, Args)]
pub(super) struct RotateOptions {
    /// Its id
    id: String,
    #[command(flatten)]
    server: ServerFlags,
    /// Sign with the secret in this variable of the environment; without it the server makes one
    #[arg(long, value_name = "VARIABLE")]
    secret_env: Option<String>,
    /// How long the secret before it signs as well, up to 30d; 0: no secret before it does any more [default: 1d]
    #[arg(long, value_name = "TIME")]
    grace: Option<Seconds>,
    #[command(flatten)]
    output: OutputFlags,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(super) struct Change {
    /// Where callbacks are posted from now on
    #[arg(long, value_name = "CALLBACK_URL")]
    to: Option<String>,
    /// Sign with the secret in this variable of the environment from now on
    #[arg(long, value_name = "VARIABLE")]
    secret_env: Option<String>,
    /// How long the secret before it signs as well, up to 30d; 0: no secret before it does any more [default: 1d]
    #[arg(long, value_name = "TIME", requires = "secret_env")]
    grace: Option<Seconds>,
    /// What it is for; an empty text for nothing
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// An event that it hears of, instead of those it heard of before; may be given several times
    #[arg(long = "event", value_name = "EVENT", conflicts_with = "default_events")]
    events: Vec<String>,
    /// Hear of job.completed and job.failed
    #[arg(long)]
    default_events: bool,
    /// Send to it again, also what it was owed before
    #[arg(long, conflicts_with = "inactive")]
    active: bool,
    /// Send nothing to it: what it is owed is held back, and what happens meanwhile is not told to it
    #[arg(long)]
    inactive: bool,
}

pub(super) async fn run(command: WebhooksCommand) -> anyhow::Result<()> {
    match command {
        WebhooksCommand::List { server, output } => {
            let client = remote::client(&server)?;
            remote::show(&client, &ListWebhooks {}, output, |list| table(&list)).await
        }
        WebhooksCommand::Create(options) => create(options).await,
        WebhooksCommand::Update(options) => update(options).await,
        WebhooksCommand::Delete {
            id,
            server,
            yes,
            output,
        } => {
            let client = remote::client(&server)?;
            confirm(&format!("Delete the webhook {}?", printable(&id)), yes)?;
            remote::show(&client, &DeleteWebhook { id }, output, |done| message(&done)).await
        }
        WebhooksCommand::Rotate(options) => rotate(options).await,
        WebhooksCommand::Test { id, server, output } => {
            deliveries::test(&remote::client(&server)?, id, output).await
        }
        WebhooksCommand::Deliveries(options) => deliveries::list(options).await,
        WebhooksCommand::Redeliver { id, server, output } => {
            let client = remote::client(&server)?;
            remote::show(&client, &Redeliver { delivery_id: id }, output, |done| {
                message(&done)
            })
            .await
        }
    }
}

fn message(done: &Done) -> String {
    printable(&done.message)
}

async fn create(options: CreateOptions) -> anyhow::Result<()> {
    let client = remote::client(&options.server)?;
    let question = CreateWebhook {
        url: options.to,
        signing_secret: options.secret_env.as_deref().map(secret).transpose()?,
        description: options.description,
        active: options.inactive.then_some(false),
        events: Some(options.events).filter(|events| !events.is_empty()),
    };
    let answer = remote::ask_raw(&client, &question).await?;
    if options.output.json {
        return Ok(print_json(&answer)?);
    }
    let made: CreatedWebhook = remote::typed(answer)?;
    let id = printable(&made.webhook_endpoint_id);
    match made.signing_secret {
        Some(secret) => {
            remark(&format!(
                "webhook {id} is stored; its signing secret is shown this once:"
            ));
            print(secret.expose())?;
        }
        None => print(&id)?,
    }
    Ok(())
}

async fn update(options: UpdateOptions) -> anyhow::Result<()> {
    let client = remote::client(&options.server)?;
    let change = options.change;
    let events = match change.default_events {
        true => Some(None),
        false => Some(Some(change.events)).filter(|events| events != &Some(Vec::new())),
    };
    let question = UpdateWebhook {
        id: options.id,
        url: change.to,
        signing_secret: change.secret_env.as_deref().map(secret).transpose()?,
        secret_grace_seconds: change.grace.map(|grace| grace.0),
        description: change
            .description
            .map(|text| Some(text).filter(|text| !text.is_empty())),
        active: (change.active || change.inactive).then_some(change.active),
        events,
    };
    remote::show(&client, &question, options.output, |done| message(&done)).await
}

async fn rotate(options: RotateOptions) -> anyhow::Result<()> {
    let client = remote::client(&options.server)?;
    let question = RotateSecret {
        id: options.id,
        signing_secret: options.secret_env.as_deref().map(secret).transpose()?,
        secret_grace_seconds: options.grace.map(|grace| grace.0),
    };
    let answer = remote::ask_raw(&client, &question).await?;
    if options.output.json {
        return Ok(print_json(&answer)?);
    }
    let rotated: RotatedSecret = remote::typed(answer)?;
    remark(&printable(&rotated.message));
    if let Some(secret) = rotated.signing_secret {
        remark("it is shown this once:");
        print(secret.expose())?;
    }
    Ok(())
}

/// A secret from a variable: no flag has one, because every user of a machine can read command lines.
fn secret(variable: &str) -> Result<Secret, Stop> {
    let value = config::variable(variable).ok_or_else(|| {
        Stop::Usage(format!(
            "--secret-env: the variable {variable:?} is not set, or is empty"
        ))
    })?;
    Ok(value.into())
}

fn table(list: &WebhookList) -> String {
    let reader = reader();
    let mut table = Table::new(&["ID", "STATE", "URL", "EVENTS", "CREATED", "DESCRIPTION"]);
    for one in &list.webhook_endpoints {
        table.row([
            Cell::new(&one.webhook_endpoint_id),
            Cell::status(state(one)),
            Cell::new(&one.url),
            Cell::new(one.events.join(", ")),
            Cell::new(reader.away(Some(&one.created_at))),
            Cell::optional(one.description.as_ref()),
        ]);
    }
    let mut shown = table.for_stdout();
    for one in &list.webhook_endpoints {
        if let Some(reason) = &one.disabled_reason {
            shown.push_str(&format!(
                "\n{} is disabled: {}",
                printable(&one.webhook_endpoint_id),
                printable(reason)
            ));
        }
    }
    shown
}

fn state(one: &WebhookEndpoint) -> &'static str {
    match one {
        one if one.disabled_at.is_some() => "disabled",
        one if !one.active => "inactive",
        one if one.failing_since.is_some() => "failing",
        _ => "active",
    }
}
