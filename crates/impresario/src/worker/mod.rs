//! Claims queued jobs, runs them, and writes down how they end. What comes in: queued jobs. What goes out: finished
//! jobs and, in the same transaction, their callbacks in the outbox.

mod logs;
mod run;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    app::App,
    background::{self, Next},
    domain::JobId,
    store::{
        self,
        ops::{self, Moment, fires},
    },
};

/// Why a run is to end early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StopReason {
    /// Its owner asked for it.
    Cancel,
    /// The server's grace period is over.
    Shutdown,
}

/// The jobs that run here, so that they can be told to end.
#[derive(Debug, Default)]
pub struct RunningJobs {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    jobs: HashMap<JobId, Running>,
    /// Whether the server is past its grace period: what is claimed from then on is told to end at once.
    ending: bool,
}

#[derive(Debug, Clone)]
struct Running {
    stop: CancellationToken,
    reason: Arc<Mutex<Option<StopReason>>>,
}

impl Running {
    fn new() -> Self {
        Self {
            stop: CancellationToken::new(),
            reason: Arc::default(),
        }
    }

    /// The first reason stays.
    fn stop(&self, reason: StopReason) {
        self.reason
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(reason);
        self.stop.cancel();
    }

    fn reason(&self) -> Option<StopReason> {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunningJobs {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many run.
    #[must_use]
    pub fn count(&self) -> usize {
        self.held().jobs.len()
    }

    /// Ends a job's whole process tree, if it runs here.
    pub fn cancel(&self, job: JobId) {
        if let Some(running) = self.held().jobs.get(&job) {
            running.stop(StopReason::Cancel);
        }
    }

    /// Ends all of them, because the server does, and whatever a claim that is under way still brings.
    pub fn stop_all(&self) {
        let mut held = self.held();
        held.ending = true;
        for running in held.jobs.values() {
            running.stop(StopReason::Shutdown);
        }
    }

    fn insert(&self, job: JobId) -> Running {
        let running = Running::new();
        let mut held = self.held();
        if held.ending {
            running.stop(StopReason::Shutdown);
        }
        held.jobs.insert(job, running.clone());
        running
    }

    fn remove(&self, job: JobId) {
        self.held().jobs.remove(&job);
    }
}

/// A job's place among those that run here: given up when the job's task ends, in whatever way it does.
struct Place {
    app: Arc<App>,
    id: JobId,
    running: Running,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.app.running.remove(self.id);
        self.app.signals.job_ended.notify_waiters();
        self.app.signals.outbox.notify_one();
        self.app.signals.worker.notify_one();
        self.app.signals.scheduler.notify_one();
    }
}

/// Settles what an earlier server of this data directory left running. Called once, before anything is claimed.
///
/// # Errors
/// The store's.
pub async fn recover(app: &App) -> store::Result<()> {
    let killed = app.runner.sweep_leftovers();
    let (now, ids) = (app.clock.now(), app.ids.clone());
    let recovered = app
        .store
        .write("recover_jobs", move |tx| {
            fires::wake_all(tx)?;
            ops::jobs::recover(tx, &Moment::at(now, &ids))
        })
        .await?;
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

/// Claims and runs jobs until `shutdown`; what runs then goes on as a task of `tasks`.
pub async fn run(app: &Arc<App>, tasks: &TaskTracker, shutdown: &CancellationToken) {
    let around = (&app.clock, &app.signals.worker, &*app.pulse);
    background::run("worker", around, shutdown, || tick(app, tasks)).await;
}

async fn tick(app: &Arc<App>, tasks: &TaskTracker) -> store::Result<Next> {
    if app.running.count() > 0 {
        // Asked for by whoever could not tell this worker itself: a fire that takes the place of an earlier run.
        for job in app.store.read_now("jobs_to_cancel", ops::jobs::to_cancel).await? {
            app.running.cancel(job);
        }
    }
    let free = usize::from(app.settings.job_slots).saturating_sub(app.running.count());
    if free == 0 {
        return Ok(Next::Idle);
    }
    let now = app.clock.now();
    let token = app.ids.uuid(now).to_string();
    let lease = token.clone();
    let queued = app.store.read_now("queued_jobs", ops::jobs::any_queued).await?;
    if !queued {
        return Ok(Next::Idle);
    }
    let jobs = app
        .store
        .write("claim_jobs", move |tx| ops::jobs::claim(tx, free, &lease, now))
        .await?;
    for job in jobs {
        // Registered before the task exists: a cancel that comes at once finds it.
        let place = Place {
            running: app.running.insert(job.id),
            id: job.id,
            app: Arc::clone(app),
        };
        let token = token.clone();
        tasks.spawn(async move {
            run::run(&place.app, job, &token, &place.running).await;
        });
    }
    Ok(Next::Idle)
}
