//! Why an attempt failed: in comes what the gate, the client or the receiver said, out goes a class for programs and a
//! sentence for the owner of the endpoint.
//!
//! The sentences name the receiver by host and port only. Paths and queries often carry tokens, and what a private name
//! resolves to is nobody's business.

use std::{error::Error, fmt, io};

use reqwest::{Response, header::LOCATION};
use serde::Serialize;
use url::Url;

use crate::delivery::{gate::GateError, resolver::Refused};

/// What kind of failure it was. The names are part of the API: they are stored and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The gate does not let callbacks go there.
    RefusedAddress,
    /// The name does not resolve.
    Dns,
    /// Nobody accepts the connection.
    Connect,
    /// The certificate is not good, or the handshake failed.
    Tls,
    /// The deadline for the connection or for the whole attempt passed.
    Timeout,
    /// A 3xx, which is not followed.
    Redirect,
    /// Any other status outside 2xx.
    Status,
    /// What came back is not HTTP, it broke off, or the request cannot be written as HTTP.
    Protocol,
    /// Nothing was sent: the server could not read or sign it.
    Internal,
}

impl ErrorClass {
    /// The stable name: `refused_address`, `dns`, `connect`, `tls`, `timeout`, `redirect`, `status`,
    /// `protocol` or `internal`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RefusedAddress => "refused_address",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Redirect => "redirect",
            Self::Status => "status",
            Self::Protocol => "protocol",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptError {
    /// For programs.
    pub class: ErrorClass,
    /// For the owner of the endpoint. Contains neither the secret nor the URL's path, query or user information.
    pub message: String,
}

impl AttemptError {
    pub(crate) fn new(class: ErrorClass, message: String) -> Self {
        Self { class, message }
    }
}

/// The gate refused the URL itself.
pub(crate) fn of_url(error: &GateError) -> AttemptError {
    let class = match error {
        GateError::Address(_) | GateError::LocalName(_) | GateError::Metadata(_) => {
            ErrorClass::RefusedAddress
        }
        GateError::Malformed(_) | GateError::Scheme(_) | GateError::Userinfo => ErrorClass::Protocol,
    };
    AttemptError::new(class, format!("callback URL: {error}"))
}

/// The answer was not a 2xx.
pub(crate) fn of_status(response: &Response) -> AttemptError {
    let status = response.status();
    if !status.is_redirection() {
        return AttemptError::new(ErrorClass::Status, format!("answered {status}"));
    }
    // Where it leads is the receiver's word, so only scheme, host and port are repeated.
    let target = response
        .headers()
        .get(LOCATION)
        .and_then(|location| location.to_str().ok())
        .and_then(|location| response.url().join(location).ok())
        .filter(Url::has_host)
        .map(|url| format!(" to {}", url.origin().ascii_serialization()))
        .unwrap_or_default();
    AttemptError::new(
        ErrorClass::Redirect,
        format!("answered {status}{target}: redirects are not followed, register the final URL"),
    )
}

/// There was no answer.
pub(crate) fn of_request(error: &reqwest::Error, target: &str) -> AttemptError {
    // The client's own message names the whole URL, so only the innermost cause is repeated.
    let cause = chain(error).last().map(ToString::to_string).unwrap_or_default();
    if let Some(refused) = chain(error).find_map(|error| error.downcast_ref::<Refused>()) {
        return AttemptError::new(ErrorClass::RefusedAddress, refused.to_string());
    }
    let (class, what) = if error.is_dns() {
        (ErrorClass::Dns, "no address for")
    } else if let Some(error) = chain(error).find_map(|error| error.downcast_ref::<rustls::Error>()) {
        return AttemptError::new(
            ErrorClass::Tls,
            format!("no secure connection to {target}: {error}"),
        );
    } else if error.is_timeout() {
        (ErrorClass::Timeout, "no connection in time to")
    } else if error.is_connect() {
        (ErrorClass::Connect, "no connection to")
    } else {
        (ErrorClass::Protocol, "no valid HTTP answer from")
    };
    AttemptError::new(class, format!("{what} {target}: {cause}"))
}

/// Host and port, which are all of a URL that messages repeat.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// An error and its causes. An `io::Error` skips the error that it wraps when it is asked for its source, so that one
/// is put back.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn Error + 'static) = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        }
    })
}
