//! The routes beside a schedule's own: run it now, what became of its fires, and what an expression means.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use impresario_cron::Zone;
use serde_json::{Value, json};

use super::{
    super::{ApiError, Fields, Flaw, auth::Tenant, ok, page, run_input},
    find,
    input::{cron, zone},
};
use crate::{
    app::App,
    domain::{JobId, NewJob, Pattern, ScheduleId, rfc3339},
    store::ops::{
        fires::{self, LedgerRow},
        jobs::{self, CreateOutcome},
    },
};

/// Runs it now, perhaps with other params. It counts as no fire.
pub(in crate::api) async fn trigger(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let id = input.required_uuid("id").map(ScheduleId);
    let params = input.optional_object("params");
    let Some(id) = id else {
        return Err(input
            .finish()
            .err()
            .unwrap_or_else(|| ApiError::bad_request("id")));
    };
    let schedule = find(&app, tenant, id).await?;
    let draft = schedule.draft;
    let params = params.unwrap_or(draft.params);
    let workflow = run_input::find_workflow(&app, tenant.0, &draft.workflow).await;
    if let Ok(workflow) = &workflow {
        input.report("params", run_input::check_params(workflow, &params).await);
    }
    input.finish()?;
    workflow?;
    let now = app.clock.now();
    let new = NewJob {
        id: JobId(app.ids.uuid(now)),
        workflow: draft.workflow,
        params,
        launch: draft.launch,
        nonce: None,
        callback_url: draft.callback_url,
        callback_secret: draft.callback_secret,
        skip_callbacks: draft.skip_callbacks,
    };
    match app
        .store
        .write("trigger_schedule", move |tx| {
            jobs::create(tx, tenant.0, new, None, now)
        })
        .await?
    {
        CreateOutcome::Created(job) => {
            app.signals.worker.notify_one();
            Ok(ok(
                json!({"success": true, "job_id": job.id, "status": job.status.as_str()}),
            ))
        }
        _ => Err(ApiError::not_found("workflow: it has just been deleted")),
    }
}

/// The ledger: what became of each instant.
pub(in crate::api) async fn history(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let id = input.required_uuid("id").map(ScheduleId);
    let before = input
        .patch_parsed("cursor", 1..=40, |text| {
            text.parse()
                .map_err(|_| Flaw::new("invalid_value", "is not a next_cursor of this list"))
        })
        .into_option();
    let limit = page::limit(&mut input, "limit", 50, 200);
    let id = input.finish_with(|| id)?;
    find(&app, tenant, id).await?;
    let rows = app
        .store
        .read("history", move |tx| {
            fires::history(tx, tenant.0, id, before, limit + 1)
        })
        .await?;
    let limit = limit as usize;
    let next_cursor = rows
        .get(limit)
        .and_then(|_| rows.get(limit.checked_sub(1)?))
        .map(|row| row.fire_at.as_millisecond().to_string());
    let older = rows.iter().skip(1).map(Some).chain([None]);
    let fires: Vec<Value> = rows
        .iter()
        .zip(older)
        .take(limit)
        .map(|(row, older)| shown(row, older))
        .collect();
    Ok(ok(json!({"fires": fires, "next_cursor": next_cursor})))
}

/// The planner counts missed instants up to here, so that years of downtime cost bounded work.
const MOST_COUNTED: u64 = 100_000;

/// A row of the ledger as the answer shows it; `older` is the row before it in time.
fn shown(row: &LedgerRow, older: Option<&LedgerRow>) -> Value {
    // The fire that catches up is written down together with the range that it makes up for: at the same instant, and
    // with nothing between the two.
    let caught_up = older
        .filter(|older| older.outcome == MISSED && row.outcome != MISSED)
        .filter(|older| older.recorded_at == row.recorded_at);
    let range = if row.outcome == MISSED {
        Some(row)
    } else {
        caught_up
    };
    let at_least = range.is_some_and(|range| range.missed >= MOST_COUNTED);
    let error = match &row.error {
        Some(error) if at_least => Some(format!(
            "{error}; at least {MOST_COUNTED}, they are counted no further"
        )),
        error => error.clone(),
    };
    json!({
        "fire_at": rfc3339(row.fire_at),
        "fired_at": rfc3339(row.recorded_at),
        "outcome": row.outcome,
        "job_id": row.job,
        "job_status": row.job_status,
        "missed": range.map_or(row.missed, |range| range.missed),
        "error": error,
    })
}

/// The outcome of a row that stands for a range of instants.
const MISSED: &str = "missed";

/// An expression in plain English, and its next fires.
pub(in crate::api) async fn preview(
    State(app): State<Arc<App>>,
    _tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let cron = input.required_parsed("cron_expr", 0..=usize::MAX, cron);
    let zone = input.optional_parsed("timezone", 0..=usize::MAX, zone);
    let after = input.optional_instant("after");
    let count = page::limit(&mut input, "count", 5, 100);
    let pattern = cron.and_then(|cron| {
        Pattern::parse(&cron, zone.as_ref().map_or("UTC", Zone::name))
            .map_err(|error| input.issue("invalid_value", error.to_string(), "cron_expr"))
            .ok()
    });
    let pattern = input.finish_with(|| pattern)?;
    let fires: Vec<Value> = pattern
        .fires_after(after.unwrap_or_else(|| app.clock.now()))
        .take(count as usize)
        .map(|fire| {
            let dst = fire.dst.map(|dst| dst.as_str());
            json!({"at": rfc3339(fire.at), "local": pattern.local(fire.at), "dst": dst})
        })
        .collect();
    Ok(ok(json!({"description": pattern.describe(), "fires": fires})))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::plan_fire;

    fn row(fire_at: i64, recorded_at: i64, outcome: &str, missed: u64) -> LedgerRow {
        let at = |second| Timestamp::from_second(second).unwrap();
        LedgerRow {
            fire_at: at(fire_at),
            outcome: outcome.to_owned(),
            recorded_at: at(recorded_at),
            job: None,
            job_status: None,
            missed,
            error: (outcome == MISSED).then(|| "it was not fired in time".to_owned()),
        }
    }

    #[test]
    fn the_fire_that_catches_up_says_how_many_it_stands_for() {
        let range = row(60, 305, MISSED, 4);
        let missed = |row: &LedgerRow, older: Option<&LedgerRow>| shown(row, older)["missed"].clone();
        assert_eq!(missed(&row(300, 305, "fired", 0), Some(&range)), 4);
        assert_eq!(missed(&row(300, 305, "rejected", 0), Some(&range)), 4);
        assert_eq!(missed(&range, Some(&row(0, 0, "fired", 0))), 4);
        // The fire after it is on time, and one without a range missed nothing.
        assert_eq!(missed(&row(360, 360, "fired", 0), Some(&range)), 0);
        assert_eq!(
            missed(&row(300, 305, "fired", 0), Some(&row(240, 305, "fired", 0))),
            0
        );
        assert_eq!(missed(&row(300, 305, "fired", 0), None), 0);
    }

    #[test]
    fn a_count_that_was_cut_short_says_so() {
        let every_minute = Pattern::parse("* * * * *", "UTC").unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let plan = plan_fire(
            &every_minute,
            at("2026-01-01T00:00:00Z"),
            at("2027-01-01T00:00:00Z"),
        )
        .unwrap();
        let count = plan.missed.unwrap().count;
        let error = |missed| shown(&row(60, 305, MISSED, missed), None)["error"].to_string();
        assert!(error(count).contains("at least 100000"), "{}", error(count));
        assert!(!error(count - 1).contains("at least"));
    }
}
