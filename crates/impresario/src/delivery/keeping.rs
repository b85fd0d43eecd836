//! Looks after deliveries by and by. What comes in: what was held back for stored webhooks that are active again, or gone;
//! and what is older than the operator wants to keep. What goes out: due, given up, removed. All in pieces that hold up
//! nobody, and an error in one holds up no other.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    background::{self, Next, Signals},
    domain::EndpointId,
    metrics::Count,
    store::{
        self,
        ops::{deliveries, webhooks},
    },
};

/// Deliveries in one transaction.
const BATCH: u32 = 500;

/// Between two looks for what is old.
const EVERY: Duration = Duration::from_secs(60);

/// A clock that moves by so much more or less than the time that passes was set, and perhaps set wrong. Nothing is pruned by
/// it for the same length: what a wrong clock calls old would be gone for good.
const STEP: Duration = Duration::from_secs(3_600);

/// Between two looks for what is held back and nobody will make due.
const STRAYS_EVERY: Duration = Duration::from_secs(5);

/// Runs until `shutdown`.
pub async fn run(app: &App, shutdown: &CancellationToken) {
    let nobody = Signals::default();
    let around = (&app.clock, &nobody.outbox, &*app.pulse);
    let state = Mutex::new(State::default());
    background::run("deliveries", around, shutdown, || tick(app, &state)).await;
}

/// What one pass leaves to the next.
#[derive(Debug, Default)]
struct State {
    pruning: Pruning,
    /// The endpoint that was served last.
    resumed: Option<EndpointId>,
    /// When this process first looked for what is old.
    begun: Option<Instant>,
    /// Whether it has found something before.
    has_pruned: bool,
    /// When there were last no strays.
    no_strays: Option<Instant>,
}

/// When it is time to look for what is old.
#[derive(Debug, Default)]
struct Pruning {
    /// When this was last asked, and what the clock showed then.
    last: Option<(Instant, Timestamp)>,
    rests_until: Option<Instant>,
}

impl Pruning {
    /// Whether it is now, at the instant `at`, when the clock shows `now`.
    fn is_due(&mut self, at: Instant, now: Timestamp) -> bool {
        if let Some((before, shown)) = self.last.replace((at, now)) {
            let passed = SignedDuration::try_from(at - before).unwrap_or(SignedDuration::MAX);
            let step = now.duration_since(shown).saturating_sub(passed);
            if step.unsigned_abs() > STEP {
                tracing::warn!(
                    seconds = step.as_secs(),
                    "the clock was set: nothing is pruned for an hour"
                );
                self.rests_until = Some(at + STEP);
            }
        }
        self.rests_until.is_none_or(|until| at >= until)
    }

    /// There was nothing old at the instant `at`.
    fn rest(&mut self, at: Instant) {
        self.rests_until = Some(at + EVERY);
    }
}

async fn tick(app: &App, state: &Mutex<State>) -> store::Result<Next> {
    let more = [
        said("resume", resume(app, state).await),
        said("settle", settle(app, state).await),
        said("prune", prune(app, state).await),
    ];
    Ok(if more.contains(&true) {
        Next::Now
    } else {
        Next::Idle
    })
}

/// Whether there is more to do. An error is worth another try a second later.
fn said(what: &str, more: store::Result<bool>) -> bool {
    more.unwrap_or_else(|error| {
        tracing::error!(%what, %error, cause = ?error, "deliveries could not be looked after; it is tried again");
        false
    })
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes due what was held back, a batch for one endpoint.
async fn resume(app: &App, state: &Mutex<State>) -> store::Result<bool> {
    let (now, last) = (app.clock.now(), lock(state).resumed);
    let next = app
        .store
        .read_now("resuming_endpoint", move |tx| deliveries::resuming(tx, last))
        .await?;
    let Some(endpoint) = next else { return Ok(false) };
    lock(state).resumed = Some(endpoint.1);
    let resumed = app
        .store
        .write_now("resume_deliveries", move |tx| {
            deliveries::resume(tx, endpoint, now, BATCH)
        })
        .await?;
    if resumed > 0 {
        tracing::info!(endpoint = %endpoint.1, resumed, "what was held back is due: the webhook endpoint is active again");
        app.signals.outbox.notify_one();
    }
    Ok(true)
}

/// Settles what is held back and nobody will make due.
async fn settle(app: &App, state: &Mutex<State>) -> store::Result<bool> {
    let rests = lock(state)
        .no_strays
        .is_some_and(|at| at.elapsed() < STRAYS_EVERY);
    if rests {
        return Ok(false);
    }
    let strays = app.store.read_now("strays", deliveries::strays).await?;
    if strays.is_empty() {
        lock(state).no_strays = Some(Instant::now());
    }
    let now = app.clock.now();
    for stray in &strays {
        let stray = *stray;
        let given_up = app
            .store
            .write_now("settle_strays", move |tx| {
                deliveries::settle(tx, stray, now, BATCH)
            })
            .await?;
        tracing::info!(endpoint = %stray.endpoint, given_up, "what was held back for a webhook endpoint is settled");
    }
    Ok(!strays.is_empty())
}

/// Removes a batch of what is old.
async fn prune(app: &App, state: &Mutex<State>) -> store::Result<bool> {
    let (at, now) = (Instant::now(), app.clock.now());
    let keep = SignedDuration::from_hours(24 * i64::from(app.settings.keep_deliveries_days));
    if !lock(state).pruning.is_due(at, now) {
        return Ok(false);
    }
    let before = now.checked_sub(keep).unwrap_or(Timestamp::MIN);
    let any = !keep.is_zero()
        && app
            .store
            .read_now("any_old_delivery", move |tx| deliveries::any_old(tx, before))
            .await?;
    if !any {
        // A server that has just begun does not know yet whether its clock is right.
        let begun = *lock(state).begun.get_or_insert(at);
        let forgotten = at - begun >= STEP && forget(app, now).await?;
        lock(state).pruning.rest(at);
        return Ok(forgotten);
    }
    // What ended yesterday and today, as this clock has it, may have been written by it since it was set.
    let first = !std::mem::replace(&mut lock(state).has_pruned, true);
    let kept = (
        before,
        now.saturating_sub(SignedDuration::from_hours(24))
            .unwrap_or(before),
    );
    let doubtful = first
        && app
            .store
            .read_now("none_ended", move |tx| deliveries::none_ended(tx, kept))
            .await?;
    if doubtful {
        tracing::warn!(
            "all that was delivered before today would be old by this clock: nothing is pruned for an hour"
        );
        lock(state).pruning.rests_until = Some(at + STEP);
        return Ok(false);
    }
    let pruned = app
        .store
        .write_now("prune_deliveries", move |tx| deliveries::prune(tx, before, BATCH))
        .await?;
    app.metrics.add(Count::Pruned, pruned);
    Ok(pruned > 0)
}

/// Removes a batch of the secrets that signed for the last time an hour ago, and whose deliveries have gone.
async fn forget(app: &App, now: Timestamp) -> store::Result<bool> {
    let Ok(before) = now.checked_sub(SignedDuration::from_hours(1)) else {
        return Ok(false);
    };
    let forgotten = app
        .store
        .write_now("forget_secrets", move |tx| {
            webhooks::forget_secrets(tx, before, BATCH)
        })
        .await?;
    Ok(forgotten == u64::from(BATCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_prunes_nothing_for_an_hour() {
        let begin = Instant::now();
        let at = |second: u64| begin + Duration::from_secs(second);
        let shows = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let mut pruning = Pruning::default();
        assert!(pruning.is_due(at(0), shows(0)));
        pruning.rest(at(0));
        assert!(!pruning.is_due(at(59), shows(59)));
        assert!(pruning.is_due(at(60), shows(61)));
        for step in [315_360_000, -315_360_000] {
            let mut pruning = Pruning::default();
            assert!(pruning.is_due(at(0), shows(0)));
            assert!(!pruning.is_due(at(1), shows(1 + step)));
            assert!(!pruning.is_due(at(3_600), shows(3_600 + step)));
            assert!(pruning.is_due(at(3_601), shows(3_601 + step)));
        }
        // A process that stood still sees no step in that.
        let mut pruning = Pruning::default();
        assert!(pruning.is_due(at(0), shows(0)));
        assert!(pruning.is_due(at(90_000), shows(90_000)));
    }
}
