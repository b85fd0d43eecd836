//! A backup of a server that runs, and what becomes of fires and jobs when it is put back: nothing comes twice.

use std::{collections::BTreeSet, fs, path::Path, path::PathBuf};

use serde_json::{Value, json};

use crate::support::{Bundle, Client, PATIENCE, Receiver, Server, Setup, wait_for, wait_until, workflow};

const SECRET: &str = "whsec_c2VjcmV0IG9mIHRoZSBiYWNrdXAgdGVzdHM=";

fn minute(number: u32) -> String {
    format!("2027-01-01T00:{number:02}:00.000Z")
}

struct Stage {
    server: Server,
    client: Client,
    receiver: Receiver,
    backups: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let server = Setup::at("2027-01-01T00:00:30Z").embedded().start();
        let client = server.tenant("acme");
        client.deploy(&Bundle::of(&format!(
            "{}{}",
            workflow("quick", "return 'quick';"),
            workflow(
                "waits",
                "const fs = await import('node:fs'); fs.appendFileSync(input.note, 'began\\n');
                 while (!fs.existsSync(input.note + '.go')) await new Promise((done) => setTimeout(done, 20));"
            ),
        )));
        Self {
            server,
            client,
            receiver: Receiver::start(),
            backups: tempfile::tempdir().unwrap(),
        }
    }

    fn every_minute(&self, misfire_policy: &str) -> Value {
        self.client.schedule(json!({
            "workflow": "quick", "cron_expr": "* * * * *", "misfire_policy": misfire_policy,
            "callback_url": self.receiver.url(), "callback_secret": SECRET,
        }))["id"]
            .clone()
    }

    /// Lets each of these minutes come, and waits until all schedules have fired and told of it.
    fn minutes(&self, minutes: std::ops::RangeInclusive<u32>, schedules: &[Value]) {
        for number in minutes {
            self.server.set_clock(&format!("2027-01-01T00:{number:02}:00Z"));
            wait_for("the callbacks of a minute", PATIENCE, || {
                let told = self.told();
                let came = |id: &Value| told.contains(&(id.as_str().unwrap().to_owned(), minute(number)));
                schedules
                    .iter()
                    .all(came)
                    .then_some(())
                    .ok_or(format!("{told:?}"))
            });
        }
    }

    /// The schedule and the instant of each run that went well, as the receiver heard of them.
    fn told(&self) -> Vec<(String, String)> {
        let bodies = self.receiver.received().into_iter().map(|one| one.json());
        let completed = bodies.filter(|body| body["event"] == "job.completed" && body["fire_at"].is_string());
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        completed
            .map(|body| (text(&body["schedule_id"]), text(&body["fire_at"])))
            .collect()
    }

    fn backup(&self, name: &str) -> PathBuf {
        let path = self.backups.path().join(name);
        let line = self.server.cli(&["backup", path.to_str().unwrap()]);
        assert!(
            line.starts_with(&format!("{}  ", path.display())) && !line.contains('\n'),
            "{line}"
        );
        path
    }

    /// Kills the server, and puts the backup and the key into a data directory with nothing else.
    fn put_back(&mut self, backup: &Path) {
        self.server.kill();
        let dir = self.server.data_dir();
        let key = fs::read(dir.join("secret.key")).unwrap();
        fs::rename(&dir, self.backups.path().join("lost")).unwrap();
        fs::create_dir(&dir).unwrap();
        fs::copy(backup, dir.join("impresario.db")).unwrap();
        fs::write(dir.join("secret.key"), key).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(dir.join("secret.key"), private).unwrap();
    }

    fn database(&self) -> rusqlite::Connection {
        database(&self.server.data_dir().join("impresario.db"))
    }

    fn assert_nothing_came_twice(&self) {
        let told = self.told();
        let once: BTreeSet<_> = told.iter().collect();
        assert_eq!(told.len(), once.len(), "{told:?}");
    }
}

fn database(path: &Path) -> rusqlite::Connection {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test looks at the database behind the store's back"
    )]
    rusqlite::Connection::open(path).unwrap()
}

fn count(database: &rusqlite::Connection, sql: &str) -> i64 {
    database.query_row(sql, [], |row| row.get(0)).unwrap()
}

const MARKS: &str = "SELECT COUNT(*) FROM settings WHERE name = 'restored_from'";

/// The rows of the ledger, oldest first: instant, what became of it, why, and for how many it stands.
fn ledger(client: &Client, id: &Value) -> Vec<(String, String, String, i64)> {
    let mut rows = client.history(id);
    rows.reverse();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let shown = |row: &Value| {
        let number = row["missed"].as_i64().unwrap();
        (
            text(&row["fire_at"]),
            text(&row["outcome"]),
            text(&row["reason"]),
            number,
        )
    };
    rows.iter().map(shown).collect()
}

fn row(number: u32, outcome: &str, reason: &str, missed: i64) -> (String, String, String, i64) {
    (minute(number), outcome.to_owned(), reason.to_owned(), missed)
}

#[test]
fn what_fired_after_the_backup_does_not_fire_again_and_the_next_instant_fires_on_time() {
    let mut stage = Stage::new();
    let ids = ["fire_once", "skip", "fire_all"].map(|policy| stage.every_minute(policy));
    stage.minutes(1..=2, &ids);
    let hears = json!({"url": stage.receiver.url(), "signing_secret": SECRET, "events": ["schedule.missed"]});
    stage.client.ok("webhooks/create", hears);
    let backup = stage.backup("running.db");
    stage.minutes(3..=5, &ids);
    stage.put_back(&backup);
    stage.server.write_clock("2027-01-01T00:08:20Z");
    stage.server.start_again();
    stage.minutes(9..=10, &ids);
    for id in &ids {
        assert_eq!(
            ledger(&stage.client, id),
            [
                row(1, "fired", "-", 0),
                row(2, "fired", "-", 0),
                row(3, "missed", "restored", 6),
                row(9, "fired", "-", 0),
                row(10, "fired", "-", 0),
            ]
        );
    }
    stage.assert_nothing_came_twice();
    let missed = wait_for("the news of what was missed", PATIENCE, || {
        let bodies: Vec<_> = stage.receiver.received().iter().map(|one| one.json()).collect();
        let missed: Vec<_> = bodies
            .iter()
            .filter(|body| body["event"] == "schedule.missed")
            .cloned()
            .collect();
        (missed.len() == 3).then_some(missed).ok_or(format!("{bodies:?}"))
    });
    for body in missed {
        assert_eq!(
            (&body["reason"], &body["missed"]),
            (&json!("restored"), &json!(6))
        );
    }
    assert_eq!(count(&stage.database(), MARKS), 0);
    let log = stage.server.log();
    assert!(
        log.contains("settled what a backup") && log.contains("18"),
        "{log}"
    );
}

#[test]
fn jobs_that_were_unfinished_in_the_backup_do_not_run_again_and_their_receivers_are_told() {
    let mut stage = Stage::new();
    let notes = tempfile::tempdir().unwrap();
    let note = |name: &str| notes.path().join(name);
    let job = |name: &str| {
        stage.client.create_job(json!({
            "workflow": "waits", "params": {"note": note(name)},
            "callback_url": stage.receiver.url(), "callback_secret": SECRET,
        }))
    };
    let jobs: Vec<_> = ["0", "1", "2", "3", "4"].map(job).into();
    wait_until("four to run and one to wait", PATIENCE, || {
        let began = (0..4).filter(|number| note(&number.to_string()).exists()).count();
        began == 4 && stage.client.job(&jobs[4])["status"] == "queued"
    });
    let backup = stage.backup("jobs.db");
    for number in 0..5 {
        fs::write(note(&format!("{number}.go")), "").unwrap();
    }
    stage.receiver.wait(5);
    stage.put_back(&backup);
    stage.server.start_again();
    for job in &jobs {
        let job = stage.client.job(job);
        assert_eq!(
            (&job["status"], &job["failure_class"]),
            (&json!("failed"), &json!("restored"))
        );
        assert!(
            job["error"].as_str().unwrap().contains("does not run again"),
            "{job}"
        );
    }
    let received = stage.receiver.wait(10);
    let failed = received.iter().filter(|one| one.json()["event"] == "job.failed");
    assert_eq!(failed.count(), 5);
    for number in 0..5 {
        let text = fs::read_to_string(note(&number.to_string())).unwrap();
        assert_eq!(text, "began\n", "it ran once");
    }
}

#[test]
fn kill_9_in_the_middle_of_the_settling_leaves_the_rest_to_the_next_start() {
    let mut stage = Stage::new();
    let id = stage.every_minute("fire_once");
    stage.minutes(1..=1, std::slice::from_ref(&id));
    let backup = stage.backup("many.db");
    stage.minutes(2..=3, std::slice::from_ref(&id));
    stage.put_back(&backup);
    // So many that the settling takes a while: each of them owes half a year of minutes.
    let connection = stage.database();
    let columns =
        "tenant_id, workflow, params, cron_expr, timezone, launch, skip_callbacks, enabled, pattern_since,
                   next_fire_at, next_due_at, created_at, updated_at";
    let copies = format!(
        "WITH RECURSIVE n (k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < 60)
         INSERT INTO schedules (id, {columns})
         SELECT printf('ffffffff-0000-7000-8000-%012d', k), {columns} FROM n, schedules"
    );
    connection.execute_batch(&copies).unwrap();
    stage.server.write_clock("2027-07-01T00:00:30Z");
    stage.server.launch();
    let rows = "SELECT COUNT(*) FROM fires WHERE reason = 'restored'";
    wait_until("some of it to be settled", PATIENCE, || {
        count(&connection, rows) > 0
    });
    stage.server.kill();
    let settled = count(&connection, rows);
    assert!(settled < 61, "it was not cut off, so this shows nothing");
    assert_eq!(count(&connection, MARKS), 1);
    // Meanwhile the clock has been behind: what is settled already must not seem to lie ahead.
    stage.server.write_clock("2027-03-01T00:00:30Z");
    let (status, log) = stage.server.start_another();
    assert!(
        !status.success() && log.contains("the clock stands before"),
        "{log}"
    );
    assert_eq!(count(&connection, rows), settled);
    stage.server.write_clock("2027-07-01T00:00:40Z");
    stage.server.start_again();
    assert_eq!((count(&connection, rows), count(&connection, MARKS)), (61, 0));
    assert_eq!(count(&connection, "SELECT COUNT(*) FROM fires"), 62);
    assert_eq!(
        count(
            &connection,
            "SELECT COUNT(*) FROM schedules WHERE next_fire_at <= 1814400040000"
        ),
        0
    );
    stage.assert_nothing_came_twice();
}

#[test]
fn by_a_clock_before_the_backup_nothing_starts_and_after_it_nothing_is_lost_or_comes_twice() {
    let mut stage = Stage::new();
    let id = stage.every_minute("fire_once");
    stage.minutes(1..=5, std::slice::from_ref(&id));
    let backup = stage.backup("clock.db");
    stage.minutes(6..=7, std::slice::from_ref(&id));
    stage.put_back(&backup);
    stage.server.write_clock("2027-01-01T00:02:30Z");
    let (status, log) = stage.server.start_another();
    assert_eq!(status.code(), Some(1));
    assert!(
        log.contains("2027-01-01T00:05:00") && log.contains("impresario restored"),
        "{log}"
    );
    // Set right.
    stage.server.write_clock("2027-01-01T00:08:30Z");
    stage.server.start_again();
    // And wrong once more, while it runs.
    for second in ["00:04:10", "00:06:00", "00:07:00"] {
        stage.server.set_clock(&format!("2027-01-01T{second}Z"));
    }
    stage.minutes(9..=9, std::slice::from_ref(&id));
    let fired = (1..=5).map(|number| row(number, "fired", "-", 0));
    let rest = [row(6, "missed", "restored", 3), row(9, "fired", "-", 0)];
    assert_eq!(ledger(&stage.client, &id), fired.chain(rest).collect::<Vec<_>>());
    stage.assert_nothing_came_twice();
}

#[test]
fn a_database_that_was_copied_by_hand_is_marked_by_a_command() {
    let mut stage = Stage::new();
    let id = stage.every_minute("fire_once");
    stage.minutes(1..=1, std::slice::from_ref(&id));
    let (code, error) = stage.server.cli_fails(&["restored"]);
    assert!(
        code == 1 && error.contains("another server is running"),
        "{error}"
    );
    stage.server.terminate();
    assert!(stage.server.ended().success());
    let copy = stage.backups.path().join("by-hand.db");
    let files = ["impresario.db", "impresario.db-wal"].map(|name| stage.server.data_dir().join(name));
    fs::copy(&files[0], &copy).unwrap();
    let log = fs::read(&files[1]).ok();
    stage.server.start_again();
    stage.minutes(2..=3, std::slice::from_ref(&id));
    stage.put_back(&copy);
    if let Some(log) = log {
        fs::write(&files[1], log).unwrap();
    }
    let line = stage.server.cli(&["restored"]);
    assert!(line.contains("next start") && !line.contains('\n'), "{line}");
    stage.server.write_clock("2027-01-01T00:03:10Z");
    stage.server.start_again();
    stage.minutes(4..=4, std::slice::from_ref(&id));
    assert_eq!(
        ledger(&stage.client, &id),
        [
            row(1, "fired", "-", 0),
            row(2, "missed", "restored", 2),
            row(4, "fired", "-", 0)
        ]
    );
    stage.assert_nothing_came_twice();
}

#[test]
fn a_restored_server_beside_the_first_leaves_its_runs_alone() {
    let stage = Stage::new();
    let notes = tempfile::tempdir().unwrap();
    let note = notes.path().join("run");
    let job = stage
        .client
        .create_job(json!({"workflow": "waits", "params": {"note": note}}));
    wait_until("the run to begin", PATIENCE, || note.exists());
    let backup = stage.backup("beside.db");
    let dir = stage.backups.path().join("beside");
    fs::create_dir(&dir).unwrap();
    fs::copy(&backup, dir.join("impresario.db")).unwrap();
    fs::copy(stage.server.data_dir().join("secret.key"), dir.join("secret.key")).unwrap();
    let mut beside = Setup::at("2027-01-01T00:01:00Z").embedded().unstarted();
    fs::rename(&dir, beside.data_dir()).unwrap();
    beside.start_again();
    assert_eq!(stage.client.job(&job)["status"], "running");
    fs::write(notes.path().join("run.go"), "").unwrap();
    stage.client.job_is(&job, "completed");
}

#[test]
fn a_backup_says_what_it_is_and_where_the_key_is() {
    let mut stage = Stage::new();
    let path = stage.backups.path().join("one.db");
    let file = path.to_str().unwrap();
    let ran = stage.server.cli_with(&["backup", file], &[], "");
    let size = path.metadata().unwrap().len();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout
            .starts_with(&format!("{file}  {size} bytes, schema version "))
            && ran.stdout.ends_with(", as of 2027-01-01T00:00:30.000Z\n"),
        "{}",
        ran.stdout
    );
    let key = stage.server.data_dir().join("secret.key");
    assert!(ran.stderr.contains(key.to_str().unwrap()), "{}", ran.stderr);
    let (code, error) = stage.server.cli_fails(&["backup", file]);
    assert!(code == 1 && error.contains("overwrites nothing"), "{error}");
    let (_, error) = stage.server.cli_fails(&["backup", "missing/folder/one.db"]);
    assert!(error.contains("there is no directory missing/folder"), "{error}");
    let (_, error) = stage.server.cli_fails(&["backup", "/proc/one.db"]);
    assert!(error.contains("/proc/one.db"), "{error}");
    let (_, error) = stage
        .server
        .cli_fails(&["backup", "--data-dir", "elsewhere", "new.db"]);
    assert!(error.contains("there is no database in elsewhere"), "{error}");
    // Without a server as well, and with the key elsewhere.
    stage.server.kill();
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let ran = stage
        .server
        .cli_with(&["backup", "two.db"], &[("IMPRESARIO_SECRET_KEY", key)], "");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("IMPRESARIO_SECRET_KEY") && !ran.stderr.contains(key),
        "{}",
        ran.stderr
    );
}
