//! The fields that say how a run is started and who hears of it: the same for schedules and for jobs, at create and
//! at update.

use impresario_api::{ResidentialProxy, Viewport};
use uuid::Uuid;

use super::{ApiError, Fields, Flaw, Patch, fields, values};
use crate::{
    app::App,
    builder::NAME_MAX,
    domain::{Launch, SecretId, TenantId, Workflow},
    spelling::nearest,
    store::ops::{deployments, secrets::SealedSecret},
    vault,
};

/// The names of workflows that are looked for, in characters: every name that a bundle may have is among them, because
/// no text has more characters than bytes.
pub(super) const WORKFLOW_NAME: std::ops::RangeInclusive<usize> = 1..=NAME_MAX;
/// Among how many names the nearest to one that is not deployed is looked for.
const NAMES_COMPARED: u32 = 1000;
/// How many names are told where none is near.
const NAMES_LISTED: usize = 5;

/// What an input says of the start of runs; on a create everything is said of a [`Launch`] with the defaults.
#[derive(Debug, Clone, Default)]
pub(super) struct LaunchPatch {
    timeout_seconds: Option<u32>,
    start_url: Patch<String>,
    gpu: Patch<bool>,
    viewport: Patch<Viewport>,
    residential_proxy: Patch<ResidentialProxy>,
    disable_default_proxy: Patch<bool>,
}

impl LaunchPatch {
    pub(super) fn read(input: &mut Fields) -> Self {
        Self {
            timeout_seconds: input
                .optional_int("timeout_seconds", 1..=3600)
                .and_then(|seconds| u32::try_from(seconds).ok()),
            start_url: input.patch_parsed("start_url", 1..=fields::START_URL_MAX, fields::start_url),
            gpu: input.patch_bool("gpu"),
            viewport: input.patch_nested("viewport", fields::viewport),
            residential_proxy: input.patch_nested("residential_proxy", fields::residential_proxy),
            disable_default_proxy: input.patch_bool("disable_default_proxy"),
        }
    }

    /// What `before` becomes.
    ///
    /// # Errors
    /// The field and what is wrong where the result breaks a rule that neither side breaks alone.
    pub(super) fn apply(self, before: &Launch) -> Result<Launch, (&'static str, Flaw)> {
        let before = before.clone();
        let after = Launch {
            timeout_seconds: self.timeout_seconds.unwrap_or(before.timeout_seconds),
            start_url: self.start_url.apply(before.start_url),
            gpu: self.gpu.apply(before.gpu),
            viewport: self.viewport.apply(before.viewport),
            residential_proxy: self.residential_proxy.apply(before.residential_proxy),
            disable_default_proxy: self.disable_default_proxy.apply(before.disable_default_proxy),
            ..before
        };
        fields::one_proxy(after.disable_default_proxy, after.residential_proxy.as_ref())
            .map_err(|flaw| ("disable_default_proxy", flaw))?;
        Ok(after)
    }
}

/// What an input says of the receiver of results. A new secret is sealed already.
#[derive(Debug, Clone, Default)]
pub(super) struct CallbackPatch {
    url: Patch<String>,
    secret: Patch<SealedSecret>,
    /// Whether a half was there and was refused. It is not missing then, and whether the pair would have been whole is
    /// not to be known.
    refused: bool,
}

/// The receiver of results, as it will be.
#[derive(Debug, Clone, Default)]
pub(super) struct CallbackAfter {
    pub(super) url: Option<String>,
    pub(super) secret: Option<SecretId>,
    /// The secret's row, where it is new.
    pub(super) new_secret: Option<SealedSecret>,
}

impl CallbackPatch {
    pub(super) fn read(app: &App, tenant: TenantId, input: &mut Fields) -> Self {
        let given = ["callback_url", "callback_secret"].map(|name| input.has(name));
        let url = input.patch_parsed("callback_url", 1..=fields::CALLBACK_URL_MAX, |text| {
            receiver_url(app, text)
        });
        let secret = input.patch_with("callback_secret", values::signing_secret);
        let refused = given[0] && url.is_absent() || given[1] && secret.is_absent();
        Self {
            url,
            secret: secret.map(|plain| seal(app, tenant, &plain)),
            refused,
        }
    }

    /// What becomes of the receiver that was there.
    ///
    /// # Errors
    /// The field and what is wrong where one half of the pair is missing.
    pub(super) fn apply(
        self,
        (url, secret): (Option<String>, Option<SecretId>),
    ) -> Result<CallbackAfter, (&'static str, Flaw)> {
        let new_secret = self.secret.clone().into_option();
        let url = self.url.apply(url);
        let secret = self.secret.map(|sealed| sealed.id).apply(secret);
        if !self.refused {
            fields::callback_pair(url.is_some(), secret.is_some())?;
        }
        Ok(CallbackAfter {
            url,
            secret,
            new_secret,
        })
    }
}

/// A URL that results are posted to, unless it can be seen at once that they may not go there.
pub(super) fn receiver_url(app: &App, text: &str) -> Result<String, Flaw> {
    let url = fields::callback_url(text)?;
    app.gate
        .check_url(&url)
        .map_err(|refused| Flaw::new("invalid_value", refused.to_string()))?;
    Ok(url)
}

/// Seals a secret for a new row.
pub(super) fn seal(app: &App, tenant: TenantId, plain: &str) -> SealedSecret {
    let id: Uuid = app.ids.uuid(app.clock.now());
    vault::seal(&app.keyring, &app.ids, tenant, id, plain)
}

/// The workflow of this name, or the 404 that names it and the nearest that is deployed.
pub(super) async fn find_workflow(app: &App, tenant: TenantId, name: &str) -> Result<Workflow, ApiError> {
    let wanted = name.to_owned();
    let found = app
        .store
        .read("get_workflow", move |tx| {
            deployments::get_workflow(tx, tenant, &wanted)
        })
        .await?;
    if let Some(workflow) = found {
        return Ok(workflow);
    }
    let names = app
        .store
        .read("workflow_names", move |tx| {
            deployments::workflow_names(tx, tenant, NAMES_COMPARED)
        })
        .await?;
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    let hint = match nearest(name, &known) {
        Some(nearest) => format!("; did you mean \"{nearest}\"?"),
        None if known.is_empty() => "; nothing is deployed yet".to_owned(),
        None if known.len() <= NAMES_LISTED => format!("; deployed: {}", known.join(", ")),
        None => String::new(),
    };
    Err(ApiError::not_found(format!(
        "workflow: no deployed workflow {}{hint}",
        super::values::quoted(name)
    )))
}
