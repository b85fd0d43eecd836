//! Instants of a past range that have made no job, made up for because their owner asks. What comes in: a schedule and a
//! range. What goes out: a job for each of them, in the same transaction as its row of the ledger.
//!
//! An instant makes one job at the most, whoever asks for it and how often: the schedule is locked, what the ledger says is
//! read afterwards, and the jobs' table has room for one job an instant. What the scheduler itself still owes is left to it.

use jiff::{SignedDuration, Timestamp};

use super::{
    Kind, Moment, create_job,
    ledger::{self, Why},
    quotas, schedules, target,
};
use crate::domain::{JobId, MissedReason, Range, Schedule, ScheduleId, TenantId, Timing};
use crate::store::{
    error::Result,
    tx::{Row, Tx, params},
};

/// How many instants a range may have.
pub const MOST_BACKFILLED: usize = 1_000;

/// What became of a request to make up for a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackfillOutcome {
    /// There is a job for each of its instants.
    Done {
        /// Those that were made now, oldest first.
        jobs: Vec<JobId>,
        /// How many instants had made one before.
        already_fired: u64,
    },
    /// There is no such schedule.
    Unknown,
    /// Its workflow is not deployed.
    NoWorkflow,
    /// This version cannot read when it fires: why.
    Unreadable(String),
    /// Its jobs would be more than the tenant's quota of queued jobs allows, which is `most`: none was made.
    QuotaReached {
        /// How many jobs were to be made.
        wanted: u64,
        /// The quota.
        most: u64,
    },
    /// The range has more than [`MOST_BACKFILLED`] instants; the first ones lie before this one.
    TooMany(Timestamp),
}

/// Makes up for the instants of a schedule from `from` (inclusive) to `to` (exclusive, not after now), whatever its overlap
/// policy, its misfire policy and its spread say. What was due by now fires first. The schedule is locked.
///
/// # Errors
/// What the engine refuses.
pub fn backfill(
    tx: &mut Tx<'_>,
    (tenant, id): (TenantId, ScheduleId),
    (from, to): (Timestamp, Timestamp),
    moment: &Moment<'_>,
) -> Result<BackfillOutcome> {
    let Some(schedule) = schedules::settled(tx, tenant, id, moment)? else {
        return Ok(BackfillOutcome::Unknown);
    };
    let timing = &schedule.draft.timing;
    if let Some(fault) = timing.pattern.fault() {
        return Ok(BackfillOutcome::Unreadable(fault.to_owned()));
    }
    let mut instants = instants(timing, (from, to));
    if let Some(end) = instants.get(MOST_BACKFILLED) {
        return Ok(BackfillOutcome::TooMany(*end));
    }
    let Some(target) = target(tx, &schedule)? else {
        return Ok(BackfillOutcome::NoWorkflow);
    };
    leave_owed(tx, &schedule, &mut instants)?;
    let Found {
        free,
        missed,
        already_fired,
    } = look_up(tx, &schedule, &instants)?;
    let wanted = free.len() as u64;
    if wanted > 0
        && let Some(most) = quotas::no_room_for_jobs(tx, tenant, wanted)?
    {
        return Ok(BackfillOutcome::QuotaReached { wanted, most });
    }
    let mut jobs = Vec::with_capacity(free.len());
    cut_out(tx, &schedule, (&missed, &free), |tx, at| {
        let job: JobId = moment.id();
        create_job(
            tx,
            &schedule,
            (job, at),
            target,
            (false, Kind::Backfill),
            moment.now,
        )?;
        jobs.push(job);
        ledger::note_backfill(tx, &schedule, at, job, moment.now)
    })?;
    Ok(BackfillOutcome::Done { jobs, already_fired })
}

/// The smallest step between instants that are told apart.
const TICK: SignedDuration = SignedDuration::from_millis(1);

/// The instants of a range, oldest first: one more than may be, if there are so many.
fn instants(timing: &Timing, (from, to): (Timestamp, Timestamp)) -> Vec<Timestamp> {
    let before = from.checked_sub(TICK).unwrap_or(from);
    let next = |at: &Timestamp| timing.next_after(*at);
    std::iter::successors(timing.next_after(before), next)
        // The range may begin between two ticks.
        .skip_while(|at| *at < from)
        .take_while(|at| *at < to)
        .take(MOST_BACKFILLED + 1)
        .collect()
}

/// Takes out what the scheduler will fire by itself: within the spread, and what waits to be made up for.
fn leave_owed(tx: &mut Tx<'_>, schedule: &Schedule, instants: &mut Vec<Timestamp>) -> Result<()> {
    if let Some(cursor) = schedule.next_fire_at.filter(|_| schedule.draft.enabled) {
        instants.retain(|at| *at < cursor);
    }
    let sql = "SELECT from_at, until_at FROM catch_ups WHERE schedule_id = $1";
    let owed = tx.query(sql, params![schedule.id], |row| {
        Ok((
            row.get::<Timestamp>("from_at")?,
            row.get::<Timestamp>("until_at")?,
        ))
    })?;
    instants.retain(|at| !owed.iter().any(|(from, until)| from <= at && at <= until));
    Ok(())
}

/// What the ledger says of the instants of a range.
#[derive(Debug, Default)]
struct Found {
    /// Those that have made no job.
    free: Vec<Timestamp>,
    /// The missed ranges in which some of them stand.
    missed: Vec<MissedRow>,
    already_fired: u64,
}

/// A row of missed instants.
#[derive(Debug)]
struct MissedRow {
    range: Range,
    recorded_at: Timestamp,
    why: Why,
}

impl MissedRow {
    /// Whether they may have made jobs of which the database, put back from an older backup, knows nothing.
    fn is_written_off(&self) -> bool {
        self.why.reason.as_deref() == Some(MissedReason::Restored.as_str())
    }
}

/// The missed range in which the first instant of a request stands, if it stands in one.
fn around_first(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    first: Option<&Timestamp>,
) -> Result<Option<MissedRow>> {
    let Some(first) = first else { return Ok(None) };
    let sql = "SELECT fire_at, missed_until, missed, reason, error, recorded_at FROM fires
               WHERE schedule_id = $1 AND fire_at <= $2 AND outcome = 'missed' ORDER BY fire_at DESC LIMIT 1";
    let row = tx.query_opt(sql, params![schedule.id, *first], missed_row)?;
    Ok(row.filter(|row| row.range.until >= *first))
}

fn missed_row(row: &Row<'_>) -> Result<MissedRow> {
    let from = row.get("fire_at")?;
    Ok(MissedRow {
        range: Range {
            from,
            until: row.get::<Option<Timestamp>>("missed_until")?.unwrap_or(from),
            count: row.get("missed")?,
        },
        recorded_at: row.get("recorded_at")?,
        why: Why {
            reason: row.get("reason")?,
            error: row.get("error")?,
        },
    })
}

fn look_up(tx: &mut Tx<'_>, schedule: &Schedule, instants: &[Timestamp]) -> Result<Found> {
    let sql = "SELECT fire_at, missed_until, missed, outcome, reason, error, recorded_at FROM fires
               WHERE schedule_id = $1 AND fire_at <= $2 ORDER BY fire_at DESC LIMIT 1";
    let mut found = Found {
        // A row of another pattern's instant may stand between the begin of a missed range and the first instant.
        missed: around_first(tx, schedule, instants.first())?
            .into_iter()
            .collect(),
        ..Found::default()
    };
    for at in instants {
        let row = tx.query_opt(sql, params![schedule.id, *at], |row| {
            Ok((row.get::<String>("outcome")?, missed_row(row)?))
        })?;
        let (outcome, row) = row.unzip();
        let row = row.filter(|row| row.range.until >= *at);
        match (outcome.as_deref(), row) {
            (Some("fired"), Some(_)) => {
                found.already_fired += 1;
                continue;
            }
            (Some("missed"), Some(row)) if found.missed.last().is_none_or(|last| last.range != row.range) => {
                found.missed.push(row);
            }
            _ => {}
        }
        // Also where a row of another pattern's instant stands between the range's begin and this one.
        let around = found.missed.last().filter(|missed| *at <= missed.range.until);
        if !around.is_some_and(MissedRow::is_written_off) {
            found.free.push(*at);
        }
    }
    found.missed.retain(|missed| !missed.is_written_off());
    Ok(found)
}

/// Takes the missed ranges out of the ledger, fires what is free of them and between them, and puts the rest back: so no
/// instant is in two rows, and none is lost.
fn cut_out(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    (missed, free): (&[MissedRow], &[Timestamp]),
    mut fire: impl FnMut(&mut Tx<'_>, Timestamp) -> Result<()>,
) -> Result<()> {
    for MissedRow { range, .. } in missed {
        let sql = "DELETE FROM fires WHERE schedule_id = $1 AND fire_at = $2 AND outcome = 'missed'";
        tx.execute_one(sql, params![schedule.id, range.from])?;
    }
    for at in free {
        fire(tx, *at)?;
    }
    for MissedRow {
        range,
        recorded_at,
        why,
    } in missed
    {
        let left = match range.is_of(&schedule.draft.timing) {
            true => ledger::not_in_a_row(tx, schedule, *range)?,
            false => left_of_old(*range, free).into_iter().collect(),
        };
        for range in left {
            ledger::write_missed(tx, schedule, range, why, *recorded_at)?;
        }
    }
    Ok(())
}

/// What is left of the missed instants of a pattern that is no more: which those were is not known, but for the oldest and
/// the newest. One that lies between the two is told of by the pattern of then and by that of now.
fn left_of_old(mut range: Range, free: &[Timestamp]) -> Option<Range> {
    if range.from == range.until {
        return (!free.contains(&range.from)).then_some(range);
    }
    if free.contains(&range.from) {
        range.from = range.from.checked_add(TICK).unwrap_or(range.from);
        range.count = range.count.saturating_sub(1);
    }
    if free.contains(&range.until) {
        range.until = range.until.checked_sub(TICK).unwrap_or(range.until);
        range.count = range.count.saturating_sub(1);
    }
    Some(range).filter(|range| range.count > 0)
}

#[cfg(test)]
mod tests;
