//! The file: in comes its text, out go the schedules that it asks for, or everything that is wrong with it.

use std::collections::HashMap;

use impresario_api::Secret;
use serde_json::{Map, Value};

use super::{
    fields::{self, Shape},
    yaml::{self, Entry, Kind, Node, Problem},
};
use crate::spelling::nearest;

/// The version of the format.
const VERSION: u64 = 1;
/// How much of a value a message repeats, in characters.
const SHOWN: usize = 80;

/// What a file asks for.
#[derive(Debug)]
pub(super) struct File {
    pub(super) wanted: Vec<Wanted>,
    /// What is allowed, and had better not be.
    pub(super) warnings: Vec<Problem>,
}

/// A schedule as the file wants it.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) workflow: String,
    /// Every field that can be changed, in its one spelling; the default where the file has none.
    pub(super) fields: Map<String, Value>,
    /// `None` leaves it as it is.
    pub(super) enabled: Option<bool>,
    /// `None` leaves it as it is.
    pub(super) secret: Option<SecretFrom>,
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SecretFrom {
    /// A variable of the environment.
    Variable(String),
    /// The file itself.
    File(Secret),
}

/// Reads a file.
///
/// # Errors
/// Everything that is wrong with it, by line; only the first thing where it is no YAML.
pub(super) fn read(text: &str) -> Result<File, Vec<Problem>> {
    let root = yaml::read(text).map_err(|problem| vec![problem])?;
    let mut reader = Reader::default();
    let wanted = reader.file(root.as_ref());
    reader.problems.sort();
    if reader.problems.is_empty() {
        Ok(File {
            wanted,
            warnings: reader.warnings,
        })
    } else {
        Err(reader.problems)
    }
}

#[derive(Default)]
struct Reader {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

/// A value as a message shows it.
fn shown(node: &Node) -> String {
    match &node.kind {
        Kind::Scalar(Value::String(text)) => match text.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{:?}", format!("{}…", &text[..end])),
            None => format!("{text:?}"),
        },
        Kind::Scalar(value) => value.to_string(),
        Kind::List(_) => "a list".to_owned(),
        Kind::Map(_) => "a mapping".to_owned(),
    }
}

impl Reader {
    fn problem(&mut self, line: usize, text: impl Into<String>) {
        self.problems.push(Problem::new(line, text));
    }

    fn unknown(&mut self, entry: &Entry, known: &[&str]) {
        let key = shown(&Node {
            line: entry.line,
            kind: Kind::Scalar(Value::String(entry.key.clone())),
        });
        let hint = match nearest(&entry.key, known) {
            Some(near) => format!(" (did you mean \"{near}\"?)"),
            None if known.len() <= 6 => format!(" (allowed: {})", known.join(", ")),
            None => String::new(),
        };
        self.problem(entry.line, format!("unknown key {key}{hint}"));
    }

    fn file(&mut self, root: Option<&Node>) -> Vec<Wanted> {
        let Some(Node {
            kind: Kind::Map(entries),
            ..
        }) = root
        else {
            self.problem(
                root.map_or(1, |node| node.line),
                "a file begins with \"version: 1\" and has its schedules under \"schedules:\"",
            );
            return Vec::new();
        };
        let (mut version, mut schedules) = (None, None);
        for entry in entries {
            match entry.key.as_str() {
                "version" => version = Some(&entry.value),
                "schedules" => schedules = Some(&entry.value),
                _ => self.unknown(entry, &["version", "schedules"]),
            }
        }
        match version.map(|node| (node, &node.kind)) {
            Some((_, Kind::Scalar(value))) if value.as_u64() == Some(VERSION) => {}
            Some((node, _)) => {
                let text = format!(
                    "version {} is not known; this program reads version 1",
                    shown(node)
                );
                self.problem(node.line, text);
            }
            None => self.problem(1, "\"version: 1\" is missing"),
        }
        match schedules.map(|node| (node, &node.kind)) {
            Some((_, Kind::List(list))) => self.schedules(list),
            // An empty value is more likely a slip than the wish for no schedules, and with --prune that would matter.
            Some((node, _)) => {
                let text = format!("schedules must be a list ([] for none), not {}", shown(node));
                self.problem(node.line, text);
                Vec::new()
            }
            None => {
                self.problem(1, "\"schedules:\" is missing");
                Vec::new()
            }
        }
    }

    fn schedules(&mut self, list: &[Node]) -> Vec<Wanted> {
        let mut lines: HashMap<String, usize> = HashMap::new();
        let mut wanted = Vec::with_capacity(list.len());
        for node in list {
            let Kind::Map(entries) = &node.kind else {
                let text = format!("a schedule must be a mapping with a name, not {}", shown(node));
                self.problem(node.line, text);
                continue;
            };
            let Some(schedule) = self.schedule(node.line, entries) else {
                continue;
            };
            match lines.get(&schedule.name) {
                Some(earlier) => {
                    let text = format!(
                        "the name {:?} is taken by the schedule on line {earlier}; a name belongs to one schedule",
                        schedule.name
                    );
                    self.problem(schedule.line, text);
                }
                None => {
                    lines.insert(schedule.name.clone(), schedule.line);
                }
            }
            wanted.push(schedule);
        }
        wanted
    }

    /// A schedule; nothing where it has no name.
    fn schedule(&mut self, line: usize, entries: &[Entry]) -> Option<Wanted> {
        let known: Vec<&str> = ["name", "workflow", "enabled", "callback_secret"]
            .into_iter()
            .chain(fields::all().map(|field| field.name))
            .collect();
        for entry in entries {
            if !known.contains(&entry.key.as_str()) {
                self.unknown(entry, &known);
            }
        }
        // An empty value is none, as it is for the API.
        let given = |name: &str| {
            let entry = entries.iter().find(|entry| entry.key == name)?;
            (!matches!(entry.value.kind, Kind::Scalar(Value::Null))).then_some(entry)
        };
        let name_line = given("name").map_or(line, |entry| entry.line);
        let name = self.required(line, "name", given("name"));
        let workflow = self.required(line, "workflow", given("workflow"));
        self.required(line, "cron_expr", given("cron_expr"));
        let mut values = Map::new();
        for field in fields::all() {
            let value = match given(field.name) {
                Some(entry) => self.value(entry, field.shape),
                None => None,
            };
            let value = value.unwrap_or_else(|| fields::default_of(field.name));
            values.insert(field.name.to_owned(), value);
        }
        let enabled = given("enabled").and_then(|entry| self.value(entry, Shape::Flag));
        let secret = given("callback_secret").and_then(|entry| self.secret(entry));
        if let (Some(entry), None) = (given("callback_secret"), given("callback_url")) {
            self.problem(
                entry.line,
                "callback_secret needs a callback_url that it signs for",
            );
        }
        Some(Wanted {
            name: name?,
            line: name_line,
            workflow: workflow.unwrap_or_default(),
            fields: values,
            enabled: enabled.and_then(|enabled| enabled.as_bool()),
            secret,
        })
    }

    fn required(&mut self, line: usize, name: &str, entry: Option<&Entry>) -> Option<String> {
        let Some(entry) = entry else {
            self.problem(line, format!("this schedule has no {name}"));
            return None;
        };
        match &entry.value.kind {
            Kind::Scalar(Value::String(text)) if !text.is_empty() => Some(text.clone()),
            // A field with a shape of its own says so itself.
            _ if fields::all().any(|field| field.name == name) => None,
            _ => {
                let text = format!(
                    "{name} must be a text; put it in quotes (it is {})",
                    shown(&entry.value)
                );
                self.problem(entry.line, text);
                None
            }
        }
    }

    fn value(&mut self, entry: &Entry, shape: Shape) -> Option<Value> {
        if let (Some(keys), Kind::Map(inner)) = (shape.keys(), &entry.value.kind) {
            for inner in inner {
                if !keys.contains(&inner.key.as_str()) {
                    self.unknown(inner, keys);
                }
            }
        }
        match shape.canonical(entry.value.to_json()) {
            Ok(value) => Some(value),
            Err(expected) => {
                let (key, got) = (&entry.key, shown(&entry.value));
                self.problem(entry.line, format!("{key} must be {expected} (it is {got})"));
                None
            }
        }
    }

    /// A secret; no message repeats anything of it but the name of a variable.
    fn secret(&mut self, entry: &Entry) -> Option<SecretFrom> {
        let Kind::Scalar(Value::String(text)) = &entry.value.kind else {
            self.problem(
                entry.line,
                "callback_secret must be a text: ${NAME} of a variable, or the secret in quotes",
            );
            return None;
        };
        if let Some(name) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'))
            && is_variable(name)
        {
            return Some(SecretFrom::Variable(name.to_owned()));
        }
        if text.contains("${") {
            self.problem(
                entry.line,
                "callback_secret must be ${NAME} and nothing else: letters, digits and _ in the name of a variable; a \
                 secret that has \"${\" in it must come from one",
            );
            return None;
        }
        self.warnings.push(Problem::new(
            entry.line,
            "callback_secret stands in the file itself, where everyone who reads the file reads it; ${NAME} takes it from \
             the environment",
        ));
        Some(SecretFrom::File(text.as_str().into()))
    }
}

fn is_variable(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HEAD: &str = "version: 1\nschedules:\n";

    fn read_ok(text: &str) -> File {
        read(text).unwrap_or_else(|problems| panic!("{text}: {problems:?}"))
    }

    /// Everything that is wrong, a line each.
    fn wrong(text: &str) -> Vec<String> {
        let problems = read(text).err().unwrap_or_else(|| panic!("{text} was read"));
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_not_said_is_the_default_or_left_as_it_is() {
        let file = read_ok(&format!(
            "{HEAD}- name: a\n  workflow: w\n  cron_expr: '@daily'\n  timezone:\n"
        ));
        let [wanted] = file.wanted.as_slice() else {
            panic!("{file:?}");
        };
        assert_eq!(
            (wanted.name.as_str(), wanted.workflow.as_str(), wanted.line),
            ("a", "w", 3)
        );
        assert_eq!((wanted.enabled, &wanted.secret), (None, &None));
        for field in fields::all() {
            let expected = match field.name {
                "cron_expr" => json!("@daily"),
                name => fields::default_of(name),
            };
            assert_eq!(wanted.fields[field.name], expected, "{}", field.name);
        }
        assert!(file.warnings.is_empty(), "{:?}", file.warnings);
    }

    #[test]
    fn no_schedules_have_to_be_meant() {
        assert!(read_ok("version: 1\nschedules: []\n").wanted.is_empty());
        for (text, expected) in [
            (
                "version: 1\nschedules:\n",
                "line 2: schedules must be a list ([] for none), not null",
            ),
            ("version: 1\n", "line 1: \"schedules:\" is missing"),
            ("schedules: []\n", "line 1: \"version: 1\" is missing"),
            (
                "version: 2\nschedules: []\n",
                "line 1: version 2 is not known; this program reads version 1",
            ),
            (
                "version: 1\nschedule: []\nschedules: []\n",
                "line 2: unknown key \"schedule\" (did you mean \"schedules\"?)",
            ),
        ] {
            assert_eq!(wrong(text), [expected], "{text}");
        }
        for text in ["", "a text", "- a\n- b\n"] {
            assert!(wrong(text)[0].starts_with("line 1: a file begins with"), "{text}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_said_with_its_line() {
        let text = format!(
            "{HEAD}- name: a\n  workflow: w\n  cron: '@daily'\n  cronexpr: '@daily'\n- workflow: w\n  cron_expr: '@daily'\n\
             - name: 7\n  workflow: [w]\n  cron_expr: 7\n  timeout_seconds: soon\n  viewport: {{wide: 1, height: 2}}\n\
             - just a text\n- name: a\n  workflow: w\n  cron_expr: '@daily'\n  callback_secret: ${{A}}\n"
        );
        assert_eq!(
            wrong(&text),
            [
                "line 3: this schedule has no cron_expr",
                "line 5: unknown key \"cron\"",
                "line 6: unknown key \"cronexpr\" (did you mean \"cron_expr\"?)",
                "line 7: this schedule has no name",
                "line 9: name must be a text; put it in quotes (it is 7)",
                "line 10: workflow must be a text; put it in quotes (it is a list)",
                "line 11: cron_expr must be a text; put it in quotes (it is 7)",
                "line 12: timeout_seconds must be a whole number (it is \"soon\")",
                "line 13: unknown key \"wide\" (allowed: width, height)",
                "line 14: a schedule must be a mapping with a name, not \"just a text\"",
                "line 15: the name \"a\" is taken by the schedule on line 3; a name belongs to one schedule",
                "line 18: callback_secret needs a callback_url that it signs for",
            ]
        );
    }

    #[test]
    fn a_secret_is_a_variable_or_a_warning_and_is_never_shown() {
        let with = |secret: &str| {
            format!(
                "{HEAD}- name: a\n  workflow: w\n  cron_expr: '@daily'\n  callback_url: http://r.example\n  \
                 callback_secret: {secret}\n"
            )
        };
        let file = read_ok(&with("${MY_SECRET_2}"));
        assert_eq!(
            file.wanted[0].secret,
            Some(SecretFrom::Variable("MY_SECRET_2".to_owned()))
        );
        assert!(file.warnings.is_empty());

        let file = read_ok(&with("hunter2"));
        assert_eq!(file.wanted[0].secret, Some(SecretFrom::File("hunter2".into())));
        assert_eq!(file.warnings[0].line, 7);
        assert!(!format!("{file:?}").contains("hunter2"), "{file:?}");

        for secret in [
            "hunter2${A}",
            "'${A}hunter2'",
            "${2hunter2}",
            "${}",
            "'${A B}'",
            "[hunter2]",
            "{a: hunter2}",
        ] {
            let wrong = wrong(&with(secret));
            assert!(
                wrong[0].starts_with("line 7: callback_secret must be"),
                "{wrong:?}"
            );
            assert!(!wrong[0].contains("hunter2"), "{wrong:?}");
        }
    }
}
