//! `webhooks/*`.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use impresario_api as wire;
use secrecy::ExposeSecret;
use serde_json::Value;

use super::{ApiError, Fields, Flaw, Patch, auth::Tenant, fields, ok, page, run_input, values};
use crate::{
    app::App,
    delivery::sign,
    domain::{DEFAULT_EVENTS, DeliveryId, EVENTS, EndpointId, JobId, ScheduleId, rfc3339},
    spelling::nearest,
    store::ops::{
        deliveries::{self, AttemptView, DeliveryFilter, DeliveryView, RedeliverOutcome},
        webhooks::{self, Endpoint, EndpointChange},
    },
};

/// The end of a job may be told to each active one, so their number bounds what a job puts into the outbox.
const MOST_ENDPOINTS: u32 = 50;
const SECRET: std::ops::RangeInclusive<usize> = 1..=1024;
const DESCRIPTION: std::ops::RangeInclusive<usize> = 0..=1000;
const EVENT: std::ops::RangeInclusive<usize> = 1..=100;

fn not_found(id: EndpointId) -> ApiError {
    ApiError::not_found(format!("webhook: there is no webhook endpoint {id}"))
}

fn done(message: &str) -> Response {
    ok(wire::Done {
        success: true,
        message: message.to_owned(),
    })
}

fn default_events() -> Vec<String> {
    DEFAULT_EVENTS.map(str::to_owned).to_vec()
}

/// A list of at least one event, each of them once.
fn events(value: Value) -> Result<Vec<String>, Vec<Flaw>> {
    let named = values::parsed_list(value, EVENTS.len(), &EVENT, event)?;
    if named.is_empty() {
        let message = format!("must name at least one event (of {})", EVENTS.join(", "));
        return Err(vec![Flaw::new("too_small", message)]);
    }
    let mut kept: Vec<String> = Vec::new();
    for name in named {
        if !kept.contains(&name) {
            kept.push(name);
        }
    }
    Ok(kept)
}

fn event(name: &str) -> Result<String, Flaw> {
    if EVENTS.contains(&name) {
        return Ok(name.to_owned());
    }
    let hint = match nearest(name, &EVENTS) {
        Some(near) => format!("did you mean \"{near}\"? "),
        None => String::new(),
    };
    let (name, allowed) = (values::quoted(name), EVENTS.join(", "));
    let message = format!("{name} is not an event ({hint}one of {allowed})");
    Err(Flaw::new("invalid_value", message))
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let url = input.required_parsed("url", 1..=fields::CALLBACK_URL_MAX, |text| {
        run_input::receiver_url(&app, text)
    });
    let given = input.patch_secret("signing_secret", SECRET).into_option();
    let description = input.patch_string("description", DESCRIPTION).into_option();
    let active = input.optional_bool("active").unwrap_or(true);
    let events = input.patch_with("events", events).into_option();
    let url = input.finish_with(|| url)?;
    let made = given
        .is_none()
        .then(|| sign::new_secret(&app.ids).expose_secret().to_owned());
    let plain = given.or_else(|| made.clone()).unwrap_or_default();
    let now = app.clock.now();
    let endpoint = Endpoint {
        id: EndpointId(app.ids.uuid(now)),
        url,
        description,
        active,
        events: events.unwrap_or_else(default_events),
        created_at: now,
        updated_at: now,
    };
    let (id, secret) = (endpoint.id, run_input::seal(&app, tenant.0, &plain));
    if !app
        .store
        .write("create_webhook", move |tx| {
            webhooks::create(tx, tenant.0, (endpoint.clone(), secret.clone()), MOST_ENDPOINTS)
        })
        .await?
    {
        return Err(ApiError::conflict(format!(
            "webhook: there are {MOST_ENDPOINTS} webhook endpoints already, the most there may be; delete one first"
        )));
    }
    let message = match made {
        Some(_) => "webhook endpoint created; its signing secret is shown this once",
        None => "webhook endpoint created",
    };
    Ok(ok(wire::CreatedWebhook {
        success: true,
        webhook_endpoint_id: id.to_string(),
        message: message.to_owned(),
        signing_secret: made.map(Into::into),
    }))
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    input: Fields,
) -> Result<Response, ApiError> {
    input.finish()?;
    let found = app
        .store
        .read("list_webhooks", move |tx| webhooks::list(tx, tenant.0))
        .await?;
    let webhook_endpoints = found
        .into_iter()
        .map(|endpoint| wire::WebhookEndpoint {
            webhook_endpoint_id: endpoint.id.to_string(),
            url: endpoint.url,
            description: endpoint.description,
            active: endpoint.active,
            events: endpoint.events,
            created_at: rfc3339(endpoint.created_at),
            updated_at: rfc3339(endpoint.updated_at),
        })
        .collect();
    Ok(ok(wire::WebhookList { webhook_endpoints }))
}

pub(super) async fn update(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let id = input.required_uuid("id").map(EndpointId);
    let url = input.optional_parsed("url", 1..=fields::CALLBACK_URL_MAX, |text| {
        run_input::receiver_url(&app, text)
    });
    let secret = input.optional_secret("signing_secret", SECRET);
    let description = match input.patch_string("description", DESCRIPTION) {
        Patch::Absent => None,
        Patch::Null => Some(None),
        Patch::Set(text) => Some(Some(text)),
    };
    let active = input.optional_bool("active");
    let events = match input.patch_with("events", events) {
        Patch::Absent => None,
        Patch::Null => Some(default_events()),
        Patch::Set(events) => Some(events),
    };
    let id = input.finish_with(|| id)?;
    let secret = secret.map(|plain| run_input::seal(&app, tenant.0, &plain));
    let (change, now) = (
        EndpointChange {
            url,
            description,
            active,
            events,
            secret,
        },
        app.clock.now(),
    );
    if !app
        .store
        .write("update_webhook", move |tx| {
            webhooks::update(tx, tenant.0, id, change.clone(), now)
        })
        .await?
    {
        return Err(not_found(id));
    }
    Ok(done("webhook endpoint updated"))
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    input: Fields,
) -> Result<Response, ApiError> {
    let id: EndpointId = input.only_id()?;
    if !app
        .store
        .write("delete_webhook", move |tx| webhooks::delete(tx, tenant.0, id))
        .await?
    {
        return Err(not_found(id));
    }
    Ok(done("webhook endpoint deleted"))
}

/// What is owed to whom, and how the attempts went.
pub(super) async fn deliveries(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let filter = DeliveryFilter {
        job: input.optional_uuid("job_id").map(JobId),
        schedule: input.optional_uuid("schedule_id").map(ScheduleId),
        endpoint: input.optional_uuid("webhook_endpoint_id").map(EndpointId),
    };
    let after = page::cursor(&mut input);
    let limit = page::limit(&mut input, "limit", 50, 200);
    input.finish()?;
    let found = app
        .store
        .read("list_deliveries", move |tx| {
            deliveries::list(tx, tenant.0, filter, after.clone(), limit + 1)
        })
        .await?;
    let (found, next_cursor) = page::cut(found, limit, |delivery| (delivery.created_at, delivery.id.0));
    Ok(ok(wire::DeliveryList {
        deliveries: found.into_iter().map(delivery_view).collect(),
        next_cursor,
    }))
}

fn delivery_view(delivery: DeliveryView) -> wire::Delivery {
    let newest = delivery.log.last();
    wire::Delivery {
        delivery_id: delivery.id.to_string(),
        job_id: delivery.job.map(|id| id.to_string()),
        schedule_id: delivery.schedule.map(|id| id.to_string()),
        webhook_endpoint_id: delivery.endpoint.map(|id| id.to_string()),
        url: delivery.url,
        event: delivery.event,
        status: delivery.status,
        attempts: delivery.attempts,
        next_attempt_at: delivery.next_attempt_at.map(rfc3339),
        created_at: rfc3339(delivery.created_at),
        last_status_code: newest.and_then(|attempt| attempt.status),
        last_latency_ms: newest.map(|attempt| attempt.latency_ms),
        last_error: newest.and_then(|attempt| attempt.error.clone()),
        attempt_log: delivery.log.into_iter().map(attempt_view).collect(),
    }
}

fn attempt_view(attempt: AttemptView) -> wire::DeliveryAttempt {
    wire::DeliveryAttempt {
        number: attempt.number,
        attempted_at: rfc3339(attempt.at),
        status_code: attempt.status,
        latency_ms: attempt.latency_ms,
        error_class: attempt.class,
        error: attempt.error,
    }
}

/// Sends what was delivered, given up or waits once more, from now on.
pub(super) async fn redeliver(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let id = input.required_uuid("delivery_id").map(DeliveryId);
    let id = input.finish_with(|| id)?;
    let clock = app.clock.clone();
    let outcome = app
        .store
        .write("redeliver", move |tx| {
            deliveries::redeliver(tx, tenant.0, id, || clock.now())
        })
        .await?;
    let refused = match outcome {
        RedeliverOutcome::Due => {
            app.signals.outbox.notify_one();
            return Ok(done(
                "the delivery is due now; webhooks/deliveries shows how it goes",
            ));
        }
        RedeliverOutcome::Unknown => {
            let message = format!("delivery_id: there is no delivery {id}");
            return Err(ApiError::not_found(message));
        }
        RedeliverOutcome::UnderWay => {
            format!("delivery: an attempt of {id} is under way; ask again when it has ended")
        }
        RedeliverOutcome::EndpointDeleted(endpoint) => format!(
            "delivery: the webhook endpoint {endpoint}, to which {id} went, has been deleted; nothing more is sent there"
        ),
        RedeliverOutcome::EndpointInactive(endpoint) => format!(
            "delivery: the webhook endpoint {endpoint}, to which {id} goes, is not active; make it active first \
             (webhooks/update with \"active\": true)"
        ),
    };
    Err(ApiError::conflict(refused))
}
