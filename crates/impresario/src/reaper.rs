//! Settles what nodes leave that have gone: jobs, builds and deliveries whose leases have run out on the database's clock.
//! Every node does, so that it matters to none which of them is gone. Where one server has the database for itself, leases
//! have no end, and it settles at its start what an earlier one left.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

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

/// What is settled in one pass of each kind, one by one: a row that is in somebody's way, or that cannot be read, holds up
/// no other.
const MOST_AT_ONCE: usize = 100;

/// Settles until `shutdown`, once a second.
pub async fn run(app: &App, shutdown: &CancellationToken) {
    let nobody = Signals::default();
    let around = (&app.clock, &nobody.scheduler, &*app.pulse);
    let steps = Mutex::new(Steps::default());
    background::run("reaper", around, shutdown, || tick(app, &steps)).await;
}

/// A step of the database's clock by less is a correction, or a slow answer.
const STEP: Duration = Duration::from_secs(5);

/// Notices that the database's clock was set. Then no lease says anything until each holder has had the time to extend its
/// own by the new time.
#[derive(Debug, Default)]
struct Steps {
    /// What the clock showed last, and when that was on this machine's monotonic clock.
    last: Option<(Instant, i64)>,
    quiet_until: Option<Instant>,
}

impl Steps {
    /// Whether leases may be gone by: the clock shows `now`, in milliseconds, at the instant `at`.
    fn is_steady(&mut self, at: Instant, now: i64, lease: Duration) -> bool {
        if let Some((before, shown)) = self.last.replace((at, now)) {
            let passed = i64::try_from((at - before).as_millis()).unwrap_or(i64::MAX);
            let step = now.saturating_sub(shown).saturating_sub(passed);
            if Duration::from_millis(step.unsigned_abs()) > STEP {
                tracing::warn!(
                    milliseconds = step,
                    "the database's clock was set: nothing that is held is taken over for the length of a lease"
                );
                self.quiet_until = Some(at + lease);
            }
        }
        self.quiet_until.is_none_or(|until| at >= until)
    }
}

/// What was left, as one look finds it.
#[derive(Debug, Default)]
struct Left {
    jobs: Vec<String>,
    builds: Vec<crate::domain::DeploymentId>,
    deliveries: Vec<String>,
}

async fn tick(app: &App, steps: &Mutex<Steps>) -> store::Result<Next> {
    let Some((_, now, at)) = app.store.shared_time().await? else {
        return Ok(Next::Idle);
    };
    let steady = steps
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .is_steady(at, now, app.lease());
    if !steady {
        return Ok(Next::Idle);
    }
    let look = move |tx: &mut store::Tx<'_>| {
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
            .write_now("reap_job", move |tx| match tx.lease_clock()? {
                Some(now) => jobs::reap(tx, &job, now, || Moment::of(&*clock, &ids)),
                None => Ok(None),
            })
            .await;
        if let Some(settled) = said("job", &id, reaped) {
            tracing::warn!(job = %id, ?settled, "the node that had this job has gone silent");
            recovered.count(settled);
        }
    }
    app.metrics.settled(&recovered);
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
            .write_now("reap_build", move |tx| match tx.lease_clock()? {
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
            .write_now("reap_delivery", move |tx| match tx.lease_clock()? {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_ends_no_lease_before_its_holder_could_extend_it() {
        let (begin, lease) = (Instant::now(), Duration::from_secs(30));
        let at = |second: u64| begin + Duration::from_secs(second);
        for step in [3_600_000, -3_600_000] {
            let mut steps = Steps::default();
            assert!(steps.is_steady(at(0), 1_000_000, lease));
            assert!(steps.is_steady(at(1), 1_001_400, lease), "a slow answer");
            assert!(!steps.is_steady(at(2), 1_002_000 + step, lease));
            assert!(!steps.is_steady(at(31), 1_031_000 + step, lease));
            assert!(steps.is_steady(at(32), 1_032_000 + step, lease));
        }
        // A reaper that stood still, with the whole process, sees no step in that.
        let mut steps = Steps::default();
        assert!(steps.is_steady(at(0), 1_000_000, lease));
        assert!(steps.is_steady(at(600), 1_600_000, lease));
    }
}
