//! The conversation with one host: what is said when, and what each answer means.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::logs::LogSink;
use super::protocol::{Frame, GO, STOP, Start, StartBrowser, StartRun};
use super::run::NodeRunner;
use super::session::{Said, Session};
use super::{FailureClass, NO_CHROMIUM, RunEvent, RunOutcome, RunRequest};

/// How long a host that has said its last word may take to close its browser.
const GOODBYE: Duration = Duration::from_millis(1_500);
/// How long a last screenshot may take once the time limit has come; with ending the tree it stays below 5 s.
const LAST_SCREENSHOT: Duration = Duration::from_millis(1_500);

/// How the conversation with the host ended.
pub(super) enum Verdict {
    Outcome(RunOutcome),
    Failed(FailureClass, String),
    Exited,
}

/// The conversation with one host.
pub(super) struct Talk<'a> {
    pub(super) request: &'a RunRequest,
    pub(super) runner: &'a NodeRunner,
    pub(super) session: Session,
    pub(super) sink: &'a LogSink,
    pub(super) cancel: &'a CancellationToken,
    /// Whether the workflow's code was let go.
    pub(super) started: bool,
}

impl Talk<'_> {
    /// The first line, as JSON: it holds secrets, and is dropped with the run.
    pub(super) fn start_line(
        &self,
        entry: &str,
        browser: Option<StartBrowser<'_>>,
        input: Map<String, Value>,
    ) -> Value {
        let settings = self.runner.settings();
        let start = Start::Run(Box::new(StartRun {
            bundle: self
                .runner
                .start_bundle(&self.session.key, &self.request.bundle_dir, entry),
            modules: settings.modules.join("node_modules"),
            workflow: &self.request.workflow,
            session: &self.request.job_id,
            input,
            start_url: self.request.start_url.as_deref(),
            screenshot: self.request.screenshot.as_deref(),
            browser,
            no_browser: NO_CHROMIUM,
        }));
        // Paths that are not UTF-8 are the one thing that cannot be written; Node would not take them either.
        serde_json::to_value(start).unwrap_or_default()
    }

    /// Talks until there is nothing more to wait for; the tree is then to be ended.
    pub(super) async fn hold(&mut self, start: &Value, queue: UnboundedSender<RunEvent>) -> Verdict {
        let limit = self.runner.settings().limits.launch_timeout;
        let until = Instant::now() + limit;
        tokio::select! {
            // A process that is gone already shows in what is read next.
            _ = self.session.send(start) => {}
            () = self.cancel.cancelled() => return Verdict::Outcome(RunOutcome::Cancelled),
            () = tokio::time::sleep_until(until) => {}
        }
        match self.session.next(until, self.cancel, self.sink).await {
            Said::Frame(Frame::Ready) => {}
            Said::TimedOut => {
                let message = format!("Node and Chromium were not up within {} s", limit.as_secs());
                return Verdict::Failed(FailureClass::Browser, message);
            }
            said => return self.judge(said),
        }
        if let Some(verdict) = self.ask_to_go(queue).await {
            return verdict;
        }
        self.started = true;
        let until = Instant::now() + self.request.timeout;
        let _ = self.session.send_line(GO).await;
        match self.session.next(until, self.cancel, self.sink).await {
            Said::TimedOut => self.time_out().await,
            said => {
                let verdict = self.judge(said);
                self.say_goodbye().await;
                verdict
            }
        }
    }

    /// Offers the start to the caller; `None` where it may start.
    async fn ask_to_go(&mut self, queue: UnboundedSender<RunEvent>) -> Option<Verdict> {
        let (go, mut answer) = oneshot::channel();
        // If nobody takes the event, the sender in it is dropped, and the answer is no.
        let _ = queue.send(RunEvent::Ready(go));
        drop(queue);
        let far = Instant::now() + Duration::from_secs(24 * 3_600);
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Some(Verdict::Outcome(RunOutcome::Cancelled)),
            answer = &mut answer => match answer {
                Ok(()) => None,
                Err(_) => Some(Verdict::Outcome(RunOutcome::Cancelled)),
            },
            said = self.session.next(far, self.cancel, self.sink) => Some(self.judge(said)),
        }
    }

    fn judge(&self, said: Said) -> Verdict {
        match said {
            Said::Frame(Frame::Result { json }) if self.started => self.result(json.as_deref()),
            Said::Frame(Frame::Error(error)) => {
                Verdict::Outcome(RunOutcome::Failed(error.into_failure(self.started)))
            }
            Said::Frame(_) => Verdict::Failed(
                FailureClass::Protocol,
                "the runner's process spoke out of turn".to_owned(),
            ),
            Said::Exited => Verdict::Exited,
            Said::TimedOut => Verdict::Failed(FailureClass::Timeout, "the time limit came".to_owned()),
            Said::Cancelled => Verdict::Outcome(RunOutcome::Cancelled),
            Said::Bad(sentence) => Verdict::Failed(FailureClass::Protocol, sentence),
        }
    }

    fn result(&self, json: Option<&str>) -> Verdict {
        let limit = self.runner.settings().limits.result_bytes;
        match json {
            None => Verdict::Outcome(RunOutcome::Completed(None)),
            Some(json) if json.len() > limit => {
                let message = format!(
                    "the result is {} bytes of JSON; at most {limit} are kept",
                    json.len()
                );
                Verdict::Failed(FailureClass::ResultTooLarge, message)
            }
            Some(json) => match serde_json::from_str(json) {
                Ok(value) => Verdict::Outcome(RunOutcome::Completed(Some(value))),
                Err(error) => Verdict::Failed(
                    FailureClass::Workflow,
                    format!("the result cannot be kept: {error}"),
                ),
            },
        }
    }

    /// The time limit has come: one more screenshot if one was wanted, and no more.
    async fn time_out(&mut self) -> Verdict {
        if self.request.screenshot.is_some() && self.runner.settings().chromium.is_some() {
            let until = Instant::now() + LAST_SCREENSHOT;
            let asked = timeout(LAST_SCREENSHOT, self.session.send_line(STOP)).await;
            if asked.is_ok() {
                let _ = self.session.next(until, self.cancel, self.sink).await;
            }
        }
        let seconds = self.request.timeout.as_secs_f64();
        Verdict::Failed(
            FailureClass::Timeout,
            format!("the workflow did not end within {seconds} s"),
        )
    }

    /// Lets the host close its browser. Whatever it says now changes nothing.
    async fn say_goodbye(&mut self) {
        let until = Instant::now() + GOODBYE;
        while let Said::Frame(_) = self.session.next(until, self.cancel, self.sink).await {}
    }
}
