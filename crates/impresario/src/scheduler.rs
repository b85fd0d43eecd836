//! Sleeps until the next instant, then fires what is due. What comes in: schedules in the store and the time. What
//! goes out: ledger rows and queued jobs, in one transaction with the cursor that moves.
//!
//! The database is the memory: nothing here knows of a fire that is not in the store, so nothing can be lost between
//! the two. Any pass asks "from the cursor to now"; how late it comes does not change which instants it accounts for.

use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    background::{self, Next},
    clock::SharedClock,
    domain::{FirePlan, JobId, Schedule, plan_fire},
    ids::Ids,
    store::{
        self,
        ops::{deliveries, fires, schedules::ChangeContext},
    },
};

/// Schedules fired in one transaction.
const BATCH: usize = 500;

/// A clock that goes back by less is being corrected; the ledger and the cursors need no help with that.
const CORRECTION: SignedDuration = SignedDuration::from_secs(1);

/// Before this the clock of a machine has not been set yet (many begin at 1970): what it names is not acted on.
const EARLIEST: Timestamp = Timestamp::constant(1_735_689_600, 0);

/// Fires until `shutdown`.
pub async fn run(app: &App, shutdown: &CancellationToken) {
    let around = (&app.clock, &app.signals.scheduler, &*app.pulse);
    // Where the clock stood at the last pass.
    let last = Mutex::new(None);
    background::run("scheduler", around, shutdown, || async {
        let now = app.clock.now();
        if now < EARLIEST {
            // Said at each pass: it is the one thing that its operator must see.
            tracing::error!(%now, "the clock has not been set: nothing fires until it is");
            return Ok(Next::At(EARLIEST));
        }
        let before = last.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        if before.is_none_or(|before| before.duration_since(now) > CORRECTION) {
            if let Some(before) = before {
                tracing::warn!(%before, %now, "the clock went back");
            }
            realign(app).await?;
        }
        tick(app).await
    })
    .await;
}

/// Puts cursors, and the next attempts of deliveries, back where they belong: at the start, because the clock may have
/// been ahead or a time zone's rules may have changed meanwhile, and when the clock has gone back. What fired already
/// is in the ledger and does not fire again.
///
/// # Errors
/// The store's.
async fn realign(app: &App) -> store::Result<()> {
    let (mut after, mut moved) = (None, 0);
    loop {
        let (from, now) = (after, app.clock.now());
        let (next, some) = app
            .store
            .write("realign_cursors", move |tx| fires::realign(tx, from, now))
            .await?;
        moved += some;
        if next.is_none() {
            break;
        }
        after = next;
    }
    let now = app.clock.now();
    let brought_forward = app
        .store
        .write("realign_deliveries", move |tx| deliveries::realign(tx, now))
        .await?;
    if moved > 0 || brought_forward > 0 {
        tracing::warn!(
            cursors = moved,
            deliveries = brought_forward,
            "put back where the clock says"
        );
        app.signals.outbox.notify_one();
    }
    Ok(())
}

/// One pass: fires what is due now and says when the next fire is.
///
/// # Errors
/// The store's.
pub async fn tick(app: &App) -> store::Result<Next> {
    let next = app.store.read_now("next_due", fires::next_due).await?;
    let Some(next) = next else {
        return Ok(Next::Idle);
    };
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
    let late_ms = now.as_millisecond().saturating_sub(next.as_millisecond());
    tracing::debug!(jobs = fired.jobs, rejected = fired.rejected, late_ms, "fired");
    Ok(Next::Now)
}

/// Hands `body` what a change to a schedule needs: the time, what is due, an id for a job. For the inside of a
/// transaction.
pub fn with_context<T>(clock: &SharedClock, ids: &Ids, body: impl FnOnce(&ChangeContext<'_>) -> T) -> T {
    body(&ChangeContext {
        now: &|| clock.now(),
        plan: &plan,
        new_job: &|| JobId(ids.uuid(clock.now())),
    })
}

/// What to do with one schedule at `now`.
#[must_use]
pub fn plan(schedule: &Schedule, now: Timestamp) -> Option<FirePlan> {
    plan_fire(&schedule.draft.pattern, schedule.first_owed(now)?, now)
}
