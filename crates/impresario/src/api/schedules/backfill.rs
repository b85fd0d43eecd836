//! Makes up for the instants of a past range that have made no job.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use impresario_api as wire;

use super::{
    super::{ApiError, Fields, Flaw, auth::Tenant, ok, run_input, values::quoted},
    find, not_found,
};
use crate::{
    app::App,
    domain::{ScheduleId, rfc3339},
    metrics::Count,
    params,
    store::ops::{
        Moment,
        fires::{self, BackfillOutcome, MOST_BACKFILLED},
        schedules,
    },
};

/// A job for each instant from `from` to `to` that has none.
pub(in crate::api) async fn backfill(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let id = input.required_uuid("id").map(ScheduleId);
    let range = (input.required_instant("from"), input.required_instant("to"));
    let now = app.clock.now();
    if let (Some(from), Some(to)) = range
        && to <= from
    {
        let message = format!("{} is not later than from, {}", rfc3339(to), rfc3339(from));
        input.issue("invalid_value", message, "to");
    }
    if let Some(to) = range.1.filter(|to| *to > now) {
        let message = format!(
            "{} is later than now, {}: only what has come can be made up for",
            rfc3339(to),
            rfc3339(now)
        );
        input.issue("invalid_value", message, "to");
    }
    let Some(id) = id else {
        return Err(input
            .finish()
            .err()
            .unwrap_or_else(|| ApiError::bad_request("id")));
    };
    let draft = find(&app, tenant, id).await?.draft;
    let workflow = run_input::find_workflow(&app, tenant.0, &draft.workflow).await;
    if let Ok(workflow) = &workflow {
        input.report("params", params::flaws(workflow, &draft.params).await);
    }
    let (from, to) = input.finish_with(|| range.0.zip(range.1))?;
    workflow?;
    let (clock, ids) = (app.clock.clone(), app.ids.clone());
    let outcome = app
        .store
        .write("backfill_schedule", move |tx| {
            schedules::lock_own(tx, tenant.0, id)?;
            fires::backfill(tx, (tenant.0, id), (from, to), &Moment::of(&*clock, &ids))
        })
        .await?;
    // What was due has fired first, whatever became of the rest.
    app.signals.scheduler.notify_one();
    app.signals.worker.notify_one();
    app.signals.outbox.notify_one();
    match outcome {
        BackfillOutcome::Done { jobs, already_fired } => {
            app.metrics.add(Count::Fires("backfilled"), jobs.len() as u64);
            Ok(ok(wire::Backfilled {
                success: true,
                job_ids: jobs.iter().map(ToString::to_string).collect(),
                already_fired,
            }))
        }
        BackfillOutcome::Unknown => Err(not_found(id)),
        BackfillOutcome::NoWorkflow => Err(ApiError::not_found(format!(
            "workflow: {} has just been deleted",
            quoted(&draft.workflow)
        ))),
        BackfillOutcome::Unreadable(fault) => Err(ApiError::conflict(format!(
            "schedule: this version cannot read when it fires ({fault}); give it another cron_expr or timezone"
        ))),
        BackfillOutcome::QuotaReached { wanted, most } => match wanted > most {
            true => Err(never_fits(wanted, most)),
            false => Err(super::super::jobs::no_room(wanted, most)),
        },
        BackfillOutcome::TooMany(end) => Err(too_many((from, to), end)),
    }
}

/// More jobs than a tenant's quota ever has room for.
fn never_fits(wanted: u64, most: u64) -> ApiError {
    let message = format!(
        "{wanted} instants of the range have made no job, and this tenant's quota allows {most} jobs in the queue; ask for them in \
         parts"
    );
    Fields::refusal([("to", Flaw::new("too_big", message))])
}

fn too_many((from, to): (jiff::Timestamp, jiff::Timestamp), end: jiff::Timestamp) -> ApiError {
    let message = format!(
        "the schedule has at least {} instants from {} to {}, and at most {MOST_BACKFILLED} are made up for at once; ask for \
         them in parts, the first with {} as its end",
        MOST_BACKFILLED + 1,
        rfc3339(from),
        rfc3339(to),
        rfc3339(end)
    );
    Fields::refusal([("to", Flaw::new("too_big", message))])
}
