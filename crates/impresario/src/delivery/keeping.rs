//! Looks after deliveries by and by. What comes in: what was held back for stored webhooks that are active again, and what
//! is older than the operator wants to keep. What goes out: the former, due; the latter, gone. Both in pieces that hold up
//! nobody.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    background::{self, Next, Signals},
    metrics::Count,
    store::{self, ops::deliveries},
};

/// Deliveries in one transaction.
const BATCH: u32 = 500;

/// Between two looks for what is old.
const EVERY: Duration = Duration::from_secs(60);

/// A clock that moves by so much more or less than the time that passes was set, and perhaps set wrong. Nothing is pruned by
/// it for the same length: what a wrong clock calls old would be gone for good.
const STEP: Duration = Duration::from_secs(3_600);

/// Runs until `shutdown`.
pub async fn run(app: &App, shutdown: &CancellationToken) {
    let nobody = Signals::default();
    let around = (&app.clock, &nobody.outbox, &*app.pulse);
    let pruning = Mutex::new(Pruning::default());
    background::run("deliveries", around, shutdown, || tick(app, &pruning)).await;
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

async fn tick(app: &App, pruning: &Mutex<Pruning>) -> store::Result<Next> {
    let now = app.clock.now();
    let resuming = app
        .store
        .read_now("resuming_endpoint", deliveries::resuming)
        .await?;
    if let Some(endpoint) = resuming {
        let resumed = app
            .store
            .write_now("resume_deliveries", move |tx| {
                deliveries::resume(tx, endpoint, now, BATCH)
            })
            .await?;
        tracing::info!(endpoint = %endpoint.1, resumed, "a webhook endpoint is active again, and what was held back is due");
        app.signals.outbox.notify_one();
        return Ok(Next::Now);
    }
    let lock = || pruning.lock().unwrap_or_else(PoisonError::into_inner);
    let at = Instant::now();
    if !lock().is_due(at, now) || app.settings.keep_deliveries_days == 0 {
        return Ok(Next::Idle);
    }
    let keep = SignedDuration::from_hours(24 * i64::from(app.settings.keep_deliveries_days));
    let old = match now.checked_sub(keep) {
        Ok(before) => prune(app, before).await?,
        Err(_) => 0,
    };
    if old == u64::from(BATCH) {
        return Ok(Next::Now);
    }
    lock().rest(at);
    Ok(Next::Idle)
}

/// Removes a batch of what is from before an instant; how many.
async fn prune(app: &App, before: Timestamp) -> store::Result<u64> {
    let any = app
        .store
        .read_now("any_old_delivery", move |tx| deliveries::any_old(tx, before))
        .await?;
    if !any {
        return Ok(0);
    }
    let pruned = app
        .store
        .write_now("prune_deliveries", move |tx| deliveries::prune(tx, before, BATCH))
        .await?;
    app.metrics.add(Count::Pruned, pruned);
    Ok(pruned)
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
