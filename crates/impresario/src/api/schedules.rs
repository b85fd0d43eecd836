//! `schedules/*`.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use impresario_api as wire;
use impresario_cron::{Cron, Zone};
use serde_json::{Map, Value, json};

use super::{
    ApiError, Fields, Flaw,
    auth::Tenant,
    ok, page,
    run_input::{self, CallbackAfter, CallbackPatch, LaunchPatch},
};
use crate::{
    app::App,
    domain::{JobId, Launch, NewJob, Pattern, Schedule, ScheduleDraft, ScheduleId, rfc3339},
    scheduler,
    store::ops::{
        fires,
        jobs::{self, CreateOutcome},
        schedules::{self, ScheduleFilter},
    },
};

/// Where a schedule does not say how long a run may take, in seconds.
const DEFAULT_TIMEOUT: u32 = 900;

fn launch_defaults() -> Launch {
    Launch {
        timeout_seconds: DEFAULT_TIMEOUT,
        start_url: None,
        gpu: None,
        headless: None,
        viewport: None,
        residential_proxy: None,
        disable_default_proxy: None,
        credential_id: None,
    }
}

fn not_found(id: ScheduleId) -> ApiError {
    ApiError::not_found(format!("schedule: there is no schedule {id}"))
}

/// What create and update have in common.
#[derive(Debug, Clone)]
struct Patch {
    params: Option<Map<String, Value>>,
    cron: Option<(String, Cron)>,
    zone: Option<Zone>,
    launch: LaunchPatch,
    callback: CallbackPatch,
    skip_callbacks: Option<bool>,
    enabled: Option<bool>,
}

impl Patch {
    fn read(app: &App, tenant: Tenant, input: &mut Fields) -> Self {
        Self {
            params: input.optional_object("params"),
            // Their lengths are their own rules, with errors of their own.
            cron: input.optional_parsed("cron_expr", 0..=usize::MAX, cron),
            zone: input.optional_parsed("timezone", 0..=usize::MAX, zone),
            launch: LaunchPatch::read(input),
            callback: CallbackPatch::read(app, tenant.0, input),
            skip_callbacks: input.optional_bool("skip_callbacks"),
            enabled: input.optional_bool("enabled"),
        }
    }

    /// What `before` becomes, and the receiver with it; or all that is wrong with the result.
    fn apply(
        self,
        before: &ScheduleDraft,
    ) -> Result<(ScheduleDraft, CallbackAfter), Vec<(&'static str, Flaw)>> {
        let mut flaws = Vec::new();
        let pattern = if self.cron.is_none() && self.zone.is_none() {
            Ok(before.pattern.clone())
        } else {
            let expr = self.cron.as_ref().map(|(expr, _)| expr.as_str());
            before.pattern.changed(expr, self.zone.as_ref().map(Zone::name))
        };
        let pattern = pattern
            .map_err(|error| flaws.push(("cron_expr", Flaw::new("invalid_value", error.to_string()))))
            .ok();
        let launch = self
            .launch
            .apply(&before.launch)
            .map_err(|flaw| flaws.push(flaw))
            .ok();
        let receiver = (before.callback_url.clone(), before.callback_secret);
        let callback = self
            .callback
            .apply(receiver)
            .map_err(|flaw| flaws.push(flaw))
            .ok();
        let (Some(pattern), Some(launch), Some(callback)) = (pattern, launch, callback) else {
            return Err(flaws);
        };
        let draft = ScheduleDraft {
            workflow: before.workflow.clone(),
            params: self.params.unwrap_or_else(|| before.params.clone()),
            pattern,
            launch,
            callback_url: callback.url.clone(),
            callback_secret: callback.secret,
            skip_callbacks: self.skip_callbacks.unwrap_or(before.skip_callbacks),
            enabled: self.enabled.unwrap_or(before.enabled),
        };
        Ok((draft, callback))
    }
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let workflow = input.required_string("workflow", run_input::WORKFLOW_NAME);
    if !input.has("cron_expr") {
        input.issue("invalid_type", "is required", "cron_expr");
    }
    let patch = Patch::read(&app, tenant, &mut input);
    let found = match &workflow {
        Some(name) => Some(run_input::find_workflow(&app, tenant.0, name).await),
        None => None,
    };
    if let (Some(Ok(found)), Some(params)) = (&found, patch.params.as_ref().or(Some(&Map::new()))) {
        input.report("params", run_input::check_params(found, params).await);
    }
    let draft = match first_draft(workflow, &patch).map(|first| patch.apply(&first)) {
        Some(Ok(draft)) => Some(draft),
        Some(Err(flaws)) => {
            for (field, flaw) in flaws {
                input.report(field, vec![flaw]);
            }
            None
        }
        None => None,
    };
    let (draft, callback) = input.finish_with(|| draft)?;
    found.transpose()?;
    let now = app.clock.now();
    let ids = (tenant.0, ScheduleId(app.ids.uuid(now)));
    let created = app
        .store
        .write("create_schedule", move |tx| {
            schedules::create(tx, ids, draft, callback.new_secret, now)
        })
        .await?;
    app.signals.scheduler.notify_one();
    Ok(ok(wire::ScheduleCreated {
        success: true,
        schedule: view(&app, &created),
    }))
}

/// What a create starts from; nothing where the workflow or the expression is missing or wrong.
fn first_draft(workflow: Option<String>, patch: &Patch) -> Option<ScheduleDraft> {
    // Whether it ever fires is said with everything else that is wrong, by `apply`.
    let pattern = Pattern::unchecked(patch.cron.clone()?, Zone::get("UTC").ok()?);
    Some(ScheduleDraft {
        workflow: workflow?,
        params: Map::new(),
        pattern,
        launch: launch_defaults(),
        callback_url: None,
        callback_secret: None,
        skip_callbacks: false,
        enabled: true,
    })
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let filter = ScheduleFilter {
        enabled: input.optional_bool("enabled"),
        workflow: input.optional_string("workflow", run_input::WORKFLOW_NAME),
        after: page::cursor(&mut input),
    };
    let limit = page::limit(&mut input, "limit", 50, 200);
    input.finish()?;
    let found = app
        .store
        .read("list_schedules", move |tx| {
            schedules::list(tx, tenant.0, filter, limit + 1)
        })
        .await?;
    let (found, next_cursor) = page::cut(found, limit, |schedule| (schedule.created_at, schedule.id.0));
    Ok(ok(wire::ScheduleList {
        schedules: found.iter().map(|schedule| view(&app, schedule)).collect(),
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
    mut input: Fields,
) -> Result<Response, ApiError> {
    let id = input.required_uuid("id");
    let id = ScheduleId(input.finish_with(|| id)?);
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
    if let Some(params) = &patch.params
        && let Ok(workflow) = run_input::find_workflow(&app, tenant.0, &before.draft.workflow).await
    {
        input.report("params", run_input::check_params(&workflow, params).await);
    }
    if let Err(flaws) = patch.clone().apply(&before.draft) {
        for (field, flaw) in flaws {
            input.report(field, vec![flaw]);
        }
    }
    input.finish()?;

    let (clock, ids) = (app.clock.clone(), app.ids.clone());
    // The rules are asked again inside the transaction: another update may have come between, and they hold for the
    // result.
    let changed = app
        .store
        .write("update_schedule", move |tx| {
            scheduler::with_context(&clock, &ids, |context| {
                schedules::change(tx, (tenant.0, id), context, |before| {
                    patch
                        .apply(before)
                        .map(|(draft, callback)| (draft, callback.new_secret))
                })
            })
        })
        .await?;
    let after = changed.ok_or_else(|| not_found(id))?.map_err(refused)?;
    app.signals.scheduler.notify_one();
    app.signals.worker.notify_one();
    Ok(ok(wire::OneSchedule {
        schedule: view(&app, &after),
    }))
}

fn refused(flaws: Vec<(&'static str, Flaw)>) -> ApiError {
    let mut input = Fields::new(Map::new());
    for (field, flaw) in flaws {
        input.report(field, vec![flaw]);
    }
    input
        .finish()
        .err()
        .unwrap_or_else(|| ApiError::bad_request("the schedule cannot be changed like this"))
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let id = input.required_uuid("id");
    let id = ScheduleId(input.finish_with(|| id)?);
    let (clock, ids) = (app.clock.clone(), app.ids.clone());
    let deleted = app
        .store
        .write("delete_schedule", move |tx| {
            scheduler::with_context(&clock, &ids, |context| {
                schedules::delete(tx, tenant.0, id, context)
            })
        })
        .await?;
    if !deleted {
        return Err(not_found(id));
    }
    app.signals.worker.notify_one();
    Ok(ok(wire::DeletedSchedule {
        success: true,
        id: id.to_string(),
    }))
}

/// Runs it now, perhaps with other params. It counts as no fire.
pub(super) async fn trigger(
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
pub(super) async fn history(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let id = input.required_uuid("id").map(ScheduleId);
    let before = input.optional_parsed("cursor", 1..=40, |text| {
        text.parse()
            .map_err(|_| Flaw::new("invalid_value", "is not a cursor of this list"))
    });
    let limit = page::limit(&mut input, "limit", 50, 200);
    let id = input.finish_with(|| id)?;
    find(&app, tenant, id).await?;
    let mut rows = app
        .store
        .read("history", move |tx| {
            fires::history(tx, tenant.0, id, before, limit + 1)
        })
        .await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next_cursor = rows
        .last()
        .filter(|_| more)
        .map(|row| row.fire_at.as_millisecond().to_string());
    let fires: Vec<Value> = rows
        .into_iter()
        .map(|row| {
            json!({
                "fire_at": rfc3339(row.fire_at),
                "fired_at": rfc3339(row.recorded_at),
                "outcome": row.outcome,
                "job_id": row.job,
                "job_status": row.job_status,
                "missed": row.missed,
                "error": row.error,
            })
        })
        .collect();
    Ok(ok(json!({"fires": fires, "next_cursor": next_cursor})))
}

/// An expression in plain English, and its next fires.
pub(super) async fn preview(
    State(app): State<Arc<App>>,
    _tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let cron = input.required_parsed("cron_expr", 0..=usize::MAX, cron);
    let zone = input.optional_parsed("timezone", 0..=usize::MAX, zone);
    let after = input.optional_instant("after");
    let count = page::limit(&mut input, "count", 5, 100);
    let pattern = cron.and_then(|cron| {
        let utc = Pattern::unchecked(cron, Zone::get("UTC").ok()?);
        utc.changed(None, zone.as_ref().map(Zone::name))
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

fn cron(text: &str) -> Result<(String, Cron), Flaw> {
    let cron = text
        .parse::<Cron>()
        .map_err(|error| Flaw::new("invalid_format", error.to_string()))?;
    Ok((text.to_owned(), cron))
}

fn zone(name: &str) -> Result<Zone, Flaw> {
    Zone::get(name).map_err(|error| Flaw::new("invalid_value", error.to_string()))
}

/// A schedule as every answer shows it.
fn view(app: &App, schedule: &Schedule) -> wire::Schedule {
    let draft = &schedule.draft;
    wire::Schedule {
        id: schedule.id.to_string(),
        workflow: draft.workflow.clone(),
        params: draft.params.clone(),
        cron_expr: draft.pattern.expr().to_owned(),
        timezone: draft.pattern.zone().to_owned(),
        timeout_seconds: draft.launch.timeout_seconds,
        start_url: draft.launch.start_url.clone(),
        gpu: draft.launch.gpu,
        viewport: draft.launch.viewport,
        residential_proxy: draft.launch.residential_proxy.clone(),
        disable_default_proxy: draft.launch.disable_default_proxy,
        callback_url: draft.callback_url.clone(),
        skip_callbacks: draft.skip_callbacks,
        enabled: draft.enabled,
        next_fire_at: schedule.shown_next_fire(app.clock.now()).map(rfc3339),
        last_fire_at: schedule.last_fire_at.map(rfc3339),
        last_job_id: schedule.last_job_id.map(|id| id.to_string()),
        last_error: schedule.last_error.clone(),
        consecutive_failures: schedule.consecutive_failures,
        created_at: rfc3339(schedule.created_at),
        updated_at: rfc3339(schedule.updated_at),
    }
}
