//! A client of the API: in come a server's URL, a tenant's key and inputs, out go answers, or errors in sentences.

use std::time::Duration;

use reqwest::{
    RequestBuilder, StatusCode,
    header::{HeaderValue, RETRY_AFTER},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use url::Url;

use super::{
    ApiKey, Call, CreateApiKey, CreatedApiKey, DeleteApiKey, DeletedApiKey, Envelope, ErrorBody, ErrorCode,
    Issue, Secret,
};

/// How long one answer may take, unless the client was told otherwise.
const ANSWER: Duration = Duration::from_secs(30);

/// What is refused because its key has asked too often is sent again, up to so many times, where the server says that it goes
/// through in so many seconds: it has done nothing. A queue that is full takes longer, and is its caller's to know.
const AGAIN: u32 = 20;
const SOON: u64 = 5;

/// A client with one tenant's key. Cheap to clone; it keeps connections open between calls.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    key: HeaderValue,
    answer: Duration,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL is none of a server's.
    #[error("{0:?} is not the URL of a server: write one such as http://127.0.0.1:8080")]
    Url(String),
    /// The key cannot be sent.
    #[error(
        "the API key has characters that no key has; copy it anew, or make one with `impresario api-key create`"
    )]
    Key,
    /// The machine has no root certificates.
    #[error(
        "the HTTP client cannot be built: are root certificates installed? (the package ca-certificates, or a file named \
         in SSL_CERT_FILE)"
    )]
    Http(#[source] reqwest::Error),
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Whether the call took effect cannot be known.
    #[error("no answer from {url}: is a server running there?")]
    NoAnswer {
        /// The server's.
        url: String,
        /// What the network said.
        #[source]
        cause: reqwest::Error,
    },
    /// Something else answers there, or another version.
    #[error("{url} answered {status}, but not as this API does: is it the URL of an Impresario server?")]
    NotTheApi {
        /// The server's.
        url: String,
        /// The HTTP status.
        status: StatusCode,
    },
    /// The server refused.
    #[error("{}", refusal(.route, .body))]
    Refused {
        /// What was called.
        route: String,
        /// Why.
        body: Box<ErrorBody>,
        /// In how many seconds the same may go through, where the server says so.
        retry_after: Option<u64>,
    },
}

impl CallError {
    /// What the server said, where it refused.
    #[must_use]
    pub fn body(&self) -> Option<&ErrorBody> {
        match self {
            Self::Refused { body, .. } => Some(body),
            _ => None,
        }
    }
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

impl Client {
    /// A client of the server at `url`, such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// Where the URL or the key cannot be one, or the machine has no root certificates.
    #[expect(
        clippy::disallowed_methods,
        reason = "it speaks to the one server that was named, without a proxy or a redirect: the key goes nowhere else"
    )]
    pub fn new(url: &str, key: &Secret) -> Result<Self, ClientError> {
        // reqwest was built without a provider and panics where there is none. An error means that there is one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(ClientError::Http)?;
        let mut key = HeaderValue::from_str(key.expose()).map_err(|_| ClientError::Key)?;
        key.set_sensitive(true);
        Ok(Self {
            http,
            url: base(url)?,
            key,
            answer: ANSWER,
        })
    }

    /// The same client, for which one answer may take so long (30 s by default): a bundle takes a while to send.
    #[must_use]
    pub fn with_timeout(mut self, answer: Duration) -> Self {
        self.answer = answer;
        self
    }

    /// The URL of the server, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Calls the route that takes this input.
    ///
    /// # Errors
    /// [`CallError`], whose text is for people and has no secret in it.
    pub async fn call<C: Call>(&self, input: &C) -> Result<C::Answer, CallError> {
        self.enveloped(C::ROUTE, input).await
    }

    /// Posts any `input` to `/v1/<route>` and returns what stands under `json`.
    ///
    /// # Errors
    /// [`CallError`], whose text is for people and has no secret in it.
    pub async fn send(&self, route: &str, input: &Value) -> Result<Value, CallError> {
        self.enveloped(route, input).await
    }

    /// Makes a key for the tenant of this client's key.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn create_api_key(&self, input: &CreateApiKey) -> Result<CreatedApiKey, CallError> {
        let path = "/api/auth/api-key/create";
        self.answer(path, self.http.post(format!("{}{path}", self.url)).json(input))
            .await
    }

    /// The keys of the tenant, newest first.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list_api_keys(&self) -> Result<Vec<ApiKey>, CallError> {
        let path = "/api/auth/api-key/list";
        self.answer(path, self.http.get(format!("{}{path}", self.url)))
            .await
    }

    /// Revokes a key of the tenant.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn delete_api_key(&self, input: &DeleteApiKey) -> Result<DeletedApiKey, CallError> {
        let path = "/api/auth/api-key/delete";
        self.answer(path, self.http.post(format!("{}{path}", self.url)).json(input))
            .await
    }

    async fn enveloped<I: Serialize + ?Sized, O: DeserializeOwned>(
        &self,
        route: &str,
        input: &I,
    ) -> Result<O, CallError> {
        let request = self.http.post(format!("{}/v1/{route}", self.url));
        let answer: Envelope<O> = self
            .answer(route, request.json(&Envelope { json: input }))
            .await?;
        Ok(answer.json)
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        route: &str,
        request: RequestBuilder,
    ) -> Result<T, CallError> {
        for _ in 0..AGAIN {
            let Some(same) = request.try_clone() else { break };
            match self.answer_once(route, same).await {
                Err(CallError::Refused {
                    body,
                    retry_after: Some(wait),
                    ..
                }) if body.code == ErrorCode::TooManyRequests && wait <= SOON => {
                    tokio::time::sleep(Duration::from_secs(wait)).await;
                }
                answer => return answer,
            }
        }
        self.answer_once(route, request).await
    }

    async fn answer_once<T: DeserializeOwned>(
        &self,
        route: &str,
        request: RequestBuilder,
    ) -> Result<T, CallError> {
        let no_answer = |cause: reqwest::Error| CallError::NoAnswer {
            url: self.url.clone(),
            cause: cause.without_url(),
        };
        let request = request.timeout(self.answer).header("x-api-key", self.key.clone());
        let response = request.send().await.map_err(no_answer)?;
        let status = response.status();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let bytes = response.bytes().await.map_err(no_answer)?;
        let not_the_api = |_| CallError::NotTheApi {
            url: self.url.clone(),
            status,
        };
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(not_the_api);
        }
        let answer: Envelope<ErrorBody> = serde_json::from_slice(&bytes).map_err(not_the_api)?;
        Err(CallError::Refused {
            route: route.to_owned(),
            body: Box::new(answer.json),
            retry_after,
        })
    }
}

/// What the routes are appended to. A password has no place there: errors show the URL.
fn base(text: &str) -> Result<String, ClientError> {
    // Whatever it is otherwise: it may hold a password.
    if text.contains('@') {
        return Err(ClientError::Url("…@…".to_owned()));
    }
    let url = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host().is_some()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    let url = url.ok_or_else(|| ClientError::Url(text.to_owned()))?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ErrorData;

    #[tokio::test]
    async fn it_does_not_show_its_key() {
        let client = Client::new("http://127.0.0.1:1", &"imp_hunter2".into()).unwrap();
        let error = client.send("schedules/list", &json!({})).await.unwrap_err();
        let shown = format!("{client:?} {error:?} {error}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("no answer from http://127.0.0.1:1"), "{shown}");
        let error = Client::new("http://127.0.0.1:1", &"hunter2\n".into()).unwrap_err();
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
            ("http://user:hunter2@host.example/?a=b", None),
            ("ftp://user:hunter2@host.example", None),
            ("user:hunter2@host.example", None),
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
