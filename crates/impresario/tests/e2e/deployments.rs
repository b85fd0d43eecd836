//! From an archive to workflows that can run, and what is said of archives that are none.

use serde_json::{Value, json};

use crate::support::{BRAND, Bundle, Client, PATIENCE, Server, Setup, keys, wait_for, workflow};

fn start() -> (Server, Client) {
    let server = Setup::at("2027-01-01T00:00:30Z").start();
    let client = server.tenant("acme");
    (server, client)
}

/// Why a bundle could not be built.
#[track_caller]
fn build_error(client: &Client, bundle: &Bundle) -> String {
    let deployment = client.build(bundle);
    assert_eq!(deployment["status"], "failed", "{deployment}");
    let unset = [
        "bundle_path",
        "built_at",
        "workflows",
        "schedules_with_invalid_params",
        "schedules_with_invalid_params_total",
    ]
    .map(|key| deployment.get(key));
    assert_eq!(unset, [Some(&json!(null)); 5], "{deployment}");
    deployment["build_error"].as_str().unwrap().to_owned()
}

#[test]
fn what_is_no_archive_is_refused_with_the_field() {
    let (_server, client) = start();
    for source in ["%%%", "bm90IGd6aXA=", ""] {
        assert_eq!(
            client.issues("deployments/create", json!({"source": source})),
            ["source"],
            "{source}"
        );
    }
    let source = Bundle::with("w", "").packed();
    for entry in ["", "../index.js", "/index.js", "a//b.js", "a\\b.js"] {
        let input = json!({"source": source, "entry_point": entry});
        assert_eq!(
            client.issues("deployments/create", input),
            ["entry_point"],
            "{entry}"
        );
    }
    assert_eq!(
        client.issues("deployments/create", json!({"sourc": source})),
        ["", "source"]
    );
    assert_eq!(client.ok("deployments/list", json!({}))["deployments"], json!([]));
}

#[test]
fn a_bundle_that_cannot_be_built_fails_with_a_reason_and_leaves_nothing_outside() {
    let (server, client) = start();
    let good = || Bundle::with("w", "return 1;");
    let escaped = server.data_dir().join("escaped.js");
    for (bundle, part) in [
        (good().file("../../escaped.js", "x"), ".."),
        (good().file("./a/../../../escaped.js", "x"), ".."),
        (good().file(escaped.to_str().unwrap(), "x"), "escaped.js"),
        (good().link("./passwd", "/etc/passwd"), "passwd"),
        (Bundle::empty(), "empty"),
        (Bundle::of("export const nothing = 1;"), "no workflow"),
        (Bundle::of("export const a = {"), "loaded"),
        (Bundle::of("throw new Error('at the top');"), "at the top"),
        (
            Bundle::of("import 'not-installed-anywhere';"),
            "not-installed-anywhere",
        ),
        (Bundle::empty().file("./readme.md", "x"), "index.js"),
        (
            Bundle::of("export const a = workflow('w', () => 1); export const b = workflow('w', () => 2);"),
            "named \"w\"",
        ),
        (
            good().file("./.libretto-workflows.json", "{"),
            ".libretto-workflows.json",
        ),
    ] {
        let error = build_error(&client, &bundle);
        assert!(error.contains(part), "{part}: {error}");
    }
    for place in [server.data_dir(), server.data_dir().join("bundles")] {
        assert!(!place.join("escaped.js").exists());
    }
    // A gzip stream that is damaged behind its head.
    let mut packed = good().packed();
    packed.replace_range(40..60, "AAAAAAAAAAAAAAAAAAAA");
    let created = client.ok(
        "deployments/create",
        json!({"source": packed, "entry_point": "index.js"}),
    );
    let id = &created["deployment_id"];
    wait_for("the build to fail", PATIENCE, || {
        let deployment = client.ok("deployments/sync", json!({"id": id}));
        if deployment["status"] == "failed" {
            Ok(())
        } else {
            Err(deployment.to_string())
        }
    });
    assert_eq!(
        client.ok("workflows/list", json!({}))["deployed_workflows"],
        json!([])
    );
    client.deploy(&good());
}

#[test]
fn bundles_of_every_make_run() {
    let (_server, client) = start();
    let run = |name: &str| {
        let job = client.run(json!({"workflow": name, "params": {"n": 20}}));
        assert_eq!(job["status"], "completed", "{job}");
        job["result"].clone()
    };
    // By hand, without libretto, without a package.json, as CommonJS.
    let text =
        format!("{BRAND}module.exports = {{ workflows: {{ a: workflow('common', (c, i) => i.n + 1) }} }};");
    client.deploy(&Bundle::empty().file("./index.js", &text));
    assert_eq!(run("common"), 21);
    // With the libretto and the playwright that the server provides, and helpers of its own.
    client.deploy(
        &Bundle::empty()
            .file(
                "./package.json",
                r#"{"type":"module","dependencies":{"libretto":"*","playwright":"1"}}"#,
            )
            .directory("./lib/")
            .file("./lib/add.js", "export const add = (n) => n + 2;")
            .file(
                "./index.js",
                "import { workflow } from 'libretto'; import { chromium } from 'playwright';
                 import { add } from './lib/add.js';
                 export default workflow('provided', async (ctx, { n }) => add(n) + typeof chromium.launch);",
            ),
    );
    assert_eq!(run("provided"), "22function");
    // As the official client makes them: what there is stands beside the code, which is not loaded to find out.
    let told = json!([{"name": "told", "credentialNames": []}, {"name": "told-too", "credentialNames": []}]);
    let source = format!(
        "{}{}",
        workflow("told", "return input.n + 3;"),
        workflow("told-too", "return 4;")
    );
    let id = client.deploy(&Bundle::of(&source).manifest(&told));
    let deployment = client.ok("deployments/sync", json!({"id": id}));
    assert_eq!(deployment["workflows"], json!(["told", "told-too"]));
    assert_eq!(run("told"), 23);
}

#[test]
fn workflows_show_their_deployment_and_their_schemas() {
    let (server, client) = start();
    let schemas = "{ inputSchema: { type: 'object', properties: { n: { type: 'integer' } } },
                     outputSchema: { type: 'string' } }";
    let first = client.deploy(&Bundle::of(&format!(
        "export const w = workflow('w', () => 1, {schemas});"
    )));
    let shown = client.ok("workflows/get", json!({"workflow": "w"}));
    assert_eq!(
        keys(&shown),
        [
            "created_at",
            "deployment_built_at",
            "deployment_created_at",
            "deployment_id",
            "deployment_status",
            "input_schema",
            "output_schema",
            "updated_at",
            "workflow",
        ]
    );
    assert_eq!(
        (&shown["deployment_id"], &shown["deployment_status"]),
        (&json!(first), &json!("ready"))
    );
    assert_eq!(
        shown["input_schema"],
        json!({"type": "object", "properties": {"n": {"type": "integer"}}})
    );
    assert_eq!(shown["output_schema"], json!({"type": "string"}));
    assert_eq!(shown["created_at"], "2027-01-01T00:00:30.000Z");

    server.set_clock("2027-01-01T01:00:00Z");
    let second = client.deploy(&Bundle::with("w", ""));
    let shown = client.ok("workflows/get", json!({"workflow": "w"}));
    assert_eq!(
        (&shown["deployment_id"], &shown["input_schema"]),
        (&json!(second), &json!(null))
    );
    assert_eq!(shown["created_at"], "2027-01-01T00:00:30.000Z");
    assert_eq!(shown["updated_at"], "2027-01-01T01:00:00.000Z");

    let list = client.ok("deployments/list", json!({}));
    let ids: Vec<&Value> = list["deployments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["id"])
        .collect();
    assert_eq!(ids, [&json!(second), &json!(first)]);
    assert_eq!(
        keys(&list["deployments"][0]),
        [
            "build_error",
            "built_at",
            "bundle_path",
            "created_at",
            "description",
            "entry_point",
            "id",
            "schedules_with_invalid_params_total",
            "source_path",
            "status",
            "workflows",
        ]
    );
    let listed = client.ok("workflows/list", json!({}));
    assert_eq!(listed["in_progress_builds"], json!([]));
    assert_eq!(listed["deployed_workflows"].as_array().unwrap().len(), 1);
    let one = &listed["deployed_workflows"][0];
    assert_eq!(
        (&one["name"], &one["deployment_id"]),
        (&json!("w"), &json!(second))
    );
    assert_eq!(
        keys(one),
        [
            "created_at",
            "deployment_id",
            "deployment_status",
            "name",
            "updated_at"
        ]
    );

    let error = client.refused("workflows/get", json!({"workflow": "v"}), 404);
    assert!(error["message"].as_str().unwrap().contains("\"v\""), "{error}");
    client.ok("workflows/delete", json!({"workflow": "w"}));
    client.refused("workflows/delete", json!({"workflow": "w"}), 404);
    assert_eq!(
        client.ok("workflows/list", json!({}))["deployed_workflows"],
        json!([])
    );
}

#[test]
fn a_build_that_kill_9_interrupts_is_done_by_the_next_server() {
    let (mut server, client) = start();
    let input = json!({"source": Bundle::with("w", "return 1;").packed(), "entry_point": "./index.js"});
    let id = client.ok("deployments/create", input)["deployment_id"].clone();
    server.kill();
    server.start_again();
    wait_for("the build's end", PATIENCE, || {
        let deployment = client.ok("deployments/sync", json!({"id": id}));
        if deployment["status"] == "ready" {
            Ok(())
        } else {
            Err(deployment.to_string())
        }
    });
    assert_eq!(client.run(json!({"workflow": "w"}))["result"], 1);
}

#[test]
fn a_bundle_that_is_gone_from_the_disk_is_unpacked_again() {
    let (server, client) = start();
    client.deploy(&Bundle::with("w", "return 1;"));
    std::fs::remove_dir_all(server.data_dir().join("bundles")).unwrap();
    assert_eq!(client.run(json!({"workflow": "w"}))["result"], 1);
}
