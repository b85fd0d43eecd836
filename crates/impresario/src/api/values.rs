//! What single JSON values must be, and the sentences that say so.
//!
//! What comes in: one value of an input object. What goes out: a plain value, or a [`Flaw`] whose message goes on
//! after the field's name.

use std::{fmt::Write as _, ops::RangeInclusive};

use impresario_api::PathSegment;
use jiff::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Flaw;
use crate::spelling::nearest;

/// How much of a value a message repeats, in characters.
const SHOWN: usize = 80;
/// How many keys a message names.
const KEYS_SHOWN: usize = 10;
/// Beyond 2^53 a float no longer says which whole number was meant.
const EXACT_FLOAT: f64 = 9_007_199_254_740_992.0;

/// A text cut to what a message repeats.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A text in quotes, cut, with control characters escaped.
pub(super) fn quoted(text: &str) -> String {
    format!("{:?}", shortened(text))
}

/// A value as a message shows it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// A path as a message shows it: `viewport.width`, `tags[2]`.
pub(super) fn dotted(path: &[PathSegment]) -> String {
    let mut text = String::new();
    for segment in path {
        // Writing to a string cannot fail.
        let _ = match segment {
            PathSegment::Index(index) => write!(text, "[{index}]"),
            PathSegment::Key(key) if text.is_empty() => write!(text, "{}", shortened(key)),
            PathSegment::Key(key) => write!(text, ".{}", shortened(key)),
        };
    }
    text
}

fn wrong_type(expected: &str, value: &Value) -> Flaw {
    Flaw::new(
        "invalid_type",
        format!("expected {expected}, got {}", shown(value)),
    )
}

/// The rules of every string; nothing of the string itself is repeated.
fn check_text(text: &str, chars: &RangeInclusive<usize>) -> Result<(), Flaw> {
    if text.contains('\0') {
        return Err(Flaw::new("invalid_format", "must not contain a NUL character"));
    }
    // A character has one to four bytes: mostly the length in bytes alone says that all is well, however long it is.
    if chars.contains(&text.len()) && chars.contains(&text.len().div_ceil(4)) {
        return Ok(());
    }
    let count = text.chars().count();
    if chars.contains(&count) {
        return Ok(());
    }
    let code = if count < *chars.start() {
        "too_small"
    } else {
        "too_big"
    };
    let (least, most) = (chars.start(), chars.end());
    let message = match (count, least) {
        (0, 1) => format!("must not be empty (1 to {most} characters)"),
        (_, 0) => format!("must be at most {most} characters, got {count}"),
        _ => format!("must be {least} to {most} characters, got {count}"),
    };
    Err(Flaw::new(code, message))
}

pub(super) fn string(value: Value, chars: &RangeInclusive<usize>) -> Result<String, Flaw> {
    match value {
        Value::String(text) => check_text(&text, chars).map(|()| text),
        other => Err(wrong_type("a string", &other)),
    }
}

/// As [`string`], but not even a value of the wrong type is repeated: it may be the secret all the same.
pub(super) fn secret(value: Value, chars: &RangeInclusive<usize>) -> Result<String, Flaw> {
    match value {
        Value::String(text) => check_text(&text, chars).map(|()| text),
        _ => Err(Flaw::new("invalid_type", "expected a string")),
    }
}

/// A [`secret`] that callbacks are signed with, of up to 1,024 characters.
pub(super) fn signing_secret(value: Value) -> Result<String, Flaw> {
    let text = secret(value, &(1..=1024))?;
    let key = text.strip_prefix("whsec_").map(|key| key.trim_end_matches('='));
    if key == Some("") {
        let message = "must have a key in base64 after whsec_: anybody can sign with an empty one";
        return Err(Flaw::new("invalid_value", message));
    }
    Ok(text)
}

pub(super) fn parsed<T>(
    value: Value,
    chars: &RangeInclusive<usize>,
    parse: impl FnOnce(&str) -> Result<T, Flaw>,
) -> Result<T, Flaw> {
    string(value, chars).and_then(|text| parse(&text))
}

pub(super) fn int(value: &Value, range: &RangeInclusive<i64>) -> Result<i64, Flaw> {
    let Value::Number(number) = value else {
        return Err(wrong_type("a whole number", value));
    };
    let outside = |code| {
        let allowed = format!("{} to {}", range.start(), range.end());
        Flaw::new(code, format!("{number} is out of range ({allowed})"))
    };
    let whole = match (number.as_i64(), number.as_f64()) {
        (Some(whole), _) => whole,
        (None, Some(float)) if float.abs() >= EXACT_FLOAT => {
            return Err(outside(if float < 0.0 { "too_small" } else { "too_big" }));
        }
        #[expect(clippy::cast_possible_truncation, reason = "whole, and below 2^53")]
        (None, Some(float)) if float.fract() == 0.0 => float as i64,
        _ => return Err(wrong_type("a whole number", value)),
    };
    match whole {
        _ if whole < *range.start() => Err(outside("too_small")),
        _ if whole > *range.end() => Err(outside("too_big")),
        _ => Ok(whole),
    }
}

pub(super) fn boolean(value: &Value) -> Result<bool, Flaw> {
    value.as_bool().ok_or_else(|| wrong_type("true or false", value))
}

pub(super) fn uuid(value: &Value) -> Result<Uuid, Flaw> {
    let text = value.as_str().ok_or_else(|| wrong_type("a UUID", value))?;
    // The crate also reads braced, bare and URN forms; an id has one spelling here.
    let hyphenated = text.len() == 36;
    Uuid::try_parse(text)
        .ok()
        .filter(|_| hyphenated)
        .ok_or_else(|| Flaw::new("invalid_format", format!("{} is not a UUID", quoted(text))))
}

pub(super) fn instant(value: &Value) -> Result<Timestamp, Flaw> {
    let text = value
        .as_str()
        .ok_or_else(|| wrong_type("an instant such as \"2026-05-17T01:15:00Z\"", value))?;
    let flaw = |code, what: &str| Flaw::new(code, format!("{} {what}", quoted(text)));
    if !has_shape_of_an_instant(text) {
        return Err(flaw(
            "invalid_format",
            "is not an RFC 3339 instant such as 2026-05-17T01:15:00Z",
        ));
    }
    text.parse().map_err(|_| {
        let what = "is no instant of the calendar, or later than 9999-12-30T22:00:00Z, the last one there is";
        flaw("invalid_value", what)
    })
}

/// RFC 3339, section 5.6: the parser takes more, such as a comma for the point, a zone's name, or seconds in an offset.
fn has_shape_of_an_instant(text: &str) -> bool {
    const BEGIN: &str = "dddd-dd-ddTdd:dd:dd";
    let fits = |text: &[u8], shape: &str| {
        text.len() == shape.len()
            && text.iter().zip(shape.bytes()).all(|(byte, shape)| match shape {
                b'd' => byte.is_ascii_digit(),
                b'T' => matches!(byte, b'T' | b't'),
                other => *byte == other,
            })
    };
    let Some((begin, rest)) = text.as_bytes().split_at_checked(BEGIN.len()) else {
        return false;
    };
    let digits = match rest {
        [b'.', fraction @ ..] => fraction.iter().take_while(|byte| byte.is_ascii_digit()).count(),
        _ => 0,
    };
    let fraction = if rest.first() == Some(&b'.') {
        1 + digits
    } else {
        0
    };
    let offset = &rest[fraction..];
    let hours = || offset.get(1..3).is_some_and(|hours| hours <= b"23".as_slice());
    // No instant is in a leap second by the clocks of computers, and the parser makes another one of it.
    fits(begin, BEGIN)
        && !begin.ends_with(b"60")
        && (rest.first() != Some(&b'.') || digits > 0)
        && (matches!(offset, [b'Z' | b'z']) || (fits(offset, "+dd:dd") || fits(offset, "-dd:dd")) && hours())
}

pub(super) fn choice<T: Copy>(value: &Value, choices: &[(&str, T)]) -> Result<T, Flaw> {
    let names = || {
        choices
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let text = value
        .as_str()
        .ok_or_else(|| wrong_type(&format!("one of {}", names()), value))?;
    choices
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, choice)| *choice)
        .ok_or_else(|| {
            Flaw::new(
                "invalid_value",
                format!("{} is not allowed (one of {})", quoted(text), names()),
            )
        })
}

pub(super) fn object(value: Value) -> Result<Map<String, Value>, Flaw> {
    let mut path = Vec::new();
    if has_nul(&value, &mut path) {
        path.reverse();
        return Err(Flaw {
            path,
            ..Flaw::new("invalid_format", "must not contain a NUL character")
        });
    }
    match value {
        Value::Object(object) => Ok(object),
        other => Err(wrong_type("an object", &other)),
    }
}

/// Whether a NUL stands in a key or a string; `path` then leads to it, backwards. The depth is that of the parser.
fn has_nul(value: &Value, path: &mut Vec<PathSegment>) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(list) => list.iter().enumerate().any(|(index, inner)| {
            let found = has_nul(inner, path);
            if found {
                path.push(PathSegment::Index(index));
            }
            found
        }),
        Value::Object(object) => object.iter().any(|(key, inner)| {
            let found = key.contains('\0') || has_nul(inner, path);
            if found {
                path.push(PathSegment::Key(key.replace('\0', "\u{fffd}")));
            }
            found
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

pub(super) fn string_list(
    value: Value,
    items: usize,
    chars: &RangeInclusive<usize>,
) -> Result<Vec<String>, Vec<Flaw>> {
    parsed_list(value, items, chars, |text| Ok(text.to_owned()))
}

/// A list of at most so many strings that `parse` understands.
pub(super) fn parsed_list<T>(
    value: Value,
    items: usize,
    chars: &RangeInclusive<usize>,
    parse: impl Fn(&str) -> Result<T, Flaw>,
) -> Result<Vec<T>, Vec<Flaw>> {
    let Value::Array(list) = value else {
        return Err(vec![wrong_type("a list of strings", &value)]);
    };
    if list.len() > items {
        let message = format!("at most {items} entries are allowed, got {}", list.len());
        return Err(vec![Flaw::new("too_big", message)]);
    }
    let mut kept = Vec::with_capacity(list.len());
    let mut flaws = Vec::new();
    for (index, item) in list.into_iter().enumerate() {
        match parsed(item, chars, &parse) {
            Ok(read) => kept.push(read),
            Err(flaw) => flaws.push(flaw.at_index(index)),
        }
    }
    if flaws.is_empty() { Ok(kept) } else { Err(flaws) }
}

/// The sentence about the keys that nobody asked for.
pub(super) fn unread(left: &Map<String, Value>, known: &[&str], path: &[PathSegment]) -> String {
    let mut text = String::new();
    if !path.is_empty() {
        text = dotted(path) + ": ";
    }
    text += if left.len() == 1 {
        "unrecognized key "
    } else {
        "unrecognized keys "
    };
    let named: Vec<String> = left
        .keys()
        .take(KEYS_SHOWN)
        .map(|key| match nearest(key, known) {
            Some(near) => format!("{} (did you mean \"{near}\"?)", quoted(key)),
            None => quoted(key),
        })
        .collect();
    text += &named.join(", ");
    if left.len() > KEYS_SHOWN {
        text += &format!(" and {} more", left.len() - KEYS_SHOWN);
    }
    // A short list of what is allowed helps more than a guess does.
    if (1..=6).contains(&known.len()) {
        text += &format!(" (allowed: {})", known.join(", "));
    }
    text
}
