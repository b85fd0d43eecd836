//! The outbox: one row per event and receiver, and one per attempt.

mod list;
mod redeliver;

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

pub use self::{
    list::{AttemptView, DeliveryFilter, DeliveryView, list},
    redeliver::{RedeliverOutcome, redeliver},
};
use super::{Lease, Moment, lease};
use crate::domain::{DeliveryId, JobId, Receiver, ScheduleId, SecretId, TenantId};
use crate::store::{
    error::{Result, StoreError},
    ops::fair,
    tx::{Row, Tx, params},
    value::Json,
};

/// A delivery that is due.
#[derive(Debug, Clone)]
pub struct DueDelivery {
    /// Its id: the `webhook-id` of every attempt.
    pub id: DeliveryId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The job it tells of; `None` where it tells of a schedule alone.
    pub job: Option<JobId>,
    /// Where it goes.
    pub url: String,
    /// Signs it.
    pub secret: SecretId,
    /// One of the events in [`EVENTS`](crate::domain::EVENTS).
    pub event: String,
    /// The exact bytes that are signed and sent.
    pub body: String,
    /// How many attempts were made.
    pub attempts: u32,
    /// How many of them belong to earlier rounds: the back-off begins anew when somebody asks for another one.
    pub earlier_attempts: u32,
}

/// An attempt, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    /// When it began.
    pub at: Timestamp,
    /// The answer's status, if there was one.
    pub status: Option<u16>,
    /// How long it took, in milliseconds.
    pub latency_ms: u64,
    /// The kind of error and a sentence, where it did not arrive.
    pub error: Option<(String, String)>,
    /// The beginning of the answer's body.
    pub excerpt: Option<String>,
}

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterAttempt {
    /// It arrived.
    Delivered,
    /// The next attempt is due then.
    Retry(Timestamp),
    /// There is no next attempt.
    GiveUp,
}

/// What an event tells of.
#[derive(Debug, Clone, Copy)]
pub(super) struct About {
    pub(super) tenant: TenantId,
    pub(super) job: Option<JobId>,
    pub(super) schedule: Option<ScheduleId>,
}

/// Puts an event into the outbox, due at once. Called in the transaction in which it happens.
pub(super) fn enqueue<B: Serialize>(
    tx: &mut Tx<'_>,
    about: About,
    receiver: Receiver,
    (event, body): (&str, &B),
    moment: &Moment<'_>,
) -> Result<()> {
    let url = receiver.url.clone();
    tx.execute_one(
        "INSERT INTO deliveries (id, tenant_id, job_id, schedule_id, webhook_endpoint_id, url, secret_id, event, body,
           status, next_attempt_at, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'pending', $10, $10)",
        params![
            moment.id::<DeliveryId>(),
            about.tenant,
            about.job,
            about.schedule,
            receiver.endpoint,
            receiver.url,
            receiver.secret,
            event,
            Json(body),
            moment.now
        ],
    )?;
    refresh(tx, &about.tenant.to_string(), &url, moment.now, false)
}

fn due(row: &Row<'_>) -> Result<DueDelivery> {
    Ok(DueDelivery {
        id: row.get("id")?,
        tenant: row.get("tenant_id")?,
        job: row.get("job_id")?,
        url: row.get("url")?,
        secret: row.get("secret_id")?,
        event: row.get("event")?,
        body: row.get("body")?,
        attempts: row.get("attempts")?,
        earlier_attempts: row.get("earlier_attempts")?,
    })
}

/// Locks a receiver: whoever changes what it is owed does so, before anything of it, so that what is counted holds until
/// it is written down.
fn lock(tx: &mut Tx<'_>, tenant: &str, url: &str) -> Result<()> {
    // A row that is there is locked by its update, and one that is not is made: both wait for whoever has it.
    tx.execute_one(
        "INSERT INTO delivery_receivers (tenant_id, url, in_flight) VALUES ($1, $2, 0)
         ON CONFLICT (tenant_id, url) DO UPDATE SET in_flight = delivery_receivers.in_flight",
        params![tenant, url],
    )
}

/// Works out a receiver's row anew. `served` says that it has just been given a place, which puts it behind all who
/// wait: so a receiver with a long backlog takes turns with the others.
fn refresh(tx: &mut Tx<'_>, tenant: &str, url: &str, now: Timestamp, served: bool) -> Result<()> {
    lock(tx, tenant, url)?;
    let sql = "SELECT
        (SELECT COUNT(*) FROM deliveries WHERE tenant_id = $1 AND url = $2 AND lease_token IS NOT NULL) AS in_flight,
        (SELECT MIN(next_attempt_at) FROM deliveries
         WHERE tenant_id = $1 AND url = $2 AND status = 'pending' AND lease_token IS NULL) AS due_at,
        (SELECT served_at FROM delivery_receivers WHERE tenant_id = $1 AND url = $2) AS served_at";
    type Found = (u32, Option<Timestamp>, Option<Timestamp>);
    let found = tx.query_opt(sql, params![tenant, url], |row| -> Result<Found> {
        Ok((row.get("in_flight")?, row.get("due_at")?, row.get("served_at")?))
    })?;
    let (in_flight, due, before) = found.unwrap_or_default();
    if in_flight == 0 && due.is_none() {
        let sql = "DELETE FROM delivery_receivers WHERE tenant_id = $1 AND url = $2";
        return tx.execute(sql, params![tenant, url]).map(|_| ());
    }
    // An instant that lies ahead is from a clock that was set back since: it must hold nobody up.
    let served = if served {
        Some(now)
    } else {
        before.filter(|before| *before <= now)
    };
    let turn = due.map(|due| served.map_or(due, |served| served.max(due)));
    tx.execute_one(
        "UPDATE delivery_receivers SET in_flight = $3, turn_at = $4, served_at = $5
         WHERE tenant_id = $1 AND url = $2",
        params![tenant, url, in_flight, turn, served],
    )
}

/// How long a claim waits for what somebody has locked.
const LONGEST_LOCK: Duration = Duration::from_millis(100);

/// A tenant that is owed something.
struct Waiting {
    tenant: String,
    /// How many of its deliveries are under way.
    held: usize,
    /// Since when its longest waiting receiver with a free place has waited.
    turn: Timestamp,
}

/// The tenants with a delivery that is due and whose receiver has a free place. One step of an index a tenant, however
/// much each is owed.
fn waiting(tx: &mut Tx<'_>, per_receiver: usize, now: Timestamp) -> Result<Vec<Waiting>> {
    let sql =
        "SELECT tenant_id, COUNT(*) AS held FROM deliveries WHERE lease_token IS NOT NULL GROUP BY tenant_id";
    let held = tx.query(sql, &[], |row| {
        Ok((row.get::<String>("tenant_id")?, row.get::<u32>("held")?))
    })?;
    let held: HashMap<_, _> = held.into_iter().collect();
    let sql = format!(
        "{}
         SELECT w.tenant_id, (SELECT r.turn_at FROM delivery_receivers r
           WHERE r.tenant_id = w.tenant_id AND r.turn_at <= $1 AND r.in_flight < $2
           ORDER BY r.turn_at LIMIT 1) AS turn_at
         FROM waiting w WHERE w.tenant_id IS NOT NULL",
        fair::waiting("delivery_receivers", "turn_at IS NOT NULL")
    );
    let tenants = tx.query(&sql, params![now, per_receiver], |row| {
        let (tenant, turn): (String, Option<Timestamp>) = (row.get("tenant_id")?, row.get("turn_at")?);
        let held = held.get(&tenant).copied().unwrap_or(0) as usize;
        Ok(turn.map(|turn| Waiting { tenant, held, turn }))
    })?;
    Ok(tenants.into_iter().flatten().collect())
}

/// What became of a free place.
enum Place {
    Taken(DueDelivery),
    /// What would have had it could not be read, and is out of the way.
    Spoiled,
    /// No receiver of the tenant can use it.
    Free,
}

/// Gives a place to the tenant's receiver that has waited longest, of those that nobody else is just serving.
fn take(
    tx: &mut Tx<'_>,
    tenant: &str,
    per_receiver: usize,
    lease: Lease<'_>,
    now: Timestamp,
) -> Result<Place> {
    let sql = format!(
        "SELECT url FROM delivery_receivers WHERE tenant_id = $1 AND turn_at <= $2 AND in_flight < $3
         ORDER BY turn_at LIMIT 1{}",
        tx.dialect().claim()
    );
    let receiver = tx.query_opt(&sql, params![tenant, now, per_receiver], |row| {
        row.get::<String>("url")
    })?;
    let Some(url) = receiver else {
        return Ok(Place::Free);
    };
    let sql = "SELECT id, tenant_id, job_id, url, secret_id, event, body, attempts, earlier_attempts
               FROM deliveries
               WHERE tenant_id = $1 AND url = $2 AND status = 'pending' AND lease_token IS NULL
                 AND next_attempt_at <= $3
               ORDER BY next_attempt_at, id LIMIT 1";
    let found = tx.query_opt(sql, params![tenant, &url, now], |row| {
        Ok((row.get::<String>("id")?, due(row)))
    })?;
    let place = match found {
        Some((_, Ok(delivery))) => {
            let until = lease.until(tx)?;
            let sql = "UPDATE deliveries SET lease_token = $2, lease_until = $3 WHERE id = $1 AND lease_token IS NULL";
            tx.execute_one(sql, params![delivery.id, lease.token, until])?;
            Place::Taken(delivery)
        }
        Some((id, Err(StoreError::Corrupt { column, reason, .. }))) => {
            tracing::error!(delivery = %id, %column, %reason, "a delivery cannot be read and is given up");
            let sql = "UPDATE deliveries SET status = 'failed', next_attempt_at = NULL, completed_at = $2 WHERE id = $1";
            tx.execute_one(sql, params![id, now])?;
            Place::Spoiled
        }
        Some((_, Err(other))) => return Err(other),
        None => Place::Spoiled,
    };
    refresh(tx, tenant, &url, now, true)?;
    Ok(place)
}

/// Takes deliveries that are due, for whoever holds the lease: at most `limit`, and at most `per_receiver` in flight to
/// one URL of one tenant.
///
/// The next place goes to the tenant with the fewest in flight, and of that tenant's receivers to the one that has
/// waited longest. No tenant gets the last places: it never holds more than are free, so that one whose receivers
/// all hang leaves room for the others. The work is a few index steps a place and one a tenant that is owed
/// something, however many deliveries are due.
///
/// # Errors
/// What the engine refuses.
pub fn claim(
    tx: &mut Tx<'_>,
    (limit, per_receiver): (usize, usize),
    lease: Lease<'_>,
    now: Timestamp,
) -> Result<Vec<DueDelivery>> {
    let mut tenants = waiting(tx, per_receiver, now)?;
    tx.wait_at_most(LONGEST_LOCK)?;
    let mut claimed = Vec::new();
    let mut free = limit;
    while let Some(next) = (0..tenants.len()).min_by_key(|at| (tenants[*at].held, tenants[*at].turn)) {
        if tenants[next].held >= free {
            break;
        }
        let taken = tx.isolated(|tx| take(tx, &tenants[next].tenant, per_receiver, lease, now))?;
        match taken {
            // Somebody has locked what the tenant is owed: this time the others come.
            Err(error) if error.is_conflict() => {
                tracing::warn!(tenant = %tenants[next].tenant, %error, "a delivery is locked; it is tried again");
                tenants.swap_remove(next);
            }
            Err(error) => return Err(error),
            Ok(Place::Taken(delivery)) => {
                claimed.push(delivery);
                tenants[next].held += 1;
                free -= 1;
            }
            Ok(Place::Spoiled) => free -= 1,
            Ok(Place::Free) => {
                tenants.swap_remove(next);
            }
        }
    }
    Ok(claimed)
}

/// Records an attempt and what follows it; `false`, and nothing changed, where the delivery is not the holder's.
///
/// # Errors
/// What the engine refuses.
pub fn record(
    tx: &mut Tx<'_>,
    (id, token): (DeliveryId, &str),
    attempt: AttemptRecord,
    after: AfterAttempt,
    now: Timestamp,
) -> Result<bool> {
    let (status, next, completed) = match after {
        AfterAttempt::Delivered => ("delivered", None, Some(now)),
        AfterAttempt::Retry(at) => ("pending", Some(at), None),
        AfterAttempt::GiveUp => ("failed", None, Some(now)),
    };
    let Some((tenant, url)) = receiver_of(tx, &id.to_string())? else {
        return Ok(false);
    };
    lock(tx, &tenant, &url)?;
    let held = tx.execute(
        "UPDATE deliveries SET status = $3, next_attempt_at = $4, completed_at = $5, attempts = attempts + 1,
           lease_token = NULL, lease_until = NULL
         WHERE id = $1 AND lease_token = $2 AND status = 'pending'",
        params![id, token, status, next, completed],
    )?;
    refresh(tx, &tenant, &url, now, false)?;
    if held == 0 {
        return Ok(false);
    }
    let (class, error) = attempt.error.unzip();
    let code = attempt.status.map(u32::from);
    tx.execute_one(
        "INSERT INTO delivery_attempts (delivery_id, number, attempted_at, status_code, latency_ms, error_class, error,
           response_excerpt)
         SELECT id, attempts, $2, $3, $4, $5, $6, $7 FROM deliveries WHERE id = $1",
        params![id, attempt.at, code, attempt.latency_ms, class, error, attempt.excerpt],
    )?;
    Ok(true)
}

fn receiver(row: &Row<'_>) -> Result<(String, String)> {
    Ok((row.get("tenant_id")?, row.get("url")?))
}

/// Where a delivery goes, which never changes.
fn receiver_of(tx: &mut Tx<'_>, id: &str) -> Result<Option<(String, String)>> {
    let sql = "SELECT tenant_id, url FROM deliveries WHERE id = $1";
    tx.query_opt(sql, params![id], receiver)
}

/// Frees what an earlier server of this data directory had in flight: it is sent again, under the same id. Only called
/// where no other node can be on the database.
///
/// # Errors
/// What the engine refuses.
pub fn recover(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64> {
    let sql = "SELECT DISTINCT tenant_id, url FROM deliveries WHERE lease_token IS NOT NULL";
    let receivers = tx.query(sql, &[], receiver)?;
    let sql = "UPDATE deliveries SET lease_token = NULL, lease_until = NULL WHERE lease_token IS NOT NULL";
    let freed = tx.execute(sql, &[])?;
    for (tenant, url) in receivers {
        refresh(tx, &tenant, &url, now, false)?;
    }
    Ok(freed)
}

/// The deliveries whose leases have run out by `now`, in milliseconds on the clock of leases: at most `limit`.
///
/// # Errors
/// What the engine refuses.
pub fn expired(tx: &mut Tx<'_>, now: i64, limit: usize) -> Result<Vec<String>> {
    let gone = lease::has_run_out("$1");
    let sql = format!("SELECT id FROM deliveries WHERE {gone} ORDER BY lease_until LIMIT $2");
    tx.query(&sql, params![now, limit], |row| row.get("id"))
}

/// Frees one of them: whether it arrived cannot be known, so it is sent again, under the same id. `false` where it is not
/// left after all. `on_leases` is the instant on the clock of leases.
///
/// # Errors
/// What the engine refuses.
pub fn reap(tx: &mut Tx<'_>, id: &str, on_leases: i64, now: Timestamp) -> Result<bool> {
    let Some((tenant, url)) = receiver_of(tx, id)? else {
        return Ok(false);
    };
    lock(tx, &tenant, &url)?;
    let gone = lease::has_run_out("$2");
    let sql =
        format!("UPDATE deliveries SET lease_token = NULL, lease_until = NULL WHERE id = $1 AND {gone}");
    let freed = tx.execute(&sql, params![id, on_leases])? == 1;
    refresh(tx, &tenant, &url, now, false)?;
    Ok(freed)
}

/// No attempt is put off for longer: the longest wait with its jitter, in milliseconds.
const LONGEST_WAIT_MS: i64 = 30 * 60 * 60 * 1000;

/// Makes due at once what is due later than any wait can reach: it was planned by a clock that was ahead. How many.
///
/// # Errors
/// What the engine refuses.
pub fn realign(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64> {
    let latest = now.as_millisecond().saturating_add(LONGEST_WAIT_MS);
    let sql = "SELECT DISTINCT tenant_id, url FROM deliveries
         WHERE status = 'pending' AND lease_token IS NULL AND next_attempt_at > $1 ORDER BY tenant_id, url";
    let mut moved = 0;
    for (tenant, url) in tx.query(sql, params![latest], receiver)? {
        lock(tx, &tenant, &url)?;
        moved += tx.execute(
            "UPDATE deliveries SET next_attempt_at = $3
             WHERE tenant_id = $1 AND url = $2 AND status = 'pending' AND lease_token IS NULL
               AND next_attempt_at > $4",
            params![&tenant, &url, now, latest],
        )?;
        refresh(tx, &tenant, &url, now, false)?;
    }
    Ok(moved)
}

/// When a receiver with a free place is next to be served: a past instant where one waits already. Receivers that
/// have `per_receiver` in flight do not count: the end of one of those is what they wait for.
///
/// # Errors
/// What the engine refuses.
pub fn next_due(tx: &mut Tx<'_>, per_receiver: usize) -> Result<Option<Timestamp>> {
    let sql = "SELECT turn_at FROM delivery_receivers WHERE turn_at IS NOT NULL AND in_flight < $1
               ORDER BY turn_at LIMIT 1";
    tx.query_opt(sql, params![per_receiver], |row| row.get("turn_at"))
}

#[cfg(test)]
mod tests;
