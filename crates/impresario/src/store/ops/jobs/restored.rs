//! Jobs of a database that was put back from an older backup: what was unfinished in it may have run since.

use super::{
    SELECT,
    end::{end, fail_unreadable, lock},
    read,
};
use crate::domain::Ending;
use crate::store::{
    error::{Result, StoreError},
    ops::Moment,
    tx::{Tx, params},
};

/// Ends jobs that are not finished, at most `limit`, and tells whoever waits for them: how many. Fewer than `limit` means
/// that none is left. Only called before anything is claimed, so nobody can hold any of them.
///
/// # Errors
/// What the engine refuses. A job that cannot be read is ended all the same, and its receivers are not told.
pub fn end_restored(tx: &mut Tx<'_>, moment: &Moment<'_>, limit: usize) -> Result<usize> {
    // In the order of the index of unfinished jobs: each pass takes them from its beginning, and sorts nothing.
    let sql = "SELECT id FROM jobs WHERE status IN ('queued', 'starting_browser', 'running')
               ORDER BY tenant_id, deployment_id, workflow, id LIMIT $1";
    let unfinished = tx.query(sql, params![limit], |row| row.get::<String>("id"))?;
    for id in &unfinished {
        lock(tx, id)?;
        let ended = tx.isolated(|tx| {
            let sql = format!("{SELECT} WHERE j.id = $1");
            let job = tx.query_opt(&sql, params![id], read)?;
            // Found a moment ago, in this transaction: only a deployment that is not there can keep it from being read.
            let job = job.ok_or(StoreError::Corrupt {
                operation: "end_restored",
                column: "deployment_id".to_owned(),
                reason: "there is no such deployment".to_owned(),
            })?;
            end(tx, job, Ending::restored(), moment).map(|_| ())
        })?;
        match ended {
            Ok(()) => {}
            Err(error) if error.is_of_the_row() => fail_unreadable(tx, id, &error, moment.now)?,
            Err(error) => return Err(error),
        }
    }
    Ok(unfinished.len())
}
