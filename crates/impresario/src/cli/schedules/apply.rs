//! A plan carried out: creates and updates in the order of the file, deletes last, up to the first error.

use std::collections::BTreeSet;

use anyhow::bail;
use impresario_api::{ErrorCode, Secret};
use serde_json::{Map, Value, json};

use super::{
    super::output::printable,
    file::SecretFrom,
    plan::{Known, Plan},
};
use impresario_api::client::{CallError, Client};

/// One call, ready to be made. No `Debug`: the input may hold a secret.
pub(super) struct Step {
    route: &'static str,
    input: Map<String, Value>,
    /// Past tense and name, as in `created nightly`.
    done: String,
}

/// Makes the calls of a plan, with the secrets in them.
///
/// # Errors
/// Which variables are missing, where secrets were to come from them.
pub(super) fn steps(plan: &Plan, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Vec<Step>> {
    let mut missing = BTreeSet::new();
    let mut add = |input: &mut Map<String, Value>, secret: &Option<SecretFrom>| {
        let secret: Secret = match secret {
            None => return,
            Some(SecretFrom::File(secret)) => secret.clone(),
            Some(SecretFrom::Variable(name)) => match variable(name) {
                Some(value) => value.into(),
                None => {
                    missing.insert(name.clone());
                    return;
                }
            },
        };
        input.insert("callback_secret".to_owned(), json!(secret.expose()));
    };
    let mut steps = Vec::new();
    for create in &plan.creates {
        let mut input = create.input.clone();
        add(&mut input, &create.secret);
        steps.push(Step {
            route: "schedules/create",
            input,
            done: format!("created {}", printable(&create.name)),
        });
    }
    for update in &plan.updates {
        let mut input = update.input();
        add(&mut input, &update.secret);
        steps.push(Step {
            route: "schedules/update",
            input,
            done: format!("updated {}", printable(&update.known.name)),
        });
    }
    for Known { name, id } in &plan.deletes {
        let mut input = Map::new();
        input.insert("id".to_owned(), json!(id));
        steps.push(Step {
            route: "schedules/delete",
            input,
            done: format!("deleted {}", printable(name)),
        });
    }
    if !missing.is_empty() {
        let names: Vec<String> = missing.into_iter().collect();
        bail!(
            "these variables, which the file takes secrets from, are not set: {}; nothing was changed",
            names.join(", ")
        );
    }
    Ok(steps)
}

/// Makes the calls, and says each that went well.
///
/// # Errors
/// The first that did not, how far it came, and how to go on.
pub(super) async fn carry_out(
    client: &Client,
    steps: Vec<Step>,
    mut say: impl FnMut(&str),
) -> anyhow::Result<()> {
    let count = steps.len();
    for (index, step) in steps.into_iter().enumerate() {
        let Step { route, input, done } = step;
        match client.send(route, &input.into()).await {
            Ok(_) => say(&done),
            Err(error) => bail!("{}", stopped(&error, &done, index, count)),
        }
    }
    Ok(())
}

fn stopped(error: &CallError, step: &str, done: usize, count: usize) -> String {
    // Of what broke off, or broke within the server, nobody can say how far it came.
    let refused =
        matches!(error, CallError::Refused { body, .. } if body.code != ErrorCode::InternalServerError);
    let (was, rest) = if refused {
        ("was not", count - done)
    } else {
        ("may or may not have been", count - done - 1)
    };
    let (verb, name) = step.split_once(' ').unwrap_or((step, ""));
    format!(
        "{name} {was} {verb}: {error}\n{done} of {count} changes were made and are listed above, {rest} were not; mend what \
         is wrong and apply again: it goes on from there"
    )
}

#[cfg(test)]
mod tests {
    use impresario_api::ErrorBody;

    use super::{
        super::{
            file,
            plan::{Found, Options, plan},
        },
        *,
    };

    #[test]
    fn creates_come_first_and_deletes_last_with_their_secrets() {
        let schedule = |name: &str, secret: &str| {
            format!(
                "- name: {name}\n  workflow: w\n  cron_expr: '@daily'\n  callback_url: http://r.example\n  \
                 callback_secret: {secret}\n"
            )
        };
        let text = format!(
            "version: 1\nschedules:\n{}{}{}",
            schedule("changed", "${A}"),
            schedule("new", "${B}"),
            schedule("plain", "hunter2")
        );
        let Ok(file) = file::read(&text) else {
            panic!("{text}");
        };
        let found = ["changed", "gone"].map(|name| {
            let answer =
                json!({"id": name, "name": name, "workflow": "w", "cron_expr": "@daily", "enabled": true});
            Found::of(&answer).unwrap()
        });
        let options = Options {
            prune: true,
            ..Options::default()
        };
        let plan = plan(&file.wanted, &found, options);
        let steps =
            steps(&plan, |name| Some(format!("secret of {name}"))).unwrap_or_else(|error| panic!("{error}"));
        let made: Vec<(&str, &str, Option<&str>)> = steps
            .iter()
            .map(|step| {
                let secret = step.input.get("callback_secret").and_then(Value::as_str);
                (step.route, step.done.as_str(), secret)
            })
            .collect();
        assert_eq!(
            made,
            [
                ("schedules/create", "created new", Some("secret of B")),
                ("schedules/create", "created plain", Some("hunter2")),
                ("schedules/update", "updated changed", Some("secret of A")),
                ("schedules/delete", "deleted gone", None),
            ]
        );
        let Err(error) = super::steps(&plan, |_| None) else {
            panic!("secrets out of nothing");
        };
        assert!(
            error
                .to_string()
                .contains("are not set: A, B; nothing was changed"),
            "{error}"
        );
    }
    #[test]
    fn what_nobody_knows_is_not_claimed() {
        let refused = |code: ErrorCode| CallError::Refused {
            route: "schedules/update".to_owned(),
            body: Box::new(ErrorBody {
                defined: false,
                code,
                status: code.status(),
                message: "the reason".to_owned(),
                data: None,
            }),
            retry_after: None,
        };
        let odd = CallError::NotTheApi {
            url: "http://h".to_owned(),
            status: reqwest::StatusCode::BAD_GATEWAY,
        };
        let (sure, unsure) = (
            (
                "n was not updated: ",
                "2 of 5 changes were made and are listed above, 3 were not",
            ),
            (
                "n may or may not have been updated: ",
                "2 of 5 changes were made and are listed above, 2 were not",
            ),
        );
        for (error, (start, counts)) in [
            (refused(ErrorCode::BadRequest), sure),
            (refused(ErrorCode::ServiceUnavailable), sure),
            (refused(ErrorCode::InternalServerError), unsure),
            (odd, unsure),
        ] {
            let text = stopped(&error, "updated n", 2, 5);
            assert!(text.starts_with(start) && text.contains(counts), "{text}");
            assert!(text.contains(&error.to_string()), "{text}");
        }
    }
}
