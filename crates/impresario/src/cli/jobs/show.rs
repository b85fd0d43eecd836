//! Jobs for people.

use impresario_api::{Job, JobList};

use super::super::{
    output::{Cell, NONE, Sheet, Table, printable_lines},
    when::{Reader, length},
};

/// A list of jobs.
pub(super) fn table(list: &JobList, reader: &Reader) -> String {
    let mut table = Table::new(&["JOB", "WORKFLOW", "STATUS", "CREATED", "TOOK", "SCHEDULE"]);
    for job in &list.jobs {
        table.row([
            Cell::new(&job.job_id),
            Cell::new(&job.workflow),
            Cell::status(&job.status),
            Cell::new(reader.full(Some(&job.created_at))),
            Cell::new(between(Some(&job.created_at), job.completed_at.as_deref())),
            Cell::optional(job.schedule_id.as_ref()),
        ]);
    }
    table.for_stdout()
}

/// How long it was from one instant to the other.
fn between(from: Option<&str>, to: Option<&str>) -> String {
    let parse = |text: Option<&str>| text.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    match (parse(from), parse(to)) {
        (Some(from), Some(to)) => {
            let millis = to.as_millisecond().saturating_sub(from.as_millisecond());
            let millis = u64::try_from(millis).unwrap_or(0);
            if millis < 10_000 {
                format!("{}.{} s", millis / 1000, millis % 1000 / 100)
            } else {
                length(millis / 1000)
            }
        }
        _ => NONE.to_owned(),
    }
}

/// One job, with its result and its error at the end.
pub(super) fn sheet(job: &Job, reader: &Reader) -> String {
    let mut sheet = Sheet::default();
    sheet.line("job", &job.job_id);
    sheet.line("workflow", &job.workflow);
    sheet.line(
        "deployment",
        format!("{} ({})", job.deployment_id, job.deployment_version),
    );
    sheet.line("status", Cell::status(&job.status));
    sheet.line("params", serde_json::Value::from(job.params.clone()).to_string());
    sheet.line("created", reader.full(Some(&job.created_at)));
    sheet.maybe(
        "started",
        job.started_at.as_deref().map(|at| reader.full(Some(at))),
    );
    sheet.maybe(
        "ended",
        job.completed_at.as_deref().map(|at| reader.full(Some(at))),
    );
    if job.completed_at.is_some() && job.started_at.is_some() {
        sheet.line(
            "ran for",
            between(job.started_at.as_deref(), job.completed_at.as_deref()),
        );
    }
    if job.attempt > 1 {
        sheet.line("attempt", job.attempt.to_string());
    }
    sheet.maybe("schedule", job.schedule_id.as_ref());
    sheet.maybe("fire", job.fire_at.as_deref().map(|at| reader.full(Some(at))));
    sheet.maybe("failure", job.failure_class.as_ref());
    let mut text = sheet.for_stdout();
    if let Some(result) = &job.result {
        text += &format!("\nresult\n{}\n", printable_lines(&format!("{result:#}")));
    }
    if let Some(error) = &job.error {
        text += &format!("\nerror\n{}\n", printable_lines(error));
    }
    if let Some(stack) = &job.mapped_stack {
        text += &format!("\nstack\n{}\n", printable_lines(stack));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_it_took_is_told_to_the_tenth_where_that_matters() {
        let start = Some("2026-05-17T01:15:00.000Z");
        for (end, expected) in [
            (Some("2026-05-17T01:15:00.370Z"), "0.3 s"),
            (Some("2026-05-17T01:15:09.999Z"), "9.9 s"),
            (Some("2026-05-17T01:15:59.000Z"), "59 s"),
            (Some("2026-05-17T01:18:59.000Z"), "3 min"),
            // The clock was put back meanwhile.
            (Some("2026-05-17T01:14:59.000Z"), "0.0 s"),
            (None, "-"),
        ] {
            assert_eq!(between(start, end), expected, "{end:?}");
        }
    }
}
