//! From the embedded database to PostgreSQL with `impresario copy`: everything is there, goes on there, and no more here.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{
    Bundle, Client, Database, PATIENCE, Receiver, Reply, Server, Setup, assert_signed, wait_for, wait_until,
    workflow,
};

const OWN: &str = "whsec_c2VjcmV0IG9mIHRoZSBjYWxsYmFja3M=";
const STORED: &str = "secret of the stored webhook";

fn bundle() -> Bundle {
    Bundle::of(&format!(
        "{}{}{}export const kept = workflow('kept', (ctx, input) => input.credentials, {{ credentialNames: ['portal'] }});\n",
        workflow(
            "quick",
            "console.log('Grüße 🎭'); console.error('b'); return { n: 1 };"
        ),
        workflow("broken", "throw new TypeError('no such button');"),
        workflow(
            "waits",
            "(await import('node:fs')).writeFileSync(input.note, 'began'); await new Promise((done) => setTimeout(done, 600_000));"
        ),
    ))
}

/// Each page of a list that there is, by the route and the name of the list.
fn list(client: &Client, route: &str, name: &str) -> Vec<Value> {
    let answer = client.ok(route, json!({}));
    answer[name]
        .as_array()
        .unwrap_or_else(|| panic!("{route} has no {name}: {answer}"))
        .clone()
}

/// Whatever a tenant can ask for, by what was asked.
fn all_of(client: &Client) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for (route, name, get) in [
        ("deployments/list", "deployments", Some("deployments/sync")),
        ("workflows/list", "deployed_workflows", None),
        ("schedules/list", "schedules", Some("schedules/get")),
        ("jobs/list", "jobs", Some("jobs/get")),
        ("webhooks/list", "webhook_endpoints", None),
        ("webhooks/deliveries", "deliveries", None),
        ("credentials/list", "credentials", None),
    ] {
        let rows = list(client, route, name);
        assert!(!rows.is_empty(), "{route} has nothing to compare");
        for row in &rows {
            let id = ["id", "job_id", "deployment_id"]
                .iter()
                .find_map(|key| row[*key].as_str());
            if let (Some(get), Some(id)) = (get, id) {
                all.insert(format!("{get} {id}"), client.ok(get, json!({"id": id})));
            }
            if route == "schedules/list" {
                all.insert(
                    format!("history {}", row["id"]),
                    json!(client.history(&row["id"])),
                );
            }
            if route == "jobs/list" {
                let id = row["job_id"].as_str().or(row["id"].as_str());
                all.insert(
                    format!("logs {id:?}"),
                    client.ok("logs/list", json!({"jobId": id, "limit": 1000})),
                );
            }
        }
        all.insert(route.to_owned(), json!(rows));
    }
    all
}

fn stop(server: &mut Server) {
    server.terminate();
    assert!(server.ended().success());
}

fn copy(server: &Server, to: &Database) -> (String, String) {
    let from = format!("sqlite:{}", server.data_dir().display());
    let ran = server.cli_with(&["copy", "--from", &from, "--to", &to.url()], &[], "");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    (ran.stdout, ran.stderr)
}

#[test]
fn everything_is_the_same_on_postgresql_and_goes_on_there_alone() {
    let mut server = Setup::at("2027-01-01T00:00:30Z").embedded().start();
    let (own, stored) = (Receiver::start(), Receiver::start());
    let client = server.tenant("acme");
    let other = server.tenant("zulu");
    for client in [&client, &other] {
        client.deploy(&bundle());
        client.ok(
            "credentials/create",
            json!({"name": "portal", "value": "hunter2"}),
        );
        client.ok(
            "webhooks/create",
            json!({"url": stored.url(), "signing_secret": STORED}),
        );
    }
    // One that is not taken is still owed.
    own.reply([Reply::Busy(3600)]);
    let mut ids = Vec::new();
    for (misfire, overlap) in [
        ("fire_once", "allow"),
        ("skip", "skip"),
        ("fire_all", "buffer_one"),
        ("fire_once", "cancel_running"),
    ] {
        let schedule = client.schedule(json!({
            "workflow": "quick", "cron_expr": "* * * * *", "misfire_policy": misfire, "overlap_policy": overlap,
            "name": format!("{misfire} {overlap}"), "tags": ["a", "b"], "callback_url": own.url(), "callback_secret": OWN,
        }));
        ids.push(schedule["id"].clone());
    }
    other.schedule(json!({"workflow": "broken", "cron_expr": "1 0 * * *"}));
    client.run(json!({"workflow": "broken", "nonce": "once"}));
    server.set_clock("2027-01-01T00:01:00Z");
    for id in &ids {
        let fire = client.fired(id, "2027-01-01T00:01:00.000Z");
        client.job_ended(&fire["job_id"]);
    }
    own.wait(4);
    stored.wait(2);
    // Nothing is under way any more.
    for client in [&client, &other] {
        wait_until("all attempts to be on record", PATIENCE, || {
            list(client, "webhooks/deliveries", "deliveries")
                .iter()
                .all(|one| one["attempts"] == 1)
        });
    }
    let before = [all_of(&client), all_of(&other)];
    let tenants = server.cli(&["tenant", "list"]);
    stop(&mut server);

    let database = Database::new();
    let (summary, told) = copy(&server, &database);
    assert!(
        summary.starts_with("copied ") && summary.trim_end().lines().count() == 1,
        "{summary}"
    );
    let key = server.data_dir().join("secret.key");
    let file = std::fs::read_to_string(&key).unwrap();
    assert!(
        told.contains("jobs: 6 rows") && told.contains(&key.display().to_string()),
        "{told}"
    );
    assert!(!told.contains(file.trim()), "the key is shown");
    // The old directory is a backup now, and no more.
    for command in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["tenant", "create", "late"],
    ] {
        let (_, error) = server.cli_fails(command);
        assert!(
            error.contains("both fire") && error.contains("copy --undo"),
            "{error}"
        );
    }

    server.move_to(database);
    server.start_again();
    let after = [all_of(&client), all_of(&other)];
    for (before, after) in before.iter().zip(&after) {
        for (asked, answer) in before {
            assert_eq!(after.get(asked), Some(answer), "{asked}");
        }
    }
    assert_eq!(server.cli(&["tenant", "list"]), tenants);
    // What was asked for once is not asked for again.
    client.refused("jobs/create", json!({"workflow": "quick", "nonce": "once"}), 409);

    server.set_clock("2027-01-01T00:02:00Z");
    for id in &ids {
        let fire = client.fired(id, "2027-01-01T00:02:00.000Z");
        client.job_ended(&fire["job_id"]);
        let fires = client.history(id);
        assert_eq!(fires.len(), 2, "{fires:?}");
    }
    for told in &own.wait(8)[4..] {
        assert_signed(told, OWN);
    }
    let job = other.run(json!({"workflow": "kept"}));
    assert_eq!(job["result"], json!({"portal": "hunter2"}), "{job}");
    assert_signed(&stored.wait(3)[2], STORED);
    // The one that was owed.
    server.set_clock("2027-01-01T01:30:00Z");
    let first = own.received()[0].header("webhook-id").unwrap().to_owned();
    wait_for("the second attempt", PATIENCE, || {
        let again = own
            .received()
            .into_iter()
            .skip(1)
            .find(|told| told.header("webhook-id") == Some(&first));
        again.ok_or_else(|| "it has not come".to_owned())
    });
}

#[test]
fn what_a_killed_server_held_is_settled_on_the_way() {
    let mut server = Setup::at("2027-01-01T00:00:30Z").embedded().start();
    let receiver = Receiver::start();
    let client = server.tenant("acme");
    client.deploy(&bundle());
    let note = server.data_dir().join("note");
    let job = client.create_job(json!({
        "workflow": "waits", "params": {"note": note}, "callback_url": receiver.url(), "callback_secret": OWN,
    }));
    wait_until("the run", PATIENCE, || note.exists());
    client.job_is(&job, "running");
    server.kill();

    let database = Database::new();
    copy(&server, &database);
    server.move_to(database);
    server.start_again();
    let job = client.job(&job);
    assert_eq!(
        (&job["status"], &job["failure_class"]),
        (&json!("failed"), &json!("worker_lost")),
        "{job}"
    );
    assert_signed(&receiver.wait(1)[0], OWN);
}

#[test]
fn a_copy_is_taken_back_deliberately() {
    let mut server = Setup::at("2027-01-01T00:00:30Z").embedded().start();
    let client = server.tenant("acme");
    stop(&mut server);
    let database = Database::new();
    copy(&server, &database);
    let from = format!("sqlite:{}", server.data_dir().display());
    let ran = server.cli_with(&["copy", "--undo", "--from", &from], &[], "");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout.contains("may start on") && ran.stderr.contains("both would fire"),
        "{ran:?}"
    );
    server.start_again();
    client.ok("schedules/list", json!({}));
    // And its target is one that has been used.
    stop(&mut server);
    let ran = server.cli_with(&["copy", "--from", &from, "--to", &database.url()], &[], "");
    assert!(
        ran.code == 1 && ran.stderr.contains("is in use: there are rows in"),
        "{ran:?}"
    );
    server.start_again();
}

#[test]
fn a_copy_that_is_killed_starts_no_server_and_is_ended_by_the_same_command() {
    let mut server = Setup::at("2027-01-01T00:00:30Z").embedded().start();
    let client = server.tenant("acme");
    client.deploy(&bundle());
    client.run(json!({"workflow": "quick"}));
    stop(&mut server);
    let database = Database::new();
    let from = format!("sqlite:{}", server.data_dir().display());
    server.cli_killed(
        &["copy", "--from", &from, "--to", &database.url()],
        "bundles: 1 row",
    );
    let (_, error) = server.cli_fails(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(error.contains("copy --undo"), "{error}");
    let ran = server.cli_with(&["copy", "--from", &from, "--to", &database.url()], &[], "");
    // It may have been killed too late, when all was done.
    assert!(ran.code == 0 || ran.stderr.contains("was copied to"), "{ran:?}");
    server.move_to(database);
    server.start_again();
    assert_eq!(list(&client, "jobs/list", "jobs").len(), 1);
}
