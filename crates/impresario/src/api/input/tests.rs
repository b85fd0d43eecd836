use super::*;
use serde_json::json;

fn fields(value: Value) -> Fields {
    let Value::Object(object) = value else {
        panic!("an object")
    };
    Fields::new(object)
}

/// Code and message of every issue.
fn issues(fields: Fields) -> Vec<(String, String)> {
    match fields.finish() {
        Ok(()) => Vec::new(),
        Err(error) => error
            .issues()
            .iter()
            .map(|issue| (issue.code.clone(), issue.message.clone()))
            .collect(),
    }
}

fn pair(code: &str, message: &str) -> (String, String) {
    (code.to_owned(), message.to_owned())
}

#[test]
fn all_issues_at_once_each_with_its_sentence() {
    let mut input = fields(json!({
        "timeout_seconds": 0, "enabled": "yes", "id": "x", "tags": ["ok", 5, ""], "callback_secret": 12345678,
        "viewport": {"width": 5.5, "depth": 1}, "limit": null, "cron": "at noon", "mode": "fast", "enbled": true,
        "after": "tomorrow", "params": {"a": [{"b": "x\0y"}]}, "at_0": "a\0b"
    }));
    assert_eq!(input.required_string("workflow", 1..=10), None);
    assert_eq!(input.optional_int("timeout_seconds", 1..=3600), None);
    assert_eq!(input.optional_bool("enabled"), None);
    assert_eq!(input.required_uuid("id"), None);
    assert_eq!(input.optional_string_list("tags", 10, 1..=20), None);
    assert_eq!(input.optional_secret("callback_secret", 1..=1024), None);
    let viewport = input.nested("viewport", |inner| {
        let width = inner.required_int("width", 1..=7680);
        let height = inner.required_int("height", 1..=4320);
        Some((width?, height?))
    });
    assert_eq!(viewport, None);
    assert_eq!(input.optional_int("limit", 1..=200), None);
    let cron: Option<()> = input.required_parsed("cron", 1..=256, |_| {
        Err(Flaw::new("invalid_format", "five fields"))
    });
    assert_eq!(cron, None);
    assert_eq!(input.optional_choice("mode", &[("slow", 1), ("safe", 2)]), None);
    assert_eq!(input.optional_instant("after"), None);
    assert_eq!(input.optional_object("params"), None);
    assert_eq!(input.optional_string("at_0", 0..=9), None);
    let found = issues(input);
    assert!(!format!("{found:?}").contains("12345678"), "a secret is repeated");
    assert_eq!(
        found,
        [
            pair("invalid_type", "workflow: is required"),
            pair("too_small", "timeout_seconds: 0 is out of range (1 to 3600)"),
            pair("invalid_type", "enabled: expected true or false, got \"yes\""),
            pair("invalid_format", "id: \"x\" is not a UUID"),
            pair("invalid_type", "tags[1]: expected a string, got 5"),
            pair("too_small", "tags[2]: must not be empty (1 to 20 characters)"),
            pair("invalid_type", "callback_secret: expected a string"),
            pair("invalid_type", "viewport.width: expected a whole number, got 5.5"),
            pair("invalid_type", "viewport.height: is required"),
            pair(
                "unrecognized_keys",
                "viewport: unrecognized key \"depth\" (allowed: width, height)"
            ),
            pair("invalid_type", "limit: cannot be null; leave it out instead"),
            pair("invalid_format", "cron: five fields"),
            pair(
                "invalid_value",
                "mode: \"fast\" is not allowed (one of slow, safe)"
            ),
            pair(
                "invalid_format",
                "after: \"tomorrow\" is not an RFC 3339 instant such as 2026-05-17T01:15:00Z"
            ),
            pair(
                "invalid_format",
                "params.a[0].b: must not contain a NUL character"
            ),
            pair("invalid_format", "at_0: must not contain a NUL character"),
            pair(
                "unrecognized_keys",
                "unrecognized key \"enbled\" (did you mean \"enabled\"?)"
            ),
        ]
    );
}

#[test]
fn whole_numbers() {
    let range = i64::MIN..=i64::MAX;
    for (text, expected) in [
        ("5", Ok(5)),
        ("5.0", Ok(5)),
        ("5e2", Ok(500)),
        ("-0.0", Ok(0)),
        ("-7", Ok(-7)),
        ("9223372036854775807", Ok(i64::MAX)),
        ("9223372036854775808", Err("too_big")),
        ("1e300", Err("too_big")),
        ("-1e300", Err("too_small")),
        ("5.5", Err("invalid_type")),
        ("1e-300", Err("invalid_type")),
        ("\"5\"", Err("invalid_type")),
        ("true", Err("invalid_type")),
        ("[5]", Err("invalid_type")),
    ] {
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(
            values::int(&value, &range).map_err(|flaw| flaw.code),
            expected,
            "{text}"
        );
    }
    assert_eq!(
        values::int(&json!(3601), &(1..=3600)).unwrap_err().message,
        "3601 is out of range (1 to 3600)"
    );
}

#[test]
fn a_patch_tells_absent_from_null() {
    let mut input = fields(json!({"cleared": null, "set": "x", "wrong": 5, "view": null}));
    assert_eq!(input.patch_string("absent", 1..=9), Patch::Absent);
    assert_eq!(input.patch_string("cleared", 1..=9), Patch::Null);
    assert_eq!(input.patch_string("set", 1..=9), Patch::Set("x".to_owned()));
    assert_eq!(input.patch_string("wrong", 1..=9), Patch::Absent);
    assert_eq!(
        input.patch_nested("view", |inner| inner.required_int("width", 1..=2)),
        Patch::Null
    );
    assert_eq!(
        issues(input),
        [pair("invalid_type", "wrong: expected a string, got 5")]
    );
    assert_eq!(Patch::Absent.apply(Some(1)), Some(1));
    assert_eq!(Patch::Null.apply(Some(1)), None);
    assert_eq!(Patch::Set(2).apply(Some(1)), Some(2));
}

#[test]
fn long_values_are_cut_and_many_keys_are_counted() {
    let mut input = fields(json!({"id": "é".repeat(5_000)}));
    input.required_uuid("id");
    assert_eq!(
        issues(input)[0].1.chars().count(),
        "id: ".len() + 83 + " is not a UUID".len()
    );

    let mut input = fields(json!({"params": {"k".repeat(5_000): "x\0"}}));
    input.optional_object("params");
    let error = input.finish().unwrap_err();
    assert!(serde_json::to_string(error.issues()).unwrap().len() < 500);

    let many: Map<String, Value> = (0..1_000).map(|n| (format!("key{n}"), json!(1))).collect();
    let found = issues(Fields::new(many));
    assert_eq!(found.len(), 1);
    assert!(found[0].1.ends_with("\"key9\" and 990 more"), "{}", found[0].1);
}

#[test]
fn misspellings_are_recognised() {
    for (given, meant) in [
        ("cronExpr", Some("cron_expr")),
        ("cron-expr", Some("cron_expr")),
        ("corn_expr", Some("cron_expr")),
        ("cron_expression", None),
        ("TIMEZONE", Some("timezone")),
        ("tz", None),
        ("timezne", Some("timezone")),
        ("colour", None),
    ] {
        let mut input = fields(json!({given: 1}));
        for name in ["a", "b", "c", "d", "cron_expr", "timezone", "enabled"] {
            let _ = input.optional_bool(name);
        }
        let text = issues(input)[0].1.clone();
        let expected = meant.map_or(!text.contains("did you mean"), |m| {
            text.contains(&format!("did you mean \"{m}\"?"))
        });
        assert!(expected, "{given}: {text}");
    }
}

#[test]
fn only_the_hyphenated_form_is_an_id() {
    let id = "0196dd3f-6d3e-7000-8000-000000000001";
    assert!(values::uuid(&json!(id)).is_ok());
    assert!(values::uuid(&json!(id.to_uppercase())).is_ok());
    for other in [
        id.replace('-', ""),
        format!("{{{id}}}"),
        format!("urn:uuid:{id}"),
        String::new(),
    ] {
        assert!(values::uuid(&json!(other)).is_err(), "{other}");
    }
}

#[test]
fn finish_with_builds_only_from_a_valid_input() {
    let mut input = fields(json!({"name": "x"}));
    let name = input.required_string("name", 1..=9);
    assert_eq!(input.finish_with(|| Some(name?.len())).unwrap(), 1);

    let mut input = fields(json!({"other": 1}));
    let name = input.required_string("name", 1..=9);
    let error = input.finish_with(|| Some(name?.len())).unwrap_err();
    assert_eq!(error.to_string(), "name: is required (and 1 more)");
}

#[test]
fn what_is_not_read_yet_is_shown_by_name_only() {
    let object = || match json!({"callback_secret": "hunter2", "value": {"deep": ["hunter3"]}}) {
        Value::Object(object) => object,
        _ => Map::new(),
    };
    let shown = format!(
        "{:?} {:?} {:?}",
        Fields::new(object()),
        crate::api::Input(object()),
        crate::api::envelope::PlainInput(object())
    );
    assert!(!shown.contains("hunter"), "{shown}");
    assert_eq!(shown.matches("callback_secret").count(), 3, "{shown}");
}

#[test]
fn characters_are_counted_and_not_bytes() {
    for (text, fits) in [
        ("", false),
        ("a", false),
        ("ä", false),
        ("😀", false),
        ("ab", true),
        ("😀😀", true),
        ("😀😀😀😀", true),
        ("abcd", true),
        ("abcde", false),
        ("ääääää", false),
    ] {
        let mut input = fields(json!({"text": text}));
        assert_eq!(input.required_string("text", 2..=4).is_some(), fits, "{text}");
    }
}
