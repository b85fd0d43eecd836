//! From what a run prints to log records: cut into lines, cut to a size, counted.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc::UnboundedSender;

use super::protocol::without_nul;
use super::{LogLevel, LogRecord, RunEvent};
use crate::clock::SharedClock;

/// Counted for each record on top of its bytes, so that a flood of empty lines is a flood too.
const RECORD_COST: usize = 64;
/// How much of stderr is kept for the message of a process that ended without a reason.
const TAIL_LINES: usize = 8;
const TAIL_LINE_BYTES: usize = 400;

/// Takes a run's lines from all its sources. The queue behind it has no bound of its own: the log's byte limit is one.
pub(super) struct LogSink {
    queue: UnboundedSender<RunEvent>,
    clock: SharedClock,
    line_bytes: usize,
    state: Mutex<State>,
}

struct State {
    left: usize,
    limit: usize,
    truncated: bool,
    tail: VecDeque<String>,
}

impl LogSink {
    pub(super) fn new(queue: UnboundedSender<RunEvent>, clock: SharedClock, limits: &super::Limits) -> Self {
        Self {
            queue,
            clock,
            line_bytes: limits.line_bytes.max(64),
            state: Mutex::new(State {
                left: limits.log_bytes,
                limit: limits.log_bytes,
                truncated: false,
                tail: VecDeque::new(),
            }),
        }
    }

    /// Takes one message, in pieces if it is long.
    pub(super) fn say(&self, level: LogLevel, message: &str) {
        let mut rest = message;
        loop {
            let (piece, more) = rest.split_at(boundary(rest.as_bytes(), self.line_bytes));
            if !self.push(level, piece) || more.is_empty() {
                return;
            }
            rest = more;
        }
    }

    /// Whether everything from now on is thrown away.
    pub(super) fn is_full(&self) -> bool {
        self.state().truncated
    }

    /// The last lines of stderr, joined.
    pub(super) fn stderr_tail(&self) -> String {
        Vec::from(self.state().tail.clone()).join("\n")
    }

    fn push(&self, level: LogLevel, piece: &str) -> bool {
        let mut state = self.state();
        if state.truncated {
            return false;
        }
        let cost = piece.len() + RECORD_COST;
        let (level, message) = if cost <= state.left {
            state.left -= cost;
            (level, without_nul(piece.to_owned()))
        } else {
            state.truncated = true;
            let message = format!(
                "log truncated: it reached {} bytes, and what follows is not kept",
                state.limit
            );
            (LogLevel::Warn, message)
        };
        let at = self.clock.now();
        // Nobody listening any more is no reason to stop the run.
        let _ = self.queue.send(RunEvent::Log(LogRecord { level, message, at }));
        !state.truncated
    }

    fn keep_tail(&self, line: &str) {
        let mut state = self.state();
        if state.tail.len() == TAIL_LINES {
            state.tail.pop_front();
        }
        state
            .tail
            .push_back(line[..boundary(line.as_bytes(), TAIL_LINE_BYTES)].to_owned());
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The longest prefix of at most `max` bytes that does not cut a UTF-8 character.
fn boundary(bytes: &[u8], max: usize) -> usize {
    if bytes.len() <= max {
        return bytes.len();
    }
    let continues = |at: &usize| bytes[*at] & 0b1100_0000 == 0b1000_0000;
    // A character has at most three bytes that continue it; more of them are not UTF-8, and are cut anywhere.
    (max.saturating_sub(3)..=max)
        .rev()
        .find(|at| !continues(at))
        .filter(|&at| at > 0)
        .unwrap_or(max)
}

/// Reads a pipe to its end, line by line. It is always drained, also when the log is full: a workflow must never hang
/// because nobody reads it.
pub(super) async fn pump(mut pipe: impl AsyncRead + Unpin, level: LogLevel, sink: &LogSink) {
    let mut splitter = Splitter {
        rest: Vec::new(),
        line_bytes: sink.line_bytes,
    };
    let mut chunk = vec![0; 64 * 1024];
    let mut say = |line: &str| {
        if level == LogLevel::Error {
            sink.keep_tail(line);
        }
        sink.say(level, line);
    };
    loop {
        match pipe.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(_) if sink.is_full() && level != LogLevel::Error => splitter.rest.clear(),
            Ok(read) => splitter.feed(&chunk[..read], &mut say),
        }
    }
    splitter.finish(&mut say);
}

struct Splitter {
    rest: Vec<u8>,
    line_bytes: usize,
}

impl Splitter {
    fn feed(&mut self, chunk: &[u8], say: &mut impl FnMut(&str)) {
        self.rest.extend_from_slice(chunk);
        let mut at = 0;
        loop {
            let rest = &self.rest[at..];
            let line_end = rest.iter().take(self.line_bytes + 1).position(|&b| b == b'\n');
            match line_end {
                Some(end) => {
                    say(&text(&rest[..end]));
                    at += end + 1;
                }
                None if rest.len() > self.line_bytes => {
                    let piece = boundary(rest, self.line_bytes);
                    say(&text(&rest[..piece]));
                    at += piece;
                }
                None => break,
            }
        }
        self.rest.drain(..at);
    }

    fn finish(self, say: &mut impl FnMut(&str)) {
        if !self.rest.is_empty() {
            say(&text(&self.rest));
        }
    }
}

fn text(line: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc;

    use super::*;
    use crate::clock::SystemClock;

    async fn lines(input: &[u8], line_bytes: usize, log_bytes: usize) -> Vec<(LogLevel, String)> {
        let (queue, mut out) = mpsc::unbounded_channel();
        let limits = super::super::Limits {
            line_bytes,
            log_bytes,
            ..Default::default()
        };
        let sink = LogSink::new(queue, Arc::new(SystemClock), &limits);
        pump(input, LogLevel::Info, &sink).await;
        drop(sink);
        let mut all = Vec::new();
        while let Some(event) = out.recv().await {
            let RunEvent::Log(record) = event else {
                panic!("only logs")
            };
            all.push((record.level, record.message));
        }
        all
    }

    #[tokio::test]
    async fn lines_are_split_and_long_ones_cut_between_characters() {
        let said = lines("one\r\n\ntwo\0\nlast".as_bytes(), 64, 10_000).await;
        let texts: Vec<&str> = said.iter().map(|(_, m)| m.as_str()).collect();
        assert_eq!(texts, ["one", "", "two\u{fffd}", "last"]);
        let long = "é".repeat(100);
        let said = lines(long.as_bytes(), 65, 10_000).await;
        assert!(said.iter().all(|(_, m)| m.len() <= 65 && !m.contains('\u{fffd}')));
        assert_eq!(said.iter().map(|(_, m)| m.as_str()).collect::<String>(), long);
    }

    #[tokio::test]
    async fn a_flood_ends_in_one_warning() {
        let flood = "x\n".repeat(100_000);
        let said = lines(flood.as_bytes(), 64, 6_500).await;
        assert_eq!(said.len(), 101);
        assert_eq!(said[100].0, LogLevel::Warn);
        assert!(said[100].1.contains("6500 bytes"), "{}", said[100].1);
        let empty = lines("\n".repeat(100_000).as_bytes(), 64, 6_400).await;
        assert_eq!(empty.len(), 101);
    }

    #[test]
    fn what_is_not_utf8_is_cut_anywhere() {
        assert_eq!(boundary(&[0x80; 100], 10), 10);
        assert_eq!(boundary("aé".as_bytes(), 2), 1);
        assert_eq!(boundary("é".as_bytes(), 1), 1);
    }
}
