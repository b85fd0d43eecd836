//! YAML in and out, as far as JSON goes: in comes a text, out go values that know their lines; and the reverse.
//!
//! The scalars are those of YAML 1.2's core schema (`no` is a text), except where that would change what was written
//! without a word: a number that begins with a zero, as ids of other systems do, has to say what it is.

use std::{collections::HashMap, fmt::Write as _};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};
use serde_json::{Map, Number, Value};

/// How deep lists and mappings may stand in each other: deeper than the params that a server takes, so that whatever is
/// exported can be read.
const DEEPEST: usize = 160;
/// How large a file may be once its aliases are written out, in bytes of text and [`PER_NODE`] for each value: an alias
/// is four bytes, and what it stands for may consist of aliases.
const LARGEST: usize = 32 * 1024 * 1024;
const PER_NODE: usize = 64;

/// A sentence about a line of the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Problem {
    pub(super) line: usize,
    pub(super) text: String,
}

impl Problem {
    pub(super) fn new(line: usize, text: impl Into<String>) -> Self {
        Self {
            line,
            text: text.into(),
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

/// A value and where it begins. No `Debug`: it may be a secret.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) kind: Kind,
}

#[derive(Clone)]
pub(super) enum Kind {
    /// Neither a list nor a mapping.
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) value: Node,
}

impl Node {
    fn weight(&self) -> usize {
        let inside = match &self.kind {
            Kind::Scalar(Value::String(text)) => text.len(),
            Kind::Scalar(_) => 0,
            Kind::List(list) => list.iter().map(Self::weight).sum(),
            Kind::Map(entries) => entries
                .iter()
                .map(|entry| PER_NODE + entry.key.len() + entry.value.weight())
                .sum(),
        };
        PER_NODE + inside
    }

    /// How deep it goes.
    fn depth(&self) -> usize {
        let deepest = match &self.kind {
            Kind::Scalar(_) => return 0,
            Kind::List(list) => list.iter().map(Self::depth).max(),
            Kind::Map(entries) => entries.iter().map(|entry| entry.value.depth()).max(),
        };
        1 + deepest.unwrap_or(0)
    }

    /// The same without lines.
    pub(super) fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(list) => list.iter().map(Self::to_json).collect(),
            Kind::Map(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), entry.value.to_json()))
                .collect::<Map<_, _>>()
                .into(),
        }
    }
}

/// A list or a mapping that has not ended.
struct Open {
    line: usize,
    anchor: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        /// The keys so far, with their lines.
        known: HashMap<String, usize>,
        key: Option<(String, usize)>,
    },
}

#[derive(Default)]
struct Loader {
    open: Vec<Open>,
    /// What may be referred to, by the parser's number.
    anchors: HashMap<usize, Node>,
    weight: usize,
    root: Option<Node>,
    documents: usize,
}

/// Reads a text; an empty one has no value.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub(super) fn read(text: &str) -> Result<Option<Node>, Problem> {
    let mut loader = Loader::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let at = error.marker();
            let column = at.col() + 1;
            Problem::new(
                at.line(),
                format!("is not YAML: {} (column {column})", error.info()),
            )
        })?;
        loader.take(event, span)?;
    }
    Ok(loader.root)
}

impl Loader {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let line = span.start.line();
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Problem::new(
                        line,
                        "a second document begins; one file is one document",
                    ));
                }
                Ok(())
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(Problem::new(
                        line,
                        "this alias stands for something that it is part of",
                    ));
                };
                // What stands for a key is looked at there.
                let node = Node { line, ..node.clone() };
                if self.open.len() + node.depth() > DEEPEST {
                    return Err(too_deep(line));
                }
                self.weigh(node.weight(), line)?;
                self.put(node)
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.weigh(PER_NODE + text.len(), line)?;
                let value = scalar(&text, style, tag.as_deref()).map_err(|text| Problem::new(line, text))?;
                let node = Node {
                    line,
                    kind: Kind::Scalar(value),
                };
                self.remember(anchor, &node, line)?;
                self.put(node)
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin(anchor, tag.as_deref(), line, OpenKind::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                let kind = OpenKind::Map {
                    entries: Vec::new(),
                    known: HashMap::new(),
                    key: None,
                };
                self.begin(anchor, tag.as_deref(), line, kind)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
        }
    }

    fn weigh(&mut self, weight: usize, line: usize) -> Result<(), Problem> {
        self.weight += weight;
        if self.weight > LARGEST {
            return Err(Problem::new(
                line,
                "the file is too large once its aliases are written out",
            ));
        }
        Ok(())
    }

    /// What has an anchor is kept a second time, and counts as that.
    fn remember(&mut self, anchor: usize, node: &Node, line: usize) -> Result<(), Problem> {
        if anchor != 0 {
            self.weigh(node.weight(), line)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(())
    }

    fn begin(
        &mut self,
        anchor: usize,
        tag: Option<&Tag>,
        line: usize,
        kind: OpenKind,
    ) -> Result<(), Problem> {
        if let Some(tag) = tag {
            return Err(Problem::new(line, unread_tag(tag)));
        }
        if self.open.len() >= DEEPEST {
            return Err(too_deep(line));
        }
        self.weigh(PER_NODE, line)?;
        self.open.push(Open { line, anchor, kind });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Problem> {
        let Some(Open { line, anchor, kind }) = self.open.pop() else {
            return Ok(());
        };
        let kind = match kind {
            OpenKind::List(list) => Kind::List(list),
            OpenKind::Map { entries, .. } => Kind::Map(entries),
        };
        let node = Node { line, kind };
        self.remember(anchor, &node, line)?;
        self.put(node)
    }

    fn put(&mut self, node: Node) -> Result<(), Problem> {
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(node),
            Some(OpenKind::List(list)) => list.push(node),
            Some(OpenKind::Map { entries, known, key }) => match key.take() {
                None => *key = Some((key_of(&node)?, node.line)),
                Some((name, line)) => {
                    if let Some(earlier) = known.insert(name.clone(), line) {
                        let text = format!("{name:?} stands twice, first on line {earlier}");
                        return Err(Problem::new(line, text));
                    }
                    entries.push(Entry {
                        key: name,
                        line,
                        value: node,
                    });
                }
            },
        }
        Ok(())
    }
}

fn too_deep(line: usize) -> Problem {
    Problem::new(line, format!("lists and mappings stand more than {DEEPEST} deep"))
}

fn key_of(node: &Node) -> Result<String, Problem> {
    match &node.kind {
        Kind::Scalar(Value::String(text)) => Ok(text.clone()),
        Kind::Scalar(value) => Err(Problem::new(
            node.line,
            format!("the key {value} is no text; put it in quotes"),
        )),
        Kind::List(_) | Kind::Map(_) => Err(Problem::new(node.line, "a key must be a text")),
    }
}

fn unread_tag(tag: &Tag) -> String {
    format!(
        "the tag {:?} is not read; leave it out",
        format!("{}{}", tag.handle, tag.suffix)
    )
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    match tag {
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => {
            return Ok(Value::String(text.to_owned()));
        }
        Some(tag) => return Err(unread_tag(tag)),
        None => {}
    }
    if style != ScalarStyle::Plain {
        return Ok(Value::String(text.to_owned()));
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Ok(Value::Null),
        "<<" => Err(
            "merge keys (<<) are not read; write the fields out, or give a whole value an alias; in quotes it is a text"
                .to_owned(),
        ),
        "true" | "True" | "TRUE" => Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => Ok(Value::Bool(false)),
        text if looks_like_a_number(text) => {
            // As the server reads it, so that both sides round alike.
            let number = text.strip_prefix('+').unwrap_or(text);
            serde_json::from_str::<Number>(number).map(Value::Number).map_err(|_| {
                // Not repeated: it may be a secret.
                "this number can be read in more than one way: put it in quotes for a text, or write a plain number"
                    .to_owned()
            })
        }
        text => Ok(Value::String(text.to_owned())),
    }
}

/// What some version of YAML takes for a number: digits with a sign, a point, an exponent, and the words for those that
/// JSON does not have.
fn looks_like_a_number(text: &str) -> bool {
    let plain = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(plain, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let based = |start: &str, digit: fn(&char) -> bool| {
        let rest = plain.strip_prefix(start);
        rest.is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| digit(&c)))
    };
    if based("0x", char::is_ascii_hexdigit) || based("0o", |c| ('0'..='7').contains(c)) {
        return true;
    }
    let (mantissa, exponent) = plain.split_once(['e', 'E']).unwrap_or((plain, "0"));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && !exponent.is_empty()
        && digits(exponent)
}

/// Writes an entry of a mapping, `indent` blanks deep, over as many lines as it takes.
pub(super) fn write_entry(out: &mut String, indent: usize, key: &str, value: &Value) {
    // Writing to a string cannot fail.
    let _ = write!(out, "{:indent$}{}:", "", text(key));
    write_value(out, indent, value);
}

/// What stands behind a key or a dash.
fn write_value(out: &mut String, indent: usize, value: &Value) {
    match value {
        Value::Object(object) if !object.is_empty() => {
            out.push('\n');
            for (key, inner) in object {
                write_entry(out, indent + 2, key, inner);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            out.push('\n');
            for inner in list {
                let _ = write!(out, "{:1$}-", "", indent + 2);
                write_value(out, indent + 2, inner);
            }
        }
        Value::String(plain) => {
            let _ = writeln!(out, " {}", text(plain));
        }
        // JSON is YAML.
        other => {
            let _ = writeln!(out, " {other}");
        }
    }
}

/// A text, in quotes unless every version of YAML reads it as the same text without.
fn text(plain: &str) -> String {
    const WORDS: [&str; 11] = [
        "null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf",
    ];
    let simple = plain.chars().next().is_some_and(|c| c.is_ascii_alphabetic())
        && plain
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/' | '.'))
        && !WORDS.iter().any(|word| word.eq_ignore_ascii_case(plain));
    if simple {
        return plain.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in plain.chars() {
        let _ = match c {
            '"' | '\\' => write!(quoted, "\\{c}"),
            '\n' => write!(quoted, "\\n"),
            '\t' => write!(quoted, "\\t"),
            // What YAML does not allow in a file, and what it or an editor takes for the end of a line.
            c if c.is_control()
                || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') =>
            {
                write!(quoted, "\\u{:04x}", u32::from(c))
            }
            c => write!(quoted, "{c}"),
        };
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests;
