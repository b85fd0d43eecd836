//! Programs and databases of different versions: who goes on beside whom, and what the others are told.

use serde_json::json;

use crate::support::{Bundle, Database, Server, Setup};

const HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A server that is not started, on a database of its own.
fn on(database: Database) -> Server {
    let mut server = Setup::at("2027-01-01T00:00:30Z").embedded().unstarted();
    server.move_to(database);
    server
}

#[test]
fn a_program_goes_on_with_the_schema_of_the_next_version() {
    let mut server = on(Database::new());
    let said = server.cli(&["migrate"]);
    assert!(said.contains("has its tables now"), "{said}");
    assert!(server.cli(&["migrate"]).contains("already"));
    // As the next version's migration would leave it: it only adds, and says that this version may go on.
    for sql in [
        "ALTER TABLE schedules ADD COLUMN next_version TEXT",
        "ALTER TABLE jobs ADD COLUMN next_version BIGINT NOT NULL DEFAULT 0",
        "CREATE TABLE next_version (id BIGINT PRIMARY KEY)",
    ] {
        server.behind_its_back(sql, &[]);
    }
    let next = "INSERT INTO schema_migrations SELECT max(version) + 1, 'next', ?1, max(version) FROM schema_migrations";
    server.behind_its_back(next, &[HASH]);

    server.start_again();
    let client = server.tenant("acme");
    client.deploy(&Bundle::with("quick", "return 7;"));
    let id = client.schedule(json!({"workflow": "quick", "cron_expr": "* * * * *"}))["id"].clone();
    server.set_clock("2027-01-01T00:01:00Z");
    let fire = client.fired(&id, "2027-01-01T00:01:00.000Z");
    assert_eq!(client.job_ended(&fire["job_id"])["result"], 7);
    server.terminate();
    assert!(server.ended().success());

    // A version that takes something away says that this one may not.
    let last = "UPDATE schema_migrations SET oldest = version WHERE name = 'next'";
    server.behind_its_back(last, &[]);
    for command in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["migrate"],
        &["tenant", "list"],
    ] {
        let (_, error) = server.cli_fails(command);
        assert!(
            error.contains("cannot use, and this program knows") && error.contains("use the newer program"),
            "{error}"
        );
    }
}

#[test]
fn a_server_starts_on_no_database_that_is_not_migrated_or_is_behind() {
    let server = on(Database::new());
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    let (_, error) = server.cli_fails(&serve);
    assert!(
        error.contains("has no tables of Impresario's yet: run `impresario migrate`"),
        "{error}"
    );
    server.cli(&["migrate"]);
    let newest = "DELETE FROM schema_migrations WHERE version = (SELECT max(version) FROM schema_migrations)";
    server.behind_its_back(newest, &[]);
    let (_, error) = server.cli_fails(&serve);
    assert!(
        error.contains("and this program needs") && error.contains("run `impresario migrate`"),
        "{error}"
    );
}
