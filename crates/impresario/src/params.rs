//! Whether the params of schedules fit what their workflows take. What comes in: schedules and a deployment's schemas.
//! What goes out: a verdict on each, noted in the store.
//!
//! They are checked when their owner gives them, when a new version of the workflow is deployed, and, where neither
//! has happened for the version that would run, before the next fire.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value};

use crate::{
    api::{
        Flaw,
        schema::{self, Prepared},
    },
    app::App,
    domain::{Deployment, DeploymentId, ExportedWorkflow, ScheduleId, TenantId, Workflow},
    store::{
        self,
        ops::{
            deployments,
            schedules::{self, Unjudged, Verdict},
        },
    },
};

/// How many flaws a verdict names.
const MOST_NAMED: usize = 3;

/// How long a verdict may be, in characters: some say where in a value that is nested deep.
const SENTENCE: usize = 500;

/// Schedules that are read at once for a deployment.
const PAGE: u32 = 200;

/// How long a deployment waits for the checks of its schedules. Those that are not reached are checked before they fire.
const DEPLOYMENT_WAITS: Duration = Duration::from_secs(30);

/// How long the checks before one pass of the scheduler may take, and those of one workflow among them. Everyone's
/// fires wait for them, so a schema that takes longer is passed over: the workflow itself judges its input in any case.
const FIRES_WAIT: Duration = Duration::from_secs(2);
const FIRES_WAIT_FOR_ONE: Duration = Duration::from_secs(1);

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
    // A schema may name what no text of PostgreSQL's can hold.
    let text = named.join("; ").replace('\0', "\u{fffd}");
    Some(match text.char_indices().nth(SENTENCE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    })
}

/// What a new version of these workflows finds of the params of their schedules, before any name moves to it. Where
/// something cannot be read there is no verdict, and the schedule is checked before it fires: no deployment fails for
/// that.
pub async fn judge_for(app: &App, tenant: TenantId, workflows: &[ExportedWorkflow]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let mut left = DEPLOYMENT_WAITS;
    for workflow in workflows {
        // What takes everything needs no verdict on each.
        let Some(schema) = workflow.launch.input_schema.clone() else {
            continue;
        };
        let schema = Prepared::new(schema);
        let mut after = None;
        loop {
            let name = workflow.name.clone();
            let page = app
                .store
                .read_now("params_of_schedules", move |tx| {
                    schedules::params_page(tx, (tenant, &name), after.as_ref(), PAGE)
                })
                .await;
            let (page, next) = match page {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(%error, workflow = workflow.name, "schedules could not be checked against a new version");
                    return verdicts;
                }
            };
            let judged = judge(Some(&schema), page, left).await;
            verdicts.extend(judged.verdicts.into_iter().take(judged.reached));
            left = left.saturating_sub(judged.took);
            after = next;
            if after.is_none() {
                break;
            }
            if left.is_zero() {
                tracing::warn!(
                    workflow = workflow.name,
                    "there was no time to check all schedules against a new version"
                );
                return verdicts;
            }
        }
    }
    verdicts
}

/// What became of some params.
struct Judged {
    /// On each of them, in their order; on those that were not reached, that nothing is wrong.
    verdicts: Vec<Verdict>,
    /// How many of them, from the first on, the time was enough for.
    reached: usize,
    /// How much of it was taken.
    took: Duration,
}

async fn judge(schema: Option<&Prepared>, unjudged: Vec<Unjudged>, time: Duration) -> Judged {
    let (mut verdicts, mut inputs) = (Vec::new(), Vec::new());
    for one in unjudged {
        verdicts.push(Verdict {
            id: one.id,
            revision: one.revision,
            error: None,
        });
        inputs.push(one.params);
    }
    let Some(schema) = schema else {
        return Judged {
            reached: verdicts.len(),
            verdicts,
            took: Duration::ZERO,
        };
    };
    let (flaws, took) = schema.check(inputs, time).await;
    for (verdict, flaws) in verdicts.iter_mut().zip(&flaws) {
        verdict.error = sentence(flaws);
    }
    Judged {
        verdicts,
        reached: flaws.len(),
        took,
    }
}

/// Checks the params of schedules against the workflows as they are deployed now, and notes what was found. Each of
/// them has a verdict afterwards, so that it can fire, unless it or its workflow was changed meanwhile.
///
/// # Errors
/// The store's.
pub async fn check_again(app: &App, ids: &[ScheduleId]) -> store::Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let asked = ids.to_vec();
    let found = app
        .store
        .read_now("schedules_to_check", move |tx| schedules::to_check(tx, &asked))
        .await?;
    let mut groups = BTreeMap::<_, BTreeMap<String, Vec<Unjudged>>>::new();
    for one in found {
        let group = groups.entry((one.tenant, one.deployment)).or_default();
        group.entry(one.workflow).or_default().push(one.unjudged);
    }
    let (mut verdicts, mut left) = (Vec::new(), FIRES_WAIT);
    for ((tenant, id), by_workflow) in groups {
        let deployment = deployment(app, tenant, id).await?;
        let mut of_deployment = Vec::new();
        for (name, unjudged) in by_workflow {
            let launch = deployment.as_ref().and_then(|found| found.launch_of(&name));
            let schema = launch.and_then(|launch| launch.input_schema.clone());
            let schema = schema.map(Prepared::new);
            let judged = judge(schema.as_ref(), unjudged, left.min(FIRES_WAIT_FOR_ONE)).await;
            left = left.saturating_sub(judged.took);
            let passed_over = judged.verdicts.len() - judged.reached;
            if passed_over > 0 {
                tracing::warn!(%tenant, workflow = name, passed_over, "there was no time to check params before a fire");
            }
            of_deployment.extend(judged.verdicts);
        }
        verdicts.push((id, of_deployment));
    }
    app.store
        .write_now("note_params", move |tx| {
            for (against, verdicts) in &verdicts {
                // What cannot be noted for one deployment costs the others nothing.
                match tx.isolated(|tx| schedules::note_params(tx, *against, verdicts))? {
                    Err(error) if error.is_unavailable() => return Err(error),
                    Err(error) => tracing::error!(deployment = %against, %error, "verdicts on params could not be noted"),
                    Ok(()) => {}
                }
            }
            Ok(())
        })
        .await
}

/// A deployment; `None` where it cannot be read. Then its runs will say so, and nobody else's fires wait for it.
async fn deployment(app: &App, tenant: TenantId, id: DeploymentId) -> store::Result<Option<Deployment>> {
    let found = app
        .store
        .read_now("deployment_to_check_against", move |tx| {
            deployments::get(tx, tenant, id)
        })
        .await;
    match found {
        Err(error) if error.is_of_the_row() => {
            tracing::warn!(%error, deployment = %id, "params are not checked against a deployment");
            Ok(None)
        }
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_verdict_names_a_few_flaws_and_stays_short() {
        let flaw = |number: usize| Flaw {
            path: Vec::new(),
            code: "custom",
            message: format!("is wrong {number}"),
        };
        let said = |many: usize| sentence(&(0..many).map(flaw).collect::<Vec<_>>());
        assert_eq!(said(0), None);
        assert_eq!(said(1).unwrap(), "params: is wrong 0");
        assert_eq!(
            said(5).unwrap(),
            "params: is wrong 0; params: is wrong 1; params: is wrong 2; and 2 more"
        );
        let long = Flaw {
            message: "é".repeat(SENTENCE),
            ..flaw(0)
        };
        assert_eq!(sentence(&[long]).unwrap().chars().count(), SENTENCE + 1);
    }

    #[tokio::test]
    async fn everything_has_a_verdict_even_where_the_time_is_over() {
        let schema = Prepared::new(json!({"type": "object", "required": ["n"]}));
        let unjudged = |number: i64| Unjudged {
            id: ScheduleId(uuid::Uuid::from_u128(1)),
            revision: number,
            params: json!({"m": number}).as_object().unwrap().clone(),
        };
        let judge = async |schema, time| judge(schema, (0..3).map(unjudged).collect(), time).await;
        let errors = |judged: &Judged| {
            let found: Vec<_> = judged
                .verdicts
                .iter()
                .map(|one| (one.revision, one.error.clone()))
                .collect();
            found
        };
        let wrong = |number| (number, Some("params.n: is required".to_owned()));
        let judged = judge(Some(&schema), Duration::MAX).await;
        assert_eq!(
            (judged.reached, errors(&judged)),
            (3, (0..3).map(wrong).collect())
        );
        let fits: Vec<_> = (0..3).map(|number| (number, None)).collect();
        let judged = judge(Some(&schema), Duration::ZERO).await;
        assert_eq!((judged.reached, errors(&judged)), (0, fits.clone()));
        let judged = judge(None, Duration::ZERO).await;
        assert_eq!((judged.reached, errors(&judged)), (3, fits));
    }
}
