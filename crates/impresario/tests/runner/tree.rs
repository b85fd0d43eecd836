//! Ending all the processes of a run.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::time::{Duration, Instant};

use impresario::runner::{FailureClass, RunEvent, RunOutcome};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::support::{Run, Stage, alive, eventually};

/// Starts what is hardest to end: a grandchild in a session of its own, whose parent is gone, that ignores SIGTERM. It
/// prints `pid <n>` once it does.
const GRANDCHILD: &str = r#"
    const { spawn } = await import("node:child_process");
    const { once } = await import("node:events");
    const deaf = "trap '' TERM HUP INT; echo pid $$; while :; do sleep 1; done";
    const child = spawn("setsid", ["sh", "-c", `setsid sh -c "${deaf.replaceAll("$", "\\$")}" &`],
        { stdio: ["ignore", "inherit", "inherit"], detached: true });
    await once(child, "exit");
"#;

fn pid(run: &Run) -> i64 {
    let said = run
        .texts()
        .into_iter()
        .find_map(|(_, text)| text.strip_prefix("pid ").map(str::to_owned));
    said.unwrap_or_else(|| panic!("it did not start: {:?} {:?}", run.outcome, run.texts()))
        .parse()
        .unwrap()
}

#[tokio::test]
async fn a_time_limit_ends_a_deaf_detached_grandchild_too() {
    let stage = Stage::pageless();
    let mut request = stage.request(&format!(
        "export const w = workflow('w', async () => {{ process.on('SIGTERM', () => {{}}); {GRANDCHILD} for (;;) {{}} }});"
    ));
    request.timeout = Duration::from_secs(3);
    let begin = Instant::now();
    let run = stage.run(request).await;
    let failure = run.failure(FailureClass::Timeout);
    assert_eq!(failure.message, "the workflow did not end within 3 s");
    assert!(
        begin.elapsed() < Duration::from_secs(3 + 5),
        "{:?}",
        begin.elapsed()
    );
    assert!(!alive(pid(&run)));
    assert_eq!(stage.leftovers(), 0);
}

#[tokio::test]
async fn a_normal_end_leaves_no_grandchild_either() {
    let stage = Stage::pageless();
    let run = stage
        .handler(&format!(
            "{GRANDCHILD} await new Promise((r) => setTimeout(r, 500)); return 1;"
        ))
        .await;
    assert_eq!(run.value(), json!(1));
    assert!(!alive(pid(&run)));
}

#[tokio::test]
async fn a_child_without_the_marker_is_found_by_its_descent_and_remembered() {
    let stage = Stage::pageless();
    // `detached` is a session of its own. Its parent ends when asked, so at the second look nothing but memory says whose
    // it was.
    let body = r#"
        const { spawn } = await import("node:child_process");
        const deaf = "trap '' TERM HUP INT; echo pid $$; while :; do sleep 1; done";
        spawn("env", ["-i", "/bin/sh", "-c", deaf], { stdio: ["ignore", "inherit", "inherit"], detached: true });
        await new Promise((r) => setTimeout(r, 60000));
    "#;
    let request = stage.request(&format!(
        "export const w = workflow('w', async () => {{ {body} }});"
    ));
    let run = stage
        .run_until(request, |record| record.message.starts_with("pid "))
        .await;
    assert_eq!(run.outcome, RunOutcome::Cancelled);
    assert!(
        run.took_to_stop.unwrap() < Duration::from_secs(5),
        "{:?}",
        run.took_to_stop
    );
    assert!(!alive(pid(&run)));
}

#[tokio::test]
async fn a_cancel_ends_the_browser_and_all_within_five_seconds() {
    let stage = Stage::new();
    let request = stage.request(&format!(
        "export const w = workflow('w', async () => {{ {GRANDCHILD} await new Promise((r) => setTimeout(r, 60000)); }});"
    ));
    let run = stage
        .run_until(request, |record| record.message.starts_with("pid "))
        .await;
    assert_eq!(run.outcome, RunOutcome::Cancelled);
    assert!(
        run.took_to_stop.unwrap() < Duration::from_secs(5),
        "{:?}",
        run.took_to_stop
    );
    assert!(!alive(pid(&run)));
    assert_eq!(marked(&stage), 0);
}

#[tokio::test]
async fn a_cancel_before_ready_ends_it_too() {
    let stage = Stage::new();
    let (sender, mut events) = mpsc::channel(8);
    let cancel = CancellationToken::new();
    let running = stage.runner.run(
        stage.request("export const w = workflow('w', () => 1);"),
        sender,
        cancel.clone(),
    );
    let cancelling = async {
        eventually("a process of the run is there", || marked(&stage) > 0).await;
        cancel.cancel();
        while events.recv().await.is_some() {}
    };
    let (outcome, ()) = tokio::join!(running, cancelling);
    assert_eq!(outcome, RunOutcome::Cancelled);
    assert_eq!(marked(&stage), 0);
}

#[tokio::test]
async fn a_time_limit_with_a_page_leaves_a_screenshot() {
    let stage = Stage::new();
    let shot = stage.dir.path().join("shot.png");
    let mut request = stage.request(
        "export const w = workflow('w', async ({ page }) => { await page.setContent('<h1>slow</h1>'); await page.click('#no', { timeout: 0 }); });",
    );
    request.timeout = Duration::from_secs(2);
    request.screenshot = Some(shot.clone());
    let run = stage.run(request).await;
    run.failure(FailureClass::Timeout);
    assert!(std::fs::read(shot).unwrap().starts_with(b"\x89PNG"));
    assert_eq!(marked(&stage), 0);
}

#[tokio::test]
async fn a_fork_bomb_is_ended() {
    let stage = Stage::pageless();
    // Each shell starts two of a bounded number and goes away: a moving target, but not one that harms this machine.
    let bomb = r#"
        const { spawn } = await import("node:child_process");
        const script = 'f() { [ "$1" -gt 0 ] && { f $(($1 - 1)) & f $(($1 - 1)) & }; sleep 60; }; f 5; wait';
        spawn("sh", ["-c", script], { stdio: "ignore", detached: true });
        await new Promise((r) => setTimeout(r, 300)); console.log("lit");
        await new Promise((r) => setTimeout(r, 60000));
    "#;
    let request = stage.request(&format!(
        "export const w = workflow('w', async () => {{ {bomb} }});"
    ));
    let run = stage.run_until(request, |record| record.message == "lit").await;
    assert_eq!(run.outcome, RunOutcome::Cancelled);
    assert!(
        run.took_to_stop.unwrap() < Duration::from_secs(5),
        "{:?}",
        run.took_to_stop
    );
    assert_eq!(marked(&stage), 0);
}

#[tokio::test]
async fn a_run_that_is_dropped_leaves_nothing() {
    let stage = Stage::pageless();
    let (sender, mut events) = mpsc::channel(8);
    let request = stage.request(&format!(
        "export const w = workflow('w', async () => {{ {GRANDCHILD} await new Promise((r) => setTimeout(r, 60000)); }});"
    ));
    let running = stage.runner.run(request, sender, CancellationToken::new());
    let until_it_is_up = async {
        while let Some(event) = events.recv().await {
            match event {
                RunEvent::Ready(go) => go.send(()).unwrap(),
                RunEvent::Log(record) if record.message.starts_with("pid ") => return,
                RunEvent::Log(_) => {}
            }
        }
        panic!("it did not start");
    };
    tokio::select! {
        outcome = running => panic!("it ended: {outcome:?}"),
        () = until_it_is_up => {}
    }
    assert_eq!(marked(&stage), 0);
    assert_eq!(stage.leftovers(), 0);
}

#[tokio::test]
async fn leftovers_of_an_earlier_server_are_swept() {
    let stage = Stage::pageless();
    let work_dir = stage.runner.settings().work_dir.clone();
    std::fs::create_dir_all(work_dir.join("r-0123456789ab/tmp")).unwrap();
    #[expect(
        clippy::disallowed_methods,
        reason = "a process as an earlier server would have left it"
    )]
    let mut left = std::process::Command::new("sleep")
        .arg("600")
        .env(
            "IMPRESARIO_RUN",
            format!("{}/old", stage.runner.settings().instance),
        )
        .spawn()
        .unwrap();
    eventually("it is marked", || marked(&stage) == 1).await;
    assert_eq!(stage.runner.sweep_leftovers(), 1);
    assert!(!left.wait().unwrap().success());
    assert_eq!(stage.leftovers(), 0);
    assert_eq!(stage.runner.sweep_leftovers(), 0);
}

#[tokio::test]
async fn where_the_server_dies_the_run_dies_with_it() {
    let stage = Stage::new();
    let settings = stage.runner.settings();
    let mark = stage.dir.path().join("mark");
    // It blocks its main thread, so nothing that runs there can notice the server's death.
    let bundle = stage.bundle(&format!(
        "import fs from 'node:fs'; export const w = workflow('w', () => {{ fs.writeFileSync({mark:?}, 'x'); for (;;) {{}} }});"
    ));
    let start = json!({
        "mode": "run", "key": "k", "bundle": bundle, "entry": "index.js", "workflow": "w", "session": "s", "input": {},
        "modules": settings.modules.join("node_modules"), "limits": {"result": 1000, "piece": 1000},
        "browser": {"executable": settings.chromium, "headless": true, "sandbox": false, "args": [],
                    "viewport": {"width": 800, "height": 600}, "launch_timeout_ms": 30_000},
    });
    #[expect(
        clippy::disallowed_methods,
        reason = "the host without a runner that would end it"
    )]
    let mut child = std::process::Command::new("sh")
        .args(["-c", "exec 3>/dev/null; exec \"$0\" \"$1\""])
        .args([settings.node.as_os_str(), settings.host.as_os_str()])
        .env("IMPRESARIO_RUN", format!("{}/x", settings.instance))
        .process_group(0)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{start}\n{}", json!({"t": "go"})).unwrap();
    eventually("the workflow runs", || mark.exists()).await;
    assert!(marked(&stage) > 1, "the browser is there");
    // The server's side of stdin is closed without a word, as its death would.
    drop(stdin);
    eventually("the host and its browser are gone", || marked(&stage) == 0).await;
    assert!(!child.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_runs_at_once_keep_apart() {
    let stage = std::sync::Arc::new(Stage::pageless());
    stage.bundle("export const w = workflow('w', async (ctx, { n }) => { console.log(n); await new Promise((r) => setTimeout(r, 50)); return n; });");
    let mut runs = tokio::task::JoinSet::new();
    for n in 0..8 {
        let stage = stage.clone();
        // In a task: a run can be sent to another thread.
        runs.spawn(async move {
            let mut request = crate::support::request(&stage.dir.path().join("bundle"), "w");
            request.params = crate::support::params(json!({"n": n}));
            (n, stage.run(request).await)
        });
    }
    while let Some(done) = runs.join_next().await {
        let (n, run) = done.unwrap();
        assert_eq!(run.value(), json!(n));
        assert_eq!(run.texts(), [("info", n.to_string().as_str())]);
    }
    assert_eq!((stage.leftovers(), marked(&stage)), (0, 0));
}

/// How many processes carry the stage's marker and have not ended.
fn marked(stage: &Stage) -> usize {
    let prefix = format!("IMPRESARIO_RUN={}/", stage.runner.settings().instance);
    let own = i64::from(std::process::id());
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i64>().ok())
        .filter(|&pid| pid != own && alive(pid))
        .filter_map(|pid| std::fs::read(format!("/proc/{pid}/environ")).ok())
        .filter(|environ| {
            environ
                .split(|&b| b == 0)
                .any(|e| e.starts_with(prefix.as_bytes()))
        })
        .count()
}
