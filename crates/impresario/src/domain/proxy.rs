//! Residential proxies: where in the world a run's traffic leaves from.
//!
//! The rules are those of the API's `residential_proxy`. The operator configures the provider as one URL template
//! with optional parts: `http://user-cc-{country}[-st-{state}][-city-{city}]:pass@gate.example:7777`.

use serde_json::Value;

pub use impresario_api::ResidentialProxy;

use super::{Object, Violation};
use crate::domain::launch::quoted;

/// The states, the federal district and the territories that have a two-letter postal code.
const US_STATES: [&str; 56] = [
    "AL", "AK", "AZ", "AR", "CA", "CO", "CT", "DE", "FL", "GA", "HI", "ID", "IL", "IN", "IA", "KS", "KY", "LA", "ME",
    "MD", "MA", "MI", "MN", "MS", "MO", "MT", "NE", "NV", "NH", "NJ", "NM", "NY", "NC", "ND", "OH", "OK", "OR", "PA",
    "RI", "SC", "SD", "TN", "TX", "UT", "VT", "VA", "WA", "WV", "WI", "WY", "DC", "PR", "VI", "GU", "AS", "MP",
];

const KEYS: [&str; 5] = ["country", "state", "city", "zip", "asn"];

/// The longest city slug.
const CITY_MAX: usize = 100;

/// Reads a `residential_proxy` object.
///
/// # Errors
/// All that is wrong with it, each with its key.
pub fn parse(value: &Value) -> Result<ResidentialProxy, Vec<Violation>> {
    let Value::Object(object) = value else {
        return Err(vec![Violation::here("invalid_type", format!("expected an object or null, got {}", kind(value)))]);
    };
    let mut found = Vec::new();
    for key in object.keys().filter(|key| !KEYS.contains(&key.as_str())) {
        found.push(Violation::at(key, "unrecognized_keys", format!("unknown key {key:?} (allowed: {})", KEYS.join(", "))));
    }
    let country = text(object, "country", &mut found).and_then(|given| {
        let upper = given.to_ascii_uppercase();
        if rust_iso3166::from_alpha2(&upper).is_some() {
            return Some(upper);
        }
        let message = format!("{} is not an ISO 3166-1 alpha-2 country code such as US or DE", quoted(&given));
        found.push(Violation::at("country", "invalid_value", message));
        None
    });
    if !object.contains_key("country") {
        found.push(Violation::at("country", "invalid_type", "required"));
    }
    let state = text(object, "state", &mut found).map(|given| given.to_ascii_uppercase());
    let city = text(object, "city", &mut found);
    let zip = text(object, "zip", &mut found);
    let asn = text(object, "asn", &mut found).map(|given| given.to_ascii_uppercase());
    let proxy = ResidentialProxy { country: country.unwrap_or_default(), state, city, zip, asn };
    check(&proxy, &mut found);
    if found.is_empty() { Ok(proxy) } else { Err(found) }
}

/// The rules of each part, and of the parts together.
fn check(proxy: &ResidentialProxy, found: &mut Vec<Violation>) {
    // An empty country was reported already; rules that depend on it would only add noise.
    let outside_us = !proxy.country.is_empty() && proxy.country != "US";
    if let Some(state) = &proxy.state {
        if !US_STATES.contains(&state.as_str()) {
            let message = format!("{} is not a two-letter US state, district or territory", quoted(state));
            found.push(Violation::at("state", "invalid_value", message));
        } else if outside_us {
            found.push(Violation::at("state", "custom", "only with country US"));
        }
    }
    if let Some(city) = &proxy.city
        && !is_slug(city)
    {
        let message = format!("{} is not a slug such as san-francisco (a-z, 0-9 and single hyphens)", quoted(city));
        found.push(Violation::at("city", "invalid_format", message));
    }
    if let Some(zip) = &proxy.zip {
        if zip.len() != 5 || !zip.bytes().all(|b| b.is_ascii_digit()) {
            found.push(Violation::at("zip", "invalid_format", format!("{} is not five digits", quoted(zip))));
        }
        if outside_us {
            found.push(Violation::at("zip", "custom", "only with country US"));
        }
        if proxy.city.is_some() || proxy.state.is_some() {
            found.push(Violation::at("zip", "custom", "not together with city or state"));
        }
    }
    if let Some(asn) = &proxy.asn {
        let digits = asn.strip_prefix("AS").unwrap_or_default();
        if digits.is_empty() || digits.len() > 10 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            found.push(Violation::at("asn", "invalid_format", format!("{} is not AS and digits, such as AS7922", quoted(asn))));
        }
        if proxy.city.is_some() || proxy.state.is_some() {
            found.push(Violation::at("asn", "custom", "not together with city or state"));
        }
    }
}

fn text(object: &Object, key: &str, found: &mut Vec<Violation>) -> Option<String> {
    match object.get(key) {
        None => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => {
            found.push(Violation::at(key, "invalid_type", format!("expected a string, got {}", kind(other))));
            None
        }
    }
}

fn is_slug(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= CITY_MAX
        && text.split('-').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

/// What a JSON value is, for messages.
#[must_use]
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Fills an operator's template with what a schedule asks for. A part in brackets is left out where its placeholder
/// has no value.
///
/// # Errors
/// A sentence, where the schedule asks for a part that the template has no place for: traffic from another city than
/// the one asked for would be a silent wrong.
pub fn fill_template(template: &str, proxy: &ResidentialProxy) -> Result<String, String> {
    let values = [
        ("country", Some(proxy.country.to_ascii_lowercase())),
        ("state", proxy.state.as_ref().map(|s| s.to_ascii_lowercase())),
        ("city", proxy.city.clone()),
        ("zip", proxy.zip.clone()),
        ("asn", proxy.asn.as_ref().map(|s| s.trim_start_matches("AS").to_owned())),
    ];
    for (name, value) in &values {
        if value.is_some() && !template.contains(&format!("{{{name}}}")) {
            return Err(format!("the operator's residential proxy template has no {{{name}}}, which this run asks for"));
        }
    }
    let fill = |text: &str| {
        values.iter().fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{name}}}"), value.as_deref().unwrap_or_default())
        })
    };
    let mut filled = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('[') {
        // A bracket without a partner, or an IPv6 literal, is kept as it stands.
        let Some((part, tail)) = after.split_once(']') else { break };
        filled.push_str(&fill(before));
        let named: Vec<_> = values.iter().filter(|(name, _)| part.contains(&format!("{{{name}}}"))).collect();
        if named.is_empty() {
            filled.push_str(&format!("[{part}]"));
        } else if named.iter().all(|(_, value)| value.is_some()) {
            filled.push_str(&fill(part));
        }
        rest = tail;
    }
    filled.push_str(&fill(rest));
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn proxies_that_are_taken() {
        for (given, kept) in [
            (json!({"country": "us"}), json!({"country": "US"})),
            (json!({"country": "US", "state": "ca", "city": "san-francisco"}), json!({"country": "US", "state": "CA", "city": "san-francisco"})),
            (json!({"country": "US", "zip": "94105"}), json!({"country": "US", "zip": "94105"})),
            (json!({"country": "de", "city": "berlin"}), json!({"country": "DE", "city": "berlin"})),
            (json!({"country": "US", "asn": "as7922"}), json!({"country": "US", "asn": "AS7922"})),
            (json!({"country": "US", "zip": "94105", "asn": "AS1"}), json!({"country": "US", "zip": "94105", "asn": "AS1"})),
        ] {
            assert_eq!(serde_json::to_value(parse(&given).unwrap()).unwrap(), kept, "{given}");
        }
    }

    #[test]
    fn proxies_that_are_refused_name_every_key_that_is_wrong() {
        for (given, keys) in [
            (json!("US"), vec![]),
            (json!({}), vec!["country"]),
            (json!({"country": "XX"}), vec!["country"]),
            (json!({"country": "USA"}), vec!["country"]),
            (json!({"country": 1, "state": 2}), vec!["country", "state"]),
            (json!({"country": "DE", "state": "CA"}), vec!["state"]),
            (json!({"country": "US", "state": "ZZ"}), vec!["state"]),
            (json!({"country": "US", "city": "San Francisco"}), vec!["city"]),
            (json!({"country": "US", "city": "-x"}), vec!["city"]),
            (json!({"country": "DE", "zip": "10115"}), vec!["zip"]),
            (json!({"country": "US", "zip": "1011", "city": "x"}), vec!["zip", "zip"]),
            (json!({"country": "US", "asn": "7922"}), vec!["asn"]),
            (json!({"country": "US", "asn": "AS1", "state": "CA"}), vec!["asn"]),
            (json!({"country": "US", "colour": "red"}), vec!["colour"]),
        ] {
            let found: Vec<String> = parse(&given)
                .unwrap_err()
                .iter()
                .filter_map(|violation| match violation.path.first() {
                    Some(impresario_api::PathSegment::Key(key)) => Some(key.clone()),
                    _ => None,
                })
                .collect();
            assert_eq!(found, keys, "{given}");
        }
    }

    #[test]
    fn templates() {
        let template = "http://user-cc-{country}[-st-{state}][-city-{city}][-zip-{zip}]:pass@gate.example:7777";
        let proxy = |value| parse(&value).unwrap();
        assert_eq!(
            fill_template(template, &proxy(json!({"country": "US"}))).unwrap(),
            "http://user-cc-us:pass@gate.example:7777"
        );
        assert_eq!(
            fill_template(template, &proxy(json!({"country": "US", "state": "CA", "city": "san-jose"}))).unwrap(),
            "http://user-cc-us-st-ca-city-san-jose:pass@gate.example:7777"
        );
        assert!(fill_template(template, &proxy(json!({"country": "US", "asn": "AS1"}))).unwrap_err().contains("{asn}"));
        assert_eq!(
            fill_template("http://u-{country}:p@[::1]:1", &proxy(json!({"country": "US"}))).unwrap(),
            "http://u-us:p@[::1]:1"
        );
    }
}
