//! What the holder of a job may write while it runs: each write shows the token of its claim, and changes nothing where
//! the job has gone to somebody else.

use std::time::Duration;

use crate::domain::JobId;
use crate::store::{
    error::Result,
    ops::lease,
    tx::{Tx, params},
};

/// Notes that the workflow's code is about to be let go. `false` where the job is not the holder's any more, or was
/// cancelled meanwhile: then it must not be.
///
/// # Errors
/// What the engine refuses.
pub fn start(tx: &mut Tx<'_>, id: JobId, token: &str) -> Result<bool> {
    let sql = "UPDATE jobs SET status = 'running'
               WHERE id = $1 AND lease_token = $2 AND status = 'starting_browser' AND cancel_requested = 0";
    Ok(tx.execute(sql, params![id, token])? == 1)
}

/// Hands a job back whose code was not let go, as its holder knows even where the store says `running`. `false` where
/// it is not the holder's any more, or was cancelled. What was handed back in good order does not count as an attempt.
///
/// # Errors
/// What the engine refuses.
pub fn requeue(tx: &mut Tx<'_>, id: JobId, token: &str) -> Result<bool> {
    let sql = "UPDATE jobs SET status = 'queued', lease_token = NULL, lease_until = NULL, started_at = NULL,
                 attempt = attempt - 1
               WHERE id = $1 AND lease_token = $2 AND status IN ('starting_browser', 'running')
                 AND cancel_requested = 0";
    Ok(tx.execute(sql, params![id, token])? == 1)
}

/// Extends the leases of jobs, each given with the token it is held under, to `length` from now. Which of them are not the
/// holder's any more: those must be stopped.
///
/// # Errors
/// What the engine refuses.
pub fn heartbeat(tx: &mut Tx<'_>, held: &[(JobId, String)], length: Duration) -> Result<Beat> {
    const HELD: &str = "SELECT id FROM jobs
                        WHERE id = $1 AND lease_token = $2 AND status IN ('starting_browser', 'running')";
    let until = lease::until(tx, length)?;
    let mut beat = Beat::default();
    for job in held {
        let (id, token) = job;
        let claim = format!("{HELD}{}", tx.dialect().claim());
        if tx.query_opt(&claim, params![*id, token], |_| Ok(()))?.is_some() {
            let sql = "UPDATE jobs SET lease_until = $2 WHERE id = $1";
            tx.execute_one(sql, params![*id, until])?;
        } else if tx.query_opt(HELD, params![*id, token], |_| Ok(()))?.is_some() {
            beat.in_use.push(job.clone());
        } else {
            beat.lost.push(*id);
        }
    }
    Ok(beat)
}

/// What a heartbeat found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beat {
    /// Those that are not held any more.
    pub lost: Vec<JobId>,
    /// Those whose rows somebody has locked: not extended, and nobody waits for them.
    pub in_use: Vec<(JobId, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ops::{
        fixture::{Db, LEASE, at},
        jobs::claim,
    };

    #[test]
    fn whoever_does_not_show_the_token_writes_nothing() {
        let db = Db::new();
        let tenant = db.tenant();
        let job = db.job((tenant, db.deployment(tenant, &[])), "queued", 0);
        assert_eq!(db.run(|tx| claim(tx, 1, LEASE, at(1))).len(), 1);
        assert!(!db.run(|tx| start(tx, job, "another")));
        assert!(!db.run(|tx| requeue(tx, job, "another")));
        let beat = |token: &str| {
            db.run(|tx| heartbeat(tx, &[(job, token.to_owned())], LEASE.length))
                .lost
        };
        assert_eq!(beat("another"), [job]);
        assert_eq!(beat("token"), []);
        assert!(db.run(|tx| start(tx, job, "token")));
        assert!(db.run(|tx| requeue(tx, job, "token")));
        assert_eq!(beat("token"), [job], "what was handed back is not held");
        let fresh =
            "SELECT COUNT(*) FROM jobs WHERE status = 'queued' AND attempt = 0 AND lease_token IS NULL";
        assert_eq!(db.count(fresh), 1);
    }

    #[test]
    fn a_heartbeat_says_which_of_several_are_gone() {
        let db = Db::new();
        let tenant = db.tenant();
        let deployment = db.deployment(tenant, &[]);
        let jobs = [3, 2, 1].map(|created| db.job((tenant, deployment), "queued", created));
        assert_eq!(db.run(|tx| claim(tx, 9, LEASE, at(9))).len(), 3);
        db.sql(
            "UPDATE jobs SET lease_token = 'another' WHERE id = $1",
            params![jobs[1]],
        );
        let held = jobs.map(|job| (job, "token".to_owned()));
        assert_eq!(db.run(|tx| heartbeat(tx, &held, LEASE.length)).lost, [jobs[1]]);
    }
}
