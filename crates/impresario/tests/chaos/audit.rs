//! A record of every write that was committed, kept by triggers inside the database, so in the same transaction and in
//! the order of the rows' locks: what became of a request whose answer was lost, who held a job when somebody else
//! wrote to it, and what the end state alone does not tell.

use std::fmt;

use serde_json::Value;

use crate::db::Db;

/// A table that is watched: its key, what is kept of a row, and which changes are of interest.
struct Watched {
    table: &'static str,
    key: &'static str,
    columns: &'static [&'static str],
    /// An update that changes none of these is not kept; empty: each is.
    of_interest: &'static [&'static str],
}

const WATCHED: [Watched; 5] = [
    Watched {
        table: "schedules",
        key: "id",
        columns: &[
            "tenant_id",
            "name",
            "cron_expr",
            "timezone",
            "start_at",
            "end_at",
            "jitter_seconds",
            "misfire_policy",
            "overlap_policy",
            "enabled",
            "pattern_since",
            "updated_at",
            "disabled_at",
            "next_fire_at",
        ],
        of_interest: &[
            "cron_expr",
            "timezone",
            "enabled",
            "pattern_since",
            "updated_at",
            "jitter_seconds",
            "misfire_policy",
            "disabled_at",
        ],
    },
    Watched {
        table: "fires",
        key: "schedule_id",
        columns: &[
            "fire_at",
            "outcome",
            "reason",
            "recorded_at",
            "due_at",
            "job_id",
            "missed",
            "missed_until",
        ],
        of_interest: &[],
    },
    Watched {
        table: "jobs",
        key: "id",
        columns: &[
            "schedule_id",
            "fire_at",
            "status",
            "attempt",
            "lease_token",
            "lease_until",
            "cancel_requested",
            "held",
            "catch_up",
            "failure_class",
            "error",
            "result",
            "completed_at",
        ],
        of_interest: &[
            "status",
            "attempt",
            "lease_token",
            "cancel_requested",
            "held",
            "failure_class",
            "error",
            "result",
            "completed_at",
        ],
    },
    Watched {
        table: "deliveries",
        key: "id",
        columns: &["job_id", "status", "attempts", "lease_token", "lease_until"],
        of_interest: &["status", "attempts", "lease_token"],
    },
    Watched {
        table: "job_logs",
        key: "job_id",
        columns: &["message"],
        of_interest: &[],
    },
];

/// One committed write.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its place: of two writes to one row, the one that came first has the lower.
    pub(crate) n: i64,
    /// When it was made and when it was committed, by the database's clock.
    pub(crate) at: i64,
    pub(crate) committed: i64,
    /// The node it came from.
    pub(crate) who: String,
    pub(crate) table: String,
    pub(crate) what: String,
    pub(crate) id: String,
    pub(crate) was: Value,
    pub(crate) now: Value,
    /// Of a job's log line: where the job stood and under which token.
    pub(crate) job: Value,
}

impl fmt::Display for Entry {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            n,
            at,
            committed,
            who,
            ..
        } = self;
        write!(
            to,
            "[{n}] {at}+{} {who}: {} {} {}",
            committed - at,
            self.what,
            self.table,
            self.id
        )?;
        for (name, value) in [("was", &self.was), ("now", &self.now), ("of", &self.job)] {
            if !value.is_null() {
                write!(to, " {name} {value}")?;
            }
        }
        Ok(())
    }
}

/// Begins the record. The tables must be there.
pub(crate) fn install(db: &mut Db) {
    let postgres = matches!(db, Db::Postgres { .. });
    if postgres {
        db.run(
            "CREATE SCHEMA chaos;
             CREATE TABLE chaos.audit (n BIGSERIAL PRIMARY KEY, at BIGINT NOT NULL, tx XID8 NOT NULL, who TEXT NOT NULL,
               about TEXT NOT NULL, what TEXT NOT NULL, id TEXT NOT NULL, was JSONB, now JSONB, job JSONB)",
        );
    } else {
        db.run(
            "CREATE TABLE chaos_audit (n INTEGER PRIMARY KEY, at INTEGER NOT NULL, who TEXT NOT NULL,
               about TEXT NOT NULL, what TEXT NOT NULL, id TEXT NOT NULL, was TEXT, now TEXT, job TEXT)",
        );
    }
    for watched in &WATCHED {
        let there = columns_of(db, watched.table, postgres);
        for what in ["INSERT", "UPDATE", "DELETE"] {
            if watched.table == "job_logs" && what != "INSERT" {
                continue;
            }
            let sql = if postgres {
                trigger(watched, what, &there)
            } else {
                trigger_of_sqlite(watched, what, &there)
            };
            db.run(&sql);
        }
    }
}

fn columns_of(db: &mut Db, table: &str, postgres: bool) -> Vec<String> {
    let sql = if postgres {
        format!("SELECT column_name AS name FROM information_schema.columns WHERE table_name = '{table}'")
    } else {
        format!("SELECT name FROM pragma_table_info('{table}')")
    };
    let rows = db.rows(&sql);
    let name = |row: &Value| row["name"].as_str().unwrap().to_owned();
    rows.iter().map(name).collect()
}

/// What is kept of the row `OLD` or `NEW`.
fn object(watched: &Watched, there: &[String], row: &str, function: &str) -> String {
    let kept = watched
        .columns
        .iter()
        .filter(|name| there.iter().any(|one| one == *name));
    let pairs: Vec<String> = kept.map(|name| format!("'{name}', {row}.{name}")).collect();
    format!("{function}({})", pairs.join(", "))
}

fn sides(watched: &Watched, what: &str, there: &[String], function: &str) -> (String, String, String) {
    let side = |row: &str, absent: &str| match what == absent {
        true => "NULL".to_owned(),
        false => object(watched, there, row, function),
    };
    let row = if what == "DELETE" { "OLD" } else { "NEW" };
    (
        side("OLD", "INSERT"),
        side("NEW", "DELETE"),
        format!("{row}.{}", watched.key),
    )
}

fn condition(watched: &Watched, what: &str, there: &[String], differ: &str) -> String {
    let named = watched
        .of_interest
        .iter()
        .filter(|name| there.iter().any(|one| one == *name));
    let each: Vec<String> = named
        .map(|name| format!("OLD.{name} {differ} NEW.{name}"))
        .collect();
    if what != "UPDATE" || each.is_empty() {
        return String::new();
    }
    format!("WHEN ({})", each.join(" OR "))
}

/// Where a log line's job stood when it was written.
fn job(watched: &Watched, function: &str) -> String {
    match watched.table {
        "job_logs" => format!(
            "(SELECT {function}('status', j.status, 'lease_token', j.lease_token) FROM jobs j WHERE j.id = NEW.job_id)"
        ),
        _ => "NULL".to_owned(),
    }
}

fn trigger(watched: &Watched, what: &str, there: &[String]) -> String {
    let function = "jsonb_build_object";
    let (was, now, id) = sides(watched, what, there, function);
    let (table, when) = (watched.table, condition(watched, what, there, "IS DISTINCT FROM"));
    let (name, job) = (format!("{table}_{}", what.to_lowercase()), job(watched, function));
    format!(
        "CREATE FUNCTION chaos.{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           INSERT INTO chaos.audit (at, tx, who, about, what, id, was, now, job) VALUES (
             (extract(epoch FROM clock_timestamp()) * 1000)::bigint, pg_current_xact_id(),
             current_setting('application_name'), '{table}', '{what}', {id}, {was}, {now}, {job});
           RETURN NULL; END $$;
         CREATE TRIGGER chaos_{name} AFTER {what} ON {table} FOR EACH ROW {when} EXECUTE FUNCTION chaos.{name}()"
    )
}

fn trigger_of_sqlite(watched: &Watched, what: &str, there: &[String]) -> String {
    let function = "json_object";
    let (was, now, id) = sides(watched, what, there, function);
    let (table, when) = (watched.table, condition(watched, what, there, "IS NOT"));
    let (name, job) = (format!("{table}_{}", what.to_lowercase()), job(watched, function));
    format!(
        "CREATE TRIGGER chaos_{name} AFTER {what} ON {table} {when} BEGIN
           INSERT INTO chaos_audit (at, who, about, what, id, was, now, job) VALUES (
             CAST(unixepoch('subsec') * 1000 AS INTEGER), '', '{table}', '{what}', {id}, {was}, {now}, {job});
         END"
    )
}

/// All of the record, in order.
pub(crate) fn read(db: &mut Db) -> Vec<Entry> {
    let sql = match db {
        Db::Postgres { .. } => {
            "SELECT n, at, (extract(epoch FROM pg_xact_commit_timestamp(tx::xid)) * 1000)::bigint AS committed, who, about,
               what, id, was, now, job FROM chaos.audit ORDER BY n"
        }
        Db::Sqlite(_) => {
            "SELECT n, at, at AS committed, who, about, what, id, was, now, job FROM chaos_audit ORDER BY n"
        }
    };
    let mut rows = db.rows(sql);
    rows.iter_mut().map(entry).collect()
}

fn entry(row: &mut Value) -> Entry {
    // SQLite gives the objects as text.
    let mut object = |name: &str| match row[name].take() {
        Value::String(text) => serde_json::from_str(&text).unwrap(),
        other => other,
    };
    let (was, now, job) = (object("was"), object("now"), object("job"));
    let text = |name: &str| row[name].as_str().unwrap().to_owned();
    let at = row["at"].as_i64().unwrap();
    Entry {
        n: row["n"].as_i64().unwrap(),
        at,
        committed: row["committed"].as_i64().unwrap_or(at),
        who: text("who"),
        table: text("about"),
        what: text("what"),
        id: text("id"),
        was,
        now,
        job,
    }
}
