//! What create and update read: the fields that a schedule is made of, and the rules that bind them together.

use impresario_cron::{Cron, Zone};
use serde_json::{Map, Value};

use super::super::{
    Fields, Flaw,
    auth::Tenant,
    run_input::{CallbackAfter, CallbackPatch, LaunchPatch},
    values,
};
use crate::{
    app::App,
    domain::{Launch, Pattern, PatternError, ScheduleDraft, SecretId},
};

/// Where a schedule does not say how long a run may take, in seconds.
const DEFAULT_TIMEOUT: u32 = 900;

fn launch_defaults() -> Launch {
    Launch {
        timeout_seconds: DEFAULT_TIMEOUT,
        start_url: None,
        gpu: None,
        headless: None,
        viewport: None,
        residential_proxy: None,
        disable_default_proxy: None,
        credential_id: None,
    }
}

/// What create and update have in common.
#[derive(Debug, Clone)]
pub(super) struct Patch {
    pub(super) params: Option<Map<String, Value>>,
    cron: Option<String>,
    zone: Option<Zone>,
    launch: LaunchPatch,
    callback: CallbackPatch,
    skip_callbacks: Option<bool>,
    enabled: Option<bool>,
}

/// A field of the resulting schedule, and what is wrong with it.
pub(super) type Flaws = Vec<(&'static str, Flaw)>;

impl Patch {
    pub(super) fn read(app: &App, tenant: Tenant, input: &mut Fields) -> Self {
        // Their lengths are their own rules, with errors of their own.
        let cron = input.optional_parsed("cron_expr", 0..=usize::MAX, cron);
        Self::read_rest(app, tenant, cron, input)
    }

    /// As [`Patch::read`], but a schedule does not come into being without an expression. `null` is none.
    pub(super) fn read_for_create(app: &App, tenant: Tenant, input: &mut Fields) -> Self {
        let cron = input.required_with("cron_expr", |value| match value {
            Value::Null => Err(Flaw::new("invalid_type", "is required")),
            value => values::parsed(value, &(0..=usize::MAX), cron),
        });
        Self::read_rest(app, tenant, cron, input)
    }

    fn read_rest(app: &App, tenant: Tenant, cron: Option<String>, input: &mut Fields) -> Self {
        Self {
            params: input.optional_object("params"),
            cron,
            zone: input.optional_parsed("timezone", 0..=usize::MAX, zone),
            launch: LaunchPatch::read(input),
            callback: CallbackPatch::read(app, tenant.0, input),
            skip_callbacks: input.optional_bool("skip_callbacks"),
            enabled: input.optional_bool("enabled"),
        }
    }

    /// What `before` becomes, and the receiver with it; or all that is wrong with the result.
    pub(super) fn apply(self, before: &ScheduleDraft) -> Result<(ScheduleDraft, CallbackAfter), Flaws> {
        let receiver = (before.callback_url.clone(), before.callback_secret);
        let (parts, flaws) = self.parts(Some(&before.pattern), &before.launch, receiver);
        let Some((pattern, launch, callback)) = parts else {
            return Err(flaws);
        };
        let draft = ScheduleDraft {
            workflow: before.workflow.clone(),
            params: self.params.unwrap_or_else(|| before.params.clone()),
            pattern,
            launch,
            callback_url: callback.url.clone(),
            callback_secret: callback.secret,
            skip_callbacks: self.skip_callbacks.unwrap_or(before.skip_callbacks),
            enabled: self.enabled.unwrap_or(before.enabled),
        };
        Ok((draft, callback))
    }

    /// A new schedule and its receiver, and all that is wrong with them. The rules that bind fields together are
    /// applied whatever else is missing; the schedule is there only if nothing is.
    pub(super) fn into_new(
        self,
        workflow: Option<String>,
    ) -> (Option<(ScheduleDraft, CallbackAfter)>, Flaws) {
        let (parts, flaws) = self.parts(None, &launch_defaults(), (None, None));
        let created = workflow
            .zip(parts)
            .map(|(workflow, (pattern, launch, callback))| {
                let draft = ScheduleDraft {
                    workflow,
                    params: self.params.unwrap_or_default(),
                    pattern,
                    launch,
                    callback_url: callback.url.clone(),
                    callback_secret: callback.secret,
                    skip_callbacks: self.skip_callbacks.unwrap_or(false),
                    enabled: self.enabled.unwrap_or(true),
                };
                (draft, callback)
            });
        (created, flaws)
    }

    /// The parts that rules bind together, as they will be, and every rule that they break.
    fn parts(
        &self,
        pattern: Option<&Pattern>,
        launch: &Launch,
        receiver: (Option<String>, Option<SecretId>),
    ) -> (Option<(Pattern, Launch, CallbackAfter)>, Flaws) {
        let mut flaws = Vec::new();
        let pattern = match self.pattern(pattern) {
            Some(Err(error)) => {
                flaws.push(("cron_expr", Flaw::new("invalid_value", error.to_string())));
                None
            }
            Some(Ok(pattern)) => Some(pattern),
            None => None,
        };
        let launch = self.launch.clone().apply(launch);
        let launch = launch.map_err(|flaw| flaws.push(flaw)).ok();
        let callback = self.callback.clone().apply(receiver);
        let callback = callback.map_err(|flaw| flaws.push(flaw)).ok();
        let parts = pattern.zip(launch).zip(callback);
        (
            parts.map(|((pattern, launch), callback)| (pattern, launch, callback)),
            flaws,
        )
    }

    /// When it will fire; nothing for a new schedule whose expression is missing or was refused.
    fn pattern(&self, before: Option<&Pattern>) -> Option<Result<Pattern, PatternError>> {
        match before {
            Some(before) if self.cron.is_none() && self.zone.is_none() => Some(Ok(before.clone())),
            Some(before) => Some(before.changed(self.cron.as_deref(), self.zone.as_ref().map(Zone::name))),
            None => {
                let zone = self.zone.as_ref().map_or("UTC", Zone::name);
                Some(Pattern::parse(self.cron.as_ref()?, zone))
            }
        }
    }
}

/// An expression, as it was written. Whether it ever fires is asked of the pattern it becomes part of.
pub(super) fn cron(text: &str) -> Result<String, Flaw> {
    match text.parse::<Cron>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(Flaw::new("invalid_format", error.to_string())),
    }
}

pub(super) fn zone(name: &str) -> Result<Zone, Flaw> {
    Zone::get(name).map_err(|error| Flaw::new("invalid_value", error.to_string()))
}
