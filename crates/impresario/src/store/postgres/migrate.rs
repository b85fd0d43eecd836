//! The schema on PostgreSQL. Several programs may share a database and be of different versions, so unlike with the
//! embedded database no server changes it by itself: `impresario migrate` does.
//!
//! A migration says which programs can go on beside it: `oldest`, the schema version that a program must know at the
//! least. Nodes of one version and of the one before it run together, so a migration only adds: what an older program
//! does not know it leaves alone, and what it reads and writes stays. What is to go goes one version later.

use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tokio_postgres::{Client, Transaction, error::SqlState};

use crate::store::{
    engine::hex,
    error::{Result, StoreError},
};

/// A step of the schema.
struct Migration {
    version: i64,
    name: &'static str,
    sql: &'static str,
    /// The newest version that a program may know and go on all the same.
    oldest: i64,
}

/// Landed migrations are never changed: their hash is checked at every start.
const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "init",
        sql: include_str!("../../../migrations/postgres/0001_init.sql"),
        oldest: 1,
    },
    Migration {
        version: 2,
        name: "policies",
        sql: include_str!("../../../migrations/postgres/0002_policies.sql"),
        oldest: 2,
    },
    Migration {
        version: 3,
        name: "leases",
        sql: include_str!("../../../migrations/postgres/0003_leases.sql"),
        oldest: 3,
    },
    Migration {
        version: 4,
        name: "limits",
        sql: include_str!("../../../migrations/postgres/0004_limits.sql"),
        // A program that knows less lets in keys that have expired.
        oldest: 4,
    },
    Migration {
        version: 5,
        name: "deliveries",
        sql: include_str!("../../../migrations/postgres/0005_deliveries.sql"),
        // A program that knows less sends to endpoints that are disabled, and signs with secrets that were replaced.
        oldest: 5,
    },
];

/// How long a migration is tried for while somebody else uses the tables, and the pause between two tries.
const PATIENCE: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_secs(1);

/// Taken by whoever migrates, so that two of them come one after the other. Any number that nobody else uses.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7310579623018254)";

const TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
  version BIGINT PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, oldest BIGINT NOT NULL)";

/// What a migration did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The version before; 0 for an empty database.
    pub from: i64,
    /// The version now.
    pub to: i64,
}

/// What is applied: version, hash, oldest.
type Applied = Vec<(i64, String, i64)>;

/// Applies what is not applied yet, all or nothing.
pub(in crate::store) async fn migrate(client: &mut Client) -> Result<Migrated> {
    let until = Instant::now() + PATIENCE;
    loop {
        match migrate_to(client, MIGRATIONS).await {
            // Somebody uses a table, a dump for one. Nothing was changed, and those who wait for it go on in between.
            Err(StoreError::Unreachable(_)) if Instant::now() < until => tokio::time::sleep(PAUSE).await,
            migrated => return migrated,
        }
    }
}

async fn migrate_to(client: &mut Client, migrations: &[Migration]) -> Result<Migrated> {
    let mut transaction = client.transaction().await.map_err(failed)?;
    // A change of a table waits for those who use it, and everybody who comes then waits for it: the leases of what runs as
    // well, so it does not wait for long.
    transaction
        .batch_execute(&format!(
            "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '2s'; {LOCK}; {TABLE}"
        ))
        .await
        .map_err(failed)?;
    let applied = applied(&transaction).await?;
    let from = check(&applied, migrations)?;
    for migration in migrations.iter().filter(|migration| migration.version > from) {
        apply(&mut transaction, migration).await?;
    }
    transaction.commit().await.map_err(failed)?;
    let to = migrations.last().map_or(from, |last| last.version.max(from));
    Ok(Migrated { from, to })
}

async fn apply(transaction: &mut Transaction<'_>, migration: &Migration) -> Result<()> {
    transaction.batch_execute(migration.sql).await.map_err(failed)?;
    let sql = "INSERT INTO schema_migrations (version, name, sha256, oldest) VALUES ($1, $2, $3, $4)";
    let (name, hash) = (migration.name, hash(migration.sql));
    transaction
        .execute(sql, &[&migration.version, &name, &hash, &migration.oldest])
        .await
        .map_err(failed)?;
    Ok(())
}

async fn applied(client: &impl tokio_postgres::GenericClient) -> Result<Applied> {
    let sql = "SELECT version, sha256, oldest FROM schema_migrations ORDER BY version";
    let rows = client.query(sql, &[]).await.map_err(failed)?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))
        .collect::<Result<_, tokio_postgres::Error>>()
        .map_err(failed)
}

/// The version of the database; an error where this program must leave it alone.
fn check(applied: &Applied, migrations: &[Migration]) -> Result<i64> {
    let known = migrations.last().map_or(0, |last| last.version);
    for (version, landed, oldest) in applied {
        match migrations.iter().find(|migration| migration.version == *version) {
            Some(migration) if *landed == hash(migration.sql) => {}
            Some(Migration { name, .. }) => {
                return Err(StoreError::Open(format!(
                    "migration {version} ({name}) is not the one that was applied to this database"
                )));
            }
            None if *oldest <= known => {}
            None => {
                return Err(StoreError::Open(format!(
                    "the database is at schema version {version}, which programs that know less than version {oldest} \
                     cannot use, and this program knows {known}: use the newer program"
                )));
            }
        }
    }
    Ok(applied.iter().map(|(version, ..)| *version).max().unwrap_or(0))
}

/// Whether a program of this kind has made its tables there.
pub(in crate::store) async fn has_tables(client: &Client) -> Result<bool> {
    let sql = "SELECT to_regclass('schema_migrations') IS NOT NULL";
    let there = client.query_one(sql, &[]).await;
    there.and_then(|row| row.try_get(0)).map_err(failed)
}

/// Refuses a database whose schema this program cannot use; says which tables it has.
pub(in crate::store) async fn check_version(client: &Client, shown: &str) -> Result<Vec<String>> {
    let version = if has_tables(client).await? {
        check(&applied(client).await?, MIGRATIONS)?
    } else {
        0
    };
    let needed = MIGRATIONS.last().map_or(0, |last| last.version);
    if version >= needed {
        let sql =
            "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename";
        let rows = client.query(sql, &[]).await.map_err(failed)?;
        return rows
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()
            .map_err(failed);
    }
    Err(StoreError::Open(match version {
        0 => format!("the database {shown} has no tables of Impresario's yet: run `impresario migrate` once"),
        version => format!(
            "the database {shown} is at schema version {version}, and this program needs {needed}: run `impresario migrate` \
             with this program once; nodes of the version before go on meanwhile"
        ),
    }))
}

fn hash(sql: &str) -> String {
    hex(&Sha256::digest(sql.as_bytes()))
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn failed(error: tokio_postgres::Error) -> StoreError {
    if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) {
        return StoreError::Unreachable(
            "migration: somebody else uses the tables, a dump or another migration perhaps, and nothing was changed: try \
             again when it has ended"
                .to_owned(),
        );
    }
    let detail = match error.as_db_error() {
        Some(answer) => answer.message().to_owned(),
        None => error.to_string(),
    };
    StoreError::Open(format!("migration: {detail}"))
}

#[cfg(test)]
#[path = "migrate_tests.rs"]
mod tests;
