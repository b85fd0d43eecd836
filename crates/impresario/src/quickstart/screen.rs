//! What the quickstart says, and how it says that it is waiting.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

/// How often a waiting line is renewed: on a terminal in place, elsewhere as a new line.
const ON_A_TERMINAL: Duration = Duration::from_millis(250);
const ELSEWHERE: Duration = Duration::from_secs(10);

/// Writes to stdout; a reader that has gone away is no reason to stop.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: bool,
    waiting: Option<(Instant, bool)>,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            terminal: std::io::stdout().is_terminal(),
            waiting: None,
        }
    }

    /// A finished step.
    pub(super) fn done(&mut self, text: &str) {
        self.line(&format!("{} {text}", self.paint("32", "✓")));
    }

    /// A detail of the step before.
    pub(super) fn detail(&mut self, text: &str) {
        self.line(&format!("  {text}"));
    }

    /// A heading.
    pub(super) fn heading(&mut self, text: &str) {
        let text = self.paint("1", text);
        self.line(&format!("\n{text}"));
    }

    /// A line of its own.
    pub(super) fn line(&mut self, text: &str) {
        self.clear();
        self.write(&format!("{text}\n"));
    }

    /// Says what is being waited for. Call it as often as you like.
    pub(super) fn waiting(&mut self, text: &str) {
        let every = if self.terminal { ON_A_TERMINAL } else { ELSEWHERE };
        if self.waiting.is_some_and(|(since, _)| since.elapsed() < every) {
            return;
        }
        self.clear();
        self.waiting = Some((Instant::now(), self.terminal));
        let end = if self.terminal { "" } else { "\n" };
        self.write(&format!("… {text}{end}"));
    }

    fn clear(&mut self) {
        if let Some((_, true)) = self.waiting.take() {
            self.write("\r\x1b[2K");
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.terminal {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn write(&self, text: &str) {
        let mut stdout = std::io::stdout().lock();
        let _closed = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    }
}
