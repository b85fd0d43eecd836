//! What an operator lets a tenant have: schedules, jobs in the queue, bytes of bundles. No quota is no limit.
//!
//! Two requests at once cannot pass together: where a quota is set, whoever counts against it locks the tenant's row first, so
//! that what the other one has added is seen. Where none is set, one look at the tenant is all it costs. A schedule
//! is locked before its tenant. Jobs and receivers are locked on either side of it: where two operations meet the other way
//! round on PostgreSQL, one of them is run again.

use crate::domain::{ScheduleId, TenantId};
use crate::store::{
    error::Result,
    tx::{Tx, params},
};

/// A tenant's quotas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quotas {
    /// How many schedules it may have, disabled ones too.
    pub schedules: Option<u64>,
    /// How many of its jobs may wait in the queue, those too that wait for another run of their schedule.
    pub queued_jobs: Option<u64>,
    /// How large its bundles may be together, each content counted once.
    pub bundle_bytes: Option<u64>,
}

/// What a tenant has of that which quotas count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Schedules.
    pub schedules: u64,
    /// Jobs in the queue.
    pub queued_jobs: u64,
    /// Bytes of its distinct bundles.
    pub bundle_bytes: u64,
}

/// Which quotas become what; what is `None` stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuotaChange {
    /// How many schedules it may have.
    pub schedules: Option<Option<u64>>,
    /// How many of its jobs may wait in the queue.
    pub queued_jobs: Option<Option<u64>>,
    /// How large its bundles may be together.
    pub bundle_bytes: Option<Option<u64>>,
}

/// One of the quotas.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Schedules,
    QueuedJobs,
    BundleBytes,
}

impl Kind {
    fn column(self) -> &'static str {
        match self {
            Self::Schedules => "quota_schedules",
            Self::QueuedJobs => "quota_queued_jobs",
            Self::BundleBytes => "quota_bundle_bytes",
        }
    }
}

/// Changes the quotas of a tenant. What it has already stays, also where that is more.
///
/// # Errors
/// What the engine refuses.
pub fn set(tx: &mut Tx<'_>, tenant: TenantId, change: QuotaChange) -> Result<()> {
    let changes = [
        (Kind::Schedules, change.schedules),
        (Kind::QueuedJobs, change.queued_jobs),
        (Kind::BundleBytes, change.bundle_bytes),
    ];
    for (kind, quota) in changes {
        if let Some(quota) = quota {
            let sql = format!("UPDATE tenants SET {} = $2 WHERE id = $1", kind.column());
            tx.execute_one(&sql, params![tenant, quota])?;
        }
    }
    Ok(())
}

/// The quotas of a tenant, and what it has.
///
/// # Errors
/// What the engine refuses.
pub fn get(tx: &mut Tx<'_>, tenant: TenantId) -> Result<(Quotas, Usage)> {
    let sql = "SELECT quota_schedules, quota_queued_jobs, quota_bundle_bytes,
                 (SELECT COUNT(*) FROM schedules WHERE tenant_id = $1) AS schedules,
                 (SELECT COUNT(*) FROM jobs WHERE tenant_id = $1 AND status = 'queued') AS queued_jobs
               FROM tenants WHERE id = $1";
    let found = tx.query_opt(sql, params![tenant], |row| {
        let quotas = Quotas {
            schedules: row.get("quota_schedules")?,
            queued_jobs: row.get("quota_queued_jobs")?,
            bundle_bytes: row.get("quota_bundle_bytes")?,
        };
        Ok((quotas, row.get("schedules")?, row.get("queued_jobs")?))
    })?;
    let (quotas, schedules, queued_jobs) = found.unwrap_or_default();
    let usage = Usage {
        schedules,
        queued_jobs,
        bundle_bytes: stored_bytes(tx, tenant)?,
    };
    Ok((quotas, usage))
}

/// A quota, where one is set: then nobody else counts against it until the operation has ended.
fn locked(tx: &mut Tx<'_>, tenant: TenantId, kind: Kind) -> Result<Option<u64>> {
    let (column, lock) = (kind.column(), tx.dialect().lock());
    let sql = format!("SELECT {column} AS quota FROM tenants WHERE id = $1 AND {column} IS NOT NULL{lock}");
    tx.query_opt(&sql, params![tenant], |row| row.get("quota"))
}

/// The quota of schedules, where a tenant has used all of it.
pub(super) fn no_room_for_schedule(tx: &mut Tx<'_>, tenant: TenantId) -> Result<Option<u64>> {
    let Some(most) = locked(tx, tenant, Kind::Schedules)? else {
        return Ok(None);
    };
    // No further than the quota, in the order of an index: that much says enough.
    let sql = "SELECT COUNT(*) AS counted FROM
                 (SELECT id FROM schedules WHERE tenant_id = $1 ORDER BY created_at, id LIMIT $2) AS counted";
    full(tx, (sql, params![tenant, most]), most)
}

/// The quota of jobs in the queue, where there is no room for so many more.
pub(super) fn no_room_for_jobs(tx: &mut Tx<'_>, tenant: TenantId, more: u64) -> Result<Option<u64>> {
    let Some(most) = locked(tx, tenant, Kind::QueuedJobs)? else {
        return Ok(None);
    };
    let sql = "SELECT COUNT(*) AS counted FROM
                 (SELECT id FROM jobs WHERE status = 'queued' AND tenant_id = $1
                  ORDER BY created_at, id LIMIT $2) AS counted";
    let counted: Option<u64> = tx.query_opt(sql, params![tenant, most], |row| row.get("counted"))?;
    let fits = counted
        .unwrap_or(0)
        .checked_add(more)
        .is_some_and(|sum| sum <= most);
    Ok(Some(most).filter(|_| !fits))
}

/// The quota of jobs in the queue, where a tenant has used all of it. Those that `replaced` has in the queue do not count:
/// they are about to leave it.
pub(super) fn no_room_for_job(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    replaced: Option<ScheduleId>,
) -> Result<Option<u64>> {
    let Some(schedule) = replaced else {
        return no_room_for_jobs(tx, tenant, 1);
    };
    let Some(most) = locked(tx, tenant, Kind::QueuedJobs)? else {
        return Ok(None);
    };
    let sql = "SELECT COUNT(*) AS counted FROM
                 (SELECT id FROM jobs WHERE status = 'queued' AND tenant_id = $1
                    AND (schedule_id IS NULL OR schedule_id <> $3 OR catch_up = 1 OR backfill = 1)
                  ORDER BY created_at, id LIMIT $2) AS counted";
    full(tx, (sql, params![tenant, most, schedule]), most)
}

fn full(
    tx: &mut Tx<'_>,
    (sql, params): (&str, &[crate::store::value::Value]),
    most: u64,
) -> Result<Option<u64>> {
    let counted: Option<u64> = tx.query_opt(sql, params, |row| row.get("counted"))?;
    Ok(Some(most).filter(|most| counted.unwrap_or(0) >= *most))
}

/// A bundle that is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMuch {
    /// What the tenant has stored, in bytes.
    pub stored: u64,
    /// What its quota allows, in bytes.
    pub most: u64,
}

/// Whether a bundle of so many bytes is more than the quota of a tenant allows, on top of what it has. One that it has
/// already costs nothing again.
pub(super) fn no_room_for_bundle(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    (bundle, bytes): (&str, u64),
) -> Result<Option<TooMuch>> {
    let Some(most) = locked(tx, tenant, Kind::BundleBytes)? else {
        return Ok(None);
    };
    let sql = "SELECT id FROM deployments WHERE tenant_id = $1 AND bundle_sha256 = $2 LIMIT 1";
    if tx.query_opt(sql, params![tenant, bundle], |_| Ok(()))?.is_some() {
        return Ok(None);
    }
    let stored = stored_bytes(tx, tenant)?;
    let fits = stored.checked_add(bytes).is_some_and(|sum| sum <= most);
    Ok(Some(TooMuch { stored, most }).filter(|_| !fits))
}

/// Neither engine reads a bundle to know its length.
fn stored_bytes(tx: &mut Tx<'_>, tenant: TenantId) -> Result<u64> {
    let sql = "SELECT CAST(COALESCE(SUM(octet_length(archive)), 0) AS BIGINT) AS bytes FROM bundles
               WHERE sha256 IN (SELECT bundle_sha256 FROM deployments WHERE tenant_id = $1)";
    let bytes: Option<u64> = tx.query_opt(sql, params![tenant], |row| row.get("bytes"))?;
    Ok(bytes.unwrap_or(0))
}

#[cfg(test)]
mod tests;
