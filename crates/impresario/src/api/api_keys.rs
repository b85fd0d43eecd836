//! `/api/auth/api-key/*`: a tenant's keys, made and taken back with one of them. Neither side has the envelope; errors do.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode, response::Response};
use impresario_api as wire;
use jiff::SignedDuration;
use secrecy::ExposeSecret as _;

use super::{
    ApiError, Fields, Flaw,
    auth::Tenant,
    envelope::{PlainInput, plain},
};
use crate::{
    app::App,
    domain::{KeyId, rfc3339},
    keys,
    store::ops::api_keys::{self, KeyName, KeyState, ListedApiKey, MOST_LIVE, NewApiKey, RevokeOutcome},
};

const NAME: std::ops::RangeInclusive<usize> = 1..=100;
/// Ten years, in seconds.
const LONGEST_LIFE: i64 = 315_360_000;

pub(super) async fn create(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    PlainInput(object): PlainInput,
) -> Result<Response, ApiError> {
    let mut input = Fields::new(object);
    let name = input.required_parsed("name", NAME, name);
    let life = input
        .patch_with("expiresIn", |value| {
            super::values::int(&value, &(1..=LONGEST_LIFE))
        })
        .into_option();
    let name = input.finish_with(|| name)?;
    let now = app.clock.now();
    let expires_at = match life {
        Some(seconds) => Some(
            now.checked_add(SignedDuration::from_secs(seconds))
                .map_err(ApiError::internal)?,
        ),
        None => None,
    };
    let key = keys::generate(&app.ids);
    let id = KeyId(app.ids.uuid(now));
    let row = NewApiKey {
        id,
        tenant: tenant.0,
        public_id: key.public_id,
        hash: key.hash,
        label: name.clone(),
        start: key.start,
        expires_at,
    };
    if !app
        .store
        .write("create_key", move |tx| api_keys::add(tx, row.clone(), now))
        .await?
    {
        return Err(ApiError::conflict(format!(
            "API keys: this tenant has {MOST_LIVE} live ones, the most there may be; delete one that nobody needs first"
        )));
    }
    let created = wire::CreatedApiKey {
        id: id.to_string(),
        name,
        key: key.token.expose_secret().to_owned().into(),
        expires_at: expires_at.map(rfc3339),
    };
    Ok(plain(StatusCode::OK, created))
}

fn name(text: &str) -> Result<String, Flaw> {
    match text.trim() {
        "" => Err(Flaw::new("too_small", "must have a character that can be seen")),
        trimmed if trimmed.chars().any(char::is_control) => Err(Flaw::new(
            "invalid_format",
            "must have no characters that control a terminal",
        )),
        trimmed => Ok(trimmed.to_owned()),
    }
}

pub(super) async fn list(State(app): State<Arc<App>>, tenant: Tenant) -> Result<Response, ApiError> {
    let now = app.clock.now();
    let found = app
        .store
        .read("list_keys", move |tx| api_keys::list(tx, tenant.0, now))
        .await?;
    let shown: Vec<wire::ApiKey> = found.into_iter().map(view).collect();
    Ok(plain(StatusCode::OK, shown))
}

/// A key as lists show it.
pub(crate) fn view(key: ListedApiKey) -> wire::ApiKey {
    wire::ApiKey {
        id: key.id.to_string(),
        name: key.label,
        start: key.start,
        prefix: keys::PREFIX.to_owned(),
        enabled: key.state == KeyState::Live,
        created_at: rfc3339(key.created_at),
        last_request: key.last_used_at.map(rfc3339),
        expires_at: key.expires_at.map(rfc3339),
    }
}

/// A key may take itself back.
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    PlainInput(object): PlainInput,
) -> Result<Response, ApiError> {
    let mut input = Fields::new(object);
    let id = input.required_uuid("keyId").map(KeyId);
    let id = input.finish_with(|| id)?;
    let now = app.clock.now();
    let outcome = app
        .store
        .write("revoke_key", move |tx| {
            api_keys::revoke(tx, tenant.0, &KeyName::Id(id), now)
        })
        .await?;
    match outcome {
        RevokeOutcome::Revoked(_) => Ok(plain(StatusCode::OK, wire::DeletedApiKey { success: true })),
        RevokeOutcome::Already | RevokeOutcome::Unknown => Err(ApiError::not_found(format!(
            "keyId: there is no API key {id} that could be revoked"
        ))),
    }
}
