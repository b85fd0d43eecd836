//! What workflows wrote.

use jiff::Timestamp;

use crate::domain::{JobId, TenantId};
use crate::store::{
    error::Result,
    ops::{query::Query, tenants},
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
    /// Its place among its tenant's lines: later ones have higher numbers.
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

/// Adds a batch of a job's lines. `false` where the job is not held with `token` any more: then it has no more to say.
///
/// # Errors
/// What the engine refuses.
pub fn append(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    (job, token): (JobId, &str),
    lines: Vec<NewLogLine>,
) -> Result<bool> {
    let lock = tx.dialect().lock();
    let sql = format!("SELECT id FROM jobs WHERE id = $1 AND lease_token = $2{lock}");
    if tx.query_opt(&sql, params![job, token], |_| Ok(()))?.is_none() {
        return Ok(false);
    }
    // The tenant's jobs count their lines together, so they take turns.
    tenants::lock(tx, tenant)?;
    let sql = "SELECT number FROM job_logs WHERE tenant_id = $1 ORDER BY number DESC LIMIT 1";
    let last = tx.query_opt(sql, params![tenant], |row| row.get::<i64>("number"))?;
    for (number, line) in (last.unwrap_or(0) + 1..).zip(lines) {
        tx.execute_one(
            "INSERT INTO job_logs (tenant_id, number, job_id, level, message, logged_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
            params![tenant, number, job, line.level, line.message, line.at],
        )?;
    }
    Ok(true)
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

const ORDER: &str = "ORDER BY l.number LIMIT ?";

fn query(tenant: TenantId, filter: LogFilter) -> Query {
    let sql = "SELECT l.number, l.job_id, j.workflow, l.level, l.message, l.logged_at
               FROM job_logs l JOIN jobs j ON j.id = l.job_id
               WHERE l.tenant_id = ? AND l.number > ?";
    Query::new(sql, [tenant.into(), filter.after.into()])
        .and("l.job_id = ?", filter.job.map(|id| [id.into()]))
        .and("j.workflow = ?", filter.workflow.map(|name| [name.into()]))
        .and("l.level = ?", filter.level.map(|level| [level.into()]))
}

/// The lines of a tenant's jobs, oldest first, at most `limit`.
///
/// # Errors
/// What the engine refuses.
pub fn list(tx: &mut Tx<'_>, tenant: TenantId, filter: LogFilter, limit: u32) -> Result<Vec<LogLine>> {
    query(tenant, filter).run(tx, (ORDER, [limit.into()]), |row| {
        Ok(LogLine {
            number: row.get("number")?,
            job: row.get("job_id")?,
            workflow: row.get("workflow")?,
            level: row.get("level")?,
            message: row.get("message")?,
            at: row.get("logged_at")?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ops::fixture::{Db, at};

    fn line(text: &str) -> NewLogLine {
        NewLogLine {
            level: "info",
            message: text.to_owned(),
            at: at(0),
        }
    }

    #[test]
    fn the_lines_of_a_job_are_found_without_those_of_others() {
        let db = Db::embedded();
        let tenant = db.tenant();
        let deployment = db.deployment(tenant, &[]);
        let (quiet, loud) = (
            db.job((tenant, deployment), "running", 0),
            db.job((tenant, deployment), "running", 0),
        );
        db.sql("UPDATE jobs SET lease_token = 'token'", &[]);
        db.run(|tx| append(tx, tenant, (quiet, "token"), vec![line("first")]));
        db.run(|tx| append(tx, tenant, (loud, "token"), vec![line("noise"); 2_000]));
        db.run(|tx| append(tx, tenant, (quiet, "token"), vec![line("last")]));
        let filter = || LogFilter {
            job: Some(quiet),
            ..LogFilter::default()
        };
        let (lines, work) = db.work(|tx| list(tx, tenant, filter(), 100));
        let texts: Vec<_> = lines.iter().map(|line| line.message.as_str()).collect();
        assert_eq!(texts, ["first", "last"]);
        assert!(work < 200, "{work}");
        let plan = db.run(|tx| query(tenant, filter()).plan(tx, (ORDER, [100_u32.into()])));
        assert!(
            plan.contains("l USING INDEX job_logs_by_job (job_id=? AND tenant_id=? AND number>?)"),
            "{plan}"
        );
        let (_, work) = db.work(|tx| list(tx, tenant, LogFilter::default(), 10));
        assert!(work < 500, "a page of all lines: {work}");
    }

    #[test]
    fn where_a_list_goes_on_says_nothing_of_other_tenants() {
        let db = Db::new();
        let [one, other] = [db.tenant(), db.tenant()].map(|tenant| {
            let deployment = db.deployment(tenant, &[]);
            (tenant, db.job((tenant, deployment), "running", 0))
        });
        db.sql("UPDATE jobs SET lease_token = 'token'", &[]);
        let write = |(tenant, job), count| {
            assert!(db.run(|tx| append(tx, tenant, (job, "token"), vec![line("x"); count])));
        };
        write(one, 2);
        write(other, 500);
        write(one, 2);
        let numbers = |tenant, after| {
            let filter = LogFilter {
                after,
                ..LogFilter::default()
            };
            let lines = db.run(|tx| list(tx, tenant, filter, 1000));
            lines.iter().map(|line| line.number).collect::<Vec<_>>()
        };
        assert_eq!(numbers(one.0, 0), [1, 2, 3, 4]);
        assert_eq!(numbers(one.0, 3), [4]);
        assert_eq!(numbers(other.0, 0).len(), 500);
    }

    #[test]
    fn a_job_that_has_gone_to_somebody_else_says_no_more() {
        let db = Db::new();
        let tenant = db.tenant();
        let deployment = db.deployment(tenant, &[]);
        let job = db.job((tenant, deployment), "running", 0);
        db.sql("UPDATE jobs SET lease_token = 'another'", &[]);
        assert!(!db.run(|tx| append(tx, tenant, (job, "token"), vec![line("late")])));
        assert!(db.run(|tx| append(tx, tenant, (job, "another"), vec![line("well")])));
        let lines = db.run(|tx| list(tx, tenant, LogFilter::default(), 9));
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].message, "well");
    }
}
