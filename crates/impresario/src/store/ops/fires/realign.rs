//! Cursors, put back where they belong after a clock that was wrong, or under new rules of a time zone.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

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
    /// Of which schedules something was taken back that lay ahead, and where it begins if not ahead as well.
    ahead: BTreeMap<ScheduleId, Option<Timestamp>>,
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
        let taken = state.ahead.get(&schedule.id);
        let ahead = schedule.fired_ahead(now) || taken.is_some();
        let mut accounted = None;
        if ahead {
            let before = |at: Timestamp| at.checked_sub(SignedDuration::from_millis(1)).unwrap_or(at);
            accounted = match taken.copied().flatten() {
                Some(begin) => Some(before(begin)),
                None => newest_until(tx, &schedule, now)?,
            };
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
/// is reckoned anew. Whose it was, and where that begins: later rows, from before the clock went back, say nothing of
/// what lies before them.
fn take_back(tx: &mut Tx<'_>, now: Timestamp) -> Result<BTreeMap<ScheduleId, Option<Timestamp>>> {
    let mut whose = BTreeMap::new();
    for (table, from, until) in [
        ("fires", "fire_at", "missed_until"),
        ("catch_ups", "from_at", "until_at"),
    ] {
        let sql = format!("SELECT schedule_id, {from} AS from_at FROM {table} WHERE {until} > $1");
        let ranges = tx.query(&sql, params![now], |row| {
            Ok((
                row.get::<ScheduleId>("schedule_id")?,
                row.get::<Timestamp>("from_at")?,
            ))
        })?;
        for (id, from) in ranges {
            let begin: &mut Option<Timestamp> = whose.entry(id).or_default();
            if from <= now {
                *begin = Some(begin.map_or(from, |begin| begin.min(from)));
            }
        }
        tx.execute(&format!("DELETE FROM {table} WHERE {until} > $1"), params![now])?;
    }
    Ok(whose)
}

/// The newest instant of a schedule that is not after `now` and is accounted for: in its ledger, or waiting to be made
/// up for.
fn newest_until(tx: &mut Tx<'_>, schedule: &Schedule, now: Timestamp) -> Result<Option<Timestamp>> {
    let sql =
        "SELECT fire_at FROM fires WHERE schedule_id = $1 AND fire_at <= $2 ORDER BY fire_at DESC LIMIT 1";
    let fired: Option<Timestamp> = tx.query_opt(sql, params![schedule.id, now], |row| row.get("fire_at"))?;
    // A range may reach beyond what fired within it before the clock was set back.
    let sql = "SELECT missed_until FROM fires WHERE schedule_id = $1 AND fire_at <= $2 AND outcome = 'missed'
               ORDER BY fire_at DESC LIMIT 1";
    let missed: Option<Timestamp> =
        tx.query_opt(sql, params![schedule.id, now], |row| row.get("missed_until"))?;
    let sql = "SELECT until_at FROM catch_ups WHERE schedule_id = $1 ORDER BY until_at DESC LIMIT 1";
    let owed: Option<Timestamp> = tx.query_opt(sql, params![schedule.id], |row| row.get("until_at"))?;
    Ok(fired.max(missed).max(owed))
}
