//! The rules of the fields that several routes share: URLs, the page's size, proxies, callbacks.
//!
//! What comes in: a string, or the [`Fields`] of an object. What goes out: plain values that keep the contract's
//! rules, or [`Flaw`]s. Nothing here knows the store or the time.
//!
//! ```
//! # use impresario::api::{fields, Fields};
//! # fn read(input: &mut Fields) {
//! let start_url = input.patch_parsed("start_url", 1..=fields::START_URL_MAX, fields::start_url);
//! let viewport = input.patch_nested("viewport", fields::viewport);
//! let proxy = input.patch_nested("residential_proxy", fields::residential_proxy);
//! # }
//! ```

use impresario_api::{ResidentialProxy, Viewport};
use url::Url;

use super::{Fields, Flaw, values::quoted};

/// The longest `start_url`, in characters: a `data:` URL carries a page.
pub const START_URL_MAX: usize = 65_536;
/// The longest callback or webhook URL, in characters.
pub const CALLBACK_URL_MAX: usize = 2_048;
/// The longest city slug.
const CITY_MAX: usize = 100;

/// The states, the federal district and the territories of the United States that have a two-letter postal code.
const US_STATES: [&str; 56] = [
    "AL", "AK", "AZ", "AR", "CA", "CO", "CT", "DE", "FL", "GA", "HI", "ID", "IL", "IN", "IA", "KS", "KY",
    "LA", "ME", "MD", "MA", "MI", "MN", "MS", "MO", "MT", "NE", "NV", "NH", "NJ", "NM", "NY", "NC", "ND",
    "OH", "OK", "OR", "PA", "RI", "SC", "SD", "TN", "TX", "UT", "VT", "VA", "WA", "WV", "WI", "WY", "DC",
    "PR", "VI", "GU", "AS", "MP",
];

/// The page that a run opens first: `http`, `https`, `data` or `about`; never a file of the machine it runs on.
///
/// # Errors
/// What is wrong with it.
pub fn start_url(text: &str) -> Result<String, Flaw> {
    checked_url(text, &["http", "https", "data", "about"]).map(|_| text.to_owned())
}

/// Where results are posted: `http` or `https`, without a user or password. Whether the address may be called is
/// decided at each delivery, on what the name then resolves to.
///
/// # Errors
/// What is wrong with it. The message repeats no password.
pub fn callback_url(text: &str) -> Result<String, Flaw> {
    let url = checked_url(text, &["http", "https"])?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Flaw::new(
            "invalid_format",
            "must not carry a user or password; the signature tells the receiver who is calling",
        ));
    }
    // An index of PostgreSQL's holds it beside other columns, and has room for 2,704 bytes.
    if text.len() > CALLBACK_URL_MAX {
        return Err(Flaw::new(
            "too_big",
            format!("must have at most {CALLBACK_URL_MAX} bytes; characters outside of ASCII have several"),
        ));
    }
    Ok(text.to_owned())
}

fn checked_url(text: &str, schemes: &[&str]) -> Result<Url, Flaw> {
    let malformed = |message: String| Flaw::new("invalid_format", message);
    // The URL standard drops these silently; what is stored would then not be what is called.
    if text.contains(|c: char| c.is_ascii_control()) || text.trim() != text {
        return Err(malformed(
            "must not contain control characters, or blanks at its ends".to_owned(),
        ));
    }
    let url = Url::parse(text).map_err(|e| match text.contains('@') {
        true => malformed(format!("is not a URL: {e}")),
        false => malformed(format!("{} is not a URL: {e}", quoted(text))),
    })?;
    if !schemes.contains(&url.scheme()) {
        let scheme = quoted(url.scheme());
        return Err(malformed(format!(
            "the scheme {scheme} is not allowed (one of {})",
            schemes.join(", ")
        )));
    }
    // "http:host" and "http:///host" are read as "http://host"; written that way they are more likely a slip.
    let rest = &text[url.scheme().len() + 1..];
    let slashes = rest
        .strip_prefix("//")
        .is_some_and(|host| !host.starts_with(['/', '\\']));
    if matches!(url.scheme(), "http" | "https") && !slashes {
        return Err(malformed(format!("must begin with {}://", url.scheme())));
    }
    Ok(url)
}

/// The size of the page: `{width, height}` in CSS pixels, both required. For [`Fields::nested`].
pub fn viewport(inner: &mut Fields) -> Option<Viewport> {
    let width = inner.required_int("width", 1..=7680);
    let height = inner.required_int("height", 1..=4320);
    Some(Viewport {
        width: u32::try_from(width?).ok()?,
        height: u32::try_from(height?).ok()?,
    })
}

/// Where the traffic leaves from: `{country, state?, city?, zip?, asn?}`. For [`Fields::nested`].
pub fn residential_proxy(inner: &mut Fields) -> Option<ResidentialProxy> {
    // What was given, also where it is wrong: `city` excludes `zip` whatever it says.
    let [has_state, has_city, has_zip, has_asn] =
        ["state", "city", "zip", "asn"].map(|name| inner.has_value(name));
    let country = inner.required_parsed("country", 0..=CITY_MAX, country);
    let state = inner.patch_parsed("state", 0..=CITY_MAX, state).into_option();
    let city = inner.patch_parsed("city", 0..=CITY_MAX, city).into_option();
    let zip = inner.patch_parsed("zip", 0..=CITY_MAX, zip).into_option();
    let asn = inner.patch_parsed("asn", 0..=CITY_MAX, asn).into_option();
    // Without a valid country the rules that depend on it would only add noise.
    let abroad = country.as_deref().filter(|country| *country != "US");
    for (name, given) in [("state", has_state), ("zip", has_zip)] {
        if let (Some(country), true) = (abroad, given) {
            inner.issue(
                "custom",
                format!("is allowed only with country US, not {country}"),
                name,
            );
        }
    }
    for (name, given) in [("zip", has_zip), ("asn", has_asn)] {
        if given && (has_city || has_state) {
            inner.issue("custom", "is not allowed together with city or state", name);
        }
    }
    Some(ResidentialProxy {
        country: country?,
        state,
        city,
        zip,
        asn,
    })
}

fn country(text: &str) -> Result<String, Flaw> {
    let upper = text.to_ascii_uppercase();
    if rust_iso3166::from_alpha2(&upper).is_some() {
        return Ok(upper);
    }
    let message = format!(
        "{} is not an ISO 3166-1 alpha-2 country code such as US or DE",
        quoted(text)
    );
    Err(Flaw::new("invalid_value", message))
}

fn state(text: &str) -> Result<String, Flaw> {
    let upper = text.to_ascii_uppercase();
    if US_STATES.contains(&upper.as_str()) {
        return Ok(upper);
    }
    let message = format!(
        "{} is not a two-letter US state, district or territory such as CA",
        quoted(text)
    );
    Err(Flaw::new("invalid_value", message))
}

fn city(text: &str) -> Result<String, Flaw> {
    let word =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if text.split('-').all(word) {
        return Ok(text.to_owned());
    }
    let message = format!(
        "{} is not a slug such as san-francisco (a-z, 0-9 and single hyphens)",
        quoted(text)
    );
    Err(Flaw::new("invalid_format", message))
}

fn zip(text: &str) -> Result<String, Flaw> {
    if text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(text.to_owned());
    }
    Err(Flaw::new(
        "invalid_format",
        format!("{} is not five digits, such as 94105", quoted(text)),
    ))
}

fn asn(text: &str) -> Result<String, Flaw> {
    let upper = text.to_ascii_uppercase();
    let digits = upper.strip_prefix("AS").unwrap_or_default();
    // Numbers have 32 bits; leading zeros, which some tools write, are dropped by nobody else either.
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u32>().is_ok() {
        return Ok(upper);
    }
    let message = format!("{} is not AS and a number, such as AS7922", quoted(text));
    Err(Flaw::new("invalid_format", message))
}

/// The rule of the two proxy fields, of a schedule as it will be: `disable_default_proxy` and a residential proxy
/// exclude each other. Report it under `disable_default_proxy`.
///
/// # Errors
/// If both are set.
pub fn one_proxy(disable_default: Option<bool>, residential: Option<&ResidentialProxy>) -> Result<(), Flaw> {
    if disable_default == Some(true) && residential.is_some() {
        return Err(Flaw::new(
            "custom",
            "is not allowed together with residential_proxy",
        ));
    }
    Ok(())
}

/// The rule of the callback pair, of a schedule as it will be: a URL needs a secret, and the reverse. The name is
/// that of the field that is missing.
///
/// # Errors
/// If only one is there.
pub fn callback_pair(has_url: bool, has_secret: bool) -> Result<(), (&'static str, Flaw)> {
    match (has_url, has_secret) {
        (true, false) => Err((
            "callback_secret",
            Flaw::new("custom", "is required with callback_url"),
        )),
        (false, true) => Err((
            "callback_url",
            Flaw::new("custom", "is required with callback_secret"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
