//! The HTTP API as any client sees it: the quickstart and `impresario schedules` do over the wire what they do.

use std::time::Duration;

use impresario_api::{ErrorBody, Issue};
use reqwest::{StatusCode, header::HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(30);

/// A client with one tenant's key.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    key: HeaderValue,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("{0:?} is not the URL of a server: write one such as http://127.0.0.1:8080")]
    Url(String),
    #[error(
        "the API key has characters that no key has; copy it anew, or make one with `impresario api-key create`"
    )]
    Key,
    #[error(
        "the HTTP client cannot be built: are root certificates installed? (the package ca-certificates, or a file named \
         in SSL_CERT_FILE)"
    )]
    Http(#[source] reqwest::Error),
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("no answer from {url}: is a server running there?")]
    NoAnswer {
        url: String,
        #[source]
        cause: reqwest::Error,
    },
    #[error("{url} answered {status}, but not as this API does: is it the URL of an Impresario server?")]
    NotTheApi { url: String, status: StatusCode },
    #[error("{}", refusal(.route, .body))]
    Refused { route: String, body: Box<ErrorBody> },
}

/// What the server said, and all that it found wrong with the input where that is more than one thing.
fn refusal(route: &str, body: &ErrorBody) -> String {
    let issues: &[Issue] = body.data.as_ref().map_or(&[], |data| &data.issues);
    if issues.len() < 2 {
        return format!("{route}: {}: {}", body.status, body.message);
    }
    let all: Vec<&str> = issues.iter().map(|issue| issue.message.as_str()).collect();
    format!("{route}: {}: {}", body.status, all.join("; "))
}

#[derive(Deserialize)]
struct Enveloped<T> {
    json: T,
}

impl Client {
    /// # Errors
    /// Where the URL or the key cannot be one, or the machine has no root certificates.
    #[expect(
        clippy::disallowed_methods,
        reason = "it speaks to the one server that was named, without a proxy or a redirect: the key goes nowhere else"
    )]
    pub(crate) fn new(url: &str, key: &SecretString) -> Result<Self, ClientError> {
        // reqwest was built without a provider and panics where there is none. An error means that there is one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ANSWER)
            .build()
            .map_err(ClientError::Http)?;
        let mut key = HeaderValue::from_str(key.expose_secret()).map_err(|_| ClientError::Key)?;
        key.set_sensitive(true);
        Ok(Self {
            http,
            url: base(url)?,
            key,
        })
    }

    /// Posts `input` to `/v1/<route>` and returns what stands under `json`.
    ///
    /// # Errors
    /// [`CallError`], whose text is for people and has no secret in it.
    pub(crate) async fn call(&self, route: &str, input: Value) -> Result<Value, CallError> {
        let no_answer = |cause: reqwest::Error| CallError::NoAnswer {
            url: self.url.clone(),
            cause: cause.without_url(),
        };
        let request = self
            .http
            .post(format!("{}/v1/{route}", self.url))
            .header("x-api-key", self.key.clone())
            .header("content-type", "application/json")
            .body(json!({"json": input}).to_string());
        let response = request.send().await.map_err(no_answer)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(no_answer)?;
        let not_the_api = || CallError::NotTheApi {
            url: self.url.clone(),
            status,
        };
        if status.is_success() {
            let answer: Enveloped<Value> = serde_json::from_slice(&bytes).map_err(|_| not_the_api())?;
            return Ok(answer.json);
        }
        let answer: Enveloped<ErrorBody> = serde_json::from_slice(&bytes).map_err(|_| not_the_api())?;
        Err(CallError::Refused {
            route: route.to_owned(),
            body: Box::new(answer.json),
        })
    }
}

/// What the routes are appended to. A password has no place there: errors show the URL.
fn base(text: &str) -> Result<String, ClientError> {
    let url = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host().is_some()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    let url = url.ok_or_else(|| ClientError::Url(text.to_owned()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ClientError::Url(format!("{}://…@…", url.scheme())));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use impresario_api::{ErrorCode, ErrorData};

    use super::*;

    #[tokio::test]
    async fn it_does_not_show_its_key() {
        let client = Client::new("http://127.0.0.1:1", &"imp_hunter2".to_owned().into()).unwrap();
        let error = client.call("schedules/list", json!({})).await.unwrap_err();
        let shown = format!("{client:?} {error:?} {error}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("no answer from http://127.0.0.1:1"), "{shown}");
        let error = Client::new("http://127.0.0.1:1", &"hunter2\n".to_owned().into()).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");
    }

    #[test]
    fn a_url_is_that_of_a_server() {
        for (text, expected) in [
            ("http://127.0.0.1:8080", Some("http://127.0.0.1:8080")),
            ("https://host.example/", Some("https://host.example")),
            ("https://host.example/below/", Some("https://host.example/below")),
            ("host.example:8080", None),
            ("", None),
            ("ftp://host.example", None),
            ("http://host.example/?a=b", None),
            ("http://user:hunter2@host.example", None),
        ] {
            let read = base(text);
            assert_eq!(read.as_deref().ok(), expected, "{text}");
            if let Err(error) = read {
                assert!(!error.to_string().contains("hunter2"), "{error}");
            }
        }
    }

    #[test]
    fn a_refusal_says_everything_that_is_wrong() {
        let issue = |message: &str| Issue {
            code: "custom".to_owned(),
            message: message.to_owned(),
            path: Vec::new(),
        };
        let mut body = ErrorBody {
            defined: false,
            code: ErrorCode::BadRequest,
            status: 400,
            message: "first (and 1 more)".to_owned(),
            data: Some(ErrorData {
                issues: vec![issue("first"), issue("second")],
            }),
        };
        assert_eq!(refusal("a/b", &body), "a/b: 400: first; second");
        body.data = None;
        assert_eq!(refusal("a/b", &body), "a/b: 400: first (and 1 more)");
    }
}
