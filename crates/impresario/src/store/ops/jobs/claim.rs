//! Who runs next. A tenant with ten thousand queued jobs takes turns with one that has a single job.

use std::collections::{BTreeMap, HashMap, VecDeque};

use jiff::Timestamp;

use super::{
    SELECT,
    end::{fail_unreadable, try_lock},
    read,
};
use crate::domain::{Job, JobStatus};
use crate::store::{
    error::Result,
    ops::{
        Lease,
        fair::{self, Queue},
    },
    tx::{Tx, params},
};

/// Takes queued jobs, at most `limit`, for whoever holds the lease: each place goes to the tenant with the fewest
/// unfinished runs, and to its oldest job that nobody else is just taking.
///
/// The work is a few index steps a place and one a tenant that waits, however many jobs are queued.
///
/// # Errors
/// What the engine refuses. A job that cannot be read is failed on the spot, so that it does not stop the queue.
pub fn claim(tx: &mut Tx<'_>, limit: usize, lease: Lease<'_>, now: Timestamp) -> Result<Vec<Job>> {
    let dealt = fair::deal(queues(tx, limit)?, limit, |(created_at, id, _)| {
        (*created_at, id.clone())
    });
    let places: Vec<String> = dealt.into_iter().map(|(_, _, tenant)| tenant).collect();
    let mut locked = lock(tx, &places)?;
    let until = lease.until(tx)?;
    let mut claimed = Vec::with_capacity(places.len());
    for tenant in places {
        let Some(id) = locked.get_mut(&tenant).and_then(VecDeque::pop_front) else {
            continue;
        };
        let sql = format!("{SELECT} WHERE j.id = $1");
        match tx.query_opt(&sql, params![&id], |row| Ok(read(row)))? {
            Some(Ok(mut job)) => {
                tx.execute_one(
                    "UPDATE jobs SET status = 'starting_browser', lease_token = $2, lease_until = $3,
                       attempt = attempt + 1, started_at = $4
                     WHERE id = $1 AND status = 'queued'",
                    params![&id, lease.token, until, now],
                )?;
                job.status = JobStatus::StartingBrowser;
                job.attempt += 1;
                job.started_at = Some(now);
                claimed.push(job);
            }
            Some(Err(error)) if error.is_of_the_row() => {
                // Its schedule is to be locked before it, and is not: where somebody has that one, another claim does it.
                let alone = try_lock(tx, &id)?;
                if alone {
                    fail_unreadable(tx, &id, &error, now)?;
                }
            }
            Some(Err(other)) => return Err(other),
            None => {}
        }
    }
    Ok(claimed)
}

/// Locks the oldest jobs of each tenant, as many as it has places, and passes over those that another node is taking.
fn lock(tx: &mut Tx<'_>, places: &[String]) -> Result<HashMap<String, VecDeque<String>>> {
    let mut wanted: BTreeMap<&String, usize> = BTreeMap::new();
    for tenant in places {
        *wanted.entry(tenant).or_default() += 1;
    }
    let sql = format!(
        "SELECT id FROM jobs WHERE status = 'queued' AND held = 0 AND tenant_id = $1
         ORDER BY created_at, id LIMIT $2{}",
        tx.dialect().claim()
    );
    let mut locked = HashMap::new();
    for (tenant, count) in wanted {
        let ids = tx.query(&sql, params![tenant, count], |row| row.get("id"))?;
        locked.insert(tenant.clone(), VecDeque::from(ids));
    }
    Ok(locked)
}

/// The queues of the tenants that may get one of `limit` places, oldest job first.
fn queues(tx: &mut Tx<'_>, limit: usize) -> Result<Vec<Queue<(i64, String, String)>>> {
    let sql = "SELECT tenant_id, COUNT(*) AS held FROM jobs WHERE status IN ('starting_browser', 'running')
               GROUP BY tenant_id";
    let held = tx.query(sql, &[], |row| {
        Ok((row.get::<String>("tenant_id")?, row.get::<u32>("held")?))
    })?;
    let held: HashMap<_, _> = held.into_iter().collect();
    let sql = format!(
        "{}
         SELECT w.tenant_id, (SELECT j.created_at FROM jobs j
           WHERE j.status = 'queued' AND j.held = 0 AND j.tenant_id = w.tenant_id
           ORDER BY j.created_at LIMIT 1) AS oldest
         FROM waiting w WHERE w.tenant_id IS NOT NULL",
        fair::waiting("jobs", "status = 'queued' AND held = 0")
    );
    let mut tenants = tx.query(&sql, &[], |row| {
        let (tenant, oldest): (String, i64) = (row.get("tenant_id")?, row.get("oldest")?);
        Ok((held.get(&tenant).copied().unwrap_or(0), oldest, tenant))
    })?;
    // Each of the first `limit` comes before any of the others, so only those can get a place.
    tenants.sort();
    tenants.truncate(limit);
    let sql = "SELECT created_at, id FROM jobs WHERE status = 'queued' AND held = 0 AND tenant_id = $1
               ORDER BY created_at, id LIMIT $2";
    let queue = |(held, _, tenant): (u32, i64, String)| {
        let waiting = tx.query(sql, params![&tenant, limit], |row| {
            Ok((row.get("created_at")?, row.get("id")?, tenant.clone()))
        })?;
        Ok(Queue {
            held: held as usize,
            waiting: VecDeque::from(waiting),
        })
    };
    tenants.into_iter().map(queue).collect()
}

/// Whether any job waits for a worker.
///
/// # Errors
/// What the engine refuses.
pub fn any_queued(tx: &mut Tx<'_>) -> Result<bool> {
    let sql = "SELECT id FROM jobs WHERE status = 'queued' AND held = 0 LIMIT 1";
    Ok(tx.query_opt(sql, &[], |_| Ok(()))?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{DeploymentId, TenantId};
    use crate::store::ops::fixture::{Db, LEASE, at};

    fn tenant(db: &Db) -> (TenantId, DeploymentId) {
        let tenant = db.tenant();
        (tenant, db.deployment(tenant, &[]))
    }

    fn claimed(db: &Db, limit: usize) -> Vec<Job> {
        db.run(|tx| claim(tx, limit, LEASE, at(9)))
    }

    #[test]
    fn a_tenant_s_crowd_holds_up_nobody() {
        let db = Db::new();
        let (crowd, one, two) = (tenant(&db), tenant(&db), tenant(&db));
        for number in 0..100 {
            db.job(crowd, "queued", number);
        }
        db.job(one, "queued", 500);
        db.job(two, "queued", 400);
        let tenants = |jobs: Vec<Job>| jobs.iter().map(|job| job.tenant).collect::<Vec<_>>();
        assert_eq!(tenants(claimed(&db, 4)), [crowd.0, two.0, one.0, crowd.0]);
        // The crowd has two that run: a newcomer with none goes first, though its job is the youngest.
        let job = db.job(one, "queued", 900);
        db.sql(
            "UPDATE jobs SET status = 'completed' WHERE tenant_id = $1 AND status = 'starting_browser'",
            params![one.0],
        );
        assert_eq!(claimed(&db, 1)[0].id, job);
    }

    #[test]
    fn of_one_tenant_the_oldest_goes_first() {
        let db = Db::new();
        let one = tenant(&db);
        let jobs = [30, 10, 20].map(|created| db.job(one, "queued", created));
        let ids: Vec<_> = claimed(&db, 5).iter().map(|job| job.id).collect();
        assert_eq!(ids, [jobs[1], jobs[2], jobs[0]]);
        assert!(!db.run(any_queued));
    }

    #[test]
    fn a_claim_costs_the_same_however_many_wait_or_are_done() {
        let work = |jobs: i64| {
            let db = Db::embedded();
            let (crowd, other) = (tenant(&db), tenant(&db));
            for number in 0..jobs {
                db.job(crowd, "queued", number);
                db.job(other, "completed", number);
            }
            let (taken, work) = db.work(|tx| claim(tx, 4, LEASE, at(9)));
            assert_eq!(taken.len(), 4);
            let (queued, look) = db.work(any_queued);
            assert!(queued && look < 100, "{look}");
            work
        };
        let (few, many) = (work(10), work(2_000));
        assert!(many < few * 2, "{few}, {many}");
    }

    #[test]
    fn a_job_that_cannot_be_read_fails_on_the_spot_and_stops_nobody() {
        let db = Db::new();
        let one = tenant(&db);
        let (bad, good) = (db.job(one, "queued", 1), db.job(one, "queued", 2));
        db.sql("UPDATE jobs SET launch = '{' WHERE id = $1", params![bad]);
        let taken = claimed(&db, 2);
        assert_eq!(taken.len(), 1);
        assert_eq!((taken[0].id, taken[0].attempt), (good, 1));
        let failed = "SELECT COUNT(*) FROM jobs WHERE status = 'failed' AND failure_class = 'internal'
                      AND error LIKE '%launch%' AND completed_at = 9 AND lease_token IS NULL";
        assert_eq!(db.count(failed), 1);
        assert_eq!(db.count("SELECT COUNT(*) FROM deliveries"), 0);
    }
}
