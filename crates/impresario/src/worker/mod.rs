//! Claims queued jobs, runs them, and writes down how they end. What comes in: queued jobs. What goes out: finished
//! jobs and, in the same transaction, their callbacks in the outbox.

mod leases;
mod logs;
mod run;
mod running;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::running::RunningJobs;
use self::running::{Running, StopReason};
use crate::{
    app::App,
    background::{self, Next},
    domain::JobId,
    store::{
        self,
        ops::{self, Lease, Moment, fires},
    },
};

/// A job's place among those that run here: given up when the job's task ends, in whatever way it does.
struct Place {
    app: Arc<App>,
    id: JobId,
    token: String,
    running: Running,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.app.running.remove(self.id, &self.token);
        self.app.signals.job_ended.notify_waiters();
        self.app.signals.outbox.notify_one();
        self.app.signals.worker.notify_one();
        self.app.signals.scheduler.notify_one();
    }
}

/// How long a start waits for what somebody has locked.
const LONGEST_LOCK: Duration = Duration::from_secs(1);

/// Ends the processes that an earlier server of this data directory left, and where no other node can be on the database,
/// settles their jobs. Called once, before anything is claimed.
///
/// # Errors
/// The store's.
pub async fn recover(app: &App) -> store::Result<()> {
    let killed = app.runner().map_or(0, |runner| runner.sweep_leftovers());
    let (now, ids, alone) = (app.clock.now(), app.ids.clone(), !app.store.is_shared());
    let recovered = app
        .store
        .write_now("recover_jobs", move |tx| {
            // Beside other nodes what is held may be theirs; what is not any more, its lease says.
            if !alone {
                tx.wait_at_most(LONGEST_LOCK)?;
                if let Err(error) = tx.isolated(fires::wake_all)? {
                    tracing::debug!(%error, "what waits to be made up for is not woken: somebody is at it");
                }
                return Ok(ops::jobs::Recovered::default());
            }
            fires::wake_all(tx)?;
            ops::jobs::recover(tx, &Moment::at(now, &ids))
        })
        .await?;
    app.metrics.settled(&recovered);
    if killed > 0 || recovered != ops::jobs::Recovered::default() {
        tracing::warn!(
            processes_killed = killed,
            requeued = recovered.requeued,
            lost = recovered.lost,
            cancelled = recovered.cancelled,
            "settled what an earlier server left running"
        );
    }
    Ok(())
}

/// Claims and runs jobs until `shutdown`; what runs then goes on as a task of `tasks`, and so do its leases.
pub async fn run(app: &Arc<App>, tasks: &TaskTracker, shutdown: &CancellationToken) {
    let claimed = CancellationToken::new();
    if app.store.is_shared() {
        // Apart from the loop that claims: whatever holds that one up costs no run its lease.
        let (app, claimed) = (Arc::clone(app), claimed.clone());
        tasks.spawn(async move { leases::keep(&app, &claimed).await });
    }
    let around = (&app.clock, &app.signals.worker, &*app.pulse);
    background::run("worker", around, shutdown, || tick(app, tasks)).await;
    claimed.cancel();
}

async fn tick(app: &Arc<App>, tasks: &TaskTracker) -> store::Result<Next> {
    if app.running.count() > 0 {
        // Asked for by whoever could not tell this worker itself: another node, or a fire that takes the place of an
        // earlier run.
        for job in app.store.read_now("jobs_to_cancel", ops::jobs::to_cancel).await? {
            app.running.cancel(job);
        }
    }
    let free = usize::from(app.settings.job_slots).saturating_sub(app.running.count());
    if free == 0 {
        return Ok(Next::Idle);
    }
    let now = app.clock.now();
    let (token, length) = (app.ids.uuid(now).to_string(), app.lease());
    let held_with = token.clone();
    let queued = app.store.read_now("queued_jobs", ops::jobs::any_queued).await?;
    if !queued {
        return Ok(Next::Idle);
    }
    // Counted from before the claim is sent, so that a lease never ends later here than in the database.
    let sent = Instant::now();
    let jobs = app
        .store
        .write_now("claim_jobs", move |tx| {
            let token = &held_with;
            ops::jobs::claim(tx, free, Lease { token, length }, now)
        })
        .await?;
    let lease_end = app.store.is_shared().then(|| sent + length);
    for job in jobs {
        // Registered before the task exists: a cancel that comes at once finds it.
        let place = Place {
            running: app.running.insert(job.id, &token, lease_end),
            id: job.id,
            token: token.clone(),
            app: Arc::clone(app),
        };
        tasks.spawn(async move {
            run::run(&place.app, job, &place.token, &place.running).await;
        });
    }
    Ok(Next::Idle)
}
