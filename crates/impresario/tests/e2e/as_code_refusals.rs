//! `schedules plan|apply`, where something is wrong: the file, the server, or nobody there to ask.

use serde_json::Value;

use crate::{
    as_code::{Desk, file, schedule, start},
    support::Server,
};

/// Applies or plans what must be refused before anything is changed: stderr.
#[track_caller]
fn refused((server, desk): (&Server, &Desk<'_>), command: &str, text: impl AsRef<[u8]>) -> String {
    let before = desk.all();
    server.write_file("f.yaml", text);
    let args: &[&str] = if command == "apply" {
        &["apply", "f.yaml", "--yes"]
    } else {
        &["plan", "f.yaml"]
    };
    let ran = desk.ends(1, args);
    assert_eq!(desk.all(), before, "{ran:?}");
    ran.stderr
}

#[test]
fn without_a_terminal_and_without_yes_nothing_is_changed() {
    let server = start();
    let desk = Desk::of(&server, "acme");
    server.write_file("f.yaml", file(&schedule("one", &[])));
    // "yes" is on stdin, and is not an answer: nobody was asked.
    let ran = desk.ends(1, &["apply", "f.yaml"]);
    assert!(ran.stdout.contains("+ create one"), "{ran:?}");
    assert!(ran.stderr.contains("--yes"), "{ran:?}");
    assert_eq!(desk.all(), Vec::<Value>::new());
    desk.apply(&schedule("one", &[]), &[]);
    desk.ends(0, &["apply", "f.yaml"]);
}

#[test]
fn a_broken_file_is_refused_with_its_lines() {
    let server = start();
    let desk = Desk::of(&server, "acme");
    desk.apply(&schedule("kept", &[]), &[]);
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let inner = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb += &format!("a{level}: &a{level} [{inner}]\n");
    }
    let good = schedule("fine", &[]);
    for (text, parts) in [
        (
            file(&(good.clone() + &schedule("x", &["time_zone: UTC", "gpuu: true"]))),
            vec![
                "line 9: unknown key \"time_zone\" (did you mean \"timezone\"?)",
                "line 10",
                "\"gpu\"",
            ],
        ),
        (
            file(&(good.clone() + &good)),
            vec!["line 6: ", "\"fine\"", "on line 3"],
        ),
        (file(&schedule("x", &["gpu: [true"])), vec!["line", "is not YAML"]),
        (
            file(&schedule("x", &["timeout_seconds: soon"])),
            vec!["line 6: timeout_seconds", "whole number"],
        ),
        // What only the server knows.
        (
            file(&(good.clone() + &schedule("x", &[]).replace("0 2 *", "0 25 *"))),
            vec!["line 6: the schedule \"x\": cron_expr: ", "hour"],
        ),
        (
            file(&(good.clone() + &schedule("x", &["timezone: Berlin"]))),
            vec!["line 6: the schedule \"x\": timezone: ", "Europe/Berlin"],
        ),
        (
            file(&schedule("kept", &[]).replace("0 2 *", "0 25 *")),
            vec!["line 3: the schedule \"kept\": cron_expr: "],
        ),
        (
            file(&(good.clone() + &schedule("x", &[]).replace("workflow: a", "workflow: aa"))),
            vec!["line 6: the schedule \"x\": workflow: ", "\"aa\""],
        ),
        // What the API would refuse at the first update.
        (
            file(&(good.clone() + &schedule("kept", &[]).replace("workflow: a", "workflow: b"))),
            vec!["line 6: ", "\"kept\"", "another name", "delete"],
        ),
        (
            file(&schedule("x", &["callback_url: http://127.0.0.1:9/"])),
            vec!["line 3: ", "callback_secret"],
        ),
        (bomb, vec!["f.yaml: line", "too large"]),
        ("x".repeat(4 * 1024 * 1024 + 1), vec!["larger than 4 MiB"]),
        (String::new(), vec!["version: 1"]),
    ] {
        for command in ["plan", "apply"] {
            let said = refused((&server, &desk), command, &text);
            for part in &parts {
                assert!(said.contains(part), "{command}: {part:?} is not in {said}");
            }
        }
    }
    assert!(refused((&server, &desk), "plan", b"\xff").contains("not UTF-8"));
    let missing = desk.ends(1, &["plan", "missing.yaml"]);
    assert!(
        missing.stderr.contains("missing.yaml cannot be read"),
        "{missing:?}"
    );
}

#[test]
fn the_first_error_stops_an_apply_and_the_next_goes_on_from_there() {
    let server = start();
    let desk = Desk::of(&server, "acme");
    desk.apply(&schedule("old", &[]), &[]);
    let schedules = |seconds: &str| {
        schedule("first", &[])
            + &schedule(
                "second",
                &[&format!("timeout_seconds: {seconds}"), "jitter_seconds: 0"],
            )
            + &schedule("third", &[])
    };
    server.write_file(
        "f.yaml",
        file(&schedules("0").replace("jitter_seconds: 0", "jitter_seconds: 9999")),
    );
    let ran = desk.ends(1, &["apply", "f.yaml", "--prune", "--yes"]);
    assert!(ran.stdout.ends_with("created first\n"), "{ran:?}");
    // Both of its faults, and how far it came.
    for part in [
        "second was not created",
        "timeout_seconds",
        "jitter_seconds",
        "1 of 4 changes",
        "3 were not",
    ] {
        assert!(ran.stderr.contains(part), "{part}: {ran:?}");
    }
    assert_eq!(
        desk.names(),
        ["\"first\"", "\"old\""],
        "what is deleted is deleted last"
    );

    let said = desk.apply(&schedules("60"), &["--prune"]);
    assert!(
        said.ends_with("created second\ncreated third\ndeleted old\n"),
        "{said}"
    );
    assert!(said.contains("= 1 unchanged\n"), "{said}");
}

#[test]
fn a_server_that_cannot_be_asked_is_said_to_be_so() {
    let server = start();
    let desk = Desk::of(&server, "acme");
    server.write_file("f.yaml", file(&schedule("one", &[])));
    let url = format!("http://{}", desk.client.address());
    let https = url.replace("http://", "https://");
    let wrong_key = format!("{}x", desk.client.key());
    let key = ("LIBRETTO_API_KEY", desk.client.key());
    for (variables, args, part) in [
        (vec![], vec!["--url", &url], "LIBRETTO_API_KEY is not set"),
        (
            vec![("LIBRETTO_API_KEY", "")],
            vec!["--url", &url],
            "LIBRETTO_API_KEY is not set",
        ),
        (
            vec![("LIBRETTO_API_KEY", wrong_key.as_str())],
            vec!["--url", &url],
            "does not take the key in LIBRETTO_API_KEY",
        ),
        (
            vec![key],
            vec!["--url", "http://127.0.0.1:9"],
            "no answer from http://127.0.0.1:9",
        ),
        (
            vec![key],
            vec!["--url", &https],
            "no answer from https://127.0.0.1:",
        ),
        (
            vec![key],
            vec!["--url", "127.0.0.1"],
            "is not the URL of a server",
        ),
        (
            vec![key, ("IMPRESARIO_URL", "nonsense")],
            vec![],
            "is not the URL of a server",
        ),
    ] {
        for command in [
            vec!["plan", "f.yaml"],
            vec!["apply", "f.yaml", "--yes"],
            vec!["export"],
        ] {
            let all = [&["schedules"], command.as_slice(), args.as_slice()].concat();
            let ran = server.cli_with(&all, &variables, "");
            assert!(
                ran.code == 1 && ran.stderr.contains(part),
                "{all:?}: {part:?}: {ran:?}"
            );
            assert!(!ran.stderr.contains("imp_"), "{ran:?}");
            assert_eq!(ran.stdout, "");
        }
    }
    // Elsewhere 2 means wrong usage; of a plan it means that there is something to do, and nothing else.
    for (args, code) in [
        (vec!["plan"], 1),
        (vec!["plan", "f.yaml", "--prone"], 1),
        (vec!["apply", "f.yaml", "--prone"], 2),
        (vec!["unknown"], 2),
    ] {
        let ran = server.cli_with(&[&["schedules"], args.as_slice()].concat(), &[key], "");
        assert!(
            ran.code == code && ran.stderr.contains("Usage"),
            "{args:?}: {ran:?}"
        );
    }
    // The flag goes before the variable.
    let ran = server.cli_with(
        &["schedules", "export", "--url", &url],
        &[key, ("IMPRESARIO_URL", "http://127.0.0.1:9")],
        "",
    );
    assert_eq!(ran.code, 0, "{ran:?}");
}
