//! A real database in a temporary directory, and a count of the work that an operation makes it do: the tests beside
//! the operations use it, so that "bounded" is a number and not a stopwatch.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};
use uuid::Uuid;

use crate::store::postgres::schema::Schema;
use crate::{
    domain::{DeploymentId, ExportedWorkflow, JobId, TenantId, WorkflowId},
    store::{
        Access, Store,
        error::Result,
        ops::Lease,
        tx::{Session, Tx, params},
        value::{Json, Value},
    },
};

/// What the tests claim under.
pub(super) const LEASE: Lease<'static> = Lease {
    token: "token",
    length: Duration::from_secs(30),
};

/// How often SQLite's progress is asked for, in steps of its virtual machine.
const STEPS: u16 = 20;

pub(super) struct Db {
    engine: Engine,
    ids: Cell<u128>,
}

/// What the operations run on: SQLite, or PostgreSQL where `IMPRESARIO_TEST_ENGINE` says `postgres`.
enum Engine {
    Sqlite {
        connection: Connection,
        steps: Arc<AtomicU64>,
        _store: Store,
        _dir: tempfile::TempDir,
    },
    Postgres(Schema),
}

pub(super) fn at(millisecond: i64) -> Timestamp {
    Timestamp::from_millisecond(millisecond).unwrap()
}

impl Db {
    pub(super) fn new() -> Self {
        match Schema::asked_for() {
            Some(schema) => Self::on(Engine::Postgres(schema)),
            None => Self::embedded(),
        }
    }

    fn on(engine: Engine) -> Self {
        Self {
            engine,
            ids: Cell::new(0),
        }
    }

    /// On SQLite, whatever the others run on: for what is said of its planner and its work.
    pub(super) fn embedded() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Server).unwrap();
        let path = dir.path().join("impresario.db");
        let mut connection = Connection::open_with_flags(path, OpenFlags::default()).unwrap();
        connection
            .execute_batch("PRAGMA foreign_keys = ON; PRAGMA synchronous = OFF")
            .unwrap();
        let steps = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&steps);
        let handler = move || {
            count.fetch_add(STEPS.into(), Ordering::Relaxed);
            false
        };
        connection.progress_handler(STEPS.into(), Some(handler)).unwrap();
        Self::on(Engine::Sqlite {
            connection,
            steps,
            _store: store,
            _dir: dir,
        })
    }

    /// Runs an operation in a transaction of its own.
    pub(super) fn run<T>(&self, operation: impl FnOnce(&mut Tx<'_>) -> Result<T>) -> T {
        match &self.engine {
            Engine::Sqlite { connection, .. } => {
                let transaction = connection.unchecked_transaction().unwrap();
                let outcome = operation(&mut Tx::new(Session::Sqlite(&transaction), "test")).unwrap();
                transaction.commit().unwrap();
                outcome
            }
            Engine::Postgres(schema) => {
                schema.session.batch("BEGIN").unwrap();
                let outcome = operation(&mut Tx::new(Session::Postgres(&schema.session), "test"));
                let outcome = outcome
                    .inspect_err(|_| schema.session.batch("ROLLBACK").unwrap())
                    .unwrap();
                schema.session.batch("COMMIT").unwrap();
                outcome
            }
        }
    }

    /// Runs an operation and counts what the database had to do for it, in steps of SQLite's virtual machine: a few for
    /// each row it touches, to the nearest [`STEPS`]. On PostgreSQL these are the rows that were read.
    pub(super) fn work<T>(&self, operation: impl FnOnce(&mut Tx<'_>) -> Result<T>) -> (T, u64) {
        match &self.engine {
            Engine::Sqlite { steps, .. } => {
                steps.store(0, Ordering::Relaxed);
                let outcome = self.run(operation);
                (outcome, steps.load(Ordering::Relaxed))
            }
            Engine::Postgres(_) => self.run(|tx| {
                let outcome = operation(tx)?;
                let sql = "SELECT CAST(SUM(seq_tup_read + COALESCE(idx_tup_fetch, 0)) AS BIGINT) AS rows
                           FROM pg_stat_xact_user_tables WHERE schemaname = current_schema()";
                let rows = tx.query_opt(sql, &[], |row| row.get::<u64>("rows"))?;
                Ok((outcome, rows.unwrap_or(0)))
            }),
        }
    }

    pub(super) fn sql(&self, sql: &str, params: &[Value]) {
        self.run(|tx| tx.execute(sql, params));
    }

    pub(super) fn count(&self, sql: &str) -> i64 {
        let sql = format!("SELECT CAST(({sql}) AS BIGINT) AS number");
        self.run(|tx| tx.query_opt(&sql, &[], |row| row.get("number")))
            .unwrap()
    }

    /// Ids that sort in the order in which they were asked for.
    pub(super) fn id<T: From<Uuid>>(&self) -> T {
        self.ids.set(self.ids.get() + 1);
        Uuid::from_u128(self.ids.get()).into()
    }

    pub(super) fn tenant(&self) -> TenantId {
        let id: TenantId = self.id();
        let sql = "INSERT INTO tenants (id, name, created_at) VALUES ($1, $1, 0)";
        self.sql(sql, params![id]);
        id
    }

    /// A ready deployment that exports `workflows`.
    pub(super) fn deployment(&self, tenant: TenantId, workflows: &[ExportedWorkflow]) -> DeploymentId {
        let id: DeploymentId = self.id();
        let sql =
            "INSERT INTO bundles (sha256, archive, created_at) VALUES ('00', $1, 0) ON CONFLICT DO NOTHING";
        self.sql(sql, params![vec![0]]);
        self.sql(
            "INSERT INTO deployments (id, tenant_id, bundle_sha256, entry_point, status, workflows, created_at)
             VALUES ($1, $2, '00', 'index.js', 'ready', $3, 0)",
            params![id, tenant, Json(workflows)],
        );
        id
    }

    /// A job of the workflow `w` that was created at `created_at`.
    pub(super) fn job(
        &self,
        (tenant, deployment): (TenantId, DeploymentId),
        status: &str,
        created_at: i64,
    ) -> JobId {
        let id: JobId = self.id();
        self.sql(
            "INSERT INTO jobs (id, tenant_id, workflow_id, workflow, deployment_id, params, launch, skip_callbacks,
               status, created_at)
             VALUES ($1, $2, $3, 'w', $4, '{}', '{\"timeout_seconds\":60}', 0, $5, $6)",
            params![
                id,
                tenant,
                self.id::<WorkflowId>(),
                deployment,
                status,
                created_at
            ],
        );
        id
    }
}
