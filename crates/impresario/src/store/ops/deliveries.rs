//! The outbox: one row per event and receiver, and one per attempt.

mod attempts;
mod keeping;
mod list;
mod ping;
mod redeliver;
mod standing;

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use self::standing::Standing;
pub use self::{
    attempts::{AfterAttempt, AttemptRecord, Recorded, record, suspect},
    keeping::{Stray, any_old, none_ended, prune, resume, resuming, settle, strays},
    list::{AttemptView, DeliveryFilter, DeliveryView, list},
    ping::{PingOutcome, ping},
    redeliver::{RedeliverOutcome, redeliver},
};
use super::{Lease, Moment, lease};
use crate::domain::{DeliveryId, EndpointId, JobId, Receiver, ScheduleId, SecretId, TenantId};
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
    /// The stored webhook it goes to, whose secrets sign it; `None` for a job's own callback.
    pub endpoint: Option<EndpointId>,
    /// How often that webhook had been moved or made active when this was read.
    pub revision: Option<i64>,
    /// Signs it where no stored webhook does.
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
) -> Result<DeliveryId> {
    let (id, url) = (moment.id::<DeliveryId>(), receiver.url.clone());
    tx.execute_one(
        "INSERT INTO deliveries (id, tenant_id, job_id, schedule_id, webhook_endpoint_id, url, secret_id, event, body,
           status, next_attempt_at, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'pending', $10, $10)",
        params![
            id,
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
    let tenant = about.tenant.to_string();
    lock_for(tx, &tenant, &url, receiver.endpoint)?;
    recount(tx, &tenant, &url, moment.now, false)?;
    Ok(id)
}

fn due(row: &Row<'_>) -> Result<DueDelivery> {
    Ok(DueDelivery {
        id: row.get("id")?,
        tenant: row.get("tenant_id")?,
        job: row.get("job_id")?,
        url: row.get("url")?,
        endpoint: row.get("webhook_endpoint_id")?,
        revision: row.get("revision")?,
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
    lock_for(tx, tenant, url, None)
}

/// The same for something that a stored webhook is owed. A receiver that has been owed nothing for a while has no row that says
/// whether it is failing, but its webhook remembers.
fn lock_for(tx: &mut Tx<'_>, tenant: &str, url: &str, endpoint: Option<EndpointId>) -> Result<()> {
    // A row that is there is locked by its update, and one that is not is made: both wait for whoever has it.
    tx.execute_one(
        "INSERT INTO delivery_receivers (tenant_id, url, in_flight, failing) VALUES ($1, $2, 0,
           (SELECT COUNT(*) FROM webhook_endpoints WHERE id = $3 AND failing_since IS NOT NULL))
         ON CONFLICT (tenant_id, url) DO UPDATE SET in_flight = delivery_receivers.in_flight",
        params![tenant, url, endpoint],
    )
}

/// Works out a receiver's row anew. `served` says that it has just been given a place, which puts it behind all who
/// wait: so a receiver with a long backlog takes turns with the others.
fn refresh(tx: &mut Tx<'_>, tenant: &str, url: &str, now: Timestamp, served: bool) -> Result<()> {
    lock(tx, tenant, url)?;
    recount(tx, tenant, url, now, served)
}

/// The same of one that is locked.
fn recount(tx: &mut Tx<'_>, tenant: &str, url: &str, now: Timestamp, served: bool) -> Result<()> {
    let sql = "SELECT
        (SELECT COUNT(*) FROM deliveries WHERE tenant_id = $1 AND url = $2 AND lease_token IS NOT NULL) AS in_flight,
        (SELECT MIN(next_attempt_at) FROM deliveries
         WHERE tenant_id = $1 AND url = $2 AND status = 'pending' AND lease_token IS NULL
           AND next_attempt_at IS NOT NULL) AS due_at,
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

/// How often a claim puts something aside at the most, a hundred deliveries each time: others wait for its end.
const MOST_PUT_ASIDE: usize = 5;

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

/// Which receivers are served: those whose newest attempt failed wait in a lane of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Those that took what they were sent last, and those that were sent nothing yet.
    Sound,
    /// The others, and those that are suspected to hang just now.
    Failing,
}

/// The places that a claim may fill in one lane.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    /// Which.
    pub lane: Lane,
    /// How many, at the most.
    pub free: usize,
    /// How many may be taken by one receiver, those included that are taken.
    pub per_receiver: usize,
}

impl Places {
    fn failing(self) -> bool {
        self.lane == Lane::Failing
    }
}

/// The tenants with a delivery that is due and whose receiver has a free place. One step of an index a tenant, however
/// much each is owed.
fn waiting(
    tx: &mut Tx<'_>,
    (places, held): (Places, &HashMap<String, usize>),
    now: Timestamp,
) -> Result<Vec<Waiting>> {
    let failing = u8::from(places.failing());
    let sql = format!(
        "{}
         SELECT w.tenant_id, (SELECT r.turn_at FROM delivery_receivers r
           WHERE r.failing = {failing} AND r.tenant_id = w.tenant_id AND r.turn_at <= $1 AND r.in_flight < $2
           ORDER BY r.turn_at LIMIT 1) AS turn_at
         FROM waiting w WHERE w.tenant_id IS NOT NULL",
        fair::waiting(
            "delivery_receivers",
            &format!("failing = {failing} AND turn_at IS NOT NULL")
        )
    );
    let tenants = tx.query(&sql, params![now, places.per_receiver], |row| {
        let (tenant, turn): (String, Option<Timestamp>) = (row.get("tenant_id")?, row.get("turn_at")?);
        let held = held.get(&tenant).copied().unwrap_or(0);
        Ok(turn.map(|turn| Waiting { tenant, held, turn }))
    })?;
    Ok(tenants.into_iter().flatten().collect())
}

/// What a claim found.
#[derive(Debug, Default)]
pub struct Claimed {
    /// To be sent.
    pub deliveries: Vec<DueDelivery>,
    /// How often it found something that was not to be sent, and did with it what there was to do.
    pub put_aside: usize,
}

/// What became of a free place.
enum Place {
    Taken(DueDelivery),
    /// What would have had it is not to be sent, or could not be read, and is out of the way.
    Spoiled,
    /// No receiver of the tenant can use it.
    Free,
}

/// Gives a place to the tenant's receiver that has waited longest, of those that nobody else is just serving.
fn take(tx: &mut Tx<'_>, tenant: &str, places: Places, lease: Lease<'_>, now: Timestamp) -> Result<Place> {
    let sql = format!(
        "SELECT url FROM delivery_receivers
         WHERE failing = $4 AND tenant_id = $1 AND turn_at <= $2 AND in_flight < $3
         ORDER BY turn_at LIMIT 1{}",
        tx.dialect().claim()
    );
    let receiver = tx.query_opt(
        &sql,
        params![tenant, now, places.per_receiver, places.failing()],
        |row| row.get::<String>("url"),
    )?;
    let Some(url) = receiver else {
        return Ok(Place::Free);
    };
    let sql = "SELECT d.id, d.tenant_id, d.job_id, d.url, d.webhook_endpoint_id, d.secret_id, d.event, d.body, d.attempts,
                 d.earlier_attempts, w.revision, w.active AS endpoint_active, w.url AS endpoint_url
               FROM deliveries d
               LEFT JOIN webhook_endpoints w ON w.id = d.webhook_endpoint_id AND w.tenant_id = d.tenant_id
               WHERE d.tenant_id = $1 AND d.url = $2 AND d.status = 'pending' AND d.lease_token IS NULL
                 AND d.next_attempt_at <= $3
               ORDER BY d.next_attempt_at, d.id LIMIT 1";
    let found = tx.query_opt(sql, params![tenant, &url, now], |row| {
        let read = due(row).and_then(|delivery| Ok((standing::of(&delivery, row)?, delivery)));
        Ok((row.get::<String>("id")?, read))
    })?;
    let place = match found {
        Some((_, Ok((standing, delivery)))) if standing != Standing::Open => {
            standing::put_aside(tx, &delivery, standing, now)?;
            Place::Spoiled
        }
        Some((_, Ok((_, delivery)))) => {
            let until = lease.until(tx)?;
            let sql = "UPDATE deliveries SET lease_token = $2, lease_until = $3 WHERE id = $1 AND lease_token IS NULL";
            tx.execute_one(sql, params![delivery.id, lease.token, until])?;
            Place::Taken(delivery)
        }
        Some((id, Err(StoreError::Corrupt { column, reason, .. }))) => {
            tracing::error!(delivery = %id, %column, %reason, "a delivery cannot be read and is given up");
            let sql = "UPDATE deliveries SET status = 'failed', next_attempt_at = NULL, completed_at = $2,
                         reason = 'it cannot be read; the server''s log has the reason'
                       WHERE id = $1";
            tx.execute_one(sql, params![id, now])?;
            Place::Spoiled
        }
        Some((_, Err(other))) => return Err(other),
        None => Place::Spoiled,
    };
    recount(tx, tenant, &url, now, true)?;
    Ok(place)
}

/// Takes deliveries that are due, for whoever holds the lease: as many as there are places, and to one URL of one tenant
/// as many as may be in flight. `held` says how many places of the lane each tenant has already.
///
/// The next place goes to the tenant with the fewest of them, and of that tenant's receivers to the one that
/// has waited longest. No tenant gets the last places: it never holds more than are free, so that one whose receivers
/// all hang leaves room for the others. The work is a few index steps a place and one a tenant that is owed
/// something, however many deliveries are due.
///
/// # Errors
/// What the engine refuses.
pub fn claim(
    tx: &mut Tx<'_>,
    (places, held): (Places, &HashMap<String, usize>),
    lease: Lease<'_>,
    now: Timestamp,
) -> Result<Claimed> {
    let mut tenants = waiting(tx, (places, held), now)?;
    tx.wait_at_most(LONGEST_LOCK)?;
    let mut claimed = Claimed::default();
    let mut free = places.free;
    while let Some(next) = (0..tenants.len()).min_by_key(|at| (tenants[*at].held, tenants[*at].turn)) {
        if tenants[next].held >= free || claimed.put_aside >= MOST_PUT_ASIDE {
            break;
        }
        let taken = tx.isolated(|tx| take(tx, &tenants[next].tenant, places, lease, now))?;
        match taken {
            // Somebody has locked what the tenant is owed: this time the others come.
            Err(error) if error.is_conflict() => {
                tracing::warn!(tenant = %tenants[next].tenant, %error, "a delivery is locked; it is tried again");
                tenants.swap_remove(next);
            }
            Err(error) => return Err(error),
            Ok(Place::Taken(delivery)) => {
                claimed.deliveries.push(delivery);
                tenants[next].held += 1;
                free -= 1;
            }
            // It counts like one that is sent, so that a tenant with many of these holds up nobody.
            Ok(Place::Spoiled) => {
                claimed.put_aside += 1;
                tenants[next].held += 1;
                free -= 1;
            }
            Ok(Place::Free) => {
                tenants.swap_remove(next);
            }
        }
    }
    Ok(claimed)
}

fn receiver(row: &Row<'_>) -> Result<(String, String)> {
    Ok((row.get("tenant_id")?, row.get("url")?))
}

/// Where a delivery goes: while it is under way, that does not change.
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
    recount(tx, &tenant, &url, now, false)?;
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
        recount(tx, &tenant, &url, now, false)?;
    }
    Ok(moved)
}

/// When a receiver of a lane that can have a place is next to be served: a past instant where one waits already. Receivers
/// that have as many in flight as they may do not count: the end of one of those is what they wait for.
///
/// # Errors
/// What the engine refuses.
pub fn next_due(tx: &mut Tx<'_>, places: Places) -> Result<Option<Timestamp>> {
    let sql =
        "SELECT turn_at FROM delivery_receivers WHERE failing = $2 AND turn_at IS NOT NULL AND in_flight < $1
               ORDER BY turn_at LIMIT 1";
    tx.query_opt(sql, params![places.per_receiver, places.failing()], |row| {
        row.get("turn_at")
    })
}

#[cfg(test)]
mod tests;
