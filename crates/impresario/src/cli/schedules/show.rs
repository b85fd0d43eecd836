//! A plan for people, and one for programs.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{
    super::output::printable,
    fields,
    file::SecretFrom,
    plan::{Change, Known, Plan},
};

/// A value that is not there.
const NONE: &str = "(none)";

/// The plan as lines.
pub(super) fn text(plan: &Plan) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    for create in &plan.creates {
        let _ = writeln!(out, "+ create {}", printable(&create.name));
        for (field, value) in create.input.iter().filter(|(field, _)| *field != "name") {
            let _ = writeln!(out, "    {field}: {}", shown(value));
        }
        secret(&mut out, create.secret.as_ref());
    }
    for update in &plan.updates {
        let _ = writeln!(out, "~ update {}", printable(&update.known.name));
        for change in &update.changes {
            difference(&mut out, change.field, Some(&change.from), Some(&change.to));
        }
        secret(&mut out, update.secret.as_ref());
    }
    for known in &plan.deletes {
        let _ = writeln!(out, "- delete {}", printable(&known.name));
    }
    if plan.unchanged > 0 {
        let _ = writeln!(out, "= {} unchanged", plan.unchanged);
    }
    if !plan.left_alone.is_empty() {
        let names: Vec<String> = plan
            .left_alone
            .iter()
            .map(|known| printable(&known.name))
            .collect();
        let _ = writeln!(out, "not in the file, left alone: {}", names.join(", "));
    }
    if plan.nameless > 0 {
        let _ = writeln!(
            out,
            "without a name, so never touched by a file: {}",
            plan.nameless
        );
    }
    if plan.is_empty() {
        if plan.problems.is_empty() {
            let _ = writeln!(out, "Nothing to do.");
        }
    } else {
        let _ = writeln!(
            out,
            "{} to create, {} to update, {} to delete.",
            plan.creates.len(),
            plan.updates.len(),
            plan.deletes.len()
        );
    }
    out
}

fn secret(out: &mut String, secret: Option<&SecretFrom>) {
    let _ = match secret {
        None => Ok(()),
        Some(SecretFrom::Variable(name)) => writeln!(out, "    callback_secret: set from ${{{name}}}"),
        Some(SecretFrom::File(_)) => writeln!(out, "    callback_secret: set from the file"),
    };
}

/// A line for each part that differs: of two objects, those of their keys.
fn difference(out: &mut String, path: &str, from: Option<&Value>, to: Option<&Value>) {
    if from == to {
        return;
    }
    if let (Some(Value::Object(before)), Some(Value::Object(after))) = (from, to) {
        let new = after.keys().filter(|key| !before.contains_key(*key));
        for key in before.keys().chain(new) {
            difference(
                out,
                &format!("{path}.{}", printable(key)),
                before.get(key),
                after.get(key),
            );
        }
        return;
    }
    let side = |value: Option<&Value>| value.map_or_else(|| NONE.to_owned(), shown);
    // A field that is not set is `null` and nothing else; within params `null` is a value.
    let field = |value: Option<&Value>| match value {
        Some(Value::Null) if !path.contains('.') => NONE.to_owned(),
        value => side(value),
    };
    let _ = writeln!(out, "    {path}: {} → {}", field(from), field(to));
}

fn shown(value: &Value) -> String {
    printable(&value.to_string())
}

/// The plan for programs.
pub(super) fn json(plan: &Plan) -> Value {
    let known = |known: &Known| json!({"name": known.name, "id": known.id});
    let change = |change: &Change| json!({"field": change.field, "from": change.from, "to": change.to});
    let creates = plan.creates.iter().map(|create| {
        json!({
            "name": create.name,
            "input": create.input,
            "sets_callback_secret": create.secret.is_some(),
        })
    });
    let updates = plan.updates.iter().map(|update| {
        json!({
            "name": update.known.name,
            "id": update.known.id,
            "changes": update.changes.iter().map(change).collect::<Vec<_>>(),
            "sets_callback_secret": update.secret.is_some(),
        })
    });
    let problems = plan
        .problems
        .iter()
        .map(|problem| json!({"line": problem.line, "message": problem.text}));
    json!({
        "create": creates.collect::<Vec<_>>(),
        "update": updates.collect::<Vec<_>>(),
        "delete": plan.deletes.iter().map(known).collect::<Vec<_>>(),
        "unchanged": plan.unchanged,
        "left_alone": plan.left_alone.iter().map(known).collect::<Vec<_>>(),
        "without_name": plan.nameless,
        "problems": problems.collect::<Vec<_>>(),
    })
}

/// The fields of a schedule that are worth a line in a file.
pub(super) fn beyond_defaults(values: &Map<String, Value>) -> impl Iterator<Item = (&'static str, &Value)> {
    fields::all().filter_map(|field| {
        let value = values.get(field.name)?;
        (*value != fields::default_of(field.name)).then_some((field.name, value))
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::plan::{Create, Update},
        *,
    };

    fn update(changes: &[(&'static str, Value, Value)], secret: Option<SecretFrom>) -> Plan {
        let changes = changes.iter().cloned();
        let changes = changes.map(|(field, from, to)| Change { field, from, to });
        let known = Known {
            name: "a".to_owned(),
            id: "1".to_owned(),
        };
        Plan {
            updates: vec![Update {
                known,
                changes: changes.collect(),
                secret,
            }],
            ..Plan::default()
        }
    }

    #[test]
    fn a_change_is_shown_where_it_is() {
        let plan = update(
            &[
                ("cron_expr", json!("@daily"), json!("@hourly")),
                (
                    "params",
                    json!({"same": 1, "old": 1, "deep": {"a": [1]}, "n": 1}),
                    json!({"same": 1, "new": "x", "deep": {"a": [1, 2]}, "n": null}),
                ),
                ("gpu", json!(null), json!(true)),
                ("end_at", json!("2027-01-01T00:00:00.000Z"), json!(null)),
            ],
            None,
        );
        assert_eq!(
            text(&plan),
            "~ update a\n    cron_expr: \"@daily\" → \"@hourly\"\n    params.old: 1 → (none)\n    \
             params.deep.a: [1] → [1,2]\n    params.n: 1 → null\n    params.new: (none) → \"x\"\n    \
             gpu: (none) → true\n    end_at: \"2027-01-01T00:00:00.000Z\" → (none)\n\
             0 to create, 1 to update, 0 to delete.\n"
        );
    }

    #[test]
    fn a_secret_is_shown_nowhere() {
        for (secret, shown) in [
            (SecretFrom::File("hunter2".into()), "set from the file"),
            (SecretFrom::Variable("A".to_owned()), "set from ${A}"),
        ] {
            let mut plan = update(&[], Some(secret.clone()));
            plan.creates.push(Create {
                name: "b".to_owned(),
                input: Map::new(),
                secret: Some(secret),
            });
            let (text, json) = (text(&plan), json(&plan));
            assert_eq!(text.matches(shown).count(), 2, "{text}");
            assert_eq!(json["update"][0]["sets_callback_secret"], true, "{json}");
            assert_eq!(json["create"][0]["sets_callback_secret"], true, "{json}");
            assert!(!format!("{text}{json}{plan:?}").contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn nothing_that_is_shown_moves_the_cursor() {
        let nasty = "\u{1b}[2J\u{9b}2J\u{202e}\r";
        let plan = update(
            &[("params", json!({nasty: nasty}), json!({nasty: {nasty: 1}}))],
            None,
        );
        let text = text(&plan);
        assert!(
            text.contains("2J") && !text.chars().any(|c| nasty.contains(c) && !c.is_ascii_graphic()),
            "{text:?}"
        );
    }

    #[test]
    fn what_is_left_alone_is_said() {
        let known = |name: &str| Known {
            name: name.to_owned(),
            id: "1".to_owned(),
        };
        let plan = Plan {
            unchanged: 2,
            left_alone: vec![known("b"), known("c")],
            nameless: 4,
            ..Plan::default()
        };
        assert_eq!(
            text(&plan),
            "= 2 unchanged\nnot in the file, left alone: b, c\nwithout a name, so never touched by a file: 4\n\
             Nothing to do.\n"
        );
        assert_eq!(text(&Plan::default()), "Nothing to do.\n");
    }
}
