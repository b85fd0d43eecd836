//! All that is known at the end of a run: what was asked for and told, what the clocks showed, what the workflows and
//! the receiver saw, and what stands in the database.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    audit::{self, Entry},
    clocks::Shown,
    db::Db,
    ears::Heard,
    plan::{Callback, Spec},
    work::{Op, What, Work},
};

/// A row of the ledger.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Fire {
    pub(crate) schedule_id: String,
    pub(crate) fire_at: i64,
    pub(crate) outcome: String,
    pub(crate) reason: Option<String>,
    pub(crate) recorded_at: i64,
    pub(crate) due_at: Option<i64>,
    pub(crate) job_id: Option<String>,
    pub(crate) missed: i64,
    pub(crate) missed_until: Option<i64>,
}

impl Fire {
    /// The newest instant that it stands for.
    pub(crate) fn until(&self) -> i64 {
        self.missed_until.unwrap_or(self.fire_at)
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) schedule_id: Option<String>,
    pub(crate) fire_at: Option<i64>,
    pub(crate) status: String,
    pub(crate) lease_token: Option<String>,
    pub(crate) failure_class: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) result: Option<String>,
    pub(crate) params: String,
}

impl Job {
    pub(crate) fn param(&self, name: &str) -> Option<String> {
        let params: Value = serde_json::from_str(&self.params).ok()?;
        params[name].as_str().map(str::to_owned)
    }
}

/// A range that waits to be made up for.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct CatchUp {
    pub(crate) schedule_id: String,
    pub(crate) from_at: i64,
    pub(crate) until_at: i64,
    pub(crate) instants: i64,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Delivery {
    pub(crate) id: String,
    pub(crate) job_id: Option<String>,
    pub(crate) event: String,
    pub(crate) url: String,
    pub(crate) status: String,
    pub(crate) lease_token: Option<String>,
    pub(crate) body: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Log {
    pub(crate) job_id: String,
    pub(crate) message: String,
}

/// A line that a workflow's code wrote itself.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Run {
    pub(crate) job: String,
    pub(crate) run: String,
    pub(crate) what: String,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Evidence {
    pub(crate) shown: Shown,
    /// Where all clocks stood at the end.
    pub(crate) end: i64,
    /// How many times faster than the machine's they ran.
    pub(crate) speed: i64,
    pub(crate) ops: Vec<Op>,
    pub(crate) runs: Vec<Run>,
    pub(crate) heard: Heard,
    pub(crate) audit: Vec<Entry>,
    pub(crate) fires: Vec<Fire>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) catch_ups: Vec<CatchUp>,
    pub(crate) deliveries: Vec<Delivery>,
    pub(crate) logs: Vec<Log>,
    /// Schedules by id, as they were asked for.
    pub(crate) specs: HashMap<String, Spec>,
    /// The URL of a schedule's own receiver, and of each tenant's.
    pub(crate) own_url: String,
    pub(crate) tenant_urls: Vec<String>,
    /// Rows of other tables that are held under a lease.
    pub(crate) other_leases: Vec<String>,
    /// Deployments that are neither ready nor failed.
    pub(crate) unbuilt: Vec<String>,
}

fn read<T: for<'a> Deserialize<'a>>(db: &mut Db, sql: &str) -> Vec<T> {
    let rows = db.rows(sql).into_iter();
    rows.map(|row| {
        serde_json::from_value(row.clone()).unwrap_or_else(|error| panic!("{sql}: {error} in {row}"))
    })
    .collect()
}

impl Evidence {
    /// Reads the database, and takes the rest from who saw it.
    pub(crate) fn gather(db: &mut Db, work: &Work, runs: &str) -> Self {
        let audit = audit::read(db);
        let ops = work.ops();
        let specs = specs(&ops, &audit);
        let lines = std::fs::read_to_string(runs).unwrap_or_default();
        let leased = "SELECT id, status FROM deployments WHERE status = 'building'";
        Self {
            runs: lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
            fires: read(
                db,
                "SELECT schedule_id, fire_at, outcome, reason, recorded_at, due_at, job_id, missed, missed_until FROM fires
                 ORDER BY schedule_id, fire_at, outcome",
            ),
            jobs: read(
                db,
                "SELECT id, schedule_id, fire_at, status, lease_token, failure_class, error, result, params FROM jobs
                 ORDER BY id",
            ),
            catch_ups: read(db, "SELECT schedule_id, from_at, until_at, instants FROM catch_ups"),
            deliveries: read(
                db,
                "SELECT id, job_id, event, url, status, lease_token, body FROM deliveries ORDER BY id",
            ),
            logs: read(db, "SELECT job_id, message FROM job_logs"),
            unbuilt: db.rows(leased).iter().map(Value::to_string).collect(),
            other_leases: other_leases(db),
            own_url: work.own_url.clone(),
            tenant_urls: work.tenants.iter().map(|tenant| tenant.url.clone()).collect(),
            audit,
            ops,
            specs,
            ..Self::default()
        }
    }

    /// To whom the end of a job is told.
    pub(crate) fn receiver(&self, job: &Job) -> Option<&str> {
        let by_schedule = |id: &String| self.specs.get(id).map(|spec| (spec.callback, spec.tenant));
        let mark = job.param("mark");
        let by_mark = || {
            self.ops.iter().find_map(|op| match &op.what {
                What::Job { mark: one, .. } if Some(one) == mark.as_ref() => {
                    Some((Callback::Tenant, op.tenant))
                }
                What::Trigger { mark: one, schedule } if Some(one) == mark.as_ref() => by_schedule(schedule),
                _ => None,
            })
        };
        let found = job.schedule_id.as_ref().map_or_else(by_mark, by_schedule);
        match found? {
            (Callback::Own, _) => Some(&self.own_url),
            (Callback::Tenant, tenant) => Some(&self.tenant_urls[tenant]),
            (Callback::None, _) => None,
        }
    }

    /// What was written to one kind of table, by the row's id.
    pub(crate) fn writes(&self, table: &str) -> BTreeMap<&str, Vec<&Entry>> {
        let mut by_id: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
        for entry in self.audit.iter().filter(|entry| entry.table == table) {
            by_id.entry(&entry.id).or_default().push(entry);
        }
        by_id
    }
}

/// A schedule whose creation was not acknowledged is known by its name.
fn specs(ops: &[Op], audit: &[Entry]) -> HashMap<String, Spec> {
    let asked = ops.iter().filter_map(|op| match &op.what {
        What::Create(spec) if op.did.may_have_happened() => Some((spec.name.as_str(), spec)),
        _ => None,
    });
    let by_name: HashMap<&str, &Spec> = asked.collect();
    let named = audit.iter().filter(|entry| entry.table == "schedules");
    let found = named.filter_map(|entry| {
        let name = entry.now["name"].as_str()?;
        Some((entry.id.clone(), (*by_name.get(name)?).clone()))
    });
    found.collect()
}

/// Whoever has a column `lease_token` and is not looked at elsewhere.
fn other_leases(db: &mut Db) -> Vec<String> {
    let Db::Postgres { .. } = db else {
        return Vec::new();
    };
    let sql = "SELECT table_name AS name FROM information_schema.columns
               WHERE column_name = 'lease_token' AND table_schema = 'public'";
    let tables = db.rows(sql);
    let mut found = Vec::new();
    for table in tables.iter().filter_map(|row| row["name"].as_str()) {
        let sql = format!("SELECT COUNT(*) AS held FROM {table} WHERE lease_token IS NOT NULL");
        let held = db.rows(&sql)[0]["held"].as_i64().unwrap();
        if held > 0 {
            found.push(format!("{held} rows of {table}"));
        }
    }
    found
}
