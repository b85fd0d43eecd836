//! From a fault to a sentence that helps: what is wrong, what is allowed and, where the text is of another cron
//! dialect, how to write the same here. Only failed texts come here.

use crate::dialect::{english, foreign, interval};
use crate::error::{CronError, CronErrorKind, Details};
use crate::field::Field;
use crate::parse::{Fault, MAX_LENGTH, is_blank, read};
use crate::zone::Zone;

/// More of a text than this makes a message worse.
const MAX_SHOWN: usize = 40;

const FIVE_FIELDS: &str = "minute, hour, day of month, month, day of week";

/// What will be told; `None` hints where the message says it all.
struct Finding {
    fault: Fault,
    message: String,
    hint: Option<String>,
}

impl Finding {
    fn new(fault: Fault, message: impl Into<String>) -> Finding {
        Finding {
            fault,
            message: message.into(),
            hint: None,
        }
    }

    fn hint(self, hint: impl Into<String>) -> Finding {
        Finding {
            hint: Some(hint.into()),
            ..self
        }
    }
}

#[cold]
pub(crate) fn explain(text: &str, fault: Fault) -> CronError {
    let Finding { fault, message, hint } = whole(text).unwrap_or_else(|| in_field(text, fault));
    CronError(Box::new(Details {
        kind: fault.kind,
        field: fault.field,
        expression: text[..cut(text)].to_owned(),
        start: fault.start,
        end: fault.end,
        message,
        hint,
    }))
}

/// Where a text that is too long is cut: not inside a character.
fn cut(text: &str) -> usize {
    (0..=text.len().min(MAX_LENGTH))
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}

pub(crate) fn shown(text: &str) -> String {
    if text.chars().count() <= MAX_SHOWN {
        return format!("\"{}\"", text.escape_debug());
    }
    let cut: String = text.chars().take(MAX_SHOWN - 1).collect();
    format!("\"{}…\"", cut.escape_debug())
}

/// Byte ranges of the words.
fn words(text: &str) -> Vec<(usize, usize)> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, byte) in text.bytes().chain(std::iter::once(b' ')).enumerate() {
        match (start, is_blank(byte)) {
            (None, false) => start = Some(at),
            (Some(from), true) => {
                words.push((from, at));
                start = None;
            }
            _ => {}
        }
    }
    words
}

/// What is wrong with the text as a whole, before any field is looked at.
fn whole(text: &str) -> Option<Finding> {
    let fault = |kind, start, end| Fault {
        kind,
        field: None,
        start,
        end,
    };
    if text.len() > MAX_LENGTH {
        let fault = fault(CronErrorKind::TooLong, cut(text), cut(text));
        let message = format!(
            "the expression is {} bytes long, at most {MAX_LENGTH} are allowed",
            text.len()
        );
        return Some(Finding::new(fault, message));
    }
    if let Some((at, c)) = text
        .char_indices()
        .find(|(_, c)| !c.is_ascii() || (c.is_control() && *c != '\t'))
    {
        let fault = fault(CronErrorKind::InvalidCharacter, at, at + c.len_utf8());
        let message = format!("the expression has {c:?} in it");
        return Some(Finding::new(fault, message).hint(match c {
            '\n' | '\r' => "write it on one line",
            c if c.is_whitespace() => "separate the fields with plain spaces",
            _ => "write it with ASCII letters, digits and signs",
        }));
    }
    let words = words(text);
    let Some(&(start, end)) = words.first() else {
        let fault = fault(CronErrorKind::Empty, 0, 0);
        return Some(
            Finding::new(fault, "the expression is empty").hint(format!("write five fields: {FIVE_FIELDS}")),
        );
    };
    let first = &text[start..end];
    if first.starts_with('@') {
        return Some(nickname(text, &words));
    }
    if first.contains('=') {
        let fault = fault(CronErrorKind::ZoneInExpression, start, end);
        let message = format!("{} does not belong into the expression", shown(first));
        return Some(Finding::new(fault, message).hint("the time zone has a setting of its own"));
    }
    if words.len() != 5 {
        return Some(field_count(text, &words));
    }
    None
}

fn nickname(text: &str, words: &[(usize, usize)]) -> Finding {
    const KNOWN: [&str; 7] = [
        "@yearly",
        "@annually",
        "@monthly",
        "@weekly",
        "@daily",
        "@midnight",
        "@hourly",
    ];
    let (start, end) = words[0];
    let name = &text[start..end];
    if KNOWN.contains(&name) {
        let (from, _) = words[words.len().min(2) - 1];
        let fault = Fault {
            kind: CronErrorKind::FieldCount,
            field: None,
            start: from,
            end: text.trim_end().len(),
        };
        return Finding::new(fault, format!("{} stands for a whole expression", shown(name)))
            .hint("leave out either the nickname or the rest");
    }
    let fault = Fault {
        kind: CronErrorKind::UnknownNickname,
        field: None,
        start,
        end,
    };
    let finding = Finding::new(
        fault,
        format!("nickname {} is not known ({})", shown(name), KNOWN.join(", ")),
    );
    let lower = name.to_ascii_lowercase();
    match lower.as_str() {
        _ if KNOWN.contains(&lower.as_str()) => finding.hint(format!("write \"{lower}\"")),
        "@every" => {
            let every = words.get(1).and_then(|&(start, end)| interval(&text[start..end]));
            finding.hint(match every {
                Some(instead) => format!("write \"{instead}\""),
                None => {
                    "write an interval as a step, such as \"*/5 * * * *\" for every five minutes".to_owned()
                }
            })
        }
        "@reboot" => finding.hint("a start of the machine is not a time; there is nothing to write instead"),
        "@minutely" | "@every_minute" => finding.hint("write \"* * * * *\""),
        "@quarterly" => finding.hint("write \"0 0 1 */3 *\""),
        "@weekdays" => finding.hint("write \"0 0 * * MON-FRI\""),
        _ => finding,
    }
}

fn field_count(text: &str, words: &[(usize, usize)]) -> Finding {
    let found = words.len();
    let reads = |from: usize, to: usize| {
        let (start, end) = (words.get(from)?.0, words.get(to - 1)?.1);
        read(&text.as_bytes()[start..end])
            .ok()
            .map(|_| shown(&text[start..end]))
    };
    let (start, end) = match words.get(5) {
        Some(&(start, _)) => (start, words[found - 1].1),
        None => (text.len(), text.len()),
    };
    let fault = Fault {
        kind: CronErrorKind::FieldCount,
        field: None,
        start,
        end,
    };
    let finding = Finding::new(fault, format!("expected 5 fields ({FIVE_FIELDS}), found {found}"));
    if let Some(instead) = english(text, words) {
        return finding.hint(format!("write \"{instead}\""));
    }
    let Some(&(start, end)) = words.get(5) else {
        return match Field::ALL.get(found) {
            Some(missing) if found > 1 => finding.hint(format!("the {} is missing", missing.name())),
            _ => finding,
        };
    };
    let sixth = &text[start..end];
    if Zone::get(sixth).is_ok() {
        let fault = Fault {
            kind: CronErrorKind::ZoneInExpression,
            ..finding.fault
        };
        return Finding { fault, ..finding }.hint("the time zone has a setting of its own");
    }
    match (found, reads(0, 5), reads(1, 6)) {
        (_, Some(five), _) if sixth.starts_with('#') => {
            finding.hint(format!("leave out the comment: write {five}"))
        }
        (7, _, Some(five)) => finding.hint(format!(
            "seconds and years are not supported: without them this is {five}"
        )),
        (6, _, Some(five)) => finding.hint(format!(
            "seconds are not supported: if the first field is one, leave it out and write {five}"
        )),
        (6, Some(five), _) if sixth.bytes().all(|b| b.is_ascii_digit() || b"*,-/".contains(&b)) => {
            finding.hint(format!("years are not supported: without it this is {five}"))
        }
        (_, Some(five), _) => finding.hint(format!("users and commands do not belong here: write {five}")),
        _ => finding,
    }
}

/// What is wrong inside a field; the five fields are there.
fn in_field(text: &str, fault: Fault) -> Finding {
    let Some(field) = fault.field else {
        return Finding::new(fault, "the expression cannot be read");
    };
    let name = field.name();
    let item = text.get(fault.start..fault.end).unwrap_or_default();
    let quoted = shown(item);
    match fault.kind {
        CronErrorKind::EmptyItem => {
            let whole = words(text)
                .into_iter()
                .find(|(start, end)| (*start..=*end).contains(&fault.start));
            let list = whole.map_or(item, |(start, end)| &text[start..end]);
            Finding::new(fault, format!("{name} list {} has an empty item", shown(list)))
                .hint("write one comma between two values and none at the ends")
        }
        CronErrorKind::OutOfRange => {
            let finding = Finding::new(
                fault,
                format!("{name} {quoted} is out of range ({})", field.allowed()),
            );
            match (field, item) {
                (Field::Hour, "24") => finding.hint("midnight is 0"),
                _ => finding,
            }
        }
        CronErrorKind::ReversedRange => {
            let finding = Finding::new(fault, format!("{name} range {quoted} runs backwards"));
            match unrolled(field, item).filter(|instead| reads(field, instead)) {
                Some(instead) => finding.hint(format!("write \"{instead}\"")),
                None => {
                    finding.hint("write the part to the end and the part from the beginning as two ranges")
                }
            }
        }
        CronErrorKind::InvalidRange | CronErrorKind::InvalidStep => malformed(field, item, fault),
        _ => value(field, item, fault),
    }
}

/// Whether a text is right in a field: nobody should be told to write what is refused again.
fn reads(field: Field, text: &str) -> bool {
    let fields = Field::ALL.map(|f| if f == field { text } else { "*" });
    read(fields.join(" ").as_bytes()).is_ok()
}

/// `22-6` as `22-23,0-6`.
fn unrolled(field: Field, item: &str) -> Option<String> {
    let (low, high) = item.split_once('-').filter(|(_, high)| !high.contains('/'))?;
    let named = low.starts_with(|c: char| c.is_ascii_alphabetic());
    let (first, last) = match field {
        _ if named => (field.short_name(field.min())?, field.short_name(field.max())?),
        Field::Minute => ("0", "59"),
        Field::Hour => ("0", "23"),
        Field::DayOfMonth => ("1", "31"),
        Field::Month => ("1", "12"),
        Field::DayOfWeek => ("0", "7"),
    };
    let is = |text: &str, edge: &str| {
        text.eq_ignore_ascii_case(edge) || text.parse::<u32>().is_ok_and(|n| edge.parse() == Ok(n))
    };
    let head = if is(low, last) {
        low.to_owned()
    } else {
        format!("{low}-{last}")
    };
    // On the day of the week the head has reached Sunday already.
    let tail = match field {
        Field::DayOfWeek if is(high, first) => return Some(head),
        Field::DayOfWeek if is(high, "1") || is(high, "MON") => high.to_owned(),
        Field::DayOfWeek => format!("{}-{high}", if named { "MON" } else { "1" }),
        _ if is(high, first) => high.to_owned(),
        _ => format!("{first}-{high}"),
    };
    Some(format!("{head},{tail}"))
}

fn malformed(field: Field, item: &str, fault: Fault) -> Finding {
    let (name, quoted) = (field.name(), shown(item));
    if fault.kind == CronErrorKind::InvalidStep {
        let finding = Finding::new(
            fault,
            format!("{name} step in {quoted} is not a whole number from 1"),
        );
        return match item.matches('/').count() {
            2.. => finding.hint("write one step"),
            _ => finding,
        };
    }
    if item.contains('*') {
        return Finding::new(fault, format!("{name} range {quoted} has a \"*\" in it"))
            .hint(format!("write both ends ({})", field.allowed()));
    }
    if item.ends_with('-') {
        let open = item.trim_end_matches('-');
        return Finding::new(fault, format!("{name} range {quoted} has no end")).hint(format!(
            "write \"{open}-{}\" or the end that is meant",
            field.max()
        ));
    }
    Finding::new(
        fault,
        format!("{name} range {quoted} is not two values ({})", field.allowed()),
    )
}

/// An item that is no value of its field.
fn value(field: Field, item: &str, fault: Fault) -> Finding {
    let (name, quoted) = (field.name(), shown(item));
    if let Some((message, hint)) = foreign(field, item) {
        let fault = Fault {
            kind: CronErrorKind::Unsupported,
            ..fault
        };
        return Finding::new(fault, format!("{name} {quoted} {message}")).hint(hint);
    }
    if item.contains('*') && item.contains('-') {
        return malformed(
            field,
            item,
            Fault {
                kind: CronErrorKind::InvalidRange,
                ..fault
            },
        );
    }
    if let Some(finding) = misnamed(field, item, fault) {
        return finding;
    }
    let fault = Fault {
        kind: CronErrorKind::InvalidValue,
        ..fault
    };
    let finding = Finding::new(
        fault,
        format!("{name} {quoted} is not a value or a range ({})", field.allowed()),
    );
    if let Some(step) = item
        .strip_prefix('/')
        .filter(|step| reads(field, &format!("*/{step}")))
    {
        return finding.hint(format!("write \"*/{step}\""));
    }
    if item.starts_with(['+', '-']) {
        return finding.hint("write it without a sign");
    }
    if item.contains('.') {
        return finding.hint("write whole numbers");
    }
    if item.contains(';') && reads(field, &item.replace(';', ",")) {
        return finding.hint(format!(
            "separate values with commas: write \"{}\"",
            item.replace(';', ",")
        ));
    }
    if item.contains('*') {
        return finding.hint("a \"*\" stands alone or before a step, as in \"*/5\"");
    }
    if field == Field::DayOfWeek && item.contains('#') {
        return finding.hint("behind \"#\" stands 1 to 5, as in \"TUE#2\" for the second Tuesday");
    }
    finding
}

/// Letters where numbers or other letters are expected.
fn misnamed(field: Field, item: &str, fault: Fault) -> Option<Finding> {
    let (name, quoted) = (field.name(), shown(item));
    let bytes = item.as_bytes();
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_alphabetic) {
        return None;
    }
    let fault = Fault {
        kind: CronErrorKind::UnknownName,
        ..fault
    };
    let of = |field: Field| field.value_of([*bytes.first()?, *bytes.get(1)?, *bytes.get(2)?]);
    if of(field).is_some() {
        let short = item[..3].to_ascii_uppercase();
        return Some(
            Finding::new(
                fault,
                format!("{name} {quoted} is not a name ({})", field.allowed()),
            )
            .hint(format!("names have three letters: write \"{short}\"")),
        );
    }
    for other in [Field::Month, Field::DayOfWeek] {
        if bytes.len() == 3 && of(other).is_some() {
            return Some(
                Finding::new(
                    fault,
                    format!("{name} {quoted} is not allowed ({})", field.allowed()),
                )
                .hint(format!("that is a name of the {} field", other.name())),
            );
        }
    }
    Some(Finding::new(
        fault,
        format!("{name} {quoted} is not allowed ({})", field.allowed()),
    ))
}
