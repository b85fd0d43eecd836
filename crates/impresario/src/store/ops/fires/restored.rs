//! What a database that was put back from an older backup owes: nothing. Whatever has come since may have fired.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

use super::{LONGEST_PASS, Moment, catch_up, ledger, missed_now, realign, schedules};
use crate::domain::{Missed, MissedReason, Schedule};
use crate::store::{
    error::Result,
    tx::{Tx, params},
};

/// How far the writing off has come, and what it has found.
#[derive(Debug, Clone, Default)]
pub struct WrittenOff {
    /// Where the next pass goes on; `None` before the first.
    after: Option<String>,
    /// Whether it has come to the end.
    pub done: bool,
    /// Schedules of which something was written off.
    pub schedules: u64,
    /// How many instants; each range is counted up to 100,000.
    pub instants: u64,
    /// Schedules that cannot be read: what they owe does not fire either.
    pub damaged: u64,
}

/// Writes down as missed all that has come by `until` and is not accounted for, and moves the cursors behind it. Looks at
/// the schedules in the order of their ids, at most `limit` at a time: called with what it gave, until that is `done`.
/// What is settled is left alone by a second look, so it may be cut off anywhere and begun again.
///
/// # Errors
/// What the engine refuses. A schedule that cannot be read is not an error.
pub fn write_off(
    tx: &mut Tx<'_>,
    mut state: WrittenOff,
    until: Timestamp,
    moment: &Moment<'_>,
    limit: usize,
) -> Result<WrittenOff> {
    let touched = realign::touched_by_a_clock_ahead(tx, until)?;
    let sql = format!(
        "SELECT {} FROM schedules WHERE id > $1 ORDER BY id LIMIT $2",
        schedules::COLUMNS
    );
    let after = state.after.clone().unwrap_or_default();
    let found = tx.query(&sql, params![after, limit], |row| {
        Ok((row.get::<String>("id")?, schedules::read(row)))
    })?;
    state.done = found.is_empty();
    let begun = Instant::now();
    for (id, schedule) in found {
        let settled = tx.isolated(|tx| {
            let schedule = schedule?;
            if schedule.draft.timing.pattern.fault().is_some() {
                return Ok(None);
            }
            let touched = touched.contains(&schedule.id);
            write_off_one(tx, &schedule, touched, until, moment).map(Some)
        })?;
        match settled {
            Ok(Some(0)) => {}
            Ok(Some(instants)) => {
                state.schedules += 1;
                state.instants = state.instants.saturating_add(instants);
            }
            Ok(None) => {
                write_off_unread(tx, &id, until, moment)?;
                state.damaged += 1;
            }
            Err(error) if error.is_of_the_row() => {
                tracing::error!(schedule = %id, %error, "a schedule cannot be read: what it owes is written off unread");
                write_off_unread(tx, &id, until, moment)?;
                state.damaged += 1;
            }
            Err(error) => return Err(error),
        }
        state.after = Some(id);
        if begun.elapsed() > LONGEST_PASS {
            break;
        }
    }
    Ok(state)
}

/// Writes off what one schedule owes: how many instants.
fn write_off_one(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    touched: bool,
    until: Timestamp,
    moment: &Moment<'_>,
) -> Result<u64> {
    ledger::shorten_written_off(tx, schedule, until)?;
    // First: what a clock that was ahead has passed over is owed as well.
    realign::put_back(tx, schedule, touched, (until, SignedDuration::ZERO))?;
    let Some(schedule) = schedules::by_id(tx, schedule.id)? else {
        return Ok(0);
    };
    let mut owed = catch_up::take_all(tx, &schedule)?;
    if schedule.draft.enabled {
        owed.extend(schedule.come_by(until));
        let next = schedule.draft.timing.next_after(until);
        let next = realign::not_on_record(tx, &schedule, next)?;
        if next != schedule.next_fire_at {
            schedules::move_cursor(tx, &schedule, next)?;
        }
    }
    let mut instants = 0_u64;
    for range in owed {
        let reason = MissedReason::Restored;
        let count = missed_now(tx, &schedule, Missed { range, reason }, moment)?;
        instants = instants.saturating_add(count);
    }
    Ok(instants)
}

/// Writes off what a schedule owes that cannot be read. Which instants those are is not known, so it counts as begun at
/// `until`: whoever can read it later finds that its cursor lies before, and then it does not fire.
fn write_off_unread(tx: &mut Tx<'_>, id: &str, until: Timestamp, moment: &Moment<'_>) -> Result<()> {
    let sql = "UPDATE schedules SET pattern_since = $2 WHERE id = $1 AND pattern_since < $2";
    tx.execute(sql, params![id, until])?;
    let waiting = tx.isolated(|tx| {
        let sql = "SELECT s.tenant_id, c.from_at, c.until_at, c.instants FROM catch_ups c
                   JOIN schedules s ON s.id = c.schedule_id WHERE c.schedule_id = $1 ORDER BY c.until_at";
        tx.query(sql, params![id], |row| {
            let range = (row.get::<i64>("from_at")?, row.get::<i64>("until_at")?);
            Ok((
                row.get::<String>("tenant_id")?,
                range,
                row.get::<i64>("instants")?,
            ))
        })
    })?;
    for (tenant, (from, until), instants) in waiting.unwrap_or_default() {
        let reason = MissedReason::Restored;
        tx.execute(
            "INSERT INTO fires (schedule_id, fire_at, tenant_id, outcome, recorded_at, missed, missed_until, reason,
               error)
             VALUES ($1, $2, $3, 'missed', $4, $5, $6, $7, $8) ON CONFLICT (schedule_id, fire_at) DO NOTHING",
            params![id, from, tenant, moment.now, instants, until, reason.as_str(), reason.describe()],
        )?;
    }
    tx.execute("DELETE FROM catch_ups WHERE schedule_id = $1", params![id])
        .map(|_| ())
}

#[cfg(test)]
mod tests;
