//! Keeps the leases of the jobs that run here, and stops those that are not this node's any more.
//!
//! Two things run side by side. One extends the leases. The other watches their ends on this machine's monotonic clock,
//! counted from before the last request that extended them was sent: where the database cannot be reached, a run is stopped
//! by the time at which another node may take its job.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    store::{self, ops::jobs},
};

/// How often the ends of leases are looked at.
const WATCH: Duration = Duration::from_millis(100);

/// How often, and how soon after another, a lease is tried whose row somebody has just locked: the job's own lines of log
/// do, for a moment. Nobody waits for one, so one that is locked for long costs the others nothing.
const TRIES: u32 = 10;
const AGAIN: Duration = Duration::from_millis(50);

/// Leases that are extended in one transaction: few, because it holds them all until it has committed.
const BATCH: usize = 100;

/// Runs until `claimed` says that nothing more is claimed and the last job has ended.
pub(super) async fn keep(app: &App, claimed: &CancellationToken) {
    tokio::select! {
        never = extend_all(app) => match never {},
        () = watch(app, claimed) => {}
    }
}

async fn watch(app: &App, claimed: &CancellationToken) {
    while !(claimed.is_cancelled() && app.running.count() == 0) {
        app.pulse.beat("leases");
        let expired = app.running.expire(Instant::now());
        if expired > 0 {
            tracing::error!(
                jobs = expired,
                "leases have run out, because the database could not be reached; their runs are stopped"
            );
        }
        tokio::time::sleep(WATCH).await;
    }
}

/// Extends three times in the length of a lease, so that one that fails costs nothing yet.
async fn extend_all(app: &App) -> Infallible {
    let mut turns = tokio::time::interval(app.lease() / 3);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        match AssertUnwindSafe(extend(app)).catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, cause = ?error, "the leases of the jobs that run here could not be extended");
            }
            Err(_) => tracing::error!("a pass over the leases panicked and is tried again"),
        }
    }
}

async fn extend(app: &App) -> store::Result<()> {
    let length = app.lease();
    let mut left = app.running.held_under();
    for _ in 0..TRIES {
        let mut in_use = Vec::new();
        for batch in left.chunks(BATCH) {
            let (held, sent) = (batch.to_vec(), Instant::now());
            let beat = app
                .store
                .write_first("heartbeat", move |tx| jobs::heartbeat(tx, &held, length))
                .await?;
            if !beat.lost.is_empty() {
                // Most have just ended. A run that goes on is stopped, and says so.
                tracing::debug!(jobs = ?beat.lost, "jobs are not held any more");
            }
            let extended: Vec<_> = batch
                .iter()
                .filter(|job| !beat.in_use.contains(job))
                .cloned()
                .collect();
            app.running.extend(&extended, &beat.lost, sent + length);
            in_use.extend(beat.in_use);
        }
        left = in_use;
        if left.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(AGAIN).await;
    }
    tracing::warn!(
        jobs = left.len(),
        "leases could not be extended: somebody holds the rows of these jobs"
    );
    Ok(())
}
