//! Cursors, put back where they belong after a clock that was wrong, or under new rules of a time zone.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::schedules;
use crate::domain::{Schedule, ScheduleId};
use crate::store::{
    error::Result,
    tx::{Tx, params},
};

/// How many cursors one pass of [`realign`] looks at.
const LOOKED_AT_ONCE: u32 = 1_000;

/// How far a realignment has come.
#[derive(Debug, Clone, Default)]
pub struct Realigned {
    /// Where the next pass goes on; `None` before the first.
    after: Option<String>,
    /// Of which schedules something was taken back that lay ahead.
    ahead: BTreeSet<ScheduleId>,
    /// Whether it has come to the end.
    pub done: bool,
    /// The schedules whose cursors the newest pass has moved: from where, and to where.
    pub moved: Vec<(ScheduleId, Option<Timestamp>, Option<Timestamp>)>,
}

/// Puts cursors back where they belong: see [`Schedule::true_cursor`]. Looks at the schedules in the order of their
/// ids, some at a time: called with what it gave, until that is `done`.
///
/// # Errors
/// What the engine refuses.
pub fn realign(tx: &mut Tx<'_>, mut state: Realigned, now: Timestamp) -> Result<Realigned> {
    state.moved.clear();
    if state.after.is_none() {
        state.ahead = take_back(tx, now)?;
    }
    let sql = format!(
        "SELECT {} FROM schedules WHERE enabled = 1 AND id > $1 ORDER BY id LIMIT $2",
        schedules::COLUMNS
    );
    let after = state.after.take().unwrap_or_default();
    let found = tx.query(&sql, params![after, LOOKED_AT_ONCE], |row| {
        Ok((row.get::<String>("id")?, schedules::read(row)))
    })?;
    state.after = found.last().map(|(id, _)| id.clone());
    state.done = found.is_empty();
    for (_, schedule) in found {
        // What cannot be read stays where it is, and is set aside, with its reason, when it is due.
        let Ok(schedule) = schedule else { continue };
        if schedule.draft.timing.pattern.fault().is_some() {
            continue;
        }
        let ahead = schedule.fired_ahead(now) || state.ahead.contains(&schedule.id);
        let mut accounted = None;
        if ahead {
            accounted = newest_until(tx, &schedule, now)?;
            // What such a fire made up for has just been taken out of the ledger.
            tx.execute(
                "UPDATE fires SET missed = 0 WHERE schedule_id = $1 AND fire_at > $2 AND missed > 0",
                params![schedule.id, now],
            )?;
        }
        let cursor = schedule.true_cursor(now, (ahead, accounted));
        if cursor != schedule.next_fire_at {
            state.moved.push((schedule.id, schedule.next_fire_at, cursor));
        }
        // Where fires are spread, the share may have changed with the instants around them.
        if cursor != schedule.next_fire_at || schedule.draft.timing.jitter_seconds > 0 {
            schedules::move_cursor(tx, &schedule, cursor)?;
        }
    }
    Ok(state)
}

/// Takes back what a clock that was ahead has passed over: what of it is to come fires when it comes, and what has come
/// is reckoned anew. Whose it was.
fn take_back(tx: &mut Tx<'_>, now: Timestamp) -> Result<BTreeSet<ScheduleId>> {
    let sql = "SELECT DISTINCT schedule_id FROM fires WHERE outcome = 'missed' AND missed_until > $1";
    let of_ranges = tx.query(sql, params![now], |row| row.get::<ScheduleId>("schedule_id"))?;
    let mut whose: BTreeSet<ScheduleId> = of_ranges.into_iter().collect();
    let sql = "DELETE FROM fires WHERE outcome = 'missed' AND missed_until > $1";
    tx.execute(sql, params![now])?;
    let sql = "SELECT schedule_id, from_at, until_at FROM catch_ups WHERE until_at > $1";
    let owed = tx.query(sql, params![now], |row| {
        Ok((
            row.get::<ScheduleId>("schedule_id")?,
            row.get::<Timestamp>("until_at")?,
        ))
    })?;
    for (schedule, until) in owed {
        let sql = "DELETE FROM catch_ups WHERE schedule_id = $1 AND until_at = $2";
        tx.execute_one(sql, params![schedule, until])?;
        whose.insert(schedule);
    }
    Ok(whose)
}

/// The newest instant of a schedule that is not after `now` and is accounted for: in its ledger, or waiting to be made
/// up for.
fn newest_until(tx: &mut Tx<'_>, schedule: &Schedule, now: Timestamp) -> Result<Option<Timestamp>> {
    let sql = "SELECT COALESCE(missed_until, fire_at) AS newest FROM fires
               WHERE schedule_id = $1 AND fire_at <= $2 ORDER BY fire_at DESC LIMIT 1";
    let fired: Option<Timestamp> = tx.query_opt(sql, params![schedule.id, now], |row| row.get("newest"))?;
    let sql = "SELECT until_at FROM catch_ups WHERE schedule_id = $1 ORDER BY until_at DESC LIMIT 1";
    let owed: Option<Timestamp> = tx.query_opt(sql, params![schedule.id], |row| row.get("until_at"))?;
    Ok(fired.max(owed))
}
