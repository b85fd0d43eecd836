//! The schema: in comes a database of any age, out goes one that this program reads and writes.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};
use sha2::{Digest, Sha256};

use super::{
    directory,
    engine::{Access, hex},
    error::{Result, StoreError},
};

/// A step of the schema: its number, its name, its SQL.
type Migration = (i64, &'static str, &'static str);

/// Landed migrations are never changed: their hash is checked at every start.
const MIGRATIONS: &[Migration] = &[
    (1, "init", include_str!("../../migrations/sqlite/0001_init.sql")),
    (
        2,
        "policies",
        include_str!("../../migrations/sqlite/0002_policies.sql"),
    ),
    (
        3,
        "leases",
        include_str!("../../migrations/sqlite/0003_leases.sql"),
    ),
    (
        4,
        "limits",
        include_str!("../../migrations/sqlite/0004_limits.sql"),
    ),
    (
        5,
        "deliveries",
        include_str!("../../migrations/sqlite/0005_deliveries.sql"),
    ),
];

/// How long a command waits for a server that is just starting, and will migrate by itself.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Applies what is not applied yet.
///
/// A server holds the directory's lock. A command does not, and takes it where there is something to apply: it must not
/// change the tables under a server that knows the old ones.
pub(super) fn migrate(connection: &mut Connection, dir: &Path, access: Access) -> Result<()> {
    migrate_to(connection, MIGRATIONS, dir, access, PATIENCE)
}

/// A table that is rebuilt is dropped under those that refer to it, so references are not enforced meanwhile
/// (<https://sqlite.org/lang_altertable.html#otheralter>); they are checked before the commit.
fn migrate_to(
    connection: &mut Connection,
    migrations: &[Migration],
    dir: &Path,
    access: Access,
    patience: Duration,
) -> Result<()> {
    let enforced: bool = connection
        .pragma_query_value(None, "foreign_keys", |row| row.get(0))
        .map_err(failed)?;
    connection
        .pragma_update(None, "foreign_keys", "OFF")
        .map_err(failed)?;
    let migrated = apply(connection, migrations, dir, access, patience);
    connection
        .pragma_update(None, "foreign_keys", enforced)
        .map_err(failed)?;
    migrated
}

fn apply(
    connection: &mut Connection,
    migrations: &[Migration],
    dir: &Path,
    access: Access,
    patience: Duration,
) -> Result<()> {
    let since = Instant::now();
    loop {
        let migration = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let pending = pending(&migration, migrations)?;
        let _lock = match access {
            Access::Tool if !pending.is_empty() => match directory::try_lock(dir)? {
                Some(lock) => Some(lock),
                // The server may have just begun, and wait for this transaction.
                None if since.elapsed() < patience => {
                    drop(migration);
                    std::thread::sleep(LOOK_AGAIN);
                    continue;
                }
                None => {
                    return Err(StoreError::Open(format!(
                        "an older server is running on the data directory {}, and this program would change its \
                         database under it: stop that server first, or use the program of its version",
                        dir.display()
                    )));
                }
            },
            _ => None,
        };
        if pending.is_empty() {
            return migration.commit().map_err(failed);
        }
        for (version, name, sql) in pending {
            migration.execute_batch(sql).map_err(failed)?;
            migration
                .execute(
                    "INSERT INTO schema_migrations (version, name, sha256) VALUES ($1, $2, $3)",
                    (version, name, hash(sql)),
                )
                .map_err(failed)?;
        }
        check_references(&migration)?;
        return migration.commit().map_err(failed);
    }
}

/// As a program of an earlier version left it, for tests.
#[cfg(test)]
pub(super) fn to_version(connection: &mut Connection, dir: &Path, version: usize) -> Result<()> {
    migrate_to(connection, &MIGRATIONS[..version], dir, Access::Tool, PATIENCE)
}

fn check_references(migration: &Transaction<'_>) -> Result<()> {
    let broken = migration
        .query_row("PRAGMA foreign_key_check", [], |row| row.get::<_, String>(0))
        .optional()
        .map_err(failed)?;
    match broken {
        None => Ok(()),
        Some(table) => Err(StoreError::Open(format!(
            "migration: a row of the table {table} refers to one that does not exist; nothing was changed"
        ))),
    }
}

/// What is not applied yet; an error where the database is not one that this program made.
fn pending<'m>(transaction: &Transaction<'_>, migrations: &'m [Migration]) -> Result<Vec<&'m Migration>> {
    transaction
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS schema_migrations (
               version INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL) STRICT",
        )
        .map_err(failed)?;
    let applied: Vec<(i64, String)> = transaction
        .prepare("SELECT version, sha256 FROM schema_migrations ORDER BY version")
        .and_then(|mut statement| {
            statement
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<_>>()
        })
        .map_err(failed)?;
    let newest = migrations.len() as i64;
    if let Some((version, _)) = applied.iter().find(|(version, _)| *version > newest) {
        return Err(StoreError::Open(format!(
            "the database is at schema version {version}, newer than this program ({newest}): use the newer program"
        )));
    }
    let mut pending = Vec::new();
    for migration in migrations {
        let (version, name, sql) = migration;
        match applied.iter().find(|(applied, _)| applied == version) {
            Some((_, landed)) if *landed == hash(sql) => {}
            Some(_) => {
                return Err(StoreError::Open(format!(
                    "migration {version} ({name}) is not the one that was applied"
                )));
            }
            None => pending.push(migration),
        }
    }
    Ok(pending)
}

fn hash(sql: &str) -> String {
    hex(&Sha256::digest(sql.as_bytes()))
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn failed(error: rusqlite::Error) -> StoreError {
    StoreError::Open(format!("migration: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEXT: &[Migration] = &[
        (1, "one", "CREATE TABLE one (id INTEGER) STRICT"),
        (2, "two", "CREATE TABLE two (id INTEGER) STRICT"),
    ];
    const NO_PATIENCE: Duration = Duration::ZERO;

    fn open(dir: &Path) -> Connection {
        Connection::open_with_flags(dir.join("test.db"), rusqlite::OpenFlags::default()).unwrap()
    }

    #[test]
    fn a_command_changes_nothing_under_a_running_server() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let mut connection = open(dir);
        let server = directory::lock(dir).unwrap();
        migrate_to(&mut connection, &NEXT[..1], dir, Access::Server, NO_PATIENCE).unwrap();
        // The same version goes on while the server runs; a newer one has something to apply, and does not.
        migrate_to(&mut connection, &NEXT[..1], dir, Access::Tool, NO_PATIENCE).unwrap();
        let error = migrate_to(&mut connection, NEXT, dir, Access::Tool, NO_PATIENCE).unwrap_err();
        assert!(
            error.to_string().contains("an older server is running"),
            "{error}"
        );
        assert!(connection.prepare("SELECT * FROM two").is_err());
        drop(server);
        migrate_to(&mut connection, NEXT, dir, Access::Tool, NO_PATIENCE).unwrap();
        assert!(connection.prepare("SELECT * FROM two").is_ok());
        // And the older program then says so.
        let error = migrate_to(&mut connection, &NEXT[..1], dir, Access::Tool, NO_PATIENCE).unwrap_err();
        assert!(error.to_string().contains("use the newer program"), "{error}");
    }

    #[test]
    fn a_command_waits_for_a_server_that_is_just_starting() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let _server = directory::lock(dir).unwrap();
        std::thread::scope(|scope| {
            let mut connection = open(dir);
            let command = scope
                .spawn(move || migrate_to(&mut connection, NEXT, dir, Access::Tool, Duration::from_secs(60)));
            let mut connection = open(dir);
            connection.busy_timeout(Duration::from_secs(60)).unwrap();
            migrate_to(&mut connection, NEXT, dir, Access::Server, NO_PATIENCE).unwrap();
            command.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_migration_that_was_changed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut connection = open(folder.path());
        migrate_to(&mut connection, NEXT, folder.path(), Access::Tool, NO_PATIENCE).unwrap();
        let other = [NEXT[0], (2, "two", "CREATE TABLE three (id INTEGER) STRICT")];
        let error =
            migrate_to(&mut connection, &other, folder.path(), Access::Tool, NO_PATIENCE).unwrap_err();
        assert!(error.to_string().contains("migration 2 (two)"), "{error}");
    }

    /// A database of the first version with a fire, a job, and a delivery that was tried.
    const OF_THE_FIRST_VERSION: &str = "
        INSERT INTO tenants (id, name, created_at) VALUES ('t', 't', 0);
        INSERT INTO secrets VALUES ('x', 't', x'00', 0);
        INSERT INTO bundles VALUES ('00', x'00', 0);
        INSERT INTO deployments (id, tenant_id, bundle_sha256, entry_point, status, created_at)
          VALUES ('d', 't', '00', 'index.js', 'ready', 0);
        INSERT INTO schedules (id, tenant_id, workflow, params, cron_expr, timezone, launch, skip_callbacks, enabled,
            pattern_since, next_fire_at, created_at, updated_at)
          VALUES ('s', 't', 'w', '{}', '* * * * *', 'UTC', '{}', 0, 1, 0, 60000, 0, 0);
        INSERT INTO jobs (id, tenant_id, schedule_id, fire_at, workflow_id, workflow, deployment_id, skip_callbacks,
            status, created_at, launch, params)
          VALUES ('j', 't', 's', 0, 'w', 'w', 'd', 0, 'completed', 0, '{}', '{}');
        INSERT INTO fires VALUES ('s', 0, 't', 'fired', 0, 'j', 0, NULL, NULL);
        INSERT INTO webhook_endpoints VALUES ('e', 't', 'https://a.example/', NULL, 1, 'x', 0, 0);
        INSERT INTO deliveries (id, tenant_id, job_id, url, secret_id, event, body, status, attempts, created_at)
          VALUES ('q', 't', 'j', 'https://a.example/', 'x', 'job.completed', '{}', 'pending', 1, 0);
        INSERT INTO delivery_attempts VALUES ('q', 1, 0, 500, 1, NULL, NULL, NULL);";

    #[test]
    fn a_database_of_the_first_version_keeps_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let mut connection = open(dir);
        connection.execute_batch("PRAGMA foreign_keys = ON").unwrap();
        migrate_to(&mut connection, &MIGRATIONS[..1], dir, Access::Tool, NO_PATIENCE).unwrap();
        connection.execute_batch(OF_THE_FIRST_VERSION).unwrap();
        migrate_to(&mut connection, MIGRATIONS, dir, Access::Tool, NO_PATIENCE).unwrap();
        let one = |sql: &str| -> String { connection.query_row(sql, [], |row| row.get(0)).unwrap() };
        for (sql, expected) in [
            (
                "SELECT d.id || d.schedule_id || a.status_code FROM deliveries d
                 JOIN delivery_attempts a ON a.delivery_id = d.id",
                "qs500",
            ),
            (
                "SELECT next_due_at || misfire_policy || overlap_policy FROM schedules",
                "60000fire_onceallow",
            ),
            ("SELECT outcome || job_id FROM fires", "firedj"),
            (
                "SELECT events FROM webhook_endpoints",
                "[\"job.completed\",\"job.failed\"]",
            ),
            ("SELECT held || '' FROM jobs", "0"),
        ] {
            assert_eq!(one(sql), expected);
        }
        // References are enforced again, and lead to the table that took the old one's place.
        assert!(connection.execute("DELETE FROM deliveries", []).is_err());
        let stray = "INSERT INTO delivery_attempts VALUES ('nobody', 1, 0, 500, 1, NULL, NULL, NULL)";
        assert!(connection.execute(stray, []).is_err());
    }

    #[test]
    fn a_migration_that_breaks_a_reference_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let mut connection = open(dir);
        let steps: [Migration; 2] = [
            (
                1,
                "one",
                "CREATE TABLE one (id INTEGER PRIMARY KEY) STRICT; INSERT INTO one VALUES (1);
                 CREATE TABLE two (one_id INTEGER NOT NULL REFERENCES one (id)) STRICT; INSERT INTO two VALUES (1)",
            ),
            (2, "two", "DELETE FROM one"),
        ];
        migrate_to(&mut connection, &steps[..1], dir, Access::Tool, NO_PATIENCE).unwrap();
        let error = migrate_to(&mut connection, &steps, dir, Access::Tool, NO_PATIENCE).unwrap_err();
        assert!(error.to_string().contains("table two"), "{error}");
        let left: i64 = connection
            .query_row("SELECT COUNT(*) FROM one", [], |row| row.get(0))
            .unwrap();
        assert_eq!(left, 1);
    }
}
