//! `schedules/list` and `schedules/history`: order, filters, and pages that stay right while rows are added.

use serde_json::{Value, json};

use crate::support::{Bundle, Client, Server, Setup, keys};

fn start() -> (Server, Client) {
    let server = Setup::at("2027-01-01T00:00:30Z").start();
    let client = server.tenant("acme");
    let source = format!(
        "{}{}",
        crate::support::workflow("a", "return 1;"),
        crate::support::workflow("b", "return 2;")
    );
    client.deploy(&Bundle::of(&source));
    (server, client)
}

fn create(client: &Client, workflow: &str, enabled: bool) -> Value {
    let input = json!({"workflow": workflow, "cron_expr": "@yearly", "enabled": enabled});
    client.schedule(input)["id"].clone()
}

/// One page: the ids, and where the next begins.
fn page(client: &Client, input: Value) -> (Vec<Value>, Value) {
    let answer = client.ok("schedules/list", input);
    assert_eq!(keys(&answer), ["next_cursor", "schedules"]);
    let ids = answer["schedules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].clone())
        .collect();
    (ids, answer["next_cursor"].clone())
}

#[test]
fn newest_first_and_filtered_by_workflow_and_enabled() {
    let (server, client) = start();
    assert_eq!(page(&client, json!({})), (vec![], json!(null)));
    let mut ids = Vec::new();
    for (second, (workflow, enabled)) in [("a", true), ("b", true), ("a", false), ("b", false)]
        .iter()
        .enumerate()
    {
        server.set_clock(&format!("2027-01-01T00:00:4{second}Z"));
        ids.insert(0, create(&client, workflow, *enabled));
    }
    let [b_off, a_off, b_on, a_on] = [0, 1, 2, 3].map(|index: usize| ids[index].clone());
    let list = |input: Value| page(&client, input).0;
    assert_eq!(list(json!({})), ids);
    assert_eq!(list(json!({"enabled": true})), [b_on, a_on.clone()]);
    assert_eq!(list(json!({"enabled": false})), [b_off, a_off.clone()]);
    assert_eq!(list(json!({"workflow": "a"})), [a_off.clone(), a_on]);
    assert_eq!(list(json!({"workflow": "a", "enabled": false})), [a_off]);
    assert_eq!(list(json!({"workflow": "c"})), Vec::<Value>::new());
}

#[test]
fn pages_give_each_row_once_while_others_are_added_and_removed() {
    let (server, client) = start();
    // All in one instant, where only the id tells them apart, and some later ones.
    let mut old: Vec<Value> = (0..7).map(|_| create(&client, "a", true)).collect();
    server.set_clock("2027-01-01T00:00:50Z");
    old.extend((0..4).map(|_| create(&client, "b", false)));
    let mut seen = Vec::new();
    let mut cursor = Value::Null;
    loop {
        let mut input = json!({"limit": 3});
        if !cursor.is_null() {
            input["cursor"] = cursor.clone();
        }
        let (ids, next) = page(&client, input);
        assert!(ids.len() <= 3);
        seen.extend(ids);
        cursor = next;
        if cursor.is_null() {
            break;
        }
        server.set_clock(&format!("2027-01-01T00:01:{:02}Z", seen.len()));
        create(&client, "a", true);
        // The row that the cursor stands on may go, too.
        client.ok("schedules/delete", json!({"id": seen.last().unwrap()}));
    }
    let sorted = |mut ids: Vec<Value>| {
        ids.sort_by_key(Value::to_string);
        ids
    };
    assert_eq!(sorted(seen), sorted(old));
}

#[test]
fn limits_cursors_and_filters_are_checked() {
    let (_server, client) = start();
    for _ in 0..51 {
        create(&client, "a", true);
    }
    let (ids, cursor) = page(&client, json!({}));
    assert!(ids.len() == 50 && cursor.is_string(), "50 where nothing is said");
    assert_eq!(page(&client, json!({"cursor": cursor})).0.len(), 1);
    assert_eq!(page(&client, json!({"limit": 200})).0.len(), 51);
    assert_eq!(page(&client, json!({"limit": 51})).1, json!(null));
    assert_eq!(page(&client, json!({"limit": 1})).0.len(), 1);
    for (field, bad) in [
        ("limit", json!(0)),
        ("limit", json!(201)),
        ("limit", json!(-1)),
        ("limit", json!(1.5)),
        ("limit", json!("10")),
        ("cursor", json!("not a cursor")),
        ("cursor", json!("")),
        ("cursor", json!(7)),
        ("enabled", json!("true")),
        ("workflow", json!(7)),
    ] {
        assert_eq!(
            client.issues("schedules/list", json!({field: bad})),
            [field],
            "{bad}"
        );
    }
    assert_eq!(
        client.issues("schedules/list", json!({"limt": 1, "limit": 0})),
        ["", "limit"]
    );
}

#[test]
fn the_ledger_is_paged_newest_first() {
    let (server, client) = start();
    let schedule = client.schedule(json!({"workflow": "a", "cron_expr": "* * * * *"}));
    let id = &schedule["id"];
    for minute in 1..=5 {
        server.set_clock(&format!("2027-01-01T00:0{minute}:00.250Z"));
        client.fired(id, &format!("2027-01-01T00:0{minute}:00.000Z"));
    }
    let mut minutes = Vec::new();
    let mut input = json!({"id": id, "limit": 2});
    loop {
        let answer = client.ok("schedules/history", input.clone());
        for fire in answer["fires"].as_array().unwrap() {
            assert_eq!(
                keys(fire),
                [
                    "due_at",
                    "error",
                    "fire_at",
                    "fired_at",
                    "job_id",
                    "job_status",
                    "missed",
                    "missed_until",
                    "outcome",
                    "reason"
                ]
            );
            let fire_at = fire["fire_at"].as_str().unwrap();
            assert_eq!(fire["fired_at"], fire_at.replace(".000Z", ".250Z"));
            minutes.push(fire_at[15..16].to_owned());
        }
        if answer["next_cursor"].is_null() {
            break;
        }
        input["cursor"] = answer["next_cursor"].clone();
    }
    assert_eq!(minutes, ["5", "4", "3", "2", "1"]);
    let bad = json!({"id": id, "limit": 0, "cursor": "x", "page": 2});
    assert_eq!(client.issues("schedules/history", bad), ["", "cursor", "limit"]);
}
