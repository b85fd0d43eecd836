//! A PostgreSQL server that is started, restarted and killed.

use std::{
    fs::{File, Permissions},
    io::BufRead as _,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    db::Db,
    postgres_server::{bin, free_port, is_root},
    support::{
        process::{command, signal_pid},
        wait_until,
    },
};

/// How a server is stopped before it starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Sessions are ended, and it shuts down in good order.
    Fast,
    /// It drops everything and recovers at the next start.
    Immediate,
    /// `kill -9` of the postmaster: its children notice, and it recovers at the next start.
    Kill,
}

/// What crash recovery and a busy machine may take.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Postgres {
    home: TempDir,
    bin: PathBuf,
    address: SocketAddr,
    child: Option<Child>,
}

/// A number that `id` tells of the user that PostgreSQL runs as.
fn of_postgres(flag: &str) -> u32 {
    let said = command("id").args([flag, "postgres"]).output().unwrap().stdout;
    let text = String::from_utf8(said).unwrap();
    text.trim()
        .parse()
        .expect("PostgreSQL refuses to run as root, and there is no user postgres")
}

impl Postgres {
    /// Makes a cluster in a folder of its own and starts it.
    pub(crate) fn start() -> Self {
        let home = tempfile::Builder::new().prefix("chaos-pg").tempdir().unwrap();
        std::fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
        if is_root() {
            let (user, group) = (of_postgres("-u"), of_postgres("-g"));
            std::os::unix::fs::chown(home.path(), Some(user), Some(group)).unwrap();
        }
        // Free now, and nobody else asks for a port by its number.
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut server = Self {
            home,
            bin: bin(),
            address,
            child: None,
        };
        let made = server
            .program("initdb")
            .arg("-D")
            .arg(server.data())
            .args([
                "-A",
                "trust",
                "-U",
                "postgres",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C",
            ])
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        server.launch();
        server
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// A program of PostgreSQL's, which refuses to run as root.
    fn program(&self, name: &str) -> Command {
        let program = self.bin.join(name);
        let mut started = if is_root() {
            let mut setpriv = command("setpriv");
            setpriv
                .args(["--reuid=postgres", "--regid=postgres", "--init-groups"])
                .arg(program);
            setpriv
        } else {
            command(program)
        };
        started
            .current_dir(self.home.path())
            .env("HOME", self.home.path());
        started
    }

    fn log(&self) -> PathBuf {
        self.home.path().join("server.log")
    }

    fn launch(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        let mut server = self.program("postgres");
        server.arg("-D").arg(self.data());
        server.arg("-k").arg(self.home.path());
        server.args(["-p", &self.address.port().to_string()]);
        // What is killed is processes, never the machine, so nothing that was written is lost without fsync. Commit
        // times tell the checker what others could see.
        for setting in [
            "listen_addresses=127.0.0.1",
            "fsync=off",
            "max_connections=200",
            "track_commit_timestamp=on",
            "log_statement=none",
        ] {
            server.args(["-c", setting]);
        }
        let child = server
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        wait_until("PostgreSQL to answer", LIMIT, || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "PostgreSQL ended: {ended:?}\n{}", self.log_end());
            Db::try_postgres(self.address).is_ok()
        });
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it said last.
    pub(crate) fn log_end(&self) -> String {
        let lines: Vec<String> = File::open(self.log())
            .map(|file| {
                std::io::BufReader::new(file)
                    .lines()
                    .map_while(Result::ok)
                    .collect()
            })
            .unwrap_or_default();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Stops it in this way, and starts it again once nothing of it is left.
    pub(crate) fn restart(&mut self, how: Stop) {
        self.stop(how);
        self.launch();
    }

    fn stop(&mut self, how: Stop) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let postmaster = child.id();
        let children = children_of(postmaster);
        signal_pid(
            postmaster,
            match how {
                Stop::Fast => "INT",
                Stop::Immediate => "QUIT",
                Stop::Kill => "KILL",
            },
        );
        wait_until("PostgreSQL to end", LIMIT, || child.try_wait().unwrap().is_some());
        // A new server refuses to start, or worse, while a child of the old one has the data in its hands.
        wait_until("PostgreSQL's children to end", LIMIT, || {
            children.iter().all(|pid| !crate::support::alive(u64::from(*pid)))
        });
    }
}

/// The processes whose parent this is.
fn children_of(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the name in brackets: the state, then the parent.
        let after = stat.rfind(')').map_or("", |at| &stat[at + 1..]);
        after.split_whitespace().nth(1) == Some(&parent.to_string())
    })
    .collect()
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop(Stop::Immediate);
    }
}

#[test]
fn a_server_comes_back_with_what_was_committed_however_it_is_stopped() {
    let mut server = Postgres::start();
    Db::postgres(server.address()).run("CREATE TABLE kept (how TEXT)");
    for how in [Stop::Fast, Stop::Immediate, Stop::Kill] {
        Db::postgres(server.address()).run(&format!("INSERT INTO kept VALUES ('{how:?}')"));
        server.restart(how);
    }
    let rows = Db::postgres(server.address()).rows("SELECT how FROM kept");
    let kept: Vec<_> = rows.iter().map(|row| row["how"].as_str().unwrap()).collect();
    assert_eq!(kept, ["Fast", "Immediate", "Kill"]);
}
