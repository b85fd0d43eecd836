//! `schedules trigger|history|backfill`: what a schedule runs, ran, and did not run.

use std::process::ExitCode;

use clap::Args;
use impresario_api::{
    BackfillSchedule, Backfilled, Fire, FireList, PreviewSchedule, Schedule, ScheduleHistory,
    TriggerSchedule, client::Client,
};

use super::{
    super::{
        input::ParamFlags,
        jobs,
        output::{Cell, OutputFlags, Table, confirm, print_json, printable, remark},
        remote::{self, PageFlags, Paging, ServerFlags},
        say,
        when::Reader,
    },
    find,
};
use crate::clock::{Clock as _, SystemClock};

const PAGING: Paging = Paging::of("fires", 200);
/// The most fires that a preview counts.
const COUNTED: u32 = 100;
/// Before every instant of a range.
const LONG_AGO: &str = "1970-01-01T00:00:00Z";

#[derive(Debug, Args)]
pub(in super::super) struct TriggerFlags {
    /// The schedule's name or id
    #[arg(value_name = "NAME|ID")]
    schedule: String,
    #[command(flatten)]
    server: ServerFlags,
    #[command(flatten)]
    params: ParamFlags,
    /// Watch it to its end
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    output: OutputFlags,
}

#[derive(Debug, Args)]
pub(in super::super) struct HistoryFlags {
    /// The schedule's name or id
    #[arg(value_name = "NAME|ID")]
    schedule: String,
    #[command(flatten)]
    server: ServerFlags,
    #[command(flatten)]
    page: PageFlags,
    #[command(flatten)]
    output: OutputFlags,
}

#[derive(Debug, Args)]
pub(in super::super) struct BackfillFlags {
    /// The schedule's name or id
    #[arg(value_name = "NAME|ID")]
    schedule: String,
    #[command(flatten)]
    server: ServerFlags,
    /// The first instant of the range; inclusive
    #[arg(long, value_name = "INSTANT")]
    from: String,
    /// The end of the range; exclusive, and not later than now
    #[arg(long, value_name = "INSTANT")]
    to: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: OutputFlags,
}

pub(super) async fn trigger(flags: TriggerFlags) -> anyhow::Result<ExitCode> {
    let client = remote::client(&flags.server)?;
    let (id, own) = if flags.params.is_partial() {
        let found = find::schedule(&client, &flags.schedule).await?;
        (found.id, Some(found.params))
    } else {
        (find::id(&client, &flags.schedule).await?, None)
    };
    let call = TriggerSchedule {
        id,
        params: flags.params.read(own)?,
    };
    let answer = remote::ask_raw(&client, &call).await?;
    jobs::started(&client, &answer, flags.watch, flags.output).await
}

pub(super) async fn history(flags: HistoryFlags) -> anyhow::Result<()> {
    let client = remote::client(&flags.server)?;
    let schedule = find::schedule(&client, &flags.schedule).await?;
    let call = ScheduleHistory {
        id: schedule.id,
        ..ScheduleHistory::default()
    };
    let answer = remote::pages(&client, &call, PAGING, flags.page).await?;
    let reader = Reader::here(SystemClock.now()).in_zone(&schedule.timezone);
    remote::show_value(answer, flags.output, |list| table(&list, &reader).for_stdout())
}

fn table(list: &FireList, reader: &Reader) -> Table {
    let mut table = Table::new(&["FIRE", "OUTCOME", "JOB", "JOB STATUS", "REMARKS"]);
    for fire in &list.fires {
        table.row([
            Cell::new(reader.full(Some(&fire.fire_at))),
            Cell::status(&fire.outcome),
            Cell::optional(fire.job_id.as_ref()),
            fire.job_status
                .as_ref()
                .map_or_else(|| Cell::optional(None::<&str>), Cell::status),
            Cell::new(remarks(fire, reader)),
        ]);
    }
    table
}

fn remarks(fire: &Fire, reader: &Reader) -> String {
    let mut parts = Vec::new();
    if let Some(until) = &fire.missed_until {
        parts.push(format!(
            "{} instants until {}",
            fire.missed,
            reader.wall(Some(until))
        ));
    } else if fire.missed > 0 {
        parts.push(format!("makes up for {} more", fire.missed));
    }
    parts.extend(fire.reason.clone());
    parts.extend(fire.error.clone());
    parts.join("; ")
}

pub(super) async fn backfill(flags: BackfillFlags) -> anyhow::Result<()> {
    let client = remote::client(&flags.server)?;
    let schedule = find::schedule(&client, &flags.schedule).await?;
    if !flags.yes {
        let count = instants(&client, &schedule, &flags).await?;
        let name = schedule.name.as_ref().unwrap_or(&schedule.id);
        let question = format!(
            "{} names {count} in that range. Run those that made no job?",
            printable(name)
        );
        confirm(&question, false)?;
    }
    let call = BackfillSchedule {
        id: schedule.id,
        from: flags.from,
        to: flags.to,
    };
    let answer = remote::ask_raw(&client, &call).await?;
    if flags.output.json {
        return Ok(print_json(&answer)?);
    }
    let done: Backfilled = remote::typed(answer)?;
    let queued = match done.job_ids.len() {
        1 => "1 job was queued".to_owned(),
        many => format!("{many} jobs were queued"),
    };
    remark(&match done.already_fired {
        0 => queued,
        1 => format!("{queued}; 1 instant had made its job before"),
        many => format!("{queued}; {many} instants had made theirs before"),
    });
    for id in &done.job_ids {
        say(id)?;
    }
    Ok(())
}

/// How many instants the schedule names in the range, in words.
async fn instants(client: &Client, schedule: &Schedule, flags: &BackfillFlags) -> anyhow::Result<String> {
    let call = PreviewSchedule {
        cron_expr: schedule.cron_expr.clone(),
        timezone: Some(schedule.timezone.clone()),
        count: Some(COUNTED),
        after: Some(LONG_AGO.to_owned()),
        start_at: Some(flags.from.clone()),
        end_at: Some(flags.to.clone()),
    };
    let count = remote::ask(client, &call).await?.fires.len();
    Ok(if count >= COUNTED as usize {
        format!("{count} instants or more")
    } else {
        format!("{count} instants")
    })
}
