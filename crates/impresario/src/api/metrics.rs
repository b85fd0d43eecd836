//! `/metrics`: no key, no envelope, in the text format of Prometheus.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderValue, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::{
    app::App,
    metrics::{self, Count},
};

/// What this node counts, and what the store says of the whole.
pub(super) async fn show(State(app): State<Arc<App>>) -> Response {
    let mut response = metrics::text(&app).await.into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    response
}

/// Counts every answer by its status.
pub(super) async fn count(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let class = match response.status().as_u16() {
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    };
    app.metrics.add(Count::Requests(class), 1);
    response
}
