//! The shape of every background loop: a `tick` that does what there is to do and says when to look again, and one
//! shared way of waiting. A signal is a hint; the poll is the truth.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use jiff::Timestamp;
use tokio::sync::{Notify, futures::Notified};
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;

/// How long a loop sleeps at the most before it looks again, whatever it was told.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What a tick found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// There is more to do right now.
    Now,
    /// Nothing to do before this instant, unless a signal comes.
    At(Timestamp),
    /// Nothing to do until a signal comes.
    Idle,
}

/// Wakes the loops: one for each, rung by whoever makes work for it.
#[derive(Debug)]
pub struct Signals {
    /// A schedule was made or changed.
    pub scheduler: Bell,
    /// A job was queued, or a slot came free.
    pub worker: Bell,
    /// A deployment was accepted, or a build ended.
    pub builds: Bell,
    /// A delivery was put into the outbox, or one ended.
    pub outbox: Bell,
    /// A job ended: for those who wait for one. Rung with `notify_waiters`.
    pub job_ended: Bell,
    far: Arc<Far>,
}

/// A signal of this node that the other nodes hear of as well, some time later.
#[derive(Debug)]
pub struct Bell {
    here: Notify,
    far: Arc<Far>,
    /// Its place among the bells that are still to be heard elsewhere.
    bit: u8,
}

/// The bells that have been rung here since the other nodes were told.
#[derive(Debug, Default)]
struct Far {
    rung: AtomicU8,
    some: Notify,
}

impl Bell {
    fn new(far: &Arc<Far>, bit: u8) -> Self {
        Self {
            here: Notify::new(),
            far: Arc::clone(far),
            bit,
        }
    }

    /// Wakes the one that waits for it, or the next that does.
    pub fn notify_one(&self) {
        self.here.notify_one();
        self.tell();
    }

    /// Wakes all that wait for it now.
    pub fn notify_waiters(&self) {
        self.here.notify_waiters();
        self.tell();
    }

    /// Ends when it is rung, here or elsewhere.
    pub fn notified(&self) -> Notified<'_> {
        self.here.notified()
    }

    fn tell(&self) {
        self.far.rung.fetch_or(self.bit, Ordering::Relaxed);
        self.far.some.notify_one();
    }
}

impl Default for Signals {
    fn default() -> Self {
        let far = Arc::default();
        let bell = |place: u8| Bell::new(&far, 1 << place);
        Self {
            scheduler: bell(0),
            worker: bell(1),
            builds: bell(2),
            outbox: bell(3),
            job_ended: bell(4),
            far,
        }
    }
}

impl Signals {
    /// Which bells have been rung here since this was last asked, as a number for [`Signals::heard`]; waits for one.
    pub async fn rung(&self) -> u8 {
        loop {
            match self.far.rung.swap(0, Ordering::Relaxed) {
                0 => self.far.some.notified().await,
                rung => return rung,
            }
        }
    }

    /// Rings those that were rung on another node, here alone.
    pub fn heard(&self, rung: u8) {
        for bell in [&self.scheduler, &self.worker, &self.builds, &self.outbox] {
            if rung & bell.bit != 0 {
                bell.here.notify_one();
            }
        }
        if rung & self.job_ended.bit != 0 {
            self.job_ended.here.notify_waiters();
        }
    }

    /// Rings all of them, here alone: something may have been missed.
    pub fn heard_nothing(&self) {
        self.heard(u8::MAX);
    }
}

/// When each loop last came round: what the readiness check looks at.
#[derive(Debug, Default)]
pub struct Pulse {
    beats: Mutex<BTreeMap<&'static str, Instant>>,
}

impl Pulse {
    /// The loop of this name has come round.
    pub(crate) fn beat(&self, name: &'static str) {
        self.beats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, Instant::now());
    }

    /// Each loop and how long ago it last came round.
    #[must_use]
    pub fn ages(&self) -> Vec<(&'static str, Duration)> {
        let beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        beats.iter().map(|(name, at)| (*name, at.elapsed())).collect()
    }
}

/// Runs `tick` over and over until `shutdown`. An error or a panic of one tick is logged and the next one comes after
/// a pause: no bad row and no passing fault ends a loop.
pub async fn run<T, F, E>(
    name: &'static str,
    (clock, signal, pulse): (&SharedClock, &Bell, &Pulse),
    shutdown: &CancellationToken,
    mut tick: T,
) where
    T: FnMut() -> F,
    F: Future<Output = Result<Next, E>>,
    E: std::fmt::Display + std::fmt::Debug,
{
    while !shutdown.is_cancelled() {
        pulse.beat(name);
        let next = match AssertUnwindSafe(tick()).catch_unwind().await {
            Ok(Ok(next)) => next,
            Ok(Err(error)) => {
                tracing::error!(task = name, %error, cause = ?error, "a pass failed and is tried again");
                pause(shutdown).await;
                continue;
            }
            Err(_) => {
                tracing::error!(task = name, "a pass panicked and is tried again");
                pause(shutdown).await;
                continue;
            }
        };
        let due = async {
            match next {
                Next::Now => {}
                Next::At(at) => clock.sleep_until(at).await,
                Next::Idle => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = signal.notified() => {}
            () = tokio::time::sleep(LONGEST_WAIT) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// After a fault: long enough not to spin, short enough to be back within the next minute's fires.
async fn pause(shutdown: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(LONGEST_WAIT) => {}
        () = shutdown.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test]
    async fn neither_an_error_nor_a_panic_ends_a_loop() {
        let clock: SharedClock = Arc::new(SystemClock);
        let (signals, pulse, shutdown) = (Signals::default(), Pulse::default(), CancellationToken::new());
        let passes = AtomicU32::new(0);
        let tick = || async {
            match passes.fetch_add(1, Ordering::Relaxed) {
                0 => Err("a fault"),
                1 => panic!("a bug"),
                _ => {
                    shutdown.cancel();
                    Ok(Next::Idle)
                }
            }
        };
        run("test", (&clock, &signals.scheduler, &pulse), &shutdown, tick).await;
        assert_eq!(passes.into_inner(), 3);
        assert_eq!(pulse.ages().len(), 1);
    }

    #[tokio::test]
    async fn what_is_rung_here_is_told_once_and_what_is_heard_is_not_told_again() {
        let (here, there) = (Signals::default(), Signals::default());
        here.worker.notify_one();
        here.worker.notify_one();
        here.job_ended.notify_waiters();
        let mut ended = std::pin::pin!(there.job_ended.notified());
        ended.as_mut().enable();
        there.heard(here.rung().await);
        there.worker.notified().await;
        ended.await;
        for quiet in [&here, &there] {
            assert!(futures_util::poll!(std::pin::pin!(quiet.rung())).is_pending());
        }
        assert!(futures_util::poll!(std::pin::pin!(there.outbox.notified())).is_pending());
    }
}
