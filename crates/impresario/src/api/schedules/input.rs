//! What create and update read: the fields that a schedule is made of, and the rules that bind them together.

use impresario_cron::{Cron, Zone};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    super::{
        Fields, Flaw,
        auth::Tenant,
        run_input::{CallbackAfter, CallbackPatch, LaunchPatch},
        values,
    },
    behaviour::{BehaviourPatch, Frame, has_fires, in_order},
};
use crate::{
    app::App,
    domain::{Label, Launch, Pattern, PatternError, Policies, ScheduleDraft, SecretId, Timing},
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
    behaviour: BehaviourPatch,
}

/// What there was.
struct Before<'a> {
    pattern: Option<&'a Pattern>,
    launch: Launch,
    receiver: (Option<String>, Option<SecretId>),
    label: Label,
    frame: Frame,
    policies: Policies,
}

/// What there will be.
struct Parts {
    timing: Timing,
    launch: Launch,
    callback: CallbackAfter,
    label: Label,
    policies: Policies,
}

impl Parts {
    fn draft(
        self,
        workflow: String,
        params: Map<String, Value>,
        skip_callbacks: bool,
        enabled: bool,
    ) -> (ScheduleDraft, CallbackAfter) {
        let draft = ScheduleDraft {
            workflow,
            label: self.label,
            params,
            timing: self.timing,
            policies: self.policies,
            launch: self.launch,
            callback_url: self.callback.url.clone(),
            callback_secret: self.callback.secret,
            skip_callbacks,
            enabled,
        };
        (draft, self.callback)
    }
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
            behaviour: BehaviourPatch::read(input),
        }
    }

    /// The name that it gives.
    pub(super) fn name(&self) -> Option<String> {
        self.behaviour.name()
    }

    /// What `before` becomes, and the receiver with it; or all that is wrong with the result. Bounds that leave no fire
    /// are nothing wrong: they end the schedule.
    pub(super) fn apply(self, before: &ScheduleDraft) -> Result<(ScheduleDraft, CallbackAfter), Flaws> {
        let whole = Before {
            pattern: Some(&before.timing.pattern),
            launch: before.launch.clone(),
            receiver: (before.callback_url.clone(), before.callback_secret),
            label: before.label.clone(),
            frame: Frame::of(&before.timing),
            policies: before.policies,
        };
        let (parts, flaws) = self.parts(whole);
        let Some(parts) = parts else {
            return Err(flaws);
        };
        let params = self.params.unwrap_or_else(|| before.params.clone());
        let skip_callbacks = self.skip_callbacks.unwrap_or(before.skip_callbacks);
        let enabled = self.enabled.unwrap_or(before.enabled);
        if let (true, Some(fault)) = (enabled && !before.enabled, parts.timing.pattern.fault()) {
            let message =
                format!("cannot be read by this version: {fault}; give another to enable the schedule");
            return Err(vec![("cron_expr", Flaw::new("invalid_value", message))]);
        }
        Ok(parts.draft(before.workflow.clone(), params, skip_callbacks, enabled))
    }

    /// A new schedule and its receiver, and all that is wrong with them. The rules that bind fields together are
    /// applied whatever else is missing; the schedule is there only if nothing is.
    pub(super) fn into_new(
        self,
        workflow: Option<String>,
        now: Timestamp,
    ) -> (Option<(ScheduleDraft, CallbackAfter)>, Flaws) {
        let (parts, mut flaws) = self.parts(Before {
            pattern: None,
            launch: launch_defaults(),
            receiver: (None, None),
            label: Label::default(),
            frame: Frame::default(),
            policies: Policies::default(),
        });
        if let Some(Err(flaw)) = parts.as_ref().map(|parts| has_fires(&parts.timing, now)) {
            flaws.push(flaw);
        }
        let created = workflow.zip(parts).map(|(workflow, parts)| {
            let params = self.params.unwrap_or_default();
            let skip_callbacks = self.skip_callbacks.unwrap_or(false);
            parts.draft(workflow, params, skip_callbacks, self.enabled.unwrap_or(true))
        });
        (created, flaws)
    }

    /// The parts that rules bind together, as they will be, and every rule that they break.
    fn parts(&self, before: Before<'_>) -> (Option<Parts>, Flaws) {
        let mut flaws = Vec::new();
        let pattern = match self.pattern(before.pattern) {
            Some(Err(error)) => {
                flaws.push(("cron_expr", Flaw::new("invalid_value", error.to_string())));
                None
            }
            Some(Ok(pattern)) => Some(pattern),
            None => None,
        };
        let launch = self.launch.clone().apply(&before.launch);
        let launch = launch.map_err(|flaw| flaws.push(flaw)).ok();
        let callback = self.callback.clone().apply(before.receiver);
        let callback = callback.map_err(|flaw| flaws.push(flaw)).ok();
        let behaviour = self.behaviour.clone();
        let (label, frame, policies) = behaviour.apply(&before.label, before.frame, before.policies);
        let in_order = in_order(frame.start_at, frame.end_at)
            .map_err(|flaw| flaws.push(flaw))
            .ok();
        let parts = || {
            in_order?;
            Some(Parts {
                timing: frame.around(pattern?),
                launch: launch?,
                callback: callback?,
                label,
                policies,
            })
        };
        (parts(), flaws)
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
