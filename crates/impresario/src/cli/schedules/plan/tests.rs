use super::*;

/// A file with one schedule that has these fields besides those that are required.
fn wanted(more: &str) -> Vec<Wanted> {
    let text = format!("version: 1\nschedules:\n- name: a\n  workflow: w\n  cron_expr: '@daily'\n{more}");
    let file = crate::cli::schedules::file::read(&text).unwrap_or_else(|problems| panic!("{problems:?}"));
    file.wanted
}

/// The same schedule on a server.
fn found(more: Value) -> Vec<Found> {
    let mut answer = json!({
        "id": "1", "name": "a", "workflow": "w", "cron_expr": "@daily", "timezone": "UTC", "tags": [],
        "params": {}, "enabled": true, "timeout_seconds": 900, "skip_callbacks": false, "jitter_seconds": 0,
        "misfire_policy": "fire_once", "catchup_window_seconds": 86400, "overlap_policy": "allow",
    });
    let Value::Object(more) = more else {
        panic!("not an object: {more}");
    };
    for (key, value) in more {
        answer[key] = value;
    }
    vec![Found::of(&answer).unwrap()]
}

#[test]
fn what_means_the_same_is_no_difference() {
    for (file, server) in [
        ("", json!({})),
        ("  timezone: utc\n", json!({})),
        (
            "  timezone: america/new_york\n",
            json!({"timezone": "America/New_York"}),
        ),
        (
            "  timeout_seconds: 900\n  tags: []\n  params: {}\n  gpu:\n",
            json!({}),
        ),
        (
            "  params: {a: 1, b: [1.5, x]}\n",
            json!({"params": {"b": [1.5, "x"], "a": 1}}),
        ),
        (
            "  start_at: 2027-01-01T01:00:00+01:00\n",
            json!({"start_at": "2027-01-01T00:00:00.000Z"}),
        ),
        ("  enabled: false\n", json!({"enabled": false})),
        // What the file does not mention is left as it is.
        ("", json!({"enabled": false})),
        (
            "  callback_url: http://r.example\n  callback_secret: ${A}\n",
            json!({"callback_url": "http://r.example"}),
        ),
        (
            "  callback_url: http://r.example\n",
            json!({"callback_url": "http://r.example"}),
        ),
    ] {
        let plan = plan(&wanted(file), &found(server.clone()), Options::default());
        assert!(
            plan.is_empty() && plan.problems.is_empty(),
            "{file}{server}: {plan:?}"
        );
        assert_eq!(plan.unchanged, 1);
    }
}

#[test]
fn an_update_sends_what_changes_and_nothing_else() {
    for (file, server, input) in [
        (
            "  timezone: Europe/Berlin\n",
            json!({}),
            json!({"timezone": "Europe/Berlin"}),
        ),
        (
            "",
            json!({"cron_expr": "@hourly"}),
            json!({"cron_expr": "@daily"}),
        ),
        (
            "  params: {a: 1.0}\n",
            json!({"params": {"a": 1}}),
            json!({"params": {"a": 1.0}}),
        ),
        (
            "  enabled: true\n",
            json!({"enabled": false}),
            json!({"enabled": true}),
        ),
        ("  enabled: false\n", json!({}), json!({"enabled": false})),
        // Absent is the default, whatever the server has.
        (
            "",
            json!({
                "timezone": "Europe/Berlin", "params": {"a": 1}, "tags": ["x"], "timeout_seconds": 60, "gpu": true,
                "enabled": false, "description": "d", "max_consecutive_failures": 3, "skip_callbacks": true,
                "end_at": "2027-01-01T00:00:00.000Z", "misfire_policy": "skip", "catchup_window_seconds": 5,
                "overlap_policy": "skip", "jitter_seconds": 9, "viewport": {"width": 1, "height": 2},
                "residential_proxy": {"country": "US"}, "start_url": "about:blank",
                "start_at": "2026-01-01T00:00:00.000Z", "disable_default_proxy": false,
            }),
            json!({
                "timezone": "UTC", "params": {}, "tags": [], "timeout_seconds": 900, "gpu": null,
                "description": null, "max_consecutive_failures": null, "skip_callbacks": false,
                "end_at": null, "misfire_policy": "fire_once", "catchup_window_seconds": 86400,
                "overlap_policy": "allow", "jitter_seconds": 0, "viewport": null, "residential_proxy": null,
                "start_url": null, "start_at": null, "disable_default_proxy": null,
            }),
        ),
        (
            "",
            json!({"callback_url": "http://r.example"}),
            json!({"callback_url": null, "callback_secret": null}),
        ),
        // The secret that is there goes on.
        (
            "  callback_url: http://new.example\n",
            json!({"callback_url": "http://old.example"}),
            json!({"callback_url": "http://new.example"}),
        ),
    ] {
        let plan = plan(&wanted(file), &found(server.clone()), Options::default());
        let [update] = plan.updates.as_slice() else {
            panic!("{file}{server}: {plan:?}");
        };
        let mut expected = input.as_object().unwrap().clone();
        expected.insert("id".to_owned(), json!("1"));
        assert_eq!(update.input(), expected, "{file}");
        assert!(update.secret.is_none() && plan.problems.is_empty(), "{file}");
        assert!(plan.creates.is_empty() && plan.deletes.is_empty() && plan.unchanged == 0);
    }
}

#[test]
fn a_create_says_what_the_file_says() {
    let file = "  timezone: utc\n  timeout_seconds: 60\n  gpu: false\n  enabled: false\n";
    let plan = plan(&wanted(file), &[], Options::default());
    let input = json!({
        "name": "a", "workflow": "w", "cron_expr": "@daily", "timeout_seconds": 60, "gpu": false, "enabled": false,
    });
    assert_eq!(Value::from(plan.creates[0].input.clone()), input);
    assert!(plan.updates.is_empty() && plan.problems.is_empty());
}

#[test]
fn a_secret_goes_with_a_new_receiver_or_where_it_is_asked_for() {
    let with = "  callback_url: http://r.example\n  callback_secret: ${A}\n";
    let without = "  callback_url: http://r.example\n";
    let (none, same, other) = (
        found(json!({})),
        found(json!({"callback_url": "http://r.example"})),
        found(json!({"callback_url": "http://old.example"})),
    );
    let again = Options {
        set_secrets: true,
        ..Options::default()
    };
    let plain = Options::default();
    for (file, found, options, sent, problems) in [
        (with, Vec::new(), plain, true, 0),
        (with, none.clone(), plain, true, 0),
        (with, other.clone(), plain, true, 0),
        (with, same.clone(), plain, false, 0),
        (with, same.clone(), again, true, 0),
        (without, Vec::new(), plain, false, 1),
        (without, none, plain, false, 1),
        (without, other, plain, false, 0),
        (without, same, again, false, 0),
    ] {
        let plan = plan(&wanted(file), &found, options);
        let secrets = plan
            .creates
            .iter()
            .map(|create| &create.secret)
            .chain(plan.updates.iter().map(|update| &update.secret));
        let secret = secrets.flatten().next();
        let context = format!("{file}{found:?} {options:?}");
        assert_eq!(
            secret,
            sent.then_some(&SecretFrom::Variable("A".to_owned())),
            "{context}"
        );
        assert_eq!(plan.problems.len(), problems, "{context}");
    }
}

#[test]
fn another_workflow_is_a_problem_and_no_step() {
    let plan = plan(
        &wanted(""),
        &found(json!({"workflow": "old", "cron_expr": "@hourly"})),
        Options {
            prune: true,
            set_secrets: true,
        },
    );
    assert!(plan.is_empty(), "{plan:?}");
    let text = plan.problems[0].to_string();
    for part in ["line 3", "\"a\"", "\"old\"", "\"w\"", "another name", "delete"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn only_prune_deletes_and_never_what_has_no_name() {
    let mut server = found(json!({}));
    for (id, name) in [("2", json!("z")), ("3", json!("b")), ("4", json!(null))] {
        server.extend(found(json!({"id": id, "name": name})));
    }
    let others = ["b", "z"].map(str::to_owned);
    let names = |known: &[Known]| known.iter().map(|known| known.name.clone()).collect::<Vec<_>>();
    let kept = plan(&wanted(""), &server, Options::default());
    assert!(kept.is_empty());
    assert_eq!(names(&kept.left_alone), others);
    let pruned = plan(
        &wanted(""),
        &server,
        Options {
            prune: true,
            ..Options::default()
        },
    );
    assert!(!pruned.is_empty() && pruned.left_alone.is_empty());
    assert_eq!(names(&pruned.deletes), others);
    assert_eq!([kept.nameless, pruned.nameless], [1, 1]);
    assert_eq!([kept.unchanged, pruned.unchanged], [1, 1]);
}
