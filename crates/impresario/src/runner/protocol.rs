//! The lines between the server and `host.mjs`: what goes in on its stdin, what comes out on descriptor 3.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::proxy::ProxyServer;
use super::{FailureClass, LogLevel, RunFailure};
use crate::builder::DiscoveredWorkflow;

/// What a frame carries besides the payload whose size is limited: key, kind, quotes.
const FRAME_OVERHEAD: usize = 64 * 1024;

/// The first line on stdin.
#[derive(Serialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub(super) enum Start<'a> {
    /// Run one workflow.
    Run(Box<StartRun<'a>>),
    /// Load the entry point and list its workflows.
    Discover(StartBundle<'a>),
}

/// What both modes need.
#[derive(Serialize)]
pub(super) struct StartBundle<'a> {
    pub(super) key: &'a str,
    pub(super) bundle: &'a Path,
    pub(super) entry: &'a str,
    pub(super) limits: StartLimits,
}

#[derive(Serialize)]
pub(super) struct StartLimits {
    /// Bytes of the result.
    pub(super) result: usize,
    /// Characters of one log frame.
    pub(super) piece: usize,
}

#[derive(Serialize)]
pub(super) struct StartRun<'a> {
    #[serde(flatten)]
    pub(super) bundle: StartBundle<'a>,
    /// The `node_modules` that holds `playwright-core`.
    pub(super) modules: PathBuf,
    pub(super) workflow: &'a str,
    pub(super) session: &'a str,
    pub(super) input: Map<String, Value>,
    pub(super) start_url: Option<&'a str>,
    pub(super) screenshot: Option<&'a Path>,
    pub(super) browser: Option<StartBrowser<'a>>,
    /// Said by `ctx.page` where `browser` is `None`.
    pub(super) no_browser: &'a str,
}

#[derive(Serialize)]
pub(super) struct StartBrowser<'a> {
    pub(super) executable: &'a Path,
    pub(super) headless: bool,
    pub(super) sandbox: bool,
    pub(super) args: Vec<&'static str>,
    pub(super) viewport: impresario_api::Viewport,
    pub(super) proxy: Option<ProxyServer>,
    pub(super) launch_timeout_ms: u64,
}

/// The second line on stdin: the workflow's code may run.
pub(super) const GO: &[u8] = b"{\"t\":\"go\"}\n";
/// Asks for a last screenshot before the process is ended.
pub(super) const STOP: &[u8] = b"{\"t\":\"stop\"}\n";

/// One line on descriptor 3.
#[derive(Debug, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub(super) enum Frame {
    /// The browser is up.
    Ready,
    /// `console` said something.
    Log { level: FrameLevel, message: String },
    /// The workflow returned; the value as JSON text, so that a value too deep for our parser is told from a bad frame.
    Result { json: Option<String> },
    /// It did not return.
    Error(ErrorFrame),
    /// The answer to [`Start::Discover`].
    Workflows { workflows: Vec<DiscoveredWorkflow> },
    /// The answer to [`STOP`].
    Stopped,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FrameLevel {
    Info,
    Warn,
    Error,
}

impl From<FrameLevel> for LogLevel {
    fn from(level: FrameLevel) -> Self {
        match level {
            FrameLevel::Info => Self::Info,
            FrameLevel::Warn => Self::Warn,
            FrameLevel::Error => Self::Error,
        }
    }
}

/// Why there is no result.
#[derive(Debug, Deserialize)]
pub(super) struct ErrorFrame {
    kind: String,
    name: String,
    message: String,
    stack: Option<String>,
}

impl ErrorFrame {
    /// As the failure of a run.
    pub(super) fn into_failure(self, started: bool) -> RunFailure {
        let class = match self.kind.as_str() {
            // The name that libretto gives the error of its input check.
            "workflow" if self.name == "LibrettoWorkflowInputError" => FailureClass::InvalidInput,
            "workflow" | "result" => FailureClass::Workflow,
            "result_too_large" => FailureClass::ResultTooLarge,
            "browser" => FailureClass::Browser,
            "configuration" => FailureClass::Configuration,
            "load" => FailureClass::Bundle,
            "process" => FailureClass::ProcessExit,
            _ => FailureClass::Runner,
        };
        RunFailure {
            class,
            message: without_nul(self.message),
            stack: self.stack.map(without_nul),
            started,
        }
    }
}

/// PostgreSQL keeps every character in a text but NUL.
pub(super) fn without_nul(text: String) -> String {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}")
    } else {
        text
    }
}

/// Reads frames, and knows one that is not from the host.
pub(super) struct FrameReader<R> {
    source: R,
    key: String,
    buffer: Vec<u8>,
    /// How much of `buffer` is known to hold no line end.
    searched: usize,
    limit: usize,
}

#[derive(Deserialize)]
struct Keyed {
    k: String,
    #[serde(flatten)]
    frame: Value,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads frames with this key from `source`. JSON text in JSON grows by its quotes' backslashes, at most to six times
    /// its size (`\u001f`).
    pub(super) fn new(source: R, key: String, result_bytes: usize) -> Self {
        let limit = result_bytes.saturating_mul(6).saturating_add(FRAME_OVERHEAD);
        Self {
            source,
            key,
            buffer: Vec::new(),
            searched: 0,
            limit: limit.max(1024 * 1024),
        }
    }

    /// The next frame, `None` at the end of the channel. Dropping the future loses nothing.
    ///
    /// # Errors
    /// A sentence, where what was read is not a frame of the host.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, String> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=self.searched + at).collect();
                self.searched = 0;
                return self.decode(&line).map(Some);
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > self.limit {
                return Err(format!(
                    "a message of more than {} bytes came on the private channel",
                    self.limit
                ));
            }
            match self.source.read_buf(&mut self.buffer).await {
                Ok(0) if self.buffer.is_empty() => return Ok(None),
                Ok(0) => return Err("the private channel ended in the middle of a message".to_owned()),
                Ok(_) => {}
                Err(error) => return Err(format!("the private channel could not be read: {error}")),
            }
        }
    }

    fn decode(&self, line: &[u8]) -> Result<Frame, String> {
        // The line is not repeated in the message: it may hold the key or anything a workflow wrote.
        const FORGED: &str = "the workflow wrote to descriptor 3, which is the runner's own";
        let keyed: Keyed = serde_json::from_slice(line).map_err(|_| FORGED.to_owned())?;
        if keyed.k != self.key {
            return Err(FORGED.to_owned());
        }
        serde_json::from_value(keyed.frame)
            .map_err(|e| format!("the runner's process sent a message that is not known: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(text: &str) -> Vec<Result<Frame, String>> {
        let mut reader = FrameReader::new(text.as_bytes(), "K".into(), 10);
        let mut all = Vec::new();
        loop {
            match reader.next().await {
                Ok(Some(frame)) => all.push(Ok(frame)),
                Ok(None) => return all,
                Err(error) => {
                    all.push(Err(error));
                    return all;
                }
            }
        }
    }

    #[tokio::test]
    async fn frames_need_the_key_and_a_known_kind() {
        let all =
            read("{\"k\":\"K\",\"t\":\"ready\"}\n{\"k\":\"K\",\"t\":\"result\",\"json\":\"[1]\"}\n").await;
        assert!(
            matches!(&all[..], [Ok(Frame::Ready), Ok(Frame::Result { json: Some(j) })] if j == "[1]"),
            "{all:?}"
        );
        for bad in [
            "{\"t\":\"ready\"}\n",
            "{\"k\":\"J\",\"t\":\"ready\"}\n",
            "hello\n",
            "\n",
            "[[[\n",
            "{\"k\":\"K\",\"t\":\"x\"}\n",
        ] {
            assert!(matches!(&read(bad).await[..], [Err(_)]), "{bad}");
        }
        assert!(matches!(&read("{\"k\":\"K\"").await[..], [Err(e)] if e.contains("middle")));
    }

    #[tokio::test]
    async fn a_frame_without_end_is_given_up() {
        let long = "x".repeat(3 * 1024 * 1024);
        assert!(matches!(&read(&long).await[..], [Err(e)] if e.contains("more than")));
    }
}
