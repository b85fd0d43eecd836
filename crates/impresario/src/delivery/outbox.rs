//! The outbox's loop. What comes in: deliveries that the end of a job put into the store. What goes out: signed
//! requests, each attempt on record, and the next one planned, until the receiver takes it or none is left.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    backoff,
    http::{Attempt, AttemptError, AttemptResult, ErrorClass},
    lanes::Place,
};
use crate::{
    app::App,
    background::{self, Next},
    domain::PING,
    metrics::Count,
    store::{
        self, StoreError,
        ops::{
            Lease,
            deliveries::{self, AfterAttempt, AttemptRecord, DueDelivery, Lane, Recorded},
            secrets::{self, SealedSecret},
            webhooks,
        },
    },
    vault,
};

/// An attempt that has lasted so long may be one that hangs. Far longer than a receiver that is well takes, and far shorter
/// than an attempt may last.
const SLOW: Duration = Duration::from_secs(1);

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

/// Delivers until `shutdown`; attempts that are under way then go on as tasks of `tasks`.
pub async fn run(app: &Arc<App>, tasks: &TaskTracker, shutdown: &CancellationToken) {
    let around = (&app.clock, &app.signals.outbox, &*app.pulse);
    background::run("outbox", around, shutdown, || tick(app, tasks)).await;
}

async fn tick(app: &Arc<App>, tasks: &TaskTracker) -> store::Result<Next> {
    let (mut claimed, mut next) = (0, None);
    for lane in [Lane::Sound, Lane::Failing] {
        match next_due(app, lane).await? {
            Some(due) if due <= app.clock.now() => claimed += claim(app, tasks, lane).await?,
            later => next = next.into_iter().chain(later).min(),
        }
    }
    Ok(match next {
        _ if claimed > 0 => Next::Now,
        Some(next) => Next::At(next),
        // Nothing, or what is due cannot have a place: the end of what has one rings again.
        None => Next::Idle,
    })
}

/// When a lane with free places has something to do next.
async fn next_due(app: &App, lane: Lane) -> store::Result<Option<Timestamp>> {
    let places = app.lanes.places(lane);
    if places.free == 0 {
        return Ok(None);
    }
    app.store
        .read_now("next_delivery", move |tx| deliveries::next_due(tx, places))
        .await
}

/// Starts attempts for what is due in a lane: how many, counting what was put aside instead.
async fn claim(app: &Arc<App>, tasks: &TaskTracker, lane: Lane) -> store::Result<usize> {
    let (places, held, now) = (app.lanes.places(lane), app.lanes.held(lane), app.clock.now());
    let token = app.ids.uuid(now).to_string();
    let held_with = token.clone();
    let claimed = app
        .store
        .write_now("claim_deliveries", move |tx| {
            let lease = Lease {
                token: &held_with,
                length: LEASE,
            };
            deliveries::claim(tx, (places, &held), lease, now)
        })
        .await?;
    let count = claimed.deliveries.len() + claimed.put_aside;
    for delivery in claimed.deliveries {
        let Some(mut place) = Place::take(app, lane, delivery.tenant) else {
            break;
        };
        let token = token.clone();
        tasks.spawn(async move { attempt(&mut place, &delivery, &token).await });
    }
    Ok(count)
}

/// Makes one attempt and records it with what follows from it. The lease is never left behind: what cannot be prepared is
/// a failed attempt, and a store that cannot take the record is asked until it can.
async fn attempt(place: &mut Place, delivery: &DueDelivery, token: &str) {
    let app = &*Arc::clone(&place.app);
    let at = app.clock.now();
    let prepared = AssertUnwindSafe(prepare(app, delivery, at)).catch_unwind().await;
    let result = match prepared
        .unwrap_or_else(|_| Ok(Err("the server failed while it prepared this".to_owned())))
    {
        Ok(Ok(attempt)) => post(place, delivery, &attempt).await,
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
    let record = record(delivery, at, result);
    app.metrics.add(
        Count::Attempts(match after {
            AfterAttempt::Delivered => "delivered",
            AfterAttempt::Retry(_) => "to_be_retried",
            AfterAttempt::Gone | AfterAttempt::GiveUp => "given_up",
        }),
        1,
    );
    match (after, &record.error) {
        (AfterAttempt::Gone | AfterAttempt::GiveUp, Some((class, error))) => {
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
            Ok(Recorded::Done) | Err(StoreError::Closed { .. }) => return,
            Ok(Recorded::Disabled(endpoint, reason)) => {
                tracing::warn!(tenant = %delivery.tenant, %endpoint, %reason, "webhook endpoint disabled");
                return;
            }
            Ok(Recorded::NotHeld) => {
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

/// Sends it. A receiver that is slow to answer waits among the failing from then on, until it has answered: one that hangs does
/// not take a second place, and how many do is known long before the first of them fails.
async fn post(place: &mut Place, delivery: &DueDelivery, attempt: &Attempt) -> AttemptResult {
    let app = &*Arc::clone(&place.app);
    let mut sent = std::pin::pin!(AssertUnwindSafe(app.sender.post(attempt)).catch_unwind());
    let outcome = match tokio::time::timeout(SLOW, &mut sent).await {
        Ok(outcome) => outcome,
        Err(_) if place.lane == Lane::Failing => sent.await,
        Err(_) => {
            place.is_slow();
            // Before the end of the attempt is put on record, so that what that says of the receiver is the last word.
            tokio::join!(sent, suspect(app, delivery)).0
        }
    };
    outcome.unwrap_or_else(|_| not_sent("the server failed while it sent this"))
}

async fn suspect(app: &App, delivery: &DueDelivery) {
    let (tenant, url) = (delivery.tenant, delivery.url.clone());
    let suspected = app
        .store
        .write_now("suspect_receiver", move |tx| {
            deliveries::suspect(tx, tenant, &url)
        })
        .await;
    match suspected {
        Ok(()) => {
            tracing::info!(delivery = %delivery.id, job = ?delivery.job, "the receiver is slow to answer");
        }
        Err(error) => {
            tracing::warn!(delivery = %delivery.id, %error, "a slow receiver could not be marked as one");
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
    let sealed = sealed_secrets(app, delivery, at).await?;
    let mut secrets = Vec::with_capacity(sealed.len());
    for SealedSecret { id, sealed } in sealed {
        match vault::open(&app.keyring, delivery.tenant, id, &sealed) {
            Ok(secret) => secrets.push(secret.expose_secret().to_owned()),
            Err(error) if secrets.is_empty() => {
                return Ok(Err(format!("its signing secret cannot be opened: {error}")));
            }
            // It only signs beside the one that counts.
            Err(error) => tracing::error!(delivery = %delivery.id, %error, "an old secret cannot be opened"),
        }
    }
    let mut secrets = secrets.into_iter();
    let Some(secret) = secrets.next() else {
        return Ok(Err("its signing secret is gone".to_owned()));
    };
    Ok(Ok(Attempt {
        url: delivery.url.clone(),
        webhook_id: delivery.id.to_string(),
        event: delivery.event.clone(),
        body: delivery.body.clone().into_bytes(),
        secret,
        old_secrets: secrets.collect(),
        timestamp_secs: at.as_second(),
    }))
}

/// Those of the stored webhook it goes to, as they are now; else the one that it was made with.
async fn sealed_secrets(
    app: &App,
    delivery: &DueDelivery,
    at: Timestamp,
) -> store::Result<Vec<SealedSecret>> {
    let (tenant, endpoint, id) = (delivery.tenant, delivery.endpoint, delivery.secret);
    app.store
        .read_now("delivery_secret", move |tx| {
            if let Some(endpoint) = endpoint {
                let found = webhooks::signing(tx, tenant, endpoint, at)?;
                if !found.is_empty() {
                    return Ok(found);
                }
            }
            let made_with = secrets::get(tx, tenant, id)?;
            Ok(made_with
                .map(|sealed| SealedSecret { id, sealed })
                .into_iter()
                .collect())
        })
        .await
}

fn after(app: &App, delivery: &DueDelivery, result: &AttemptResult, now: Timestamp) -> AfterAttempt {
    if result.delivered() {
        return AfterAttempt::Delivered;
    }
    if result.status == Some(410) {
        return AfterAttempt::Gone;
    }
    // It is how one looks, and who looks again asks for another one.
    if delivery.event == PING {
        return AfterAttempt::GiveUp;
    }
    let of_this_round = delivery.attempts.saturating_sub(delivery.earlier_attempts) + 1;
    let delay = backoff::next_delay(of_this_round, result.retry_after, app.ids.unit());
    let Some(delay) = delay else {
        return AfterAttempt::GiveUp;
    };
    let delay = SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX);
    AfterAttempt::Retry(now.checked_add(delay).unwrap_or(Timestamp::MAX))
}

fn record(delivery: &DueDelivery, at: Timestamp, result: AttemptResult) -> AttemptRecord {
    let not_sent = matches!(&result.error, Some(error) if error.class == ErrorClass::Internal);
    AttemptRecord {
        at,
        status: result.status,
        latency_ms: result.latency_ms,
        error: result
            .error
            .map(|error| (error.class.as_str().to_owned(), error.message)),
        excerpt: result.response_excerpt,
        not_sent,
        revision: delivery.revision,
    }
}
