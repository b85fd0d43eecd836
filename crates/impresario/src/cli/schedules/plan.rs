//! The difference: in come what a file wants and what a server has, out goes what would have to be done. Nothing here
//! asks anybody.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::{
    fields::{self, CALLBACK_URL},
    file::{SecretFrom, Wanted},
    yaml::Problem,
};

/// A schedule as the server has it.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) id: String,
    /// Without one it belongs to no file.
    pub(super) name: Option<String>,
    pub(super) workflow: String,
    pub(super) enabled: bool,
    /// Every field that can be changed, in its one spelling.
    pub(super) fields: Map<String, Value>,
}

impl Found {
    /// Reads a schedule of an answer; what a server does not tell has its default there.
    pub(super) fn of(answer: &Value) -> Option<Self> {
        let text = |key: &str| Some(answer[key].as_str()?.to_owned());
        let fields = fields::all().map(|field| {
            let value = match &answer[field.name] {
                Value::Null => fields::default_of(field.name),
                value => field.shape.canonical(value.clone()).unwrap_or(value.clone()),
            };
            (field.name.to_owned(), value)
        });
        Some(Self {
            id: text("id")?,
            name: text("name"),
            workflow: text("workflow")?,
            enabled: answer["enabled"].as_bool()?,
            fields: fields.collect(),
        })
    }
}

/// What was typed besides the file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Options {
    /// Delete what the file does not name.
    pub(super) prune: bool,
    /// Send every secret of the file anew.
    pub(super) set_secrets: bool,
}

/// What would have to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) creates: Vec<Create>,
    pub(super) updates: Vec<Update>,
    pub(super) deletes: Vec<Known>,
    pub(super) unchanged: usize,
    /// On the server, and not in the file.
    pub(super) left_alone: Vec<Known>,
    /// How many schedules of the server have no name.
    pub(super) nameless: usize,
    /// What cannot be done. Where there is one, nothing is.
    pub(super) problems: Vec<Problem>,
    /// What the server can be asked about before anything is done.
    pub(super) questions: Vec<Question>,
}

/// What a new schedule would run and when, or when an old one would fire from now on.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) workflow: Option<String>,
    pub(super) cron_expr: Value,
    pub(super) timezone: Value,
}

#[derive(Debug)]
pub(super) struct Create {
    pub(super) name: String,
    /// The input of `schedules/create` but for the secret.
    pub(super) input: Map<String, Value>,
    pub(super) secret: Option<SecretFrom>,
}

#[derive(Debug)]
pub(super) struct Update {
    pub(super) known: Known,
    pub(super) changes: Vec<Change>,
    /// A secret that is sent with them, or alone.
    pub(super) secret: Option<SecretFrom>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Change {
    pub(super) field: &'static str,
    pub(super) from: Value,
    pub(super) to: Value,
}

/// A schedule of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) name: String,
    pub(super) id: String,
}

impl Plan {
    /// Whether nothing would have to be done.
    pub(super) fn is_empty(&self) -> bool {
        self.creates.is_empty() && self.updates.is_empty() && self.deletes.is_empty()
    }
}

impl Update {
    /// The input of `schedules/update` but for a new secret: the fields that change and no others.
    pub(super) fn input(&self) -> Map<String, Value> {
        let mut input = Map::new();
        input.insert("id".to_owned(), json!(self.known.id));
        for change in &self.changes {
            input.insert(change.field.to_owned(), change.to.clone());
            if change.field == CALLBACK_URL.name && change.to.is_null() {
                // The two go together.
                input.insert("callback_secret".to_owned(), Value::Null);
            }
        }
        input
    }
}

/// Compares.
pub(super) fn plan(wanted: &[Wanted], found: &[Found], options: Options) -> Plan {
    let mut plan = Plan::default();
    let named: HashMap<&str, &Found> = found
        .iter()
        .filter_map(|found| Some((found.name.as_deref()?, found)))
        .collect();
    for wanted in wanted {
        match named.get(wanted.name.as_str()) {
            Some(found) => plan.compare(wanted, found, options),
            None => plan.create(wanted),
        }
    }
    let kept: HashSet<&str> = wanted.iter().map(|wanted| wanted.name.as_str()).collect();
    let mut others: Vec<Known> = named
        .iter()
        .filter(|(name, _)| !kept.contains(*name))
        .map(|(name, found)| known(name, found))
        .collect();
    others.sort_by(|one, other| one.name.cmp(&other.name));
    if options.prune {
        plan.deletes = others;
    } else {
        plan.left_alone = others;
    }
    plan.nameless = found.iter().filter(|found| found.name.is_none()).count();
    plan
}

fn known(name: &str, found: &Found) -> Known {
    Known {
        name: name.to_owned(),
        id: found.id.clone(),
    }
}

impl Plan {
    fn create(&mut self, wanted: &Wanted) {
        let mut input = Map::new();
        input.insert("name".to_owned(), json!(wanted.name));
        input.insert("workflow".to_owned(), json!(wanted.workflow));
        for field in fields::all() {
            let value = &wanted.fields[field.name];
            if *value != fields::default_of(field.name) {
                input.insert(field.name.to_owned(), value.clone());
            }
        }
        if let Some(enabled) = wanted.enabled {
            input.insert("enabled".to_owned(), json!(enabled));
        }
        if wanted.secret.is_none() && input.contains_key(CALLBACK_URL.name) {
            self.no_secret(wanted);
        }
        self.ask(wanted, true);
        self.creates.push(Create {
            name: wanted.name.clone(),
            input,
            secret: wanted.secret.clone(),
        });
    }

    fn compare(&mut self, wanted: &Wanted, found: &Found, options: Options) {
        if wanted.workflow != found.workflow {
            self.problems.push(Problem::new(
                wanted.line,
                format!(
                    "the schedule {:?} runs the workflow {:?} on the server, and that cannot be changed to {:?}: give the \
                     schedule in the file another name, or delete the one on the server first",
                    wanted.name, found.workflow, wanted.workflow
                ),
            ));
            return;
        }
        let mut changes: Vec<Change> = fields::all()
            .map(|field| (field.name, &found.fields[field.name], &wanted.fields[field.name]))
            .filter(|(_, from, to)| from != to)
            .map(|(field, from, to)| Change {
                field,
                from: from.clone(),
                to: to.clone(),
            })
            .collect();
        if let Some(enabled) = wanted.enabled.filter(|enabled| *enabled != found.enabled) {
            changes.push(Change {
                field: "enabled",
                from: json!(found.enabled),
                to: json!(enabled),
            });
        }
        let receiver = changes.iter().find(|change| change.field == CALLBACK_URL.name);
        if receiver.is_some_and(|change| change.from.is_null()) && wanted.secret.is_none() {
            self.no_secret(wanted);
        }
        let secret = wanted
            .secret
            .clone()
            .filter(|_| options.set_secrets || receiver.is_some());
        if changes.is_empty() && secret.is_none() {
            self.unchanged += 1;
            return;
        }
        if changes
            .iter()
            .any(|change| matches!(change.field, "cron_expr" | "timezone"))
        {
            self.ask(wanted, false);
        }
        self.updates.push(Update {
            known: known(&wanted.name, found),
            changes,
            secret,
        });
    }

    fn ask(&mut self, wanted: &Wanted, new: bool) {
        self.questions.push(Question {
            name: wanted.name.clone(),
            line: wanted.line,
            workflow: new.then(|| wanted.workflow.clone()),
            cron_expr: wanted.fields["cron_expr"].clone(),
            timezone: wanted.fields["timezone"].clone(),
        });
    }

    fn no_secret(&mut self, wanted: &Wanted) {
        self.problems.push(Problem::new(
            wanted.line,
            format!(
                "the schedule {:?} has no callback_secret, which its new callback_url needs; callback_secret: ${{NAME}} \
                 takes it from a variable",
                wanted.name
            ),
        ));
    }
}

#[cfg(test)]
mod tests;
