//! Whether the params of schedules fit what their workflows take. What comes in: schedules and a deployment's schemas.
//! What goes out: a verdict on each, noted in the store.
//!
//! They are checked when their owner gives them, when a new version of the workflow is deployed, and, where neither
//! has happened for the version that would run, before the next fire.

use serde_json::{Map, Value};

use crate::{
    api::{Flaw, schema},
    app::App,
    domain::{ScheduleId, Workflow},
    store::{
        self,
        ops::{deployments, schedules},
    },
};

/// How many flaws a verdict names.
const MOST_NAMED: usize = 3;

/// What is wrong with `params` for the workflow, as far as it says what it takes.
pub async fn flaws(workflow: &Workflow, params: &Map<String, Value>) -> Vec<Flaw> {
    match workflow.launch().input_schema {
        Some(schema) => schema::check(schema, params.clone()).await,
        None => Vec::new(),
    }
}

/// Flaws in one sentence, each with its place under `params`.
#[must_use]
pub fn sentence(flaws: &[Flaw]) -> Option<String> {
    if flaws.is_empty() {
        return None;
    }
    let mut named: Vec<String> = flaws
        .iter()
        .take(MOST_NAMED)
        .map(|flaw| format!("{}: {}", flaw.place("params"), flaw.message))
        .collect();
    if flaws.len() > MOST_NAMED {
        named.push(format!("and {} more", flaws.len() - MOST_NAMED));
    }
    Some(named.join("; "))
}

/// Checks the params of schedules against the workflows as they are deployed now, and notes what was found.
///
/// # Errors
/// The store's.
pub async fn check_again(app: &App, ids: &[ScheduleId]) -> store::Result<()> {
    for id in ids.iter().copied() {
        let found = app
            .store
            .read_now("schedule_to_check", move |tx| {
                let Some(schedule) = schedules::by_id(tx, id)? else {
                    return Ok(None);
                };
                let workflow = deployments::get_workflow(tx, schedule.tenant, &schedule.draft.workflow)?;
                Ok(workflow.map(|workflow| (schedule, workflow)))
            })
            .await?;
        let Some((schedule, workflow)) = found else {
            continue;
        };
        let error = sentence(&flaws(&workflow, &schedule.draft.params).await);
        let (seen, against) = (schedule.updated_at, workflow.deployment.id);
        app.store
            .write("note_params", move |tx| {
                schedules::note_params(tx, (id, seen), against, error.as_deref())
            })
            .await?;
    }
    Ok(())
}
