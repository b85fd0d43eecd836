//! `deployments/*`.

use bytes::Bytes;
use std::sync::Arc;

use axum::{extract::State, response::Response};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use impresario_api as wire;
use sha2::{Digest, Sha256};

use super::{ApiError, Fields, Flaw, auth::Tenant, ok, page};
use crate::{
    app::App,
    domain::{Deployment, DeploymentId, DeploymentStatus, TenantId, rfc3339},
    store::{
        hex,
        ops::{
            deployments::{self, DeploymentSummary},
            quotas::TooMuch,
            schedules,
        },
    },
};

/// What the official client's own default is.
const DEFAULT_ENTRY_POINT: &str = "index.ts";
/// How many schedules a deployment's answer names; `schedules/list` has them all.
const UNFIT_SHOWN: u32 = 100;
/// How every gzip stream begins (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

pub(super) async fn create(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let source = input.required_string("source", 1..=usize::MAX);
    let entry_point = input.optional_parsed("entry_point", 1..=255, entry_point);
    let description = input.patch_string("description", 0..=1000).into_option();
    // Offered by the hosted service; taken, so that its clients work, and without effect here.
    input.patch_with("auto_repair", Ok::<_, Flaw>);
    let archive = match source {
        // A large one takes a while to decode and to hash: not on a thread that answers others.
        Some(source) => tokio::task::spawn_blocking(move || decode(&source))
            .await
            .map_err(ApiError::internal)?
            .map_err(|flaw| input.report("source", vec![flaw]))
            .ok(),
        None => None,
    };
    let (archive, bundle) = input.finish_with(|| archive)?;
    let now = app.clock.now();
    let deployment = Deployment {
        id: DeploymentId(app.ids.uuid(now)),
        tenant: tenant.0,
        bundle,
        entry_point: entry_point.unwrap_or_else(|| DEFAULT_ENTRY_POINT.to_owned()),
        description,
        status: DeploymentStatus::Building,
        build_error: None,
        workflows: None,
        created_at: now,
        built_at: None,
    };
    let answer = wire::CreatedDeployment {
        deployment_id: deployment.id.to_string(),
        status: deployment.status.as_str().to_owned(),
        created_at: rfc3339(now),
    };
    let bytes = archive.len();
    let too_much = app
        .store
        .write("accept_deployment", move |tx| {
            deployments::accept(tx, &deployment, archive.clone())
        })
        .await?;
    if let Some(TooMuch { stored, most }) = too_much {
        return Err(ApiError::forbidden(format!(
            "source: this bundle has {bytes} bytes, and with the {stored} bytes of bundles that this tenant has stored that is \
             more than the {most} bytes its quota allows; ask the operator for more"
        )));
    }
    app.signals.builds.notify_one();
    Ok(ok(answer))
}

/// The archive's bytes and their hash.
fn decode(source: &str) -> Result<(Bytes, String), Flaw> {
    let archive = STANDARD
        .decode(source)
        .map_err(|error| Flaw::new("invalid_format", format!("is not base64: {error}")))?;
    if !archive.starts_with(&GZIP) {
        return Err(Flaw::new("invalid_format", "is not a gzip-compressed tar"));
    }
    let bundle = hex(&Sha256::digest(&archive));
    Ok((archive.into(), bundle))
}

fn entry_point(text: &str) -> Result<String, Flaw> {
    let relative = text.strip_prefix("./").unwrap_or(text);
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if relative.contains('\\') || !relative.split('/').all(plain) {
        return Err(Flaw::new(
            "invalid_format",
            format!("{text:?} is not a file inside the bundle such as index.js"),
        ));
    }
    Ok(relative.to_owned())
}

pub(super) async fn sync(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    input: Fields,
) -> Result<Response, ApiError> {
    let id: DeploymentId = input.only_id()?;
    let found = app
        .store
        .read("get_deployment", move |tx| {
            let Some(found) = deployments::find(tx, tenant.0, id)? else {
                return Ok(None);
            };
            let unfit = schedules::unfit(tx, tenant.0, id, UNFIT_SHOWN)?;
            Ok(Some((found, unfit)))
        })
        .await?;
    let (found, unfit) =
        found.ok_or_else(|| ApiError::not_found(format!("deployment: there is no deployment {id}")))?;
    let newest = unfit.newest.into_iter().map(|schedule| wire::UnfitSchedule {
        id: schedule.id,
        name: schedule.name,
        workflow: schedule.workflow,
        error: schedule.error,
    });
    let ready = found.status == DeploymentStatus::Ready;
    Ok(ok(wire::SyncedDeployment {
        deployment: view(&found, unfit.total),
        schedules_with_invalid_params: ready.then(|| newest.collect()),
    }))
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    tenant: Tenant,
    mut input: Fields,
) -> Result<Response, ApiError> {
    let limit = page::limit(&mut input, "limit", 50, 200);
    input.finish()?;
    let (found, unfit) = app
        .store
        .read("list_deployments", move |tx| {
            let found = deployments::list(tx, tenant.0, None, limit)?;
            Ok((found, schedules::unfit_totals(tx, tenant.0)?))
        })
        .await?;
    let shown = |one: &DeploymentSummary| view(one, unfit.get(&one.id).copied().unwrap_or(0));
    Ok(ok(wire::DeploymentList {
        deployments: found.iter().map(shown).collect(),
    }))
}

/// The newest deployments that are building.
pub(super) async fn building(
    app: &App,
    tenant: TenantId,
    limit: u32,
) -> Result<Vec<wire::Deployment>, ApiError> {
    let status = Some(DeploymentStatus::Building);
    let found = app
        .store
        .read("list_deployments", move |tx| {
            deployments::list(tx, tenant, status, limit)
        })
        .await?;
    Ok(found.iter().map(|one| view(one, 0)).collect())
}

/// A deployment as every answer shows it, and how many schedules do not fit it.
fn view(deployment: &DeploymentSummary, unfit: u64) -> wire::Deployment {
    let place = format!("sha256:{}", deployment.bundle);
    let ready = deployment.status == DeploymentStatus::Ready;
    wire::Deployment {
        id: deployment.id.to_string(),
        description: deployment.description.clone(),
        status: deployment.status.as_str().to_owned(),
        source_path: Some(place.clone()),
        bundle_path: Some(place).filter(|_| ready),
        build_error: deployment.build_error.clone(),
        entry_point: deployment.entry_point.clone(),
        built_at: deployment.built_at.map(rfc3339),
        created_at: rfc3339(deployment.created_at),
        workflows: deployment.workflows.clone(),
        schedules_with_invalid_params_total: Some(unfit).filter(|_| ready),
    }
}
