//! What a handler answers when it does not answer with a result.
//!
//! What comes in: a kind of error, a sentence, and perhaps issues. What goes out: the envelope of every error,
//! `{"json": {"defined": false, "code": …, "status": …, "message": …, "data": {"issues": […]}}}`.

use std::{fmt, time::Duration};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use impresario_api::{Envelope, ErrorBody, ErrorCode, ErrorData, Issue};

use crate::store::StoreError;

use super::{envelope::json_response, layers::current_request_id};

/// When to come back with what took too long: at once it would only take long again.
const AFTER_TOO_SLOW: Duration = Duration::from_secs(5);

/// An error answer.
///
/// The cause of an error of the server's own is logged once, when the answer is made, and never shown to the client.
#[derive(Debug)]
pub struct ApiError {
    code: ErrorCode,
    message: String,
    issues: Vec<Issue>,
    retry_after: Option<Duration>,
    cause: Option<anyhow::Error>,
}

impl ApiError {
    /// An error of any kind, with a sentence a person can act on.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            issues: Vec::new(),
            retry_after: None,
            cause: None,
        }
    }

    /// 400 without a field to point at.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }

    /// 400 with issues. The message is the first issue's, because the official client shows nothing else.
    #[must_use]
    pub fn invalid(issues: Vec<Issue>) -> Self {
        let first = issues
            .first()
            .map_or("the input is not valid", |issue| issue.message.as_str());
        let message = match issues.len() {
            0 | 1 => first.to_owned(),
            more => format!("{first} (and {} more)", more - 1),
        };
        Self {
            issues,
            ..Self::bad_request(message)
        }
    }

    /// 401: no key, or one that is malformed, unknown, expired or revoked.
    #[must_use]
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unauthorized, message)
    }

    /// 403: the key may not do this, or a quota is used up.
    #[must_use]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Forbidden, message)
    }

    /// 404: no such object for this tenant.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }

    /// 405: the route exists, but not for this HTTP method. Whoever answers it sets `Allow`.
    #[must_use]
    pub fn method_not_supported(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::MethodNotSupported, message)
    }

    /// 408: the request did not arrive in time.
    #[must_use]
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Timeout, message)
    }

    /// 409: the object is in a state that does not allow this.
    #[must_use]
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Conflict, message)
    }

    /// 413: the body is larger than the route takes.
    #[must_use]
    pub fn payload_too_large(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::PayloadTooLarge, message)
    }

    /// 415: the body is not plain `application/json`.
    #[must_use]
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::UnsupportedMediaType, message)
    }

    /// 429, and when to come back.
    #[must_use]
    pub fn too_many_requests(message: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(ErrorCode::TooManyRequests, message)
        }
    }

    /// 503, and when to come back where that can be said.
    #[must_use]
    pub fn service_unavailable(message: impl Into<String>, retry_after: Option<Duration>) -> Self {
        Self {
            retry_after,
            ..Self::new(ErrorCode::ServiceUnavailable, message)
        }
    }

    /// 500. The client learns only the request id, under which the log has the cause.
    #[must_use]
    pub fn internal(cause: impl Into<anyhow::Error>) -> Self {
        Self {
            cause: Some(cause.into()),
            ..Self::new(ErrorCode::InternalServerError, String::new())
        }
    }

    /// The kind of error.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// All that is wrong with the input; empty for errors of other kinds.
    #[must_use]
    pub fn issues(&self) -> &[Issue] {
        &self.issues
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            ErrorCode::InternalServerError => f.write_str("internal error"),
            _ => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for ApiError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(AsRef::as_ref)
    }
}

/// So that a handler can end with `?` where a failure is nobody's fault but the server's.
impl From<anyhow::Error> for ApiError {
    fn from(cause: anyhow::Error) -> Self {
        Self::internal(cause)
    }
}

impl From<StoreError> for ApiError {
    /// What a full disk refuses, say, may go through later, and so may a read that took too long; everything else is a
    /// fault.
    fn from(error: StoreError) -> Self {
        if let StoreError::Unknown { .. } = &error {
            let message = "the server lost its database while it wrote this, and it cannot be known whether it was made: \
                           look before you send it again (jobs/create with a nonce may be sent again in any case)";
            Self {
                cause: Some(error.into()),
                ..Self::service_unavailable(message, None)
            }
        } else if error.is_unavailable() {
            let message = "the server cannot reach its database right now; nothing was changed";
            Self {
                cause: Some(error.into()),
                ..Self::service_unavailable(message, None)
            }
        } else if let StoreError::TooSlow { operation } = error {
            tracing::warn!(operation, "a read for a request took too long and was stopped");
            Self::service_unavailable(
                "this took too long and was stopped; ask for less (name a job, say, or a smaller limit) or try again",
                Some(AFTER_TOO_SLOW),
            )
        } else {
            Self::internal(error)
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let internal = self.code == ErrorCode::InternalServerError;
        let id = current_request_id();
        let id = id.as_deref().unwrap_or("-");
        if let Some(cause) = &self.cause {
            tracing::error!(request_id = id, error = format!("{cause:#}"), "a request failed");
        } else if internal {
            tracing::error!(request_id = id, error = self.message, "a request failed");
        }
        let message = if internal {
            format!("Something went wrong on the server's side. Its log has the cause under request id {id}.")
        } else {
            self.message
        };
        let body = ErrorBody {
            defined: false,
            code: self.code,
            status: self.code.status(),
            message,
            data: (!self.issues.is_empty()).then_some(ErrorData { issues: self.issues }),
        };
        let status = StatusCode::from_u16(body.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // A body of strings and numbers always serialises; the constant only keeps the signature honest.
        let bytes =
            serde_json::to_vec(&Envelope { json: body }).unwrap_or_else(|_| b"{\"json\":{}}".to_vec());
        let mut response = json_response(status, bytes);
        if let Some(wait) = self.retry_after {
            // Rounded up, and never 0: a client that comes back early is only refused again.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Access, Store};
    use http_body_util::BodyExt as _;
    use impresario_api::PathSegment;
    use serde_json::{Value, json};

    async fn sent(error: ApiError) -> (StatusCode, Value, Option<HeaderValue>) {
        let response = error.into_response();
        let (status, retry) = (
            response.status(),
            response.headers().get(header::RETRY_AFTER).cloned(),
        );
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap(), retry)
    }

    #[tokio::test]
    async fn the_envelope_is_the_contract_s() {
        let issue = |name: &str| Issue {
            code: "invalid_type".into(),
            message: format!("{name}: is required"),
            path: vec![PathSegment::Key(name.into()), PathSegment::Index(2)],
        };
        let (status, body, _) = sent(ApiError::invalid(vec![issue("a"), issue("b")])).await;
        assert_eq!(status, 400);
        assert_eq!(
            body,
            json!({"json": {"defined": false, "code": "BAD_REQUEST", "status": 400,
                "message": "a: is required (and 1 more)", "data": {"issues": [
                    {"code": "invalid_type", "message": "a: is required", "path": ["a", 2]},
                    {"code": "invalid_type", "message": "b: is required", "path": ["b", 2]}]}}})
        );
        let (_, body, _) = sent(ApiError::not_found("no such schedule")).await;
        assert_eq!(
            body,
            json!({"json": {"defined": false, "code": "NOT_FOUND", "status": 404, "message": "no such schedule"}})
        );
    }

    #[tokio::test]
    async fn a_cause_stays_in_the_server() {
        let (status, body, _) = sent(ApiError::internal(anyhow::anyhow!("password 1234 refused"))).await;
        assert_eq!(status, 500);
        assert!(!body.to_string().contains("1234"), "{body}");
    }

    #[tokio::test]
    async fn a_store_in_trouble_is_503_and_shows_nothing_of_itself() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Access::Server).unwrap();
        // SQLite's own way to be full: the database may not grow beyond the pages it has.
        let full = store.write("test", |tx| {
            tx.query("PRAGMA max_page_count = 1", &[], |_| Ok(()))?;
            tx.execute("CREATE TABLE large AS SELECT randomblob(1000000)", &[])
        });
        let read_only = store.read("test", |tx| tx.execute("DELETE FROM jobs", &[]));
        let wrong = store.read("test", |tx| tx.execute("SELECT nothing", &[]));
        let open = StoreError::Open("/srv/data: gone".to_owned());
        for (error, status) in [
            (full.await.unwrap_err(), 503),
            (read_only.await.unwrap_err(), 503),
            (open, 503),
            (wrong.await.unwrap_err(), 500),
        ] {
            let said = format!("{:#}", anyhow::anyhow!("{error:?}"));
            let (answered, body, _) = sent(error.into()).await;
            assert_eq!(answered, status, "{said}");
            let body = body.to_string();
            for inner in ["test", "full", "readonly", "/srv", "no such column"] {
                assert!(!body.contains(inner), "{inner}: {body}");
            }
        }
    }

    #[tokio::test]
    async fn a_write_that_may_have_been_made_is_not_called_undone() {
        let error = StoreError::Unknown {
            operation: "create_job",
            reason: "connection closed".to_owned(),
        };
        let (status, body, _) = sent(error.into()).await;
        assert_eq!(status, 503);
        let message = body["json"]["message"].to_string();
        assert!(
            message.contains("cannot be known") && !message.contains("nothing was changed"),
            "{message}"
        );
        assert!(!message.contains("connection closed"), "{message}");
    }

    #[tokio::test]
    async fn what_took_too_long_may_be_tried_again() {
        let error = StoreError::TooSlow { operation: "list" };
        let (status, body, retry) = sent(error.into()).await;
        assert_eq!((status.as_u16(), retry.unwrap().as_bytes()), (503, &b"5"[..]));
        assert_eq!(body["json"]["code"], "SERVICE_UNAVAILABLE");
    }

    #[tokio::test]
    async fn retry_after_is_rounded_up() {
        for (wait, seconds) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2")] {
            let error = ApiError::too_many_requests("slow down", Duration::from_millis(wait));
            assert_eq!(sent(error).await.2.unwrap(), seconds, "{wait} ms");
        }
    }
}
