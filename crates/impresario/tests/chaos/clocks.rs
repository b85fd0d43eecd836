//! What the nodes take for the time: a clock file each, written many times a second, ahead of or behind the others, and
//! a record of everything they could have read.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use jiff::Timestamp;

/// Milliseconds since 1970 by this machine's clock, which is PostgreSQL's as well.
#[expect(
    clippy::disallowed_methods,
    reason = "the database's clock is the machine's, and what it wrote is compared with it"
)]
pub(crate) fn real_now() -> i64 {
    Timestamp::now().as_millisecond()
}

/// As the API writes an instant.
pub(crate) fn text(at: i64) -> String {
    format!("{:.3}", Timestamp::from_millisecond(at).unwrap())
}

/// Everything that the clocks have shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown {
    /// When it was written, by the machine's clock, and what: of the earliest and of the latest node.
    entries: Vec<(i64, i64, i64)>,
}

impl Shown {
    pub(crate) fn note(&mut self, real: i64, nodes: &[i64]) {
        let (low, high) = (nodes.iter().min().unwrap(), nodes.iter().max().unwrap());
        // The highest so far: a node that has stopped to read still goes by what it read.
        let high = self
            .entries
            .last()
            .map_or(*high, |(_, _, before)| *high.max(before));
        self.entries.push((real, *low, high));
    }

    /// Where they began.
    pub(crate) fn earliest_of_all(&self) -> i64 {
        self.entries.first().map_or(0, |(_, low, _)| *low)
    }

    /// The latest that any node's clock could have shown at an instant of the machine's.
    pub(crate) fn latest(&self, real: i64) -> i64 {
        let until = self.entries.partition_point(|(at, ..)| *at <= real);
        self.entries[..until].last().map_or(i64::MIN, |(.., high)| *high)
    }

    /// The earliest that a node's clock could show which has read its file since.
    pub(crate) fn earliest(&self, real: i64) -> i64 {
        let until = self.entries.partition_point(|(at, ..)| *at <= real);
        self.entries[..until].last().map_or(i64::MIN, |(_, low, _)| *low)
    }
}

#[derive(Debug)]
struct State {
    /// Where the common clock stands, and when it was put there; it runs `speed` times as fast as the machine's.
    base: i64,
    since: Instant,
    speed: i64,
    /// How far each node is ahead.
    skews: Vec<i64>,
    nodes: Vec<i64>,
    shown: Shown,
}

impl State {
    fn common(&self) -> i64 {
        self.base + i64::try_from(self.since.elapsed().as_millis()).unwrap() * self.speed
    }

    /// Moves each node's clock to where it belongs, never back: one that was ahead stands until it is overtaken.
    fn step(&mut self) {
        let common = self.common();
        for (node, skew) in self.nodes.iter_mut().zip(&self.skews) {
            *node = (common + skew).max(*node);
        }
    }
}

#[derive(Debug)]
pub(crate) struct Clocks {
    state: Arc<Mutex<State>>,
    over: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
    files: Vec<PathBuf>,
}

const STEP: Duration = Duration::from_millis(50);

impl Clocks {
    /// Clocks that stand at `start` until they are set going.
    pub(crate) fn start(files: Vec<PathBuf>, start: i64) -> Self {
        let state = State {
            base: start,
            since: Instant::now(),
            speed: 0,
            skews: vec![0; files.len()],
            nodes: vec![start; files.len()],
            shown: Shown::default(),
        };
        let mut clocks = Self {
            state: Arc::new(Mutex::new(state)),
            over: Arc::default(),
            writer: None,
            files,
        };
        write(&clocks.files, &clocks.state);
        let (files, state, over) = (clocks.files.clone(), clocks.state.clone(), clocks.over.clone());
        clocks.writer = Some(thread::spawn(move || {
            while !over.load(Ordering::SeqCst) {
                write(&files, &state);
                thread::sleep(STEP);
            }
        }));
        clocks
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap();
        (state.base, state.since) = (state.common(), Instant::now());
        change(&mut state);
    }

    pub(crate) fn run(&self, speed: i64) {
        self.change(|state| state.speed = speed);
    }

    /// Puts a node's clock ahead of the common one, or behind it where this is negative.
    pub(crate) fn skew(&self, node: usize, by: i64) {
        self.change(|state| state.skews[node] = by);
    }

    /// Sets all clocks to where the one that is furthest ahead stands, or `more` beyond it, and lets them stand there:
    /// where that is.
    pub(crate) fn stop_together(&self, more: i64) -> i64 {
        self.change(|state| {
            state.step();
            state.base = state.nodes.iter().max().unwrap() + more;
            state.speed = 0;
            state.skews.fill(0);
        });
        write(&self.files, &self.state);
        self.now()
    }

    /// Where the common clock stands.
    pub(crate) fn now(&self) -> i64 {
        self.state.lock().unwrap().common()
    }

    pub(crate) fn file(&self, node: usize) -> &PathBuf {
        &self.files[node]
    }

    pub(crate) fn shown(&self) -> Shown {
        self.state.lock().unwrap().shown.clone()
    }
}

impl Drop for Clocks {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(writer) = self.writer.take() {
            let _panicked = writer.join();
        }
    }
}

/// Writes the files, under the lock: two writers must not put an older instant over a newer one.
fn write(files: &[PathBuf], state: &Mutex<State>) {
    let mut state = state.lock().unwrap();
    state.step();
    // Noted before it is written: nobody has read it earlier than this.
    let (real, nodes) = (real_now(), state.nodes.clone());
    state.shown.note(real, &nodes);
    for (file, at) in files.iter().zip(nodes) {
        let draft = file.with_extension("new");
        std::fs::write(&draft, text(at)).unwrap();
        std::fs::rename(draft, file).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::{PATIENCE, wait_until};

    #[test]
    fn a_clock_that_was_ahead_stands_until_it_is_overtaken_and_all_end_together() {
        let dir = tempfile::tempdir().unwrap();
        let files = vec![dir.path().join("a"), dir.path().join("b")];
        let clocks = Clocks::start(files.clone(), 1_000_000);
        let read = |node: usize| -> i64 {
            let text = std::fs::read_to_string(&files[node]).unwrap();
            text.parse::<Timestamp>().unwrap().as_millisecond()
        };
        assert_eq!(read(0), 1_000_000);
        clocks.skew(1, 5_000);
        wait_until("the second to be ahead", PATIENCE, || read(1) == 1_005_000);
        clocks.skew(1, -5_000);
        clocks.run(1_000);
        wait_until("the first to overtake", PATIENCE, || read(0) > 1_020_000);
        assert!(read(1) >= 1_005_000);
        let end = clocks.stop_together(7);
        assert_eq!((read(0), read(1), clocks.now()), (end, end, end));
        let shown = clocks.shown();
        assert_eq!(shown.latest(real_now()), end);
        assert!(shown.latest(0) < 0, "nothing was shown then");
    }
}
