//! `schedules/*`: here what makes, shows, changes and ends a schedule; [`input`] reads what create and update have in
//! common, [`extras`] has the routes beside them.

mod backfill;
mod behaviour;
mod extras;
mod input;

use std::sync::Arc;

use axum::{extract::State, response::Response};
use impresario_api as wire;
use serde_json::Map;

use self::input::Patch;
pub(super) use self::{
    backfill::backfill,
    extras::{history, preview, trigger},
};
use super::{ApiError, Fields, Flaw, auth::Tenant, ok, page, run_input, values};
use crate::{
    app::App,
    domain::{Schedule, ScheduleId, rfc3339},
    params,
    store::ops::{
        Moment,
        schedules::{self, Change, ChangeOutcome, CreateOutcome, ScheduleFilter},
    },
};

fn name_taken(name: Option<String>) -> ApiError {
    let name = values::quoted(&name.unwrap_or_default());
    ApiError::conflict(format!(
        "name: another schedule is called {name}; a name belongs to one schedule"
    ))
}

fn quota_reached(most: u64) -> ApiError {
    let schedules = if most == 1 { "schedule" } else { "schedules" };
    ApiError::forbidden(format!(
        "schedules: this tenant has {most} {schedules}, the most its quota allows; delete some, or ask the operator for more"
    ))
}

fn not_found(id: ScheduleId) -> ApiError {
    ApiError::not_found(format!("schedule: there is no schedule {id}"))
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let workflow = input.required_string("workflow", run_input::WORKFLOW_NAME);
    let patch = Patch::read_for_create(&app, tenant, &mut input);
    let found = match &workflow {
        Some(name) => Some(run_input::find_workflow(&app, tenant.0, name).await),
        None => None,
    };
    if let (Some(Ok(found)), Some(params)) = (&found, patch.params.as_ref().or(Some(&Map::new()))) {
        input.report("params", params::flaws(found, params).await);
    }
    let now = app.clock.now();
    let (draft, flaws) = patch.into_new(workflow, now);
    for (field, flaw) in flaws {
        input.report(field, vec![flaw]);
    }
    let (draft, callback) = input.finish_with(|| draft)?;
    let checked = found.transpose()?.map(|workflow| workflow.deployment.id);
    let ids = (tenant.0, ScheduleId(app.ids.uuid(now)));
    let name = draft.label.name.clone();
    let created = app
        .store
        .write("create_schedule", move |tx| {
            schedules::create(
                tx,
                ids,
                (draft.clone(), checked),
                callback.new_secret.clone(),
                now,
            )
        })
        .await?;
    let created = match created {
        CreateOutcome::Created(created) => created,
        CreateOutcome::NameTaken => return Err(name_taken(name)),
        CreateOutcome::QuotaReached(most) => return Err(quota_reached(most)),
    };
    app.signals.scheduler.notify_one();
    Ok(ok(wire::ScheduleCreated {
        success: true,
        schedule: view(&app, &created),
    }))
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let filter = ScheduleFilter {
        enabled: input.optional_bool("enabled"),
        workflow: input.optional_string("workflow", run_input::WORKFLOW_NAME),
        name: input.optional_string("name", 1..=100),
        tag: input.optional_string("tag", 1..=50),
        params_valid: input.optional_bool("params_valid"),
        after: page::cursor(&mut input),
    };
    let limit = page::limit(&mut input, "limit", 50, 200);
    input.finish()?;
    let found = app
        .store
        .read("list_schedules", move |tx| {
            schedules::list(tx, tenant.0, filter.clone(), limit + 1)
        })
        .await?;
    let (found, next_cursor) = page::cut(found, limit, |listed| (listed.created_at, listed.id.0));
    let readable = found.iter().filter_map(|listed| listed.schedule.as_deref());
    Ok(ok(wire::ScheduleList {
        schedules: readable.map(|schedule| view(&app, schedule)).collect(),
        next_cursor,
    }))
}

async fn find(app: &App, tenant: Tenant, id: ScheduleId) -> Result<Schedule, ApiError> {
    let found = app
        .store
        .read("get_schedule", move |tx| schedules::get(tx, tenant.0, id))
        .await?;
    found.ok_or_else(|| not_found(id))
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    input: Fields,
) -> Result<Response, ApiError> {
    let id: ScheduleId = input.only_id()?;
    let schedule = find(&app, tenant, id).await?;
    Ok(ok(wire::OneSchedule {
        schedule: view(&app, &schedule),
    }))
}

pub(super) async fn update(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let id = input.required_uuid("id").map(ScheduleId);
    if input.has("workflow") {
        input.required_with("workflow", |_| {
            Err::<(), _>(Flaw::new("custom", "cannot be changed; make a new schedule"))
        });
    }
    let patch = Patch::read(&app, tenant, &mut input);
    let Some(id) = id else {
        return Err(input
            .finish()
            .err()
            .unwrap_or_else(|| ApiError::bad_request("id")));
    };
    let before = find(&app, tenant, id).await?;
    let mut checked = None;
    if let Some(params) = &patch.params
        && let Ok(workflow) = run_input::find_workflow(&app, tenant.0, &before.draft.workflow).await
    {
        input.report("params", params::flaws(&workflow, params).await);
        checked = Some(workflow.deployment.id);
    }
    if let Err(flaws) = patch.clone().apply(&before.draft) {
        for (field, flaw) in flaws {
            input.report(field, vec![flaw]);
        }
    }
    input.finish()?;

    let (clock, ids) = (app.clock.clone(), app.ids.clone());
    let name = patch.name();
    // The rules are asked again inside the transaction: another update may have come between, and they hold for the
    // result.
    let changed = app
        .store
        .write("update_schedule", move |tx| {
            schedules::lock_own(tx, tenant.0, id)?;
            let moment = Moment::of(&*clock, &ids);
            schedules::change(tx, (tenant.0, id), &moment, |before| {
                let (draft, callback) = patch.clone().apply(before)?;
                Ok(Change {
                    draft,
                    secret: callback.new_secret,
                    checked,
                })
            })
        })
        .await?;
    let after = match changed {
        ChangeOutcome::Changed(after) => after,
        ChangeOutcome::Unknown => return Err(not_found(id)),
        ChangeOutcome::Refused(flaws) => return Err(Fields::refusal::<input::Flaws>(flaws)),
        ChangeOutcome::NameTaken => return Err(name_taken(name)),
    };
    app.signals.scheduler.notify_one();
    app.signals.worker.notify_one();
    app.signals.outbox.notify_one();
    Ok(ok(wire::OneSchedule {
        schedule: view(&app, &after),
    }))
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    input: Fields,
) -> Result<Response, ApiError> {
    let id: ScheduleId = input.only_id()?;
    let (clock, ids) = (app.clock.clone(), app.ids.clone());
    let deleted = app
        .store
        .write("delete_schedule", move |tx| {
            schedules::lock_own(tx, tenant.0, id)?;
            schedules::delete(tx, tenant.0, id, &Moment::of(&*clock, &ids))
        })
        .await?;
    if !deleted {
        return Err(not_found(id));
    }
    app.signals.worker.notify_one();
    app.signals.outbox.notify_one();
    Ok(ok(wire::DeletedSchedule {
        success: true,
        id: id.to_string(),
    }))
}

/// A schedule as every answer shows it.
fn view(app: &App, schedule: &Schedule) -> wire::Schedule {
    let draft = &schedule.draft;
    let now = app.clock.now();
    let next = schedule.shown_next_fire(now);
    wire::Schedule {
        id: schedule.id.to_string(),
        workflow: draft.workflow.clone(),
        params: draft.params.clone(),
        name: draft.label.name.clone(),
        description: draft.label.description.clone(),
        tags: draft.label.tags.clone(),
        cron_expr: draft.timing.pattern.expr().to_owned(),
        timezone: draft.timing.pattern.zone().to_owned(),
        start_at: draft.timing.start_at.map(rfc3339),
        end_at: draft.timing.end_at.map(rfc3339),
        jitter_seconds: draft.timing.jitter_seconds,
        misfire_policy: draft.policies.misfire.as_str().to_owned(),
        catchup_window_seconds: draft.policies.catchup_window_seconds,
        overlap_policy: draft.policies.overlap.as_str().to_owned(),
        max_consecutive_failures: draft.policies.max_consecutive_failures,
        timeout_seconds: draft.launch.timeout_seconds,
        start_url: draft.launch.start_url.clone(),
        gpu: draft.launch.gpu,
        viewport: draft.launch.viewport,
        residential_proxy: draft.launch.residential_proxy.clone(),
        disable_default_proxy: draft.launch.disable_default_proxy,
        callback_url: draft.callback_url.clone(),
        skip_callbacks: draft.skip_callbacks,
        enabled: draft.enabled,
        state: schedule.state(now).as_str().to_owned(),
        disabled_reason: schedule
            .self_disabled
            .as_ref()
            .map(|disabled| disabled.reason.clone()),
        next_fire_at: next.map(rfc3339),
        next_due_at: next.map(|at| rfc3339(schedule.due_at(at))),
        catching_up: schedule.catching_up,
        params_error: schedule.params_check.error.clone(),
        last_fire_at: schedule.last_fire_at.map(rfc3339),
        last_job_id: schedule.last_job_id.map(|id| id.to_string()),
        last_error: schedule.last_error.clone(),
        consecutive_failures: schedule.consecutive_failures,
        created_at: rfc3339(schedule.created_at),
        updated_at: rfc3339(schedule.updated_at),
    }
}
