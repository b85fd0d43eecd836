//! One Node process per run of a workflow.
//!
//! In: a [`RunRequest`] (a bundle, the name of a workflow in it, its input, how its browser is launched), a channel for
//! [`RunEvent`]s and a token that cancels. Out: [`RunEvent`]s while it runs, and at the end exactly one [`RunOutcome`],
//! after the last process of the run is gone and its private directory removed.
//!
//! The steps: [`locate`] finds Node and Chromium once; [`provision`] installs what bundles are provided with; then for
//! each run, `run` makes a private directory, `process` starts `host.mjs` in its own group, `talk` holds the
//! conversation with it in the lines of `protocol`, `logs` turns what it prints into records, and `process` ends the
//! whole tree.
//!
//! Between `ready` and `go` the caller commits that the run has started. Nothing of the bundle is loaded before `go`, so
//! a failure with `started == false` may be retried and one with `started == true` may not.

mod locate;
mod logs;
mod private_dir;
mod process;
mod protocol;
mod provision;
pub mod proxy;
mod run;
mod session;
mod talk;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::sync::oneshot;

pub use self::locate::{LocateError, Located, locate};
pub(crate) use self::process::npm_install;
pub use self::provision::{ProvisionError, provision, write_host};
pub use self::run::NodeRunner;

/// The largest page a run starts with where nothing else is said, in CSS pixels.
pub const DEFAULT_VIEWPORT: impresario_api::Viewport = impresario_api::Viewport {
    width: 1366,
    height: 768,
};

/// What is said where a run needs a browser and none was found.
pub const NO_CHROMIUM: &str = "no Chromium was found: install Debian's `chromium` or set IMPRESARIO_CHROMIUM";

/// What the runner needs to know of this machine.
#[derive(Clone)]
pub struct RunnerSettings {
    /// Node, 20 or newer; see [`locate`].
    pub node: PathBuf,
    /// Chromium; without one, only workflows that use no page can run.
    pub chromium: Option<PathBuf>,
    /// The directory that holds `node_modules` with `playwright-core`, `playwright`, `chromium-bidi` and `libretto`, as
    /// [`provision`] returns it.
    pub modules: PathBuf,
    /// `host.mjs`, as [`write_host`] wrote it.
    pub host: PathBuf,
    /// A private directory per run is made in it. Short paths are better: Chromium puts a socket below it, whose whole
    /// path must fit 107 bytes.
    pub work_dir: PathBuf,
    /// The provider of residential proxies: a URL template, see [`proxy`].
    pub residential_proxy: Option<String>,
    /// A proxy for runs that neither ask for a residential one nor disable it.
    pub default_proxy: Option<String>,
    /// Marks our processes, so that a later start can sweep what this one left; the same for every start of one data
    /// directory, different between data directories.
    pub instance: String,
    /// How much a run may say, return and take to end.
    pub limits: Limits,
}

impl fmt::Debug for RunnerSettings {
    /// Without the proxies: their URLs carry passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunnerSettings")
            .field("node", &self.node)
            .field("chromium", &self.chromium)
            .field("modules", &self.modules)
            .field("work_dir", &self.work_dir)
            .field("instance", &self.instance)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// How much a run may say, return and take to end.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of log kept of one run, with 64 counted for each record on top. Default 10 MiB.
    pub log_bytes: usize,
    /// Bytes of one log record; longer lines are cut into pieces. Default 16 KiB.
    pub line_bytes: usize,
    /// Bytes of the result as JSON. Default 4 MiB.
    pub result_bytes: usize,
    /// Between asking the processes of a run to end and forcing them. Default 500 ms.
    pub kill_grace: Duration,
    /// Until Node and Chromium are up. Default 60 s.
    pub launch_timeout: Duration,
    /// Until a bundle without a manifest has told its workflows. Default 30 s.
    pub discover_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            log_bytes: 10 * 1024 * 1024,
            line_bytes: 16 * 1024,
            result_bytes: 4 * 1024 * 1024,
            kill_grace: Duration::from_millis(500),
            launch_timeout: Duration::from_secs(60),
            discover_timeout: Duration::from_secs(30),
        }
    }
}

/// One run.
pub struct RunRequest {
    /// The job's id, which the workflow sees as `ctx.session`.
    pub job_id: String,
    /// The unpacked bundle; see [`crate::builder`].
    pub bundle_dir: PathBuf,
    /// The module in the bundle that exports the workflow, relative to it.
    pub entry_point: String,
    /// The workflow's name.
    pub workflow: String,
    /// Its input.
    pub params: Map<String, Value>,
    /// Added to the input as `credentials`, by name.
    pub credentials: BTreeMap<String, String>,
    /// Opened before the workflow is called; without one, the workflow object's own `startUrl`.
    pub start_url: Option<String>,
    /// The size of the page; [`DEFAULT_VIEWPORT`] without one.
    pub viewport: Option<impresario_api::Viewport>,
    /// Whether the browser may use a GPU.
    pub gpu: bool,
    /// Whether the browser has no window. A run has no display, so `false` runs without one all the same, and says so.
    pub headless: bool,
    /// Where in the world the traffic leaves from.
    pub residential_proxy: Option<impresario_api::ResidentialProxy>,
    /// Go past [`RunnerSettings::default_proxy`].
    pub disable_default_proxy: bool,
    /// From `go` until the run must have ended.
    pub timeout: Duration,
    /// Where to put a PNG of the page when the run fails; its directory exists.
    pub screenshot: Option<PathBuf>,
}

impl fmt::Debug for RunRequest {
    /// Without input, credentials and start URL, which may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunRequest")
            .field("job_id", &self.job_id)
            .field("bundle_dir", &self.bundle_dir)
            .field("entry_point", &self.entry_point)
            .field("workflow", &self.workflow)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// What a run tells while it runs.
#[derive(Debug)]
pub enum RunEvent {
    /// The browser is up and none of the workflow's code has run. Sending `()` lets it start; dropping the sender aborts
    /// the run, which then ends as [`RunOutcome::Cancelled`].
    Ready(oneshot::Sender<()>),
    /// The workflow, or the runner on its behalf, said something.
    Log(LogRecord),
}

/// One line of a run's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// How loud.
    pub level: LogLevel,
    /// Not longer than [`Limits::line_bytes`] says (a NUL counts once, though it is replaced), without NUL characters, which PostgreSQL cannot keep.
    pub message: String,
    /// When the runner read it.
    pub at: Timestamp,
}

/// How loud a line of log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Stdout, `console.log` and the like.
    Info,
    /// `console.warn`, and remarks of the runner.
    Warn,
    /// Stderr and `console.error`.
    Error,
}

impl LogLevel {
    /// As the API writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum RunOutcome {
    /// With a result; `None` where the workflow returned nothing that JSON has.
    Completed(Option<Value>),
    /// Without one.
    Failed(RunFailure),
    /// It was cancelled, or not let go.
    Cancelled,
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFailure {
    /// What kind of failure.
    pub class: FailureClass,
    /// For the user of the workflow.
    pub message: String,
    /// The stack of the error that was thrown, if one was.
    pub stack: Option<String>,
    /// Whether the workflow's code had been let go; if not, the run may be repeated.
    pub started: bool,
}

impl fmt::Display for RunFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RunFailure {}

/// What kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// The workflow threw, or returned what JSON cannot carry.
    Workflow,
    /// The workflow refused its input.
    InvalidInput,
    /// It did not end in time.
    Timeout,
    /// Its process ended, or was ended by an error outside of `run`, before there was a result.
    ProcessExit,
    /// Chromium did not start, was lost, or could not open the start URL.
    Browser,
    /// The server lacks something that the run needs: a Chromium, a proxy.
    Configuration,
    /// A credential that the workflow declares, or the job names, is not there.
    Credential,
    /// The result is larger than [`Limits::result_bytes`].
    ResultTooLarge,
    /// The bundle could not be loaded or does not export the workflow.
    Bundle,
    /// The process wrote what it must not to the private channel.
    Protocol,
    /// The process could not be started, or the runner failed itself.
    Runner,
}

impl FailureClass {
    /// As the API writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Workflow => "workflow",
            Self::InvalidInput => "invalid_input",
            Self::Timeout => "timeout",
            Self::ProcessExit => "process_exit",
            Self::Browser => "browser",
            Self::Configuration => "configuration",
            Self::Credential => "credential",
            Self::ResultTooLarge => "result_too_large",
            Self::Bundle => "bundle",
            Self::Protocol => "protocol",
            Self::Runner => "runner",
        }
    }
}
