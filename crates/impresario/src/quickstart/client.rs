//! The HTTP API as any client sees it: what the quickstart does, it does over the wire.

use std::time::Duration;

use anyhow::{Context, bail};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(30);

/// A client with one tenant's key.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    url: String,
    key: SecretString,
}

impl Client {
    #[expect(
        clippy::disallowed_methods,
        reason = "it speaks to this process alone, without a proxy or a redirect"
    )]
    pub(super) fn new(url: String, key: String) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ANSWER)
            .build()
            .context("the HTTP client")?;
        Ok(Self {
            http,
            url,
            key: key.into(),
        })
    }

    /// Posts `input` to `/v1/<route>` and returns what stands under `json`.
    pub(super) async fn call(&self, route: &str, input: Value) -> anyhow::Result<Value> {
        let body = json!({"json": input}).to_string();
        let request = self
            .http
            .post(format!("{}/v1/{route}", self.url))
            .header("x-api-key", self.key.expose_secret())
            .header("content-type", "application/json")
            .body(body);
        let response = request
            .send()
            .await
            .with_context(|| format!("{route}: no answer"))?;
        let status = response.status();
        let bytes = response
            .bytes()
            .await
            .with_context(|| format!("{route}: a broken answer"))?;
        let mut answer: Value =
            serde_json::from_slice(&bytes).with_context(|| format!("{route}: no JSON"))?;
        if !status.is_success() {
            bail!(
                "{route}: {status}: {}",
                answer["json"]["message"].as_str().unwrap_or("no message")
            );
        }
        Ok(answer["json"].take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_does_not_show_its_key() {
        // Whoever builds a client of this crate says first which cryptography TLS uses.
        let _earlier = rustls::crypto::ring::default_provider().install_default();
        let client = Client::new("http://127.0.0.1:1".to_owned(), "imp_hunter2".to_owned()).unwrap();
        let shown = format!("{client:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
