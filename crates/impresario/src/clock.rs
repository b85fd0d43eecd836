//! Time, as an argument: everything that asks what time it is or waits for an instant takes a [`Clock`].
//!
//! [`SystemClock`] is the one place that reads the machine's clock. [`ManualClock`] stands still until it is moved,
//! which is how the tests cross a minute boundary, a year or a clock change without waiting for it.

use std::{
    fmt,
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

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
        nap_until(*self, at)
    }
}

/// Sleeps by the timer, and looks at the clock in between.
fn nap_until(clock: impl Clock + 'static, at: Timestamp) -> Sleep {
    Box::pin(async move {
        while let Ok(left) = Duration::try_from(at.duration_since(clock.now())) {
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LONGEST_NAP)).await;
        }
    })
}

/// The clock of a database that several nodes share, as far as a node knows it: whatever the nodes' own clocks show, all of
/// them fire by the same one. Between two samples it goes on by the machine's monotonic clock, which nobody sets.
///
/// It is never ahead of the database's: a sample says what that clock showed before its answer was heard. It is behind
/// by the way of the answer at the most, as far as the two run at the same speed.
#[derive(Debug, Clone)]
pub struct DatabaseClock {
    started: Instant,
    /// What the database's clock showed at `started`, in milliseconds since 1970, or a little less.
    offset: Arc<AtomicI64>,
}

impl DatabaseClock {
    /// A clock that has heard what the database's showed: `now`, in milliseconds since 1970, between two instants.
    #[must_use]
    pub fn new(asked: Instant, now: i64, heard: Instant) -> Self {
        let clock = Self {
            started: asked,
            offset: Arc::new(AtomicI64::new(i64::MIN)),
        };
        clock.hear(asked, now, heard);
        clock
    }

    /// Learns what the database's clock showed between two instants.
    pub fn hear(&self, asked: Instant, now: i64, heard: Instant) {
        let since = |at: Instant| i64::try_from((at - self.started).as_millis()).unwrap_or(i64::MAX);
        // What it showed at `started`: at the least, if the answer came at once, and at the most, if the question did.
        let (least, most) = (now.saturating_sub(since(heard)), now.saturating_sub(since(asked)));
        let known = self.offset.load(Ordering::Relaxed);
        // A sample that says nothing new may have been long under way.
        if !(least..=most).contains(&known) {
            self.offset.store(least, Ordering::Relaxed);
        }
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> Timestamp {
        let since = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let now = self.offset.load(Ordering::Relaxed).saturating_add(since);
        Timestamp::from_millisecond(now).unwrap_or(Timestamp::MAX)
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep {
        nap_until(self.clone(), at)
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

    #[test]
    fn the_clock_of_a_database_is_never_ahead_of_it_and_learns_from_what_it_hears() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let shown = |clock: &DatabaseClock| clock.offset.load(Ordering::Relaxed);
        // Asked at 0, heard at 40: at the start it showed 1,000,000 at the most and 40 less at the least.
        let clock = DatabaseClock::new(start, 1_000_000, at(40));
        assert_eq!(shown(&clock), 999_960);
        // A quicker answer knows more; a slow one knows nothing that was not known.
        clock.hear(at(100), 1_000_101, at(102));
        assert_eq!(shown(&clock), 999_999);
        clock.hear(at(200), 1_000_250, at(900));
        assert_eq!(shown(&clock), 999_999);
        // It is set back, or forward, and this one follows.
        clock.hear(at(1_000), 1_001_000 - 3_600_000, at(1_001));
        assert_eq!(shown(&clock), 1_000_000 - 3_600_001);
        clock.hear(at(2_000), 1_002_000, at(2_001));
        assert_eq!(shown(&clock), 999_999);
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
