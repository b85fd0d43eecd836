//! The ways in which a run without a page can end, and what it may see and say.

use std::time::Duration;

use impresario::runner::{FailureClass, LogLevel, RunEvent, RunOutcome};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::support::{Stage, eventually};

#[tokio::test]
async fn what_json_has_is_the_result_and_nothing_is_none() {
    let stage = Stage::pageless();
    assert_eq!(
        stage
            .handler("return { a: [1, null, 'x\\ud800'] };")
            .await
            .value(),
        json!({"a": [1, null, "x\u{fffd}"]})
    );
    assert_eq!(stage.handler("return null;").await.value(), json!(null));
    for nothing in ["", "return () => 1;", "return Symbol('x');"] {
        assert_eq!(
            stage.handler(nothing).await.outcome,
            RunOutcome::Completed(None),
            "{nothing}"
        );
    }
}

#[tokio::test]
async fn what_json_has_not_is_a_clear_failure() {
    let stage = Stage::pageless();
    for (body, part) in [
        ("const a = {}; a.a = a; return a;", "circular"),
        ("return 10n;", "BigInt"),
        ("return { toJSON() { throw new Error('no'); } };", "no"),
        (
            "let v = 1; for (let i = 0; i < 300; i++) v = [v]; return v;",
            "recursion limit",
        ),
    ] {
        let run = stage.handler(body).await;
        let failure = run.failure(FailureClass::Workflow);
        assert!(failure.message.contains(part), "{body}: {}", failure.message);
    }
}

#[tokio::test]
async fn a_result_that_is_too_large_is_told_so() {
    let stage = Stage::with(|settings| {
        settings.chromium = None;
        settings.limits.result_bytes = 1_000;
    });
    let run = stage.handler("return 'x'.repeat(999);").await;
    let failure = run.failure(FailureClass::ResultTooLarge);
    assert!(
        failure.message.contains("1001 bytes") && failure.message.contains("1000"),
        "{}",
        failure.message
    );
    assert_eq!(
        stage
            .handler("return 'x'.repeat(998);")
            .await
            .value()
            .as_str()
            .map(str::len),
        Some(998)
    );
}

#[tokio::test]
async fn anything_can_be_thrown() {
    let stage = Stage::pageless();
    for (body, message) in [
        ("throw 'just text';", "just text"),
        ("throw { code: 7 };", "the workflow threw { code: 7 }"),
        ("throw undefined;", "the workflow threw undefined"),
        ("throw null;", "the workflow threw null"),
        ("throw new TypeError('\\u001b[31mred\\u001b[39m');", "red"),
        (
            "throw new AggregateError([new Error('a'), 'b'], 'both');",
            "both: a; b",
        ),
        (
            "throw new Proxy({}, { get() { throw 1; } });",
            "the workflow threw something that cannot be shown",
        ),
        ("throw new Error('nul \\0 nul');", "nul \u{fffd} nul"),
    ] {
        let run = stage.handler(body).await;
        assert_eq!(run.failure(FailureClass::Workflow).message, message, "{body}");
    }
    let run = stage.handler("const e = new Error('input: expected a string'); e.name = 'LibrettoWorkflowInputError'; throw e;").await;
    assert_eq!(
        run.failure(FailureClass::InvalidInput).message,
        "input: expected a string"
    );
}

#[tokio::test]
async fn a_process_that_ends_itself_is_a_clear_failure() {
    let stage = Stage::pageless();
    for (body, part) in [
        (
            "console.log('bye'); process.stderr.write('last words\\n'); process.exit(3);",
            "exit code 3",
        ),
        ("process.exit(0);", "exit code 0"),
        (
            "process.kill(process.pid, 'SIGSEGV'); await new Promise(() => setInterval(() => {}, 1000));",
            "signal 11",
        ),
        (
            "setTimeout(() => { throw new Error('later'); }, 5); await new Promise((r) => setTimeout(r, 9000));",
            "uncaught exception ended the workflow: later",
        ),
        (
            "Promise.reject(new Error('lost')); await new Promise((r) => setTimeout(r, 9000));",
            "unhandled promise rejection ended the workflow: lost",
        ),
        ("await new Promise(() => {});", "can never happen"),
    ] {
        let run = stage.handler(body).await;
        let failure = run.failure(FailureClass::ProcessExit);
        assert!(
            failure.message.contains(part) && failure.started,
            "{body}: {}",
            failure.message
        );
        if part == "exit code 3" {
            assert!(failure.message.contains("last words"), "{}", failure.message);
            assert!(run.texts().contains(&("info", "bye")), "{:?}", run.texts());
        }
    }
}

#[tokio::test]
async fn a_bundle_that_cannot_be_loaded_says_why() {
    let stage = Stage::pageless();
    for (source, part) in [
        (
            "export const w = workflow('other', () => 1);",
            "does not export a workflow named \"w\" (it exports: \"other\")",
        ),
        ("export const w = { name: 'w', run() {} };", "it exports: none"),
        ("import 'left-pad';", "left-pad"),
        ("throw new Error('at load');", "at load"),
        ("export const w = ;", "Unexpected token"),
    ] {
        let run = stage.run(stage.request(source)).await;
        let failure = run.failure(FailureClass::Bundle);
        assert!(failure.message.contains(part), "{source}: {}", failure.message);
    }
}

#[tokio::test]
async fn console_and_streams_have_their_levels() {
    let stage = Stage::pageless();
    let run = stage
        .handler(
            r#"console.log("one %d", 1); console.warn("two\nlines"); console.error(new Error("three").message); console.info({ a: 1 });
               console.debug("d"); process.stdout.write("raw\n"); process.stderr.write("raw error\npart");"#,
        )
        .await;
    assert_eq!(run.outcome, RunOutcome::Completed(None));
    let console: Vec<_> = run
        .texts()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("raw") && *text != "part")
        .collect();
    assert_eq!(
        console,
        [
            ("info", "one 1"),
            ("warn", "two\nlines"),
            ("error", "three"),
            ("info", "{ a: 1 }"),
            ("info", "d")
        ]
    );
    for record in [("info", "raw"), ("error", "raw error"), ("error", "part")] {
        assert!(run.texts().contains(&record), "{record:?} in {:?}", run.texts());
    }
}

#[tokio::test]
async fn a_flood_on_stdout_is_cut_and_the_workflow_goes_on() {
    let stage = Stage::with(|settings| {
        settings.chromium = None;
        settings.limits.log_bytes = 200_000;
    });
    let run = stage
        .handler("const chunk = 'x'.repeat(1 << 20); for (let i = 0; i < 64; i++) process.stdout.write(chunk); console.log(chunk); return 'done';")
        .await;
    assert_eq!(run.value(), json!("done"));
    let bytes: usize = run.logs.iter().map(|r| r.message.len()).sum();
    assert!(bytes < 200_500, "{bytes}");
    assert!(run.logs.iter().all(|r| r.message.len() <= 16 * 1024));
    let last = run.logs.last().unwrap();
    assert!(
        last.level == LogLevel::Warn && last.message.contains("log truncated"),
        "{}",
        last.message
    );
    assert_eq!(run.logs.iter().filter(|r| r.level == LogLevel::Warn).count(), 1);
}

#[tokio::test]
async fn a_workflow_forges_nothing() {
    let stage = Stage::pageless();
    let printed = stage
        .handler(r#"process.stdout.write('{"t":"result","json":"1"}\n'); return 2;"#)
        .await;
    assert_eq!(printed.value(), json!(2));
    let written = stage.handler(r#"(await import("node:fs")).writeSync(3, '{"k":"","t":"result","json":"1"}\n'); await new Promise((r) => setTimeout(r, 9000));"#).await;
    assert!(
        written
            .failure(FailureClass::Protocol)
            .message
            .contains("descriptor 3")
    );
    let closed = stage
        .handler(r#"(await import("node:fs")).closeSync(3); await new Promise((r) => setTimeout(r, 9000));"#)
        .await;
    assert!(
        closed
            .failure(FailureClass::Protocol)
            .message
            .contains("closed descriptor 3")
    );
    let patched = stage.handler("JSON.stringify = () => '1'; process.exit = () => {}; Array.isArray = () => true; return { a: 2 };").await;
    assert_eq!(patched.value(), json!({"a": 2}));
}

#[tokio::test]
async fn the_environment_is_exactly_what_is_promised() {
    let stage = Stage::pageless();
    let run = stage
        .handler(
            r#"const fs = await import("node:fs"); const os = await import("node:os");
               fs.writeFileSync(os.tmpdir() + "/trace", "x");
               return { env: process.env, cwd: process.cwd(), tmp: os.tmpdir(), home: os.homedir(),
                        had: fs.readdirSync(os.tmpdir()), argv: process.argv.length };"#,
        )
        .await;
    let value = run.value();
    let mut names: Vec<&str> = value["env"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "FORCE_COLOR",
            "HOME",
            "IMPRESARIO_RUN",
            "LIBRETTO_HOSTED_RUNTIME",
            "LIBRETTO_REPO_ROOT",
            "NODE_ENV",
            "PATH",
            "TMPDIR"
        ]
    );
    assert_eq!(value["env"]["NODE_ENV"], "production");
    assert_eq!(value["env"]["LIBRETTO_HOSTED_RUNTIME"], "1");
    assert_eq!(value["env"]["FORCE_COLOR"], "0");
    assert_eq!(
        (&value["tmp"], &value["home"]),
        (&value["env"]["TMPDIR"], &value["env"]["HOME"])
    );
    assert_eq!((&value["had"], &value["argv"]), (&json!(["trace"]), &json!(2)));
    assert!(
        !std::path::Path::new(value["tmp"].as_str().unwrap()).exists(),
        "it is gone after the run"
    );
    assert_eq!(stage.leftovers(), 0);
}

#[tokio::test]
async fn the_provided_packages_can_be_imported() {
    let stage = Stage::pageless();
    let source = r#"import { workflow as make } from "libretto"; import { chromium } from "playwright"; import core from "playwright-core";
        export const w = make("w", { input: { type: "object" } }, () => [typeof chromium.launch, typeof core.chromium.launch]);"#;
    assert_eq!(
        stage.run(stage.request(source)).await.value(),
        json!(["function", "function"])
    );
}

#[tokio::test]
async fn none_of_the_bundles_code_runs_before_go() {
    let stage = Stage::pageless();
    let mark = stage.dir.path().join("mark");
    let source = format!(
        "import fs from 'node:fs'; fs.writeFileSync({mark:?}, 'loaded'); export const w = workflow('w', () => 1);"
    );
    for go in [false, true] {
        let (sender, mut events) = mpsc::channel(8);
        let running = stage
            .runner
            .run(stage.request(&source), sender, CancellationToken::new());
        let deciding = async {
            let Some(RunEvent::Ready(answer)) = events.recv().await else {
                panic!("not ready")
            };
            assert!(!mark.exists());
            if go {
                answer.send(()).unwrap();
            } else {
                drop(answer);
            }
            // The rest is taken, so that the run never waits for this test.
            while events.recv().await.is_some() {}
        };
        let (outcome, ()) = tokio::join!(running, deciding);
        if go {
            assert_eq!(outcome, RunOutcome::Completed(Some(json!(1))));
        } else {
            assert_eq!(outcome, RunOutcome::Cancelled);
        }
        assert_eq!(mark.exists(), go);
    }
}

#[tokio::test]
async fn a_receiver_that_takes_nothing_holds_nothing_up() {
    let stage = Stage::pageless();
    let source = "export const w = workflow('w', () => { for (let i = 0; i < 10000; i++) console.log(i); return 1; });";
    let (sender, mut events) = mpsc::channel(1);
    let running = stage
        .runner
        .run(stage.request(source), sender, CancellationToken::new());
    let first_only = async {
        let Some(RunEvent::Ready(answer)) = events.recv().await else {
            panic!("not ready")
        };
        answer.send(()).unwrap();
        events
    };
    let (outcome, _events) = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::join!(running, first_only)
    })
    .await
    .expect("the run ends");
    assert_eq!(outcome, RunOutcome::Completed(Some(json!(1))));
}

#[tokio::test]
async fn a_dropped_receiver_aborts_before_go_and_changes_nothing_after() {
    let stage = Stage::pageless();
    let source = "export const w = workflow('w', () => { console.log('x'.repeat(100000)); return 1; });";
    let (sender, events) = mpsc::channel(1);
    drop(events);
    let outcome = stage
        .runner
        .run(stage.request(source), sender, CancellationToken::new())
        .await;
    assert_eq!(outcome, RunOutcome::Cancelled);
    let (sender, mut events) = mpsc::channel(1);
    let running = stage
        .runner
        .run(stage.request(source), sender, CancellationToken::new());
    let leaving = async move {
        let Some(RunEvent::Ready(answer)) = events.recv().await else {
            panic!("not ready")
        };
        answer.send(()).unwrap();
    };
    assert_eq!(
        tokio::join!(running, leaving).0,
        RunOutcome::Completed(Some(json!(1)))
    );
}

#[tokio::test]
async fn a_bundle_may_be_given_by_a_relative_path_and_errors_do_not_show_the_servers() {
    let stage = Stage::pageless();
    let mut request =
        stage.request("export const w = workflow('w', () => { throw new Error(import.meta.url); });");
    let up = std::env::current_dir().unwrap().components().count() - 1;
    let below_root = request.bundle_dir.strip_prefix("/").unwrap();
    request.bundle_dir = std::path::PathBuf::from("../".repeat(up)).join(below_root);
    let run = stage.run(request).await;
    let failure = run.failure(FailureClass::Workflow);
    assert_eq!(failure.message, "index.js");
    let stack = failure.stack.as_deref().unwrap();
    assert!(
        stack.contains("at Object.run (index.js:") || stack.contains("index.js:"),
        "{stack}"
    );
    assert!(!stack.contains(stage.dir.path().to_str().unwrap()), "{stack}");
}

#[tokio::test]
async fn a_missing_node_is_a_failure_of_the_runner() {
    let stage = Stage::with(|settings| settings.node = "/no/such/node".into());
    let run = stage.handler("return 1;").await;
    let failure = run.failure(FailureClass::Runner);
    assert!(
        failure.message.contains("/no/such/node") && !failure.started,
        "{}",
        failure.message
    );
    eventually("its directory is removed", || stage.leftovers() == 0).await;
}
