//! `schedules …`, one by one: what is typed is what the server has, what the server has is what is shown.

use serde_json::{Value, json};

use crate::support::{Bundle, Receiver, Server, Setup, Typist, assert_signed, workflow};

fn start() -> Server {
    Setup::at("2027-01-01T00:00:30Z").start()
}

fn typist(server: &Server) -> Typist<'_> {
    let typist = Typist::of(server, "acme");
    typist.client.deploy(&Bundle::of(&format!(
        "{}{}",
        workflow("a", "return input;"),
        workflow("b", "throw new Error('no\\u001b[2J good');")
    )));
    typist
}

/// What a table has under its header: the cells, told apart by two spaces or more.
fn rows(table: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| {
        let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
        cells.map(str::to_owned).collect()
    };
    table.lines().skip(1).map(cells).collect()
}

/// A sheet whose columns do not stand under each other.
fn squeezed(sheet: &str) -> String {
    let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n";
    sheet.lines().map(line).collect()
}

#[test]
fn every_flag_of_create_is_a_field_of_the_schedule() {
    let server = start();
    let typist = typist(&server);
    server.write_file("params.json", r#"{"clinic": "north", "n": 1}"#);
    let args = [
        "schedules",
        "create",
        "--workflow",
        "a",
        "--cron",
        "0 2 * * *",
        "--timezone",
        "america/new_york",
        "--params",
        "@params.json",
        "--param",
        "n=2",
        "--param",
        "zip=02134",
        "--name",
        "nightly",
        "--description",
        "For the team",
        "--tag",
        "x",
        "--tag",
        "y",
        "--timeout",
        "10m",
        "--start-url",
        "https://portal.example.com/",
        "--viewport",
        "800x600",
        "--gpu",
        "--callback-url",
        "https://hooks.example.com/",
        "--callback-secret-env",
        "HOOK",
        "--skip-callbacks",
        "--disabled",
        "--start-at",
        "2027-02-01T00:00:00+01:00",
        "--end-at",
        "2028-02-01T00:00:00Z",
        "--jitter",
        "5m",
        "--misfire",
        "skip",
        "--catchup-window",
        "2h",
        "--overlap",
        "buffer_one",
        "--max-failures",
        "3",
        "--proxy-country",
        "us",
        "--proxy-city",
        "boston",
        "--proxy-state",
        "MA",
    ];
    let ran = typist.with(&args, &[("HOOK", "hunter2")], "");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!format!("{ran:?}").contains("hunter2"), "{ran:?}");
    let id = ran.stdout.trim_end();
    let made = typist.client.get_schedule(&json!(id));
    for (field, value) in [
        ("workflow", json!("a")),
        ("cron_expr", json!("0 2 * * *")),
        ("timezone", json!("America/New_York")),
        ("params", json!({"clinic": "north", "n": 2, "zip": "02134"})),
        ("name", json!("nightly")),
        ("description", json!("For the team")),
        ("tags", json!(["x", "y"])),
        ("timeout_seconds", json!(600)),
        ("start_url", json!("https://portal.example.com/")),
        ("viewport", json!({"width": 800, "height": 600})),
        ("gpu", json!(true)),
        ("callback_url", json!("https://hooks.example.com/")),
        ("skip_callbacks", json!(true)),
        ("enabled", json!(false)),
        ("start_at", json!("2027-01-31T23:00:00.000Z")),
        ("end_at", json!("2028-02-01T00:00:00.000Z")),
        ("jitter_seconds", json!(300)),
        ("misfire_policy", json!("skip")),
        ("catchup_window_seconds", json!(7200)),
        ("overlap_policy", json!("buffer_one")),
        ("max_consecutive_failures", json!(3)),
    ] {
        assert_eq!(made[field], value, "{field}");
    }
    assert_eq!(
        made["residential_proxy"],
        json!({"country": "US", "state": "MA", "city": "boston"})
    );

    let sheet = squeezed(&typist.says(&["schedules", "get", "nightly"]));
    for part in [
        "reads At 02:00, every day\n",
        "state disabled\n",
        "were it enabled 2027-02-01 02:00 EST (",
        "viewport 800x600\n",
        "proxy US, MA, boston\n",
        "timeout 10 min\n",
        "params {\"clinic\":\"north\",\"n\":2,\"zip\":\"02134\"}\n",
    ] {
        assert!(sheet.contains(part), "{part:?}: {sheet}");
    }
    assert_eq!(typist.json(&["schedules", "get", id])["schedule"], made);
    // What was made is there: the names of a list are unique.
    typist.fails(
        4,
        &[
            "schedules",
            "create",
            "--workflow",
            "a",
            "--cron",
            "@daily",
            "--name",
            "nightly",
        ],
        "nightly",
    );
}

#[test]
fn an_update_changes_what_it_names_and_clears_what_it_is_told_to() {
    let server = start();
    let typist = typist(&server);
    let create = |input: Value| typist.client.schedule(input)["id"].clone();
    let id = create(json!({
        "workflow": "a", "cron_expr": "@daily", "name": "one", "params": {"a": 1, "b": 1}, "tags": ["x"],
        "viewport": {"width": 800, "height": 600}, "jitter_seconds": 60, "end_at": "2028-01-01T00:00:00Z",
        "callback_url": "https://hooks.example.com/", "callback_secret": "hunter2",
    }));
    let before = typist.client.get_schedule(&id);
    let said = typist.ends(
        0,
        &[
            "schedules",
            "update",
            "one",
            "--param",
            "b=2",
            "--cron",
            "0 3 * * *",
            "--timezone",
            "Europe/Berlin",
        ],
    );
    assert_eq!(said.stdout, "");
    assert!(
        said.stderr
            .starts_with("impresario: changed one: it fires next at 2027-01-01 03:00 CET ("),
        "{said:?}"
    );
    let after = typist.json(&[
        "schedules",
        "update",
        "one",
        "--clear",
        "tags,viewport,jitter",
        "--clear",
        "end-at",
        "--clear",
        "callback",
        "--gpu=false",
    ]);
    let mut expected = before;
    for (field, value) in [
        ("params", json!({"a": 1, "b": 2})),
        ("cron_expr", json!("0 3 * * *")),
        ("timezone", json!("Europe/Berlin")),
        ("tags", json!([])),
        ("viewport", Value::Null),
        ("jitter_seconds", json!(0)),
        ("end_at", Value::Null),
        ("callback_url", Value::Null),
        ("gpu", json!(false)),
        ("next_fire_at", json!("2027-01-01T02:00:00.000Z")),
        ("next_due_at", json!("2027-01-01T02:00:00.000Z")),
    ] {
        expected[field] = value;
    }
    expected["updated_at"] = after["schedule"]["updated_at"].clone();
    assert_eq!(after["schedule"], expected);

    typist.ends(0, &["schedules", "disable", "one"]);
    assert_eq!(typist.client.get_schedule(&id)["enabled"], false);
    assert_eq!(
        typist.json(&["schedules", "enable", id.as_str().unwrap()])["schedule"]["enabled"],
        true
    );
    let ran = typist.with(
        &["schedules", "update", "one", "--params", "-"],
        &[],
        r#"{"c": 3}"#,
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(
        typist.client.get_schedule(&id)["params"],
        json!({"c": 3}),
        "the whole is replaced"
    );
    typist.fails(2, &["schedules", "update", "one"], "there is nothing to change");
    typist.fails(
        2,
        &[
            "schedules",
            "update",
            "one",
            "--clear",
            "viewport",
            "--viewport",
            "1x1",
        ],
        "set and cleared",
    );
    typist.fails(
        2,
        &["schedules", "update", "one", "--clear", "cron"],
        "possible values: name",
    );
}

#[test]
fn a_list_is_filtered_and_goes_on_page_by_page() {
    let server = start();
    let typist = typist(&server);
    for n in 0..205 {
        let (workflow, enabled) = if n < 3 { ("b", n != 0) } else { ("a", true) };
        let tags = if n == 1 { json!(["rare"]) } else { json!([]) };
        typist.client.schedule(json!({
            "workflow": workflow, "cron_expr": "0 9 * * MON", "timezone": "Europe/Berlin", "enabled": enabled,
            "name": format!("s-{n}"), "tags": tags,
        }));
    }
    let ran = typist.ends(0, &["schedules", "list", "--workflow", "b"]);
    assert_eq!(ran.stderr, "");
    assert!(ran.stdout.starts_with("NAME  WORKFLOW  WHEN "), "{ran:?}");
    let next = "2027-01-04 09:00 CET";
    let mut table = rows(&ran.stdout);
    table.sort();
    let names: Vec<&str> = table.iter().map(|row| row[0].as_str()).collect();
    // They were made at once by the clock, and have no order.
    assert_eq!(names, ["s-0", "s-1", "s-2"]);
    assert_eq!(table[2][1..3], ["b", "0 9 * * MON Europe/Berlin"]);
    assert!(table[2][3].starts_with(next), "{table:?}");
    assert_eq!(table[2][4..], ["never", "-", "active"]);
    assert_eq!(
        table[0][3..],
        ["-", "never", "-", "disabled"],
        "a disabled one has no next fire"
    );

    for (args, expected) in [
        (vec!["--tag", "rare"], 1),
        (vec!["--workflow", "b", "--enabled"], 2),
        (vec!["--disabled"], 1),
        (vec!["--limit", "2"], 2),
        (vec!["--limit", "203"], 203),
        (vec!["--all"], 205),
        (vec![], 50),
    ] {
        let args = [&["schedules", "list"], args.as_slice()].concat();
        let ran = typist.ends(0, &args);
        assert_eq!(rows(&ran.stdout).len(), expected, "{args:?}");
        let more = ran.stderr.contains("there are more; --all");
        assert_eq!(
            more,
            matches!(expected, 2 | 50 | 203) && !args.contains(&"--enabled"),
            "{args:?}: {ran:?}"
        );
        let list = typist.json(&args);
        assert_eq!(list["schedules"].as_array().unwrap().len(), expected, "{args:?}");
        assert_eq!(list["next_cursor"].is_string(), more, "{args:?}");
    }
    assert_eq!(
        typist.json(&["schedules", "list", "--limit", "5"]),
        typist.client.ok("schedules/list", json!({"limit": 5})),
        "it is the server's answer"
    );
    typist.fails(2, &["schedules", "list", "--limit", "0"], "--limit");
    typist.fails(
        2,
        &["schedules", "list", "--all", "--limit", "1"],
        "cannot be used with",
    );
}

#[test]
fn a_name_that_nobody_has_is_told_with_the_nearest_one() {
    let server = start();
    let typist = typist(&server);
    typist
        .client
        .schedule(json!({"workflow": "a", "cron_expr": "@daily", "name": "nightly-claims"}));
    for command in [
        &["get"][..],
        &["update", "--cron", "@hourly"],
        &["enable"],
        &["disable"],
        &["delete", "--yes"],
        &["trigger"],
        &["history"],
        &["preview", "--schedule"],
        &[
            "backfill",
            "--yes",
            "--from",
            "2026-12-01T00:00:00Z",
            "--to",
            "2026-12-02T00:00:00Z",
        ],
    ] {
        let args = |name| [&["schedules"], command, &[name]].concat();
        typist.fails(
            3,
            &args("nigthly-claims"),
            "no schedule named \"nigthly-claims\"; did you mean \"nightly-claims\"?",
        );
        typist.fails(3, &args("other"), "`impresario schedules list` shows");
        typist.fails(
            3,
            &args("01988f6e-0000-7000-8000-000000000000"),
            "01988f6e-0000-7000-8000-000000000000",
        );
    }
}

#[test]
fn what_the_server_refuses_is_told_in_its_sentences() {
    let server = start();
    let typist = typist(&server);
    let create =
        |more: &[&'static str]| [&["schedules", "create", "--workflow", "a", "--cron"], more].concat();
    let ran = typist.ends(
        4,
        &create(&["0 25 * * *", "--timezone", "Europe/Berlim", "--timeout", "2h"]),
    );
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(lines.len(), 4, "{ran:?}");
    assert_eq!(lines[0], "impresario: 3 things are wrong with this:");
    assert!(
        ran.stderr
            .contains("\n  cron_expr: hour \"25\" is out of range (0-23)"),
        "{ran:?}"
    );
    assert!(
        ran.stderr.contains("\n  timezone: ") && ran.stderr.contains("Europe/Berlin"),
        "{ran:?}"
    );
    let one = typist.ends(4, &create(&["0 25 * * *"]));
    assert!(
        one.stderr.starts_with("impresario: cron_expr: hour \"25\""),
        "{one:?}"
    );
    typist.fails(
        3,
        &["schedules", "create", "--workflow", "c", "--cron", "@daily"],
        "\"c\"",
    );
    for (args, part) in [
        (create(&["@daily", "--params", "north"]), "it is no JSON"),
        (create(&["@daily", "--params", "[]"]), "no object"),
        (create(&["@daily", "--param", "north"]), "KEY=VALUE"),
        (create(&["@daily", "--viewport", "big"]), "WIDTHxHEIGHT"),
        (create(&["@daily", "--timeout", "1w"]), "90s, 15m, 2h, 1d"),
        (create(&["@daily", "--proxy-city", "boston"]), "--proxy-country"),
        (
            create(&["@daily", "--callback-secret-env", "NOT_SET"]),
            "the variable NOT_SET is not set",
        ),
    ] {
        typist.fails(2, &args, part);
    }
    typist.fails(
        1,
        &create(&["@daily", "--params", "@missing.json"]),
        "missing.json cannot be read",
    );
    typist.fails(
        1,
        &create(&["@daily", "--url", "http://127.0.0.1:9"]),
        "no answer from http://127.0.0.1:9",
    );
    assert_eq!(typist.json(&["schedules", "list"])["schedules"], json!([]));
}

#[test]
fn deleting_needs_a_yes() {
    let server = start();
    let typist = typist(&server);
    let id = typist
        .client
        .schedule(json!({"workflow": "a", "cron_expr": "@daily", "name": "one"}))["id"]
        .clone();
    // stdin is no terminal, whatever comes from it.
    let ran = typist.with(&["schedules", "delete", "one"], &[], "yes\n");
    assert!(ran.code == 1 && ran.stderr.contains("--yes"), "{ran:?}");
    assert_eq!(typist.client.get_schedule(&id)["name"], "one");
    let ran = typist.ends(0, &["schedules", "delete", "one", "--yes"]);
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.as_str()),
        ("", "impresario: deleted one (workflow a)\n")
    );
    typist.client.refused("schedules/get", json!({"id": id}), 404);
    typist.fails(
        3,
        &["schedules", "delete", id.as_str().unwrap(), "--yes"],
        "schedule",
    );
}

#[test]
fn a_preview_tells_what_clock_changes_do() {
    let server = start();
    let typist = typist(&server);
    let args = [
        "schedules",
        "preview",
        "30 2 * * *",
        "--timezone",
        "europe/berlin",
        "--count",
        "2",
        "--after",
        "2027-03-27T12:00:00Z",
    ];
    let said = typist.says(&args);
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].contains("02:30") && lines[0].ends_with(" (Europe/Berlin)"),
        "{said}"
    );
    let rows = rows(&lines[2..].join("\n"));
    assert!(rows[0][0].starts_with("2027-03-28 03:00 CEST ("), "{rows:?}");
    assert_eq!(
        rows[0][1..],
        [
            "2027-03-28T01:00:00.000Z",
            "the time it names does not exist that day"
        ]
    );
    assert!(rows[1][0].starts_with("2027-03-29 02:30 CEST ("), "{rows:?}");
    assert_eq!(rows[1][2], "-");
    let asked = json!({"cron_expr": "30 2 * * *", "timezone": "europe/berlin", "count": 2, "after": "2027-03-27T12:00:00Z"});
    assert_eq!(typist.json(&args), typist.client.ok("schedules/preview", asked));

    typist.client.schedule(json!({
        "workflow": "a", "cron_expr": "@daily", "timezone": "Asia/Tokyo", "name": "short", "end_at": "2027-01-02T12:00:00Z"
    }));
    let preview = typist.json(&["schedules", "preview", "--schedule", "short"]);
    assert_eq!(preview["timezone"], "Asia/Tokyo");
    assert_eq!(preview["fires"].as_array().unwrap().len(), 1, "{preview}");
    typist.fails(4, &["schedules", "preview", "0 0 * *"], "cron_expr");
    typist.fails(2, &["schedules", "preview"], "EXPRESSION");
}

#[test]
fn a_schedule_is_run_now_and_its_history_is_shown() {
    let server = start();
    let typist = typist(&server);
    let receiver = Receiver::start();
    let args = [
        "schedules",
        "create",
        "--workflow",
        "a",
        "--cron",
        "* * * * *",
        "--name",
        "each",
        "--params",
        "-",
        "--callback-url",
        &receiver.url(),
        "--callback-secret-env",
        "HOOK",
    ];
    let made = typist.with(&args, &[("HOOK", "s3cret")], r#"{"a": 1, "b": 1}"#);
    assert_eq!(made.code, 0, "{made:?}");
    let result = typist.says(&["schedules", "trigger", "each", "--param", "b=2", "--watch"]);
    assert_eq!(
        serde_json::from_str::<Value>(&result).unwrap(),
        json!({"a": 1, "b": 2})
    );
    let triggered = typist.json(&["schedules", "trigger", "each"]);
    typist.client.job_is(&triggered["job_id"], "completed");
    let received = receiver.wait(2);
    assert_signed(&received[0], "s3cret");
    assert_eq!(typist.json(&["schedules", "history", "each"])["fires"], json!([]));

    let id = json!(made.stdout.trim_end());
    server.set_clock("2027-01-01T00:01:00Z");
    let fire = typist.client.fired(&id, "2027-01-01T00:01:00.000Z");
    let job = typist.client.job_is(&fire["job_id"], "completed");
    let table = typist.says(&["schedules", "history", "each"]);
    let row = rows(&table).remove(0);
    assert!(row[0].starts_with("2027-01-01 00:01 UTC ("), "{table}");
    assert_eq!(
        row[1..],
        ["fired", job["job_id"].as_str().unwrap(), "completed"],
        "{table}"
    );
    let list = typist.says(&["jobs", "list", "--schedule", "each"]);
    assert_eq!(rows(&list)[0][0], job["job_id"].as_str().unwrap(), "{list}");
    assert_eq!(rows(&list).len(), 1, "{list}");
    let sheet = squeezed(&typist.says(&["schedules", "get", "each"]));
    assert!(sheet.contains("last fire 2027-01-01 00:01 UTC ("), "{sheet}");
}
