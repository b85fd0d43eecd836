//! A runner in a temporary directory, bundles from source text, and runs that are let go at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use impresario::clock::SystemClock;
use impresario::runner::{
    FailureClass, Limits, Located, LogLevel, LogRecord, NodeRunner, RunEvent, RunFailure, RunOutcome,
    RunRequest, RunnerSettings, locate, write_host,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What the handlers of all the small bundles stand in.
pub(crate) const BRAND: &str = r#"const B = Symbol.for("libretto.workflow");
const workflow = (name, run) => ({ [B]: true, name, run });
"#;

pub(crate) struct Stage {
    pub(crate) dir: TempDir,
    pub(crate) runner: NodeRunner,
}

#[expect(
    clippy::disallowed_methods,
    reason = "where the runner's packages are is told to tests by the environment"
)]
fn modules() -> PathBuf {
    let dir = match std::env::var("IMPRESARIO_RUNNER_DIR") {
        Ok(dir) => PathBuf::from(dir),
        Err(_) => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../runner"),
    };
    let core = dir.join("node_modules/playwright-core/package.json");
    assert!(
        core.exists(),
        "{} is missing: run `npm ci --ignore-scripts` in {} or set IMPRESARIO_RUNNER_DIR",
        core.display(),
        dir.display()
    );
    dir
}

pub(crate) fn located() -> Located {
    let located = locate(None, None).expect("Node 20 or newer is needed by these tests");
    assert!(
        located.chromium.is_some(),
        "Chromium is needed by these tests: install Debian's `chromium`"
    );
    located
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// Without Chromium, for what needs no page: it starts much faster.
    pub(crate) fn pageless() -> Self {
        Self::with(|settings| settings.chromium = None)
    }

    pub(crate) fn with(change: impl FnOnce(&mut RunnerSettings)) -> Self {
        let dir = TempDir::new().unwrap();
        let located = located();
        let mut settings = RunnerSettings {
            node: located.node,
            chromium: located.chromium,
            modules: modules(),
            host: write_host(dir.path()).unwrap(),
            work_dir: dir.path().join("runs"),
            residential_proxy: None,
            default_proxy: None,
            instance: dir.path().file_name().unwrap().to_str().unwrap().to_owned(),
            limits: Limits::default(),
        };
        change(&mut settings);
        let runner = NodeRunner::new(settings, Arc::new(SystemClock));
        Self { dir, runner }
    }

    /// A bundle whose `index.js` is the brand's helper and this text.
    pub(crate) fn bundle(&self, source: &str) -> PathBuf {
        let dir = self.dir.path().join("bundle");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("package.json"), r#"{"type":"module"}"#).unwrap();
        std::fs::write(dir.join("index.js"), format!("{BRAND}{source}")).unwrap();
        dir
    }

    /// A request for the workflow `w` of [`Stage::bundle`].
    pub(crate) fn request(&self, source: &str) -> RunRequest {
        request(&self.bundle(source), "w")
    }

    /// Runs a workflow `w` with this handler.
    pub(crate) async fn handler(&self, body: &str) -> Run {
        let request = self.request(&format!(
            "export const w = workflow('w', async (ctx, input) => {{ {body} }});"
        ));
        self.run(request).await
    }

    pub(crate) async fn run(&self, request: RunRequest) -> Run {
        self.run_until(request, |_| false).await
    }

    /// Lets the run start, and cancels it at the first log record that `stop` wants.
    pub(crate) async fn run_until(&self, request: RunRequest, stop: impl Fn(&LogRecord) -> bool) -> Run {
        let (sender, mut events) = mpsc::channel(8);
        let cancel = CancellationToken::new();
        let mut logs = Vec::new();
        let mut ready = false;
        let mut stopped = None;
        let reading = async {
            while let Some(event) = events.recv().await {
                match event {
                    RunEvent::Ready(go) => {
                        ready = true;
                        let _ = go.send(());
                    }
                    RunEvent::Log(record) => {
                        if stop(&record) && stopped.is_none() {
                            stopped = Some(Instant::now());
                            cancel.cancel();
                        }
                        logs.push(record);
                    }
                }
            }
        };
        let running = async {
            let outcome = self.runner.run(request, sender, cancel.clone()).await;
            (outcome, Instant::now())
        };
        let ((outcome, end), ()) = tokio::join!(running, reading);
        let took_to_stop = stopped.map(|at| end - at);
        Run {
            outcome,
            logs,
            ready,
            took_to_stop,
        }
    }

    /// What is left in the directory that private directories are made in.
    pub(crate) fn leftovers(&self) -> usize {
        std::fs::read_dir(&self.runner.settings().work_dir).map_or(0, Iterator::count)
    }
}

pub(crate) fn request(bundle: &Path, workflow: &str) -> RunRequest {
    RunRequest {
        job_id: "job-1".to_owned(),
        bundle_dir: bundle.to_owned(),
        entry_point: "index.js".to_owned(),
        workflow: workflow.to_owned(),
        params: serde_json::Map::new(),
        credentials: BTreeMap::new(),
        start_url: None,
        viewport: None,
        gpu: false,
        headless: true,
        residential_proxy: None,
        disable_default_proxy: false,
        timeout: Duration::from_secs(60),
        screenshot: None,
    }
}

pub(crate) fn params(value: Value) -> serde_json::Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("params are an object, not {other}"),
    }
}

pub(crate) struct Run {
    pub(crate) outcome: RunOutcome,
    pub(crate) logs: Vec<LogRecord>,
    pub(crate) ready: bool,
    /// From the cancel to the outcome.
    pub(crate) took_to_stop: Option<Duration>,
}

impl Run {
    pub(crate) fn value(&self) -> Value {
        match &self.outcome {
            RunOutcome::Completed(Some(value)) => value.clone(),
            other => panic!("no result: {other:?}; log: {:?}", self.texts()),
        }
    }

    pub(crate) fn failure(&self, class: FailureClass) -> &RunFailure {
        match &self.outcome {
            RunOutcome::Failed(failure) if failure.class == class => failure,
            other => panic!(
                "not a failure of class {class:?}: {other:?}; log: {:?}",
                self.texts()
            ),
        }
    }

    pub(crate) fn texts(&self) -> Vec<(&'static str, &str)> {
        self.logs
            .iter()
            .map(|r| (LogLevel::as_str(r.level), r.message.as_str()))
            .collect()
    }
}

/// Waits for something to become true, 10 s at most.
pub(crate) async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(10);
    while !is() {
        assert!(Instant::now() < limit, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn alive(pid: i64) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat[stat.rfind(')').unwrap()..].starts_with(") Z"))
}
