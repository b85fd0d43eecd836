//! Times as other dialects and plain English write them, and how to write the same here.

use crate::field::Field;

/// `5m`, `1h`, `1h0m0s` as an expression, where the clock's units come out even.
pub(crate) fn interval(text: &str) -> Option<String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let n: u32 = number.parse().ok()?;
    match unit {
        "m" | "m0s" | "min" | "minutes" | "minute" if n == 1 => Some("* * * * *".to_owned()),
        "m" | "m0s" | "min" | "minutes" if n > 0 && n < 60 && 60 % n == 0 => Some(format!("*/{n} * * * *")),
        "m" | "m0s" if n == 60 => Some("0 * * * *".to_owned()),
        "h" | "h0m" | "h0m0s" | "hours" | "hour" if n == 1 => Some("0 * * * *".to_owned()),
        "h" | "h0m" | "h0m0s" | "hours" if n > 0 && n < 24 && 24 % n == 0 => Some(format!("0 */{n} * * *")),
        "h" | "h0m" | "h0m0s" if n == 24 => Some("0 0 * * *".to_owned()),
        "s" if n == 60 => Some("* * * * *".to_owned()),
        _ => None,
    }
}

/// `every 5 minutes`, `every hour`, `every day`.
pub(crate) fn english(text: &str, words: &[(usize, usize)]) -> Option<String> {
    let words: Vec<String> = words
        .iter()
        .map(|&(s, e)| text[s..e].to_ascii_lowercase())
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["every", number, unit] => interval(&format!("{number}{unit}")),
        ["every", "minute"] => Some("* * * * *".to_owned()),
        ["every", "hour"] | ["hourly"] => Some("0 * * * *".to_owned()),
        ["every", "day"] | ["daily"] => Some("0 0 * * *".to_owned()),
        ["every", "week"] | ["weekly"] => Some("0 0 * * SUN".to_owned()),
        _ => None,
    }
}

/// Syntax of other dialects: what it is there, and what to write here.
pub(crate) fn foreign(field: Field, item: &str) -> Option<(&'static str, String)> {
    let upper = item.to_ascii_uppercase();
    if upper == "H" || upper.starts_with("H/") || upper.starts_with("H(") {
        let instead = match upper.split_once('/') {
            Some((_, step)) if step.bytes().all(|b| b.is_ascii_digit()) => format!("write \"*/{step}\""),
            _ => format!("write a fixed value ({})", field.allowed()),
        };
        return Some(("is a hashed time of Jenkins, which is not supported", instead));
    }
    if item.contains('~') {
        let instead = format!("write a fixed value ({})", field.allowed());
        return Some(("is a random time, which is not supported", instead));
    }
    if item.starts_with('?') {
        return Some(("is for the day fields only", "write \"*\"".to_owned()));
    }
    match field {
        Field::DayOfMonth if upper.starts_with("L-") => Some((
            "counts from the end of the month, which is not supported",
            "write \"L\" or a day".to_owned(),
        )),
        Field::DayOfMonth if upper == "W" || (upper.contains('-') && upper.ends_with('W')) => Some((
            "is not a day with its nearest weekday",
            "write \"15W\", \"LW\", or \"MON-FRI\" in the day of week".to_owned(),
        )),
        Field::DayOfWeek if upper == "L" => Some((
            "needs a day",
            "write \"SAT\" for Saturdays or \"5L\" for the last Friday".to_owned(),
        )),
        _ if upper.ends_with('C') && upper[..upper.len() - 1].bytes().all(|b| b.is_ascii_digit()) => Some((
            "is a calendar of Quartz, which is not supported",
            "write a day".to_owned(),
        )),
        Field::DayOfWeek if item.starts_with('+') => Some((
            "asks for both day fields to match, which is not supported",
            "both match where one of them starts with \"*\", as in \"*/2\"".to_owned(),
        )),
        _ => None,
    }
}
