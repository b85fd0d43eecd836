//! `webhooks/deliveries`, `webhooks/redeliver` and `webhooks/test`.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use impresario_api as wire;

use super::{ApiError, Fields, auth::Tenant, ok, page, webhooks};
use crate::{
    app::App,
    domain::{DeliveryId, EndpointId, JobId, ScheduleId, rfc3339},
    store::ops::{
        Moment,
        deliveries::{self, AttemptView, DeliveryFilter, DeliveryView, PingOutcome, RedeliverOutcome},
    },
};

const STATUSES: [(&str, &str); 3] = [
    ("pending", "pending"),
    ("delivered", "delivered"),
    ("failed", "failed"),
];

/// What is owed to whom, and how the attempts went.
pub(super) async fn deliveries(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let filter = DeliveryFilter {
        delivery: input.optional_uuid("delivery_id").map(DeliveryId),
        job: input.optional_uuid("job_id").map(JobId),
        schedule: input.optional_uuid("schedule_id").map(ScheduleId),
        endpoint: input.optional_uuid("webhook_endpoint_id").map(EndpointId),
        status: input.optional_choice("status", &STATUSES),
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
        reason: delivery.reason,
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
        response_excerpt: attempt.excerpt,
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
            return Ok(webhooks::done(
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

/// Puts a ping into the outbox.
pub(super) async fn test(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    input: Fields,
) -> Result<Response, ApiError> {
    let id: EndpointId = input.only_id()?;
    let (clock, ids) = (app.clock.clone(), app.ids.clone());
    let outcome = app
        .store
        .write("ping", move |tx| {
            deliveries::ping(tx, tenant.0, id, &Moment::of(&*clock, &ids))
        })
        .await?;
    match outcome {
        PingOutcome::Due(delivery) => {
            app.signals.outbox.notify_one();
            Ok(ok(wire::TestedWebhook {
                success: true,
                delivery_id: delivery.to_string(),
                message: "a ping is on its way; webhooks/deliveries with its delivery_id shows how it went"
                    .to_owned(),
            }))
        }
        PingOutcome::Crowded(waiting) => Err(ApiError::conflict(format!(
            "webhook: {waiting} deliveries or more that are due wait for the URL of {id} already, and a ping would come \
             after them; webhooks/deliveries shows how they fare"
        ))),
        PingOutcome::Unknown => Err(webhooks::not_found(id)),
    }
}
