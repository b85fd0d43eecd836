//! What was sent: deliveries, and pings.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use impresario_api::{Delivery, DeliveryList, ListDeliveries, TestWebhook, TestedWebhook, client::Client};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::cli::{
    deployments::reader,
    output::{Cell, OutputFlags, Table, print_json, printable, remark},
    remote::{self, PageFlags, Paging, ServerFlags},
};

const DELIVERIES: Paging = Paging::of("deliveries", 200);

/// How long a ping is waited for: an attempt takes up to 15 s, and it may have to wait for its turn.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(in crate::cli) struct DeliveriesOptions {
    #[command(flatten)]
    server: ServerFlags,
    /// Only those that tell of this job
    #[arg(long, value_name = "ID")]
    job: Option<String>,
    /// Only those that tell of this schedule, or of a job of its fires
    #[arg(long, value_name = "ID")]
    schedule: Option<String>,
    /// Only those that go to this webhook
    #[arg(long, value_name = "ID")]
    endpoint: Option<String>,
    /// Only those that are pending, delivered or failed
    #[arg(long, value_name = "STATUS", value_parser = ["pending", "delivered", "failed"])]
    status: Option<String>,
    #[command(flatten)]
    page: PageFlags,
    #[command(flatten)]
    output: OutputFlags,
}

pub(super) async fn list(options: DeliveriesOptions) -> anyhow::Result<()> {
    let client = remote::client(&options.server)?;
    let question = ListDeliveries {
        job_id: options.job,
        schedule_id: options.schedule,
        webhook_endpoint_id: options.endpoint,
        status: options.status,
        ..ListDeliveries::default()
    };
    let answer = remote::pages(&client, &question, DELIVERIES, options.page).await?;
    remote::show_value(answer, options.output, |list: DeliveryList| delivery_table(&list))
}

fn delivery_table(list: &DeliveryList) -> String {
    let reader = reader();
    let mut table = Table::new(&[
        "ID", "EVENT", "STATUS", "ATTEMPTS", "ANSWER", "CREATED", "NEXT", "URL", "ERROR",
    ]);
    for one in &list.deliveries {
        let next = one.next_attempt_at.as_deref();
        table.row([
            Cell::new(&one.delivery_id),
            Cell::new(&one.event),
            Cell::status(&one.status),
            Cell::new(one.attempts.to_string()),
            Cell::optional(one.last_status_code.map(|code| code.to_string())),
            Cell::new(reader.away(Some(&one.created_at))),
            Cell::optional(next.map(|next| reader.away(Some(next)))),
            Cell::new(&one.url),
            Cell::optional(trouble(one).as_ref()),
        ]);
    }
    table.for_stdout()
}

/// Why it is not there yet, or never will be.
fn trouble(one: &Delivery) -> Option<String> {
    match (&one.reason, &one.last_error) {
        (Some(reason), Some(error)) => Some(format!("{reason} ({error})")),
        (reason, error) => reason.clone().or_else(|| error.clone()),
    }
}

/// Sends a ping and waits for what comes of it.
pub(super) async fn test(client: &Client, id: String, output: OutputFlags) -> anyhow::Result<()> {
    let sent: TestedWebhook = remote::ask(client, &TestWebhook { id }).await?;
    let question = ListDeliveries {
        delivery_id: Some(sent.delivery_id.clone()),
        ..ListDeliveries::default()
    };
    let until = Instant::now() + PATIENCE;
    let (answer, ping) = loop {
        let mut answer = remote::ask_raw(client, &question).await?;
        let found: DeliveryList = remote::typed(answer.clone())?;
        match found.deliveries.into_iter().next() {
            Some(ping) if ping.status != "pending" => break (answer["deliveries"][0].take(), ping),
            _ if Instant::now() < until => sleep(LOOK_AGAIN).await,
            _ => bail!(
                "the ping {} has not ended within {} s: what is due to the same URL goes before it, and a node with the role \
                 delivery has to be there; `impresario webhooks deliveries` shows what becomes of it",
                printable(&sent.delivery_id),
                PATIENCE.as_secs()
            ),
        }
    };
    told(&answer, &ping, output)
}

fn told(answer: &Value, ping: &Delivery, output: OutputFlags) -> anyhow::Result<()> {
    if output.json {
        print_json(answer)?;
    }
    let status = ping.last_status_code.map(|code| format!(" with {code}"));
    let took = ping.last_latency_ms.unwrap_or(0);
    if ping.status == "delivered" {
        if !output.json {
            remark(&format!(
                "the ping arrived: {} answered{} in {took} ms",
                printable(&ping.url),
                status.unwrap_or_default()
            ));
        }
        return Ok(());
    }
    bail!(
        "the ping did not arrive: {}",
        printable(
            ping.last_error
                .as_deref()
                .or(ping.reason.as_deref())
                .unwrap_or("no attempt was made")
        )
    )
}
