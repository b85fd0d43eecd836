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
    for batch in app.running.held_under().chunks(BATCH) {
        let (held, sent) = (batch.to_vec(), Instant::now());
        let lost = app
            .store
            .write("heartbeat", move |tx| jobs::heartbeat(tx, &held, length))
            .await?;
        if !lost.is_empty() {
            tracing::warn!(jobs = ?lost, "jobs that ran here are not held any more; those that still run are stopped");
        }
        app.running.extend(batch, &lost, sent + length);
    }
    Ok(())
}
