//! Settings: one struct, from four sources.
//!
//! Later ones win: defaults, an optional TOML file (`--config`, else `impresario.toml` in the working directory),
//! environment variables `IMPRESARIO_…`, command-line flags. This is the only module that reads the environment.
//!
//! A variable is text, and each setting reads its own from it. A general reader that guesses types would take
//! `IMPRESARIO_DATA_DIR=2024` for a number, and print a key that happens to be one.

mod roles;
mod sources;

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};

pub use self::roles::{Role, Roles};
use self::sources::{Environment, Sources};
use crate::{secrets::Keyring, store::postgres::Target};

/// What can be set. Each field is a flag (`--job-slots`), a variable (`IMPRESARIO_JOB_SLOTS`) and a key of the file
/// (`job_slots`); those that hold secrets have no flag, because every user of a machine can read command lines. The database
/// (`database_url`) has one, and does without a password in it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the server listens. Default `127.0.0.1:8080`; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where everything is kept: the database, bundles, the secret key. Default `./data`.
    pub data_dir: PathBuf,
    /// The database on PostgreSQL that everything is kept in. Default: none, and it is kept in the data directory.
    pub database: Option<Target>,
    /// Whether nodes on one database tell each other of work (LISTEN and NOTIFY), `on` or `off`. Default `on`; without it, or
    /// behind a pooler that cannot do it, work is found within a second.
    pub database_hints: bool,
    /// How many jobs run at once on this node, 1 to 1,000. Default 4.
    pub job_slots: u16,
    /// What this node does for the others on its database. Default: everything, which it must where it has the database
    /// for itself.
    pub roles: Roles,
    /// How long the others wait before they take what a node that has gone silent holds, in seconds, 2 to 600. Default 30.
    /// Only where several nodes share a database.
    pub lease_seconds: u64,
    /// 32 bytes in base64 that secrets are sealed under, or several, with commas. Default: a file `secret.key` in the
    /// data directory.
    pub secret_key: Option<SecretString>,
    /// Networks that callbacks may go to although they are not public, e.g. `10.1.0.0/16,127.0.0.1/32`.
    pub allow_private_callbacks: Vec<IpNet>,
    /// The Chromium that runs use. Default: the first of the usual names on `PATH`.
    pub chromium: Option<PathBuf>,
    /// The Node (20 or newer) that runs use. Default: `node` on `PATH`.
    pub node: Option<PathBuf>,
    /// A folder with the runner and its `node_modules`. Default: made in the data directory.
    pub runner_dir: Option<PathBuf>,
    /// The provider for schedules that ask for a residential proxy: a URL template with optional parts.
    pub residential_proxy: Option<SecretString>,
    /// A proxy for all runs that do not opt out.
    pub default_proxy: Option<SecretString>,
    /// The largest bundle that `deployments/create` takes, in bytes of its JSON body, up to 1 GiB. Default 100 MiB.
    pub max_bundle_bytes: usize,
    /// How many requests a second one API key may make of this node for good, 0 to 100,000; 0 is no limit. Default 50.
    pub requests_per_second: u32,
    /// How many requests a key that has made none for a while may make at once, 1 to 100,000. Default 200.
    pub request_burst: u32,
    /// How many attempts to deliver a callback this node makes at once, 4 to 10,000; half of them at the most go to
    /// receivers that are failing. Default 512.
    pub deliveries_at_once: usize,
    /// How many days a delivery is kept after its end, with its attempts, up to 3,650; 0 keeps them for good. Default 30.
    pub keep_deliveries_days: u32,
    /// How long runs may go on after SIGTERM, in seconds, up to a day. Default 30.
    pub shutdown_grace_seconds: u64,
    /// Follow the instant in this file instead of the machine's clock: for rehearsals and tests.
    pub clock_file: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            data_dir: PathBuf::from("./data"),
            database: None,
            database_hints: true,
            job_slots: 4,
            roles: Roles::default(),
            lease_seconds: 30,
            secret_key: None,
            allow_private_callbacks: Vec::new(),
            chromium: None,
            node: None,
            runner_dir: None,
            residential_proxy: None,
            default_proxy: None,
            max_bundle_bytes: 100 * 1024 * 1024,
            requests_per_second: 50,
            request_burst: 200,
            deliveries_at_once: 512,
            keep_deliveries_days: 30,
            shutdown_grace_seconds: 30,
            clock_file: None,
        }
    }
}

/// Above the flags that mean nothing to the commands that ask a server.
const ON_THE_DATABASE: &str = "Commands that work on the database itself";

/// The settings that a command line gave; the rest come from the other sources.
#[derive(Debug, Default, clap::Args)]
pub struct Flags {
    /// A TOML file with settings; without it, `impresario.toml` is read where there is one
    #[arg(long, global = true, help_heading = ON_THE_DATABASE, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the database, the bundles and the secret key are kept [default: ./data]
    #[arg(long, global = true, help_heading = ON_THE_DATABASE, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// A database on PostgreSQL (15 or newer) that everything is kept in, e.g. postgres://me@db.example/app; PGPASSWORD
    /// and libpq's other variables fill in what it leaves open [default: a file in the data directory]
    #[arg(long, global = true, help_heading = ON_THE_DATABASE, value_name = "URL")]
    pub database_url: Option<SecretString>,
}

/// The settings that only a serving process takes.
#[derive(Debug, Default, clap::Args)]
pub struct ServeFlags {
    /// The address to listen on; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Whether nodes on one database tell each other of work: on or off [default: on]
    #[arg(long, value_name = "on|off")]
    pub database_hints: Option<String>,
    /// How many jobs run at once, 1 to 1000 [default: 4]
    #[arg(long, value_name = "N")]
    pub job_slots: Option<u16>,
    /// What this node does for the others on its database: api, scheduler, worker, delivery, with commas [default: all]
    #[arg(long, value_name = "ROLES")]
    pub roles: Option<String>,
    /// After how many silent seconds the other nodes take over what this one held, 2 to 600 [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub lease_seconds: Option<u64>,
    /// Networks that callbacks may go to although they are private, e.g. 10.1.0.0/16,127.0.0.1/32
    #[arg(long, value_name = "CIDRS")]
    pub allow_private_callbacks: Option<String>,
    /// The Chromium that runs use [default: the first of the usual names on PATH]
    #[arg(long, value_name = "FILE")]
    pub chromium: Option<PathBuf>,
    /// The Node.js (20 or newer) that runs use [default: node on PATH]
    #[arg(long, value_name = "FILE")]
    pub node: Option<PathBuf>,
    /// A folder with the runner and its node_modules [default: made in the data directory]
    #[arg(long, value_name = "DIR")]
    pub runner_dir: Option<PathBuf>,
    /// The largest bundle taken, in bytes of the request's body [default: 104857600]
    #[arg(long, value_name = "BYTES")]
    pub max_bundle_bytes: Option<usize>,
    /// How many requests a second one API key may make of this node, 0 to 100000; 0 is no limit [default: 50]
    #[arg(long, value_name = "N")]
    pub requests_per_second: Option<u32>,
    /// How many requests a key that has rested may make at once, 1 to 100000 [default: 200]
    #[arg(long, value_name = "N")]
    pub request_burst: Option<u32>,
    /// How many attempts to deliver a callback are made at once, 4 to 10000 [default: 512]
    #[arg(long, value_name = "N")]
    pub deliveries_at_once: Option<usize>,
    /// How many days deliveries and their attempts are kept, 0 to 3650; 0 keeps them for good [default: 30]
    #[arg(long, value_name = "DAYS")]
    pub keep_deliveries_days: Option<u32>,
    /// How long runs may go on after SIGTERM, in seconds [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub shutdown_grace_seconds: Option<u64>,
    /// Follow the instant in this file instead of the machine's clock, for rehearsals and tests
    #[arg(long, value_name = "FILE")]
    pub clock_file: Option<PathBuf>,
}

impl Flags {
    fn given(&self) -> [(&'static str, Option<OsString>); 2] {
        let url = self.database_url.as_ref();
        [
            ("data_dir", path(self.data_dir.as_ref())),
            ("database_url", url.map(|url| url.expose_secret().into())),
        ]
    }
}

impl ServeFlags {
    fn given(&self) -> [(&'static str, Option<OsString>); 16] {
        [
            ("listen", text(self.listen.as_ref())),
            ("database_hints", text(self.database_hints.as_ref())),
            ("job_slots", text(self.job_slots.as_ref())),
            ("roles", text(self.roles.as_ref())),
            ("lease_seconds", text(self.lease_seconds.as_ref())),
            (
                "allow_private_callbacks",
                text(self.allow_private_callbacks.as_ref()),
            ),
            ("chromium", path(self.chromium.as_ref())),
            ("node", path(self.node.as_ref())),
            ("runner_dir", path(self.runner_dir.as_ref())),
            ("max_bundle_bytes", text(self.max_bundle_bytes.as_ref())),
            ("requests_per_second", text(self.requests_per_second.as_ref())),
            ("request_burst", text(self.request_burst.as_ref())),
            ("deliveries_at_once", text(self.deliveries_at_once.as_ref())),
            ("keep_deliveries_days", text(self.keep_deliveries_days.as_ref())),
            (
                "shutdown_grace_seconds",
                text(self.shutdown_grace_seconds.as_ref()),
            ),
            ("clock_file", path(self.clock_file.as_ref())),
        ]
    }
}

fn text(value: Option<&impl ToString>) -> Option<OsString> {
    value.map(|value| value.to_string().into())
}

fn path(value: Option<&PathBuf>) -> Option<OsString> {
    value.map(|value| value.clone().into_os_string())
}

impl Settings {
    /// Puts the sources together.
    ///
    /// # Errors
    /// A sentence, on one line, that names the setting, its source and what is allowed. It repeats no secret.
    pub fn load(flags: &Flags, serve: Option<&ServeFlags>) -> Result<Self, String> {
        Self::from_sources(flags, serve, &environment()).map_err(|error| format!("settings: {error}"))
    }

    fn from_sources(
        flags: &Flags,
        serve: Option<&ServeFlags>,
        environment: &Environment,
    ) -> Result<Self, String> {
        let mut sources = Sources::default();
        sources.add_file(flags.config.as_deref(), environment)?;
        sources.add_variables(environment);
        sources.add_flags(flags.given());
        if let Some(serve) = serve {
            sources.add_flags(serve.given());
        }
        let default = Self::default();
        Ok(Self {
            listen: sources.parsed("listen", listen)?.unwrap_or(default.listen),
            data_dir: sources.path("data_dir").unwrap_or(default.data_dir),
            database: sources.read_secret("database_url", |url| {
                Target::parse(url, &|name| of(environment, name))
            })?,
            database_hints: sources
                .parsed("database_hints", on_or_off)?
                .unwrap_or(default.database_hints),
            job_slots: sources.whole("job_slots", 1..=1000)?.unwrap_or(default.job_slots),
            roles: sources.parsed("roles", Roles::parse)?.unwrap_or(default.roles),
            lease_seconds: sources
                .whole("lease_seconds", 2..=600)?
                .unwrap_or(default.lease_seconds),
            secret_key: sources.secret("secret_key", secret_key)?,
            allow_private_callbacks: sources
                .parsed("allow_private_callbacks", networks)?
                .unwrap_or_default(),
            chromium: sources.path("chromium"),
            node: sources.path("node"),
            runner_dir: sources.path("runner_dir"),
            residential_proxy: sources.secret("residential_proxy", any)?,
            default_proxy: sources.secret("default_proxy", any)?,
            max_bundle_bytes: sources
                .whole("max_bundle_bytes", 1..=1 << 30)?
                .unwrap_or(default.max_bundle_bytes),
            requests_per_second: sources
                .whole("requests_per_second", 0..=100_000)?
                .unwrap_or(default.requests_per_second),
            request_burst: sources
                .whole("request_burst", 1..=100_000)?
                .unwrap_or(default.request_burst),
            deliveries_at_once: sources
                .whole("deliveries_at_once", 4..=10_000)?
                .unwrap_or(default.deliveries_at_once),
            keep_deliveries_days: sources
                .whole("keep_deliveries_days", 0..=3_650)?
                .unwrap_or(default.keep_deliveries_days),
            shutdown_grace_seconds: sources
                .whole("shutdown_grace_seconds", 0..=86_400)?
                .unwrap_or(default.shutdown_grace_seconds),
            clock_file: sources.path("clock_file"),
        })
    }

    /// The database file.
    #[must_use]
    pub fn database_path(&self) -> PathBuf {
        self.data_dir.join("impresario.db")
    }

    /// The key file that is used where no key is set.
    #[must_use]
    pub fn secret_key_path(&self) -> PathBuf {
        self.data_dir.join("secret.key")
    }
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "must be an address and a port, such as 127.0.0.1:8080".to_owned())
}

fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("must be on or off".to_owned()),
    }
}

/// Networks, with commas between them: variables have no lists.
fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| {
            part.parse()
                .or_else(|_| part.parse::<std::net::IpAddr>().map(IpNet::from))
                .map_err(|_| {
                    "must be networks such as 10.1.0.0/16 or addresses, with commas between them".to_owned()
                })
        })
        .collect()
}

/// The keys are tried here, so that the message can say where they came from.
fn secret_key(text: &SecretString) -> Result<(), String> {
    Keyring::from_base64(text.expose_secret())
        .map(|_| ())
        .map_err(|error| format!("is refused: {error}"))
}

/// What a template must be is found out where it is filled in.
fn any(_: &SecretString) -> Result<(), String> {
    Ok(())
}

/// One variable of these, where it is set and is UTF-8.
fn of(environment: &Environment, name: &str) -> Option<String> {
    let found = environment.iter().find(|(variable, _)| variable == name)?;
    let text = found.1.to_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}

#[expect(clippy::disallowed_methods, reason = "the one home of the environment")]
fn environment() -> Environment {
    std::env::vars_os().collect()
}

/// One line about the variables that look like settings and are none, where there are any: a misspelt variable would
/// otherwise be passed over in silence.
#[must_use]
pub fn unknown_variables() -> Option<String> {
    sources::unknown_variables(&environment())
}

/// One variable of the environment, where it is set and is UTF-8.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one home of the environment")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// One variable of the environment as the system has it, for the programs that are started: `PATH`, and what npm needs.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one home of the environment")]
pub(crate) fn raw_variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

/// The file that is read without being named.
const DEFAULT_FILE: &str = "impresario.toml";

/// The settings file: the named one, which must be there, else the default one, if it is there.
fn file(named: Option<&Path>, environment: &Environment) -> Result<Option<PathBuf>, String> {
    let variable = || {
        let set = environment.iter().find(|(name, _)| name == "IMPRESARIO_CONFIG");
        set.map(|(_, value)| PathBuf::from(value))
            .filter(|path| !path.as_os_str().is_empty())
    };
    match named.map(Path::to_owned).or_else(variable) {
        Some(path) if path.is_file() => Ok(Some(path)),
        Some(path) => Err(format!("the settings file {path:?} is not there, or is no file")),
        None => Ok(Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.is_file())),
    }
}

#[cfg(test)]
mod tests;
