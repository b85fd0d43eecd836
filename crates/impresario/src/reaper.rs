//! Settles what nodes leave that have gone: jobs, builds and deliveries whose leases have run out on the database's clock.
//! Every node does, so that it matters to none which of them is gone. Where one server has the database for itself, leases
//! have no end, and it settles at its start what an earlier one left.

use crate::{
    app::App,
    background::{self, Next, Signals},
    store::{
        self,
        ops::{
            Moment, deliveries, deployments,
            jobs::{self, Recovered},
        },
    },
};
use tokio_util::sync::CancellationToken;

/// What is settled in one pass of each kind, one by one: a row that is in somebody's way, or that cannot be read, holds up
/// no other.
const MOST_AT_ONCE: usize = 100;

/// Settles until `shutdown`, once a second.
pub async fn run(app: &App, shutdown: &CancellationToken) {
    let nobody = Signals::default();
    let around = (&app.clock, &nobody.scheduler, &*app.pulse);
    background::run("reaper", around, shutdown, || tick(app)).await;
}

/// What was left, as one look finds it.
#[derive(Debug, Default)]
struct Left {
    jobs: Vec<String>,
    builds: Vec<crate::domain::DeploymentId>,
    deliveries: Vec<String>,
}

async fn tick(app: &App) -> store::Result<Next> {
    let look = |tx: &mut store::Tx<'_>| {
        let Some(now) = tx.lease_clock()? else {
            return Ok(Left::default());
        };
        Ok(Left {
            jobs: jobs::expired(tx, now, MOST_AT_ONCE)?,
            builds: deployments::expired(tx, now)?,
            deliveries: deliveries::expired(tx, now, MOST_AT_ONCE)?,
        })
    };
    let left = app.store.read_now("expired_leases", look).await?;
    reap_jobs(app, left.jobs).await;
    reap_builds(app, left.builds).await;
    reap_deliveries(app, left.deliveries).await;
    Ok(Next::Idle)
}

/// What one failed attempt at a row is worth: the next pass comes.
fn said<T>(what: &str, id: &str, reaped: store::Result<Option<T>>) -> Option<T> {
    reaped.unwrap_or_else(|error| {
        tracing::error!(%id, %error, cause = ?error, "what a node left of a {what} could not be settled; it is tried again");
        None
    })
}

async fn reap_jobs(app: &App, left: Vec<String>) {
    let mut recovered = Recovered::default();
    for id in left {
        let (clock, ids, job) = (app.clock.clone(), app.ids.clone(), id.clone());
        let reaped = app
            .store
            .write("reap_job", move |tx| match tx.lease_clock()? {
                Some(now) => jobs::reap(tx, &job, now, || Moment::of(&*clock, &ids)),
                None => Ok(None),
            })
            .await;
        if let Some(settled) = said("job", &id, reaped) {
            tracing::warn!(job = %id, ?settled, "the node that had this job has gone silent");
            recovered.count(settled);
        }
    }
    if recovered != Recovered::default() {
        app.signals.worker.notify_one();
        app.signals.outbox.notify_one();
        app.signals.scheduler.notify_one();
        app.signals.job_ended.notify_waiters();
    }
}

async fn reap_builds(app: &App, left: Vec<crate::domain::DeploymentId>) {
    for id in left {
        let reaped = app
            .store
            .write("reap_build", move |tx| match tx.lease_clock()? {
                Some(now) => Ok(deployments::reap(tx, id, now)?.then_some(())),
                None => Ok(None),
            })
            .await;
        if said("build", &id.to_string(), reaped).is_some() {
            tracing::warn!(deployment = %id, "the node that built this has gone silent; it is built again");
            app.signals.builds.notify_one();
        }
    }
}

async fn reap_deliveries(app: &App, left: Vec<String>) {
    for id in left {
        let (clock, delivery) = (app.clock.clone(), id.clone());
        let reaped = app
            .store
            .write("reap_delivery", move |tx| match tx.lease_clock()? {
                Some(now) => Ok(deliveries::reap(tx, &delivery, now, clock.now())?.then_some(())),
                None => Ok(None),
            })
            .await;
        if said("delivery", &id, reaped).is_some() {
            tracing::warn!(delivery = %id, "the node that sent this has gone silent; it is sent again");
            app.signals.outbox.notify_one();
        }
    }
}
