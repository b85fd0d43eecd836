//! Nodes as processes: each with a data directory, a clock and a way to PostgreSQL of its own. A keeper starts again
//! whatever has ended, as an init system would.

use std::{
    fmt::Write as _,
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    process::{alive, command, of_runs, signal_pid, sweep},
    server::{node as node_program, runner_dir},
    wait_until,
};

/// Where a node's data is.
#[derive(Debug, Clone)]
pub(crate) enum Store {
    /// PostgreSQL at this URL.
    Postgres(String),
    /// SQLite in the node's data directory: there is one node.
    Sqlite,
}

/// What all nodes have in common.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    pub(crate) dir: PathBuf,
    pub(crate) lease_seconds: u64,
    pub(crate) job_slots: u16,
    /// Where the nodes' own logs are kept, also after the test.
    pub(crate) logs: PathBuf,
}

/// The key under which secrets are sealed, the same on all nodes: 32 bytes in base64.
const SECRET_KEY: &str = "Y2hhb3MgY2hhb3MgY2hhb3MgY2hhb3MgY2hhb3MgISE=";
/// A node that has been told to end: its runs get no grace, and what is left is written down.
const END_LIMIT: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(300);

#[derive(Debug, Default)]
struct State {
    child: Option<Child>,
    address: Option<SocketAddr>,
    /// Whether it is to be up: the keeper starts it where it is not.
    wanted: bool,
    /// Whether its end has been asked for.
    expected: bool,
    roles: Option<&'static str>,
    counts: Starts,
    wrong: Vec<String>,
}

/// How often it started, and how often that failed (a database that is away is a reason).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Starts {
    pub(crate) ready: usize,
    pub(crate) failed: usize,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) number: usize,
    store: Store,
    common: Common,
    clock: PathBuf,
    state: Arc<Mutex<State>>,
    over: Arc<AtomicBool>,
}

impl Node {
    pub(crate) fn new(number: usize, store: Store, common: &Common, clock: &Path) -> Arc<Self> {
        let node = Arc::new(Self {
            number,
            store,
            common: common.clone(),
            clock: clock.to_owned(),
            state: Arc::default(),
            over: Arc::default(),
        });
        std::fs::create_dir_all(common.dir.join("empty")).unwrap();
        let kept = Arc::downgrade(&node);
        thread::spawn(move || {
            while let Some(node) = kept.upgrade().filter(|node| !node.over.load(Ordering::SeqCst)) {
                let pause = node.keep();
                drop(node);
                thread::sleep(pause);
            }
        });
        node
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.common.dir.join(format!("node-{}", self.number))
    }

    fn log(&self) -> PathBuf {
        self.common.logs.join(format!("node-{}.log", self.number))
    }

    /// A command line of the program for this node, with nothing of the test's own environment. PATH leads nowhere, so
    /// no Chromium is found and a run is a Node process and no more.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut program = command(env!("CARGO_BIN_EXE_impresario"));
        program
            .args(args)
            .current_dir(&self.common.dir)
            .env_clear()
            .env("PATH", self.common.dir.join("empty"))
            .env("HOME", &self.common.dir)
            .env("IMPRESARIO_DATA_DIR", self.data_dir())
            .env("IMPRESARIO_RUNNER_DIR", runner_dir())
            .env("IMPRESARIO_NODE", node_program())
            .env("IMPRESARIO_LOG", "info")
            .env("IMPRESARIO_REQUESTS_PER_SECOND", "0")
            .env("IMPRESARIO_SECRET_KEY", SECRET_KEY)
            .env("IMPRESARIO_ALLOW_PRIVATE_CALLBACKS", "127.0.0.0/8");
        if let Store::Postgres(url) = &self.store {
            program.arg("--database-url").arg(url);
        }
        program
    }

    fn serve(&self, roles: Option<&str>) -> Command {
        let mut program = self.command(&[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--shutdown-grace-seconds",
            "2",
        ]);
        program.args(["--job-slots", &self.common.job_slots.to_string()]);
        program.env("IMPRESARIO_CLOCK_FILE", &self.clock);
        if let Store::Postgres(_) = self.store {
            program.args(["--lease-seconds", &self.common.lease_seconds.to_string()]);
        }
        if let Some(roles) = roles {
            program.args(["--roles", roles]);
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        program
    }

    /// One look of the keeper: how long until the next.
    fn keep(&self) -> Duration {
        let mut state = self.state.lock().unwrap();
        if let Some(child) = &mut state.child {
            let Some(status) = child.try_wait().unwrap() else {
                return Duration::from_millis(20);
            };
            let was_ready = state.address.take().is_some();
            if !state.expected && was_ready {
                let end = self.log_end();
                let number = self.number;
                state
                    .wrong
                    .push(format!("node {number} ended by itself, with {status}:\n{end}"));
            }
            if !state.expected && !was_ready {
                state.counts.failed += 1;
            }
            if state.expected && was_ready && !status.success() && status.signal() != Some(9) {
                let (number, end) = (self.number, self.log_end());
                let wrong = format!("node {number} ended with {status} after SIGTERM:\n{end}");
                state.wrong.push(wrong);
            }
            state.child = None;
            return AGAIN;
        }
        if state.wanted {
            let mut child = self.serve(state.roles).spawn().unwrap();
            let stdout = child.stdout.take().unwrap();
            let (pid, shared) = (child.id(), self.state.clone());
            state.expected = false;
            state.child = Some(child);
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    let Some(address) = line.strip_prefix("listening on http://") else {
                        continue;
                    };
                    let mut state = shared.lock().unwrap();
                    if state.child.as_ref().is_some_and(|child| child.id() == pid) {
                        state.address = Some(address.parse().unwrap());
                        state.counts.ready += 1;
                    }
                }
            });
        }
        Duration::from_millis(20)
    }

    /// What its log says last, without colours.
    pub(crate) fn log_end(&self) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = File::open(self.log()) {
            let length = file.metadata().map_or(0, |about| about.len());
            let _at = file.seek(SeekFrom::Start(length.saturating_sub(3_000)));
            let _read = file.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.state.lock().unwrap().address
    }

    pub(crate) fn starts(&self) -> Starts {
        self.state.lock().unwrap().counts
    }

    /// What it did that no node may.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.state.lock().unwrap().wrong.clone()
    }

    /// Wants it up, perhaps with some of the roles alone.
    pub(crate) fn up(&self, roles: Option<&'static str>) {
        let mut state = self.state.lock().unwrap();
        (state.wanted, state.roles) = (true, roles);
    }

    /// Waits until it answers; what is to be seen of it where it does not.
    pub(crate) fn wait_ready(&self, limit: Duration) -> Result<(), String> {
        let end = Instant::now() + limit;
        while self.address().is_none() {
            if Instant::now() > end {
                return Err(self.about());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Its process, what its threads wait for, and the end of its log.
    fn about(&self) -> String {
        let state = self.state.lock().unwrap();
        let pid = state.child.as_ref().map(Child::id);
        let mut text = format!("node {}: process {pid:?}, {:?}", self.number, state.counts);
        let tasks = pid.map(|pid| std::fs::read_dir(format!("/proc/{pid}/task")));
        for task in tasks.into_iter().flatten().flatten().flatten() {
            let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
            let status = read("status");
            let stands = status
                .lines()
                .find(|line| line.starts_with("State:"))
                .unwrap_or_default();
            write!(text, "\n  {} {stands} {}", read("comm").trim(), read("wchan")).unwrap();
        }
        drop(state);
        text + "\n" + &self.log_end()
    }

    /// Sends a signal to its process, if it has one; says whether it had.
    fn signal(&self, name: &str, ends: bool) -> bool {
        let mut state = self.state.lock().unwrap();
        let State {
            child,
            expected,
            address,
            ..
        } = &mut *state;
        // Its own child that nobody has waited for: the number is still its own.
        let Some(child) = child else { return false };
        if !matches!(child.try_wait(), Ok(None)) {
            return false;
        }
        *expected |= ends;
        if name == "KILL" {
            *address = None;
        }
        signal_pid(child.id(), name);
        true
    }

    /// `kill -9`. What it ran goes on: the next start has to deal with it.
    pub(crate) fn kill(&self) -> bool {
        self.signal("KILL", true)
    }

    pub(crate) fn terminate(&self) -> bool {
        self.signal("TERM", true)
    }

    /// Stops its process for a time, as a machine does whose memory is swapped out.
    pub(crate) fn freeze(&self, time: Duration) -> bool {
        let frozen = self.signal("STOP", false);
        if frozen {
            thread::sleep(time);
            self.signal("CONT", false);
        }
        frozen
    }

    /// Ends it for good with SIGTERM. What it may not do on the way is noted.
    pub(crate) fn down(&self) {
        let mut child = {
            let mut state = self.state.lock().unwrap();
            (state.wanted, state.expected) = (false, true);
            state.address = None;
            let Some(child) = state.child.take() else { return };
            child
        };
        if matches!(child.try_wait(), Ok(None)) {
            signal_pid(child.id(), "CONT");
            signal_pid(child.id(), "TERM");
        }
        let end = Instant::now() + END_LIMIT;
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if Instant::now() > end => break None,
                None => thread::sleep(Duration::from_millis(20)),
            }
        };
        let mut state = self.state.lock().unwrap();
        let number = self.number;
        match status {
            Some(status) if status.success() || status.signal() == Some(9) => {}
            Some(status) => state.wrong.push(format!(
                "node {number} ended with {status} after SIGTERM:\n{}",
                self.log_end()
            )),
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                let log = self.log_end();
                state
                    .wrong
                    .push(format!("node {number} did not end after SIGTERM:\n{log}"));
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(mut child) = self.state.lock().unwrap().child.take() {
            let _gone = child.kill();
            let _gone = child.wait();
        }
        let data_dir = self.data_dir();
        sweep(&data_dir);
        if !thread::panicking() {
            let left = of_runs(&data_dir);
            wait_until("what it ran to end", END_LIMIT, || {
                left.iter().all(|pid| !alive(u64::from(*pid)))
            });
        }
    }
}
