//! Sleeps until the next instant, then fires what is due. What comes in: schedules in the store and the time. What
//! goes out: ledger rows and queued jobs, in one transaction with the cursor that moves.
//!
//! The database is the memory: nothing here knows of a fire that is not in the store, so nothing can be lost between
//! the two. Any pass asks "from the cursor to now"; how late it comes does not change which instants it accounts for.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use impresario_cron::Zone;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    background::{self, Next},
    domain::rfc3339,
    metrics::Count,
    params,
    store::{
        self,
        ops::{
            Moment, deliveries,
            fires::{self, Realigned},
            settings,
        },
    },
};

/// Schedules fired in one transaction.
const BATCH: usize = 500;

/// How soon it is looked again for what another node was just firing, and for what a stranger has locked.
const SOON: Duration = Duration::from_millis(20);
const LOCKED: Duration = Duration::from_millis(500);

/// Schedules that make up for one missed instant each in one transaction: few, because what comes waits for it.
const CATCH_UP_BATCH: usize = 50;

/// A clock that goes back by less is being corrected; the ledger and the cursors need no help with that.
const CORRECTION: SignedDuration = SignedDuration::from_secs(1);

/// How far the clocks of nodes that share a database may be apart. All go by the database's, but each has heard it at another
/// time, and in a rehearsal each has its own.
const SKEW: SignedDuration = SignedDuration::from_mins(10);

/// Before this the clock of a machine has not been set yet (many begin at 1970): what it names is not acted on.
pub(crate) const EARLIEST: Timestamp = Timestamp::constant(1_735_689_600, 0);

/// Fires until `shutdown`.
pub async fn run(app: &App, shutdown: &CancellationToken) {
    let around = (&app.clock, &app.signals.scheduler, &*app.pulse);
    // Where the clock stood at the last pass.
    let last = Mutex::new(None::<Timestamp>);
    background::run("scheduler", around, shutdown, || async {
        let now = app.clock.now();
        if now < EARLIEST {
            // Said at each pass: it is the one thing that its operator must see.
            tracing::error!(%now, "the clock has not been set: nothing fires until it is");
            return Ok(Next::At(EARLIEST));
        }
        let before = *last.lock().unwrap_or_else(PoisonError::into_inner);
        if before.is_none_or(|before| before.duration_since(now) > CORRECTION) {
            if let Some(before) = before {
                tracing::warn!(%before, %now, "the clock went back");
            }
            // One that failed is tried again at the next pass. Where nodes share the database, what comes fires meanwhile: the
            // others go on as well.
            if let Err(error) = realign(app).await {
                if !app.store.is_shared() {
                    return Err(error);
                }
                tracing::error!(%error, cause = ?error, "cursors could not be put back where they belong; it is tried again");
                return tick(app).await;
            }
        }
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
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
    let rules = Zone::tzdb_version();
    let before = app.store.read_now("tzdb_version", settings::tzdb_version).await?;
    let skew = if app.store.is_shared() {
        SKEW
    } else {
        SignedDuration::ZERO
    };
    let (mut state, mut moved) = (Realigned::default(), 0);
    while !state.done {
        let (from, clock) = (state, app.clock.clone());
        state = app
            .store
            .write_now("realign_cursors", move |tx| {
                fires::realign(tx, from.clone(), (|| clock.now(), skew))
            })
            .await?;
        for (schedule, from, to) in &state.moved {
            moved += 1;
            let shown = |at: &Option<Timestamp>| at.map_or_else(|| "never".to_owned(), rfc3339);
            tracing::warn!(%schedule, from = shown(from), to = shown(to), "the next fire of a schedule has moved");
        }
    }
    if before.as_deref() != Some(rules) {
        if let Some(before) = before {
            tracing::warn!(
                before,
                now = rules,
                schedules_moved = moved,
                "the rules of the time zones are another version's; only fires that were still to come have moved"
            );
        }
        // Last: where something above fails, the next try tells of it as well.
        app.store
            .write_now("record_tzdb_version", |tx| {
                settings::record_tzdb_version(tx, rules)
            })
            .await?;
    }
    let now = app.clock.now();
    let brought_forward = app
        .store
        .write_now("realign_deliveries", move |tx| deliveries::realign(tx, now))
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

/// One pass: fires what is due now, and where nothing is, makes up for what was missed; says when the next fire is.
///
/// # Errors
/// The store's.
pub async fn tick(app: &App) -> store::Result<Next> {
    let look = |tx: &mut store::Tx<'_>| Ok((fires::next_due(tx)?, fires::any_ready(tx)?));
    let (next, owed) = app.store.read_now("next_due", look).await?;
    let now = app.clock.now();
    let due = next.filter(|next| *next <= now);
    // What comes goes before what was missed, so that nothing is late for something that is late already.
    if due.is_none() && !owed {
        return Ok(next.map_or(Next::Idle, Next::At));
    }
    let (ids, on_time) = (app.ids.clone(), due.is_some());
    let fired = app
        .store
        .write_first("fire_due", move |tx| {
            let moment = Moment::at(now, &ids);
            match on_time {
                true => fires::fire_due(tx, &moment, BATCH),
                false => fires::catch_up(tx, &moment, CATCH_UP_BATCH),
            }
        })
        .await?;
    for (schedule, reason) in &fired.quarantined {
        tracing::error!(%schedule, %reason, "a schedule was taken out of the way");
    }
    for (outcome, count) in [
        ("fired", fired.jobs as u64),
        ("rejected", fired.rejected as u64),
        ("skipped_overlap", fired.skipped as u64),
        ("missed", fired.missed),
    ] {
        app.metrics.add(Count::Fires(outcome), count);
    }
    if fired.jobs > 0 {
        app.signals.worker.notify_one();
    }
    // A fire that makes no job may be news all the same: missed, skipped, or the one that disables its schedule.
    app.signals.outbox.notify_one();
    params::check_again(app, &fired.unchecked).await?;
    if app.store.is_shared() && fired.looked_at == fired.left {
        // All that is due is somebody else's at the moment: another node's, soon done, or locked by a stranger.
        tokio::time::sleep(if fired.left == 0 { SOON } else { LOCKED }).await;
    }
    if !on_time && fired.looked_at == fired.waiting {
        // All that is to be made up for waits for a place in a queue: it is looked at again within a second.
        return Ok(next.map_or(Next::Idle, Next::At));
    }
    let late_ms = due.map(|due| now.as_millisecond().saturating_sub(due.as_millisecond()));
    tracing::debug!(
        jobs = fired.jobs,
        rejected = fired.rejected,
        skipped = fired.skipped,
        late_ms,
        "fired"
    );
    Ok(Next::Now)
}
