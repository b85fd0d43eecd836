//! The shape of every background loop: a `tick` that does what there is to do and says when to look again, and one
//! shared way of waiting. A signal is a hint; the poll is the truth.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use jiff::Timestamp;
use tokio::sync::Notify;
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
#[derive(Debug, Default)]
pub struct Signals {
    /// A schedule was made or changed.
    pub scheduler: Notify,
    /// A job was queued, or a slot came free.
    pub worker: Notify,
    /// A deployment was accepted, or a build ended.
    pub builds: Notify,
    /// A delivery was put into the outbox, or one ended.
    pub outbox: Notify,
    /// A job ended: for those who wait for one. Rung with `notify_waiters`.
    pub job_ended: Notify,
}

/// When each loop last came round: what the readiness check looks at.
#[derive(Debug, Default)]
pub struct Pulse {
    beats: Mutex<BTreeMap<&'static str, Instant>>,
}

impl Pulse {
    fn beat(&self, name: &'static str) {
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
    (clock, signal, pulse): (&SharedClock, &Notify, &Pulse),
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
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test]
    async fn neither_an_error_nor_a_panic_ends_a_loop() {
        let clock: SharedClock = Arc::new(SystemClock);
        let (signal, pulse, shutdown) = (Notify::new(), Pulse::default(), CancellationToken::new());
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
        run("test", (&clock, &signal, &pulse), &shutdown, tick).await;
        assert_eq!(passes.into_inner(), 3);
        assert_eq!(pulse.ages().len(), 1);
    }
}
