//! `webhooks` and `credentials`: what is set is what the server uses, and no secret is seen where it is not asked for.

use serde_json::{Value, json};

use crate::{
    cli_deploy::Shell,
    support::{Bundle, PATIENCE, Receiver, Reply, Server, Setup, assert_signed, wait_for},
};

const NOBODY: &str = "019e2a35-1f4e-7c11-9d0a-6b1f0b7a3c58";

fn start() -> Server {
    Setup::at("2027-01-01T00:00:30Z").start()
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

fn endpoints(shell: &Shell<'_>) -> Vec<Value> {
    let answer = shell.client.ok("webhooks/list", json!({}));
    answer["webhook_endpoints"].as_array().unwrap().clone()
}

/// Runs a job, and waits until the receiver has been told.
#[track_caller]
fn hear(shell: &Shell<'_>, receiver: &Receiver) -> crate::support::Received {
    let before = receiver.received().len();
    shell.client.run(json!({"workflow": "w"}));
    receiver.wait_at_least(before + 1);
    receiver.received()[before].clone()
}

#[test]
fn the_secret_that_the_server_makes_stands_alone_on_stdout() {
    let server = start();
    let shell = Shell::of(&server, "acme");
    let receiver = Receiver::start();
    shell.client.deploy(&Bundle::with("w", "return 1;"));
    let ran = shell.ok(&["webhooks", "create", &receiver.url()]);
    let id = endpoints(&shell)[0]["webhook_endpoint_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let secret = ran.stdout.trim_end_matches('\n');
    assert!(secret.starts_with("whsec_") && !secret.contains('\n'), "{ran:?}");
    assert_eq!(
        ran.stderr,
        format!("impresario: webhook {id} is stored; its signing secret is shown this once:\n")
    );
    assert_signed(&hear(&shell, &receiver), secret);
    for shown in [
        shell.ok(&["webhooks", "list"]),
        shell.ok(&["webhooks", "list", "--json"]),
        shell.ok(&["webhooks", "deliveries"]),
    ] {
        assert!(!format!("{shown:?}").contains(secret), "{shown:?}");
    }
    let made = shell.json(&["webhooks", "create", "https://example.com/a"]);
    assert!(
        made["signing_secret"].as_str().unwrap().starts_with("whsec_"),
        "{made}"
    );
}

#[test]
fn a_secret_of_ones_own_comes_from_a_variable() {
    let server = start();
    let shell = Shell::of(&server, "acme");
    let receiver = Receiver::start();
    shell.client.deploy(&Bundle::with("w", "return 1;"));
    let create = [
        "webhooks",
        "create",
        &receiver.url(),
        "--secret-env",
        "HOOK",
        "--description",
        "for us",
        "--event",
        "job.completed",
        "--event",
        "schedule.missed",
    ];
    let unset = shell.fails(2, &create);
    has(&unset, &["--secret-env: the variable \"HOOK\" is not set"]);
    let ran = shell.run(&create, &[("HOOK", "hunter2")], "");
    let made = endpoints(&shell)[0].clone();
    let id = made["webhook_endpoint_id"].as_str().unwrap();
    assert_eq!(
        (ran.code, ran.stdout, ran.stderr),
        (0, format!("{id}\n"), String::new())
    );
    assert_eq!(made["description"], "for us");
    assert_eq!(made["events"], json!(["job.completed", "schedule.missed"]));
    assert_signed(&hear(&shell, &receiver), "hunter2");

    let ran = shell.run(
        &["webhooks", "update", id, "--secret-env", "HOOK"],
        &[("HOOK", "hunter3")],
        "",
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!format!("{ran:?}").contains("hunter"), "{ran:?}");
    assert_signed(&hear(&shell, &receiver), "hunter3");
}

#[test]
fn a_webhook_is_changed_where_it_was_asked_to_and_nowhere_else() {
    let server = start();
    let shell = Shell::of(&server, "acme");
    shell.ok(&[
        "webhooks",
        "create",
        "https://example.com/a",
        "--description",
        "x",
        "--inactive",
    ]);
    let one = || endpoints(&shell)[0].clone();
    let id = one()["webhook_endpoint_id"].as_str().unwrap().to_owned();
    let default_events = json!(["job.completed", "job.failed"]);
    assert_eq!(
        (&one()["active"], &one()["events"]),
        (&json!(false), &default_events)
    );

    for (flags, field, value) in [
        (&["--active"][..], "active", json!(true)),
        (
            &["--to", "https://example.com/b"],
            "url",
            json!("https://example.com/b"),
        ),
        (&["--description", ""], "description", json!(null)),
        (&["--event", "job.failed"], "events", json!(["job.failed"])),
        (&["--default-events"], "events", default_events),
        (&["--inactive"], "active", json!(false)),
    ] {
        let mut expected = one();
        shell.ok(&[&["webhooks", "update", &id], flags].concat());
        expected[field] = value;
        expected["updated_at"] = one()["updated_at"].clone();
        assert_eq!(one(), expected, "{flags:?}");
    }
    let shown = shell.ok(&["webhooks", "list"]).stdout;
    has(
        &shown,
        &[
            &id,
            "  inactive  https://example.com/b  job.completed, job.failed  ",
        ],
    );
    assert_eq!(
        shell.json(&["webhooks", "list"]),
        shell.client.ok("webhooks/list", json!({}))
    );

    has(
        &shell.fails(2, &["webhooks", "update", &id]),
        &["required arguments"],
    );
    for both in [
        ["--active", "--inactive"],
        ["--default-events", "--event=job.failed"],
    ] {
        has(
            &shell.fails(2, &[&["webhooks", "update", &id][..], &both].concat()),
            &["cannot be used with"],
        );
    }
    has(
        &shell.fails(1, &["webhooks", "delete", &id]),
        &["nothing was changed", "--yes"],
    );
    shell.ok(&["webhooks", "delete", &id, "--yes"]);
    assert_eq!(endpoints(&shell), Vec::<Value>::new());
    has(
        &shell.fails(3, &["webhooks", "delete", &id, "--yes"]),
        &["there is no webhook"],
    );
}

#[test]
fn all_that_is_wrong_is_told_one_thing_a_line() {
    let server = start();
    let shell = Shell::of(&server, "acme");
    let error = shell.fails(
        4,
        &[
            "webhooks",
            "create",
            "ftp://x",
            "--event",
            "job.complete",
            "--event",
            "x",
        ],
    );
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines[0], "impresario: 3 things are wrong with this:", "{error}");
    assert_eq!(lines.len(), 4, "{error}");
    has(
        &error,
        &[
            "\n  url: ",
            "\n  events[0]: \"job.complete\" is not an event (did you mean",
        ],
    );
}

#[test]
fn deliveries_are_listed_page_by_page_and_by_what_they_tell_of() {
    let server = start();
    let shell = Shell::of(&server, "acme");
    let receiver = Receiver::start();
    shell.client.deploy(&Bundle::with("w", "return 1;"));
    shell.ok(&["webhooks", "create", &receiver.url()]);
    let endpoint = endpoints(&shell)[0]["webhook_endpoint_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let jobs: Vec<String> = (0..3)
        .map(|_| {
            let id = shell.client.create_job(json!({"workflow": "w"}));
            shell.client.job_ended(&id);
            id.as_str().unwrap().to_owned()
        })
        .collect();
    receiver.wait(3);
    let list = |flags: &[&str]| {
        let answer = shell.json(&[&["webhooks", "deliveries"], flags].concat());
        let rows = answer["deliveries"].as_array().unwrap();
        let jobs = rows.iter().map(|row| row["job_id"].as_str().unwrap().to_owned());
        jobs.collect::<Vec<_>>()
    };
    wait_for("all to be delivered", PATIENCE, || {
        let shown = shell.ok(&["webhooks", "deliveries"]).stdout;
        if shown
            .matches("  job.completed  delivered  1         204  ")
            .count()
            == 3
        {
            Ok(())
        } else {
            Err(shown)
        }
    });
    let newest_first: Vec<String> = jobs.iter().rev().cloned().collect();
    assert_eq!(list(&[]), newest_first);
    assert_eq!(list(&["--all"]), newest_first);
    assert_eq!(list(&["--limit", "2"]), newest_first[..2]);
    assert_eq!(list(&["--job", &jobs[0]]), jobs[..1]);
    assert_eq!(list(&["--endpoint", &endpoint]), newest_first);
    assert_eq!(list(&["--endpoint", NOBODY]), Vec::<String>::new());
    assert_eq!(list(&["--schedule", NOBODY]), Vec::<String>::new());
    has(
        &shell.ok(&["webhooks", "deliveries", "--limit", "1"]).stderr,
        &["there are more; --all shows all of them"],
    );
    assert_eq!(shell.ok(&["webhooks", "deliveries"]).stderr, "");
    has(
        &shell.fails(2, &["webhooks", "deliveries", "--all", "--limit", "2"]),
        &["cannot be used with"],
    );
    has(
        &shell.fails(4, &["webhooks", "deliveries", "--job", "x"]),
        &["job_id"],
    );
}

#[test]
fn a_delivery_that_nobody_has_is_not_sent_again() {
    let server = start();
    let shell = Shell::of(&server, "acme");
    let error = shell.fails(3, &["webhooks", "redeliver", NOBODY]);
    assert!(!error.contains("panicked"), "{error}");
}

#[test]
fn a_credential_comes_from_a_variable_a_file_or_stdin() {
    let server = start();
    let shell = Shell::of(&server, "acme");
    let value = |name: &str| shell.ok(&["credentials", "get", name]).stdout;
    let set = |args: &[&str], stdin: &str| {
        let args = [&["credentials", "set"], args].concat();
        let ran = shell.run(&args, &[("PORTAL", "hunter2"), ("EMPTY", "")], stdin);
        assert!(
            !format!("{}{}", ran.stdout, ran.stderr).contains("hunter"),
            "{ran:?}"
        );
        ran
    };
    let ran = set(&["Portal_Password", "--from-env", "PORTAL"], "not this");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    has(&ran.stdout, &["portal_password"]);
    assert_eq!(value("portal_password"), "hunter2\n");

    server.write_file("value.txt", "hunter3 with\nlines\n\n");
    assert_eq!(set(&["portal_password", "--from-file", "value.txt"], "").code, 0);
    assert_eq!(value("PORTAL_PASSWORD"), "hunter3 with\nlines\n\n");
    assert_eq!(set(&["portal_password"], "hunter4\r\n").code, 0);
    assert_eq!(value("portal_password"), "hunter4\n");
    let answer: Value = serde_json::from_str(&set(&["other", "--json"], "hunter5").stdout).unwrap();
    assert_eq!(answer["overwritten"], false);

    server.write_file("bytes.bin", [0xff_u8, 0xfe]);
    server.write_file("large.txt", "x".repeat(300_000));
    server.write_file("too-long.txt", "x".repeat(65_537));
    for (args, stdin, code, part) in [
        (
            &["a", "--from-env", "NOT_SET"][..],
            "",
            2,
            "the variable \"NOT_SET\" is not set",
        ),
        (
            &["a", "--from-env", "EMPTY"],
            "",
            2,
            "the variable \"EMPTY\" is not set, or is empty",
        ),
        (
            &["a", "--from-file", "nowhere"],
            "",
            1,
            "\"nowhere\" cannot be read",
        ),
        (&["a", "--from-file", "bytes.bin"], "", 1, "is not UTF-8"),
        (
            &["a", "--from-file", "large.txt"],
            "",
            1,
            "more than the 65,536 characters",
        ),
        (&["a", "--from-file", "too-long.txt"], "", 4, "value"),
        (&["a"], "\n", 1, "stdin is empty"),
        (&["a b"], "x", 4, "name"),
        (&["a", "hunter6"], "x", 2, "unexpected argument"),
        (
            &["a", "--from-env", "PORTAL", "--from-file", "value.txt"],
            "",
            2,
            "cannot be used with",
        ),
    ] {
        let args = [&["credentials", "set"], args].concat();
        let ran = shell.run(&args, &[("PORTAL", "hunter2"), ("EMPTY", "")], stdin);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{args:?}: {ran:?}");
        has(&ran.stderr, &[part]);
    }
    let names: Vec<Value> = shell.json(&["credentials", "list"])["credentials"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].clone())
        .collect();
    assert_eq!(names, ["other", "portal_password"]);
}

#[test]
fn a_credential_is_deleted_by_name_or_id() {
    let server = start();
    let shell = Shell::of(&server, "acme");
    for name in ["a", "b", "c"] {
        shell
            .client
            .ok("credentials/create", json!({"name": name, "value": "hunter2"}));
    }
    let shown = shell.ok(&["credentials", "list"]).stdout;
    assert!(
        shown.lines().count() == 4 && !shown.contains("hunter2"),
        "{shown}"
    );
    let list = shell.client.ok("credentials/list", json!({}))["credentials"].clone();
    let b = list[1]["credential_id"].as_str().unwrap();
    has(
        &shell.fails(1, &["credentials", "delete", "a"]),
        &["nothing was changed", "--yes"],
    );
    shell.ok(&["credentials", "delete", "A", "--yes"]);
    shell.ok(&["credentials", "delete", b, "--yes"]);
    let left = shell.client.ok("credentials/list", json!({}))["credentials"].clone();
    assert_eq!(left.as_array().unwrap().len(), 1);
    has(
        &shell.fails(3, &["credentials", "delete", "a", "--yes"]),
        &["there is no credential \"a\""],
    );
    has(
        &shell.fails(3, &["credentials", "get", "a"]),
        &["there is no credential"],
    );
    assert_eq!(shell.json(&["credentials", "get", "c"])["value"], "hunter2");
}

#[test]
fn a_failed_delivery_says_why() {
    let server = start();
    let shell = Shell::of(&server, "acme");
    let receiver = Receiver::start();
    receiver.reply([Reply::Status(500)]);
    shell.client.deploy(&Bundle::with("w", "return 1;"));
    shell.ok(&["webhooks", "create", &receiver.url()]);
    shell.client.run(json!({"workflow": "w"}));
    receiver.wait_at_least(1);
    wait_for("the answer to be kept", PATIENCE, || {
        let shown = shell.ok(&["webhooks", "deliveries"]).stdout;
        if shown.contains("  pending  1         500     ") {
            Ok(())
        } else {
            Err(shown)
        }
    });
}
