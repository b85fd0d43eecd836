//! `schedules create|update|enable|disable|delete`: in come flags, out goes a schedule that is as they say.

use clap::{Args, ValueEnum};
use impresario_api::{CreateSchedule, DeleteSchedule, Schedule, UpdateSchedule, client::Client};
use serde_json::{Map, Value};

use super::{
    super::{
        input::{LaunchFlags, ParamFlags, Seconds, put},
        output::{OutputFlags, confirm, print_json, printable, remark},
        remote::{self, ServerFlags, Stop},
        say,
        when::Reader,
    },
    find,
};
use crate::clock::{Clock as _, SystemClock};

/// What a schedule can have besides workflow and expression.
#[derive(Debug, Args)]
pub(super) struct ScheduleFlags {
    /// The zone that the expression is read in, such as America/New_York [default: UTC]
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    #[command(flatten)]
    params: ParamFlags,
    /// What people know it by
    #[arg(long)]
    name: Option<String>,
    /// What it is for
    #[arg(long)]
    description: Option<String>,
    /// A tag, for filters; may be repeated
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    #[command(flatten)]
    launch: LaunchFlags,
    /// No fire before this instant, such as 2026-05-17T00:00:00+02:00
    #[arg(long, value_name = "INSTANT")]
    start_at: Option<String>,
    /// No fire from this instant on
    #[arg(long, value_name = "INSTANT")]
    end_at: Option<String>,
    /// How far a fire may be put off to spread the load, such as 5m
    #[arg(long, value_name = "LENGTH")]
    jitter: Option<Seconds>,
    /// What it does with instants that nobody fired in time: fire_once, skip or fire_all
    #[arg(long, value_name = "POLICY")]
    misfire: Option<String>,
    /// How late a missed fire may be and still be made up for, such as 6h
    #[arg(long, value_name = "LENGTH")]
    catchup_window: Option<Seconds>,
    /// What it does while an earlier run of its own is not finished: allow, skip, buffer_one or cancel_running
    #[arg(long, value_name = "POLICY")]
    overlap: Option<String>,
    /// So many failures in a row disable it
    #[arg(long, value_name = "N")]
    max_failures: Option<u32>,
}

#[derive(Debug, Args)]
pub(in super::super) struct CreateFlags {
    #[command(flatten)]
    server: ServerFlags,
    /// The workflow that it runs
    #[arg(long)]
    workflow: String,
    /// When: minute, hour, day of month, month, day of week, or a nickname such as @daily
    #[arg(long, value_name = "EXPRESSION")]
    cron: String,
    #[command(flatten)]
    fields: ScheduleFlags,
    /// Let it not fire until it is enabled
    #[arg(long)]
    disabled: bool,
    #[command(flatten)]
    output: OutputFlags,
}

#[derive(Debug, Args)]
pub(in super::super) struct UpdateFlags {
    /// The schedule's name or id
    #[arg(value_name = "NAME|ID")]
    schedule: String,
    #[command(flatten)]
    server: ServerFlags,
    /// When: minute, hour, day of month, month, day of week, or a nickname such as @daily
    #[arg(long, value_name = "EXPRESSION")]
    cron: Option<String>,
    #[command(flatten)]
    fields: ScheduleFlags,
    /// Take a field away, or put its default back; may be repeated, or be a list with commas
    #[arg(long, value_enum, value_name = "FIELD", value_delimiter = ',')]
    clear: Vec<Clear>,
    /// Let it fire again, from now on
    #[arg(long, conflicts_with = "disable")]
    enable: bool,
    /// Let it not fire any more
    #[arg(long)]
    disable: bool,
    #[command(flatten)]
    output: OutputFlags,
}

#[derive(Debug, Args)]
pub(in super::super) struct SwitchFlags {
    /// The schedule's name or id
    #[arg(value_name = "NAME|ID")]
    schedule: String,
    #[command(flatten)]
    server: ServerFlags,
    #[command(flatten)]
    output: OutputFlags,
}

#[derive(Debug, Args)]
pub(in super::super) struct DeleteFlags {
    /// The schedule's name or id
    #[arg(value_name = "NAME|ID")]
    schedule: String,
    #[command(flatten)]
    server: ServerFlags,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: OutputFlags,
}

/// The fields that can be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Clear {
    Name,
    Description,
    Tags,
    StartAt,
    EndAt,
    Jitter,
    Misfire,
    CatchupWindow,
    Overlap,
    MaxFailures,
    StartUrl,
    Viewport,
    Gpu,
    Callback,
    Proxy,
    DisableDefaultProxy,
}

impl Clear {
    /// The names of the API.
    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Name => &["name"],
            Self::Description => &["description"],
            Self::Tags => &["tags"],
            Self::StartAt => &["start_at"],
            Self::EndAt => &["end_at"],
            Self::Jitter => &["jitter_seconds"],
            Self::Misfire => &["misfire_policy"],
            Self::CatchupWindow => &["catchup_window_seconds"],
            Self::Overlap => &["overlap_policy"],
            Self::MaxFailures => &["max_consecutive_failures"],
            Self::StartUrl => &["start_url"],
            Self::Viewport => &["viewport"],
            Self::Gpu => &["gpu"],
            Self::Callback => &["callback_url", "callback_secret"],
            Self::Proxy => &["residential_proxy"],
            Self::DisableDefaultProxy => &["disable_default_proxy"],
        }
    }
}

impl ScheduleFlags {
    /// The fields that were given, by the names of the API; `own` are the schedule's params, which single ones go over.
    fn read(&self, own: Option<Map<String, Value>>) -> anyhow::Result<Map<String, Value>> {
        let mut fields = Map::new();
        put(&mut fields, "timezone", self.timezone.clone());
        put(&mut fields, "params", self.params.read(own)?);
        put(&mut fields, "name", self.name.clone());
        put(&mut fields, "description", self.description.clone());
        put(
            &mut fields,
            "tags",
            (!self.tag.is_empty()).then(|| self.tag.clone()),
        );
        self.launch.add_to(&mut fields)?;
        put(&mut fields, "start_at", self.start_at.clone());
        put(&mut fields, "end_at", self.end_at.clone());
        put(&mut fields, "jitter_seconds", self.jitter.map(|length| length.0));
        put(&mut fields, "misfire_policy", self.misfire.clone());
        let window = self.catchup_window.map(|length| length.0);
        put(&mut fields, "catchup_window_seconds", window);
        put(&mut fields, "overlap_policy", self.overlap.clone());
        put(&mut fields, "max_consecutive_failures", self.max_failures);
        Ok(fields)
    }
}

pub(super) async fn create(flags: CreateFlags) -> anyhow::Result<()> {
    let client = remote::client(&flags.server)?;
    let mut fields = flags.fields.read(None)?;
    put(&mut fields, "workflow", Some(flags.workflow));
    put(&mut fields, "cron_expr", Some(flags.cron));
    put(&mut fields, "enabled", flags.disabled.then_some(false));
    let call: CreateSchedule = serde_json::from_value(fields.into())?;
    let answer = remote::ask_raw(&client, &call).await?;
    if flags.output.json {
        return Ok(print_json(&answer)?);
    }
    let created = &remote::typed::<impresario_api::ScheduleCreated>(answer)?.schedule;
    stands("created", created);
    Ok(say(&created.id)?)
}

pub(super) async fn update(flags: UpdateFlags) -> anyhow::Result<()> {
    let client = remote::client(&flags.server)?;
    let (id, own) = if flags.fields.params.is_partial() {
        let found = find::schedule(&client, &flags.schedule).await?;
        (found.id, Some(found.params))
    } else {
        (find::id(&client, &flags.schedule).await?, None)
    };
    let mut fields = flags.fields.read(own)?;
    put(&mut fields, "cron_expr", flags.cron);
    put(
        &mut fields,
        "enabled",
        (flags.enable || flags.disable).then_some(flags.enable),
    );
    clear(&mut fields, &flags.clear)?;
    if fields.is_empty() {
        let text = "there is nothing to change: name what shall be otherwise, such as --cron \"0 3 * * *\"";
        return Err(Stop::Usage(text.to_owned()).into());
    }
    change(&client, id, fields, "changed", flags.output).await
}

/// Sets what is to be taken away to `null`.
fn clear(fields: &mut Map<String, Value>, all: &[Clear]) -> anyhow::Result<()> {
    for field in all {
        for name in field.fields() {
            if fields
                .insert((*name).to_owned(), Value::Null)
                .is_some_and(|old| !old.is_null())
            {
                let text = format!("{name} is set and cleared at once: leave out one of the two flags");
                return Err(Stop::Usage(text).into());
            }
        }
    }
    Ok(())
}

pub(super) async fn switch(flags: SwitchFlags, enabled: bool) -> anyhow::Result<()> {
    let client = remote::client(&flags.server)?;
    let id = find::id(&client, &flags.schedule).await?;
    let mut fields = Map::new();
    put(&mut fields, "enabled", Some(enabled));
    let verb = if enabled { "enabled" } else { "disabled" };
    change(&client, id, fields, verb, flags.output).await
}

async fn change(
    client: &Client,
    id: String,
    mut fields: Map<String, Value>,
    verb: &str,
    output: OutputFlags,
) -> anyhow::Result<()> {
    put(&mut fields, "id", Some(id));
    let call: UpdateSchedule = serde_json::from_value(fields.into())?;
    let answer = remote::ask_raw(client, &call).await?;
    if output.json {
        return Ok(print_json(&answer)?);
    }
    stands(
        verb,
        &remote::typed::<impresario_api::OneSchedule>(answer)?.schedule,
    );
    Ok(())
}

/// Says what was done to a schedule, and when it fires next.
fn stands(verb: &str, schedule: &Schedule) {
    let name = schedule.name.as_ref().unwrap_or(&schedule.id);
    let then = match (schedule.enabled, schedule.next_fire_at.as_deref()) {
        (true, Some(at)) => {
            let reader = Reader::here(SystemClock.now()).in_zone(&schedule.timezone);
            format!("it fires next at {}", reader.full(Some(at)))
        }
        (true, None) => "it never fires again".to_owned(),
        (false, _) => "it does not fire".to_owned(),
    };
    remark(&printable(&format!("{verb} {name}: {then}")));
}

pub(super) async fn delete(flags: DeleteFlags) -> anyhow::Result<()> {
    let client = remote::client(&flags.server)?;
    let found = find::schedule(&client, &flags.schedule).await?;
    let name = found.name.as_ref().unwrap_or(&found.id);
    let shown = printable(&format!("{name} (workflow {})", found.workflow));
    confirm(&format!("Delete the schedule {shown}?"), flags.yes)?;
    let call = DeleteSchedule { id: found.id.clone() };
    let answer = remote::ask_raw(&client, &call).await?;
    if flags.output.json {
        return Ok(print_json(&answer)?);
    }
    remark(&format!("deleted {shown}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_field_that_can_be_cleared_is_null_to_the_api() {
        let mut fields = Map::new();
        clear(&mut fields, Clear::value_variants()).unwrap();
        fields.insert("id".to_owned(), "1".into());
        let call: UpdateSchedule = serde_json::from_value(fields.clone().into()).unwrap();
        assert_eq!(
            serde_json::to_value(&call).unwrap(),
            Value::Object(fields.clone())
        );
        // What the documentation of the API says can be null, and nothing else.
        let schema = properties_of_update();
        let nullable: Vec<&str> = schema
            .iter()
            .filter(|(_, field)| field.to_string().contains("\"null\""))
            .map(|(name, _)| name.as_str())
            .collect();
        for name in nullable {
            assert!(fields.contains_key(name), "{name} has no --clear");
        }
    }

    fn properties_of_update() -> Map<String, Value> {
        let document = impresario_api::openapi::document();
        document["components"]["schemas"]["UpdateSchedule"]["properties"]
            .as_object()
            .unwrap()
            .clone()
    }

    #[test]
    fn a_field_is_not_set_and_cleared_at_once() {
        let mut fields = Map::new();
        fields.insert("callback_url".to_owned(), json!("http://r.example"));
        let error = clear(&mut fields, &[Clear::Callback]).unwrap_err().to_string();
        assert!(error.contains("callback_url is set and cleared"), "{error}");
    }
}
