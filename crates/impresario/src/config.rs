//! Settings: one struct, from four sources.
//!
//! Later ones win: defaults, an optional TOML file (`--config`, else `impresario.toml` in the working directory),
//! environment variables `IMPRESARIO_…`, command-line flags. This is the only module that reads the environment.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format as _, Serialized, Toml};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};

/// What can be set. Each field is a flag (`--job-slots`), a variable (`IMPRESARIO_JOB_SLOTS`) and a key of the file
/// (`job_slots`).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the server listens. Default `127.0.0.1:8080`; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where everything is kept: the database, bundles, the secret key. Default `./data`.
    pub data_dir: PathBuf,
    /// How many jobs run at once on this node, 1 to 1,000. Default 4.
    pub job_slots: u16,
    /// 32 bytes in base64 that secrets are sealed under. Default: a file `secret.key` in the data directory.
    #[serde(skip_serializing)]
    pub secret_key: Option<String>,
    /// Networks that callbacks may go to although they are not public, e.g. `10.1.0.0/16,127.0.0.1/32`.
    #[serde(deserialize_with = "networks")]
    pub allow_private_callbacks: Vec<IpNet>,
    /// The Chromium that runs use. Default: the first of the usual names on `PATH`.
    pub chromium: Option<PathBuf>,
    /// The Node (20 or newer) that runs use. Default: `node` on `PATH`.
    pub node: Option<PathBuf>,
    /// A folder with the runner and its `node_modules`. Default: made in the data directory.
    pub runner_dir: Option<PathBuf>,
    /// The provider for schedules that ask for a residential proxy: a URL template with optional parts.
    #[serde(skip_serializing)]
    pub residential_proxy: Option<String>,
    /// A proxy for all runs that do not opt out.
    #[serde(skip_serializing)]
    pub default_proxy: Option<String>,
    /// The largest bundle that `deployments/create` takes, in bytes of its JSON body. Default 100 MiB.
    pub max_bundle_bytes: usize,
    /// How long runs may go on after SIGTERM, in seconds. Default 30.
    pub shutdown_grace_seconds: u64,
    /// Follow the instant in this file instead of the machine's clock: for rehearsals and tests.
    pub clock_file: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            data_dir: PathBuf::from("./data"),
            job_slots: 4,
            secret_key: None,
            allow_private_callbacks: Vec::new(),
            chromium: None,
            node: None,
            runner_dir: None,
            residential_proxy: None,
            default_proxy: None,
            max_bundle_bytes: 100 * 1024 * 1024,
            shutdown_grace_seconds: 30,
            clock_file: None,
        }
    }
}

/// The settings that a command line gave; the rest come from the other sources.
#[derive(Debug, Default, Serialize, clap::Args)]
pub struct Flags {
    /// A TOML file with settings; without it, `impresario.toml` is read where there is one
    #[arg(long, global = true, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Where the database, the bundles and the secret key are kept [default: ./data]
    #[arg(long, global = true, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
}

/// The settings that only a serving process takes.
#[derive(Debug, Default, Serialize, clap::Args)]
pub struct ServeFlags {
    /// The address to listen on; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// How many jobs run at once [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_slots: Option<u16>,
    /// Networks that callbacks may go to although they are private, e.g. 10.1.0.0/16,127.0.0.1/32
    #[arg(long, value_name = "CIDRS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_private_callbacks: Option<String>,
    /// The Chromium that runs use [default: the first of the usual names on PATH]
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chromium: Option<PathBuf>,
    /// The Node.js (20 or newer) that runs use [default: node on PATH]
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<PathBuf>,
    /// A folder with the runner and its node_modules [default: made in the data directory]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner_dir: Option<PathBuf>,
    /// The largest bundle taken, in bytes of the request's body [default: 104857600]
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bundle_bytes: Option<usize>,
    /// How long runs may go on after SIGTERM, in seconds [default: 30]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shutdown_grace_seconds: Option<u64>,
    /// Follow the instant in this file instead of the machine's clock, for rehearsals and tests
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_file: Option<PathBuf>,
}

/// The variables that are settings. Others with the prefix (`IMPRESARIO_URL`, `IMPRESARIO_CONFIG`) are not.
const VARIABLES: [&str; 13] = [
    "listen",
    "data_dir",
    "job_slots",
    "secret_key",
    "allow_private_callbacks",
    "chromium",
    "node",
    "runner_dir",
    "residential_proxy",
    "default_proxy",
    "max_bundle_bytes",
    "shutdown_grace_seconds",
    "clock_file",
];

/// The file that is read without being named.
const DEFAULT_FILE: &str = "impresario.toml";

impl Settings {
    /// Puts the sources together.
    ///
    /// # Errors
    /// A sentence that names the setting, its source and what is wrong with it.
    pub fn load(flags: &Flags, serve: Option<&ServeFlags>) -> Result<Self, String> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        let named = flags
            .config
            .clone()
            .or_else(|| variable("IMPRESARIO_CONFIG").map(PathBuf::from));
        match named {
            Some(path) if !path.is_file() => {
                return Err(format!("settings file {}: no such file", path.display()));
            }
            Some(path) => figment = figment.merge(Toml::file_exact(path)),
            None if Path::new(DEFAULT_FILE).is_file() => {
                figment = figment.merge(Toml::file_exact(DEFAULT_FILE));
            }
            None => {}
        }
        figment = figment
            .merge(Env::prefixed("IMPRESARIO_").only(&VARIABLES))
            .merge(Serialized::defaults(flags));
        if let Some(serve) = serve {
            figment = figment.merge(Serialized::defaults(serve));
        }
        let settings: Self = figment.extract().map_err(|e| format!("settings: {e}"))?;
        if settings.job_slots == 0 || settings.job_slots > 1000 {
            return Err(format!(
                "settings: job_slots: {} is out of range (1-1000)",
                settings.job_slots
            ));
        }
        Ok(settings)
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

/// One variable of the environment, where it is set and is UTF-8.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one home of the environment")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The variables that package managers and proxies are configured by, for the installs that a bundle needs.
#[must_use]
pub fn install_environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| {
            let lower = name.to_ascii_lowercase();
            lower.starts_with("npm_config_")
                || matches!(
                    lower.as_str(),
                    "https_proxy" | "http_proxy" | "no_proxy" | "node_extra_ca_certs"
                )
        })
        .collect()
}

/// Networks as a list, or as one string with commas: environment variables have no lists.
fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Text(String),
        List(Vec<String>),
    }
    let parts = match Given::deserialize(deserializer)? {
        Given::Text(text) => text.split(',').map(|part| part.trim().to_owned()).collect(),
        Given::List(list) => list,
    };
    parts
        .iter()
        .filter(|part| !part.is_empty())
        .map(|part| {
            part.parse::<IpNet>()
                .or_else(|_| part.parse::<std::net::IpAddr>().map(IpNet::from))
                .map_err(|_| {
                    serde::de::Error::custom(format!(
                        "\"{part}\" is not a network such as 10.1.0.0/16 or an address"
                    ))
                })
        })
        .collect()
}
