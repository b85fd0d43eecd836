//! Where a database is and how to reach it: out of a URL, libpq's variables and libpq's defaults.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::SecretString;
use tokio_postgres::config::{ChannelBinding, TargetSessionAttrs};

use super::parameters::Parameters;

/// Where packages of PostgreSQL put the socket, the likelier one first.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];
const DEFAULT_PORT: u16 = 5432;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const APPLICATION: &str = "impresario";

/// A database on PostgreSQL: where it is, as whom it is used, and how the connection is protected.
#[derive(Clone)]
pub struct Target {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) user: String,
    pub(super) password: Option<SecretString>,
    pub(super) passfile: Option<PathBuf>,
    pub(super) database: String,
    pub(super) tls: Tls,
    pub(super) channel_binding: ChannelBinding,
    /// How long one host may take until the session can be used.
    pub(super) timeout: Duration,
    pub(super) application_name: String,
    pub(super) options: Option<String>,
    pub(super) session: TargetSessionAttrs,
}

/// One of the hosts, which are tried in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) host: Host,
    pub(super) port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    /// A name or an address, and where it is, if that is not to be looked up.
    Tcp(String, Option<IpAddr>),
    /// The directory of a server's socket.
    Unix(PathBuf),
}

/// How the connection is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tls {
    pub(super) mode: SslMode,
    pub(super) roots: Roots,
    /// The client's certificate and its key.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

/// libpq's `sslmode`. Its `allow` is read as `prefer`: both take what they get, and `prefer` gets more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Whose signature makes a server's certificate good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Roots {
    /// Those of the operating system, where anything is verified at all.
    System,
    /// Those in a file.
    File(PathBuf),
}

impl Target {
    /// Reads a URL `postgres://[user[:password]@][host[:port][,…]][/database][?key=value&…]` (or `postgresql://`) with
    /// libpq's parameters. What it leaves open comes from libpq's variables (`PGHOST`, `PGPASSWORD`, …), which `env`
    /// looks up, and then from libpq's defaults, with these differences: `connect_timeout` is 1 to 600 seconds and by
    /// default 5, `target_session_attrs` is `read-write` by default, and `sslrootcert` is by default
    /// `~/.postgresql/root.crt` where there is one, else the roots of the operating system.
    ///
    /// Only `env` and the presence of files are looked at: nothing is connected to.
    ///
    /// # Errors
    /// One sentence on one line that says what is wrong and what is allowed. It never repeats the password.
    pub fn parse(url: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut given = Parameters::read(url.trim(), env)?;
        let home = env("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let user = match given.text("user") {
            Some(user) => user,
            None => whoami::username().map_err(|_| {
                "it names no user and this process has none: add user@ or set PGUSER".to_owned()
            })?,
        };
        Ok(Self {
            endpoints: endpoints(&mut given)?,
            database: given.text("dbname").unwrap_or_else(|| user.clone()),
            user,
            password: given.text("password").map(SecretString::from),
            passfile: given
                .text("passfile")
                .map(PathBuf::from)
                .or_else(|| Some(home.as_ref()?.join(".pgpass"))),
            tls: tls(&mut given, home.as_deref())?,
            channel_binding: given
                .parsed("channel_binding", |text| match text {
                    "disable" => Ok(ChannelBinding::Disable),
                    "prefer" => Ok(ChannelBinding::Prefer),
                    "require" => Ok(ChannelBinding::Require),
                    _ => Err("channel_binding must be disable, prefer or require".to_owned()),
                })?
                .unwrap_or(ChannelBinding::Prefer),
            timeout: given
                .parsed("connect_timeout", |text| match text.trim().parse() {
                    Ok(seconds @ 1..=600) => Ok(Duration::from_secs(seconds)),
                    _ => Err("connect_timeout must be a whole number of seconds from 1 to 600".to_owned()),
                })?
                .unwrap_or(DEFAULT_TIMEOUT),
            application_name: given
                .text("application_name")
                .unwrap_or_else(|| APPLICATION.to_owned()),
            options: given.text("options"),
            session: given
                .parsed("target_session_attrs", |text| match text {
                    "any" => Ok(TargetSessionAttrs::Any),
                    // A server that is no standby takes writes once the session has asked for it.
                    "read-write" | "primary" => Ok(TargetSessionAttrs::ReadWrite),
                    _ => Err(
                        "target_session_attrs must be read-write, primary or any, because everything is \
                              written to this database"
                            .to_owned(),
                    ),
                })?
                .unwrap_or(TargetSessionAttrs::ReadWrite),
        })
    }

    /// A URL of it for messages and logs, without the password.
    #[must_use]
    pub fn shown(&self) -> String {
        let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.~".contains(b);
        let encoded = |text: &str| -> String {
            let codes = text.as_bytes().iter();
            codes
                .map(|b| match is_plain(b) {
                    true => char::from(*b).to_string(),
                    false => format!("%{b:02X}"),
                })
                .collect()
        };
        let hosts: Vec<String> = self
            .endpoints
            .iter()
            .map(|endpoint| match &endpoint.host {
                Host::Tcp(..) => endpoint.to_string(),
                Host::Unix(path) => format!("{}:{}", encoded(&path.to_string_lossy()), endpoint.port),
            })
            .collect();
        format!(
            "postgres://{}@{}/{}",
            encoded(&self.user),
            hosts.join(","),
            encoded(&self.database)
        )
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("url", &self.shown())
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Tcp(host, _) if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            Host::Tcp(host, _) => write!(f, "{host}:{}", self.port),
            Host::Unix(path) => write!(f, "{}/.s.PGSQL.{}", path.display(), self.port),
        }
    }
}

impl Host {
    /// A host without a name is the socket in the usual directory.
    fn new(name: &str, address: Option<IpAddr>) -> Result<Self, String> {
        if name.starts_with('@') {
            return Err("a socket in the abstract namespace is not supported: give its directory".to_owned());
        }
        Ok(match (name, address) {
            ("", Some(address)) => Self::Tcp(address.to_string(), Some(address)),
            ("", None) => Self::Unix(default_directory()),
            _ if name.starts_with('/') => Self::Unix(name.into()),
            _ => Self::Tcp(name.to_owned(), address),
        })
    }

    /// What a password file calls it.
    pub(super) fn in_passfile(&self) -> String {
        match self {
            Self::Tcp(name, _) => name.clone(),
            Self::Unix(path) if *path == default_directory() => "localhost".to_owned(),
            Self::Unix(path) => path.to_string_lossy().into_owned(),
        }
    }
}

fn default_directory() -> PathBuf {
    let there = SOCKET_DIRECTORIES
        .into_iter()
        .find(|path| Path::new(path).is_dir());
    there.unwrap_or(SOCKET_DIRECTORIES[1]).into()
}

/// The hosts with their addresses and ports, which are lists of one length, or of one port for all.
fn endpoints(given: &mut Parameters) -> Result<Vec<Endpoint>, String> {
    let addresses = given.parsed("hostaddr", |text| {
        list(
            text,
            |one| one.parse::<IpAddr>().ok(),
            || "hostaddr must be an IP address, or several with commas between them".to_owned(),
        )
    })?;
    let addresses = addresses.unwrap_or_default();
    let hosts = given.parsed("host", |text| {
        let names: Vec<&str> = text.split(',').map(str::trim).collect();
        if !addresses.is_empty() && addresses.len() != names.len() {
            let (names, addresses) = (names.len(), addresses.len());
            return Err(format!(
                "there must be as many hosts ({names}) as addresses in hostaddr ({addresses})"
            ));
        }
        let address = |index| addresses.get(index).copied().flatten();
        names
            .iter()
            .enumerate()
            .map(|(index, name)| Host::new(name, address(index)))
            .collect()
    })?;
    let hosts: Vec<Host> = match hosts {
        Some(hosts) => hosts,
        None if addresses.is_empty() => vec![Host::new("", None)?],
        None => addresses
            .iter()
            .map(|address| Host::new("", *address))
            .collect::<Result<_, _>>()?,
    };
    let ports = given.parsed("port", |text| {
        let allowed = || "a port must be a whole number from 1 to 65535".to_owned();
        let ports = list(
            text,
            |one| one.parse::<u16>().ok().filter(|port| *port > 0),
            allowed,
        )?;
        match ports.len() == 1 || ports.len() == hosts.len() {
            true => Ok(ports),
            false => Err(format!(
                "there must be one port, or as many as hosts ({})",
                hosts.len()
            )),
        }
    })?;
    let ports = ports.unwrap_or_default();
    let port = |index| ports.get(index).or(ports.first().filter(|_| ports.len() == 1));
    let endpoints = hosts.into_iter().enumerate().map(|(index, host)| Endpoint {
        host,
        port: port(index).copied().flatten().unwrap_or(DEFAULT_PORT),
    });
    Ok(endpoints.collect())
}

/// A list with commas, in which an element that is empty is left open.
fn list<T>(
    text: &str,
    read: impl Fn(&str) -> Option<T>,
    allowed: impl Fn() -> String,
) -> Result<Vec<Option<T>>, String> {
    let elements = text.split(',').map(str::trim);
    elements
        .map(|one| match one {
            "" => Ok(None),
            one => read(one).map(Some).ok_or_else(&allowed),
        })
        .collect()
}

fn tls(given: &mut Parameters, home: Option<&Path>) -> Result<Tls, String> {
    let usual = |name: &str| {
        let path = home?.join(".postgresql").join(name);
        path.is_file().then_some(path)
    };
    let root = given.text("sslrootcert");
    let weakest = match root.as_deref() {
        // Anybody can have a certificate that the system trusts, so that it says nothing without the name.
        Some("system") => SslMode::VerifyFull,
        _ => SslMode::Disable,
    };
    let mode = given.parsed("sslmode", |text| {
        let mode = match text {
            "disable" => SslMode::Disable,
            "allow" | "prefer" => SslMode::Prefer,
            "require" => SslMode::Require,
            "verify-ca" => SslMode::VerifyCa,
            "verify-full" => SslMode::VerifyFull,
            _ => {
                return Err(
                    "sslmode must be disable, allow, prefer, require, verify-ca or verify-full".to_owned(),
                );
            }
        };
        match mode < weakest {
            true => Err("with sslrootcert=system, sslmode must be verify-full".to_owned()),
            false => Ok(mode),
        }
    })?;
    let roots = match root.as_deref() {
        Some("system") => Roots::System,
        Some(file) => Roots::File(file.into()),
        None => usual("root.crt").map_or(Roots::System, Roots::File),
    };
    let certificate = given.text("sslcert").map(PathBuf::from);
    let key = given.text("sslkey").map(PathBuf::from);
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (Some(certificate), None) => match usual("postgresql.key") {
            Some(key) => Some((certificate, key)),
            None => return Err("sslcert needs the certificate's key: add sslkey".to_owned()),
        },
        (None, Some(key)) => match usual("postgresql.crt") {
            Some(certificate) => Some((certificate, key)),
            None => return Err("sslkey needs the key's certificate: add sslcert".to_owned()),
        },
        (None, None) => usual("postgresql.crt").zip(usual("postgresql.key")),
    };
    Ok(Tls {
        mode: mode.unwrap_or_else(|| weakest.max(SslMode::Prefer)),
        roots,
        identity,
    })
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
