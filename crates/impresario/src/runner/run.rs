//! One run from start to end: the order of things, and what each way of ending means.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::process::{ChildStderr, ChildStdout};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::logs::{LogSink, pump};
use super::protocol::{Frame, Start, StartBrowser, StartBundle, StartLimits};
use super::session::{Said, Session};
use super::talk::{Talk, Verdict};
use super::{
    DEFAULT_VIEWPORT, FailureClass, LogLevel, NO_CHROMIUM, RunEvent, RunFailure, RunOutcome, RunRequest,
    RunnerSettings, private_dir, process, proxy,
};
use crate::builder::{self, DiscoveredWorkflow};
use crate::clock::SharedClock;

/// How long the rest of the log may take to be read, and a receiver may take to accept each record, after the end.
const DRAIN: Duration = Duration::from_secs(2);

/// Runs workflows, each in a Node process of its own.
#[derive(Debug, Clone)]
pub struct NodeRunner {
    settings: Arc<RunnerSettings>,
    clock: SharedClock,
}

impl NodeRunner {
    /// A runner with these settings; `clock` stamps the log records.
    #[must_use]
    pub fn new(mut settings: RunnerSettings, clock: SharedClock) -> Self {
        // A run has its own working directory, so nothing it is given may depend on ours.
        for path in [
            &mut settings.node,
            &mut settings.modules,
            &mut settings.host,
            &mut settings.work_dir,
        ] {
            make_absolute(path);
        }
        settings.chromium.as_mut().map(make_absolute);
        Self {
            settings: Arc::new(settings),
            clock,
        }
    }

    /// What it was made with.
    #[must_use]
    pub fn settings(&self) -> &RunnerSettings {
        &self.settings
    }

    /// Whether Chromium's own sandbox is on: it cannot be for root.
    #[must_use]
    pub fn sandbox(&self) -> bool {
        !rustix::process::geteuid().is_root()
    }

    /// Runs one workflow; see the [module](super) for what happens when. The answer comes after every process of the run
    /// is gone: within 5 s of a cancel or of the time limit. A slow receiver of `events` loses nothing and holds nothing
    /// up until the run has ended; then it has 2 s for each record. Dropping the future ends the run's processes too.
    pub async fn run(
        &self,
        mut request: RunRequest,
        events: mpsc::Sender<RunEvent>,
        cancel: CancellationToken,
    ) -> RunOutcome {
        let failed = |(class, message)| RunOutcome::Failed(failure(class, message, false));
        make_absolute(&mut request.bundle_dir);
        request.screenshot.as_mut().map(make_absolute);
        let (browser, entry) = match self.prepare(&request) {
            Ok(prepared) => prepared,
            Err(reason) => return failed(reason),
        };
        let (session, stdout, stderr) = match Session::start(&self.settings, &request.bundle_dir) {
            Ok(started) => started,
            Err(error) => {
                let node = self.settings.node.display();
                return failed((
                    FailureClass::Runner,
                    format!("Node ({node}) could not be started: {error}"),
                ));
            }
        };
        let (queue, queued) = mpsc::unbounded_channel();
        let sink = Arc::new(LogSink::new(
            queue.clone(),
            self.clock.clone(),
            &self.settings.limits,
        ));
        if !request.headless && self.settings.chromium.is_some() {
            sink.say(
                LogLevel::Warn,
                "headless: false was asked for, but a run has no display: the browser runs headless",
            );
        }
        let input = input_of(request.params.clone(), &request.credentials);
        let mut talk = Talk {
            request: &request,
            runner: self,
            session,
            sink: &sink,
            cancel: &cancel,
            started: false,
        };
        let start = talk.start_line(&entry, browser, input);
        let over = CancellationToken::new();
        let conversation = async {
            let verdict = talk.hold(&start, queue).await;
            let status = talk.session.tree.end(self.settings.limits.kill_grace).await;
            (verdict, status)
        };
        let talking = async {
            let said = with_pumps(conversation, pump_both(stdout, stderr, sink.clone())).await;
            over.cancel();
            said
        };
        let ((verdict, status), ()) = tokio::join!(talking, forward(queued, events, over.clone()));
        let started = talk.started;
        talk.session.private.remove().await;
        self.conclude(verdict, status, started, &sink)
    }

    /// Loads a bundle's entry point and lists the workflows that it exports.
    ///
    /// # Errors
    /// Why it could not be loaded. That it exports none is not an error here.
    pub async fn discover(
        &self,
        bundle_dir: &Path,
        entry_point: &str,
    ) -> Result<Vec<DiscoveredWorkflow>, RunFailure> {
        let failed = |class, message: String| failure(class, message, false);
        let mut bundle_dir = bundle_dir.to_owned();
        make_absolute(&mut bundle_dir);
        let (mut session, stdout, stderr) = Session::start(&self.settings, &bundle_dir)
            .map_err(|e| failed(FailureClass::Runner, format!("Node could not be started: {e}")))?;
        let (queue, queued) = mpsc::unbounded_channel();
        // What a bundle prints while it is loaded goes nowhere.
        drop(queued);
        let sink = Arc::new(LogSink::new(queue, self.clock.clone(), &self.settings.limits));
        let key = session.key.clone();
        let start = Start::Discover(self.start_bundle(&key, &bundle_dir, entry_point));
        let limit = self.settings.limits.discover_timeout;
        let conversation = async {
            let until = Instant::now() + limit;
            let never = CancellationToken::new();
            let said = match timeout(limit, session.send(&start)).await {
                Ok(_) => session.next(until, &never, &sink).await,
                Err(_) => Said::TimedOut,
            };
            let status = session.tree.end(self.settings.limits.kill_grace).await;
            (said, status)
        };
        let (said, status) = with_pumps(conversation, pump_both(stdout, stderr, sink.clone())).await;
        session.private.remove().await;
        match said {
            Said::Frame(Frame::Workflows { workflows }) => Ok(workflows),
            Said::Frame(Frame::Error(error)) => Err(error.into_failure(false)),
            Said::TimedOut => {
                let message = format!("loading the bundle took more than {} s", limit.as_secs());
                Err(failed(FailureClass::Timeout, message))
            }
            Said::Bad(sentence) => Err(failed(FailureClass::Protocol, sentence)),
            Said::Frame(_) | Said::Exited | Said::Cancelled => {
                let message = exit_message("while the bundle was loaded", status, &sink.stderr_tail());
                Err(failed(FailureClass::ProcessExit, message))
            }
        }
    }

    /// Ends what an earlier server of this data directory left running, and removes its directories; how many processes
    /// there were. To be called at start, before the first run.
    pub fn sweep_leftovers(&self) -> usize {
        let swept = process::sweep(&self.settings.instance);
        private_dir::remove_leftovers(&self.settings.work_dir);
        swept
    }

    /// What must be right before a process is started.
    fn prepare(
        &self,
        request: &RunRequest,
    ) -> Result<(Option<StartBrowser<'_>>, String), (FailureClass, String)> {
        let browser = self
            .browser(request)
            .map_err(|message| (FailureClass::Configuration, message))?;
        let entry = builder::resolve_entry(&request.bundle_dir, &request.entry_point)
            .map_err(|error| (FailureClass::Bundle, error.to_string()))?;
        builder::link_provided(&request.bundle_dir, &self.settings.modules)
            .map_err(|error| (FailureClass::Runner, error.to_string()))?;
        Ok((browser, entry))
    }

    fn browser(&self, request: &RunRequest) -> Result<Option<StartBrowser<'_>>, String> {
        let proxy = match (&request.residential_proxy, &self.settings.residential_proxy) {
            (Some(_), None) => {
                return Err(
                    "this run asks for a residential proxy, and the server has none: set \
                            IMPRESARIO_RESIDENTIAL_PROXY to the provider's URL template"
                        .to_owned(),
                );
            }
            (Some(place), Some(template)) => Some(
                proxy::residential(template, place)
                    .map_err(|e| format!("IMPRESARIO_RESIDENTIAL_PROXY: {e}"))?,
            ),
            (None, _) => match &self.settings.default_proxy {
                Some(url) if !request.disable_default_proxy => {
                    Some(proxy::parse(url).map_err(|e| format!("IMPRESARIO_DEFAULT_PROXY: {e}"))?)
                }
                _ => None,
            },
        };
        let Some(executable) = &self.settings.chromium else {
            // Without a browser the proxy would silently not be used.
            return match request.residential_proxy {
                Some(_) => Err(format!(
                    "this run asks for a residential proxy, but {NO_CHROMIUM}"
                )),
                None => Ok(None),
            };
        };
        let mut args = vec![
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            // /dev/shm is small in containers; the private TMPDIR is not, and is removed afterwards.
            "--disable-dev-shm-usage",
        ];
        if request.gpu {
            args.extend(["--enable-gpu", "--ignore-gpu-blocklist"]);
        }
        Ok(Some(StartBrowser {
            executable,
            headless: true,
            sandbox: self.sandbox(),
            args,
            viewport: request.viewport.unwrap_or(DEFAULT_VIEWPORT),
            proxy,
            launch_timeout_ms: u64::try_from(self.settings.limits.launch_timeout.as_millis())
                .unwrap_or(u64::MAX),
        }))
    }

    pub(super) fn start_bundle<'a>(&self, key: &'a str, bundle: &'a Path, entry: &'a str) -> StartBundle<'a> {
        StartBundle {
            key,
            bundle,
            entry,
            limits: StartLimits {
                result: self.settings.limits.result_bytes,
                // A character is up to three bytes for each unit that JavaScript counts.
                piece: self.settings.limits.line_bytes / 3,
            },
        }
    }

    fn conclude(
        &self,
        verdict: Verdict,
        status: Option<ExitStatus>,
        started: bool,
        sink: &LogSink,
    ) -> RunOutcome {
        match verdict {
            Verdict::Outcome(outcome) => outcome,
            Verdict::Failed(class, message) => RunOutcome::Failed(failure(class, message, started)),
            Verdict::Exited => {
                let (class, when) = if started {
                    (FailureClass::ProcessExit, "before the workflow returned")
                } else {
                    (FailureClass::Runner, "before the workflow was started")
                };
                let message = exit_message(when, status, &sink.stderr_tail());
                RunOutcome::Failed(failure(class, message, started))
            }
        }
    }
}

/// Leaves a path as it is where the working directory is gone: whatever needs it fails with its name.
fn make_absolute(path: &mut PathBuf) {
    if let Ok(absolute) = std::path::absolute(&path) {
        *path = absolute;
    }
}

/// The input: the params, with the credentials added to what they hold under that name.
fn input_of(mut params: Map<String, Value>, credentials: &BTreeMap<String, String>) -> Map<String, Value> {
    if credentials.is_empty() {
        return params;
    }
    let own = params
        .entry("credentials")
        .or_insert_with(|| Value::Object(Map::new()));
    if !own.is_object() {
        *own = Value::Object(Map::new());
    }
    if let Value::Object(own) = own {
        own.extend(
            credentials
                .iter()
                .map(|(name, value)| (name.clone(), Value::from(value.as_str()))),
        );
    }
    params
}

async fn pump_both(stdout: ChildStdout, stderr: ChildStderr, sink: Arc<LogSink>) {
    tokio::join!(
        pump(stdout, LogLevel::Info, &sink),
        pump(stderr, LogLevel::Error, &sink)
    );
}

/// Reads the pipes while the conversation goes on, and a moment longer: what was written before the end is in them.
async fn with_pumps<T>(conversation: impl Future<Output = T>, pumps: impl Future<Output = ()>) -> T {
    let mut pumps = pin!(pumps);
    let mut conversation = pin!(conversation);
    let mut pumped = false;
    let answer = loop {
        tokio::select! {
            biased;
            answer = &mut conversation => break answer,
            () = &mut pumps, if !pumped => pumped = true,
        }
    };
    if !pumped {
        let _ = timeout(DRAIN, pumps).await;
    }
    answer
}

/// Hands events on as fast as they are taken, until the run is `over` and the queue empty. Nobody who reads from the run
/// ever waits for it.
async fn forward(
    mut queued: UnboundedReceiver<RunEvent>,
    events: mpsc::Sender<RunEvent>,
    over: CancellationToken,
) {
    loop {
        let event = tokio::select! {
            biased;
            event = queued.recv() => event,
            () = over.cancelled(), if !queued.is_closed() => {
                queued.close();
                continue;
            }
        };
        let Some(event) = event else { return };
        let stuck = async {
            over.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            permit = events.reserve() => match permit {
                Ok(permit) => permit.send(event),
                Err(_) => return,
            },
            () = stuck => return,
        }
    }
}

fn failure(class: FailureClass, message: String, started: bool) -> RunFailure {
    RunFailure {
        class,
        message,
        stack: None,
        started,
    }
}

fn exit_message(when: &str, status: Option<ExitStatus>, stderr: &str) -> String {
    let how = match (status.and_then(|s| s.code()), status.and_then(|s| s.signal())) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (_, Some(9)) => "was ended by signal 9 (SIGKILL: often the kernel, out of memory)".to_owned(),
        (_, Some(6)) => "was ended by signal 6 (SIGABRT: often Node, out of memory)".to_owned(),
        (_, Some(signal)) => format!("was ended by signal {signal}"),
        _ => "ended".to_owned(),
    };
    let mut message = format!("the process {how} {when}");
    if !stderr.trim().is_empty() {
        message.push_str("; the last it wrote to stderr:\n");
        message.push_str(stderr);
    }
    message
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn credentials_are_added_to_the_input_and_win() {
        let params = |v: Value| v.as_object().cloned().unwrap();
        let one = BTreeMap::from([("portal_password".to_owned(), "s".to_owned())]);
        let input = input_of(
            params(json!({"a": 1, "credentials": {"x": 1, "portal_password": 2}})),
            &one,
        );
        assert_eq!(
            Value::from(input),
            json!({"a": 1, "credentials": {"x": 1, "portal_password": "s"}})
        );
        assert_eq!(
            Value::from(input_of(params(json!({"credentials": 7})), &one)),
            json!({"credentials": {"portal_password": "s"}})
        );
        assert_eq!(
            Value::from(input_of(params(json!({"a": 1})), &BTreeMap::new())),
            json!({"a": 1})
        );
    }
}
