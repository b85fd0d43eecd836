//! A workflow's `params` against the JSON Schema of its input, when a schedule or a job is created.
//!
//! What comes in: the schema that the deployment carries, and an input. What goes out: one [`Flaw`] a violation, with
//! its path below `params`. A run judges its input itself, with the workflow's own code; this check is a courtesy that
//! comes earlier. So wherever it cannot be sure it stays silent: the schema is relaxed first, and one
//! that cannot be compiled, or that would take too much work, is passed over with a warning.
//!
//! Schemas are written by tenants. Nothing is fetched, and work, memory and regular expressions are bounded.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jsonschema::{
    JsonType, PatternOptions, ValidationError, Validator, error::TypeKind,
    error::ValidationErrorKind as Kind, paths::LocationSegment,
};
use serde_json::{Map, Value};

use impresario_api::PathSegment;

use super::{
    Flaw,
    values::{quoted, shortened, shown},
};

mod relax;
#[cfg(test)]
mod tests;
mod work;

/// How many violations are reported at once.
const REPORTED: usize = 50;
/// How often one match of a regular expression with look-around or back-references may backtrack. All other
/// expressions run in linear time.
const BACKTRACKS: usize = 10_000;
/// How large a compiled regular expression may be, in bytes. Classes of Unicode need some hundred thousand.
const PATTERN_BYTES: usize = 1 << 20;

/// Checks `params` against `schema` without holding up the other requests of the thread. For
/// [`Fields::report`](super::Fields::report) under `params`.
pub async fn check(schema: Value, params: Map<String, Value>) -> Vec<Flaw> {
    let checked = tokio::task::spawn_blocking(move || violations(&schema, &params)).await;
    checked.unwrap_or_else(|e| {
        tracing::warn!(error = %e, "the check of an input against its schema failed; the input is taken");
        Vec::new()
    })
}

/// All that is wrong with `params`; nothing where the schema cannot be used.
#[must_use]
pub fn violations(schema: &Value, params: &Map<String, Value>) -> Vec<Flaw> {
    let mut compiled = Compiled::of(schema);
    compiled
        .judge(&Value::Object(params.clone()))
        .unwrap_or_else(|reason| {
            tracing::warn!(reason, "an input schema is passed over");
            Vec::new()
        })
}

/// A schema that many inputs are checked against, compiled once. Cheap to clone.
#[derive(Clone)]
pub struct Prepared {
    schema: Arc<Value>,
    /// Made by the first check, off the threads that answer requests.
    compiled: Arc<Mutex<Option<Compiled>>>,
}

impl Prepared {
    /// Of a schema that a bundle carries.
    #[must_use]
    pub fn new(schema: Value) -> Self {
        Self {
            schema: Arc::new(schema),
            compiled: Arc::default(),
        }
    }

    /// What is wrong with each of `inputs`, in their order, without holding up the other requests of the thread. Ends
    /// early where `time` is over; also says how much of it was taken.
    pub async fn check(&self, inputs: Vec<Map<String, Value>>, time: Duration) -> (Vec<Vec<Flaw>>, Duration) {
        let prepared = self.clone();
        let checked = tokio::task::spawn_blocking(move || prepared.check_now(inputs, time)).await;
        checked.unwrap_or_else(|e| {
            tracing::warn!(error = %e, "a check of inputs against their schema failed");
            (Vec::new(), Duration::ZERO)
        })
    }

    fn check_now(&self, inputs: Vec<Map<String, Value>>, time: Duration) -> (Vec<Vec<Flaw>>, Duration) {
        let begun = Instant::now();
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let mut passed_over = BTreeMap::<String, usize>::new();
        let judge = |input| {
            if begun.elapsed() >= time {
                return None;
            }
            let schema = compiled.get_or_insert_with(|| Compiled::of(&self.schema));
            let input = Value::Object(input);
            // One input that brings the check down must not take the others' verdicts with it.
            let judged = catch_unwind(AssertUnwindSafe(|| schema.judge(&input)));
            Some(match judged {
                Ok(Ok(flaws)) => flaws,
                Ok(Err(reason)) => {
                    *passed_over.entry(reason).or_default() += 1;
                    Vec::new()
                }
                Err(_) => {
                    *passed_over.entry("the check panicked".to_owned()).or_default() += 1;
                    Vec::new()
                }
            })
        };
        let judged = inputs.into_iter().map_while(judge).collect();
        for (reason, inputs) in passed_over {
            tracing::warn!(reason, inputs, "an input schema is passed over");
        }
        (judged, begun.elapsed())
    }
}

/// A schema, and what was made of it so far.
struct Compiled {
    /// Of the relaxed schema; why it is not used, where it is not.
    budget: Result<work::Budget, String>,
    /// Only made once an input is allowed: before that nobody knows how much work it is.
    validator: Option<Result<Validator, String>>,
}

impl Compiled {
    fn of(schema: &Value) -> Self {
        Self {
            budget: work::Budget::of(relax::relaxed(schema)),
            validator: None,
        }
    }

    /// All that is wrong with `params`.
    ///
    /// # Errors
    /// Why the schema cannot be used for them.
    fn judge(&mut self, params: &Value) -> Result<Vec<Flaw>, String> {
        let budget = self.budget.as_mut().map_err(|reason| reason.clone())?;
        budget.allows(params)?;
        let validator = self.validator.get_or_insert_with(|| {
            let schema = budget.root();
            compile(schema).or_else(|_| compile(&relax::without_patterns(schema)))
        });
        let validator = validator.as_ref().map_err(|reason| reason.clone())?;
        Ok(found(validator, params))
    }
}

fn compile(schema: &Value) -> Result<Validator, String> {
    let patterns = PatternOptions::fancy_regex()
        .backtrack_limit(BACKTRACKS)
        .size_limit(PATTERN_BYTES);
    jsonschema::options()
        .offline()
        .with_pattern_options(patterns)
        // Formats are hints to zod's own, laxer checks: a URL that zod takes need not be a URI of RFC 3986.
        .should_validate_formats(false)
        .build(schema)
        .map_err(|e| shortened(&e.to_string()))
}

fn found(validator: &Validator, params: &Value) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    for error in validator.iter_errors(params) {
        describe(&error, params, &mut flaws);
        if flaws.len() >= REPORTED {
            flaws.truncate(REPORTED);
            break;
        }
    }
    flaws
}

/// Adds what `error` says, in words of our own: the library's messages begin with the whole value.
fn describe(error: &ValidationError<'_>, params: &Value, flaws: &mut Vec<Flaw>) {
    if undecided(error) {
        return;
    }
    if let Kind::AnyOf { context } | Kind::OneOfNotValid { context } = error.kind()
        && let Some(meant) = meant_branch(context, error)
    {
        meant.iter().for_each(|inner| describe(inner, params, flaws));
        return;
    }
    let mut path = path_of(error, params);
    let value = error.instance();
    let got = || shown(value);
    let (code, message) = match error.kind() {
        Kind::Required { property } => {
            path.push(PathSegment::Key(property.as_str().unwrap_or_default().to_owned()));
            ("invalid_type", "is required".to_owned())
        }
        Kind::Type { kind } => (
            "invalid_type",
            format!("expected {}, got {}", type_names(kind), got()),
        ),
        Kind::AnyOf { context } => match types_of(context) {
            Some(names) => ("invalid_type", format!("expected {names}, got {}", got())),
            None => (
                "invalid_value",
                format!("fits none of the shapes the workflow takes, got {}", got()),
            ),
        },
        Kind::Enum { options } => {
            let list = options.as_array().map_or_else(String::new, |options| {
                options.iter().map(shown).collect::<Vec<_>>().join(", ")
            });
            (
                "invalid_value",
                format!("{} is not one of {}", got(), shortened(&list)),
            )
        }
        Kind::Constant { expected_value } => (
            "invalid_value",
            format!("must be {}, got {}", shown(expected_value), got()),
        ),
        Kind::Minimum { limit } => ("too_small", format!("{} is less than {limit}", got())),
        Kind::Maximum { limit } => ("too_big", format!("{} is more than {limit}", got())),
        Kind::ExclusiveMinimum { limit } => ("too_small", format!("{} is not more than {limit}", got())),
        Kind::ExclusiveMaximum { limit } => ("too_big", format!("{} is not less than {limit}", got())),
        Kind::MinLength { limit } => (
            "too_small",
            format!("must have at least {limit} characters, got {}", got()),
        ),
        Kind::MaxLength { limit } => (
            "too_big",
            format!("must have at most {limit} characters, got {}", got()),
        ),
        Kind::MinItems { limit } => ("too_small", format!("must have at least {limit} entries")),
        Kind::MaxItems { limit } => ("too_big", format!("must have at most {limit} entries")),
        Kind::MinProperties { limit } => ("too_small", format!("must have at least {limit} keys")),
        Kind::MaxProperties { limit } => ("too_big", format!("must have at most {limit} keys")),
        Kind::Pattern { pattern } => (
            "invalid_format",
            format!("{} does not match the pattern {}", got(), quoted(pattern)),
        ),
        Kind::FalseSchema => ("invalid_value", "is not allowed".to_owned()),
        _ => ("custom", error.masked_with("the value").to_string()),
    };
    flaws.push(Flaw { path, code, message });
}

/// Whether a regular expression gave up somewhere below: then nobody knows, and the run will tell.
fn undecided(error: &ValidationError<'_>) -> bool {
    match error.kind() {
        Kind::BacktrackLimitExceeded { .. } | Kind::RegexEngineFailure { .. } => true,
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => context.iter().flatten().any(undecided),
        Kind::PropertyNames { error } => undecided(error),
        _ => false,
    }
}

/// The branch of a union that the value was meant for: the only one whose type and whose constants (such as `kind:
/// "card"`) it has.
fn meant_branch<'a>(
    context: &'a [Vec<ValidationError<'static>>],
    error: &ValidationError<'_>,
) -> Option<&'a [ValidationError<'static>]> {
    let fits = |branch: &&Vec<ValidationError<'static>>| {
        !branch.iter().any(|inner| match inner.kind() {
            Kind::Type { .. } | Kind::Enum { .. } => inner.instance_path() == error.instance_path(),
            Kind::Constant { .. } | Kind::FalseSchema => true,
            _ => false,
        })
    };
    let mut fitting = context.iter().filter(fits);
    fitting
        .next()
        .filter(|_| fitting.next().is_none())
        .map(Vec::as_slice)
}

/// `string or null`, where each branch of a union asks for a type and for nothing else that was missed.
fn types_of(context: &[Vec<ValidationError<'static>>]) -> Option<String> {
    let names: Option<Vec<String>> = context
        .iter()
        .map(|branch| match branch.as_slice() {
            [only] => match only.kind() {
                Kind::Type { kind } => Some(type_names(kind)),
                _ => None,
            },
            _ => None,
        })
        .collect();
    names.map(|names| names.join(" or "))
}

fn type_names(kind: &TypeKind) -> String {
    let name = |kind: JsonType| match kind {
        JsonType::Array => "a list",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "a whole number",
        JsonType::Null => "null",
        JsonType::Number => "a number",
        JsonType::Object => "an object",
        JsonType::String => "a string",
    };
    match kind {
        TypeKind::Single(one) => name(*one).to_owned(),
        TypeKind::Multiple(set) => set.iter().map(name).collect::<Vec<_>>().join(" or "),
    }
}

/// Where below `params`. The library takes a key of digits for an index; the value itself knows better.
fn path_of(error: &ValidationError<'_>, params: &Value) -> Vec<PathSegment> {
    let mut at = Some(params);
    let mut path = Vec::new();
    for segment in error.instance_path() {
        let key = match &segment {
            LocationSegment::Property(key) => key.to_string(),
            LocationSegment::Index(index) => index.to_string(),
        };
        match (segment, at) {
            (LocationSegment::Index(index), Some(Value::Array(list))) => {
                path.push(PathSegment::Index(index));
                at = list.get(index);
            }
            (_, below) => {
                at = below.and_then(|value| value.get(&key));
                path.push(PathSegment::Key(key));
            }
        }
    }
    path
}
