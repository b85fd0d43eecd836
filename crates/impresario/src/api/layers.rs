//! What every request and every answer has in common.
//!
//! What comes in: a router with the routes. What goes out: the same router, where every answer has a request id and
//! the headers that keep it out of caches, and every error has the envelope: an unknown route, a wrong method, a panic,
//! and whatever a layer of the framework answers in plain text.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use impresario_api::{ErrorCode, routes::operations};
use tokio::task::JoinError;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::{ApiError, values};
use crate::{clock::SharedClock, ids::Ids, spelling::nearest};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest request id of a client's own that is kept.
const REQUEST_ID_MAX: usize = 128;

tokio::task_local! {
    static REQUEST_ID: String;
}

/// The id of the request that the current task answers.
#[must_use]
pub fn current_request_id() -> Option<String> {
    REQUEST_ID.try_with(Clone::clone).ok()
}

/// What the layers need.
#[derive(Debug, Clone)]
pub struct Front {
    /// For the ids' time.
    pub clock: SharedClock,
    /// Makes request ids.
    pub ids: Arc<Ids>,
    /// Every request is answered in a task of its own: see [`front`].
    pub tasks: TaskTracker,
}

/// Puts the layers around `router`, which must have all its routes by now.
///
/// Each request is answered in a task of its own. A client that hangs up therefore cancels nothing: a handler that has
/// begun a transaction also ends it. And a panic ends that task only, and becomes a 500.
pub fn front(router: Router, front: Front) -> Router {
    router
        .fallback(async |method: Method, uri: Uri| {
            let path = uri.path();
            let hint = match nearest(path, &operations().map(|known| known.path).collect::<Vec<_>>()) {
                Some(near) => format!("; did you mean {near}?"),
                None => String::new(),
            };
            ApiError::not_found(format!("no route {method} {}{hint}", values::shortened(path)))
        })
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            let path = values::shortened(uri.path());
            ApiError::method_not_supported(format!(
                "{path} does not answer {method}; the header Allow names what it does"
            ))
        })
        .layer(from_fn_with_state(front, guard))
}

async fn guard(State(front): State<Front>, request: Request, next: Next) -> Response {
    let given = request.headers().get(X_REQUEST_ID).and_then(sane_id);
    let id = given.unwrap_or_else(|| front.ids.uuid(front.clock.now()).to_string());
    let span = tracing::info_span!("request", id, method = %request.method(), path = request.uri().path());
    let answering = async move {
        let response = next.run(request).await;
        tracing::debug!(status = response.status().as_u16(), "answered");
        enveloped(response)
    };
    let task = front
        .tasks
        .spawn(REQUEST_ID.scope(id.clone(), answering).instrument(span));
    let mut response = match task.await {
        Ok(response) => response,
        Err(e) => REQUEST_ID.sync_scope(id.clone(), || ended_badly(e).into_response()),
    };
    let headers = response.headers_mut();
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(X_REQUEST_ID, id);
    }
    response
}

/// A client's own id, where it is short and printable: it goes into logs and headers.
fn sane_id(value: &HeaderValue) -> Option<String> {
    let text = std::str::from_utf8(value.as_bytes()).ok()?;
    let sane = (1..=REQUEST_ID_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    sane.then(|| text.to_owned())
}

fn ended_badly(error: JoinError) -> ApiError {
    match error.try_into_panic() {
        Ok(panic) => {
            let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let said = said
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            ApiError::internal(anyhow::anyhow!("a handler panicked: {said}"))
        }
        // Only the end of the runtime cancels these tasks.
        Err(_) => ApiError::service_unavailable("the server is stopping", None),
    }
}

/// An error in any other shape, such as the framework's plain text, in the envelope. Its headers stay (`Allow`).
fn enveloped(response: Response) -> Response {
    let status = response.status();
    let ours = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/json");
    if ours || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let code = match status {
        StatusCode::UNAUTHORIZED => ErrorCode::Unauthorized,
        StatusCode::FORBIDDEN => ErrorCode::Forbidden,
        StatusCode::NOT_FOUND => ErrorCode::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => ErrorCode::MethodNotSupported,
        StatusCode::REQUEST_TIMEOUT => ErrorCode::Timeout,
        StatusCode::CONFLICT => ErrorCode::Conflict,
        StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::PayloadTooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ErrorCode::UnsupportedMediaType,
        StatusCode::TOO_MANY_REQUESTS => ErrorCode::TooManyRequests,
        StatusCode::SERVICE_UNAVAILABLE => ErrorCode::ServiceUnavailable,
        other if other.is_client_error() => ErrorCode::BadRequest,
        _ => ErrorCode::InternalServerError,
    };
    let message = status.canonical_reason().unwrap_or("the request failed");
    let (parts, _) = response.into_parts();
    let mut wrapped = ApiError::new(code, message).into_response();
    for (name, value) in &parts.headers {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            wrapped.headers_mut().insert(name, value.clone());
        }
    }
    wrapped
}
