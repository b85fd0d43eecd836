//! `/health/live` and `/health/ready`: no key, no envelope.

use std::{sync::Arc, time::Duration};

use axum::{extract::State, http::StatusCode, response::Response};
use impresario_api::{Health, HealthCheck};

use super::envelope::plain;
use crate::{app::App, store::ops::fires};

/// A loop that has not come round for this long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// The process answers.
pub(super) async fn live() -> Response {
    plain(
        StatusCode::OK,
        Health {
            status: "ok".to_owned(),
            checks: Vec::new(),
        },
    )
}

/// The store answers, every loop comes round, and there is something to run workflows with.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    let check = |name: &str, ok: bool, detail: Option<String>| HealthCheck {
        name: name.to_owned(),
        ok,
        detail,
    };
    let mut checks = vec![match app.store.read_now("health", fires::next_due).await {
        Ok(_) => check("store", true, None),
        Err(error) => check("store", false, Some(error.to_string())),
    }];
    for (name, age) in app.pulse.ages() {
        let stuck = age >= STUCK_AFTER;
        checks.push(check(
            name,
            !stuck,
            stuck.then(|| format!("last seen {} s ago", age.as_secs())),
        ));
    }
    checks.push(check("node", true, Some(app.located.node_version.clone())));
    // Workflows without a page run without it, so its absence is said and is no failure.
    let chromium = app.located.chromium.as_ref();
    let detail = chromium.map_or("not found; workflows that use a page fail".to_owned(), |path| {
        path.display().to_string()
    });
    checks.push(check("chromium", true, Some(detail)));
    let well = checks.iter().all(|check| check.ok);
    let (status, word) = if well {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    };
    plain(
        status,
        Health {
            status: word.to_owned(),
            checks,
        },
    )
}
