//! Cursors, put back where they belong after a clock that was wrong, or under new rules of a time zone.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::{ledger, schedules};
use crate::domain::{MissedReason, Range, Schedule, ScheduleId};
use crate::store::{
    error::Result,
    tx::{Tx, params},
};

/// How many schedules one pass of [`realign`] looks at: nobody else fires them meanwhile.
const LOOKED_AT_ONCE: u32 = 250;

/// How far a realignment has come.
#[derive(Debug, Clone, Default)]
pub struct Realigned {
    /// Where the next pass goes on; `None` before the first.
    after: Option<String>,
    /// Whether it has come to the end.
    pub done: bool,
    /// The schedules whose cursors the newest pass has moved: from where, and to where.
    pub moved: Vec<(ScheduleId, Option<Timestamp>, Option<Timestamp>)>,
}

/// Puts cursors back where they belong: see [`Schedule::true_cursor`]. Looks at the schedules in the order of their
/// ids, some at a time: called with what it gave, until that is `done`. Each pass is whole by itself: one that is cut
/// off is made up for by the next realignment. `clock` is asked once the schedules are locked;
/// other nodes' may be apart from it by `skew`.
///
/// # Errors
/// What the engine refuses.
pub fn realign(
    tx: &mut Tx<'_>,
    mut state: Realigned,
    (clock, skew): (impl FnOnce() -> Timestamp, SignedDuration),
) -> Result<Realigned> {
    state.moved.clear();
    let sql = format!(
        "SELECT {} FROM schedules WHERE id > $1 ORDER BY id LIMIT $2{}",
        schedules::COLUMNS,
        // One that somebody is acting on is where they have put it.
        tx.dialect().claim()
    );
    let after = state.after.take().unwrap_or_default();
    let found = tx.query(&sql, params![after, LOOKED_AT_ONCE], |row| {
        Ok((row.get::<String>("id")?, schedules::read(row)))
    })?;
    state.after = found.last().map(|(id, _)| id.clone());
    state.done = found.is_empty();
    // Only now that nobody else changes them: what came while this waited for them has come.
    let now = clock();
    let touched = touched_by_a_clock_ahead(tx, now)?;
    for (_, schedule) in found {
        // What cannot be read stays where it is, and is set aside, with its reason, when it is due.
        let Ok(schedule) = schedule else { continue };
        if schedule.draft.timing.pattern.fault().is_some() {
            continue;
        }
        let cursor = put_back(tx, &schedule, touched.contains(&schedule.id), (now, skew))?;
        if cursor != schedule.next_fire_at {
            state.moved.push((schedule.id, schedule.next_fire_at, cursor));
        }
    }
    Ok(state)
}

/// Puts the cursor of one schedule where it belongs at `now`, and says where that is; `touched` by a clock that was ahead
/// says that more than its fires lie ahead.
pub(super) fn put_back(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    touched: bool,
    (now, skew): (Timestamp, SignedDuration),
) -> Result<Option<Timestamp>> {
    let ahead = touched || newest(tx, schedule)?.is_some_and(|at| at > now);
    let begin = match ahead {
        true => take_back(tx, schedule, now)?,
        false => None,
    };
    if !schedule.draft.enabled {
        return Ok(schedule.next_fire_at);
    }
    let accounted = match begin {
        // Later rows, from before the clock went back, say nothing of what lies before them.
        Some(begin) => begin.checked_sub(SignedDuration::from_millis(1)).ok(),
        None if ahead || schedule.is_misplaced() => newest_until(tx, schedule, now)?,
        None => None,
    };
    let mut cursor = schedule.true_cursor((now, skew), ahead, accounted);
    if ahead && let Some(at) = cursor {
        // What a restored backup has written off does not fire, so it is not what comes next either.
        cursor = match ledger::missed_around(tx, schedule.id, at)? {
            Some(missed) if missed.written_off => schedule.draft.timing.next_after(missed.range.until),
            _ => cursor,
        };
    }
    let cursor = not_on_record(tx, schedule, cursor)?;
    // Where fires are spread, the share may have changed with the instants around them.
    if cursor != schedule.next_fire_at || schedule.set_aside || schedule.draft.timing.jitter_seconds > 0 {
        schedules::move_cursor(tx, schedule, cursor)?;
    }
    Ok(cursor)
}

/// The schedules of which something was written down as missed, or put down to be made up for, that ends ahead of `now`.
pub(super) fn touched_by_a_clock_ahead(tx: &mut Tx<'_>, now: Timestamp) -> Result<BTreeSet<ScheduleId>> {
    let sql = "SELECT schedule_id FROM fires WHERE outcome = 'missed' AND missed_until > $1
               UNION SELECT schedule_id FROM catch_ups WHERE until_at > $1";
    let touched = tx.query(sql, params![now], |row| row.get("schedule_id"))?;
    Ok(touched.into_iter().collect())
}

/// The newest instant in a schedule's ledger.
fn newest(tx: &mut Tx<'_>, schedule: &Schedule) -> Result<Option<Timestamp>> {
    let sql = "SELECT fire_at FROM fires WHERE schedule_id = $1 ORDER BY fire_at DESC LIMIT 1";
    tx.query_opt(sql, params![schedule.id], |row| row.get("fire_at"))
}

/// Takes back what a clock that was ahead has passed over: what of it is to come fires when it comes, and what has come
/// is reckoned anew. Where that begins, if it is not ahead as well.
///
/// Only what is certainly reckoned anew is taken out of the ledger, because it may be the clock of now that is wrong.
/// Anything else stays, and whatever fires after all is cut out of it ([`ledger::cut_out`]).
fn take_back(tx: &mut Tx<'_>, schedule: &Schedule, now: Timestamp) -> Result<Option<Timestamp>> {
    let timing = &schedule.draft.timing;
    let mut begins = Vec::new();
    let sql = "SELECT fire_at, missed_until, missed, reason FROM fires
               WHERE schedule_id = $1 AND outcome = 'missed' AND missed_until > $2";
    let ranges = tx.query(sql, params![schedule.id, now], |row| {
        let range = Range {
            from: row.get("fire_at")?,
            until: row.get("missed_until")?,
            count: row.get("missed")?,
        };
        Ok((range, row.get::<Option<String>>("reason")?))
    })?;
    for (range, reason) in ranges {
        let by_the_clock = [
            MissedReason::Down,
            MissedReason::OutsideCatchUp,
            MissedReason::OverLimit,
        ]
        .iter()
        .any(|by| reason.as_deref().is_none_or(|reason| reason == by.as_str()));
        let anew = schedule.draft.enabled
            && by_the_clock
            && range.from > schedule.pattern_since
            && range.is_of(timing);
        if anew {
            let sql = "DELETE FROM fires WHERE schedule_id = $1 AND fire_at = $2 AND outcome = 'missed'";
            tx.execute_one(sql, params![schedule.id, range.from])?;
            begins.push(range.from);
        }
    }
    if !begins.is_empty() {
        // What a fire that lies ahead made up for has just been taken out of the ledger.
        tx.execute(
            "UPDATE fires SET missed = 0
             WHERE schedule_id = $1 AND fire_at > $2 AND missed > 0 AND outcome <> 'missed'",
            params![schedule.id, now],
        )?;
    }
    let sql = "DELETE FROM catch_ups WHERE schedule_id = $1 AND until_at > $2 RETURNING from_at";
    begins.extend(tx.query(sql, params![schedule.id, now], |row| {
        row.get::<Timestamp>("from_at")
    })?);
    Ok(begins.into_iter().filter(|begin| *begin <= now).min())
}

/// The first instant from `cursor` on that no clock that was ahead has acted on: the one that will fire next. Where there
/// are very many, the cursor passes over the rest when it comes to them.
pub(in crate::store::ops) fn not_on_record(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    mut cursor: Option<Timestamp>,
) -> Result<Option<Timestamp>> {
    if schedule.last_fire_at.is_none() || schedule.last_fire_at < cursor {
        return Ok(cursor);
    }
    let sql = "SELECT fire_at FROM fires WHERE schedule_id = $1 AND fire_at >= $2 AND outcome <> 'missed'
               ORDER BY fire_at LIMIT $3";
    let Some(from) = cursor else { return Ok(None) };
    for acted_on in tx.query(sql, params![schedule.id, from, LOOKED_AT_ONCE], |row| {
        row.get::<Timestamp>("fire_at")
    })? {
        match cursor {
            Some(at) if at == acted_on => cursor = schedule.draft.timing.next_after(at),
            _ => break,
        }
    }
    Ok(cursor)
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
    // A range of a pattern that is no more may still end ahead.
    Ok(fired.max(missed).max(owed).map(|newest| newest.min(now)))
}
