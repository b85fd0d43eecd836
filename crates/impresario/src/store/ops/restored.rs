//! A database that was put back from an older backup: what that means is settled before anything is claimed or fired.
//!
//! Nobody can know what fired and what ran after the backup. So all that is owed is written down as missed, and the jobs
//! that were unfinished fail; nothing of it happens again. This is done in bounded transactions that may be cut off
//! anywhere: what is settled stays so, and the mark that asks for it goes only with the last one.

use jiff::Timestamp;

use super::{
    Moment,
    fires::{self, WrittenOff},
    jobs, settings,
};
use crate::store::{error::Result, tx::Tx};

/// Schedules that one pass looks at; it ends before them where there is much to count.
const SCHEDULES: usize = 500;

/// Jobs that one pass ends.
const JOBS: usize = 200;

/// How far it has come, and what was found.
#[derive(Debug, Clone)]
pub struct Settling {
    /// What has come by then is written off.
    until: Timestamp,
    /// What the schedules owed.
    pub written_off: WrittenOff,
    /// Jobs that were ended.
    pub jobs: usize,
    /// Whether all is settled and the mark is gone.
    pub done: bool,
}

/// Begins: from now on the mark says that some may be settled up to `until`, so that a later start by a clock that is
/// behind does not take that for instants still to come.
///
/// # Errors
/// What the engine refuses.
pub fn begin(tx: &mut Tx<'_>, until: Timestamp) -> Result<Settling> {
    let marked = settings::is_marked_restored(tx)?;
    if marked {
        settings::mark_restored(tx, until)?;
    }
    Ok(Settling {
        until,
        written_off: WrittenOff::default(),
        jobs: 0,
        done: !marked,
    })
}

/// Settles some more: called with what it gave, until that is `done`. Several nodes may do so at once, a pass at a time.
/// Schedules first, so that the end of a job wakes nothing that waits to be made up for.
///
/// # Errors
/// What the engine refuses. Rows that cannot be read are not errors.
pub fn settle(tx: &mut Tx<'_>, mut state: Settling, moment: &Moment<'_>) -> Result<Settling> {
    // The first node that comes to the end goes on to fire and to run: what it has begun since is not for the others to end.
    if !settings::is_marked_restored(tx)? {
        state.done = true;
        return Ok(state);
    }
    if !state.written_off.done {
        state.written_off = fires::write_off(tx, state.written_off, state.until, moment, SCHEDULES)?;
        return Ok(state);
    }
    let ended = jobs::end_restored(tx, moment, JOBS)?;
    state.jobs += ended;
    if ended < JOBS {
        settings::unmark_restored(tx)?;
        state.done = true;
    }
    Ok(state)
}

#[cfg(test)]
mod tests;
