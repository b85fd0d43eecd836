//! `credentials/*`.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use impresario_api as wire;
use secrecy::ExposeSecret;

use super::{ApiError, Fields, Flaw, auth::Tenant, ok, run_input};
use crate::{
    app::App,
    domain::{CredentialId, rfc3339},
    spelling::nearest,
    store::ops::{
        credentials::{self, Change},
        secrets,
    },
    vault,
};

/// The longest value, in characters.
const VALUE: std::ops::RangeInclusive<usize> = 1..=65_536;

fn not_found(what: impl std::fmt::Display) -> ApiError {
    ApiError::not_found(format!("credential: there is no credential {what}"))
}

/// Names are lower-case, because that is how a workflow asks for them.
fn name(text: &str) -> Result<String, Flaw> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if text.chars().all(plain) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(Flaw::new(
        "invalid_format",
        "may hold only letters, digits, underscores, hyphens and dots",
    ))
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let name = input.required_parsed("name", 1..=200, name);
    let value = input.required_secret("value", VALUE);
    let (name, value) = input.finish_with(|| Some((name?, value?)))?;
    let now = app.clock.now();
    let (id, secret) = (
        CredentialId(app.ids.uuid(now)),
        run_input::seal(&app, tenant.0, &value),
    );
    let wanted = name.clone();
    let created = app.store.write("create_credential", move |tx| {
        credentials::create(tx, tenant.0, (id, &wanted), secret.clone(), now)
    });
    if !created.await? {
        return Err(ApiError::conflict(format!(
            "name: there is a credential \"{name}\" already"
        )));
    }
    let message = format!("credential {name} stored");
    Ok(ok(wire::CreatedCredential {
        success: true,
        credential_id: id.to_string(),
        message,
    }))
}

pub(super) async fn upsert(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let name = input.required_parsed("name", 1..=200, name);
    let value = input.required_secret("value", VALUE);
    let (name, value) = input.finish_with(|| Some((name?, value?)))?;
    let now = app.clock.now();
    let (id, secret) = (
        CredentialId(app.ids.uuid(now)),
        run_input::seal(&app, tenant.0, &value),
    );
    let wanted = name.clone();
    let (id, overwritten) = app
        .store
        .write("upsert_credential", move |tx| {
            credentials::upsert(tx, tenant.0, (id, &wanted), secret.clone(), now)
        })
        .await?;
    let message = format!(
        "credential {name} {}",
        if overwritten { "overwritten" } else { "stored" }
    );
    Ok(ok(wire::UpsertedCredential {
        success: true,
        credential_id: id.to_string(),
        message,
        overwritten,
    }))
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    input: Fields,
) -> Result<Response, ApiError> {
    input.finish()?;
    let found = app
        .store
        .read("list_credentials", move |tx| credentials::list(tx, tenant.0))
        .await?;
    let credentials = found
        .into_iter()
        .map(|credential| wire::Credential {
            credential_id: credential.id.to_string(),
            name: credential.name,
            created_at: rfc3339(credential.created_at),
            updated_at: rfc3339(credential.updated_at),
        })
        .collect();
    Ok(ok(wire::CredentialList { credentials }))
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let name = input.required_parsed("name", 1..=200, name);
    let name = input.finish_with(|| name)?;
    let wanted = name.clone();
    let found = app
        .store
        .read("get_credential", move |tx| {
            let Some(credential) = credentials::by_name(tx, tenant.0, &wanted)? else {
                return Ok(None);
            };
            Ok(secrets::get(tx, tenant.0, credential.secret)?.map(|sealed| (credential, sealed)))
        })
        .await?;
    let Some((credential, sealed)) = found else {
        let listed = app
            .store
            .read("list_credentials", move |tx| credentials::list(tx, tenant.0));
        let known = listed.await?;
        let names: Vec<&str> = known.iter().map(|credential| credential.name.as_str()).collect();
        let hint = match nearest(&name, &names) {
            Some(near) => format!("; did you mean \"{near}\"?"),
            None => String::new(),
        };
        return Err(not_found(format!("\"{name}\"{hint}")));
    };
    let value =
        vault::open(&app.keyring, tenant.0, credential.secret, &sealed).map_err(ApiError::internal)?;
    Ok(ok(wire::CredentialValue {
        id: credential.id.to_string(),
        value: value.expose_secret().into(),
    }))
}

pub(super) async fn update(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let id = input.required_uuid("id").map(CredentialId);
    let name = input.optional_parsed("name", 1..=200, name);
    let value = input.optional_secret("value", VALUE);
    let id = input.finish_with(|| id)?;
    let secret = value.map(|plain| run_input::seal(&app, tenant.0, &plain));
    let now = app.clock.now();
    match app
        .store
        .write("update_credential", move |tx| {
            credentials::update(tx, tenant.0, id, (name.clone(), secret.clone()), now)
        })
        .await?
    {
        Change::Done => Ok(ok(wire::Done {
            success: true,
            message: "credential updated".to_owned(),
        })),
        Change::Unknown => Err(not_found(id)),
        Change::Refused(why) => Err(ApiError::conflict(why)),
    }
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    input: Fields,
) -> Result<Response, ApiError> {
    let id: CredentialId = input.only_id()?;
    match app
        .store
        .write("delete_credential", move |tx| {
            credentials::delete(tx, tenant.0, id)
        })
        .await?
    {
        Change::Done => Ok(ok(wire::Done {
            success: true,
            message: "credential deleted".to_owned(),
        })),
        Change::Unknown => Err(not_found(id)),
        Change::Refused(why) => Err(ApiError::conflict(why)),
    }
}
