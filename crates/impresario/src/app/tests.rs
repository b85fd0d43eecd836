//! What a node needs for the roles that it has, and what it answers without the others.

use std::path::Path;

use axum::{body::Body, http::Request};
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::*;
use crate::{api, config::Roles};

/// A node on a database of its own, with no program to run workflows with.
async fn open(dir: &Path, roles: &str) -> anyhow::Result<App> {
    App::open(Settings {
        data_dir: dir.to_owned(),
        roles: Roles::parse(roles).unwrap(),
        node: Some("/nonexistent/node".into()),
        chromium: Some("/nonexistent/chromium".into()),
        runner_dir: Some("/nonexistent/runner".into()),
        ..Settings::default()
    })
    .await
}

async fn answer(app: &Arc<App>, path: &str) -> (u16, String) {
    let request = Request::post(path).body(Body::empty()).unwrap();
    let get = Request::get(path).body(Body::empty()).unwrap();
    let request = if path.starts_with("/health") { get } else { request };
    let router = api::router(Arc::clone(app), TaskTracker::new());
    let response = router.oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_node_that_runs_no_workflows_needs_nothing_to_run_them_with() {
    let folder = tempfile::tempdir().unwrap();
    let error = open(folder.path(), "worker").await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/node"), "{error}");
    let app = Arc::new(open(folder.path(), "api,scheduler,delivery").await.unwrap());
    assert!(app.runner().is_none());
    let (status, body) = answer(&app, "/health/ready").await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("api,scheduler,delivery"), "{body}");
    assert!(!body.contains("chromium"), "{body}");
    let (status, body) = answer(&app, "/v1/jobs/list").await;
    assert_eq!(status, 401, "{body}");
}

#[tokio::test]
async fn a_node_without_the_api_answers_its_health_alone_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let app = Arc::new(open(folder.path(), "scheduler").await.unwrap());
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(answer(&app, path).await.0, 200);
    }
    for path in ["/v1/jobs/list", "/v1/nothing", "/"] {
        let (status, body) = answer(&app, path).await;
        assert_eq!(status, 503, "{path}: {body}");
        assert!(body.contains("has not the role api"), "{path}: {body}");
    }
}
