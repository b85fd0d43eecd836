//! What workflows wrote.

use jiff::Timestamp;

use crate::domain::{JobId, TenantId};
use crate::store::{
    error::Result,
    tx::{Tx, params},
};

/// A line, as it comes from a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLogLine {
    /// `info`, `warn` or `error`.
    pub level: &'static str,
    /// The line, without its newline.
    pub message: String,
    /// When it was written.
    pub at: Timestamp,
}

/// A stored line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Its place among all lines: later ones have higher numbers.
    pub number: i64,
    /// The job that wrote it.
    pub job: JobId,
    /// The job's workflow.
    pub workflow: String,
    /// `info`, `warn` or `error`.
    pub level: String,
    /// The line.
    pub message: String,
    /// When it was written.
    pub at: Timestamp,
}

/// Adds a batch of a job's lines.
///
/// # Errors
/// What the engine refuses.
pub fn append(tx: &mut Tx<'_>, tenant: TenantId, job: JobId, lines: Vec<NewLogLine>) -> Result<()> {
    for line in lines {
        tx.execute_one(
            "INSERT INTO job_logs (tenant_id, job_id, level, message, logged_at) VALUES ($1, $2, $3, $4, $5)",
            params![tenant, job, line.level, line.message, line.at],
        )?;
    }
    Ok(())
}

/// What a list of lines is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct LogFilter {
    /// Only those of this job.
    pub job: Option<JobId>,
    /// Only those of this workflow.
    pub workflow: Option<String>,
    /// Only those of this level.
    pub level: Option<String>,
    /// Only those after this number.
    pub after: i64,
}

/// The lines of a tenant's jobs, oldest first, at most `limit`.
///
/// # Errors
/// What the engine refuses.
pub fn list(tx: &mut Tx<'_>, tenant: TenantId, filter: LogFilter, limit: u32) -> Result<Vec<LogLine>> {
    tx.query(
        "SELECT l.id, l.job_id, j.workflow, l.level, l.message, l.logged_at
         FROM job_logs l JOIN jobs j ON j.id = l.job_id
         WHERE l.tenant_id = $1 AND l.id > $2 AND ($3 IS NULL OR l.job_id = $3)
           AND ($4 IS NULL OR j.workflow = $4) AND ($5 IS NULL OR l.level = $5)
         ORDER BY l.id LIMIT $6",
        params![
            tenant,
            filter.after,
            filter.job,
            filter.workflow,
            filter.level,
            limit
        ],
        |row| {
            Ok(LogLine {
                number: row.get("id")?,
                job: row.get("job_id")?,
                workflow: row.get("workflow")?,
                level: row.get("level")?,
                message: row.get("message")?,
                at: row.get("logged_at")?,
            })
        },
    )
}
