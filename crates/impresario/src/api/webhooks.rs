//! `webhooks/*`, apart from what is sent: see [`deliveries`](super::deliveries).

use std::sync::Arc;

use axum::{extract::State, response::Response};
use impresario_api as wire;
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use serde_json::Value;

use super::{ApiError, Fields, Flaw, Patch, auth::Tenant, fields, ok, run_input, values};
use crate::{
    app::App,
    delivery::sign,
    domain::{DEFAULT_EVENTS, EVENTS, EndpointId, rfc3339},
    spelling::nearest,
    store::ops::webhooks::{self, Endpoint, EndpointChange, EndpointOutcome, Health},
};

/// The end of a job may be told to each active one, so their number bounds what a job puts into the outbox.
const MOST_ENDPOINTS: u32 = 50;
const DESCRIPTION: std::ops::RangeInclusive<usize> = 0..=1000;
/// How long a secret that was replaced signs as well, in seconds: up to 30 days.
const GRACE: std::ops::RangeInclusive<i64> = 0..=webhooks::LONGEST_GRACE.as_secs();
const DEFAULT_GRACE: i64 = 86_400;
const EVENT: std::ops::RangeInclusive<usize> = 1..=100;

pub(super) fn not_found(id: EndpointId) -> ApiError {
    ApiError::not_found(format!("webhook: there is no webhook endpoint {id}"))
}

pub(super) fn done(message: &str) -> Response {
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

/// The secret that was given, or one that is made; and that one once more, to be shown.
fn secret(app: &App, given: Option<String>) -> (String, Option<String>) {
    match given {
        Some(plain) => (plain, None),
        None => {
            let made = sign::new_secret(&app.ids).expose_secret().to_owned();
            (made.clone(), Some(made))
        }
    }
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let url = input.required_parsed("url", 1..=fields::CALLBACK_URL_MAX, |text| {
        run_input::receiver_url(&app, text)
    });
    let given = input
        .patch_with("signing_secret", values::signing_secret)
        .into_option();
    let description = input.patch_string("description", DESCRIPTION).into_option();
    let active = input.optional_bool("active").unwrap_or(true);
    let events = input.patch_with("events", events).into_option();
    let url = input.finish_with(|| url)?;
    let (plain, made) = secret(&app, given);
    let now = app.clock.now();
    let endpoint = Endpoint {
        id: EndpointId(app.ids.uuid(now)),
        url,
        description,
        active,
        events: events.unwrap_or_else(default_events),
        created_at: now,
        updated_at: now,
        health: Health::default(),
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
    let now = app.clock.now();
    let found = app
        .store
        .read("list_webhooks", move |tx| webhooks::list(tx, tenant.0, now))
        .await?;
    Ok(ok(wire::WebhookList {
        webhook_endpoints: found.into_iter().map(view).collect(),
    }))
}

fn view(endpoint: Endpoint) -> wire::WebhookEndpoint {
    let (disabled_at, disabled_reason) = endpoint.health.disabled.unzip();
    wire::WebhookEndpoint {
        webhook_endpoint_id: endpoint.id.to_string(),
        url: endpoint.url,
        description: endpoint.description,
        active: endpoint.active,
        events: endpoint.events,
        failing_since: endpoint.health.failing_since.map(rfc3339),
        disabled_at: disabled_at.map(rfc3339),
        disabled_reason,
        old_secrets_valid_until: endpoint.health.old_secrets_until.map(rfc3339),
        created_at: rfc3339(endpoint.created_at),
        updated_at: rfc3339(endpoint.updated_at),
    }
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
    let has_secret = input.has("signing_secret");
    let secret = input.optional_with("signing_secret", values::signing_secret);
    let grace = input.optional_int("secret_grace_seconds", GRACE);
    if grace.is_some() && !has_secret {
        input.issue(
            "invalid_value",
            "is for a new secret: it needs signing_secret",
            "secret_grace_seconds",
        );
    }
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
    let now = app.clock.now();
    let secret = secret.map(|plain| (run_input::seal(&app, tenant.0, &plain), until(now, grace)));
    let change = EndpointChange {
        url,
        description,
        active,
        events,
        secret,
    };
    make(&app, tenant, id, change, now).await?;
    // What was held back is owed again.
    app.signals.outbox.notify_one();
    Ok(done("webhook endpoint updated"))
}

/// Until when a secret that is replaced now signs as well.
fn until(now: Timestamp, grace: Option<i64>) -> Timestamp {
    let grace = SignedDuration::from_secs(grace.unwrap_or(DEFAULT_GRACE));
    now.checked_add(grace).unwrap_or(Timestamp::MAX)
}

async fn make(
    app: &App,
    tenant: Tenant,
    id: EndpointId,
    change: EndpointChange,
    now: Timestamp,
) -> Result<(), ApiError> {
    let outcome = app
        .store
        .write("update_webhook", move |tx| {
            webhooks::update(tx, tenant.0, id, change.clone(), now)
        })
        .await?;
    match outcome {
        EndpointOutcome::Done => Ok(()),
        EndpointOutcome::Unknown => Err(not_found(id)),
        EndpointOutcome::TooManySecrets(most) => Err(ApiError::conflict(format!(
            "webhook: {most} secrets that {id} had before still sign beside the one it has, the most there may be; with \
             \"secret_grace_seconds\": 0 none of them does any more"
        ))),
    }
}

/// Gives a stored webhook a new secret, and the one before it a while.
pub(super) async fn rotate(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let id = input.required_uuid("id").map(EndpointId);
    let given = input
        .patch_with("signing_secret", values::signing_secret)
        .into_option();
    let grace = input.optional_int("secret_grace_seconds", GRACE);
    let id = input.finish_with(|| id)?;
    let (plain, made) = secret(&app, given);
    let now = app.clock.now();
    let until = until(now, grace);
    let change = EndpointChange {
        secret: Some((run_input::seal(&app, tenant.0, &plain), until)),
        ..EndpointChange::default()
    };
    make(&app, tenant, id, change, now).await?;
    let old = (until > now).then(|| rfc3339(until));
    let message = match &old {
        Some(until) => {
            format!("the new secret signs from now on; the one before it signs as well until {until}")
        }
        None => "the new secret signs from now on, and no other".to_owned(),
    };
    Ok(ok(wire::RotatedSecret {
        success: true,
        message,
        signing_secret: made.map(Into::into),
        old_secret_valid_until: old,
    }))
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    input: Fields,
) -> Result<Response, ApiError> {
    let id: EndpointId = input.only_id()?;
    let now = app.clock.now();
    if !app
        .store
        .write("delete_webhook", move |tx| {
            webhooks::delete(tx, tenant.0, id, now)
        })
        .await?
    {
        return Err(not_found(id));
    }
    Ok(done("webhook endpoint deleted"))
}
