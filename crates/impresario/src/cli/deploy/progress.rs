//! How far a deployment is, on stderr: on a terminal something that moves, elsewhere a line when something begins or ends.

use std::{
    io::{IsTerminal as _, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::output::remark;

const TICK: Duration = Duration::from_millis(100);

/// One step, until [`Step::end`].
#[derive(Debug, Clone)]
pub(super) struct Step {
    bar: ProgressBar,
}

impl Step {
    /// A step of so many bytes.
    pub(super) fn of_bytes(what: &str, bytes: u64) -> Self {
        let template = "{spinner} {msg} {wide_bar} {binary_bytes}/{binary_total_bytes}";
        Self::begin(what, Some(bytes), template)
    }

    /// A step that takes as long as it takes.
    pub(super) fn waiting(what: &str) -> Self {
        Self::begin(what, None, "{spinner} {msg} {elapsed}")
    }

    fn begin(what: &str, bytes: Option<u64>, template: &str) -> Self {
        if !stderr().is_terminal() {
            remark(what);
            return Self {
                bar: ProgressBar::hidden(),
            };
        }
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = ProgressBar::with_draw_target(bytes, indicatif::ProgressDrawTarget::stderr());
        bar.set_style(style);
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(TICK);
        Self { bar }
    }

    /// So many more bytes are done.
    pub(super) fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// Says something while it goes on.
    pub(super) fn say(&self, line: &str) {
        self.bar.suspend(|| remark(line));
    }

    /// It is done: what moves goes away, and the line stays.
    pub(super) fn end(self, line: &str) {
        self.bar.finish_and_clear();
        remark(line);
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        // Also where it went wrong: an error stands on a line of its own.
        self.bar.finish_and_clear();
    }
}
