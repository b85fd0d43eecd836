//! Proxies of a run: from the operator's URL template to what the browser is given.
//!
//! A template is a URL with placeholders, of which parts in brackets vanish where their value is not set:
//! `http://user-cc-{country}[-st-{state}][-city-{city}][-zip-{zip}][-asn-{asn}]:pass@gate.example:7777`.

use impresario_api::ResidentialProxy;
use serde::Serialize;
use url::Url;

/// A proxy as the browser takes it.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct ProxyServer {
    /// Scheme, host and port.
    pub server: String,
    /// Who asks, if the proxy wants to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// And the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

impl std::fmt::Debug for ProxyServer {
    /// Without user and password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxyServer")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// Fills a template with where the traffic should leave from.
///
/// # Errors
/// A sentence that says what is wrong with the template, without repeating it: it carries a password. A value that is
/// set but has no place in the template is an error too, else the traffic would leave from elsewhere unnoticed.
pub fn residential(template: &str, place: &ResidentialProxy) -> Result<ProxyServer, String> {
    let mut values = [
        ("country", Some(place.country.as_str()), false),
        ("state", place.state.as_deref(), false),
        ("city", place.city.as_deref(), false),
        ("zip", place.zip.as_deref(), false),
        ("asn", place.asn.as_deref(), false),
    ];
    let mut text = String::new();
    let mut rest = template;
    while let Some(at) = rest.find(['[', '{']) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let optional = rest.starts_with('[');
        let end = rest
            .find(if optional { ']' } else { '}' })
            .ok_or("the template has a bracket that is not closed")?;
        let part = &rest[usize::from(optional)..end + usize::from(!optional)];
        rest = &rest[end + 1..];
        match fill(part, &mut values)? {
            // Brackets around no placeholder are those of an IPv6 address.
            Filled::Plain if optional => text.push_str(&format!("[{part}]")),
            Filled::Plain => text.push_str(part),
            Filled::With(filled) => text.push_str(&filled),
            Filled::Unset(_) if optional => {}
            Filled::Unset(name) => {
                return Err(format!(
                    "the template needs a {name}, which this run does not give"
                ));
            }
        }
    }
    text.push_str(rest);
    for (name, value, used) in values {
        if value.is_some() && !used {
            return Err(format!(
                "this run asks for a {name}, for which the template has no {{{name}}}"
            ));
        }
    }
    parse(&text)
}

enum Filled {
    Plain,
    With(String),
    Unset(&'static str),
}

type Slot<'a> = (&'static str, Option<&'a str>, bool);

fn fill(part: &str, values: &mut [Slot<'_>]) -> Result<Filled, String> {
    let mut text = String::new();
    let mut rest = part;
    let mut plain = true;
    while let Some(at) = rest.find('{') {
        plain = false;
        text.push_str(&rest[..at]);
        let end = rest[at..]
            .find('}')
            .ok_or("the template has a brace that is not closed")?
            + at;
        let name = &rest[at + 1..end];
        let slot = values
            .iter_mut()
            .find(|(known, ..)| *known == name)
            .ok_or("the template has a placeholder other than {country}, {state}, {city}, {zip} and {asn}")?;
        slot.2 = true;
        match slot.1 {
            Some(value) if value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') => {
                text.push_str(value);
            }
            // The API lets none through; this keeps a value from ending the user part and naming another host.
            Some(_) => {
                return Err(format!(
                    "the {} has a character that a proxy URL cannot carry",
                    slot.0
                ));
            }
            None => return Ok(Filled::Unset(slot.0)),
        }
        rest = &rest[end + 1..];
    }
    text.push_str(rest);
    Ok(if plain { Filled::Plain } else { Filled::With(text) })
}

/// Whether a template can work at all: with everything a run may ask for, and with the country alone.
///
/// # Errors
/// What is wrong with it.
pub fn check_template(template: &str) -> Result<(), String> {
    let only_country = ResidentialProxy {
        country: "US".to_owned(),
        state: None,
        city: None,
        zip: None,
        asn: None,
    };
    residential(template, &only_country).map(|_| ())
}

/// Takes a proxy's URL apart.
///
/// # Errors
/// A sentence that does not repeat the URL.
pub fn parse(text: &str) -> Result<ProxyServer, String> {
    let url = Url::parse(text).map_err(|e| format!("the proxy is not a URL: {e}"))?;
    let scheme = url.scheme();
    if !matches!(scheme, "http" | "https" | "socks5") {
        return Err("the proxy's scheme must be http, https or socks5".to_owned());
    }
    let host = url
        .host_str()
        .filter(|h| !h.is_empty())
        .ok_or("the proxy's URL has no host")?;
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    let username = Some(unescape(url.username())).filter(|u| !u.is_empty());
    let password = url.password().map(unescape);
    if scheme == "socks5" && username.is_some() {
        return Err("Chromium cannot give a user and password to a socks5 proxy; use an http one".to_owned());
    }
    Ok(ProxyServer {
        server: format!("{scheme}://{host}{port}"),
        username,
        password,
    })
}

/// Undoes percent-encoding; what is not UTF-8 after it becomes replacement characters.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        plain.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "http://user-cc-{country}[-st-{state}][-city-{city}][-zip-{zip}][-asn-{asn}]:p%40ss@gate.example:7777";

    fn place(state: Option<&str>, city: Option<&str>) -> ResidentialProxy {
        ResidentialProxy {
            country: "US".into(),
            state: state.map(Into::into),
            city: city.map(Into::into),
            zip: None,
            asn: None,
        }
    }

    #[test]
    fn optional_parts_vanish_where_unset() {
        let only = residential(TEMPLATE, &place(None, None)).unwrap();
        assert_eq!(only.server, "http://gate.example:7777");
        assert_eq!(only.username.as_deref(), Some("user-cc-US"));
        assert_eq!(only.password.as_deref(), Some("p@ss"));
        let both = residential(TEMPLATE, &place(Some("CA"), Some("san-francisco"))).unwrap();
        assert_eq!(
            both.username.as_deref(),
            Some("user-cc-US-st-CA-city-san-francisco")
        );
    }

    #[test]
    fn an_ipv6_host_keeps_its_brackets() {
        let it = residential("http://{country}@[2001:db8::1]:80", &place(None, None)).unwrap();
        assert_eq!(it.server, "http://[2001:db8::1]");
        assert_eq!(it.username.as_deref(), Some("US"));
    }

    #[test]
    fn bad_templates_say_what_is_wrong_without_the_password() {
        for (template, part) in [
            ("http://{country}-{state}:secret@h:1", "needs a state"),
            ("http://{country}:secret@h:1", "has no {state}"),
            (
                "http://{country}-{planet}[{state}]:secret@h:1",
                "placeholder other than",
            ),
            ("http://{country}[-{state}:secret@h:1", "not closed"),
            ("//{country}[{state}]:secret@h", "not a URL"),
            ("ftp://{country}[{state}]:secret@h:1", "scheme"),
        ] {
            let state = if part == "needs a state" { None } else { Some("CA") };
            let error = residential(template, &place(state, None)).unwrap_err();
            assert!(error.contains(part), "{template}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(residential(TEMPLATE, &place(None, Some("x@evil"))).is_err());
    }

    #[test]
    fn plain_proxies() {
        assert_eq!(parse("socks5://h:1080").unwrap().server, "socks5://h:1080");
        assert!(parse("socks5://u:p@h:1080").is_err());
        assert_eq!(
            parse("http://u:100%25@h:1").unwrap().password.as_deref(),
            Some("100%")
        );
    }

    #[test]
    fn a_template_that_no_run_could_use_is_told_at_once() {
        assert!(check_template("http://user-cc-{country}[-st-{state}]:pass@gate.example:7777").is_ok());
        for wrong in [
            "nonsense{",
            "http://u-{bogus}:p@gate.example:1",
            "ftp://u-{country}:p@gate.example:1",
        ] {
            assert!(check_template(wrong).is_err(), "{wrong}");
        }
    }
}
