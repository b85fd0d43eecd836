//! `schedules get`: a schedule with all that there is to know of it.

use clap::Args;
use impresario_api::{GetSchedule, OneSchedule, PreviewSchedule, Schedule};
use serde_json::Value;

use super::{
    super::{
        output::{Cell, NONE, OutputFlags, Sheet},
        remote::{self, ServerFlags},
        when::{Reader, length},
    },
    find,
};
use crate::clock::{Clock as _, SystemClock};

#[derive(Debug, Args)]
pub(in super::super) struct GetFlags {
    /// The schedule's name or id
    #[arg(value_name = "NAME|ID")]
    schedule: String,
    #[command(flatten)]
    server: ServerFlags,
    #[command(flatten)]
    output: OutputFlags,
}

pub(super) async fn get(flags: GetFlags) -> anyhow::Result<()> {
    let client = remote::client(&flags.server)?;
    let id = find::id(&client, &flags.schedule).await?;
    let answer = remote::ask_raw(&client, &GetSchedule { id }).await?;
    let mut reads = None;
    if !flags.output.json {
        let OneSchedule { schedule } = remote::typed(answer.clone())?;
        let call = PreviewSchedule {
            cron_expr: schedule.cron_expr,
            timezone: Some(schedule.timezone),
            count: Some(1),
            ..PreviewSchedule::default()
        };
        // One that was set aside has an expression that nobody can read: the rest is worth showing.
        reads = remote::ask(&client, &call)
            .await
            .ok()
            .map(|preview| preview.description);
    }
    let reader = Reader::here(SystemClock.now());
    remote::show_value(answer, flags.output, |one: OneSchedule| {
        sheet(&one.schedule, reads.as_deref(), &reader).for_stdout()
    })
}

/// A schedule for people.
fn sheet(schedule: &Schedule, reads: Option<&str>, reader: &Reader) -> Sheet {
    let there = reader.in_zone(&schedule.timezone);
    let mut sheet = Sheet::default();
    sheet.line("name", Cell::optional(schedule.name.as_ref()));
    sheet.line("id", &schedule.id);
    sheet.line("workflow", &schedule.workflow);
    sheet.maybe("description", schedule.description.as_ref());
    if !schedule.tags.is_empty() {
        sheet.line("tags", schedule.tags.join(", "));
    }
    sheet.line("when", format!("{} {}", schedule.cron_expr, schedule.timezone));
    sheet.maybe("reads", reads);
    sheet.maybe(
        "from",
        schedule.start_at.as_deref().map(|at| there.full(Some(at))),
    );
    sheet.maybe("until", schedule.end_at.as_deref().map(|at| there.full(Some(at))));
    sheet.line("state", Cell::status(&schedule.state));
    sheet.maybe("because", schedule.disabled_reason.as_ref());
    let next = if schedule.enabled {
        "next fire"
    } else {
        "were it enabled"
    };
    sheet.line(next, there.full(schedule.next_fire_at.as_deref()));
    if schedule.next_due_at != schedule.next_fire_at {
        sheet.maybe(
            "acted on",
            schedule.next_due_at.as_deref().map(|at| there.wall(Some(at))),
        );
    }
    if schedule.catching_up > 0 {
        sheet.line("catching up", format!("{} missed instants", schedule.catching_up));
    }
    sheet.line("last fire", there.full(schedule.last_fire_at.as_deref()));
    sheet.maybe("last job", schedule.last_job_id.as_ref());
    sheet.maybe("last error", schedule.last_error.as_ref());
    sheet.line("failures", failures(schedule));
    sheet.line("params", Value::from(schedule.params.clone()).to_string());
    sheet.maybe("params error", schedule.params_error.as_ref());
    run(schedule, &mut sheet);
    let missed = match schedule.misfire_policy.as_str() {
        "skip" => "skip".to_owned(),
        policy => format!(
            "{policy}, up to {} late",
            length(schedule.catchup_window_seconds.into())
        ),
    };
    sheet.line("missed", missed);
    sheet.line("overlap", &schedule.overlap_policy);
    if schedule.jitter_seconds > 0 {
        sheet.line(
            "spread",
            format!("up to {}", length(schedule.jitter_seconds.into())),
        );
    }
    sheet.line("created", reader.full(Some(&schedule.created_at)));
    sheet.line("changed", reader.full(Some(&schedule.updated_at)));
    sheet
}

fn failures(schedule: &Schedule) -> String {
    let count = schedule.consecutive_failures;
    match schedule.max_consecutive_failures {
        Some(most) => format!("{count} in a row; {most} disable it"),
        None => format!("{count} in a row"),
    }
}

/// How its runs are launched, and where their results go.
fn run(schedule: &Schedule, sheet: &mut Sheet) {
    sheet.line("timeout", length(schedule.timeout_seconds.into()));
    sheet.maybe("start URL", schedule.start_url.as_ref());
    let viewport = schedule.viewport;
    sheet.maybe(
        "viewport",
        viewport.map(|size| format!("{}x{}", size.width, size.height)),
    );
    let yes_or_no = |yes: bool| if yes { "yes" } else { "no" };
    sheet.maybe("gpu", schedule.gpu.map(yes_or_no));
    if let Some(proxy) = &schedule.residential_proxy {
        let parts = [&proxy.state, &proxy.city, &proxy.zip, &proxy.asn];
        let parts = parts.into_iter().flatten().map(String::as_str);
        let place: Vec<&str> = std::iter::once(proxy.country.as_str()).chain(parts).collect();
        sheet.line("proxy", place.join(", "));
    } else if schedule.disable_default_proxy == Some(true) {
        sheet.line("proxy", "none, not even the operator's");
    }
    let receiver = match &schedule.callback_url {
        _ if schedule.skip_callbacks => NONE,
        Some(url) => url,
        None => "the stored webhooks",
    };
    sheet.line("results go to", receiver);
}
