//! The routes beside a schedule's own: run it now, what became of its fires, and what an expression means.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use impresario_api as wire;
use impresario_cron::Zone;

use super::{
    super::{ApiError, Fields, Flaw, auth::Tenant, ok, page, run_input, values},
    behaviour, find,
    input::{cron, zone},
};
use crate::{
    app::App,
    clock::to_millis,
    domain::{JobId, NewJob, Pattern, ScheduleId, rfc3339},
    params,
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
        input.report("params", params::flaws(workflow, &params).await);
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
            jobs::create(tx, tenant.0, new.clone(), None, now)
        })
        .await?
    {
        CreateOutcome::Created(job) => {
            app.signals.worker.notify_one();
            Ok(ok(wire::TriggeredJob {
                success: true,
                job_id: job.id.to_string(),
                status: job.status.as_str().to_owned(),
            }))
        }
        CreateOutcome::QuotaReached(most) => Err(super::super::jobs::queue_full(most)),
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
    let fires = rows.into_iter().take(limit).map(shown).collect();
    Ok(ok(wire::FireList { fires, next_cursor }))
}

/// A row of the ledger as the answer shows it.
fn shown(row: LedgerRow) -> wire::Fire {
    wire::Fire {
        fire_at: rfc3339(row.fire_at),
        due_at: rfc3339(row.due_at),
        fired_at: rfc3339(row.recorded_at),
        outcome: row.outcome,
        reason: row.reason,
        job_id: row.job.map(|id| id.to_string()),
        job_status: row.job_status,
        missed: row.missed,
        missed_until: row.missed_until.map(rfc3339),
        error: row.error,
    }
}

/// An instant, cut to milliseconds as those of schedules are.
fn bound(input: &mut Fields, name: &'static str) -> Option<jiff::Timestamp> {
    let read = input.patch_with(name, |value| values::instant(&value).map(to_millis));
    read.into_option()
}

/// An expression in plain English, and its next fires.
pub(in crate::api) async fn preview(
    State(app): State<Arc<App>>,
    _tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let cron = input.required_parsed("cron_expr", 0..=usize::MAX, cron);
    let zone = input.optional_parsed("timezone", 0..=usize::MAX, zone);
    let after = bound(&mut input, "after");
    let count = page::limit(&mut input, "count", 5, 100);
    let start_at = bound(&mut input, "start_at");
    let end_at = bound(&mut input, "end_at");
    if let Err((field, flaw)) = behaviour::in_order(start_at, end_at) {
        input.report(field, vec![flaw]);
    }
    let pattern = cron.and_then(|cron| {
        Pattern::parse(&cron, zone.as_ref().map_or("UTC", Zone::name))
            .map_err(|error| input.issue("invalid_value", error.to_string(), "cron_expr"))
            .ok()
    });
    let pattern = input.finish_with(|| pattern)?;
    let mut from = after.unwrap_or_else(|| app.clock.now());
    if let Some(start) = start_at.filter(|start| *start > from) {
        // The start is inclusive, and fires are asked for strictly after an instant.
        from = start
            .checked_sub(jiff::SignedDuration::from_millis(1))
            .unwrap_or(start);
    }
    let fires = pattern
        .fires_after(from)
        .take_while(|fire| end_at.is_none_or(|end| fire.at < end))
        .take(count as usize)
        .map(|fire| wire::PreviewedFire {
            at: rfc3339(fire.at),
            local: pattern.local(fire.at),
            dst: fire.dst.map(|dst| dst.as_str().to_owned()),
        })
        .collect();
    Ok(ok(wire::SchedulePreview {
        description: pattern.describe(),
        timezone: pattern.zone().to_owned(),
        fires,
        tzdb_version: Some(Zone::tzdb_version().to_owned()),
    }))
}
