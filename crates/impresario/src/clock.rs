//! Time, as an argument: everything that asks what time it is or waits for an instant takes a [`Clock`].
//!
//! [`SystemClock`] is the one place that reads the machine's clock. [`ManualClock`] stands still until it is moved,
//! which is how the tests cross a minute boundary, a year or a clock change without waiting for it.

use std::{fmt, future::Future, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

/// A future that is boxed so that [`Clock`] can be a trait object.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the rest of the program sees of a clock.
pub type SharedClock = Arc<dyn Clock>;

/// The time now, and waiting for a time to come.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The current instant, cut (never rounded up) to whole milliseconds: a fire compared with it is never early.
    fn now(&self) -> Timestamp;

    /// Ends once [`Clock::now`] has reached `at`; at once if it already has.
    fn sleep_until(&self, at: Timestamp) -> Sleep;

    /// Ends `duration` from now.
    fn sleep(&self, duration: Duration) -> Sleep {
        let wait = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        self.sleep_until(self.now().checked_add(wait).unwrap_or(Timestamp::MAX))
    }
}

/// Cuts an instant to whole milliseconds, the resolution of everything that is stored and shown.
#[must_use]
pub fn to_millis(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// The longest a sleeper trusts the timer before it looks at the wall clock again, so that a stepped clock, or a
/// machine that slept, is noticed within this time.
const LONGEST_NAP: Duration = Duration::from_secs(1);

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one home of the wall clock")]
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        let cut = to_millis(now);
        // `as_millisecond` rounds toward zero: before 1970 that is up, so step back.
        if cut > now {
            cut.checked_sub(SignedDuration::from_millis(1)).unwrap_or(cut)
        } else {
            cut
        }
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep {
        let clock = *self;
        Box::pin(async move {
            while let Ok(left) = Duration::try_from(at.duration_since(clock.now())) {
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(LONGEST_NAP)).await;
            }
        })
    }
}

/// A clock that stands still until it is set or advanced.
#[derive(Debug, Clone)]
pub struct ManualClock {
    now: watch::Sender<Timestamp>,
}

impl ManualClock {
    /// A clock that stands at `at`.
    #[must_use]
    pub fn new(at: Timestamp) -> Self {
        Self {
            now: watch::Sender::new(to_millis(at)),
        }
    }

    /// Moves the clock to `at`, forwards or backwards, and wakes who waits for it.
    pub fn set(&self, at: Timestamp) {
        self.now.send_replace(to_millis(at));
    }

    /// Moves the clock forwards by `by`, as far as time goes.
    pub fn advance(&self, by: Duration) {
        let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
        self.now
            .send_modify(|now| *now = now.checked_add(by).unwrap_or(Timestamp::MAX));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.now.borrow()
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep {
        let mut seen = self.now.subscribe();
        Box::pin(async move {
            // An error means that the clock is gone: nobody will ever move it again, so the wait never ends.
            if seen.wait_for(|now| *now >= at).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

/// A clock that shows the instant that stands in a file (RFC 3339), for rehearsals and tests of the real program: it
/// moves when the file is written and stands still otherwise. A file that is being written, or is damaged, leaves the
/// clock where it was.
///
/// # Errors
/// Where the file cannot be read at the start, or holds no instant.
pub fn follow_file(path: PathBuf) -> std::io::Result<ManualClock> {
    let read = move || {
        let text = std::fs::read_to_string(&path)?;
        text.trim().parse::<Timestamp>().map_err(|error| {
            let reason = format!("clock file {}: {error}", path.display());
            std::io::Error::new(std::io::ErrorKind::InvalidData, reason)
        })
    };
    let clock = ManualClock::new(read()?);
    let hand = clock.clone();
    std::thread::Builder::new()
        .name("clock-file".to_owned())
        .spawn(move || {
            loop {
                std::thread::sleep(FILE_POLL);
                if let Ok(at) = read()
                    && at != hand.now()
                {
                    hand.set(at);
                }
            }
        })?;
    Ok(clock)
}

/// How soon a written clock file is noticed.
const FILE_POLL: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_never_rounds_up() {
        let clock = SystemClock;
        for _ in 0..1_000 {
            assert!(clock.now().as_nanosecond() % 1_000_000 == 0);
        }
    }

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_manual_clock_reaches_its_instant() {
        let start: Timestamp = "2027-03-14T06:59:00Z".parse().unwrap();
        let clock = ManualClock::new(start);
        let sleeper = clock.sleep(Duration::from_secs(60));
        tokio::pin!(sleeper);
        assert!(futures_util::poll!(&mut sleeper).is_pending());
        clock.advance(Duration::from_millis(59_999));
        assert!(futures_util::poll!(&mut sleeper).is_pending());
        clock.advance(Duration::from_millis(1));
        sleeper.await;
        assert_eq!(clock.now().to_string(), "2027-03-14T07:00:00Z");
    }
}
