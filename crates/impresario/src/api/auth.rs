//! Who asks: the header `x-api-key`, a tenant's key.

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};

use super::ApiError;
use crate::{app::App, domain::TenantId, keys, store::ops::tenants};

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
        let refused = || ApiError::unauthorized("the API key in x-api-key is malformed, unknown or revoked");
        let key = given.to_str().ok().and_then(keys::parse).ok_or_else(refused)?;
        let public_id = key.public_id;
        let stored = app
            .store
            .read("live_key", move |tx| tenants::live_key(tx, &public_id))
            .await?;
        match stored.map(|stored| (stored.tenant, <[u8; 32]>::try_from(stored.hash))) {
            Some((tenant, Ok(hash))) if keys::matches(&hash, &key.hash) => Ok(Self(tenant)),
            _ => Err(refused()),
        }
    }
}
