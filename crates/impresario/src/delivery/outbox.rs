//! The outbox's loop. What comes in: deliveries that the end of a job put into the store. What goes out: signed
//! requests, each attempt on record, and the next one planned, until the receiver takes it or none is left.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    backoff,
    http::{Attempt, AttemptError, AttemptResult, ErrorClass},
};
use crate::{
    app::App,
    background::{self, Next},
    metrics::Count,
    store::{
        self, StoreError,
        ops::{
            Lease,
            deliveries::{self, AfterAttempt, AttemptRecord, DueDelivery},
            secrets,
        },
    },
    vault,
};

/// Attempts that are under way at once.
pub const MOST_IN_FLIGHT: usize = 64;
/// Of those, to one URL of one tenant.
const MOST_PER_RECEIVER: usize = 2;

/// How long a delivery is the sender's, who does not say again that it is alive: twice the longest attempt, so that
/// there is time to read the secret before it and to write the record after it.
const LEASE: Duration = Duration::from_secs(30);

/// How long to wait before a store that failed is asked again.
const AFTER_FAULT: Duration = Duration::from_secs(1);

/// Frees what an earlier server of this data directory had in flight: whether it arrived cannot be known, so it is
/// sent again under the same id. Where other nodes may be on the database, it may be theirs, and its lease says when it is
/// not any more.
///
/// # Errors
/// The store's.
pub async fn recover(app: &App) -> store::Result<()> {
    if app.store.is_shared() {
        return Ok(());
    }
    let now = app.clock.now();
    let freed = app
        .store
        .write_now("recover_deliveries", move |tx| deliveries::recover(tx, now))
        .await?;
    if freed > 0 {
        tracing::warn!(freed, "deliveries of an earlier server are sent again");
    }
    Ok(())
}

/// A place among the attempts that are under way: given up when the attempt's task ends, in whatever way it does.
struct Place {
    app: Arc<App>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.permit.take();
        self.app.signals.outbox.notify_one();
    }
}

/// Delivers until `shutdown`; attempts that are under way then go on as tasks of `tasks`.
pub async fn run(app: &Arc<App>, tasks: &TaskTracker, shutdown: &CancellationToken) {
    let around = (&app.clock, &app.signals.outbox, &*app.pulse);
    background::run("outbox", around, shutdown, || tick(app, tasks)).await;
}

async fn tick(app: &Arc<App>, tasks: &TaskTracker) -> store::Result<Next> {
    let free = app.deliveries_in_flight.available_permits();
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
    let held_with = token.clone();
    let claimed = app
        .store
        .write_now("claim_deliveries", move |tx| {
            let lease = Lease {
                token: &held_with,
                length: LEASE,
            };
            deliveries::claim(tx, (free, MOST_PER_RECEIVER), lease, now)
        })
        .await?;
    // Due, but its tenant has all it may have: the end of one of those rings again.
    if claimed.is_empty() {
        return Ok(Next::Idle);
    }
    for delivery in claimed {
        let Ok(permit) = Arc::clone(&app.deliveries_in_flight).try_acquire_owned() else {
            break;
        };
        let place = Place {
            app: Arc::clone(app),
            permit: Some(permit),
        };
        let token = token.clone();
        tasks.spawn(async move { attempt(&place.app, &delivery, &token).await });
    }
    Ok(Next::Now)
}

/// Makes one attempt and records it with what follows from it. The lease is never left behind: what cannot be prepared is
/// a failed attempt, and a store that cannot take the record is asked until it can.
async fn attempt(app: &App, delivery: &DueDelivery, token: &str) {
    let at = app.clock.now();
    let result = match prepare(app, delivery, at).await {
        Ok(Ok(attempt)) => AssertUnwindSafe(app.sender.post(&attempt))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| not_sent("the server failed while it sent this")),
        Ok(Err(reason)) => {
            tracing::error!(delivery = %delivery.id, %reason, "a delivery could not be prepared");
            not_sent(&reason)
        }
        Err(error) => {
            tracing::error!(delivery = %delivery.id, %error, cause = ?error, "a delivery could not be prepared");
            not_sent("the server could not read what it needs to sign this")
        }
    };
    let after = after(app, delivery, &result, app.clock.now());
    let record = record(at, result);
    app.metrics.add(
        Count::Attempts(match after {
            AfterAttempt::Delivered => "delivered",
            AfterAttempt::Retry(_) => "to_be_retried",
            AfterAttempt::GiveUp => "given_up",
        }),
        1,
    );
    match (after, &record.error) {
        (AfterAttempt::GiveUp, Some((class, error))) => {
            tracing::warn!(delivery = %delivery.id, job = ?delivery.job, %class, %error, "delivery given up");
        }
        (_, Some((class, error))) => {
            tracing::info!(delivery = %delivery.id, job = ?delivery.job, %class, %error, "delivery attempt failed");
        }
        (_, None) => tracing::info!(delivery = %delivery.id, job = ?delivery.job, "delivered"),
    }
    loop {
        let (id, lease, record, now) = (delivery.id, token.to_owned(), record.clone(), app.clock.now());
        let recorded = app
            .store
            .write_now("record_attempt", move |tx| {
                deliveries::record(tx, (id, &lease), record.clone(), after, now)
            })
            .await;
        match recorded {
            Ok(true) | Err(StoreError::Closed { .. }) => return,
            Ok(false) => {
                tracing::warn!(delivery = %id, "the delivery was not held any more; its attempt is not on record");
                return;
            }
            Err(error) => {
                tracing::error!(delivery = %id, %error, cause = ?error, "an attempt could not be recorded; trying again");
                tokio::time::sleep(AFTER_FAULT).await;
            }
        }
    }
}

/// An attempt that failed on this side, before anything was sent.
fn not_sent(reason: &str) -> AttemptResult {
    AttemptResult {
        status: None,
        latency_ms: 0,
        error: Some(AttemptError {
            class: ErrorClass::Internal,
            message: reason.to_owned(),
        }),
        retry_after: None,
        response_excerpt: None,
    }
}

/// What is sent; the inner error is a secret that is gone or cannot be opened.
async fn prepare(app: &App, delivery: &DueDelivery, at: Timestamp) -> store::Result<Result<Attempt, String>> {
    let (tenant, id) = (delivery.tenant, delivery.secret);
    let sealed = app
        .store
        .read_now("delivery_secret", move |tx| secrets::get(tx, tenant, id))
        .await?;
    let Some(sealed) = sealed else {
        return Ok(Err("its signing secret is gone".to_owned()));
    };
    let secret = match vault::open(&app.keyring, tenant, id, &sealed) {
        Ok(secret) => secret,
        Err(error) => return Ok(Err(format!("its signing secret cannot be opened: {error}"))),
    };
    Ok(Ok(Attempt {
        url: delivery.url.clone(),
        webhook_id: delivery.id.to_string(),
        event: delivery.event.clone(),
        body: delivery.body.clone().into_bytes(),
        secret: secret.expose_secret().to_owned(),
        timestamp_secs: at.as_second(),
    }))
}

fn after(app: &App, delivery: &DueDelivery, result: &AttemptResult, now: Timestamp) -> AfterAttempt {
    if result.delivered() {
        return AfterAttempt::Delivered;
    }
    let of_this_round = delivery.attempts.saturating_sub(delivery.earlier_attempts) + 1;
    let delay = backoff::next_delay(of_this_round, result.retry_after, app.ids.unit());
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
