//! Params that no longer fit their workflow: found when a new version is deployed, and at the fire at the latest.

use serde_json::{Value, json};

use crate::support::{Bundle, Client, PATIENCE, Server, Setup, wait_for, wait_until, workflow};

/// What every version here takes, and what only the newer one asks for.
fn schema(city: bool) -> Value {
    let properties = json!({"n": {"type": "integer"}, "city": {"type": "string"}});
    let required = if city { json!(["city"]) } else { json!([]) };
    json!({"type": "object", "properties": properties, "required": required})
}

/// Workflows of these names that ask for a city, or do not.
fn version(names: &[&str], city: bool) -> Bundle {
    let source: String = names.iter().map(|name| workflow(name, "return input;")).collect();
    let told: Vec<_> = names
        .iter()
        .map(|name| json!({"name": name, "credentialNames": [], "inputSchema": schema(city)}))
        .collect();
    Bundle::of(&source).manifest(&json!(told))
}

const WRONG: &str = "params.city: is required";

fn start() -> (Server, Client) {
    let server = Setup::at("2027-01-01T00:00:30Z").start();
    let client = server.tenant("acme");
    client.deploy(&version(&["w", "v"], false));
    (server, client)
}

fn every_minute(client: &Client, workflow: &str, params: Value) -> Value {
    client.schedule(json!({"workflow": workflow, "cron_expr": "* * * * *", "params": params}))["id"].clone()
}

/// What `deployments/sync` says of the schedules: how many, and which with what error.
#[track_caller]
fn unfit(client: &Client, deployment: &str) -> (Value, Value) {
    let shown = client.ok("deployments/sync", json!({"id": deployment}));
    let listed = client.ok("deployments/list", json!({}))["deployments"].clone();
    let listed = listed
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["id"] == deployment);
    let total = &shown["schedules_with_invalid_params_total"];
    assert_eq!(&listed.unwrap()["schedules_with_invalid_params_total"], total);
    (total.clone(), shown["schedules_with_invalid_params"].clone())
}

/// The ids of the schedules whose params fit, or do not, newest first.
#[track_caller]
fn listed(client: &Client, params_valid: bool) -> Vec<Value> {
    let answer = client.ok("schedules/list", json!({"params_valid": params_valid}));
    let schedules = answer["schedules"].as_array().unwrap();
    schedules.iter().map(|one| one["id"].clone()).collect()
}

#[track_caller]
fn params_error(client: &Client, id: &Value) -> Value {
    client.get_schedule(id)["params_error"].clone()
}

#[test]
fn a_new_version_names_the_schedules_that_it_does_not_suit() {
    let (server, client) = start();
    let fits = every_minute(&client, "w", json!({"n": 1, "city": "Bern"}));
    server.set_clock("2027-01-01T00:00:31Z");
    let plain = every_minute(&client, "w", json!({"n": 1}));
    server.set_clock("2027-01-01T00:00:32Z");
    let disabled = client.schedule(json!({
        "workflow": "w", "cron_expr": "@daily", "params": {"n": 2}, "name": "nightly", "enabled": false,
    }))["id"]
        .clone();
    let elsewhere = every_minute(&client, "v", json!({}));
    server.set_clock("2027-01-01T00:00:33Z");
    let before = client.get_schedule(&plain);
    assert_eq!(before["params_error"], json!(null));

    // The name `v` stays with the older version, which suits its schedule.
    let strict = client.deploy(&version(&["w"], true));
    let shown = client.ok("deployments/sync", json!({"id": strict}));
    let named = [
        json!({"id": disabled, "name": "nightly", "workflow": "w", "error": WRONG}),
        json!({"id": plain, "name": null, "workflow": "w", "error": WRONG}),
    ];
    assert_eq!(shown["schedules_with_invalid_params"], json!(named));
    assert_eq!(unfit(&client, &strict), (json!(2), json!(named)));
    assert_eq!(listed(&client, false), [disabled.clone(), plain.clone()]);
    let mut valid = listed(&client, true);
    valid.sort_by_key(Value::to_string);
    let mut expected = [fits, elsewhere.clone()];
    expected.sort_by_key(Value::to_string);
    assert_eq!(valid, expected);
    let answer = client.ok("schedules/list", json!({"params_valid": false, "enabled": true}));
    assert_eq!(answer["schedules"].as_array().unwrap().len(), 1);
    let mut expected = before;
    expected["params_error"] = json!(WRONG);
    assert_eq!(client.get_schedule(&plain), expected, "nothing else has changed");

    // New params clear it, of one that is disabled too; a change of anything else does not.
    client.ok(
        "schedules/update",
        json!({"id": disabled, "params": {"city": "Chur"}}),
    );
    assert_eq!(params_error(&client, &disabled), json!(null));
    client.ok("schedules/update", json!({"id": plain, "name": "plain"}));
    assert_eq!(params_error(&client, &plain), WRONG);
    assert_eq!(unfit(&client, &strict).0, 1);

    // As does a version that they fit. The one before has no schedules any more that it could not suit.
    let lax = client.deploy(&version(&["w", "v"], false));
    assert_eq!(params_error(&client, &plain), json!(null));
    for deployment in [&lax, &strict] {
        assert_eq!(unfit(&client, deployment), (json!(0), json!([])));
    }
    assert_eq!(listed(&client, false), Vec::<Value>::new());
    let stricter = client.deploy(&version(&["w", "v"], true));
    assert_eq!(unfit(&client, &stricter).0, 2);
    // A version that says nothing of what it takes takes everything.
    let silent = client.deploy(&Bundle::with("w", "return 1;"));
    assert_eq!(unfit(&client, &silent), (json!(0), json!([])));
    assert_eq!(listed(&client, false), [elsewhere]);
    assert_eq!(unfit(&client, &stricter).0, 1);
    assert_eq!(
        client.issues("schedules/list", json!({"params_valid": 1})),
        ["params_valid"]
    );
}

#[test]
fn only_the_own_tenant_s_schedules_are_named_and_judged() {
    let (server, client) = start();
    let other = server.tenant("globex");
    other.deploy(&version(&["w"], false));
    let theirs = every_minute(&other, "w", json!({}));
    let own = every_minute(&client, "w", json!({}));
    let strict = client.deploy(&version(&["w"], true));
    let (total, named) = unfit(&client, &strict);
    assert_eq!((total, &named[0]["id"]), (json!(1), &own));
    assert_eq!(params_error(&other, &theirs), json!(null));
    other.refused("deployments/sync", json!({"id": strict}), 404);
    let theirs = other.ok("deployments/list", json!({}))["deployments"].clone();
    assert_eq!(theirs[0]["schedules_with_invalid_params_total"], 0);
}

#[test]
fn a_fire_whose_params_do_not_fit_is_rejected_until_they_do() {
    let (server, client) = start();
    let id = every_minute(&client, "w", json!({"n": 1}));
    client.deploy(&version(&["w"], true));
    for (minute, failures) in [(1, 1), (2, 2)] {
        let instant = format!("2027-01-01T00:0{minute}:00.000Z");
        server.set_clock(&instant);
        let row = client.fired(&id, &instant);
        let shown = ["outcome", "reason", "error", "job_id"].map(|key| row[key].clone());
        assert_eq!(
            shown,
            [
                json!("rejected"),
                json!("invalid_params"),
                json!(WRONG),
                json!(null)
            ]
        );
        let schedule = client.get_schedule(&id);
        let shown = ["last_error", "consecutive_failures", "last_job_id"].map(|key| schedule[key].clone());
        assert_eq!(shown, [json!(WRONG), json!(failures), json!(null)]);
    }
    assert_eq!(client.ok("jobs/list", json!({}))["jobs"], json!([]));
    let trigger = |params: Value| {
        let mut input = json!({"id": id});
        if !params.is_null() {
            input["params"] = params;
        }
        input
    };
    assert_eq!(
        client.issues("schedules/trigger", trigger(json!(null))),
        ["params.city"]
    );
    client.ok("schedules/trigger", trigger(json!({"city": "Bern"})));

    client.deploy(&version(&["w"], false));
    server.set_clock("2027-01-01T00:03:00Z");
    let row = client.fired(&id, "2027-01-01T00:03:00.000Z");
    assert_eq!(row["outcome"], "fired", "{row}");
    assert_eq!(client.job_ended(&row["job_id"])["result"], json!({"n": 1}));
    wait_until("the run's end to be noted", PATIENCE, || {
        client.get_schedule(&id)["consecutive_failures"] == 0
    });
}

#[test]
fn of_two_deployments_in_quick_succession_the_later_one_judges() {
    let (server, client) = start();
    let id = every_minute(&client, "w", json!({}));
    let begin = |city: bool| {
        let bundle = version(&["w"], city);
        let input = json!({"source": bundle.packed(), "entry_point": bundle.entry_point()});
        client.ok("deployments/create", input)["deployment_id"].clone()
    };
    let mut minute = 0;
    for (first, second) in [(false, true), (true, false)] {
        let ids = [begin(first), begin(second)];
        for deployment in &ids {
            wait_for("the build's end", PATIENCE, || {
                let shown = client.ok("deployments/sync", json!({"id": deployment}));
                match shown["status"].as_str() {
                    Some("ready") => Ok(()),
                    _ => Err(shown.to_string()),
                }
            });
        }
        let (error, total) = if second {
            (json!(WRONG), 1)
        } else {
            (json!(null), 0)
        };
        assert_eq!(params_error(&client, &id), error);
        let totals = ids.map(|id| unfit(&client, id.as_str().unwrap()).0);
        assert_eq!(totals, [json!(0), json!(total)]);
        minute += 1;
        let instant = format!("2027-01-01T00:0{minute}:00.000Z");
        server.set_clock(&instant);
        let expected = if second { "rejected" } else { "fired" };
        assert_eq!(client.fired(&id, &instant)["outcome"], expected);
    }
}

#[test]
fn a_workflow_that_is_deleted_and_deployed_again_is_checked_like_any_new_version() {
    let (server, client) = start();
    let id = every_minute(&client, "w", json!({"n": 1}));
    client.ok("workflows/delete", json!({"workflow": "w"}));
    server.set_clock("2027-01-01T00:01:00Z");
    let row = client.fired(&id, "2027-01-01T00:01:00.000Z");
    assert_eq!(
        (&row["outcome"], &row["reason"]),
        (&json!("rejected"), &json!("no_workflow"))
    );
    let strict = client.deploy(&version(&["w"], true));
    assert_eq!(unfit(&client, &strict).0, 1);
    server.set_clock("2027-01-01T00:02:00Z");
    let row = client.fired(&id, "2027-01-01T00:02:00.000Z");
    assert_eq!(
        (&row["outcome"], &row["reason"]),
        (&json!("rejected"), &json!("invalid_params"))
    );
    // What it does not suit stands for as long as the name is that version's.
    client.ok("workflows/delete", json!({"workflow": "w"}));
    assert_eq!(unfit(&client, &strict), (json!(0), json!([])));
}

#[test]
fn a_row_that_cannot_be_read_holds_up_no_deployment_and_no_other_verdict() {
    let (mut server, client) = start();
    let ids = [(); 3].map(|()| every_minute(&client, "w", json!({"n": 1})));
    server.kill();
    let sql = "UPDATE schedules SET params = '[1' WHERE id = ?1";
    assert_eq!(server.behind_its_back(sql, &[ids[1].as_str().unwrap()]), 1);
    server.start_again();
    let strict = client.deploy(&version(&["w"], true));
    let (total, named) = unfit(&client, &strict);
    let mut named: Vec<_> = named
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].clone())
        .collect();
    named.sort_by_key(Value::to_string);
    let mut expected = [ids[0].clone(), ids[2].clone()];
    expected.sort_by_key(Value::to_string);
    assert_eq!((total, &*named), (json!(2), &expected[..]));
}

#[test]
fn a_version_that_cannot_be_read_holds_up_no_fire() {
    const DUE: &str = "2027-01-01T00:01:00.000Z";
    let (mut server, client) = start();
    let broken = client.deploy(&version(&["w"], false));
    let id = every_minute(&client, "w", json!({"n": 1}));
    let other = server.tenant("globex");
    other.deploy(&version(&["w"], true));
    let theirs = every_minute(&other, "w", json!({"city": "Bern"}));
    server.kill();
    let sql = "UPDATE deployments SET workflows = '[{' WHERE id = ?1";
    assert_eq!(server.behind_its_back(sql, &[&broken]), 1);
    let sql = "UPDATE schedules SET params_checked = NULL";
    assert_eq!(server.behind_its_back(sql, &[]), 2);
    server.start_again();
    server.set_clock(DUE);
    assert_eq!(other.fired(&theirs, DUE)["outcome"], "fired");
    // Its own run says what is wrong with it.
    let row = client.fired(&id, DUE);
    assert_eq!(row["outcome"], "fired");
    assert_eq!(client.job_ended(&row["job_id"])["status"], "failed");
}

/// How many schedules have fired, of those whose params fit or do not.
fn fired(client: &Client, params_valid: bool) -> usize {
    let mut input = json!({"params_valid": params_valid, "limit": 200});
    let mut fired = 0;
    loop {
        let page = client.ok("schedules/list", input.clone());
        let schedules = page["schedules"].as_array().unwrap().iter();
        fired += schedules.filter(|one| !one["last_fire_at"].is_null()).count();
        if page["next_cursor"].is_null() {
            return fired;
        }
        input["cursor"] = page["next_cursor"].clone();
    }
}

#[test]
fn thousands_that_nobody_has_checked_are_checked_then_fire_and_hold_up_nobody() {
    const DUE: &str = "2027-01-01T00:01:00.000Z";
    let mut server = Setup::at("2027-01-01T00:00:30Z").job_slots(1).start();
    let client = server.tenant("acme");
    client.deploy(&version(&["w"], false));
    let bad = every_minute(&client, "w", json!({"n": 1}));
    client.deploy(&version(&["w"], true));
    let good = every_minute(&client, "w", json!({"city": "Bern"}));
    let other = server.tenant("globex");
    other.deploy(&version(&["w"], false));
    let theirs = every_minute(&other, "w", json!({}));
    server.kill();
    // As an older version leaves them: without a verdict.
    let sql = "UPDATE schedules SET params_checked = NULL, params_error = NULL WHERE id <> ?1";
    assert_eq!(server.behind_its_back(sql, &[theirs.as_str().unwrap()]), 2);
    let copies = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 999)
         INSERT INTO schedules (id, tenant_id, workflow, params, cron_expr, timezone, launch, skip_callbacks, enabled,
           pattern_since, next_fire_at, next_due_at, created_at, updated_at)
         SELECT substr(s.id, 1, 24) || substr(CAST(1000000000000 + n.i AS TEXT), 2), s.tenant_id, s.workflow, s.params, s.cron_expr, s.timezone,
           s.launch, s.skip_callbacks, s.enabled, s.pattern_since, s.next_fire_at, s.next_due_at, s.created_at,
           s.updated_at
         FROM schedules s, n WHERE s.id = ?1";
    for id in [&bad, &good] {
        assert_eq!(server.behind_its_back(copies, &[id.as_str().unwrap()]), 999);
    }
    server.start_again();
    server.set_clock(DUE);
    assert_eq!(other.fired(&theirs, DUE)["outcome"], "fired");
    wait_for("all to fire", PATIENCE, || {
        match (fired(&client, true), fired(&client, false)) {
            (1_000, 1_000) => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    });
    for (id, outcome) in [(&bad, "rejected"), (&good, "fired")] {
        assert_eq!(client.fired(id, DUE)["outcome"], outcome);
    }
}
