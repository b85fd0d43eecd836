//! Lists of jobs: what a line of a list shows, and nothing of what a job took in or gave back.

use jiff::Timestamp;

use crate::domain::{DeploymentId, JobId, JobStatus, ScheduleId, TenantId, WorkflowId};
use crate::store::{
    PageCursor,
    error::Result,
    ops::query::Query,
    tx::{Row, Tx},
};

/// What a list of jobs is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Only those that stand here.
    pub status: Option<JobStatus>,
    /// Only those of this schedule.
    pub schedule: Option<ScheduleId>,
    /// Only those of this workflow.
    pub workflow: Option<String>,
    /// Only what comes after this row.
    pub after: Option<PageCursor>,
}

/// A job in a list: without its input, its result and its stack, which may be megabytes each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSummary {
    /// Its id.
    pub id: JobId,
    /// The schedule that created it.
    pub schedule: Option<ScheduleId>,
    /// The workflow's id.
    pub workflow_id: WorkflowId,
    /// The workflow's name.
    pub workflow: String,
    /// The deployment it runs.
    pub deployment: DeploymentId,
    /// Where it stands.
    pub status: JobStatus,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
}

fn read(row: &Row<'_>) -> Result<JobSummary> {
    let status: String = row.get("status")?;
    Ok(JobSummary {
        id: row.get("id")?,
        schedule: row.get("schedule_id")?,
        workflow_id: row.get("workflow_id")?,
        workflow: row.get("workflow")?,
        deployment: row.get("deployment_id")?,
        status: JobStatus::parse(&status).ok_or_else(|| row.corrupt("status", status))?,
        created_at: row.get("created_at")?,
        completed_at: row.get("completed_at")?,
    })
}

const ORDER: &str = "ORDER BY created_at DESC, id DESC LIMIT ?";

fn query(tenant: TenantId, filter: JobFilter) -> Query {
    let sql =
        "SELECT id, schedule_id, workflow_id, workflow, deployment_id, status, created_at, completed_at FROM jobs
         WHERE tenant_id = ?";
    Query::new(sql, [tenant.into()])
        .and("status = ?", filter.status.map(|status| [status.as_str().into()]))
        .and("schedule_id = ?", filter.schedule.map(|id| [id.into()]))
        .and("workflow = ?", filter.workflow.map(|name| [name.into()]))
        .after("(created_at, id) < (?, ?)", filter.after)
}

/// The newest jobs of a tenant, at most `limit`.
///
/// # Errors
/// What the engine refuses.
pub fn list(tx: &mut Tx<'_>, tenant: TenantId, filter: JobFilter, limit: u32) -> Result<Vec<JobSummary>> {
    query(tenant, filter).run(tx, (ORDER, [limit.into()]), read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{ops::fixture::Db, tx::params};

    #[test]
    fn every_filter_has_an_index_that_is_in_the_list_s_order() {
        let db = Db::embedded();
        let schedule = Some(db.id());
        let plain = JobFilter::default;
        let after = Some(PageCursor {
            at: 1,
            id: String::new(),
        });
        for (filter, index) in [
            (plain(), "jobs_by_tenant (tenant_id=?)"),
            (
                JobFilter { after, ..plain() },
                "jobs_by_tenant (tenant_id=? AND (created_at,id)<(?,?))",
            ),
            (
                JobFilter { schedule, ..plain() },
                "jobs_by_schedule (schedule_id=? AND tenant_id=?)",
            ),
            (
                JobFilter {
                    status: Some(JobStatus::Failed),
                    ..plain()
                },
                "jobs_by_status (status=? AND tenant_id=?)",
            ),
            (
                JobFilter {
                    workflow: Some("w".to_owned()),
                    ..plain()
                },
                "jobs_by_workflow (tenant_id=? AND workflow=?)",
            ),
        ] {
            let name = format!("{filter:?}");
            let plan = db.run(|tx| query(db.id(), filter).plan(tx, (ORDER, [20_u32.into()])));
            assert_eq!(plan, format!("SEARCH jobs USING INDEX {index}"), "{name}");
        }
    }

    #[test]
    fn a_list_touches_only_what_it_shows() {
        let db = Db::embedded();
        let tenant = db.tenant();
        let deployment = db.deployment(tenant, &[]);
        let schedule: ScheduleId = db.id();
        for number in 0..2_000 {
            let job = db.job((tenant, deployment), "completed", number);
            if number % 500 == 0 {
                let sql = "UPDATE jobs SET schedule_id = $2, fire_at = $3 WHERE id = $1";
                db.sql(sql, params![job, schedule, number]);
            }
        }
        let filter = JobFilter {
            schedule: Some(schedule),
            ..JobFilter::default()
        };
        let (found, work) = db.work(|tx| list(tx, tenant, filter, 20));
        assert_eq!(found.len(), 4);
        assert!(found.is_sorted_by(|a, b| a.created_at > b.created_at));
        assert!(work < 200, "{work}");
    }

    #[test]
    fn a_job_whose_result_cannot_be_read_does_not_spoil_a_list() {
        let db = Db::new();
        let tenant = db.tenant();
        let deployment = db.deployment(tenant, &[]);
        let job = db.job((tenant, deployment), "completed", 0);
        let sql = "UPDATE jobs SET result = '{', params = '{' WHERE id = $1";
        db.sql(sql, params![job]);
        let found = db.run(|tx| list(tx, tenant, JobFilter::default(), 20));
        assert_eq!(found[0].id, job);
    }
}
