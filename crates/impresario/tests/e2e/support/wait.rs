//! Waiting for something to become true: a condition, a deadline, and what was seen instead.

use std::time::{Duration, Instant};

/// Nothing here takes longer than this unless it is broken: a run starts a Node and perhaps a Chromium, on a machine
/// that may be busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);
const LOOK_AGAIN: Duration = Duration::from_millis(15);

/// Waits until `look` gives something; until then it says what it sees, and at the deadline the test fails with that.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + limit;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if Instant::now() >= end => panic!("waited {limit:?} for {what}; there is: {seen}"),
            Err(_) => std::thread::sleep(LOOK_AGAIN),
        }
    }
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, limit, || {
        condition().then_some(()).ok_or_else(|| "not so".to_owned())
    });
}
