//! Where settings come from: in come a file, the environment and flags, out goes for each setting the text that the
//! last of them gave, with where that was.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use secrecy::SecretString;

use crate::spelling::nearest;

/// The environment's variables.
pub(super) type Environment = Vec<(OsString, OsString)>;

const PREFIX: &str = "IMPRESARIO_";
/// Variables with the prefix that are no settings.
const OTHERS: [&str; 3] = ["IMPRESARIO_CONFIG", "IMPRESARIO_LOG", "IMPRESARIO_URL"];
/// How many names the line about unknown variables has.
const NAMED: usize = 5;
/// How much of a value an error repeats, in characters.
const SHOWN: usize = 80;

/// What a value of the file may be besides text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Text,
    Number,
    List,
}

/// Every setting, and its shape in the file.
const SETTINGS: [(&str, Shape); 21] = [
    ("listen", Shape::Text),
    ("data_dir", Shape::Text),
    ("database_url", Shape::Text),
    ("database_hints", Shape::Text),
    ("job_slots", Shape::Number),
    ("roles", Shape::List),
    ("lease_seconds", Shape::Number),
    ("secret_key", Shape::Text),
    ("allow_private_callbacks", Shape::List),
    ("chromium", Shape::Text),
    ("node", Shape::Text),
    ("runner_dir", Shape::Text),
    ("residential_proxy", Shape::Text),
    ("default_proxy", Shape::Text),
    ("max_bundle_bytes", Shape::Number),
    ("requests_per_second", Shape::Number),
    ("request_burst", Shape::Number),
    ("deliveries_at_once", Shape::Number),
    ("keep_deliveries_days", Shape::Number),
    ("shutdown_grace_seconds", Shape::Number),
    ("clock_file", Shape::Text),
];

/// A value and the words for where it stands, such as `the variable IMPRESARIO_NODE`. No `Debug`: it may be a secret.
struct Given {
    place: String,
    value: OsString,
}

/// What was given, by the setting's name.
#[derive(Default)]
pub(super) struct Sources {
    given: BTreeMap<&'static str, Given>,
}

impl Sources {
    /// Nothing is the same as not given: `IMPRESARIO_NODE=` is how a compose file leaves a variable out.
    fn add(&mut self, name: &'static str, place: String, value: OsString) {
        if !value.is_empty() {
            self.given.insert(name, Given { place, value });
        }
    }

    /// Reads the settings file, where there is one.
    pub(super) fn add_file(&mut self, named: Option<&Path>, environment: &Environment) -> Result<(), String> {
        let Some(path) = super::file(named, environment)? else {
            return Ok(());
        };
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("the settings file {path:?} cannot be read: {error}"))?;
        // The parser's own text quotes the line that it stumbled on, and a key may stand there.
        let table: toml::Table = toml::from_str(&text).map_err(|error: toml::de::Error| {
            let line = error
                .span()
                .map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            format!("the settings file {path:?} is not valid TOML at line {line}")
        })?;
        for (key, value) in table {
            let Some((name, shape)) = SETTINGS.iter().find(|(name, _)| *name == key) else {
                return Err(unknown_key(&path, &key));
            };
            let Some(value) = as_text(value, *shape) else {
                let must = match shape {
                    Shape::Text => "text in quotes",
                    Shape::Number => "a whole number",
                    Shape::List => "a list of texts",
                };
                return Err(format!("{name} in the file {path:?} must be {must}"));
            };
            self.add(name, format!("{name} in the file {path:?}"), value.into());
        }
        Ok(())
    }

    /// Takes the variables that are settings.
    pub(super) fn add_variables(&mut self, environment: &Environment) {
        for (name, _) in SETTINGS {
            let variable = variable_of(name);
            if let Some((_, value)) = environment.iter().find(|(name, _)| *name == *variable) {
                self.add(name, format!("the variable {variable}"), value.clone());
            }
        }
    }

    /// Takes flags.
    pub(super) fn add_flags(&mut self, flags: impl IntoIterator<Item = (&'static str, Option<OsString>)>) {
        for (name, value) in flags {
            if let Some(value) = value {
                self.add(name, format!("the flag --{}", name.replace('_', "-")), value);
            }
        }
    }

    /// A path, which need not be UTF-8.
    pub(super) fn path(&mut self, name: &'static str) -> Option<PathBuf> {
        self.given.remove(name).map(|given| given.value.into())
    }

    /// What `read` makes of a text; it says what is allowed, as the end of a sentence that begins with the name.
    pub(super) fn parsed<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        let Some(Given { place, value }) = self.given.remove(name) else {
            return Ok(None);
        };
        let text = value.to_str().ok_or_else(|| format!("{place} is not UTF-8"))?;
        read(text.trim())
            .map(Some)
            .map_err(|allowed| format!("{place} is {}: {name} {allowed}", shown(&value)))
    }

    /// A whole number within `range`.
    pub(super) fn whole<T: TryFrom<u64>>(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<T>, String> {
        self.parsed(name, |text| {
            let number = text.parse().ok().filter(|number| range.contains(number));
            number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
                let (least, most) = (range.start(), range.end());
                format!("must be a whole number from {least} to {most}")
            })
        })
    }

    /// A text that no error repeats. `check` says what is wrong with it, without repeating it either.
    pub(super) fn secret(
        &mut self,
        name: &'static str,
        check: impl FnOnce(&SecretString) -> Result<(), String>,
    ) -> Result<Option<SecretString>, String> {
        let Some((place, text)) = self.text(name)? else {
            return Ok(None);
        };
        let secret = SecretString::from(text);
        check(&secret).map_err(|wrong| format!("{place} {wrong}"))?;
        Ok(Some(secret))
    }

    /// What `read` makes of a text with a secret in it; it says what is wrong in a sentence that has no secret.
    pub(super) fn read_secret<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        let Some((place, text)) = self.text(name)? else {
            return Ok(None);
        };
        read(&text)
            .map(Some)
            .map_err(|wrong| format!("{place} is refused: {wrong}"))
    }

    /// A text and where it stands.
    fn text(&mut self, name: &'static str) -> Result<Option<(String, String)>, String> {
        let Some(Given { place, value }) = self.given.remove(name) else {
            return Ok(None);
        };
        let text = value.into_string().map_err(|_| format!("{place} is not UTF-8"))?;
        Ok(Some((place, text)))
    }
}

/// A value of the file as the text that a variable would have; `None` where it is of another shape.
fn as_text(value: toml::Value, shape: Shape) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) if shape == Shape::Number => Some(number.to_string()),
        toml::Value::Array(list) if shape == Shape::List => {
            let parts: Option<Vec<&str>> = list.iter().map(toml::Value::as_str).collect();
            parts.map(|parts| parts.join(","))
        }
        _ => None,
    }
}

fn unknown_key(path: &Path, key: &str) -> String {
    let names = SETTINGS.map(|(name, _)| name);
    let hint = match nearest(key, &names) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("there are {}", names.join(", ")),
    };
    format!(
        "the settings file {path:?} has an unknown key {}; {hint}",
        shown(OsStr::new(key))
    )
}

fn variable_of(setting: &str) -> String {
    PREFIX.to_owned() + &setting.to_ascii_uppercase()
}

/// In quotes, cut, and with whatever would break the line escaped.
fn shown(value: &OsStr) -> String {
    let text = value.to_string_lossy();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// One line about the variables with our prefix that nobody reads. It repeats no value.
pub(super) fn unknown_variables(environment: &Environment) -> Option<String> {
    let settings = SETTINGS.map(|(name, _)| variable_of(name));
    let known: Vec<&str> = settings.iter().map(String::as_str).chain(OTHERS).collect();
    let mut unknown: Vec<String> = environment
        .iter()
        .filter(|(name, value)| !is_of_a_cluster(name, value))
        .filter_map(|(name, _)| {
            let text = name.to_string_lossy();
            let ours = text.to_ascii_uppercase().starts_with(PREFIX);
            (ours && !known.contains(&&*text)).then(|| match nearest(&text, &known) {
                Some(near) => format!("{} (did you mean {near}?)", shown(name)),
                None => shown(name),
            })
        })
        .collect();
    if unknown.is_empty() {
        return None;
    }
    unknown.sort();
    let more = match unknown.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    unknown.truncate(NAMED);
    Some(format!(
        "nothing reads the environment variable {}{more}",
        unknown.join(", ")
    ))
}

/// Whether Kubernetes made it of a service that is called `impresario`: nobody misspelt those.
fn is_of_a_cluster(name: &OsStr, value: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let rest = name.strip_prefix(PREFIX).unwrap_or_default();
    rest.starts_with("SERVICE_HOST")
        || rest.starts_with("SERVICE_PORT")
        || (rest.starts_with("PORT") && value.to_string_lossy().contains("://"))
        || rest
            .strip_prefix("PORT_")
            .is_some_and(|port| port.starts_with(|c: char| c.is_ascii_digit()))
}
