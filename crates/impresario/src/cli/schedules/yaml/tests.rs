use proptest::prelude::*;
use serde_json::json;

use super::*;

fn value(text: &str) -> Value {
    match read(text) {
        Ok(node) => node.unwrap().to_json(),
        Err(problem) => panic!("{text:?}: {problem}"),
    }
}

fn problem(text: &str) -> Problem {
    match read(text) {
        Ok(_) => panic!("{text:?} was read"),
        Err(problem) => problem,
    }
}

#[test]
fn scalars_are_those_of_yaml_1_2() {
    for (text, expected) in [
        ("~", json!(null)),
        ("null", json!(null)),
        ("true", json!(true)),
        ("False", json!(false)),
        ("no", json!("no")),
        ("on", json!("on")),
        ("'true'", json!("true")),
        ("!!str 7", json!("7")),
        ("7", json!(7)),
        ("-7", json!(-7)),
        ("+7", json!(7)),
        ("0", json!(0)),
        ("1.0", json!(1.0)),
        ("1e3", json!(1e3)),
        ("18446744073709551615", json!(u64::MAX)),
        ("1_000", json!("1_000")),
        ("12:30", json!("12:30")),
        ("2027-01-01", json!("2027-01-01")),
        ("2027-01-01T00:00:00Z", json!("2027-01-01T00:00:00Z")),
        ("0 2 * * *", json!("0 2 * * *")),
        ("e3", json!("e3")),
        (".", json!(".")),
        ("0xyz", json!("0xyz")),
        ("|\n a\n b\n", json!("a\nb\n")),
        ("{a: [1, {b: c}]}", json!({"a": [1, {"b": "c"}]})),
    ] {
        assert_eq!(value(text), expected, "{text}");
    }
}

#[test]
fn what_can_be_read_in_more_than_one_way_has_to_say_what_it_is() {
    for text in [
        "02134", "-01", "0x1F", "0o17", ".5", "5.", ".inf", "-.Inf", ".nan", "1e999",
    ] {
        assert!(problem(text).text.contains("more than one way"), "{text}");
        assert_eq!(value(&format!("'{text}'")), json!(text));
    }
}

#[test]
fn a_merge_key_in_quotes_is_a_text() {
    assert_eq!(value("{\"<<\": 1, '<<x': 2}"), json!({"<<": 1, "<<x": 2}));
}

#[test]
fn an_error_has_its_line() {
    for (text, line, part) in [
        ("a: 1\nb: [1, 2\n", 3, "is not YAML"),
        ("a: 1\nb: \"2\n", 2, "is not YAML"),
        ("a: 1\nb: 2\na: 3\n", 3, "\"a\" stands twice, first on line 1"),
        ("a: 1\n---\nb: 2\n", 2, "a second document"),
        ("a: 1\n1: b\n", 2, "put it in quotes"),
        ("a: 1\n[b]: c\n", 2, "a key must be a text"),
        ("a: 1\nb: !thing c\n", 2, "the tag \"!thing\""),
        ("a: 1\nb: !!set {c: 1}\n", 2, "the tag"),
        ("a: &a\n  b: *a\n", 2, "is part of"),
        ("a: &a {b: 1}\nc:\n  <<: *a\n", 3, "merge keys"),
        ("a: *b\n", 1, "is not YAML"),
    ] {
        let problem = problem(text);
        assert!(problem.text.contains(part), "{text:?}: {problem}");
        assert_eq!(problem.line, line, "{text:?}: {problem}");
    }
}

#[test]
fn nothing_is_no_value() {
    for text in ["", "\n\n", "# a remark\n"] {
        assert!(
            read(text).unwrap_or_else(|problem| panic!("{problem}")).is_none(),
            "{text:?}"
        );
    }
}

#[test]
fn aliases_stand_for_what_they_name_and_do_not_explode() {
    assert_eq!(
        value("a: &a {b: [1]}\nc: *a\nd: *a\n"),
        json!({"a": {"b": [1]}, "c": {"b": [1]}, "d": {"b": [1]}})
    );
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let inner = vec![format!("*a{}", level - 1); 10].join(", ");
        let _ = writeln!(bomb, "a{level}: &a{level} [{inner}]");
    }
    assert!(problem(&bomb).text.contains("too large"), "{}", problem(&bomb));
    // One long text, many times.
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), "*a, ".repeat(1000));
    assert!(problem(&long).text.contains("too large"), "{}", problem(&long));
    // Deeper with every alias.
    let mut deep = String::from("a0: &a0 [x]\n");
    for level in 1..200 {
        let _ = writeln!(deep, "a{level}: &a{level} [*a{}]", level - 1);
    }
    assert!(problem(&deep).text.contains("160 deep"), "{}", problem(&deep));
}

#[test]
fn depth_has_an_end() {
    for text in [
        "[".repeat(1_000_000),
        "- ".repeat(100_000),
        "{a: ".repeat(100_000),
    ] {
        let problem = problem(&text);
        // The parser has a limit of its own.
        let limits = ["160 deep", "recursion limit"];
        assert!(
            limits.iter().any(|limit| problem.text.contains(limit)),
            "{problem}"
        );
    }
    let deepest = (0..128).fold(json!("x"), |inner, level| match level % 2 {
        0 => json!([inner]),
        _ => json!({"a": inner}),
    });
    let mut text = String::new();
    write_entry(&mut text, 4, "params", &deepest);
    assert_eq!(value(&text), json!({"params": deepest}));
}

fn any_value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        any::<String>(),
        "[ -~]{0,12}",
        "[0-9+.eExo_:-]{1,8}",
        prop::sample::select(vec![
            "",
            "no",
            "Null",
            "~",
            "a\n\nb ",
            " a",
            "a: b",
            "a #b",
            "\u{85}\u{2028}\u{feff}\0"
        ])
        .prop_map(str::to_owned),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((text.clone(), inner), 0..4).prop_map(|entries| Value::Object(
                entries.into_iter().filter(|(key, _)| key != "<<").collect()
            )),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_it_was(value in any_value()) {
        let mut text = String::new();
        write_entry(&mut text, 0, "key", &value);
        match read(&text) {
            Ok(node) => prop_assert_eq!(node.unwrap().to_json(), json!({"key": value}), "{}", text),
            Err(problem) => prop_assert!(false, "{problem}: {text}"),
        }
    }

    #[test]
    fn whatever_is_read_ends_without_a_panic(text in "[a-c&*!{}\\[\\],:'\"|>#?%@\n -]{0,80}") {
        let _outcome = read(&text);
    }
}
