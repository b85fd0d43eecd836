use std::path::Path;

use super::*;

/// The copy that people read, beside the other documentation.
const CHECKED_IN: &str = "../../docs/openapi.json";

#[test]
fn the_copy_in_the_documentation_is_the_one_that_is_served() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(CHECKED_IN);
    let kept = std::fs::read_to_string(path).unwrap();
    let made = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    assert!(
        kept == made,
        "docs/openapi.json is not what the types say: `cargo run -- openapi > docs/openapi.json`"
    );
}

/// Every schema in `value`, with the way to it.
fn walk<'a>(value: &'a Value, way: &str, found: &mut Vec<(String, &'a Value)>) {
    found.push((way.to_owned(), value));
    match value {
        Value::Object(object) => object
            .iter()
            .for_each(|(key, inner)| walk(inner, &format!("{way}/{key}"), found)),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .for_each(|(index, inner)| walk(inner, &format!("{way}/{index}"), found)),
        _ => {}
    }
}

#[test]
fn every_field_says_what_it_is_and_shows_how_it_looks() {
    let document = document();
    let mut silent = Vec::new();
    let mut fields = 0;
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(
            schema["description"].is_string() || name == "PathSegment",
            "{name}"
        );
        let Some(properties) = schema["properties"].as_object() else {
            continue;
        };
        for (field, schema) in properties {
            fields += 1;
            let typed = ["type", "$ref", "anyOf", "const"]
                .iter()
                .any(|key| schema.get(key).is_some());
            // What its type or the schema it refers to shows already.
            let plain = ["$ref", "anyOf", "enum", "const", "examples"]
                .iter()
                .any(|key| schema.get(key).is_some())
                || schema.to_string().contains("\"boolean\"")
                || schema["items"].get("$ref").is_some()
                || schema["items"].get("examples").is_some();
            // A result, a JSON Schema and an option of the hosted service may be anything.
            let anything =
                ["result", "auto_repair", "input_schema", "output_schema"].contains(&field.as_str());
            if !(schema["description"].is_string() && (typed || anything) && plain) {
                silent.push(format!("{name}.{field}: {schema}"));
            }
        }
    }
    assert!(fields > 200, "{fields}");
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

#[test]
fn whole_numbers_and_texts_of_inputs_have_their_limits() {
    let document = document();
    let mut unbounded = Vec::new();
    for operation in operations() {
        let Some(input) = operation.input else { continue };
        let mut generator = SchemaGenerator::default();
        let reference = input(&mut generator).to_value();
        let name = reference["$ref"]
            .as_str()
            .and_then(|path| path.rsplit('/').next());
        let Some(name) = name else { continue };
        let schema = &document["components"]["schemas"][name];
        let Some(properties) = schema["properties"].as_object() else {
            continue;
        };
        assert_eq!(schema["additionalProperties"], false, "{name}");
        for (field, schema) in properties {
            let kind = schema["type"].to_string();
            let text =
                kind.contains("string") && schema.get("enum").is_none() && schema.get("format").is_none();
            let bounded =
                schema.get("maxLength").is_some() || ["timezone", "source"].contains(&field.as_str());
            if text && !bounded || kind.contains("integer") && schema.get("maximum").is_none() {
                unbounded.push(format!("{name}.{field}: {schema}"));
            }
        }
    }
    assert!(unbounded.is_empty(), "{}", unbounded.join("\n"));
}

#[test]
fn what_is_referred_to_is_there() {
    let document = document();
    let mut found = Vec::new();
    walk(&document, "", &mut found);
    let mut references = 0;
    for (way, value) in found {
        let Some(reference) = value.get("$ref").and_then(Value::as_str) else {
            continue;
        };
        references += 1;
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{way}: {reference}");
    }
    assert!(references > 300, "{references}");
}

#[test]
fn a_schema_of_inputs_and_answers_alike_is_one() {
    // Both generators define some types; the document keeps one of the two.
    let generator = |contract| {
        SchemaSettings::draft2020_12()
            .with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.contract = contract;
            })
            .into_generator()
    };
    let (mut inputs, mut outputs) = (generator(Contract::Deserialize), generator(Contract::Serialize));
    for operation in operations() {
        operation.input.map(|input| input(&mut inputs));
        (operation.output)(&mut outputs);
    }
    let mut shared = 0;
    for (name, schema) in inputs.definitions() {
        if let Some(other) = outputs.definitions().get(name) {
            shared += 1;
            assert_eq!(schema, other, "{name}");
        }
    }
    assert!(shared >= 2, "{shared}");
}

#[test]
fn every_link_leads_somewhere() {
    let routes: Vec<&str> = operations().filter_map(Operation::route).collect();
    for (from, _, to, _) in LINKS {
        assert!(routes.contains(from) && routes.contains(to), "{from} to {to}");
    }
}
