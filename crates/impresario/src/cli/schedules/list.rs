//! `schedules list`.

use clap::Args;
use impresario_api::{ListSchedules, Schedule, ScheduleList};

use super::{
    super::{
        output::{Cell, NONE, OutputFlags, Table},
        remote::{self, PageFlags, ServerFlags},
        when::Reader,
    },
    find::PAGING,
};
use crate::clock::{Clock as _, SystemClock};

#[derive(Debug, Args)]
pub(in super::super) struct ListFlags {
    #[command(flatten)]
    server: ServerFlags,
    /// Only those of this workflow
    #[arg(long)]
    workflow: Option<String>,
    /// Only those that fire
    #[arg(long, conflicts_with = "disabled")]
    enabled: bool,
    /// Only those that do not fire
    #[arg(long)]
    disabled: bool,
    /// Only those with this tag
    #[arg(long)]
    tag: Option<String>,
    #[command(flatten)]
    page: PageFlags,
    #[command(flatten)]
    output: OutputFlags,
}

pub(super) async fn list(flags: ListFlags) -> anyhow::Result<()> {
    let client = remote::client(&flags.server)?;
    let call = ListSchedules {
        enabled: (flags.enabled || flags.disabled).then_some(flags.enabled),
        workflow: flags.workflow,
        tag: flags.tag,
        ..ListSchedules::default()
    };
    let answer = remote::pages(&client, &call, PAGING, flags.page).await?;
    let reader = Reader::here(SystemClock.now());
    remote::show_value(answer, flags.output, |list| table(&list, &reader).for_stdout())
}

fn table(list: &ScheduleList, reader: &Reader) -> Table {
    let mut table = Table::new(&[
        "NAME",
        "WORKFLOW",
        "WHEN",
        "NEXT FIRE",
        "LAST FIRE",
        "FAILURES",
        "STATE",
    ]);
    for schedule in &list.schedules {
        let next = schedule.next_fire_at.as_deref().filter(|_| schedule.enabled);
        let next = next.map(|at| reader.in_zone(&schedule.timezone).full(Some(at)));
        table.row([
            Cell::new(schedule.name.as_ref().unwrap_or(&schedule.id)),
            Cell::new(&schedule.workflow),
            Cell::new(format!("{} {}", schedule.cron_expr, schedule.timezone)),
            Cell::optional(next),
            Cell::new(reader.away(schedule.last_fire_at.as_deref())),
            Cell::new(failures(schedule)),
            Cell::status(&schedule.state),
        ]);
    }
    table
}

/// How the newest runs went.
fn failures(schedule: &Schedule) -> String {
    match (&schedule.last_error, schedule.consecutive_failures) {
        (Some(error), count) => format!("{count}: {error}"),
        (None, 0) if schedule.last_fire_at.is_none() => NONE.to_owned(),
        (None, count) => count.to_string(),
    }
}
