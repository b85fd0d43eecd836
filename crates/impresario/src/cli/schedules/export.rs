//! A file of what a server has.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{super::output::printable, fields::CALLBACK_URL, plan::Found, show, yaml};

/// The file, and what is to be said beside it.
pub(super) struct Export {
    pub(super) text: String,
    pub(super) remarks: Vec<String>,
}

/// Writes down every schedule that has a name, by name.
pub(super) fn export(found: &[Found]) -> Export {
    let mut named: Vec<(&str, &Found)> = found
        .iter()
        .filter_map(|found| Some((found.name.as_deref()?, found)))
        .collect();
    named.sort_by_key(|(name, _)| *name);
    let mut text = String::from("version: 1\nschedules:");
    text.push_str(if named.is_empty() { " []\n" } else { "\n" });
    let mut variables = HashSet::new();
    for (name, found) in named {
        let mut lines = String::new();
        for (key, value) in entries(name, found, &mut variables) {
            yaml::write_entry(&mut lines, 4, key, &value);
        }
        // The first entry stands behind the dash.
        text.push_str("  - ");
        text.push_str(lines.trim_start());
    }
    let mut remarks = Vec::new();
    if !variables.is_empty() {
        remarks.push(
            "the server does not tell its secrets: before this file makes a schedule anew, set the variables that it names \
             as callback_secret"
                .to_owned(),
        );
    }
    let nameless: Vec<String> = found
        .iter()
        .filter(|found| found.name.is_none())
        .map(|found| format!("  {} (workflow {})", found.id, printable(&found.workflow)))
        .collect();
    if !nameless.is_empty() {
        remarks.push(format!(
            "these have no name, so no file can manage them; `schedules/update` gives one:\n{}",
            nameless.join("\n")
        ));
    }
    Export { text, remarks }
}

fn entries(name: &str, found: &Found, variables: &mut HashSet<String>) -> Vec<(&'static str, Value)> {
    let mut entries = vec![("name", json!(name)), ("workflow", json!(found.workflow))];
    for (field, value) in show::beyond_defaults(&found.fields) {
        entries.push((field, value.clone()));
        if field == CALLBACK_URL.name {
            let variable = variable(name, variables);
            entries.push(("callback_secret", json!(format!("${{{variable}}}"))));
        }
    }
    // Never `true`: such a file would undo the pause that somebody makes later.
    if !found.enabled {
        entries.push(("enabled", json!(false)));
    }
    entries
}

/// The name of a variable for the secret of this schedule that no other has.
fn variable(name: &str, taken: &mut HashSet<String>) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    let base = format!("CALLBACK_SECRET_{}", name.chars().map(plain).collect::<String>());
    let mut variable = base.clone();
    let mut number = 2;
    while !taken.insert(variable.clone()) {
        variable = format!("{base}_{number}");
        number += 1;
    }
    variable
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            file,
            plan::{Options, plan},
        },
        *,
    };

    fn found(more: Value) -> Found {
        let mut answer = json!({"id": "1", "workflow": "w", "cron_expr": "0 2 * * *", "enabled": true});
        let Value::Object(more) = more else {
            panic!("not an object: {more}");
        };
        for (key, value) in more {
            answer[key] = value;
        }
        Found::of(&answer).unwrap()
    }

    #[test]
    fn only_what_is_not_the_default_is_written_and_true_never() {
        let export = export(&[
            found(
                json!({"name": "b: 2", "timeout_seconds": 900, "timezone": "Europe/Berlin", "enabled": false}),
            ),
            found(json!({"name": "a-1", "params": {"on": [1, {"x y": "*"}], "none": {}}})),
            found(json!({"id": "77", "name": null, "workflow": "other"})),
        ]);
        assert_eq!(
            export.text,
            "version: 1\nschedules:\n  - name: a-1\n    workflow: w\n    cron_expr: \"0 2 * * *\"\n    params:\n      \
             \"on\":\n        - 1\n        -\n          \"x y\": \"*\"\n      none: {}\n  - name: \"b: 2\"\n    workflow: w\n    \
             cron_expr: \"0 2 * * *\"\n    timezone: Europe/Berlin\n    enabled: false\n"
        );
        let [remark] = export.remarks.as_slice() else {
            panic!("{:?}", export.remarks);
        };
        assert!(remark.contains("77 (workflow other)"), "{remark}");
        assert_eq!(super::export(&[]).text, "version: 1\nschedules: []\n");
    }

    #[test]
    fn every_secret_has_a_variable_of_its_own() {
        let with = |name: &str| found(json!({"name": name, "callback_url": "http://r.example"}));
        let export = export(&[with("a-b"), with("a_b"), with("ä")]);
        for variable in [
            "${CALLBACK_SECRET_A_B}",
            "${CALLBACK_SECRET_A_B_2}",
            "${CALLBACK_SECRET__}",
        ] {
            let line = format!("callback_secret: \"{variable}\"\n");
            assert_eq!(export.text.matches(&line).count(), 1, "{}", export.text);
        }
        assert_eq!(export.remarks.len(), 1);
    }

    #[test]
    fn what_is_exported_is_what_there_is() {
        let all = json!({
            "name": "all", "timezone": "Europe/Berlin", "description": "a\nb", "tags": ["x", "7"],
            "params": {"a": 1, "b": 1.0, "c": null, "d": "02134", "e": [], "f": {"<": "~"}},
            "start_at": "2027-01-01T00:00:00.000Z", "end_at": "2028-01-01T00:00:00.000Z", "jitter_seconds": 3,
            "misfire_policy": "skip", "catchup_window_seconds": 7, "overlap_policy": "skip",
            "max_consecutive_failures": 3, "timeout_seconds": 60, "start_url": "about:blank", "gpu": false,
            "viewport": {"width": 1, "height": 2}, "residential_proxy": {"country": "US", "zip": "02134"},
            "disable_default_proxy": false, "skip_callbacks": true, "callback_url": "http://r.example/?a=b#c",
        });
        let found = [found(all), found(json!({"name": "off", "enabled": false}))];
        let text = export(&found).text;
        let file = file::read(&text).unwrap_or_else(|problems| panic!("{problems:?}\n{text}"));
        let plan = plan(&file.wanted, &found, Options::default());
        assert!(plan.is_empty() && plan.problems.is_empty(), "{plan:?}\n{text}");
        assert_eq!(plan.unchanged, 2);
    }
}
