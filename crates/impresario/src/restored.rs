//! The start on a database that was put back from an older backup. What comes in: the mark that says so. What goes out:
//! a database from which nothing fires or runs a second time, and a line in the log that says what was settled.

use std::sync::Arc;

use anyhow::bail;
use jiff::SignedDuration;

use crate::{
    app::App,
    clock::Clock,
    domain::rfc3339,
    scheduler::EARLIEST,
    store::ops::{
        Moment, restored,
        settings::{self, RestoredFrom},
    },
};

/// How far the clock may be behind the backup's and is waited for: clocks of two machines are never quite the same.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// Settles a database that was put back from a backup; any other it leaves alone. Called once, before anything is
/// claimed or fired.
///
/// # Errors
/// The store's, and where the clock stands before the instant of the backup.
pub async fn settle(app: &App) -> anyhow::Result<()> {
    // A dump carries no mark. What was put back from one is known by its place, and a node does not guess what it is.
    if !app.store.write("is_at_home", settings::is_at_home).await? {
        bail!(
            "since a node last ran on it, this database was put back from a dump or moved to another place. If something \
             may have fired elsewhere since, run `impresario restored`: what came due since is then written down as \
             missed, and nothing fires twice. If it was only moved, and no node ran meanwhile, run \
             `impresario restored --only-moved`: then nothing is missed. And start again"
        );
    }
    let Some(mark) = app
        .store
        .read_now("restored_from", settings::restored_from)
        .await?
    else {
        return Ok(());
    };
    wait_for_clock(&*app.clock, mark).await?;
    let until = app.clock.now();
    let from = mark.at.map_or_else(|| "unknown".to_owned(), rfc3339);
    tracing::warn!(
        backup_of = from,
        until = rfc3339(until),
        "this database was put back from a backup: what came due since does not fire, and what was unfinished does not run"
    );
    let mut state = app
        .store
        .write("begin_restored", move |tx| restored::begin(tx, until))
        .await?;
    while !state.done {
        let (now, ids) = (app.clock.now(), Arc::clone(&app.ids));
        state = app
            .store
            .write("settle_restored", move |tx| {
                restored::settle(tx, state.clone(), &Moment::at(now, &ids))
            })
            .await?;
    }
    tracing::warn!(
        schedules = state.written_off.schedules,
        instants_missed = state.written_off.instants,
        jobs_failed = state.jobs,
        schedules_unreadable = state.written_off.damaged,
        "settled what a backup that was put back may have done since"
    );
    Ok(())
}

/// By a clock that stands before the backup, what fired after it would be still to come, and would fire again.
async fn wait_for_clock(clock: &dyn Clock, mark: RestoredFrom) -> anyhow::Result<()> {
    // A clock that has not been set names no instant that could be settled up to.
    let at = mark.at.map_or(EARLIEST, |at| at.max(EARLIEST));
    let now = clock.now();
    if at <= now {
        return Ok(());
    }
    let (now, at_text) = (rfc3339(now), rfc3339(at));
    if at.duration_since(clock.now()) > PATIENCE {
        bail!(
            "this database was put back from a backup of {at_text}, and the clock stands before that, at {now}: what \
             fired in between would fire again. Set the clock right; if it is right and was ahead at the backup, run \
             `impresario restored` and start again"
        );
    }
    tracing::warn!(
        backup_of = at_text,
        now,
        "waiting until the clock has come to the instant of the backup"
    );
    clock.sleep_until(at).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::clock::ManualClock;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn mark(text: &str) -> RestoredFrom {
        RestoredFrom { at: Some(at(text)) }
    }

    #[tokio::test]
    async fn a_clock_that_stands_before_the_backup_is_refused_and_one_that_nearly_does_is_waited_for() {
        let clock = ManualClock::new(at("2027-01-01T12:00:00Z"));
        wait_for_clock(&clock, mark("2027-01-01T12:00:00Z"))
            .await
            .unwrap();
        let unreadable = RestoredFrom { at: None };
        wait_for_clock(&clock, unreadable).await.unwrap();
        let unset = ManualClock::new(at("1970-01-01T00:00:30Z"));
        assert!(wait_for_clock(&unset, unreadable).await.is_err());
        let refused = wait_for_clock(&clock, mark("2027-01-01T12:01:01Z"))
            .await
            .unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains("2027-01-01T12:01:01")
                && text.contains("2027-01-01T12:00:00")
                && text.contains("restored"),
            "{text}"
        );
        let waiting = wait_for_clock(&clock, mark("2027-01-01T12:00:59Z"));
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        clock.set(at("2027-01-01T12:00:59Z"));
        waiting.await.unwrap();
    }
}
