//! A workflow's input against the JSON Schema that its deployment carries.
//!
//! The official client writes these schemas in zod's *output* mode: properties that have a default stand in
//! `required`, and `additionalProperties` is `false`, although a run fills in the defaults and accepts extra keys. Both
//! are relaxed, at every depth, before an input is judged: an input that would run must not be refused here.

use impresario_api::PathSegment;
use jsonschema::paths::LocationSegment;
use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use super::{Object, Violation};
use crate::domain::launch::quoted;

/// A schema that inputs can be checked against.
#[derive(Debug)]
pub struct ParamsSchema {
    validator: Validator,
}

/// How much work one regular expression of a schema may cause: schemas are the tenants' own, and a tenant must not be
/// able to stop the others with a pattern.
const BACKTRACK_LIMIT: usize = 50_000;
/// How large a compiled regular expression may be, in bytes.
const PATTERN_SIZE_LIMIT: usize = 1 << 20;
/// How many violations are reported at once.
const REPORTED: usize = 50;
/// How deep a schema is relaxed, and how many references are followed.
const DEPTH_MAX: usize = 64;

impl ParamsSchema {
    /// Compiles a schema, relaxed.
    ///
    /// # Errors
    /// Why it cannot be compiled. Callers log that and go on without: a run judges its input itself.
    pub fn compile(schema: &Value) -> Result<Self, String> {
        let relaxed = relax(schema);
        let validator = jsonschema::options()
            .with_pattern_options(
                PatternOptions::fancy_regex().backtrack_limit(BACKTRACK_LIMIT).size_limit(PATTERN_SIZE_LIMIT),
            )
            .build(&relaxed)
            .map_err(|e| e.to_string())?;
        Ok(Self { validator })
    }

    /// All that is wrong with `params`, with paths below it; empty where nothing is.
    #[must_use]
    pub fn violations(&self, params: &Object) -> Vec<Violation> {
        let value = Value::Object(params.clone());
        self.validator
            .iter_errors(&value)
            .take(REPORTED)
            .map(|error| {
                let path = error
                    .instance_path()
                    .into_iter()
                    .map(|segment| match segment {
                        LocationSegment::Property(key) => PathSegment::Key(key.into_owned()),
                        LocationSegment::Index(index) => PathSegment::Index(index),
                    })
                    .collect();
                // The library's message begins with the value itself, which may be a whole object.
                let message = error.masked_with("the value").to_string();
                let shown = match error.instance().as_ref() {
                    Value::Object(_) | Value::Array(_) => String::new(),
                    scalar => format!(" (got {})", quoted(&scalar.to_string())),
                };
                Violation { path, code: "invalid_params", message: format!("{message}{shown}") }
            })
            .collect()
    }
}

/// The schema with `required` free of defaulted properties and `additionalProperties: false` gone, at every depth.
fn relax(schema: &Value) -> Value {
    let mut relaxed = schema.clone();
    relax_in(&mut relaxed, schema, DEPTH_MAX);
    relaxed
}

/// Keywords whose value is a map from names to schemas.
const MAPS: [&str; 5] = ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];
/// Keywords whose value is a schema. (`not` is left out: what is relaxed inside it would become stricter outside.)
const SCHEMAS: [&str; 9] = [
    "items", "additionalItems", "additionalProperties", "unevaluatedItems", "unevaluatedProperties", "contains", "if",
    "then", "else",
];
/// Keywords whose value is a list of schemas.
const LISTS: [&str; 5] = ["allOf", "anyOf", "oneOf", "prefixItems", "items"];

fn relax_in(schema: &mut Value, root: &Value, depth: usize) {
    let (Value::Object(object), Some(deeper)) = (schema, depth.checked_sub(1)) else { return };
    for keyword in ["additionalProperties", "unevaluatedProperties"] {
        if object.get(keyword) == Some(&Value::Bool(false)) {
            object.remove(keyword);
        }
    }
    let defaulted: Vec<String> = match object.get("properties") {
        Some(Value::Object(properties)) => {
            properties.iter().filter(|(_, s)| has_default(s, root, deeper)).map(|(name, _)| name.clone()).collect()
        }
        _ => Vec::new(),
    };
    if let Some(Value::Array(required)) = object.get_mut("required") {
        required.retain(|name| !defaulted.iter().any(|d| name.as_str() == Some(d)));
    }
    // Two branches of a relaxed `oneOf` can both fit where one did; the run itself knows which is meant.
    if !object.contains_key("anyOf")
        && let Some(branches) = object.remove("oneOf")
    {
        object.insert("anyOf".to_owned(), branches);
    }
    for keyword in MAPS {
        if let Some(Value::Object(map)) = object.get_mut(keyword) {
            map.values_mut().for_each(|inner| relax_in(inner, root, deeper));
        }
    }
    for keyword in SCHEMAS {
        if let Some(inner @ Value::Object(_)) = object.get_mut(keyword) {
            relax_in(inner, root, deeper);
        }
    }
    for keyword in LISTS {
        if let Some(Value::Array(list)) = object.get_mut(keyword) {
            list.iter_mut().for_each(|inner| relax_in(inner, root, deeper));
        }
    }
}

/// Whether a property's schema has a default, its own or that of what it refers to.
fn has_default(schema: &Value, root: &Value, depth: usize) -> bool {
    let (Value::Object(object), Some(deeper)) = (schema, depth.checked_sub(1)) else { return false };
    if object.contains_key("default") {
        return true;
    }
    let Some(reference) = object.get("$ref").and_then(Value::as_str) else { return false };
    let Some(pointer) = reference.strip_prefix('#') else { return false };
    root.pointer(pointer).is_some_and(|target| has_default(target, root, deeper))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn violations(schema: &Value, params: &Value) -> Vec<String> {
        let Value::Object(params) = params else { panic!("params are an object") };
        ParamsSchema::compile(schema)
            .unwrap()
            .violations(params)
            .into_iter()
            .map(|violation| format!("{}: {}", serde_json::to_string(&violation.path).unwrap(), violation.message))
            .collect()
    }

    #[test]
    fn an_input_that_would_run_is_taken() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "url": {"type": "string"},
                "pages": {"default": 1, "type": "number"},
                "nested": {
                    "type": "object",
                    "properties": {"deep": {"default": "x", "type": "string"}, "named": {"$ref": "#/$defs/n"}},
                    "required": ["deep", "named"],
                    "additionalProperties": false
                }
            },
            "$defs": {"n": {"default": 3, "type": "integer"}},
            "required": ["url", "pages", "nested"],
            "additionalProperties": false
        });
        assert_eq!(violations(&schema, &json!({"url": "x", "nested": {"extra": 1}, "other": true})), [""; 0]);
        let found = violations(&schema, &json!({"pages": "two", "nested": {"deep": 4}}));
        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(found.iter().any(|f| f.starts_with("[\"pages\"]") && f.contains("two")), "{found:#?}");
        assert!(found.iter().any(|f| f.starts_with("[\"nested\",\"deep\"]")), "{found:#?}");
        assert!(found.iter().any(|f| f.starts_with("[]") && f.contains("url")), "{found:#?}");
    }

    #[test]
    fn branches_of_a_union_may_overlap_once_relaxed() {
        let branch = |key: &str| json!({"type": "object", "properties": {key: {"type": "string"}}, "additionalProperties": false});
        let schema = json!({"oneOf": [branch("a"), branch("b")]});
        assert_eq!(violations(&schema, &json!({"a": "x"})), [""; 0]);
    }

    #[test]
    fn data_that_looks_like_a_schema_is_left_alone() {
        let schema = json!({"properties": {"x": {"const": {"additionalProperties": false}}}, "required": ["x"]});
        assert_eq!(violations(&schema, &json!({"x": {"additionalProperties": false}})), [""; 0]);
        assert_eq!(violations(&schema, &json!({"x": {}})).len(), 1);
    }

    #[test]
    fn a_schema_that_makes_no_sense_is_an_error_and_a_remote_one_is_never_fetched() {
        assert!(ParamsSchema::compile(&json!({"type": "no-such-type"})).is_err());
        assert!(ParamsSchema::compile(&json!({"$ref": "http://127.0.0.1:1/schema.json"})).is_err());
        assert!(ParamsSchema::compile(&json!({"properties": {"a": {"pattern": "("}}})).is_err());
    }

    #[test]
    fn a_hostile_pattern_costs_bounded_work() {
        let schema = json!({"properties": {"a": {"pattern": "^(?=(a+)+$)(a+)+$"}}});
        let started = std::time::Instant::now();
        let _ = violations(&schema, &json!({"a": "a".repeat(200) + "!"}));
        assert!(started.elapsed() < std::time::Duration::from_secs(10));
    }
}
