//! How the browser of a run is started, and who is told the result.

use serde::{Deserialize, Serialize};
use url::Url;

use super::{ResidentialProxy, Violation};
pub use impresario_api::Viewport;

/// What a schedule or a job says about its browser.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Launch {
    /// Opened before the workflow runs; overrides the workflow's own.
    pub start_url: Option<String>,
    /// Whether the browser may use a GPU; overrides the workflow's own.
    pub gpu: Option<bool>,
    /// The size of the page; overrides the workflow's own.
    pub viewport: Option<Viewport>,
    /// Where the traffic should leave from.
    pub residential_proxy: Option<ResidentialProxy>,
    /// Go past the operator's default proxy.
    pub disable_default_proxy: Option<bool>,
}

/// A receiver of its own: where results go and what signs them, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// An http(s) URL.
    pub url: String,
    /// The secret, sealed for the row that this stands in.
    pub secret: Vec<u8>,
}

/// What a deployment says of a workflow's launch; a schedule's or a job's own values win.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchMetadata {
    /// The credentials it is given, by name.
    pub credential_names: Vec<String>,
    /// Opened before it runs.
    pub start_url: Option<String>,
    /// The size of its page.
    pub viewport: Option<Viewport>,
    /// Whether its browser may use a GPU.
    pub gpu: Option<bool>,
}

/// The largest page, in CSS pixels.
pub const VIEWPORT_MAX: Viewport = Viewport { width: 7680, height: 4320 };
/// The longest `start_url`, in bytes: `data:` URLs carry a page.
pub const START_URL_MAX: usize = 65_536;
/// The longest callback URL, in bytes.
pub const CALLBACK_URL_MAX: usize = 2_048;

/// Checks a start URL: `http`, `https`, `data` or `about`.
///
/// # Errors
/// What is wrong with it.
pub fn check_start_url(text: &str) -> Result<(), Violation> {
    if text.len() > START_URL_MAX {
        return Err(Violation::here("too_big", format!("must be at most {START_URL_MAX} bytes, not {}", text.len())));
    }
    let url = Url::parse(text).map_err(|e| not_a_url(text, &e))?;
    match url.scheme() {
        "http" | "https" if !url.has_host() => Err(Violation::here("invalid_format", format!("{} has no host", quoted(text)))),
        "http" | "https" | "data" | "about" => Ok(()),
        other => Err(Violation::here(
            "invalid_format",
            format!("the scheme \"{other}\" is not allowed (http, https, data or about)"),
        )),
    }
}

/// Checks a callback's or a webhook's URL: `http` or `https`, with a host and without a user or password.
///
/// # Errors
/// What is wrong with it.
pub fn check_callback_url(text: &str) -> Result<(), Violation> {
    if text.len() > CALLBACK_URL_MAX {
        return Err(Violation::here("too_big", format!("must be at most {CALLBACK_URL_MAX} bytes, not {}", text.len())));
    }
    let url = Url::parse(text).map_err(|e| not_a_url(text, &e))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Violation::here(
            "invalid_format",
            format!("the scheme \"{}\" is not allowed (http or https)", url.scheme()),
        ));
    }
    if !url.has_host() {
        return Err(Violation::here("invalid_format", format!("{} has no host", quoted(text))));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Violation::here(
            "invalid_format",
            "must not carry a user or password; the signature tells the receiver who is calling",
        ));
    }
    Ok(())
}

fn not_a_url(text: &str, error: &url::ParseError) -> Violation {
    Violation::here("invalid_format", format!("{} is not a URL: {error}", quoted(text)))
}

/// A value in quotes, cut where it is long, so that a message stays a sentence.
#[must_use]
pub fn quoted(text: &str) -> String {
    const SHOWN: usize = 80;
    if text.chars().count() <= SHOWN {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(SHOWN).collect();
    format!("{:?}", start + "…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_urls() {
        for good in ["https://example.com", "http://[::1]:3000/x?y#z", "data:text/html,<p>hi", "about:blank"] {
            assert!(check_start_url(good).is_ok(), "{good}");
        }
        for bad in ["", "example.com", "file:///etc/passwd", "javascript:alert(1)", "chrome://version", "//host", "ftp://h/"] {
            assert!(check_start_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn callback_urls() {
        for good in ["https://example.com/hook", "http://127.0.0.1:9/x"] {
            assert!(check_callback_url(good).is_ok(), "{good}");
        }
        for bad in ["", "hook", "data:text/html,x", "https://user:secret@example.com/", "ftp://example.com", "https://"] {
            let violation = check_callback_url(bad).unwrap_err();
            assert!(!violation.message.contains("secret@"), "{bad} is repeated with its password");
        }
    }
}
