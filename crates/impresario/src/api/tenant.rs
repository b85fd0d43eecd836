//! `tenant/*` and `browserProfiles/*`: what a tenant sets for itself.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use impresario_api as wire;

use super::{ApiError, Fields, auth::Tenant, ok};
use crate::{
    app::App,
    domain::ProfileId,
    store::ops::{
        profiles::{self, EnsureOutcome},
        tenants,
    },
};

/// How many browser profiles a tenant may have.
const MOST_PROFILES: u32 = 1000;
const PROFILE_NAME: std::ops::RangeInclusive<usize> = 1..=100;

/// Changes what the input names, and answers with all settings.
pub(super) async fn settings(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let disable = input.optional_bool("disable_job_failure_notifications");
    input.finish()?;
    let settings = match disable {
        Some(disable) => {
            app.store
                .write("change_settings", move |tx| {
                    tenants::disable_job_failure_notifications(tx, tenant.0, disable)?;
                    tenants::settings(tx, tenant.0)
                })
                .await?
        }
        None => {
            app.store
                .read("tenant_settings", move |tx| tenants::settings(tx, tenant.0))
                .await?
        }
    };
    let settings = settings.ok_or_else(|| ApiError::not_found("tenant: it is gone"))?;
    Ok(ok(wire::TenantSettings {
        code_sharing_enabled: false,
        disable_job_failure_notifications: settings.disable_job_failure_notifications,
        debug_notification_email: None,
    }))
}

/// The profile of a name, made where there is none.
pub(super) async fn ensure_profile(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let name = input.required_string("name", PROFILE_NAME);
    let name = input.finish_with(|| name)?;
    // Most that are asked for are there, and a look is cheaper than a write.
    let wanted = name.clone();
    let known = app
        .store
        .read("find_profile", move |tx| profiles::find(tx, tenant.0, &wanted))
        .await?;
    let outcome = match known {
        Some(known) => EnsureOutcome::Known(known),
        None => {
            let now = app.clock.now();
            let (id, wanted) = (ProfileId(app.ids.uuid(now)), name.clone());
            app.store
                .write("ensure_profile", move |tx| {
                    profiles::ensure(tx, tenant.0, (id, &wanted), MOST_PROFILES, now)
                })
                .await?
        }
    };
    let (profile, created) = match outcome {
        EnsureOutcome::Created(id) => (id, true),
        EnsureOutcome::Known(id) => (id, false),
        EnsureOutcome::TooMany => {
            return Err(ApiError::conflict(format!(
                "browserProfiles: this tenant has {MOST_PROFILES} profiles, the most there may be"
            )));
        }
    };
    Ok(ok(wire::BrowserProfile {
        success: true,
        profile_id: profile.to_string(),
        name,
        created,
    }))
}
