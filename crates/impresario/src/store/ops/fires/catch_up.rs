//! Missed instants of schedules that make up for all of them (`fire_all`): one by one, oldest first, beside what comes.

use jiff::Timestamp;

use super::{
    Fired, Kind, LONGEST_LOCK, Moment, Outcome, fire_instant, ledger, missed_now, quotas, schedules, target,
    unfinished,
};
use crate::domain::{Missed, MissedReason, Range, Schedule, ScheduleId};
use crate::store::{
    Dialect,
    error::Result,
    tx::{Tx, params},
};

/// What one schedule still owes of one outage.
#[derive(Clone, Copy)]
struct CatchUp {
    schedule: ScheduleId,
    from: Timestamp,
    until: Timestamp,
}

/// Puts a range of missed instants down to be made up for, without those that are in the ledger already: a clock that
/// was ahead may have acted on some.
pub(super) fn owe(tx: &mut Tx<'_>, schedule: &Schedule, owed: Range, moment: &Moment<'_>) -> Result<()> {
    for run in ledger::not_in_a_row(tx, schedule, owed)? {
        put_down(tx, schedule, run, moment)?;
    }
    Ok(())
}

fn put_down(tx: &mut Tx<'_>, schedule: &Schedule, owed: Range, moment: &Moment<'_>) -> Result<()> {
    tx.execute(
        "INSERT INTO catch_ups (schedule_id, from_at, until_at, instants, served_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (schedule_id, until_at) DO NOTHING",
        params![schedule.id, owed.from, owed.until, owed.count, moment.now],
    )
    .map(|_| ())
}

/// Whether anything waits to be made up for and may be.
///
/// # Errors
/// What the engine refuses.
pub fn any_ready(tx: &mut Tx<'_>) -> Result<bool> {
    let sql = "SELECT schedule_id FROM catch_ups WHERE ready = 1 LIMIT 1";
    Ok(tx.query_opt(sql, &[], |_| Ok(()))?.is_some())
}

/// Fires one instant each of at most `limit` schedules, those first that have waited longest for a turn.
///
/// # Errors
/// What the engine refuses.
pub fn catch_up(tx: &mut Tx<'_>, moment: &Moment<'_>, limit: usize) -> Result<Fired> {
    let sql =
        "SELECT schedule_id, from_at, until_at FROM catch_ups WHERE ready = 1 ORDER BY served_at LIMIT $1";
    let ready = tx.query(sql, params![limit], |row| {
        Ok(CatchUp {
            schedule: row.get("schedule_id")?,
            from: row.get("from_at")?,
            until: row.get("until_at")?,
        })
    })?;
    let mut fired = Fired {
        looked_at: ready.len(),
        ..Fired::default()
    };
    tx.wait_at_most(LONGEST_LOCK)?;
    for one in ready {
        let outcome = tx.isolated(|tx| match claim(tx, &one)? {
            Some(owed) => fire_next(tx, &owed, moment),
            None => Ok((Outcome::Nothing, 0)),
        })?;
        fired.note(tx, one.schedule.to_string(), outcome)?;
    }
    Ok(fired)
}

/// What is owed as it stands once nobody else can act on its schedule; nothing where somebody does, or has just made up for
/// the rest.
fn claim(tx: &mut Tx<'_>, seen: &CatchUp) -> Result<Option<CatchUp>> {
    if !schedules::claim(tx, seen.schedule)? {
        return Ok(None);
    }
    let sql = "SELECT from_at FROM catch_ups WHERE schedule_id = $1 AND until_at = $2 AND ready = 1";
    let from = tx.query_opt(sql, params![seen.schedule, seen.until], |row| row.get("from_at"))?;
    Ok(from.map(|from| CatchUp { from, ..*seen }))
}

fn fire_next(tx: &mut Tx<'_>, owed: &CatchUp, moment: &Moment<'_>) -> Result<(Outcome, u64)> {
    let Some(schedule) = schedules::by_id(tx, owed.schedule)? else {
        forget(tx, owed)?;
        return Ok((Outcome::Nothing, 0));
    };
    if let Some(fault) = schedule.draft.timing.pattern.fault() {
        return Ok((Outcome::Unreadable(fault.to_owned()), 0));
    }
    let policy = schedule.draft.policies.overlap;
    let may = policy.admits_catch_up(unfinished(tx, schedule.id)?);
    let oldest = oldest_of(tx, schedule.id)?;
    // Of several outages the oldest comes first. An instant that lies ahead is from a clock that was; its share of the
    // spread has no part in it, because it is late in any case.
    let is_ahead = owed.from > moment.now;
    if is_ahead && tx.dialect() == Dialect::Postgres {
        // The clock of the node that put it down is a little ahead of this one: its turn comes.
        return let_others_go_first(tx, owed, moment).map(|()| (Outcome::Nothing, 0));
    }
    if !may || oldest != Some(owed.until) || is_ahead {
        sleep(tx, owed)?;
        return Ok((Outcome::Nothing, 0));
    }
    if let Some(range) = outside_window(&schedule, owed, moment.now) {
        go_on(tx, &schedule, owed, (range.until, range.count), moment)?;
        let missed = Missed {
            range,
            reason: MissedReason::OutsideCatchUp,
        };
        return missed_now(tx, &schedule, missed, moment).map(|missed| (Outcome::Nothing, missed));
    }
    let target = target(tx, &schedule)?;
    if target.is_some_and(|target| target.is_unchecked(&schedule)) {
        return Ok((Outcome::Unchecked(schedule.id), 0));
    }
    if quotas::no_room_for_job(tx, schedule.tenant, None)?.is_some() {
        return let_others_go_first(tx, owed, moment).map(|()| (Outcome::Waits, 0));
    }
    // The place in the list first: the fire may end in the schedule's disabling itself.
    go_on(tx, &schedule, owed, (owed.from, 1), moment)?;
    let outcome = fire_instant(tx, &schedule, (owed.from, 0), target, Kind::CatchUp, moment)?;
    Ok((outcome, 0))
}

/// It stays on the list, behind all others.
fn let_others_go_first(tx: &mut Tx<'_>, owed: &CatchUp, moment: &Moment<'_>) -> Result<()> {
    let sql = "UPDATE catch_ups SET served_at = $3 WHERE schedule_id = $1 AND until_at = $2";
    tx.execute_one(sql, params![owed.schedule, owed.until, moment.now])
}

/// What has become too late while it waited for its turn.
fn outside_window(schedule: &Schedule, owed: &CatchUp, now: Timestamp) -> Option<Range> {
    let timing = &schedule.draft.timing;
    let late = |at: &Timestamp| {
        *at <= owed.until && now.duration_since(schedule.due_at(*at)) > schedule.draft.policies.window()
    };
    let mut newest = Some(owed.from).filter(late)?;
    while let Some(next) = timing.next_after(newest).filter(late) {
        newest = next;
    }
    Some(Range::count(timing, owed.from, newest))
}

/// Takes the instants up to `done` off the list.
fn go_on(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    owed: &CatchUp,
    (done, count): (Timestamp, u64),
    moment: &Moment<'_>,
) -> Result<()> {
    match schedule.draft.timing.next_after(done).filter(|next| *next <= owed.until) {
        Some(next) => tx.execute_one(
            "UPDATE catch_ups SET from_at = $3, instants = CASE WHEN instants > $5 THEN instants - $5 ELSE 1 END,
               served_at = $4
             WHERE schedule_id = $1 AND until_at = $2",
            params![owed.schedule, owed.until, next, moment.now, count],
        ),
        None => {
            forget(tx, owed)?;
            wake(tx, owed.schedule)
        }
    }
}

fn oldest_of(tx: &mut Tx<'_>, schedule: ScheduleId) -> Result<Option<Timestamp>> {
    let sql = "SELECT until_at FROM catch_ups WHERE schedule_id = $1 ORDER BY until_at LIMIT 1";
    tx.query_opt(sql, params![schedule], |row| row.get("until_at"))
}

fn forget(tx: &mut Tx<'_>, owed: &CatchUp) -> Result<()> {
    let sql = "DELETE FROM catch_ups WHERE schedule_id = $1 AND until_at = $2";
    tx.execute_one(sql, params![owed.schedule, owed.until])
}

/// Until a job of the schedule ends. The range may be gone: the turn before may have disabled its schedule.
fn sleep(tx: &mut Tx<'_>, owed: &CatchUp) -> Result<()> {
    let sql = "UPDATE catch_ups SET ready = 0 WHERE schedule_id = $1 AND until_at = $2";
    tx.execute(sql, params![owed.schedule, owed.until]).map(|_| ())
}

/// Called when a job of the schedule has ended: the next may come.
pub(in crate::store::ops) fn wake(tx: &mut Tx<'_>, schedule: ScheduleId) -> Result<()> {
    let sql = "UPDATE catch_ups SET ready = 1 WHERE schedule_id = $1 AND ready = 0";
    tx.execute(sql, params![schedule]).map(|_| ())
}

/// Called at the start, whatever an earlier server knew.
///
/// # Errors
/// What the engine refuses.
pub fn wake_all(tx: &mut Tx<'_>) -> Result<()> {
    let sql = "UPDATE catch_ups SET ready = 1 WHERE ready = 0";
    tx.execute(sql, &[]).map(|_| ())
}

/// Writes down as missed what a schedule will not make up for any more.
pub(in crate::store::ops) fn retire(tx: &mut Tx<'_>, schedule: &Schedule, moment: &Moment<'_>) -> Result<()> {
    for range in take_all(tx, schedule)? {
        let reason = MissedReason::Retired;
        ledger::record_missed(tx, schedule, Missed { range, reason }, moment.now)?;
    }
    Ok(())
}

/// What a schedule has yet to make up for, oldest first, taken off the list.
pub(super) fn take_all(tx: &mut Tx<'_>, schedule: &Schedule) -> Result<Vec<Range>> {
    let sql = "SELECT from_at, until_at FROM catch_ups WHERE schedule_id = $1 ORDER BY until_at";
    let left = tx.query(sql, params![schedule.id], |row| {
        let (from, until) = (row.get("from_at")?, row.get("until_at")?);
        Ok(Range::count(&schedule.draft.timing, from, until))
    })?;
    let sql = "DELETE FROM catch_ups WHERE schedule_id = $1";
    tx.execute(sql, params![schedule.id])?;
    Ok(left)
}
