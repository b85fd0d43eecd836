//! Copies between a data directory and a database of the test's own on the tests' server.

use std::{path::Path, sync::Mutex};

use tokio::runtime::Runtime;
use tokio_postgres::NoTls;

use super::*;
use crate::{
    clock::SystemClock,
    store::{Access, Store, migrate, postgres::server},
};

/// A row or more in each table that there is; a text with a NUL; numbers with a gap, and one that is gone.
const ROWS: &str = "
    INSERT INTO tenants (id, name, created_at, quota_schedules) VALUES ('t', 'acme', 0, 5), ('u', 'Zürich ☃', 1, NULL);
    INSERT INTO api_keys (id, tenant_id, public_id, hash, label, start, created_at)
      VALUES ('k', 't', 'p', x'00ff', 'label', 'imp_', 5);
    INSERT INTO browser_profiles VALUES ('b', 't', 'portal', 0);
    INSERT INTO secrets VALUES ('x', 't', x'0001', 0), ('y', 't', x'', 0);
    INSERT INTO settings VALUES ('secret_key_id', 'abcd'), ('instance', 'mine'), ('home', 'here'), ('write_check', 'ok');
    INSERT INTO bundles VALUES ('00', zeroblob(700000), 0);
    INSERT INTO deployments (number, id, tenant_id, bundle_sha256, entry_point, status, created_at, lease_token)
      VALUES (3, 'd', 't', '00', 'index.js', 'ready', 0, NULL), (7, 'e', 't', '00', 'index.js', 'building', 0, 'held'),
        (9, 'f', 't', '00', 'index.js', 'failed', 0, NULL);
    DELETE FROM deployments WHERE number = 9;
    INSERT INTO workflows VALUES ('w', 't', 'w', 'd', 3, 0, 0);
    INSERT INTO schedules (id, tenant_id, workflow, params, cron_expr, timezone, launch, skip_callbacks, enabled,
        pattern_since, next_fire_at, created_at, updated_at, callback_url, callback_secret_id)
      VALUES ('s', 't', 'w', '{}', '* * * * *', 'UTC', '{}', 0, 1, 0, 60000, 0, 0, 'https://a.example/', 'x');
    INSERT INTO catch_ups VALUES ('s', 0, 60000, 2, 0, 0);
    INSERT INTO jobs (id, tenant_id, schedule_id, fire_at, workflow_id, workflow, deployment_id, skip_callbacks,
        status, created_at, launch, params, result, lease_token, attempt)
      VALUES ('0190a0b0-0000-7000-8000-000000000001', 't', 's', 0, 'w', 'w', 'd', 0,
        'completed', 0, '{\"credential_id\":\"c\"}', '{}', '9223372036854775807', NULL, 1);
    INSERT INTO fires (schedule_id, fire_at, tenant_id, outcome, recorded_at) VALUES ('s', -1, 't', 'fired', 0);
    INSERT INTO job_logs VALUES ('t', 1, '0190a0b0-0000-7000-8000-000000000001', 'info', 'a' || char(0) || 'b', 0),
      ('t', 2, '0190a0b0-0000-7000-8000-000000000001', 'warn', '', 9223372036854775807);
    INSERT INTO webhook_endpoints (id, tenant_id, url, active, secret_id, created_at, updated_at)
      VALUES ('h', 't', 'https://a.example/', 1, 'x', 0, 0);
    INSERT INTO deliveries (id, tenant_id, job_id, url, secret_id, event, body, status, attempts, next_attempt_at,
        created_at, lease_token)
      VALUES ('q', 't', '0190a0b0-0000-7000-8000-000000000001', 'https://a.example/', 'x', 'job.completed', '{}', 'pending',
        1, 0, 0, 'held');
    INSERT INTO webhook_old_secrets VALUES ('h', 'y', 9);
    INSERT INTO delivery_receivers VALUES ('t', 'https://a.example/', 1, NULL, NULL, 0);
    INSERT INTO delivery_attempts VALUES ('q', 1, 0, 500, 1, NULL, NULL, NULL);
    INSERT INTO credentials VALUES ('c', 't', 'portal', 'y', 0, 0);";

/// A data directory and a database, and a runtime for what waits.
struct Stage {
    runtime: Runtime,
    folder: tempfile::TempDir,
    database: String,
}

/// What a copy told of.
type Told = Arc<Mutex<Vec<Progress>>>;

impl Stage {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let database = format!("copy_{:016x}", rand::random::<u64>());
        let stage = Self {
            runtime,
            folder: tempfile::tempdir().unwrap(),
            database,
        };
        stage.sql_at(&server::shared(), &format!("CREATE DATABASE {}", stage.database));
        stage
    }

    /// With the rows in the data directory.
    fn filled() -> Self {
        let stage = Self::new();
        drop(Store::open(&stage.dir(), Access::Tool).unwrap());
        let at = |sql: &str| stage.sqlite().execute_batch(sql).unwrap();
        at(ROWS);
        stage
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn url(&self) -> String {
        let mut url = url::Url::parse(&server::shared()).unwrap();
        url.set_path(&self.database);
        url.to_string()
    }

    fn postgres(&self) -> Place {
        Place::Postgres(Box::new(Target::parse(&self.url(), &|_| None).unwrap()))
    }

    fn embedded(&self) -> Place {
        Place::Sqlite(self.dir())
    }

    fn sqlite(&self) -> rusqlite::Connection {
        let path = self.dir().join("impresario.db");
        rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::default()).unwrap()
    }

    fn sql_at(&self, url: &str, sql: &str) {
        self.runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
            let run = async {
                let ran = client.batch_execute(sql).await;
                drop(client);
                ran
            };
            tokio::join!(run, connection).0.unwrap();
        });
    }

    fn sql(&self, sql: &str) {
        self.sql_at(&self.url(), sql);
    }

    /// All rows of a table there, as JSON.
    fn text(&self, sql: &str) -> String {
        self.runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await.unwrap();
            let ask = async {
                let row = client.query_one(sql, &[]).await.unwrap();
                drop(client);
                row.get::<_, Option<String>>(0).unwrap_or_default()
            };
            tokio::join!(ask, connection).0
        })
    }

    fn embedded_text(&self, sql: &str) -> String {
        self.sqlite().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn copy(&self, from: &Place, to: &Place) -> Result<(Copied, Vec<Progress>), String> {
        let told = Told::default();
        let tell = Arc::clone(&told);
        let progress = move |progress| tell.lock().unwrap().push(progress);
        let (clock, ids): (SharedClock, _) = (Arc::new(SystemClock), Arc::new(Ids::from_os()));
        let copied = self
            .runtime
            .block_on(copy((from, to), (&clock, &ids), progress))
            .map_err(|error| error.to_string())?;
        let told = std::mem::take(&mut *told.lock().unwrap());
        Ok((copied, told))
    }

    fn up(&self) -> Result<Copied, String> {
        self.copy(&self.embedded(), &self.postgres()).map(|done| done.0)
    }

    fn undo(&self) -> Option<Mark> {
        let clock: SharedClock = Arc::new(SystemClock);
        self.runtime.block_on(undo(&self.embedded(), &clock)).unwrap()
    }

    /// What a start of a server on the data directory says.
    fn start(&self) -> Result<(), String> {
        let opened = Store::open(&self.dir(), Access::Server);
        opened.map(|_| ()).map_err(|error| error.to_string())
    }

    /// The same with a database.
    fn start_on_postgres(&self) -> Result<(), String> {
        let Place::Postgres(target) = self.postgres() else {
            panic!("it is on PostgreSQL");
        };
        let folder = tempfile::tempdir().unwrap();
        let opened = self
            .runtime
            .block_on(Store::of(Some(&target), folder.path(), Access::Server));
        opened.map(|_| ()).map_err(|error| error.to_string())
    }

    fn tenants(&self) -> String {
        self.text("SELECT count(*)::text FROM tenants")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.sql_at(
            &server::shared(),
            &format!("DROP DATABASE {} WITH (FORCE)", self.database),
        );
    }
}

/// What is in a directory's database, table by table: how many rows, and their sum.
fn content(dir: &Path) -> Vec<(String, Rows)> {
    let end = Opened::Sqlite(dir.to_owned(), None).begin(false).unwrap();
    let tables = end.tables().unwrap();
    tables
        .iter()
        .map(|table| {
            let mut rows = Rows::default();
            let each = &mut |cells: &[Cell<'_>]| {
                rows.add(cells);
                Ok(())
            };
            end.rows(table, &staying(table), each).unwrap();
            (table.name.clone(), rows)
        })
        .collect()
}

#[test]
fn everything_goes_over_and_comes_back_the_same() {
    let stage = Stage::filled();
    let (copied, told) = stage.copy(&stage.embedded(), &stage.postgres()).unwrap();
    let before = content(&stage.dir());
    let empty: Vec<_> = before.iter().filter(|(_, rows)| rows.count == 0).collect();
    assert!(empty.is_empty(), "ROWS has none for {empty:?}");
    let all: u64 = before.iter().map(|(_, rows)| rows.count).sum();
    assert_eq!(
        (copied.tables, copied.rows, copied.before),
        (before.len(), all, false)
    );
    assert_eq!(copied.key_id.as_deref(), Some("abcd"));
    assert_eq!(copied.replaced, [("job_logs".to_owned(), 1)]);
    for (table, rows) in &before {
        let said = Progress {
            table: table.clone(),
            rows: rows.count,
            done: true,
        };
        assert!(told.contains(&said), "{said:?} in {told:?}");
    }
    assert_eq!(
        stage.text("SELECT message FROM job_logs WHERE number = 1"),
        "a\u{fffd}b"
    );
    assert_eq!(
        stage.text("SELECT string_agg(name, ' ' ORDER BY name COLLATE \"C\") FROM settings"),
        "copied_by secret_key_id"
    );
    // What is worked out of other columns is; and numbers go on after the highest that there ever was.
    assert_eq!(stage.text("SELECT credential_id FROM jobs"), "c");
    stage.sql(
        "INSERT INTO deployments (id, tenant_id, bundle_sha256, entry_point, status, created_at) VALUES ('g', 't', '00', '', \
         'ready', 0)",
    );
    assert_eq!(
        stage.text("SELECT string_agg(number::text, ' ' ORDER BY number) FROM deployments"),
        "3 7 10"
    );
    stage.sql("DELETE FROM deployments WHERE id = 'g'");
    stage.start_on_postgres().unwrap();

    let back = Place::Sqlite(stage.folder.path().join("back"));
    stage.copy(&stage.postgres(), &back).unwrap();
    let mut after = content(&stage.folder.path().join("back"));
    let mut before = before;
    // But for the character that PostgreSQL could not hold.
    before.retain(|(table, _)| table != "job_logs");
    after.retain(|(table, _)| table != "job_logs");
    assert_eq!(after, before);
    Store::open(&stage.folder.path().join("back"), Access::Server).unwrap();
    let error = stage.start_on_postgres().unwrap_err();
    assert!(error.contains("both fire") && error.contains("back"), "{error}");
    let back = rusqlite::Connection::open_with_flags(
        stage.folder.path().join("back/impresario.db"),
        rusqlite::OpenFlags::default(),
    )
    .unwrap();
    let insert = "INSERT INTO deployments (id, tenant_id, bundle_sha256, entry_point, status, created_at)
                  VALUES ('h', 't', '00', '', 'ready', 0) RETURNING number";
    let number: i64 = back.query_row(insert, [], |row| row.get(0)).unwrap();
    assert_eq!(number, 11);
}

#[test]
fn nothing_is_held_any_more_at_the_target() {
    let stage = Stage::filled();
    stage.up().unwrap();
    for table in ["jobs", "deliveries", "deployments"] {
        let held = format!("SELECT count(*)::text FROM {table} WHERE lease_token IS NOT NULL");
        assert_eq!(stage.text(&held), "0", "{table}");
    }
    assert_eq!(stage.text("SELECT in_flight::text FROM delivery_receivers"), "0");
}

#[test]
fn the_old_directory_starts_no_server_until_that_is_taken_back() {
    let stage = Stage::filled();
    stage.up().unwrap();
    let error = stage.start().unwrap_err();
    assert!(
        error.contains(&stage.database) && error.contains("both fire") && error.contains("copy --undo"),
        "{error}"
    );
    assert!(Store::open(&stage.dir(), Access::Tool).is_err());
    let again = stage.up().unwrap_err();
    assert!(again.contains("was copied to"), "{again}");
    let mark = stage.undo();
    assert!(mark.is_some_and(|mark| mark.done && mark.to.contains(&stage.database)));
    stage.start().unwrap();
    assert_eq!(stage.undo(), None);
    // What has fired there since does not fire here.
    let marks = "SELECT COUNT(*) || '' FROM settings WHERE name = 'restored_from'";
    assert_eq!(stage.embedded_text(marks), "1");
}

#[test]
fn a_copy_that_was_cut_off_keeps_servers_away_and_is_ended_by_the_same_command() {
    let stage = Stage::filled();
    let target = stage.postgres().shown();
    let mark = Mark {
        copy: "0190a0b0-0000-7000-8000-000000000009".to_owned(),
        to: target,
        done: false,
    };
    // Killed before the commit.
    let set = |mark: &Mark| {
        let text = serde_json::to_string(mark).unwrap();
        let sql =
            "INSERT INTO settings VALUES ('moved_to', $1) ON CONFLICT DO UPDATE SET value = excluded.value";
        stage.sqlite().execute(sql, [text]).unwrap();
    };
    set(&mark);
    let error = stage.start().unwrap_err();
    assert!(
        error.contains("cut off") && error.contains("run the same"),
        "{error}"
    );
    // To another place it may not go now: the first may have it.
    set(&Mark {
        to: "postgres://elsewhere".to_owned(),
        ..mark.clone()
    });
    let error = stage.up().unwrap_err();
    assert!(error.contains("postgres://elsewhere"), "{error}");
    set(&mark);
    assert!(!stage.up().unwrap().before);
    // Killed after it.
    set(&mark);
    assert!(stage.start().is_err());
    let copied = stage.up().unwrap();
    assert!(copied.before && copied.key_id.is_some());
    let error = stage.start().unwrap_err();
    assert!(error.contains("both fire"), "{error}");
    assert_eq!(stage.tenants(), "2");
}

#[test]
fn a_row_that_arrives_otherwise_than_it_left_is_noticed_and_nothing_stays() {
    let stage = Stage::filled();
    stage.runtime.block_on(async {
        let Place::Postgres(target) = stage.postgres() else {
            return;
        };
        crate::store::migrate(&target).await.unwrap();
    });
    for (what, body, said) in [
        (
            "changed",
            "NEW.label := NEW.label || ' '; RETURN NEW;",
            "not the same",
        ),
        ("dropped", "RETURN NULL;", "1 rows went over and 0 are there"),
    ] {
        stage.sql(&format!(
            "CREATE FUNCTION {what}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;
             CREATE TRIGGER {what} BEFORE INSERT ON api_keys FOR EACH ROW EXECUTE FUNCTION {what}()"
        ));
        let error = stage.up().unwrap_err();
        assert!(error.contains("api_keys") && error.contains(said), "{error}");
        assert_eq!(stage.tenants(), "0");
        stage.start().unwrap();
        stage.sql(&format!("DROP TRIGGER {what} ON api_keys"));
    }
    // A row that the target refuses.
    stage.sql("ALTER TABLE tenants ADD CONSTRAINT short CHECK (length(name) < 5)");
    let error = stage.up().unwrap_err();
    assert!(error.contains("short"), "{error}");
    stage.start().unwrap();
    stage.sql("ALTER TABLE tenants DROP CONSTRAINT short");
    stage.up().unwrap();
}

#[test]
fn what_is_in_the_way_is_said_and_leaves_both_as_they_were() {
    let stage = Stage::filled();
    let said = |error: String, parts: &[&str]| {
        for part in parts {
            assert!(error.contains(part), "no {part:?} in {error}");
        }
    };
    let server = Store::open(&stage.dir(), Access::Server).unwrap();
    said(stage.up().unwrap_err(), &["another server is running"]);
    drop(server);
    let nowhere = Place::Sqlite(stage.folder.path().join("none"));
    said(
        stage.copy(&nowhere, &stage.postgres()).unwrap_err(),
        &["there is no database in"],
    );
    assert!(!stage.folder.path().join("none").exists());
    said(
        stage.copy(&stage.embedded(), &nowhere).unwrap_err(),
        &["impresario backup"],
    );
    said(
        stage.copy(&stage.postgres(), &stage.postgres()).unwrap_err(),
        &["pg_dump"],
    );

    stage
        .sqlite()
        .execute_batch("INSERT INTO settings VALUES ('restored_from', 'x')")
        .unwrap();
    said(stage.up().unwrap_err(), &["start a server on it once"]);
    stage
        .sqlite()
        .execute_batch("DELETE FROM settings WHERE name = 'restored_from'")
        .unwrap();

    // By now the database has its tables.
    stage.sql("INSERT INTO tenants (id, name, created_at) VALUES ('a', 'a', 0)");
    said(
        stage.up().unwrap_err(),
        &[&stage.database, "is in use", "rows in tenants."],
    );
    stage.start().unwrap();
    assert_eq!(stage.tenants(), "1");
    stage.sql("DELETE FROM tenants; ALTER TABLE schedules DROP COLUMN tags CASCADE");
    said(
        stage.up().unwrap_err(),
        &["not of the same version", "schedules has no tags"],
    );
    stage.start().unwrap();
}

#[test]
fn a_database_that_a_node_is_connected_to_is_not_copied() {
    let stage = Stage::filled();
    stage.up().unwrap();
    let back = Place::Sqlite(stage.folder.path().join("back"));
    let Place::Postgres(target) = stage.postgres() else {
        panic!("it is on PostgreSQL");
    };
    let folder = tempfile::tempdir().unwrap();
    let node = stage
        .runtime
        .block_on(Store::of(Some(&target), folder.path(), Access::Server))
        .unwrap();
    let error = stage.copy(&stage.postgres(), &back).unwrap_err();
    assert!(error.contains("1 other connections, impresario (pid"), "{error}");
    // It may go on.
    stage.start_on_postgres().unwrap();
    drop(node);
    eventually(|| stage.copy(&stage.postgres(), &back).map(|_| ()));
}

/// Tries until it goes well: a session that was closed takes a moment to be gone.
fn eventually(mut attempt: impl FnMut() -> Result<(), String>) {
    let end = Instant::now() + Duration::from_secs(20);
    while let Err(error) = attempt() {
        assert!(Instant::now() < end, "{error}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_older_data_directory_is_brought_to_this_schema_first() {
    let stage = Stage::new();
    std::fs::create_dir_all(stage.dir()).unwrap();
    migrate::to_version(&mut stage.sqlite(), &stage.dir(), 1).unwrap();
    stage
        .sqlite()
        .execute_batch("INSERT INTO tenants (id, name, created_at) VALUES ('t', 'acme', 0)")
        .unwrap();
    assert_eq!(stage.up().unwrap().rows, 1);
    assert_eq!(
        stage.embedded_text("SELECT (MAX(version) > 1) || '' FROM schema_migrations"),
        "1"
    );
}
