//! The ledger: what became of each instant.

use jiff::Timestamp;

use super::Moment;
use crate::domain::{Admission, JobId, Missed, MissedReason, Range, Schedule, ScheduleId, TenantId};
use crate::store::{
    error::Result,
    tx::{Row, Tx, params},
};

/// Writes the ledger row, with the number of missed instants that the fire makes up for; `false` where the instant has
/// a row. The primary key is what makes a fire unique.
pub(super) fn claim_instant(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    (fire_at, due_at): (Timestamp, Timestamp),
    (missed, now): (u64, Timestamp),
) -> Result<bool> {
    let sql = "INSERT INTO fires (schedule_id, fire_at, tenant_id, outcome, recorded_at, missed, due_at)
               VALUES ($1, $2, $3, 'fired', $4, $5, $6) ON CONFLICT (schedule_id, fire_at) DO NOTHING";
    let touched = tx.execute(
        sql,
        params![schedule.id, fire_at, schedule.tenant, now, missed, due_at],
    )?;
    Ok(touched == 1)
}

/// Notes the job that an instant has created, and what the overlap policy did for it.
pub(super) fn note_job(
    tx: &mut Tx<'_>,
    schedule: ScheduleId,
    at: Timestamp,
    job: JobId,
    admission: Admission,
) -> Result<()> {
    let reason = match admission {
        Admission::Hold => Some("buffered"),
        Admission::Replace => Some("replaced"),
        Admission::Start | Admission::Skip => None,
    };
    tx.execute_one(
        "UPDATE fires SET job_id = $3, reason = $4 WHERE schedule_id = $1 AND fire_at = $2",
        params![schedule, at, job, reason],
    )
}

/// Notes the job that somebody has asked for an instant that had none: in its row, where it has one.
pub(super) fn note_backfill(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    at: Timestamp,
    job: JobId,
    now: Timestamp,
) -> Result<()> {
    tx.execute_one(
        "INSERT INTO fires (schedule_id, fire_at, tenant_id, outcome, reason, recorded_at, job_id, due_at)
         VALUES ($1, $2, $3, 'fired', 'backfill', $4, $5, $2)
         ON CONFLICT (schedule_id, fire_at) DO UPDATE SET outcome = 'fired', reason = 'backfill', recorded_at = $4,
           job_id = $5, missed = 0, error = NULL
         WHERE fires.outcome IN ('skipped_overlap', 'rejected')",
        params![schedule.id, at, schedule.tenant, now, job],
    )
}

/// Notes why an instant has no job.
pub(super) fn note_outcome(
    tx: &mut Tx<'_>,
    schedule: ScheduleId,
    at: Timestamp,
    (outcome, reason, error): (&str, &str, &str),
) -> Result<()> {
    tx.execute_one(
        "UPDATE fires SET outcome = $3, reason = $4, error = $5 WHERE schedule_id = $1 AND fire_at = $2",
        params![schedule, at, outcome, reason, error],
    )
}

/// The newest row that begins at or before `at`: where it begins, and of missed instants where it ends.
fn row_at(
    tx: &mut Tx<'_>,
    schedule: ScheduleId,
    at: Timestamp,
) -> Result<Option<(Timestamp, Option<Timestamp>, u64)>> {
    let sql = "SELECT fire_at, missed_until, missed FROM fires WHERE schedule_id = $1 AND fire_at <= $2
               ORDER BY fire_at DESC LIMIT 1";
    tx.query_opt(sql, params![schedule, at], |row| {
        Ok((row.get("fire_at")?, row.get("missed_until")?, row.get("missed")?))
    })
}

/// A row of missed instants.
#[derive(Debug, Clone, Copy)]
pub(super) struct MissedRow {
    /// Which they are.
    pub(super) range: Range,
    /// Whether they may have fired all the same, after a backup that was put back: then they never fire, whatever the
    /// clock does and whatever the pattern becomes.
    pub(super) written_off: bool,
}

/// The missed instants among which `at` stands.
pub(super) fn missed_around(
    tx: &mut Tx<'_>,
    schedule: ScheduleId,
    at: Timestamp,
) -> Result<Option<MissedRow>> {
    let sql =
        "SELECT fire_at, missed_until, missed, reason FROM fires WHERE schedule_id = $1 AND fire_at <= $2
               ORDER BY fire_at DESC LIMIT 1";
    let row = tx.query_opt(sql, params![schedule, at], |row| {
        let until: Option<Timestamp> = row.get("missed_until")?;
        let (from, count): (Timestamp, u64) = (row.get("fire_at")?, row.get("missed")?);
        let reason: Option<String> = row.get("reason")?;
        Ok(until.map(|until| MissedRow {
            range: Range { from, until, count },
            written_off: reason.as_deref() == Some(MissedReason::Restored.as_str()),
        }))
    })?;
    Ok(row.flatten().filter(|missed| missed.range.until >= at))
}

/// Takes what a restored backup had written off back to `until`: nothing after it can have fired.
pub(super) fn shorten_written_off(tx: &mut Tx<'_>, schedule: &Schedule, until: Timestamp) -> Result<()> {
    let sql =
        "DELETE FROM fires WHERE schedule_id = $1 AND outcome = 'missed' AND reason = $2 AND fire_at > $3";
    let restored = MissedReason::Restored.as_str();
    tx.execute(sql, params![schedule.id, restored, until])?;
    let sql = "SELECT fire_at, missed FROM fires
               WHERE schedule_id = $1 AND outcome = 'missed' AND reason = $2 AND missed_until > $3
               ORDER BY fire_at";
    let ahead = tx.query(sql, params![schedule.id, restored, until], |row| {
        Ok((row.get::<Timestamp>("fire_at")?, row.get::<u64>("missed")?))
    })?;
    for (from, counted) in ahead {
        let timing = &schedule.draft.timing;
        let last = timing.latest_until(until).filter(|last| *last >= from);
        let count = last.map_or(counted, |last| Range::count(timing, from, last).count);
        tx.execute_one(
            "UPDATE fires SET missed_until = $3, missed = $4 WHERE schedule_id = $1 AND fire_at = $2",
            params![schedule.id, from, last.unwrap_or(until), count],
        )?;
    }
    Ok(())
}

/// Cuts an instant that fires after all out of the missed ones among which it stands: a clock was wrong when they were
/// written down.
pub(super) fn cut_out(tx: &mut Tx<'_>, schedule: &Schedule, range: Range, at: Timestamp) -> Result<()> {
    let Range { from, until, .. } = range;
    let timing = &schedule.draft.timing;
    let (before, after) = match range.is_of(timing) {
        true => (
            timing.previous_before(at).filter(|before| *before >= from),
            timing.next_after(at).filter(|after| *after <= until),
        ),
        // Instants of a pattern that is no more: only what has the very place of this one has to make room.
        false if from < at => return Ok(()),
        false => (None, None),
    };
    let row = "UPDATE fires SET fire_at = $3, missed_until = $4, missed = $5 WHERE schedule_id = $1 AND fire_at = $2";
    let put = |tx: &mut Tx<'_>, sql: &str, range: Range| {
        tx.execute_one(
            sql,
            params![schedule.id, from, range.from, range.until, range.count],
        )
    };
    match (before, after) {
        (None, None) => {
            let sql = "DELETE FROM fires WHERE schedule_id = $1 AND fire_at = $2";
            tx.execute_one(sql, params![schedule.id, from])
        }
        (Some(before), None) => put(tx, row, Range::count(timing, from, before)),
        (None, Some(after)) => put(tx, row, Range::count(timing, after, until)),
        (Some(before), Some(after)) => {
            let sql = "INSERT INTO fires (schedule_id, fire_at, tenant_id, outcome, recorded_at, reason, error,
                         missed_until, missed)
                       SELECT schedule_id, $3, tenant_id, outcome, recorded_at, reason, error, $4, $5 FROM fires
                       WHERE schedule_id = $1 AND fire_at = $2";
            put(tx, sql, Range::count(timing, after, until))?;
            put(tx, row, Range::count(timing, from, before))
        }
    }
}

/// The parts of a range that are in no row: all of it, unless a clock was ahead when some of it was acted on or written
/// down.
pub(super) fn not_in_a_row(tx: &mut Tx<'_>, schedule: &Schedule, range: Range) -> Result<Vec<Range>> {
    let sql = "SELECT fire_at, COALESCE(missed_until, fire_at) AS ends_at FROM fires
               WHERE schedule_id = $1 AND fire_at > $2 AND fire_at <= $3 ORDER BY fire_at";
    let mut rows = tx.query(sql, params![schedule.id, range.from, range.until], |row| {
        Ok((row.get::<Timestamp>("fire_at")?, row.get::<Timestamp>("ends_at")?))
    })?;
    if let Some((from, until, _)) = row_at(tx, schedule.id, range.from)? {
        let ends = until.unwrap_or(from);
        if ends >= range.from {
            rows.insert(0, (from, ends));
        }
    }
    if rows.is_empty() {
        return Ok(vec![range]);
    }
    let timing = &schedule.draft.timing;
    let mut runs = Vec::new();
    let mut from = Some(range.from);
    for (begins, ends) in rows {
        let Some(first) = from else { break };
        if let Some(until) = timing.previous_before(begins).filter(|until| *until >= first) {
            runs.push(Range::count(timing, first, until));
        }
        if ends >= first {
            from = timing.next_after(ends);
        }
    }
    if let Some(from) = from.filter(|from| *from <= range.until) {
        runs.push(Range::count(timing, from, range.until));
    }
    Ok(runs)
}

/// Writes down the instants of a range that are in no row, and says which they are.
pub(super) fn record_missed(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    Missed { range, reason }: Missed,
    now: Timestamp,
) -> Result<Vec<Range>> {
    let runs = not_in_a_row(tx, schedule, range)?;
    for run in &runs {
        write_missed(tx, schedule, *run, &Why::from(reason), now)?;
    }
    Ok(runs)
}

/// Why instants were missed, as a row says it; a version that knew no reasons has written none.
#[derive(Debug, Clone)]
pub(super) struct Why {
    pub(super) reason: Option<String>,
    pub(super) error: Option<String>,
}

impl From<MissedReason> for Why {
    fn from(reason: MissedReason) -> Self {
        Self {
            reason: Some(reason.as_str().to_owned()),
            error: Some(reason.describe().to_owned()),
        }
    }
}

/// What begins the part of `error` that says that there are more instants than were counted.
const CUT_SHORT: &str = "; at least ";

/// Writes down a range of missed instants, unless a row begins where it does.
pub(super) fn write_missed(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    range: Range,
    why: &Why,
    now: Timestamp,
) -> Result<()> {
    let error = why.error.as_deref().map(|error| {
        let error = error.split(CUT_SHORT).next().unwrap_or(error);
        match range.is_cut_short() {
            true => format!("{error}{CUT_SHORT}{}, they are counted no further", range.count),
            false => error.to_owned(),
        }
    });
    tx.execute(
        "INSERT INTO fires (schedule_id, fire_at, tenant_id, outcome, recorded_at, missed, missed_until, reason,
           error)
         VALUES ($1, $2, $3, 'missed', $4, $5, $6, $7, $8) ON CONFLICT (schedule_id, fire_at) DO NOTHING",
        params![
            schedule.id,
            range.from,
            schedule.tenant,
            now,
            range.count,
            range.until,
            why.reason.clone(),
            error
        ],
    )
    .map(|_| ())
}

/// Writes down an instant that a change took back before its share of the spread was over.
pub(in crate::store::ops) fn retire_instant(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    at: Timestamp,
    moment: &Moment<'_>,
) -> Result<()> {
    let range = Range {
        from: at,
        until: at,
        count: 1,
    };
    let missed = Missed {
        range,
        reason: MissedReason::Retired,
    };
    record_missed(tx, schedule, missed, moment.now).map(|_| ())
}

/// Writes down what came while a schedule had disabled itself, up to now.
pub(in crate::store::ops) fn record_pause(
    tx: &mut Tx<'_>,
    schedule: &Schedule,
    since: Timestamp,
    moment: &Moment<'_>,
) -> Result<()> {
    let timing = &schedule.draft.timing;
    let first = timing.next_after(since).filter(|at| *at <= moment.now);
    let last = timing.latest_until(moment.now);
    let Some((from, until)) = first.zip(last) else {
        return Ok(());
    };
    let missed = Missed {
        range: Range::count(timing, from, until),
        reason: MissedReason::PausedByLimit,
    };
    record_missed(tx, schedule, missed, moment.now).map(|_| ())
}

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    /// The scheduled instant; of missed ones, the oldest.
    pub fire_at: Timestamp,
    /// When it was to be acted on: later than the instant where fires are spread.
    pub due_at: Timestamp,
    /// `fired`, `skipped_overlap`, `missed` or `rejected`.
    pub outcome: String,
    /// The kind of reason, where there is one to give.
    pub reason: Option<String>,
    /// When it was written down.
    pub recorded_at: Timestamp,
    /// The job it created.
    pub job: Option<JobId>,
    /// Where that job stands.
    pub job_status: Option<String>,
    /// How many instants the row stands for, if they were missed.
    pub missed: u64,
    /// Of those, the newest.
    pub missed_until: Option<Timestamp>,
    /// Why there is no job.
    pub error: Option<String>,
}

fn ledger_row(row: &Row<'_>) -> Result<LedgerRow> {
    let fire_at = row.get("fire_at")?;
    Ok(LedgerRow {
        fire_at,
        due_at: row.get::<Option<Timestamp>>("due_at")?.unwrap_or(fire_at),
        outcome: row.get("outcome")?,
        reason: row.get("reason")?,
        recorded_at: row.get("recorded_at")?,
        job: row.get("job_id")?,
        job_status: row.get("status")?,
        missed: row.get("missed")?,
        missed_until: row.get("missed_until")?,
        error: row.get("error")?,
    })
}

/// The ledger of a schedule, newest first, at most `limit` rows, perhaps only those before an instant (milliseconds).
///
/// # Errors
/// What the engine refuses.
pub fn history(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    schedule: ScheduleId,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<LedgerRow>> {
    let sql =
        "SELECT f.fire_at, f.due_at, f.outcome, f.reason, f.recorded_at, f.job_id, f.missed, f.missed_until,
                 f.error, j.status
               FROM fires f LEFT JOIN jobs j ON j.id = f.job_id
               WHERE f.tenant_id = $1 AND f.schedule_id = $2 AND (CAST($3 AS BIGINT) IS NULL OR f.fire_at < $3)
               ORDER BY f.fire_at DESC LIMIT $4";
    tx.query(sql, params![tenant, schedule, before, limit], ledger_row)
}
