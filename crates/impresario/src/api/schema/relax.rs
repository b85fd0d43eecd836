//! What the official client writes into a schema and a run does not ask for.
//!
//! The client writes schemas in zod's *output* mode, which describes a parsed value: properties with a default stand in
//! `required`, and extra keys are forbidden. A run parses: it fills in defaults and strips extra keys. An input that
//! would run must not be refused here.

use serde_json::{Map, Value, json};

/// How deep a schema is relaxed, and how many references are followed.
const DEPTH: usize = 128;

/// Keywords whose value is a map from names to schemas.
const MAPS: [&str; 5] = [
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
];
/// Keywords whose value is a schema. `not` and `if` are left alone: what is laxer inside them is stricter, or merely
/// different, outside.
const SCHEMAS: [&str; 7] = [
    "items",
    "additionalItems",
    "additionalProperties",
    "contains",
    "then",
    "else",
    "propertyNames",
];
/// Keywords whose value is a list of schemas.
const LISTS: [&str; 5] = ["allOf", "anyOf", "oneOf", "prefixItems", "items"];

/// The schema without what would refuse an input that runs, at every depth.
pub(super) fn relaxed(schema: &Value) -> Value {
    let mut lax = schema.clone();
    walk(&mut lax, DEPTH, &mut |object| {
        if object.get("additionalProperties") == Some(&Value::Bool(false)) {
            object.shift_remove("additionalProperties");
        }
        // What counts as unevaluated depends on all the rest, which is laxer now.
        object.shift_remove("unevaluatedProperties");
        object.shift_remove("unevaluatedItems");
        free_defaulted(object, schema);
        one_of_to_any_of(object);
    });
    lax
}

/// The schema without its regular expressions: JavaScript has a few that this side does not understand, and the rest of
/// the schema is still worth checking.
pub(super) fn without_patterns(schema: &Value) -> Value {
    let mut lax = schema.clone();
    walk(&mut lax, DEPTH, &mut |object| {
        object.shift_remove("pattern");
        if object.shift_remove("patternProperties").is_some() {
            // It is for the keys that no pattern takes, and nobody knows which those are.
            object.shift_remove("additionalProperties");
        }
    });
    lax
}

/// Applies `change` to every schema, the outer ones first.
fn walk(schema: &mut Value, depth: usize, change: &mut impl FnMut(&mut Map<String, Value>)) {
    let (Value::Object(object), Some(deeper)) = (schema, depth.checked_sub(1)) else {
        return;
    };
    change(object);
    for (keyword, inner) in object.iter_mut() {
        let keyword = keyword.as_str();
        match inner {
            Value::Object(map) if MAPS.contains(&keyword) => {
                map.values_mut().for_each(|inner| walk(inner, deeper, change));
            }
            Value::Array(list) if LISTS.contains(&keyword) => {
                list.iter_mut().for_each(|inner| walk(inner, deeper, change));
            }
            Value::Object(_) if SCHEMAS.contains(&keyword) => walk(inner, deeper, change),
            _ => {}
        }
    }
}

/// Takes the properties that have a default out of `required`.
fn free_defaulted(object: &mut Map<String, Value>, root: &Value) {
    let Some(Value::Array(mut required)) = object.shift_remove("required") else {
        return;
    };
    let properties = object.get("properties");
    required.retain(|name| {
        let property = name.as_str().and_then(|name| properties?.get(name));
        !property.is_some_and(|property| has_default(property, root, DEPTH))
    });
    object.insert("required".to_owned(), Value::Array(required));
}

/// Branches of a union that excluded each other by what was forbidden or required can now both fit.
fn one_of_to_any_of(object: &mut Map<String, Value>) {
    let Some(branches) = object.shift_remove("oneOf") else {
        return;
    };
    if !object.contains_key("anyOf") {
        object.insert("anyOf".to_owned(), branches);
        return;
    }
    let both = json!({"anyOf": branches});
    // An `allOf` that is no list is no schema at all; the compiler says so.
    if let Value::Array(list) = object.entry("allOf").or_insert_with(|| json!([])) {
        list.push(both);
    }
}

/// Whether a property's schema has a default, its own or that of what it refers to.
fn has_default(schema: &Value, root: &Value, depth: usize) -> bool {
    let (Value::Object(object), Some(deeper)) = (schema, depth.checked_sub(1)) else {
        return false;
    };
    if object.contains_key("default") {
        return true;
    }
    let pointer = object
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|reference| reference.strip_prefix('#'));
    pointer
        .and_then(|pointer| root.pointer(pointer))
        .is_some_and(|target| has_default(target, root, deeper))
}
