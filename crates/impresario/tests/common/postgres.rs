//! A PostgreSQL server of a test's own: made for it, gone with it. Most tests need none: they use the one that
//! `scripts/with-postgres` starts, on a database that nobody else uses ([`shared`]).

#![allow(
    dead_code,
    reason = "the library's tests, the end-to-end tests and the chaos run are three programs, and each uses a part of it"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "the programs of a server, which end by themselves or with it; and the variable that tests are given"
)]

use std::{
    fmt::Write as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

/// How long something may take that must happen, and how often it is looked for.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// The URL of the server that is there for all tests, as its superuser.
///
/// # Panics
/// Where there is none.
pub(crate) fn shared() -> String {
    std::env::var("IMPRESARIO_TEST_DATABASE_URL")
        .expect("IMPRESARIO_TEST_DATABASE_URL is not set: run the tests with scripts/with-postgres")
}

/// A server, and the directory it is in.
#[derive(Debug)]
pub(crate) struct Postgres {
    home: tempfile::TempDir,
    bin: PathBuf,
    port: u16,
}

/// How a server is stopped.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stop {
    /// It waits for its clients.
    Smart,
    /// It ends its sessions first.
    Fast,
    /// It ends as in a crash.
    Immediate,
}

/// Whether the tests of both engines are to run on PostgreSQL this time.
pub(crate) fn is_asked_for() -> bool {
    std::env::var("IMPRESARIO_TEST_ENGINE").as_deref() == Ok("postgres")
}

impl Postgres {
    /// A server with these lines in its postgresql.conf, and with these instead of the usual ones in its pg_hba.conf
    /// (none: anybody on this machine may be anybody). Its superuser is `postgres`.
    pub(crate) fn start_with(config: &str, hba: &str) -> Self {
        Self::start_after(config, hba, |_| {})
    }

    /// The same, with something done to its directory before it starts.
    pub(crate) fn start_after(config: &str, hba: &str, prepare: impl FnOnce(&Self)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let server = Self {
            bin: bin(),
            port: free_port(),
            home,
        };
        let path = server.home.path();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(path));
        }
        run(Command::new("chmod").arg("755").arg(path));
        run(server.program("initdb").arg("-D").arg(server.data()).args([
            "-A",
            "trust",
            "-U",
            "postgres",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
        ]));
        let hba = match hba {
            "" => "local all all trust\nhost all all 127.0.0.1/32 trust\n",
            hba => hba,
        };
        server.write("pg_hba.conf", hba);
        server.configure(config);
        prepare(&server);
        server.start();
        server
    }

    /// Its settings from the next start, or reload, on.
    pub(crate) fn configure(&self, config: &str) {
        let mut text = format!(
            "port = {}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nfsync = off\n",
            self.port,
            self.home.path().display()
        );
        writeln!(text, "{config}").unwrap();
        self.write("postgresql.conf", &text);
    }

    fn write(&self, name: &str, text: &str) {
        // The file is there already and the server's user keeps it: it is written in place.
        std::fs::write(self.data().join(name), text).unwrap();
    }

    /// The directory of its data.
    pub(crate) fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// The directory of its socket.
    pub(crate) fn sockets(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// As its superuser.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts it and returns when it takes connections, or stands by. What a killed one left behind may be in the way
    /// for a moment.
    pub(crate) fn start(&self) {
        let log = self.home.path().join("server.log");
        let mut last = String::new();
        wait_until(|| {
            let mut command = self.program("pg_ctl");
            command.arg("-D").arg(self.data()).arg("-l").arg(&log);
            let output = command
                .args(["-w", "start"])
                .stdin(Stdio::null())
                .output()
                .unwrap();
            last = String::from_utf8_lossy(&output.stderr).into_owned();
            output.status.success()
        })
        .unwrap_or_else(|()| panic!("{last}\n{}", std::fs::read_to_string(&log).unwrap_or_default()));
    }

    /// Returns when it has ended, of which it was told before.
    pub(crate) fn wait_for_its_end(&self) {
        let pid = self.data().join("postmaster.pid");
        wait_until(|| !pid.exists()).expect("the server goes on");
    }

    /// Stops it and returns when it has ended.
    pub(crate) fn stop(&self, mode: Stop) {
        run(self.stopping(mode).arg("-w"));
    }

    /// Tells it to stop and returns at once.
    pub(crate) fn begin_to_stop(&self, mode: Stop) {
        run(self.stopping(mode).arg("-W"));
    }

    fn stopping(&self, mode: Stop) -> Command {
        let mode = match mode {
            Stop::Smart => "smart",
            Stop::Fast => "fast",
            Stop::Immediate => "immediate",
        };
        let mut command = self.program("pg_ctl");
        command.arg("-D").arg(self.data()).args(["-m", mode, "stop"]);
        command
    }

    /// Stops and starts it.
    pub(crate) fn restart(&self) {
        self.stop(Stop::Fast);
        self.start();
    }

    /// Gives a file in the directory of its data to the user it runs as.
    pub(crate) fn own(&self, name: &str) {
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(self.data().join(name)));
        }
    }

    /// Kills the server's main process, and returns when it is gone. Its others notice and end by themselves.
    pub(crate) fn kill9(&self) {
        let pid = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap().to_owned();
        run(Command::new("kill").args(["-KILL", &pid]));
        // Its process is gone when it has no descriptors left, even where nobody asks for its end.
        let open = PathBuf::from(format!("/proc/{pid}/fd/0"));
        wait_until(|| !open.exists()).expect("the server lives on");
    }

    /// Makes it read its files again.
    pub(crate) fn reload(&self) {
        run(self.program("pg_ctl").arg("-D").arg(self.data()).arg("reload"));
    }

    /// Runs statements as its superuser, each on its own, and returns what comes back, as bare text.
    pub(crate) fn sql(&self, statements: &str) -> String {
        let output = run(self
            .program("psql")
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"])
            .arg(self.sockets())
            .args(["-p", &self.port.to_string(), "-d", "postgres", "-c", statements]));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// One of PostgreSQL's programs, as the user that may run it.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = self.as_its_user();
        command.arg(self.bin.join(name));
        command
    }

    /// `openssl` in the directory of the data, as the user that will read what it makes.
    pub(crate) fn openssl(&self, arguments: &[&str]) {
        let mut command = self.as_its_user();
        run(command.arg("openssl").args(arguments).current_dir(self.data()));
    }

    /// PostgreSQL refuses to run as root.
    fn as_its_user(&self) -> Command {
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "env"]);
            command
        } else {
            Command::new("env")
        };
        command
            .env("HOME", self.home.path())
            .env("LC_ALL", "C")
            .current_dir(self.home.path());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It may be stopped already.
        let _ended = self.stopping(Stop::Immediate).arg("-w").output();
    }
}

/// A free port, for somebody who takes it soon.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A name for a role or a database that nothing else on a server has.
pub(crate) fn unique(what: &str) -> String {
    format!("{what}_{:016x}", rand::random::<u64>())
}

/// Looks again and again, for some seconds.
fn wait_until(mut is_so: impl FnMut() -> bool) -> Result<(), ()> {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() > end {
            return Err(());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Whether PostgreSQL's programs need another user: they refuse to run as root.
pub(crate) fn is_root() -> bool {
    let output = run(Command::new("id").arg("-u"));
    output.stdout.starts_with(b"0")
}

/// The programs of the newest server on this machine.
///
/// # Panics
/// Where there is none.
pub(crate) fn bin() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions
        .filter_map(|version| Some(version.ok()?.path()))
        .filter(|path| path.join("bin/initdb").exists())
        .max_by_key(number);
    if let Some(newest) = newest {
        return newest.join("bin");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .find(|folder| folder.join("initdb").exists())
        .expect("there is no PostgreSQL server on this machine: scripts/setup installs one")
}

fn run(command: &mut Command) -> Output {
    // A server that pg_ctl leaves running must not hold the pipe to this process open: its output goes to its log.
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
