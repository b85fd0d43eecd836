use super::*;
use serde_json::json;
use std::time::{Duration, Instant};

/// Code, path and message of each violation.
fn of(schema: &Value, params: &Value) -> Vec<String> {
    let Value::Object(params) = params else {
        panic!("params are an object")
    };
    violations(schema, params)
        .into_iter()
        .map(|flaw| {
            format!(
                "{} {}: {}",
                flaw.code,
                super::super::values::dotted(&flaw.path),
                flaw.message
            )
        })
        .collect()
}

/// As zod's output mode writes it.
fn zod() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "url": {"type": "string", "format": "uri", "minLength": 1},
            "pages": {"default": 1, "type": "integer", "minimum": 1, "maximum": 9},
            "nested": {
                "type": "object",
                "properties": {"deep": {"default": "x", "type": "string"}, "named": {"$ref": "#/$defs/n"}},
                "required": ["deep", "named"],
                "additionalProperties": false
            },
            "list": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"a": {"type": "string"}, "b": {"default": 1, "type": "number"}},
                    "required": ["a", "b"],
                    "additionalProperties": false
                }
            },
            "note": {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]}
        },
        "$defs": {"n": {"default": 3, "type": "integer"}},
        "required": ["url", "pages", "nested"],
        "additionalProperties": false
    })
}

#[test]
fn an_input_that_would_run_is_taken() {
    for good in [
        json!({"url": "not a URI, but zod's business", "nested": {"extra": 1}, "other": true}),
        json!({"url": "x", "pages": 9.0, "nested": {}, "list": [{"a": "x", "c": 1}], "note": null}),
    ] {
        assert_eq!(of(&zod(), &good), [""; 0], "{good}");
    }
}

#[test]
fn every_violation_has_its_path_and_a_sentence() {
    let bad = json!({"pages": 10, "nested": {"deep": 4, "named": 1.5}, "list": [{"a": "x"}, {}, 5], "note": "long"});
    let mut found = of(&zod(), &bad);
    found.sort();
    assert_eq!(
        found,
        [
            "invalid_type list[1].a: is required",
            "invalid_type list[2]: expected an object, got 5",
            "invalid_type nested.deep: expected a string, got 4",
            "invalid_type nested.named: expected a whole number, got 1.5",
            "invalid_type url: is required",
            "too_big note: must have at most 3 characters, got \"long\"",
            "too_big pages: 10 is more than 9",
        ]
    );
    assert_eq!(
        of(&zod(), &json!({"url": "x", "nested": {}, "note": 5})),
        ["invalid_type note: expected a string or null, got 5"]
    );
}

#[test]
fn a_union_speaks_of_the_branch_that_was_meant() {
    let branch = |kind: &str, field: &str| {
        json!({"type": "object", "additionalProperties": false, "required": ["kind", field],
            "properties": {"kind": {"type": "string", "const": kind}, field: {"type": "number"}}})
    };
    let schema =
        json!({"properties": {"pay": {"oneOf": [branch("card", "number"), branch("cash", "amount")]}}});
    assert_eq!(
        of(
            &schema,
            &json!({"pay": {"kind": "cash", "amount": 5, "number": 1}})
        ),
        [""; 0]
    );
    assert_eq!(
        of(&schema, &json!({"pay": {"kind": "cash"}})),
        ["invalid_type pay.amount: is required"]
    );
    let neither = of(&schema, &json!({"pay": {"kind": "gold"}}));
    assert_eq!(
        neither,
        ["invalid_value pay: fits none of the shapes the workflow takes, got an object"]
    );

    // Relaxed, both branches fit, which `oneOf` would refuse.
    let open = |key: &str| json!({"type": "object", "properties": {key: {"type": "string"}}, "additionalProperties": false});
    assert_eq!(
        of(&json!({"oneOf": [open("a"), open("b")]}), &json!({"a": "x"})),
        [""; 0]
    );
    let both = json!({"oneOf": [open("a"), open("b")], "anyOf": [{"required": ["c"]}]});
    assert_eq!(of(&both, &json!({"a": "x", "c": 1})), [""; 0]);
    assert_eq!(of(&both, &json!({"a": "x"})).len(), 1);
}

#[test]
fn other_sentences() {
    let schema = json!({"properties": {
        "color": {"enum": ["red", "green"]}, "n": {"exclusiveMinimum": 0}, "p": {"pattern": "^[a-z]+$"},
        "l": {"type": "array", "maxItems": 1}, "never": {"not": {}}, "7": {"type": "string"}, "m": {"multipleOf": 5},
        "t": {"type": ["string", "null"]}, "no": false
    }});
    let bad =
        json!({"color": "blue", "n": 0, "p": "A1", "l": [1, 2], "never": 1, "7": 7, "m": 7, "t": 1, "no": 1});
    let mut found = of(&schema, &bad);
    found.sort();
    assert_eq!(
        found,
        [
            "custom m: the value is not a multiple of 5",
            "custom never: {} is not allowed for the value",
            "invalid_format p: \"A1\" does not match the pattern \"^[a-z]+$\"",
            "invalid_type 7: expected a string, got 7",
            "invalid_type t: expected null or a string, got 1",
            "invalid_value color: \"blue\" is not one of \"red\", \"green\"",
            "invalid_value no: is not allowed",
            "too_big l: must have at most 1 entries",
            "too_small n: 0 is not more than 0",
        ]
    );
}

#[test]
fn data_that_looks_like_a_schema_is_left_alone() {
    let schema = json!({"properties": {"x": {"const": {"additionalProperties": false}}}, "required": ["x"]});
    assert_eq!(
        of(&schema, &json!({"x": {"additionalProperties": false}})),
        [""; 0]
    );
    assert_eq!(of(&schema, &json!({"x": {}})).len(), 1);
    let named = json!({"properties": {"required": {"type": "string"}, "$ref": {"type": "string"}, "$id": {"type": "string"}}});
    assert_eq!(
        of(&named, &json!({"required": "x", "$ref": "y", "$id": "z"})),
        [""; 0]
    );
    assert_eq!(of(&named, &json!({"required": 1, "$ref": 1, "$id": 1})).len(), 3);
}

#[test]
fn a_schema_that_cannot_be_used_is_passed_over() {
    for schema in [
        json!({"type": "no-such-type"}),
        json!({"properties": 5}),
        json!({"$ref": "http://127.0.0.1:1/schema.json"}),
        json!({"$ref": "file:///etc/passwd"}),
        json!({"$schema": "http://127.0.0.1:1/meta.json", "type": "string"}),
        json!({"$ref": "#/$defs/none"}),
        json!({"properties": {"a": {"pattern": "("}}}),
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}}),
        json!("text"),
        json!(null),
        json!([]),
    ] {
        assert_eq!(of(&schema, &json!({"a": "x"})), [""; 0], "{schema}");
    }
}

#[test]
fn recursive_schemas_are_checked() {
    let tree = json!({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "required": ["v"],
        "properties": {"v": {"type": "number"}, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}}});
    assert_eq!(
        of(&tree, &json!({"v": 1, "children": [{"v": 2, "children": []}]})),
        [""; 0]
    );
    let found = of(
        &tree,
        &json!({"v": 1, "children": [{"v": 2, "children": [{"v": "x"}]}]}),
    );
    assert_eq!(
        found,
        ["invalid_type children[0].children[0].v: expected a number, got \"x\""]
    );
}

/// A schema or an input that is out to cost time. What it is answered matters less than that it is answered.
fn assert_quick(name: &str, schema: &Value, params: &Value) {
    let started = Instant::now();
    let found = of(schema, params).len();
    let took = started.elapsed();
    assert!(took < Duration::from_secs(20), "{name} took {took:?}");
    assert!(found <= REPORTED, "{name}: {found} violations");
}

#[test]
fn hostile_schemas_cost_bounded_work() {
    let long = "a".repeat(20_000) + "!";
    let nested = json!({"properties": {"a": {"pattern": "^(?:a+(?!b))+$"}}});
    assert_quick("backtracking", &nested, &json!({"a": long}));
    // Nobody knows whether it matches, so it is taken.
    assert_eq!(of(&nested, &json!({"a": "a".repeat(40) + "!"})), [""; 0]);
    assert_quick(
        "linear",
        &json!({"properties": {"a": {"pattern": "^(a+)+$"}}}),
        &json!({"a": long}),
    );
    assert_quick(
        "large class",
        &json!({"properties": {"a": {"pattern": "(\\p{L}{500}){500}"}}}),
        &json!({"a": long}),
    );
    let many = json!({"additionalProperties": {"type": "array", "items": {"pattern": "^(?:a+(?!b))+$"}}});
    assert_quick(
        "many backtracking",
        &many,
        &json!({"a": vec!["a".repeat(30) + "!"; 1_900]}),
    );

    let mut doubling = serde_json::Map::new();
    let mut chain = serde_json::Map::new();
    for n in 0..3_000 {
        let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
        doubling.insert(format!("d{n}"), json!({"anyOf": [next, next]}));
        chain.insert(format!("d{n}"), next);
    }
    for defs in [&mut doubling, &mut chain] {
        defs.insert("d3000".to_owned(), json!({"type": "string"}));
    }
    let rooted = |defs: &serde_json::Map<String, Value>| json!({"$ref": "#/$defs/d0", "$defs": defs});
    assert_quick("doubling", &rooted(&doubling), &json!({"a": 1}));
    assert_quick("chain", &rooted(&chain), &json!({"a": 1}));

    let both = json!({"anyOf": [{"properties": {"x": {"$ref": "#"}}}, {"properties": {"x": {"$ref": "#"}}}], "required": ["y"]});
    let deep = |levels: usize| (0..levels).fold(json!({}), |inner, _| json!({"x": inner}));
    assert_quick("doubling with depth", &both, &deep(40));

    // Sixty schemas nested for one value, and again for the value inside it, and again.
    let tower: serde_json::Map<String, Value> = (0..60)
        .map(|n| {
            (
                format!("t{n}"),
                json!({"allOf": [{"$ref": format!("#/$defs/t{}", n + 1)}]}),
            )
        })
        .chain([(
            "t60".to_owned(),
            json!({"properties": {"x": {"$ref": "#/$defs/t0"}}}),
        )])
        .collect();
    assert_quick("tower", &json!({"$ref": "#/$defs/t0", "$defs": tower}), &deep(90));

    let wide = json!({"additionalProperties": {"type": "array", "items": {"type": "string"}}});
    assert_quick("many violations", &wide, &json!({"a": vec![1; 90_000]}));
    let deep_list = (0..95).fold(json!([]), |inner, _| json!([inner]));
    assert_quick(
        "depth",
        &json!({"items": {"$ref": "#"}, "additionalProperties": {"$ref": "#"}}),
        &json!({"a": deep_list}),
    );
    let unique = json!({"additionalProperties": {"uniqueItems": true}});
    assert_quick(
        "unique",
        &unique,
        &json!({"a": (0..90_000).map(|n| json!({"n": n})).collect::<Vec<_>>()}),
    );
}

#[test]
fn patterns_as_zod_writes_them_are_understood() {
    for (pattern, good, bad) in [
        (
            r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$",
            "a.b@example.com",
            "a..b@example.com",
        ),
        (
            r"^https?:\/\/[^\s/$.?#].[^\s]*$",
            "https://example.com/x",
            "ftp://example.com",
        ),
        (
            r"^\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])$",
            "2026-05-17",
            "٢٠٢٦-05-17",
        ),
        (
            r"^$|^(?:[0-9a-zA-Z+/]{4})*(?:(?:[0-9a-zA-Z+/]{2}==)|(?:[0-9a-zA-Z+/]{3}=))?$",
            "aGk=",
            "aGk",
        ),
        (r"^(\p{Extended_Pictographic}|\p{Emoji_Component})+$", "🙂", "x"),
        (r"^([a-z]+) \1$", "so so", "so no"),
    ] {
        let schema = json!({"properties": {"a": {"type": "string", "pattern": pattern}}});
        assert_eq!(of(&schema, &json!({"a": good})), [""; 0], "{pattern}");
        assert_eq!(of(&schema, &json!({"a": bad})).len(), 1, "{pattern}");
    }
}

#[test]
fn a_pattern_that_is_not_understood_costs_only_the_patterns() {
    let schema = json!({
        "properties": {"a": {"type": "string", "pattern": "^[^]$"}, "pattern": {"type": "string", "pattern": "^x$"}},
        "patternProperties": {"^b": {"type": "string"}}, "additionalProperties": {"type": "number"}
    });
    assert_eq!(
        of(&schema, &json!({"a": "whatever", "b": "x", "pattern": "y"})),
        [""; 0]
    );
    assert_eq!(of(&schema, &json!({"a": 1, "pattern": 2})).len(), 2);
}

#[test]
fn an_honest_large_input_is_still_checked() {
    let list = |last: Value| {
        let mut rows: Vec<Value> = (0..2_000)
            .map(|n| json!({"a": format!("row {n}"), "b": n}))
            .collect();
        rows.push(last);
        json!({"url": "x", "nested": {}, "list": rows})
    };
    assert_eq!(of(&zod(), &list(json!({"a": "x"}))), [""; 0]);
    assert_eq!(
        of(&zod(), &list(json!({"a": 1}))),
        ["invalid_type list[2000].a: expected a string, got 1"]
    );
}

#[tokio::test]
async fn the_check_is_ready_for_the_reader_of_the_input() {
    let mut input = super::super::Fields::new(serde_json::Map::new());
    let params = json!({"pages": 0}).as_object().unwrap().clone();
    input.report("params", check(zod(), params).await);
    let error = input.finish().unwrap_err();
    assert!(
        error
            .issues()
            .iter()
            .all(|issue| issue.message.starts_with("params.")),
        "{:#?}",
        error.issues()
    );
    assert_eq!(error.issues().len(), 3);
}

#[tokio::test]
async fn many_inputs_are_judged_as_each_would_be_alone() {
    let schema = zod();
    let inputs = [
        json!({"url": "x", "pages": 3, "nested": {}}),
        json!({"pages": 10}),
        (0..150).fold(json!({}), |inner, _| json!({"url": inner})),
        json!({"url": 1}),
    ];
    let inputs: Vec<_> = inputs
        .iter()
        .map(|input| input.as_object().unwrap().clone())
        .collect();
    let alone: Vec<_> = inputs.iter().map(|input| violations(&schema, input)).collect();
    assert!(alone.iter().any(Vec::is_empty) && !alone.iter().all(Vec::is_empty));
    let prepared = Prepared::new(schema);
    let (together, took) = prepared.check(inputs.clone(), Duration::MAX).await;
    assert_eq!(together, alone);
    // Once more with what was compiled before, and without the time for any.
    assert_eq!(prepared.check(inputs.clone(), Duration::MAX).await.0, alone);
    assert!(took > Duration::ZERO);
    assert_eq!(
        prepared.check(inputs, Duration::ZERO).await.0,
        Vec::<Vec<Flaw>>::new()
    );
    let unusable = Prepared::new(json!({"$ref": "elsewhere"}));
    assert_eq!(
        unusable.check(vec![Map::new(); 3], Duration::MAX).await.0,
        vec![vec![]; 3]
    );
}
