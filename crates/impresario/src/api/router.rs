//! Which path is answered by which handler.

use std::sync::Arc;

use axum::{
    Extension, Router,
    middleware::from_fn_with_state,
    routing::{any, get, post},
};
use serde_json::json;
use tokio_util::task::TaskTracker;

use super::{
    ApiError, BodyLimit, Front, api_keys, credentials, deliveries, deployments, front, health, jobs, logs,
    metrics, ok, reference, schedules, tenant, webhooks, workflows,
};
use crate::{app::App, config::Role};

/// All routes of this node's roles, with the layers around them. Every request is a task of `tasks`.
pub fn router(app: Arc<App>, tasks: TaskTracker) -> Router {
    let around = Front {
        clock: app.clock.clone(),
        ids: app.ids.clone(),
        tasks: tasks.clone(),
    };
    let routes = match app.settings.roles.has(Role::Api) {
        true => operations(app.settings.max_bundle_bytes).layer(Extension(tasks)),
        false => elsewhere(),
    };
    let router = routes
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(metrics::show))
        .with_state(Arc::clone(&app));
    front(router, around).layer(from_fn_with_state(app, metrics::count))
}

/// What a node answers that leaves the operations to others.
fn elsewhere() -> Router<Arc<App>> {
    let refuse = async || {
        let message =
            "this node has not the role api and answers its health and its metrics alone: ask another node";
        ApiError::service_unavailable(message, None)
    };
    Router::new()
        .route("/", any(refuse))
        .route("/{*path}", any(refuse))
}

fn operations(max_bundle_bytes: usize) -> Router<Arc<App>> {
    let bundle = Extension(BodyLimit::of(max_bundle_bytes));
    Router::new()
        .route("/openapi.json", get(reference::document))
        .route("/docs", get(reference::to_page))
        .route("/docs/", get(reference::page))
        .route("/docs/{part}", get(reference::part))
        .route("/v1/schedules/create", post(schedules::create))
        .route("/v1/schedules/list", post(schedules::list))
        .route("/v1/schedules/get", post(schedules::get))
        .route("/v1/schedules/update", post(schedules::update))
        .route("/v1/schedules/delete", post(schedules::delete))
        .route("/v1/schedules/preview", post(schedules::preview))
        .route("/v1/schedules/trigger", post(schedules::trigger))
        .route("/v1/schedules/history", post(schedules::history))
        .route("/v1/schedules/backfill", post(schedules::backfill))
        .route("/v1/deployments/create", post(deployments::create).layer(bundle))
        .route("/v1/deployments/sync", post(deployments::sync))
        .route("/v1/deployments/list", post(deployments::list))
        .route("/v1/workflows/list", post(workflows::list))
        .route("/v1/workflows/get", post(workflows::get))
        .route("/v1/workflows/delete", post(workflows::delete))
        .route("/v1/jobs/create", post(jobs::create))
        .route("/v1/jobs/list", post(jobs::list))
        .route("/v1/jobs/get", post(jobs::get))
        .route("/v1/jobs/cancel", post(jobs::cancel))
        .route("/v1/logs/list", post(logs::list))
        .route("/v1/webhooks/create", post(webhooks::create))
        .route("/v1/webhooks/list", post(webhooks::list))
        .route("/v1/webhooks/update", post(webhooks::update))
        .route("/v1/webhooks/delete", post(webhooks::delete))
        .route("/v1/webhooks/rotate", post(webhooks::rotate))
        .route("/v1/webhooks/test", post(deliveries::test))
        .route("/v1/webhooks/deliveries", post(deliveries::deliveries))
        .route("/v1/webhooks/redeliver", post(deliveries::redeliver))
        .route("/v1/credentials/create", post(credentials::create))
        .route("/v1/credentials/upsert", post(credentials::upsert))
        .route("/v1/credentials/list", post(credentials::list))
        .route("/v1/credentials/get", post(credentials::get))
        .route("/v1/credentials/update", post(credentials::update))
        .route("/v1/credentials/delete", post(credentials::delete))
        .route("/v1/tenant/settings", post(tenant::settings))
        .route("/v1/browserProfiles/ensure", post(tenant::ensure_profile))
        .route("/api/auth/api-key/create", post(api_keys::create))
        .route("/api/auth/api-key/list", get(api_keys::list))
        .route("/api/auth/api-key/delete", post(api_keys::delete))
        // What the official command line reports of itself: taken, and not kept.
        .route(
            "/v1/telemetry/recordCliEvent",
            post(async || ok(json!({"success": true}))),
        )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use impresario_api::routes::operations;

    #[test]
    fn every_route_is_in_the_document_and_the_other_way_round() {
        let routed = include_str!("router.rs").split("\"/").skip(1);
        let routed = routed
            .filter_map(|rest| rest.split('"').next())
            .map(|path| format!("/{path}"));
        let of_tenants = |path: &String| ["/v1/", "/api/auth/"].iter().any(|begin| path.starts_with(begin));
        let routed: BTreeSet<String> = routed
            .filter(of_tenants)
            .filter(|path| path.matches('/').count() > 2 && !path.ends_with('/'))
            .collect();
        let known: BTreeSet<String> = operations().map(|operation| operation.path.to_owned()).collect();
        assert_eq!(routed, known);
    }
}
