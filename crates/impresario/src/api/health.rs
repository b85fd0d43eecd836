//! `/health/live` and `/health/ready`: no key, no envelope.

use std::{sync::Arc, time::Duration};

use axum::{extract::State, http::StatusCode, response::Response};
use impresario_api::{Health, HealthCheck};

use super::envelope::plain;
use crate::{
    app::{App, Machine},
    store::ops::fires,
};

/// A loop that has not come round for this long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// A store that takes longer to read one row does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

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

/// The store reads and writes, every loop of this node's roles comes round, and a worker has something to run workflows with. Strangers read
/// this, so it shows a word of what is wrong; the log has the rest.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    let check = |name: &str, ok: bool, detail: Option<String>| HealthCheck {
        name: name.to_owned(),
        ok,
        detail,
    };
    let wrong = store_trouble(&app).await;
    let mut checks = vec![check("store", wrong.is_none(), wrong.map(str::to_owned))];
    for (name, age) in app.pulse.ages() {
        let stuck = age >= STUCK_AFTER;
        checks.push(check(
            name,
            !stuck,
            stuck.then(|| format!("last seen {} s ago", age.as_secs())),
        ));
    }
    checks.push(check("roles", true, Some(app.settings.roles.to_string())));
    if let Some(Machine { runner, located }) = &app.machine {
        checks.push(check("node", true, Some(located.node_version.clone())));
        // Workflows without a page run without it, so its absence is said and is no failure.
        let detail = match (&located.chromium, runner.sandbox()) {
            (Some(_), true) => "found; runs in its sandbox",
            (Some(_), false) => "found; runs without its sandbox, because the server runs as root",
            (None, _) => "not found; workflows that use a page fail",
        };
        checks.push(check("chromium", true, Some(detail.to_owned())));
    }
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

/// What is wrong with the store, in a few words.
async fn store_trouble(app: &App) -> Option<&'static str> {
    match tokio::time::timeout(PATIENCE, app.store.read("health", fires::next_due)).await {
        Ok(Ok(_)) if app.writable.check(&app.store).await => None,
        Ok(Ok(_)) => Some("takes no writes"),
        Ok(Err(error)) => {
            tracing::error!(
                error = format!("{:#}", anyhow::Error::from(error)),
                "the store cannot be read"
            );
            Some("cannot be read")
        }
        Err(_) => Some("does not answer"),
    }
}
