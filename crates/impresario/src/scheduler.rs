//! Sleeps until the next instant, then fires what is due. What comes in: schedules in the store and the time. What
//! goes out: ledger rows and queued jobs, in one transaction with the cursor that moves.
//!
//! The database is the memory: nothing here knows of a fire that is not in the store, so nothing can be lost between
//! the two. Any pass asks "from the cursor to now"; how late it comes does not change which instants it accounts for.

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    background::{self, Next},
    domain::{FirePlan, JobId, Schedule, plan_fire},
    store::{self, ops::fires},
};

/// Schedules fired in one transaction.
const BATCH: usize = 500;

/// Fires until `shutdown`.
pub async fn run(app: &App, shutdown: &CancellationToken) {
    let around = (&app.clock, &app.signals.scheduler, &*app.pulse);
    background::run("scheduler", around, shutdown, || tick(app)).await;
}

/// One pass: fires what is due now and says when the next fire is.
///
/// # Errors
/// The store's.
pub async fn tick(app: &App) -> store::Result<Next> {
    let next = app.store.read_now("next_due", fires::next_due).await?;
    let Some(next) = next else { return Ok(Next::Idle) };
    let now = app.clock.now();
    if next > now {
        return Ok(Next::At(next));
    }
    let ids = app.ids.clone();
    let new_job = move || JobId(ids.uuid(now));
    let fired = app
        .store
        .write("fire_due", move |tx| {
            fires::fire_due(tx, (now, BATCH), |schedule| plan(schedule, now), new_job)
        })
        .await?;
    for (schedule, reason) in &fired.quarantined {
        tracing::error!(%schedule, %reason, "a schedule was taken out of the way");
    }
    if fired.jobs > 0 {
        app.signals.worker.notify_one();
    }
    tracing::debug!(
        jobs = fired.jobs,
        rejected = fired.rejected,
        late_ms = late_ms(next, now),
        "fired"
    );
    Ok(Next::Now)
}

/// What to do with one schedule at `now`.
#[must_use]
pub fn plan(schedule: &Schedule, now: Timestamp) -> Option<FirePlan> {
    plan_fire(&schedule.draft.pattern, schedule.next_fire_at?, now)
}

fn late_ms(due: Timestamp, now: Timestamp) -> i64 {
    now.as_millisecond().saturating_sub(due.as_millisecond())
}
