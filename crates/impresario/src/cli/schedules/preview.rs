//! `schedules preview`: in comes an expression, or a schedule that has one, out goes what it means.

use clap::Args;
use impresario_api::{PreviewSchedule, SchedulePreview};

use super::{
    super::{
        output::{Cell, NONE, OutputFlags, Table, printable},
        remote::{self, ServerFlags},
        when::Reader,
    },
    find,
};
use crate::clock::{Clock as _, SystemClock};

#[derive(Debug, Args)]
pub(in super::super) struct PreviewFlags {
    /// Minute, hour, day of month, month, day of week, or a nickname such as @daily
    #[arg(
        value_name = "EXPRESSION",
        required_unless_present = "schedule",
        conflicts_with = "schedule"
    )]
    cron: Option<String>,
    #[command(flatten)]
    server: ServerFlags,
    /// In place of an expression: that of this schedule, in its zone and within its bounds
    #[arg(long, value_name = "NAME|ID", conflicts_with = "timezone")]
    schedule: Option<String>,
    /// The zone that the expression is read in [default: UTC]
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// How many fires, at most 100 [default: 5]
    #[arg(long, value_name = "N")]
    count: Option<u32>,
    /// Fires later than this instant, such as 2026-05-17T00:00:00Z [default: now]
    #[arg(long, value_name = "INSTANT")]
    after: Option<String>,
    #[command(flatten)]
    output: OutputFlags,
}

pub(super) async fn preview(flags: PreviewFlags) -> anyhow::Result<()> {
    let client = remote::client(&flags.server)?;
    let mut call = PreviewSchedule {
        timezone: flags.timezone,
        count: flags.count,
        after: flags.after,
        ..PreviewSchedule::default()
    };
    if let Some(schedule) = &flags.schedule {
        let found = find::schedule(&client, schedule).await?;
        call.cron_expr = found.cron_expr;
        call.timezone = Some(found.timezone);
        call.start_at = found.start_at;
        call.end_at = found.end_at;
    } else {
        call.cron_expr = flags.cron.unwrap_or_default();
    }
    let reader = Reader::here(SystemClock.now());
    remote::show(&client, &call, flags.output, |preview| text(&preview, &reader)).await
}

fn text(preview: &SchedulePreview, reader: &Reader) -> String {
    let there = reader.in_zone(&preview.timezone);
    let heading = printable(&format!("{} ({})", preview.description, preview.timezone));
    if preview.fires.is_empty() {
        return format!("{heading}\nIt does not fire any more.");
    }
    let mut table = Table::new(&["FIRE", "UTC", "CLOCK CHANGE"]);
    for fire in &preview.fires {
        let change = match fire.dst.as_deref() {
            Some("gap") => "the time it names does not exist that day",
            Some("overlap") => "the time comes twice that day",
            Some(other) => other,
            None => NONE,
        };
        table.row([
            Cell::new(there.full(Some(&fire.at))),
            Cell::new(&fire.at),
            Cell::new(change),
        ]);
    }
    format!("{heading}\n\n{}", table.for_stdout())
}
