//! Who asks: the header `x-api-key`, a tenant's key. Each request looks the key up, so one that was revoked opens nothing from
//! then on, on any node; and each that comes with a good key counts against what that key may ask.

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};
use jiff::Timestamp;
use tokio_util::task::TaskTracker;

use super::ApiError;
use crate::{
    app::App,
    domain::TenantId,
    keys,
    store::ops::api_keys::{self, StoredApiKey},
};

/// The tenant whose key came with the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tenant(pub(super) TenantId);

impl FromRequestParts<Arc<App>> for Tenant {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let Some(given) = parts.headers.get("x-api-key") else {
            return Err(ApiError::unauthorized("the header x-api-key is missing"));
        };
        // One answer to every key that is no good: which of the ways it is, is nobody's business.
        let refused =
            || ApiError::unauthorized("the API key in x-api-key is malformed, unknown, expired or revoked");
        let key = given.to_str().ok().and_then(keys::parse).ok_or_else(refused)?;
        let (public_id, now) = (key.public_id, app.clock.now());
        let stored = app
            .store
            .read("live_key", move |tx| api_keys::live(tx, &public_id, now))
            .await?
            .ok_or_else(refused)?;
        let is_it =
            <[u8; 32]>::try_from(stored.hash.as_slice()).is_ok_and(|hash| keys::matches(&hash, &key.hash));
        if !is_it {
            return Err(refused());
        }
        // Only now: who does not have the key cannot use up what it may ask.
        app.rate.check(stored.id)?;
        note_use(parts, app, &stored, now);
        Ok(Self(stored.tenant))
    }
}

/// Writes down that a key was used, beside the request: it neither waits for that nor fails with it.
fn note_use(parts: &Parts, app: &Arc<App>, key: &StoredApiKey, now: Timestamp) {
    let Some(tasks) = parts.extensions.get::<TaskTracker>() else {
        return;
    };
    let id = key.id;
    if !key.is_use_news(now) || !app.key_uses.is_first(id, now) {
        return;
    }
    let app = Arc::clone(app);
    tasks.spawn(async move {
        if let Err(error) = app
            .store
            .write("key_used", move |tx| api_keys::used(tx, id, now))
            .await
        {
            tracing::debug!(key = %id, %error, "the use of an API key could not be written down");
        }
    });
}
