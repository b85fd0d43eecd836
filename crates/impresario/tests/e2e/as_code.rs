//! `schedules export|plan|apply`: what a file says is what the server has, and nothing else is touched.

use serde_json::{Value, json};

use crate::support::{Bundle, Client, Ran, Receiver, Server, Setup, assert_signed, keys, workflow};

/// A tenant's desk: its client, and the commands with its key.
pub(crate) struct Desk<'a> {
    server: &'a Server,
    pub(crate) client: Client,
}

impl<'a> Desk<'a> {
    pub(crate) fn of(server: &'a Server, tenant: &str) -> Self {
        let client = server.tenant(tenant);
        client.deploy(&Bundle::of(&format!(
            "{}{}",
            workflow("a", "return 1;"),
            workflow("b", "return 2;")
        )));
        Self { server, client }
    }

    fn with(&self, args: &[&str], more: &[(&str, &str)]) -> Ran {
        let url = format!("http://{}", self.client.address());
        let mut variables = vec![
            ("IMPRESARIO_URL", url.as_str()),
            ("LIBRETTO_API_KEY", self.client.key()),
        ];
        variables.extend_from_slice(more);
        let args = [&["schedules"], args].concat();
        let ran = self.server.cli_with(&args, &variables, "yes\n");
        assert!(
            !format!("{}{}", ran.stdout, ran.stderr).contains(self.client.key()),
            "the key is shown: {ran:?}"
        );
        ran
    }

    /// Runs a command that must end with this code.
    #[track_caller]
    pub(crate) fn ends(&self, code: i32, args: &[&str]) -> Ran {
        let ran = self.with(args, &[]);
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        ran
    }

    /// Applies a file of these schedules: what was said on stdout.
    #[track_caller]
    pub(crate) fn apply(&self, schedules: &str, flags: &[&str]) -> String {
        self.server.write_file("f.yaml", file(schedules));
        let args = [&["apply", "f.yaml", "--yes"], flags].concat();
        self.ends(0, &args).stdout
    }

    pub(crate) fn all(&self) -> Vec<Value> {
        let answer = self.client.ok("schedules/list", json!({"limit": 200}));
        assert_eq!(answer["next_cursor"], Value::Null);
        answer["schedules"].as_array().unwrap().clone()
    }

    #[track_caller]
    fn named(&self, name: &str) -> Value {
        let all = self.all();
        let found = all.iter().find(|schedule| schedule["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {all:?}")).clone()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let all = self.all();
        let mut names: Vec<String> = all.iter().map(|one| one["name"].to_string()).collect();
        names.sort();
        names
    }
}

pub(crate) fn file(schedules: &str) -> String {
    format!("version: 1\nschedules:\n{schedules}")
}

/// A schedule in a file, with these further lines.
pub(crate) fn schedule(name: &str, more: &[&str]) -> String {
    let mut text = format!("  - name: {name}\n    workflow: a\n    cron_expr: \"0 2 * * *\"\n");
    for line in more {
        text += &format!("    {line}\n");
    }
    text
}

pub(crate) fn start() -> Server {
    Setup::at("2027-01-01T00:00:30Z").start()
}

/// What two schedules that are the same have in common.
fn content(schedule: &Value) -> Value {
    let mut content = schedule.clone();
    let object = content.as_object_mut().unwrap();
    // Each has a place of its own in the spread.
    for of_its_own in ["id", "created_at", "updated_at", "next_due_at"] {
        assert!(object.shift_remove(of_its_own).is_some(), "{schedule}");
    }
    content
}

#[test]
fn a_file_makes_schedules_and_a_second_time_nothing() {
    let server = start();
    let desk = Desk::of(&server, "acme");
    let schedules = schedule(
        "one",
        &[
            "timezone: america/new_york",
            "params: {payer: acme, deep: [1, 2.5]}",
            "tags: [x, y, x]",
            "start_at: 2027-02-01T00:00:00+01:00",
            "viewport: {width: 800, height: 600}",
            "residential_proxy: {country: us, state: ca}",
            "timeout_seconds: 60",
            "misfire_policy: skip",
            "max_consecutive_failures: 3",
        ],
    ) + &schedule("two", &["enabled: false"]);
    server.write_file("f.yaml", file(&schedules));
    let planned = desk.ends(2, &["plan", "f.yaml"]);
    assert!(
        planned.stdout.contains("+ create one\n    workflow: \"a\"\n"),
        "{planned:?}"
    );
    assert_eq!(desk.all(), Vec::<Value>::new(), "a plan changes nothing");

    let said = desk.apply(&schedules, &[]);
    assert!(
        said.starts_with(&planned.stdout),
        "it shows the plan first: {said}"
    );
    assert!(said.ends_with("created one\ncreated two\n"), "{said}");
    let one = desk.named("one");
    for (field, value) in [
        ("workflow", json!("a")),
        ("cron_expr", json!("0 2 * * *")),
        ("timezone", json!("America/New_York")),
        ("params", json!({"payer": "acme", "deep": [1, 2.5]})),
        ("tags", json!(["x", "y"])),
        ("start_at", json!("2027-01-31T23:00:00.000Z")),
        ("viewport", json!({"width": 800, "height": 600})),
        ("residential_proxy", json!({"country": "US", "state": "CA"})),
        ("timeout_seconds", json!(60)),
        ("misfire_policy", json!("skip")),
        ("max_consecutive_failures", json!(3)),
        ("enabled", json!(true)),
    ] {
        assert_eq!(one[field], value, "{field}");
    }
    assert_eq!(desk.named("two")["enabled"], false);

    let before = desk.all();
    server.set_clock("2027-01-01T00:00:40Z");
    assert_eq!(desk.apply(&schedules, &[]), "= 2 unchanged\nNothing to do.\n");
    assert_eq!(
        desk.ends(0, &["plan", "f.yaml"]).stdout,
        "= 2 unchanged\nNothing to do.\n"
    );
    assert_eq!(desk.all(), before, "not even updated_at");
}

#[test]
fn what_differs_is_changed_and_nothing_else() {
    let server = start();
    let desk = Desk::of(&server, "acme");
    let both = |more: &[&str]| schedule("one", more) + &schedule("two", &[]);
    desk.apply(&both(&["params: {a: 1, b: 2}", "gpu: true"]), &[]);
    let (one, two) = (desk.named("one"), desk.named("two"));

    server.set_clock("2027-01-01T00:00:40Z");
    let said = desk.apply(&both(&["params: {a: 1, b: 3}", "timezone: Europe/Berlin"]), &[]);
    assert_eq!(
        said,
        "~ update one\n    timezone: \"UTC\" → \"Europe/Berlin\"\n    params.b: 2 → 3\n    gpu: true → (none)\n\
         = 1 unchanged\n0 to create, 1 to update, 0 to delete.\nupdated one\n"
    );
    assert_eq!(desk.named("two"), two);
    let mut expected = one;
    expected["timezone"] = json!("Europe/Berlin");
    expected["params"]["b"] = json!(3);
    expected["gpu"] = Value::Null;
    expected["updated_at"] = json!("2027-01-01T00:00:40.000Z");
    expected["next_fire_at"] = json!("2027-01-01T01:00:00.000Z");
    expected["next_due_at"] = expected["next_fire_at"].clone();
    assert_eq!(desk.named("one"), expected);
}

#[test]
fn a_pause_outlives_an_apply_unless_the_file_speaks_of_it() {
    let server = start();
    let desk = Desk::of(&server, "acme");
    desk.apply(&schedule("one", &[]), &[]);
    let id = desk.named("one")["id"].clone();
    desk.client
        .ok("schedules/update", json!({"id": id, "enabled": false}));

    assert!(desk.apply(&schedule("one", &[]), &[]).contains("Nothing to do."));
    desk.apply(&schedule("one", &["timeout_seconds: 60"]), &[]);
    let paused = desk.named("one");
    assert_eq!(
        (&paused["enabled"], &paused["timeout_seconds"]),
        (&json!(false), &json!(60))
    );

    let on = schedule("one", &["timeout_seconds: 60", "enabled: true"]);
    assert!(desk.apply(&on, &[]).contains("    enabled: false → true\n"));
    assert_eq!(desk.named("one")["enabled"], true);
    desk.apply(&on.replace("true", "false"), &[]);
    assert_eq!(desk.named("one")["enabled"], false);
}

#[test]
fn what_the_file_does_not_name_is_left_alone_and_prune_deletes_it() {
    let server = start();
    let desk = Desk::of(&server, "acme");
    desk.apply(
        &(schedule("one", &[]) + &schedule("two", &[]) + &schedule("three", &[])),
        &[],
    );
    desk.client
        .schedule(json!({"workflow": "b", "cron_expr": "@daily"}));

    let alone = "= 1 unchanged\nnot in the file, left alone: three, two\nwithout a name, so never touched by a file: 1\n";
    assert_eq!(
        desk.apply(&schedule("one", &[]), &[]),
        format!("{alone}Nothing to do.\n")
    );
    let planned = desk.ends(2, &["plan", "f.yaml", "--prune"]).stdout;
    assert_eq!(
        planned,
        "- delete three\n- delete two\n= 1 unchanged\nwithout a name, so never touched by a file: 1\n\
         0 to create, 0 to update, 2 to delete.\n"
    );
    assert_eq!(desk.all().len(), 4);
    let said = desk.apply(&schedule("one", &[]), &["--prune"]);
    assert!(said.ends_with("deleted three\ndeleted two\n"), "{said}");
    assert_eq!(desk.names(), ["\"one\"", "null"]);
}

/// Schedules with every field, and with texts that YAML could take for something else.
fn fill(client: &Client) {
    for input in [
        json!({
            "name": "everything", "workflow": "a", "cron_expr": "*/5 1-3 * * MON", "timezone": "Europe/Berlin",
            "params": {"n": 1, "f": 1.0, "null": null, "no": "no", "zip": "02134", "deep": [{"a": []}, {}, "x: y # z"]},
            "timeout_seconds": 5, "start_url": "https://example.com/#a", "gpu": false,
            "viewport": {"width": 1, "height": 2}, "residential_proxy": {"country": "US", "zip": "02134"},
            "disable_default_proxy": false, "skip_callbacks": true, "description": "two\nlines \u{1f600}", "tags": ["7", "x"],
            "start_at": "2027-02-01T00:00:00Z", "end_at": "2028-01-01T00:00:00.5Z", "jitter_seconds": 30,
            "misfire_policy": "fire_all", "catchup_window_seconds": 0, "overlap_policy": "buffer_one",
            "max_consecutive_failures": 9, "callback_url": "http://127.0.0.1:9/x?y=z", "callback_secret": "hunter2",
        }),
        json!({"name": "off", "workflow": "b", "cron_expr": "@daily", "enabled": false}),
        json!({"name": "123: [no]", "workflow": "b", "cron_expr": "@daily"}),
    ] {
        client.schedule(input);
    }
}

/// What the server says of a schedule, and nobody sets; and `enabled`, which is written where it is false.
const NOT_IN_FILES: [&str; 14] = [
    "catching_up",
    "consecutive_failures",
    "created_at",
    "disabled_reason",
    "enabled",
    "id",
    "last_error",
    "last_fire_at",
    "last_job_id",
    "next_due_at",
    "next_fire_at",
    "params_error",
    "state",
    "updated_at",
];

#[test]
fn what_is_exported_is_no_difference_and_makes_the_same_elsewhere() {
    let server = start();
    let (desk, other) = (Desk::of(&server, "acme"), Desk::of(&server, "other"));
    fill(&desk.client);
    let nameless = desk
        .client
        .schedule(json!({"workflow": "a", "cron_expr": "@daily"}));

    let export = desk.ends(0, &["export", "--output", "out.yaml"]);
    assert_eq!(export.stdout, "");
    assert!(
        export.stderr.contains(nameless["id"].as_str().unwrap()),
        "{export:?}"
    );
    assert!(!format!("{export:?}{}", server.read_file("out.yaml")).contains("hunter2"));
    assert_eq!(desk.ends(0, &["export"]).stdout, server.read_file("out.yaml"));
    let again = desk.ends(1, &["export", "--output", "out.yaml"]);
    assert!(again.stderr.contains("is there already"), "{again:?}");

    // Whatever a schedule has is in the file, or is the server's own.
    let everything = desk.named("everything");
    let text = server.read_file("out.yaml");
    let start = text.find("  - name: everything").unwrap();
    let end = text.find("  - name: \"off\"").unwrap();
    let block = &text[start..end];
    for field in keys(&everything) {
        let written = block.lines().any(|line| {
            line.trim_start_matches([' ', '-'])
                .starts_with(&format!("{field}:"))
        });
        assert_ne!(written, NOT_IN_FILES.contains(&field), "{field}");
    }

    let planned = desk.ends(0, &["plan", "out.yaml", "--prune"]);
    assert!(planned.stdout.starts_with("= 3 unchanged\n"), "{planned:?}");
    assert_eq!(planned.stderr, "");

    let variable = [("CALLBACK_SECRET_EVERYTHING", "hunter3")];
    let ran = other.with(&["apply", "out.yaml", "--yes"], &variable);
    assert_eq!(ran.code, 0, "{ran:?}");
    for name in ["everything", "off", "123: [no]"] {
        assert_eq!(content(&other.named(name)), content(&desk.named(name)));
    }
    assert_eq!(other.all().len(), 3);
    assert_eq!(other.ends(0, &["export"]).stdout, server.read_file("out.yaml"));
}

#[test]
fn more_schedules_than_a_page_are_all_seen() {
    let server = start();
    let desk = Desk::of(&server, "acme");
    let all: String = (0..401)
        .map(|number| schedule(&format!("s-{number:03}"), &[]))
        .collect();
    desk.apply(&all, &[]);
    assert_eq!(desk.apply(&all, &[]), "= 401 unchanged\nNothing to do.\n");
    let export = desk.ends(0, &["export"]).stdout;
    assert_eq!(export.matches("- name: s-").count(), 401);
}

#[test]
fn a_secret_comes_from_a_variable_and_is_never_shown() {
    let server = start();
    let desk = Desk::of(&server, "acme");
    let receiver = Receiver::start();
    let url = format!("callback_url: {}", receiver.url());
    let mut said = String::new();
    let mut run = |args: &[&str], secret: &str| {
        let ran = desk.with(args, &[("MY_SECRET", secret)]);
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
        said += &format!("{}{}", ran.stdout, ran.stderr);
        ran.stdout
    };
    let signed_with = |secret: &str| {
        let before = receiver.received().len();
        let id = desk.named("one")["id"].clone();
        desk.client.ok("schedules/trigger", json!({"id": id}));
        receiver.wait_at_least(before + 1);
        assert_signed(&receiver.received()[before], secret);
    };

    server.write_file(
        "f.yaml",
        file(&schedule("one", &[&url, "callback_secret: ${MY_SECRET}"])),
    );
    let planned = desk.ends(2, &["plan", "f.yaml"]);
    assert!(
        planned.stdout.contains("callback_secret: set from ${MY_SECRET}"),
        "{planned:?}"
    );
    let unset = desk.ends(1, &["apply", "f.yaml", "--yes"]);
    assert!(
        unset.stderr.contains("not set: MY_SECRET; nothing was changed"),
        "{unset:?}"
    );
    assert_eq!(desk.all(), Vec::<Value>::new());

    run(&["apply", "f.yaml", "--yes"], "hunter2");
    signed_with("hunter2");
    // Only where it is asked for, because nobody can tell whether it is another one.
    assert!(run(&["apply", "f.yaml", "--yes"], "hunter3").contains("Nothing to do."));
    signed_with("hunter2");
    assert!(run(&["apply", "f.yaml", "--yes", "--set-secrets"], "hunter3").contains("updated one\n"));
    signed_with("hunter3");

    // A file that has it itself works, and is warned about.
    server.write_file(
        "f.yaml",
        file(&schedule("one", &[&url, "callback_secret: hunter4"])),
    );
    run(&["apply", "f.yaml", "--yes", "--set-secrets"], "");
    signed_with("hunter4");
    // Without the receiver the secret goes, too.
    server.write_file("f.yaml", file(&schedule("one", &[])));
    run(&["apply", "f.yaml", "--yes"], "");
    assert_eq!(desk.named("one")["callback_url"], Value::Null);

    assert_eq!(
        said.matches("warning: f.yaml: line 7: callback_secret").count(),
        1,
        "{said}"
    );
    assert!(!said.contains("hunter"), "{said}");
}

#[test]
fn a_plan_for_programs_is_json() {
    let server = start();
    let desk = Desk::of(&server, "acme");
    desk.apply(
        &(schedule("one", &[]) + &schedule("two", &[]) + &schedule("same", &[])),
        &[],
    );
    let id = |name: &str| desk.named(name)["id"].clone();
    let url = "callback_url: http://127.0.0.1:9/";
    let schedules = schedule("same", &[])
        + &schedule("new", &[url, "callback_secret: hunter2"])
        + &schedule("one", &["timezone: Europe/Berlin"]);
    server.write_file("f.yaml", file(&schedules));
    let ran = desk.ends(2, &["plan", "f.yaml", "--json", "--prune"]);
    let plan: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        plan,
        json!({
            "create": [{
                "name": "new",
                "input": {
                    "name": "new", "workflow": "a", "cron_expr": "0 2 * * *", "callback_url": "http://127.0.0.1:9/",
                },
                "sets_callback_secret": true,
            }],
            "update": [{
                "name": "one", "id": id("one"), "sets_callback_secret": false,
                "changes": [{"field": "timezone", "from": "UTC", "to": "Europe/Berlin"}],
            }],
            "delete": [{"name": "two", "id": id("two")}],
            "unchanged": 1,
            "left_alone": [],
            "without_name": 0,
            "problems": [],
        })
    );
    server.write_file(
        "f.yaml",
        file(&schedule("one", &[]).replace("workflow: a", "workflow: b")),
    );
    let ran = desk.ends(1, &["plan", "f.yaml", "--json"]);
    let plan: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(plan["problems"][0]["line"], 3, "{plan}");
    assert_eq!(plan["left_alone"].as_array().unwrap().len(), 2, "{plan}");
}
