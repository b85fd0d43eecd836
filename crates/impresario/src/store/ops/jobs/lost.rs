//! Jobs whose holder is gone. Where one server has the database, it settles at its start what an earlier one left. Where
//! several nodes share it, each settles what has run out of its lease, whoever held it.

use super::{
    SELECT,
    end::{end, fail_unreadable, try_lock},
    read,
};
use crate::domain::{Ending, JobStatus, MOST_ATTEMPTS};
use crate::store::{
    error::Result,
    ops::{Moment, lease},
    tx::{Tx, params},
};

/// What became of a job that was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Its code had not started: it is back in the queue.
    Requeued,
    /// Its code had, or it was lost too often: failed as `worker_lost`, never silently run again.
    Lost,
    /// Its cancel had been asked for.
    Cancelled,
}

/// How many jobs were settled in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// [`Settled::Requeued`].
    pub requeued: usize,
    /// [`Settled::Lost`].
    pub lost: usize,
    /// [`Settled::Cancelled`].
    pub cancelled: usize,
}

impl Recovered {
    /// Counts one.
    pub fn count(&mut self, settled: Settled) {
        match settled {
            Settled::Requeued => self.requeued += 1,
            Settled::Lost => self.lost += 1,
            Settled::Cancelled => self.cancelled += 1,
        }
    }
}

/// Settles what an earlier server of this data directory left running. Only called where no other node can be on the
/// database, while the directory's lock is held and before the first claim, so nobody else can hold any of these jobs.
///
/// # Errors
/// What the engine refuses.
pub fn recover(tx: &mut Tx<'_>, moment: &Moment<'_>) -> Result<Recovered> {
    let sql = "SELECT id FROM jobs WHERE status IN ('starting_browser', 'running')";
    let left = tx.query(sql, &[], |row| row.get::<String>("id"))?;
    let mut recovered = Recovered::default();
    for id in left {
        recovered.count(settle(tx, &id, moment)?);
    }
    Ok(recovered)
}

/// The jobs whose leases have run out by `now`, in milliseconds on the clock of leases: at most `limit`, and what ran out
/// first comes first.
///
/// # Errors
/// What the engine refuses.
pub fn expired(tx: &mut Tx<'_>, now: i64, limit: usize) -> Result<Vec<String>> {
    let gone = lease::has_run_out("$1");
    let sql = format!("SELECT id FROM jobs WHERE {gone} ORDER BY lease_until LIMIT $2");
    tx.query(&sql, params![now, limit], |row| row.get("id"))
}

/// Settles one of them; nothing where it is not left after all, or somebody else is at it. `now` is on the clock of leases,
/// `moment` is asked for once nobody else can write to the job.
///
/// # Errors
/// What the engine refuses.
pub fn reap<'m>(
    tx: &mut Tx<'_>,
    id: &str,
    now: i64,
    moment: impl FnOnce() -> Moment<'m>,
) -> Result<Option<Settled>> {
    if !try_lock(tx, id)? {
        return Ok(None);
    }
    let gone = lease::has_run_out("$2");
    let sql =
        format!("SELECT id FROM jobs WHERE id = $1 AND {gone} AND status IN ('starting_browser', 'running')");
    if tx.query_opt(&sql, params![id, now], |_| Ok(()))?.is_none() {
        return Ok(None);
    }
    settle(tx, id, &moment()).map(Some)
}

/// What becomes of a job that nobody holds any more. It is locked, and so is its schedule.
fn settle(tx: &mut Tx<'_>, id: &str, moment: &Moment<'_>) -> Result<Settled> {
    let sql = "UPDATE jobs SET status = 'queued', lease_token = NULL, lease_until = NULL, started_at = NULL
               WHERE id = $1 AND status = 'starting_browser' AND cancel_requested = 0 AND attempt < $2";
    if tx.execute(sql, params![id, MOST_ATTEMPTS])? == 1 {
        return Ok(Settled::Requeued);
    }
    let sql = "SELECT id FROM jobs WHERE id = $1 AND cancel_requested = 1";
    let settled = match tx.query_opt(sql, params![id], |_| Ok(()))? {
        Some(()) => Settled::Cancelled,
        None => Settled::Lost,
    };
    let ended = tx.isolated(|tx| {
        let sql = format!("{SELECT} WHERE j.id = $1");
        let Some(job) = tx.query_opt(&sql, params![id], read)? else {
            return Ok(());
        };
        let ending = match settled {
            Settled::Cancelled => Ending::Cancelled,
            _ => Ending::worker_lost(job.status == JobStatus::Running),
        };
        end(tx, job, ending, moment).map(|_| ())
    })?;
    match ended {
        Ok(()) => Ok(settled),
        // One job that cannot be read must keep neither a server from starting nor the others from being settled.
        Err(error) if error.is_of_the_row() => {
            fail_unreadable(tx, id, &error, moment.now)?;
            Ok(Settled::Lost)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
