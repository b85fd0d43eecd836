//! The real binary on a data directory of its own.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tempfile::TempDir;

use super::{Client, PATIENCE, Request, Setup, database::Database, process, wait_for, wait_until};

/// A server. When it is dropped it is told to end, must do so with success, and must leave no process of a run behind.
#[derive(Debug)]
pub(crate) struct Server {
    setup: Setup,
    dir: TempDir,
    address: Arc<Mutex<SocketAddr>>,
    running: Option<Running>,
    /// Where everything is kept, if not in the data directory. Dropped last: the server uses it until it has ended.
    database: Option<Arc<Database>>,
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// What a process says on its two outputs.
#[derive(Debug)]
struct Running {
    child: Child,
    stdout: Arc<Mutex<Vec<String>>>,
    stderr: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(super) fn unstarted(setup: Setup) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        if let Some(instant) = setup.clock {
            std::fs::write(dir.path().join("clock"), instant).unwrap();
        }
        let mut server = Self {
            setup,
            dir,
            address: Arc::new(Mutex::new(SocketAddr::from(([127, 0, 0, 1], 0)))),
            running: None,
            database: None,
        };
        if server.setup.shared {
            server.database = Some(Arc::new(Database::new()));
        } else if !server.setup.embedded {
            server.database = Database::asked_for().map(Arc::new);
        }
        if server.database.is_some() {
            server.cli(&["migrate"]);
        }
        server
    }

    /// Another node on the same database, with a folder and a clock of its own and the same key.
    pub(crate) fn node(&self, setup: Setup) -> Self {
        let mut node = Self::unstarted(Setup {
            embedded: true,
            ..setup
        });
        node.setup.embedded = false;
        node.database.clone_from(&self.database);
        let key = "secret.key";
        std::fs::create_dir(node.data_dir()).unwrap();
        std::fs::copy(self.data_dir().join(key), node.data_dir().join(key)).unwrap();
        node
    }

    pub(crate) fn database(&self) -> &Database {
        self.database.as_deref().unwrap()
    }

    /// From now on everything is there, and no more in the data directory.
    pub(crate) fn move_to(&mut self, database: Database) {
        assert!(self.running.is_none(), "it runs");
        self.database = Some(Arc::new(database));
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A command line of the program on this data directory, with nothing of the test's own environment.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = process::command(env!("CARGO_BIN_EXE_impresario"));
        // An empty PATH and home: Chromium is not found, and Node only where it is named.
        let bin = self.dir.path().join("bin");
        let path = if self.setup.browser {
            "/usr/local/bin:/usr/bin:/bin".into()
        } else {
            bin
        };
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.dir.path())
            .env("IMPRESARIO_DATA_DIR", self.data_dir())
            .env("IMPRESARIO_RUNNER_DIR", runner_dir())
            .env("IMPRESARIO_NODE", node())
            .env("IMPRESARIO_LOG", "info");
        if let Some(database) = &self.database {
            command.env("IMPRESARIO_DATABASE_URL", database.url());
        }
        if self.setup.clock.is_some() {
            command.env("IMPRESARIO_CLOCK_FILE", self.dir.path().join("clock"));
        }
        let (per_second, burst) = self.setup.requests.unwrap_or((0, 1));
        command
            .env("IMPRESARIO_REQUESTS_PER_SECOND", per_second.to_string())
            .env("IMPRESARIO_REQUEST_BURST", burst.to_string());
        if self.setup.private_callbacks {
            command.env("IMPRESARIO_ALLOW_PRIVATE_CALLBACKS", "127.0.0.0/8");
        }
        command
    }

    fn serve_command(&self) -> Command {
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0"]);
        command
            .args(["--job-slots", &self.setup.job_slots.to_string()])
            .args(["--shutdown-grace-seconds", &self.setup.grace_seconds.to_string()]);
        if self.database.is_some() {
            // What a killed server held comes free when its lease has run out.
            command.args(["--lease-seconds", "2"]);
        }
        if let Some(roles) = self.setup.roles {
            command.args(["--roles", roles]);
        }
        if let Some(places) = self.setup.deliveries_at_once {
            command.args(["--deliveries-at-once", &places.to_string()]);
        }
        if !self.setup.hints {
            command.args(["--database-hints", "off"]);
        }
        if let Some(chromium) = &self.setup.chromium {
            command.arg("--chromium").arg(chromium);
        }
        command
    }

    /// Starts it on the data directory as it stands, and waits for the ready line.
    #[track_caller]
    pub(crate) fn start_again(&mut self) {
        self.launch();
        self.wait_ready();
    }

    /// Starts it, and does not wait until it is ready.
    #[track_caller]
    pub(crate) fn launch(&mut self) {
        assert!(self.running.is_none(), "it runs already");
        let mut child = self
            .serve_command()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = lines_of(child.stdout.take().unwrap());
        let stderr = lines_of(child.stderr.take().unwrap());
        self.running = Some(Running {
            child,
            stdout,
            stderr,
        });
    }

    #[track_caller]
    fn wait_ready(&mut self) {
        let line = wait_for("the ready line", PATIENCE, || {
            let running = self.running.as_mut().unwrap();
            if let Some(line) = running.stdout.lock().unwrap().first() {
                return Ok(line.clone());
            }
            let ended = running.child.try_wait().unwrap();
            assert!(
                ended.is_none(),
                "the server ended: {ended:?}; stderr:\n{}",
                self.log()
            );
            Err(self.log())
        });
        let address = line
            .strip_prefix("listening on http://")
            .and_then(|text| text.parse().ok());
        *self.address.lock().unwrap() = address.unwrap_or_else(|| panic!("not a ready line: {line:?}"));
    }

    /// Starts a second server on the same data directory, which must refuse and end: its exit status and stderr.
    #[track_caller]
    pub(crate) fn start_another(&self) -> (ExitStatus, String) {
        let mut command = self.serve_command();
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = lines_of(child.stderr.take().unwrap());
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > end {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("a second server runs on the data directory");
            }
            thread::sleep(Duration::from_millis(15));
        };
        wait_until("the end of stderr", PATIENCE, || Arc::strong_count(&stderr) == 1);
        let text = stderr.lock().unwrap().join("\n");
        (status, text)
    }

    /// Runs a command of the command line beside the server: what it prints.
    #[track_caller]
    pub(crate) fn cli(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {}; {stderr}", output.status);
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Runs a command that must fail: its exit code and stderr.
    #[track_caller]
    pub(crate) fn cli_fails(&self, args: &[&str]) -> (i32, String) {
        let output = self.command(args).output().unwrap();
        assert!(!output.status.success(), "{args:?} went well");
        assert_eq!(output.stdout, b"", "{args:?} says nothing on stdout");
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    /// Runs a command as it comes, in the server's folder, with these variables and this on stdin, which is no terminal.
    #[track_caller]
    pub(crate) fn cli_with(&self, args: &[&str], variables: &[(&str, &str)], stdin: &str) -> Ran {
        let mut command = self.command(args);
        command.envs(variables.iter().copied());
        let output = process::fed(&mut command, stdin.as_bytes());
        Ran {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command and kills it when its stderr has this in a line.
    #[track_caller]
    pub(crate) fn cli_killed(&self, args: &[&str], at: &str) {
        let mut command = self.command(args);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let came = lines.map_while(Result::ok).any(|line| line.contains(at));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(came, "{args:?} never said {at:?}");
    }

    /// Writes to the database as no request can, `?1` standing for the first of `params`: how many rows it touched. What an
    /// older version left behind, or a damaged row, is not to be had in another way.
    pub(crate) fn behind_its_back(&self, sql: &str, params: &[&str]) -> u64 {
        if let Some(database) = &self.database {
            return database.execute(sql, params);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the test writes behind the store's back"
        )]
        let database = rusqlite::Connection::open(self.data_dir().join("impresario.db")).unwrap();
        let touched = database.execute(sql, rusqlite::params_from_iter(params)).unwrap();
        touched as u64
    }

    /// Puts a file into the folder in which commands run.
    pub(crate) fn write_file(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.dir.path().join(name), bytes).unwrap();
    }

    pub(crate) fn read_file(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    /// Makes a tenant and a key with the command line, and gives a client that uses it.
    #[track_caller]
    pub(crate) fn tenant(&self, name: &str) -> Client {
        self.cli(&["tenant", "create", name]);
        let key = self.cli(&["api-key", "create", "--tenant", name, "--label", "test"]);
        assert!(
            key.starts_with("imp_") && !key.contains('\n'),
            "the key alone, not {key:?}"
        );
        self.client(&key)
    }

    pub(crate) fn client(&self, key: &str) -> Client {
        Client::new(self.address.clone(), key.to_owned())
    }

    /// Moves the clock and waits until the server goes by it.
    #[track_caller]
    pub(crate) fn set_clock(&self, instant: &str) {
        let at: Timestamp = instant.parse().unwrap();
        self.write_clock(instant);
        // A request's id is a version 7 UUID: it begins with the time by the server's clock.
        wait_until(&format!("the server's clock to show {instant}"), PATIENCE, || {
            let answer = Request::get("/health/live")
                .send(*self.address.lock().unwrap())
                .unwrap();
            let id: uuid::Uuid = answer.header("x-request-id").unwrap().parse().unwrap();
            let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
            let shown = i64::try_from(seconds).unwrap() * 1000 + i64::from(nanos / 1_000_000);
            shown == at.as_millisecond()
        });
    }

    /// Moves the clock of a server that may be down.
    pub(crate) fn write_clock(&self, instant: &str) {
        assert!(
            self.setup.clock.is_some(),
            "this server goes by the machine's clock"
        );
        let draft = self.dir.path().join("clock.new");
        std::fs::write(&draft, instant).unwrap();
        std::fs::rename(draft, self.dir.path().join("clock")).unwrap();
    }

    /// `kill -9`. What it ran is left running: the next start has to deal with it.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        let mut running = self.running.take().unwrap();
        running.child.kill().unwrap();
        running.child.wait().unwrap();
    }

    /// SIGTERM, without waiting.
    #[track_caller]
    pub(crate) fn terminate(&self) {
        process::signal(&self.running.as_ref().unwrap().child, "TERM");
    }

    /// Waits until it has ended.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.ended_with_log().0
    }

    /// Waits until it has ended: how, and its log.
    #[track_caller]
    pub(crate) fn ended_with_log(&mut self) -> (ExitStatus, String) {
        let mut running = self.running.take().unwrap();
        let status = wait_for("the server to end", process::END_LIMIT, || {
            let status = running.child.try_wait().unwrap();
            status.ok_or_else(|| running.stderr.lock().unwrap().join("\n"))
        });
        let log = running.stderr.lock().unwrap().join("\n");
        (status, log)
    }

    /// The processes of this server's runs that are alive.
    pub(crate) fn run_processes(&self) -> Vec<u32> {
        process::of_runs(&self.data_dir())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.as_ref().unwrap().child.id()
    }

    /// The server's own log so far.
    pub(crate) fn log(&self) -> String {
        let running = self.running.as_ref();
        running
            .map(|running| running.stderr.lock().unwrap().join("\n"))
            .unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data_dir = self.data_dir();
        let Some(mut running) = self.running.take() else {
            return process::sweep(&data_dir);
        };
        if thread::panicking() {
            let _gone = running.child.kill();
            let _gone = running.child.wait();
            process::sweep(&data_dir);
            eprintln!("the server's log:\n{}", running.stderr.lock().unwrap().join("\n"));
            return;
        }
        process::signal(&running.child, "TERM");
        let stderr = running.stderr.clone();
        let status = wait_for("the server to end after SIGTERM", process::END_LIMIT, || {
            let status = running.child.try_wait().unwrap();
            status.ok_or_else(|| stderr.lock().unwrap().join("\n"))
        });
        let left = process::of_runs(&data_dir);
        process::sweep(&data_dir);
        assert!(
            status.success(),
            "the server ended with {status}: {}",
            stderr.lock().unwrap().join("\n")
        );
        assert!(left.is_empty(), "processes of runs were left behind: {left:?}");
        let stdout = running.stdout.lock().unwrap();
        assert_eq!(stdout.len(), 1, "one line on stdout and no more: {stdout:?}");
    }
}

/// The lines of a pipe, as they come.
pub(super) fn lines_of(pipe: impl std::io::Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let filled = lines.clone();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            filled.lock().unwrap().push(line);
        }
    });
    lines
}

#[expect(
    clippy::disallowed_methods,
    reason = "where the runner's packages are is told to tests by the environment"
)]
pub(crate) fn runner_dir() -> PathBuf {
    let dir = std::env::var("IMPRESARIO_RUNNER_DIR").map_or_else(
        |_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runner"),
        PathBuf::from,
    );
    let core = dir.join("node_modules/playwright-core/package.json");
    let (core, place) = (core.display(), dir.display());
    assert!(
        dir.join("node_modules/playwright-core/package.json").exists(),
        "{core} is missing: run `npm ci --ignore-scripts` in {place} or set IMPRESARIO_RUNNER_DIR"
    );
    dir.canonicalize().unwrap()
}

/// Node as an absolute path: the server does not get the test's PATH.
#[expect(
    clippy::disallowed_methods,
    reason = "the server is started without the test's PATH, so Node is looked up here"
)]
pub(crate) fn node() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|dir| dir.join("node"))
        .find(|file| file.is_file());
    found.expect("Node 20 or newer is needed by these tests, as `node` on PATH")
}
