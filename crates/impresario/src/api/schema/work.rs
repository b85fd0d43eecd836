//! How much work a schema may cause, decided before any of it is done.
//!
//! A small schema can ask for endless work: ten definitions, each a union of two references to the next, are looked
//! at a thousand times for one value. The bound here is the number of schemas that one path into an input can meet,
//! times the size of the input. It is an upper bound, far above what honest schemas need.

use std::collections::HashMap;

use serde_json::Value;

/// How many schemas may meet how many values.
const WORK: u64 = 1_000_000;
/// How many values an input may have.
const VALUES: u64 = 100_000;
/// How many bytes of text a schema may have, and how many regular expressions.
const SCHEMA_BYTES: u64 = 256 * 1024;
const PATTERNS: u64 = 100;
/// A regular expression that may backtrack costs as much as so many plain checks.
const BACKTRACKING: u64 = 500;
/// How many schemas may be nested on one path into an input. The validator recurses, and a stack that overflows ends
/// the whole server.
const NESTED: usize = 250;
/// How many schemas may be looked at to find the bound itself.
const STEPS: usize = 200_000;

/// Keywords that apply schemas to the value itself, and those that apply them to all that is in it.
const HERE: [&str; 9] = [
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentSchemas",
    "dependencies",
];
const INSIDE: [&str; 9] = [
    "additionalProperties",
    "patternProperties",
    "propertyNames",
    "items",
    "additionalItems",
    "prefixItems",
    "contains",
    "unevaluatedProperties",
    "unevaluatedItems",
];

/// The bound of one schema.
pub(super) struct Budget {
    root: Value,
    /// How many schemas a path of so many steps can meet, as far as it was counted.
    met: HashMap<usize, Result<u64, String>>,
}

impl Budget {
    /// # Errors
    /// Why the schema is not used.
    pub(super) fn of(root: Value) -> Result<Self, String> {
        let (mut bytes, mut patterns) = (0, 0);
        measure(&root, &mut bytes, &mut patterns);
        if bytes > SCHEMA_BYTES {
            return Err(format!("it is larger than {} KiB", SCHEMA_BYTES / 1024));
        }
        if patterns > PATTERNS {
            return Err(format!("it has more than {PATTERNS} regular expressions"));
        }
        Ok(Self {
            root,
            met: HashMap::new(),
        })
    }

    /// The schema.
    pub(super) fn root(&self) -> &Value {
        &self.root
    }

    /// # Errors
    /// Why this input is not checked.
    pub(super) fn allows(&mut self, input: &Value) -> Result<(), String> {
        let mut values = 0;
        let depth = size(input, &mut values);
        if values > VALUES {
            return Err(format!("the input has more than {VALUES} values"));
        }
        let root = &self.root;
        let counted = self.met.entry(depth).or_insert_with(|| {
            let mut count = Count {
                root,
                known: HashMap::new(),
                steps: 0,
            };
            count.reach(root, depth, 0).map(|reach| reach.met)
        });
        let met = counted.clone()?;
        if met.saturating_mul(values) > WORK {
            return Err(format!(
                "it could meet {met} schemas at each of the {values} values"
            ));
        }
        Ok(())
    }
}

/// The bytes of all texts and values, and the number of regular expressions.
fn measure(value: &Value, bytes: &mut u64, patterns: &mut u64) {
    *bytes += 8;
    match value {
        Value::String(text) => *bytes += text.len() as u64,
        Value::Array(list) => list.iter().for_each(|inner| measure(inner, bytes, patterns)),
        Value::Object(object) => {
            for (key, inner) in object {
                *bytes += key.len() as u64;
                *patterns += match (key.as_str(), inner) {
                    ("pattern", Value::String(_)) => 1,
                    ("patternProperties", Value::Object(map)) => map.len() as u64,
                    _ => 0,
                };
                measure(inner, bytes, patterns);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Adds the number of values, long texts counting as several; gives the depth.
fn size(value: &Value, values: &mut u64) -> usize {
    *values += 1;
    match value {
        Value::String(text) => {
            *values += text.len() as u64 / 64;
            0
        }
        Value::Array(list) => list
            .iter()
            .map(|inner| 1 + size(inner, values))
            .max()
            .unwrap_or(0),
        Value::Object(object) => object
            .values()
            .map(|inner| 1 + size(inner, values))
            .max()
            .unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// What one path into a value can meet from one schema on.
#[derive(Debug, Clone, Copy, Default)]
struct Reach {
    /// How many schemas, weighed.
    met: u64,
    /// How many of them nested in each other.
    height: usize,
}

impl Reach {
    fn plain(met: u64) -> Self {
        Self { met, height: 0 }
    }

    /// The one after the other.
    fn and(self, other: Self) -> Self {
        Self {
            met: self.met.saturating_add(other.met),
            height: self.height.max(other.height),
        }
    }

    /// Either the one or the other.
    fn or(self, other: Self) -> Self {
        Self {
            met: self.met.max(other.met),
            height: self.height.max(other.height),
        }
    }
}

struct Count<'a> {
    root: &'a Value,
    /// By the schema's place in memory, and the depth that is left. `None` while it is being counted.
    known: HashMap<(usize, usize), Option<Reach>>,
    steps: usize,
}

impl<'a> Count<'a> {
    /// What a path of `depth` steps into a value can meet from `schema` on, which is nested in `above` others.
    fn reach(&mut self, schema: &'a Value, depth: usize, above: usize) -> Result<Reach, String> {
        let too_deep = || format!("it could nest more than {NESTED} schemas in each other");
        let Value::Object(object) = schema else {
            return Ok(Reach::plain(1));
        };
        let place = (std::ptr::from_ref(schema).addr(), depth);
        match self.known.get(&place) {
            Some(Some(reach)) if above + reach.height > NESTED => return Err(too_deep()),
            Some(Some(reach)) => return Ok(*reach),
            Some(None) => return Err("a reference leads back to itself".to_owned()),
            None => self.known.insert(place, None),
        };
        self.steps += 1;
        if above >= NESTED {
            return Err(too_deep());
        }
        if self.steps > STEPS {
            return Err("it has too many schemas".to_owned());
        }
        let mut reach = Reach::plain(1);
        for (keyword, inner) in object {
            reach = reach.and(self.keyword(schema, keyword, inner, depth, above + 1)?);
        }
        reach.height += 1;
        self.known.insert(place, Some(reach));
        Ok(reach)
    }

    fn keyword(
        &mut self,
        schema: &'a Value,
        keyword: &str,
        inner: &'a Value,
        depth: usize,
        above: usize,
    ) -> Result<Reach, String> {
        match (keyword, inner) {
            ("$dynamicRef" | "$recursiveRef", _) => Err(format!("{keyword} is not understood here")),
            ("$id", Value::String(_)) if !std::ptr::eq(schema, self.root) => {
                Err("an inner $id moves its references".to_owned())
            }
            ("$ref", Value::String(reference)) => self.reach(self.target(reference)?, depth, above),
            ("pattern", Value::String(pattern)) => Ok(Reach::plain(cost(pattern))),
            ("enum", Value::Array(options)) => Ok(Reach::plain(options.len() as u64 / 8)),
            ("properties", Value::Object(map)) if depth > 0 => {
                // One key meets one of them.
                map.values().try_fold(Reach::default(), |most, inner| {
                    Ok(most.or(self.reach(inner, depth - 1, above)?))
                })
            }
            _ if HERE.contains(&keyword) => self.all(keyword, inner, depth, above),
            _ if depth > 0 && INSIDE.contains(&keyword) => self.all(keyword, inner, depth - 1, above),
            _ => Ok(Reach::default()),
        }
    }

    /// Of a keyword whose value is a schema, a list of them or a map to them: all together.
    fn all(&mut self, keyword: &str, inner: &'a Value, depth: usize, above: usize) -> Result<Reach, String> {
        match inner {
            Value::Array(list) => list.iter().try_fold(Reach::default(), |sum, inner| {
                Ok(sum.and(self.reach(inner, depth, above)?))
            }),
            Value::Object(map)
                if ["patternProperties", "dependentSchemas", "dependencies"].contains(&keyword) =>
            {
                map.iter().try_fold(Reach::default(), |sum, (key, inner)| {
                    let key = if keyword == "patternProperties" {
                        cost(key)
                    } else {
                        0
                    };
                    Ok(sum.and(Reach::plain(key)).and(self.reach(inner, depth, above)?))
                })
            }
            other => self.reach(other, depth, above),
        }
    }

    fn target(&self, reference: &str) -> Result<&'a Value, String> {
        let pointer = reference
            .strip_prefix('#')
            .filter(|pointer| !pointer.contains('%'));
        pointer
            .and_then(|pointer| self.root.pointer(pointer))
            .ok_or_else(|| format!("the reference {} leads nowhere in it", super::quoted(reference)))
    }
}

/// What one match costs. Only look-around, back-references and atomic groups need the engine that backtracks.
fn cost(pattern: &str) -> u64 {
    let mut after_backslash = pattern.split('\\').skip(1);
    let back_reference = after_backslash.any(|rest| rest.starts_with(|c: char| matches!(c, '1'..='9' | 'k')));
    if back_reference || pattern.contains("(?") {
        BACKTRACKING
    } else {
        2
    }
}
