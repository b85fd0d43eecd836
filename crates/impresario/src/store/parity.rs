//! The two engines' schemas are the same: each is described out of its own catalogue, in the same lines, and the lines are
//! compared. `schema_migrations` is each engine's own.

use std::collections::BTreeSet;

use rusqlite::Connection;

use super::{Access, Store, postgres::schema::Schema, tx::Session, tx::Tx};

/// Whatever there is, as lines such as `jobs: column attempt Int not null default 0`.
type Lines = BTreeSet<String>;

fn line(lines: &mut Lines, table: &str, text: &str) {
    lines.insert(format!("{table}: {text}"));
}

/// A condition or a default, without what an engine adds when it writes it back: brackets, casts, the space it likes.
fn plain(expression: &str) -> String {
    let no_casts = expression.replace("::text", "").replace("::bigint", "");
    // PostgreSQL writes `a IN (b, c)` as `a = ANY (ARRAY[b, c])`.
    let listed = no_casts
        .replace("= ANY (ARRAY[", "IN ")
        .replace([']', '(', ')'], " ");
    let words: Vec<&str> = listed.split_whitespace().collect();
    words.join(" ").replace(" ,", ",")
}

/// What stands in the brackets that follow each `CHECK` in a table's text.
fn checks(sql: &str) -> Vec<String> {
    let code: Vec<&str> = sql.lines().map(|line| line.split("--").next().unwrap()).collect();
    let code = code.join("\n");
    code.split("CHECK")
        .skip(1)
        .map(|rest| {
            let mut depth = 0;
            let end = rest.char_indices().find(|(_, c)| {
                depth += match c {
                    '(' => 1,
                    ')' => -1,
                    _ => 0,
                };
                *c == ')' && depth == 0
            });
            plain(&rest[..=end.unwrap().0])
        })
        .collect()
}

fn strings(connection: &Connection, sql: &str, parameter: &str) -> Vec<Vec<String>> {
    let mut statement = connection.prepare(sql).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([parameter], |row| {
        (0..columns)
            .map(|index| Ok(row.get::<_, Option<String>>(index)?.unwrap_or_default()))
            .collect()
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn of_sqlite(connection: &Connection) -> Lines {
    let mut lines = Lines::new();
    let tables = "SELECT name, sql FROM sqlite_master
        WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name <> $1";
    for table in strings(connection, tables, "schema_migrations") {
        let (name, sql) = (&*table[0], &*table[1]);
        line(&mut lines, name, "table");
        let columns =
            "SELECT name, type, CAST(\"notnull\" OR pk > 0 AS TEXT), dflt_value, CAST(hidden > 0 AS TEXT),
            CAST(pk AS TEXT) FROM pragma_table_xinfo($1) ORDER BY pk";
        let mut key = Vec::new();
        for column in strings(connection, columns, name) {
            let numbered = column[5] == "1" && sql.contains("AUTOINCREMENT");
            describe_column(&mut lines, name, &column, numbered);
            if column[5] != "0" {
                key.push(column[0].clone());
            }
        }
        if !key.is_empty() {
            line(&mut lines, name, &format!("primary key ({})", key.join(", ")));
        }
        for check in checks(sql) {
            line(&mut lines, name, &format!("check {check}"));
        }
        let references =
            "SELECT group_concat(\"from\", ', '), \"table\", group_concat(\"to\", ', '), on_update, on_delete
            FROM pragma_foreign_key_list($1) GROUP BY id ORDER BY id, seq";
        for key in strings(connection, references, name) {
            line(&mut lines, name, &reference(&key));
        }
        let indexes = "SELECT i.name, i.origin, CAST(i.\"unique\" AS TEXT), m.sql,
              (SELECT group_concat(coalesce(x.name, '?') || iif(x.\"desc\", ' desc', ''), ', ' ORDER BY x.seqno)
               FROM pragma_index_xinfo(i.name) x WHERE x.key = 1)
            FROM pragma_index_list($1) i LEFT JOIN sqlite_master m ON m.name = i.name";
        for index in strings(connection, indexes, name) {
            match &*index[1] {
                "c" => {
                    let condition = index[3].split_once("WHERE").map_or("", |(_, text)| text);
                    describe_index(&mut lines, name, [&index[0], &index[2], &index[4], condition]);
                }
                "u" => line(&mut lines, name, &format!("unique ({})", index[4])),
                _ => {}
            }
        }
    }
    lines
}

fn of_postgres(tx: &mut Tx<'_>) -> Lines {
    let mut ask = |sql: &str, columns: &[&str]| -> Vec<Vec<String>> {
        tx.query(sql, &[], |row| {
            columns
                .iter()
                .map(|column| Ok(row.get::<Option<String>>(column)?.unwrap_or_default()))
                .collect()
        })
        .unwrap()
    };
    let ours = "n.nspname = current_schema() AND t.relname <> 'schema_migrations'";
    let mut lines = Lines::new();
    let columns = format!(
        "SELECT t.relname::text AS \"table\", c.attname::text AS name, format_type(c.atttypid, NULL)
            || CASE WHEN c.attcollation <> 0 AND l.collname <> 'C' THEN ' collate ' || l.collname ELSE '' END AS type,
            c.attnotnull::int::text AS required, CASE WHEN c.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END AS initial,
            (c.attgenerated <> '')::int::text AS generated, (c.attidentity <> '')::text AS numbered
         FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace
         JOIN pg_attribute c ON c.attrelid = t.oid AND c.attnum > 0 AND NOT c.attisdropped
         LEFT JOIN pg_attrdef d ON d.adrelid = t.oid AND d.adnum = c.attnum
         LEFT JOIN pg_collation l ON l.oid = c.attcollation
         WHERE {ours} AND t.relkind = 'r'"
    );
    let names = [
        "table",
        "name",
        "type",
        "required",
        "initial",
        "generated",
        "numbered",
    ];
    for column in ask(&columns, &names) {
        line(&mut lines, &column[0], "table");
        describe_column(&mut lines, &column[0], &column[1..], column[6] == "true");
    }
    let list = |of: &str, relation: &str| {
        format!(
            "(SELECT string_agg(a.attname, ', ' ORDER BY u.place) FROM unnest({of}) WITH ORDINALITY u (number, place)
              JOIN pg_attribute a ON a.attrelid = {relation} AND a.attnum = u.number)"
        )
    };
    let constraints = format!(
        "SELECT t.relname::text AS \"table\", k.contype::text AS kind, {} AS columns, o.relname::text AS other,
            {} AS others, CASE k.confupdtype WHEN 'a' THEN 'NO ACTION' ELSE k.confupdtype::text END AS updated,
            CASE k.confdeltype WHEN 'a' THEN 'NO ACTION' ELSE k.confdeltype::text END AS deleted,
            pg_get_expr(k.conbin, k.conrelid) AS condition
         FROM pg_constraint k JOIN pg_class t ON t.oid = k.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace
         LEFT JOIN pg_class o ON o.oid = k.confrelid WHERE {ours}",
        list("k.conkey", "k.conrelid"),
        list("k.confkey", "k.confrelid"),
    );
    let names = [
        "table",
        "kind",
        "columns",
        "other",
        "others",
        "updated",
        "deleted",
        "condition",
    ];
    for found in ask(&constraints, &names) {
        let text = match &*found[1] {
            "p" => format!("primary key ({})", found[2]),
            "u" => format!("unique ({})", found[2]),
            "f" => reference(&found[2..7]),
            "c" => format!("check {}", plain(&found[7])),
            // That a column is not null is one of its own in newer versions of the server.
            "n" => continue,
            other => panic!("a constraint of the kind {other}"),
        };
        line(&mut lines, &found[0], &text);
    }
    let indexes = format!(
        "SELECT t.relname::text AS \"table\", i.relname::text AS name, x.indisunique::int::text AS is_unique,
            (SELECT string_agg(pg_get_indexdef(i.oid, place, true)
               || CASE WHEN x.indoption[place - 1] & 1 = 1 THEN ' desc' ELSE '' END, ', ' ORDER BY place)
             FROM generate_series(1, x.indnkeyatts::int) place) AS columns,
            pg_get_expr(x.indpred, x.indrelid) AS condition
         FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
         JOIN pg_namespace n ON n.oid = t.relnamespace
         WHERE {ours} AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = x.indexrelid AND k.contype IN ('p', 'u'))"
    );
    for index in ask(&indexes, &["table", "name", "is_unique", "columns", "condition"]) {
        describe_index(
            &mut lines,
            &index[0],
            [&index[1], &index[2], &index[3], &index[4]],
        );
    }
    lines
}

/// Of name, type, whether it must have a value, default, whether it is worked out of others.
fn describe_column(lines: &mut Lines, table: &str, column: &[String], numbered: bool) {
    let class = match &*column[1] {
        "INTEGER" | "bigint" => "integer",
        "TEXT" | "text" => "text",
        "BLOB" | "bytea" => "bytes",
        other => other,
    };
    let mut text = format!("column {} {class}", column[0]);
    let parts = [
        (column[2] == "1", " not null"),
        (column[4] == "1", " generated"),
        (numbered, " numbered"),
    ];
    for (_, part) in parts.iter().filter(|(has, _)| *has) {
        text.push_str(part);
    }
    if !column[3].is_empty() {
        text.push_str(&format!(" default {}", plain(&column[3])));
    }
    line(lines, table, &text);
}

/// Of columns, table, columns there, and what becomes of them when those are updated or deleted.
fn reference(of: &[String]) -> String {
    format!(
        "({}) refers to {} ({}), on update {}, on delete {}",
        of[0], of[1], of[2], of[3], of[4]
    )
}

/// Of name, whether it is unique, columns, condition.
fn describe_index(lines: &mut Lines, table: &str, [name, unique, columns, condition]: [&str; 4]) {
    let mut text = format!("index {name} ({columns})");
    if unique == "1" {
        text.push_str(" unique");
    }
    if !condition.is_empty() {
        text.push_str(&format!(" where {}", plain(condition)));
    }
    line(lines, table, &text);
}

/// What only one of them has, with a sign that says which.
fn differences(sqlite: &Lines, postgres: &Lines) -> Vec<String> {
    let only = |sign: &str, lines: Vec<&String>| -> Vec<String> {
        lines.into_iter().map(|line| format!("{sign} {line}")).collect()
    };
    let mut all = only("SQLite:", sqlite.difference(postgres).collect());
    all.extend(only("PostgreSQL:", postgres.difference(sqlite).collect()));
    all
}

struct Both {
    _folder: tempfile::TempDir,
    sqlite: Connection,
    postgres: Schema,
}

impl Both {
    fn migrated() -> Self {
        let folder = tempfile::tempdir().unwrap();
        drop(Store::open(folder.path(), Access::Tool).unwrap());
        let path = folder.path().join("impresario.db");
        Self {
            sqlite: Connection::open_with_flags(path, rusqlite::OpenFlags::default()).unwrap(),
            postgres: Schema::new(),
            _folder: folder,
        }
    }

    fn lines(&self) -> (Lines, Lines) {
        let mut tx = Tx::new(Session::Postgres(&self.postgres.session), "parity");
        (of_sqlite(&self.sqlite), of_postgres(&mut tx))
    }
}

#[test]
fn both_engines_have_the_same_tables_columns_keys_checks_and_indexes() {
    let (sqlite, postgres) = Both::migrated().lines();
    // Lest both be found to be empty.
    for expected in [
        "jobs: column credential_id text generated",
        "deployments: column number integer not null numbered",
        "schedules: column misfire_policy text not null default 'fire_once'",
        "schedules: check misfire_policy IN 'fire_once', 'skip', 'fire_all'",
        "job_logs: unique (tenant_id, number)",
        "fires: primary key (schedule_id, fire_at)",
        "jobs: (deployment_id) refers to deployments (id), on update NO ACTION, on delete NO ACTION",
        "deliveries: index deliveries_waiting (tenant_id, url, next_attempt_at, id) where status = 'pending' AND \
         lease_token IS NULL AND next_attempt_at IS NOT NULL",
    ] {
        assert!(sqlite.contains(expected), "no {expected} in {sqlite:#?}");
    }
    let differences = differences(&sqlite, &postgres);
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn whatever_one_of_them_lacks_is_noticed() {
    let both = Both::migrated();
    let (sqlite, before) = both.lines();
    for (change, noticed) in [
        ("DROP INDEX jobs_by_lease", "SQLite: jobs: index jobs_by_lease"),
        (
            "ALTER TABLE tenants ADD COLUMN extra BIGINT",
            "PostgreSQL: tenants: column extra integer",
        ),
        (
            "ALTER TABLE tenants ALTER COLUMN created_at DROP NOT NULL",
            "SQLite: tenants: column created_at",
        ),
        (
            "ALTER TABLE tenants ALTER COLUMN created_at SET DEFAULT 5",
            "default 5",
        ),
        (
            "ALTER TABLE tenants ALTER COLUMN created_at TYPE TEXT",
            "column created_at text",
        ),
        (
            "ALTER TABLE tenants ALTER COLUMN name TYPE TEXT COLLATE \"en-x-icu\"",
            "collate en-x-icu",
        ),
        (
            "ALTER TABLE tenants DROP CONSTRAINT tenants_name_key",
            "SQLite: tenants: unique (name)",
        ),
        (
            "ALTER TABLE secrets DROP CONSTRAINT secrets_tenant_id_fkey",
            "SQLite: secrets: (tenant_id) refers to",
        ),
        (
            "ALTER TABLE jobs DROP CONSTRAINT jobs_held_check",
            "SQLite: jobs: check held IN 0, 1",
        ),
        (
            "DROP INDEX deliveries_in_flight; CREATE INDEX deliveries_in_flight ON deliveries (tenant_id, url)",
            "where lease_token IS NOT NULL",
        ),
        (
            "DROP INDEX deployments_by_tenant; CREATE INDEX deployments_by_tenant ON deployments (number, tenant_id)",
            "(number, tenant_id)",
        ),
        (
            "CREATE TABLE more (id BIGINT PRIMARY KEY)",
            "PostgreSQL: more: table",
        ),
    ] {
        let session = &both.postgres.session;
        session.batch(&format!("BEGIN; {change}")).unwrap();
        let (_, after) = both.lines();
        session.batch("ROLLBACK").unwrap();
        let found = differences(&sqlite, &after);
        assert!(
            found.iter().any(|line| line.contains(noticed)),
            "{change}: {found:#?}"
        );
    }
    assert_eq!(both.lines().1, before);
}
