//! The server that is measured: the real program, with tenants and their endpoints.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::http::Client;

/// The most that a tenant may have.
const ENDPOINTS_OF_A_TENANT: usize = 50;

pub struct Endpoint {
    pub id: String,
    /// Its tenant's.
    pub key: String,
}

/// A program, a database that is in use by nobody else, and what is in it.
pub struct Setup {
    program: PathBuf,
    desk: TempDir,
    pub endpoints: Vec<Endpoint>,
}

/// A running server; it is killed when this is dropped.
pub struct Server {
    pub client: Arc<Client>,
    process: Child,
}

/// Whether a database on PostgreSQL is measured.
pub fn on_postgres() -> bool {
    std::env::var_os("IMPRESARIO_DATABASE_URL").is_some()
}

impl Setup {
    /// Makes the tenants, and at `port` their endpoints.
    pub async fn new(program: &Path, endpoints: usize, port: u16) -> Result<Self> {
        let mut setup = Self {
            program: program.to_owned(),
            desk: TempDir::new()?,
            endpoints: Vec::new(),
        };
        if on_postgres() {
            setup.run(&["migrate"]).await?;
        }
        let mut keys = Vec::new();
        let run = std::process::id();
        for tenant in 0..endpoints.div_ceil(ENDPOINTS_OF_A_TENANT) {
            let name = format!("bench-{run}-{tenant}");
            setup.run(&["tenant", "create", &name]).await?;
            let key = ["api-key", "create", "--tenant", &name, "--label", "bench"];
            keys.push(setup.run(&key).await?);
        }
        let server = setup.serve(&[]).await?;
        for number in 0..endpoints {
            let key = keys[number / ENDPOINTS_OF_A_TENANT].clone();
            let input = json!({ "url": format!("http://127.0.0.1:{port}/{number}") });
            let made = server.client.must("/v1/webhooks/create", &key, &input).await?;
            let id = made["webhook_endpoint_id"].as_str().context("an id")?.to_owned();
            setup.endpoints.push(Endpoint { id, key });
        }
        server.kill().await?;
        Ok(setup)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .current_dir(self.desk.path())
            .env("IMPRESARIO_DATA_DIR", self.desk.path().join("data"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if std::env::var_os("IMPRESARIO_RUNNER_DIR").is_none() {
            let runner = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runner");
            command.env("IMPRESARIO_RUNNER_DIR", runner);
        }
        command
    }

    async fn run(&self, arguments: &[&str]) -> Result<String> {
        let done = self.command(arguments).output().await;
        let done = done.with_context(|| format!("cannot start {}", self.program.display()))?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "impresario {arguments:?}: {said}");
        Ok(String::from_utf8(done.stdout)?.trim().to_owned())
    }

    /// Starts it, with these arguments besides, and waits until it listens.
    pub async fn serve(&self, arguments: &[&str]) -> Result<Server> {
        let (out, log) = (self.desk.path().join("out"), self.desk.path().join("log"));
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0", "--requests-per-second", "0"]);
        command
            .args(["--allow-private-callbacks", "127.0.0.0/8"])
            .args(arguments)
            .stdout(std::fs::File::create(&out)?)
            .stderr(std::fs::File::create(&log)?);
        let mut process = command.spawn()?;
        loop {
            let said = std::fs::read_to_string(&out)?;
            let address = said
                .lines()
                .find_map(|line| line.strip_prefix("listening on http://"));
            if let Some(address) = address {
                return Ok(Server {
                    client: Arc::new(Client::new(address.trim_end_matches('/'))),
                    process,
                });
            }
            let ended = process.try_wait()?;
            ensure!(ended.is_none(), "{}", std::fs::read_to_string(&log)?);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Server {
    /// Ends it as a crash would: nothing is sent any more from this instant on.
    pub async fn kill(mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }

    /// The most memory that it has held so far, in bytes.
    pub fn most_memory(&self) -> Result<u64> {
        let id = self.process.id().context("it has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = most.and_then(|most| most.trim().trim_end_matches(" kB").parse::<u64>().ok());
        Ok(kib.context("no VmHWM")? << 10)
    }

    /// How long it has had a processor, so far.
    pub fn cpu(&self) -> Result<Duration> {
        let id = self.process.id().context("it has ended")?;
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        // User and system time, in hundredths of a second.
        let ticks = fields
            .skip(11)
            .take(2)
            .map(str::parse::<u64>)
            .sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(ticks * 10))
    }
}
