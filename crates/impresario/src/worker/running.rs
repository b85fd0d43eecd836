//! The jobs that run here, so that they can be told to end: by their owner, by the server, or because they are not this
//! node's any more.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio_util::sync::CancellationToken;

use crate::domain::JobId;

/// Why a run is to end early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopReason {
    /// Its owner asked for it.
    Cancel,
    /// The server's grace period is over.
    Shutdown,
    /// It is not this node's any more, or that cannot be known: its lease has run out. Nothing is written of it.
    Lost,
}

/// The jobs that run here, so that they can be told to end.
#[derive(Debug, Default)]
pub struct RunningJobs {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// By the token as well: a job that was lost and is claimed here once more runs beside what is left of its first run.
    jobs: HashMap<(JobId, String), Running>,
    /// Whether the server is past its grace period: what is claimed from then on is told to end at once.
    ending: bool,
}

/// A job that runs here.
#[derive(Debug, Clone)]
pub(super) struct Running {
    /// Cancelled when it is to end.
    pub(super) stop: CancellationToken,
    reason: Arc<Mutex<Option<StopReason>>>,
    /// When that ends, by this machine's monotonic clock; nothing where leases have no end.
    lease_end: Option<Instant>,
}

impl Running {
    fn new(lease_end: Option<Instant>) -> Self {
        Self {
            stop: CancellationToken::new(),
            reason: Arc::default(),
            lease_end,
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

    /// Why it is to end, if it is.
    pub(super) fn reason(&self) -> Option<StopReason> {
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
        for ((id, _), running) in &self.held().jobs {
            if *id == job {
                running.stop(StopReason::Cancel);
            }
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

    /// The jobs that are held here with the tokens they are held under.
    pub(super) fn held_under(&self) -> Vec<(JobId, String)> {
        self.held().jobs.keys().cloned().collect()
    }

    /// Notes what a heartbeat for `beaten` said: those that are `lost` are stopped, the others are held until `lease_end`.
    pub(super) fn extend(&self, beaten: &[(JobId, String)], lost: &[JobId], lease_end: Instant) {
        let mut held = self.held();
        for job in beaten {
            let Some(running) = held.jobs.get_mut(job) else {
                continue;
            };
            if lost.contains(&job.0) {
                running.stop(StopReason::Lost);
            } else {
                running.lease_end = running.lease_end.max(Some(lease_end));
            }
        }
    }

    /// Stops the jobs whose leases have run out by `now`; how many that were not told to end before.
    pub(super) fn expire(&self, now: Instant) -> usize {
        let held = self.held();
        let expired = held
            .jobs
            .values()
            .filter(|running| running.lease_end.is_some_and(|end| end <= now))
            .filter(|running| !running.stop.is_cancelled());
        expired.map(|running| running.stop(StopReason::Lost)).count()
    }

    pub(super) fn insert(&self, job: JobId, token: &str, lease_end: Option<Instant>) -> Running {
        let running = Running::new(lease_end);
        let mut held = self.held();
        if held.ending {
            running.stop(StopReason::Shutdown);
        }
        held.jobs.insert((job, token.to_owned()), running.clone());
        running
    }

    pub(super) fn remove(&self, job: JobId, token: &str) {
        self.held().jobs.remove(&(job, token.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn id(number: u128) -> JobId {
        JobId(uuid::Uuid::from_u128(number))
    }

    fn held(token: &str) -> Vec<(JobId, String)> {
        vec![(id(1), token.to_owned()), (id(2), token.to_owned())]
    }

    #[test]
    fn a_job_whose_lease_has_run_out_is_stopped() {
        let (jobs, begun) = (RunningJobs::default(), Instant::now());
        let after = |seconds| begun + Duration::from_secs(seconds);
        let one = jobs.insert(id(1), "token", Some(after(10)));
        let endless = jobs.insert(id(2), "token", None);
        assert_eq!((jobs.expire(after(9)), one.reason()), (0, None));
        assert_eq!(jobs.expire(after(10)), 1);
        assert_eq!(one.reason(), Some(StopReason::Lost));
        assert!(one.stop.is_cancelled() && !endless.stop.is_cancelled());
        assert_eq!(jobs.expire(after(11)), 0, "told once");
    }

    #[test]
    fn a_heartbeat_keeps_what_is_held_and_stops_what_is_not() {
        let (jobs, begun) = (RunningJobs::default(), Instant::now());
        let after = |seconds| begun + Duration::from_secs(seconds);
        let kept = jobs.insert(id(1), "token", Some(after(10)));
        let lost = jobs.insert(id(2), "token", Some(after(10)));
        let mut beaten = jobs.held_under();
        beaten.sort();
        assert_eq!(beaten, held("token"));
        jobs.extend(&beaten, &[id(2)], after(20));
        assert_eq!(lost.reason(), Some(StopReason::Lost));
        assert_eq!((jobs.expire(after(19)), kept.reason()), (0, None));
        // An answer that comes late takes nothing back.
        jobs.extend(&beaten, &[], after(15));
        assert_eq!(jobs.expire(after(19)), 0);
        assert_eq!(jobs.expire(after(20)), 1);
        assert_eq!(kept.reason(), Some(StopReason::Lost));
    }

    #[test]
    fn what_a_heartbeat_says_of_an_earlier_claim_does_not_touch_a_later_one() {
        let (jobs, begun) = (RunningJobs::default(), Instant::now());
        let later = jobs.insert(id(1), "later", Some(begun));
        jobs.extend(&held("earlier"), &[id(1)], begun + Duration::from_secs(9));
        jobs.remove(id(1), "earlier");
        assert_eq!((later.reason(), jobs.count()), (None, 1));
        assert_eq!(jobs.expire(begun), 1);
    }
}
