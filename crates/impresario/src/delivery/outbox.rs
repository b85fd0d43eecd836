//! The outbox's loop. What comes in: deliveries that the end of a job put into the store. What goes out: signed
//! requests, each attempt on record, and the next one planned, until the receiver takes it or none is left.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    backoff,
    http::{Attempt, AttemptResult},
};
use crate::{
    app::App,
    background::{self, Next},
    store::{
        self,
        ops::{
            deliveries::{self, AfterAttempt, AttemptRecord, DueDelivery},
            secrets,
        },
    },
    vault,
};

/// Attempts that are under way at once.
const MOST_IN_FLIGHT: usize = 64;
/// Of those, to one URL of one tenant.
const MOST_PER_RECEIVER: usize = 2;

/// Frees what an earlier server of this data directory had in flight: whether it arrived cannot be known, so it is
/// sent again under the same id.
///
/// # Errors
/// The store's.
pub async fn recover(app: &App) -> store::Result<()> {
    let now = app.clock.now();
    let freed = app
        .store
        .write("recover_deliveries", move |tx| deliveries::recover(tx, now))
        .await?;
    if freed > 0 {
        tracing::warn!(freed, "deliveries of an earlier server are sent again");
    }
    Ok(())
}

/// Delivers until `shutdown`; attempts that are under way then go on as tasks of `tasks`.
pub async fn run(app: &Arc<App>, tasks: &TaskTracker, shutdown: &CancellationToken) {
    let around = (&app.clock, &app.signals.outbox, &*app.pulse);
    background::run("outbox", around, shutdown, || tick(app, tasks)).await;
}

async fn tick(app: &Arc<App>, tasks: &TaskTracker) -> store::Result<Next> {
    let free = MOST_IN_FLIGHT.saturating_sub(Arc::strong_count(&app.in_flight) - 1);
    if free == 0 {
        return Ok(Next::Idle);
    }
    let next = app
        .store
        .read_now("next_delivery", |tx| deliveries::next_due(tx, MOST_PER_RECEIVER))
        .await?;
    let Some(next) = next else { return Ok(Next::Idle) };
    let now = app.clock.now();
    if next > now {
        return Ok(Next::At(next));
    }
    let token = app.ids.uuid(now).to_string();
    let lease = token.clone();
    let claimed = app
        .store
        .write("claim_deliveries", move |tx| {
            deliveries::claim(tx, (free, MOST_PER_RECEIVER), &lease, now)
        })
        .await?;
    // Due, but its tenant has all it may have: the end of one of those rings again.
    if claimed.is_empty() {
        return Ok(Next::Idle);
    }
    for delivery in claimed {
        let (app, token, place) = (Arc::clone(app), token.clone(), Arc::clone(&app.in_flight));
        tasks.spawn(async move {
            attempt(&app, &delivery, &token).await;
            drop(place);
            app.signals.outbox.notify_one();
        });
    }
    Ok(Next::Now)
}

/// Makes one attempt and records it with what follows from it.
async fn attempt(app: &App, delivery: &DueDelivery, token: &str) {
    let at = app.clock.now();
    let result = match prepare(app, delivery, at).await {
        Ok(attempt) => app.sender.post(&attempt).await,
        Err(error) => {
            // The lease stays until the next start: without the store nothing can be recorded, so nothing is sent.
            tracing::error!(delivery = %delivery.id, %error, cause = ?error, "a delivery could not be prepared");
            return;
        }
    };
    let now = app.clock.now();
    let after = after(app, delivery, &result, now);
    let (id, lease, record) = (delivery.id, token.to_owned(), record(at, result));
    let failed = record.error.clone();
    let recorded = app
        .store
        .write("record_attempt", move |tx| {
            deliveries::record(tx, (id, &lease), record, after, now)
        })
        .await;
    match recorded {
        Ok(true) => {}
        Ok(false) => {
            tracing::warn!(delivery = %id, "the delivery was not held any more; its attempt is not on record");
        }
        Err(error) => {
            tracing::error!(delivery = %id, %error, cause = ?error, "an attempt could not be recorded");
        }
    }
    match (after, failed) {
        (AfterAttempt::GiveUp, Some((class, error))) => {
            tracing::warn!(delivery = %id, job = %delivery.job, %class, %error, "delivery given up");
        }
        (_, Some((class, error))) => {
            tracing::info!(delivery = %id, job = %delivery.job, %class, %error, "delivery attempt failed");
        }
        (_, None) => tracing::info!(delivery = %id, job = %delivery.job, "delivered"),
    }
}

async fn prepare(app: &App, delivery: &DueDelivery, at: Timestamp) -> anyhow::Result<Attempt> {
    let (tenant, id) = (delivery.tenant, delivery.secret);
    let sealed = app
        .store
        .read_now("delivery_secret", move |tx| secrets::get(tx, tenant, id))
        .await?;
    let sealed = sealed.ok_or_else(|| anyhow::anyhow!("the secret {id} is gone"))?;
    let secret = vault::open(&app.keyring, tenant, id, &sealed)?;
    Ok(Attempt {
        url: delivery.url.clone(),
        webhook_id: delivery.id.to_string(),
        event: delivery.event.clone(),
        body: delivery.body.clone().into_bytes(),
        secret: secret.expose_secret().to_owned(),
        timestamp_secs: at.as_second(),
    })
}

fn after(app: &App, delivery: &DueDelivery, result: &AttemptResult, now: Timestamp) -> AfterAttempt {
    if result.delivered() {
        return AfterAttempt::Delivered;
    }
    let delay = backoff::next_delay(delivery.attempts + 1, result.retry_after, app.ids.unit());
    let Some(delay) = delay else {
        return AfterAttempt::GiveUp;
    };
    let delay = SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX);
    AfterAttempt::Retry(now.checked_add(delay).unwrap_or(Timestamp::MAX))
}

fn record(at: Timestamp, result: AttemptResult) -> AttemptRecord {
    AttemptRecord {
        at,
        status: result.status,
        latency_ms: result.latency_ms,
        error: result
            .error
            .map(|error| (error.class.as_str().to_owned(), error.message)),
        excerpt: result.response_excerpt,
    }
}
