//! The fields of a schedule that a file may set: their shapes, their defaults, and the one spelling in which values are
//! compared.

use impresario_cron::Zone;
use serde_json::{Map, Value, json};

use crate::{clock::to_millis, domain::rfc3339};

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    Zone,
    Instant,
    Whole,
    Flag,
    Texts,
    Object,
    Viewport,
    Proxy,
}

/// A field that can be changed, besides `enabled` and `callback_secret`, which a file may leave as they are.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
}

const fn field(name: &'static str, shape: Shape) -> Field {
    Field { name, shape }
}

/// In the order in which files are written and differences are shown.
pub(super) const FIELDS: [Field; 19] = [
    field("cron_expr", Shape::Text),
    field("timezone", Shape::Zone),
    field("description", Shape::Text),
    field("tags", Shape::Texts),
    field("params", Shape::Object),
    field("start_at", Shape::Instant),
    field("end_at", Shape::Instant),
    field("jitter_seconds", Shape::Whole),
    field("misfire_policy", Shape::Text),
    field("catchup_window_seconds", Shape::Whole),
    field("overlap_policy", Shape::Text),
    field("max_consecutive_failures", Shape::Whole),
    field("timeout_seconds", Shape::Whole),
    field("start_url", Shape::Text),
    field("gpu", Shape::Flag),
    field("viewport", Shape::Viewport),
    field("residential_proxy", Shape::Proxy),
    field("disable_default_proxy", Shape::Flag),
    field("skip_callbacks", Shape::Flag),
];

/// The receiver stands apart: its secret goes with it.
pub(super) const CALLBACK_URL: Field = field("callback_url", Shape::Text);

/// All of them.
pub(super) fn all() -> impl Iterator<Item = &'static Field> {
    FIELDS.iter().chain([&CALLBACK_URL])
}

/// What the API takes where a create does not say it.
pub(super) fn default_of(name: &str) -> Value {
    match name {
        "timezone" => json!("UTC"),
        "tags" => json!([]),
        "params" => json!({}),
        "jitter_seconds" => json!(0),
        "misfire_policy" => json!("fire_once"),
        "catchup_window_seconds" => json!(crate::domain::DEFAULT_CATCHUP_WINDOW),
        "overlap_policy" => json!("allow"),
        "timeout_seconds" => json!(900),
        "skip_callbacks" => json!(false),
        _ => Value::Null,
    }
}

impl Shape {
    /// The keys of an object that has only these.
    pub(super) fn keys(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Viewport => Some(&["width", "height"]),
            Self::Proxy => Some(&["country", "state", "city", "zip", "asn"]),
            _ => None,
        }
    }

    /// The one spelling of a value, so that two that the API takes for the same are equal. What only the server can
    /// judge, such as the name of a zone, is left as it is.
    ///
    /// # Errors
    /// What it must be instead.
    pub(super) fn canonical(self, value: Value) -> Result<Value, &'static str> {
        match (self, value) {
            (Self::Text, value @ Value::String(_)) => Ok(value),
            (Self::Text, _) => Err("a text; put it in quotes"),
            (Self::Zone, Value::String(name)) => Ok(match Zone::get(&name) {
                Ok(zone) => json!(zone.name()),
                Err(_) => json!(name),
            }),
            (Self::Zone, _) => Err("the name of a time zone, such as Europe/Berlin"),
            (Self::Instant, value) => value
                .as_str()
                .and_then(|text| text.parse().ok())
                .map(|at| json!(rfc3339(to_millis(at))))
                .ok_or("an instant such as 2026-05-17T01:15:00Z"),
            (Self::Whole, value) => whole(value).ok_or("a whole number"),
            (Self::Flag, value @ Value::Bool(_)) => Ok(value),
            (Self::Flag, _) => Err("true or false"),
            (Self::Texts, Value::Array(list)) if list.iter().all(Value::is_string) => {
                let mut kept: Vec<Value> = Vec::new();
                for text in list {
                    if !kept.contains(&text) {
                        kept.push(text);
                    }
                }
                Ok(kept.into())
            }
            (Self::Texts, _) => Err("a list of texts"),
            (Self::Object, value @ Value::Object(_)) => Ok(value),
            (Self::Object, _) => Err("a mapping"),
            (Self::Viewport, Value::Object(size)) => size
                .into_iter()
                .map(|(key, value)| Some((key, whole(value)?)))
                .collect::<Option<Map<_, _>>>()
                .map(Value::from)
                .ok_or("width and height, both whole numbers"),
            (Self::Viewport, _) => Err("width and height, such as {width: 1280, height: 800}"),
            (Self::Proxy, Value::Object(place)) => place
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| {
                    let text = value.as_str()?;
                    let upper = matches!(key.as_str(), "country" | "state" | "asn");
                    let text = if upper {
                        text.to_ascii_uppercase()
                    } else {
                        text.to_owned()
                    };
                    Some((key, json!(text)))
                })
                .collect::<Option<Map<_, _>>>()
                .map(Value::from)
                .ok_or("a mapping of texts; put its values in quotes"),
            (Self::Proxy, _) => Err("a mapping, such as {country: US}"),
        }
    }
}

/// A whole number, also one that is written as `900.0`.
fn whole(value: Value) -> Option<Value> {
    let number = value.as_number()?;
    if number.is_i64() || number.is_u64() {
        return Some(value);
    }
    let float = number.as_f64()?;
    // Beyond 2^53 a float no longer says which whole number was meant; no field is near it.
    if float.fract() != 0.0 || float.abs() >= 9_007_199_254_740_992.0 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole, and below 2^53")]
    Some(json!(float as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_takes_for_the_same_is_equal() {
        use Shape::{Instant, Object, Proxy, Texts, Viewport, Whole, Zone};
        for (shape, written, stored) in [
            (Zone, json!("america/new_york"), json!("America/New_York")),
            (
                Instant,
                json!("2027-01-01T01:00:00+01:00"),
                json!("2027-01-01T00:00:00.000Z"),
            ),
            (
                Instant,
                json!("2027-01-01T00:00:00.0009Z"),
                json!("2027-01-01T00:00:00.000Z"),
            ),
            (Whole, json!(900.0), json!(900)),
            (Texts, json!(["a", "b", "a"]), json!(["a", "b"])),
            (
                Viewport,
                json!({"width": 1280.0, "height": 8}),
                json!({"height": 8, "width": 1280}),
            ),
            (
                Proxy,
                json!({"country": "us", "state": "ca", "city": null, "asn": "as1"}),
                json!({"country": "US", "state": "CA", "asn": "AS1"}),
            ),
            (
                Object,
                json!({"a": 1, "b": {"c": 2, "d": 3}}),
                json!({"b": {"d": 3, "c": 2}, "a": 1}),
            ),
        ] {
            let both = [written, stored].map(|value| shape.canonical(value).unwrap());
            assert_eq!(both[0], both[1], "{shape:?}");
        }
    }

    #[test]
    fn what_the_api_keeps_apart_differs() {
        use Shape::{Object, Text, Texts, Zone};
        for (shape, one, other) in [
            (Object, json!({"a": 1}), json!({"a": 1.0})),
            (Object, json!({"a": null}), json!({})),
            (Object, json!({"a": "1"}), json!({"a": 1})),
            (Texts, json!(["a", "b"]), json!(["b", "a"])),
            (Text, json!("0 2 * * *"), json!("0  2 * * *")),
            (Zone, json!("US/Eastern"), json!("America/New_York")),
        ] {
            let both = [one, other].map(|value| shape.canonical(value).unwrap());
            assert_ne!(both[0], both[1], "{shape:?}");
        }
    }

    #[test]
    fn another_shape_is_refused() {
        for (shape, value) in [
            (Shape::Text, json!(7)),
            (Shape::Zone, json!(7)),
            (Shape::Instant, json!("tomorrow")),
            (Shape::Instant, json!(7)),
            (Shape::Whole, json!("900")),
            (Shape::Whole, json!(1.5)),
            (Shape::Flag, json!("no")),
            (Shape::Texts, json!("a")),
            (Shape::Texts, json!([7])),
            (Shape::Object, json!([])),
            (Shape::Viewport, json!({"width": "wide"})),
            (Shape::Viewport, json!(7)),
            (Shape::Proxy, json!({"country": 7})),
            (Shape::Proxy, json!("US")),
        ] {
            assert!(shape.canonical(value.clone()).is_err(), "{shape:?}: {value}");
        }
    }
}
