//! One connection: in comes a [`Target`], out goes a session with its limits set, or a sentence that says why not.

use std::{future::poll_fn, net::IpAddr, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Instant, timeout},
};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, SimpleQueryMessage, Socket,
    config::{SslMode as DriverMode, TargetSessionAttrs},
    error::SqlState,
    tls::TlsStream,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    passfile,
    target::{Endpoint, Host, SslMode, Target},
    tls,
    trouble::{Attempt, Trouble},
};
use crate::store::{Result, StoreError};

/// The oldest version that is supported.
pub(super) const OLDEST: u32 = 15;

/// A connection that nothing comes back on is given up within some 20 seconds, whether something was under way (the
/// user timeout) or not (the keepalives).
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEPALIVE_RETRIES: u32 = 3;
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);

/// What holds for a whole session, over whatever the server, the database and the role have as their default, in one
/// round trip. `synchronous_commit` is only ever raised: an acknowledged write must be on disk, and who has asked for
/// more than that gets it. A session that waits in the pool, or for notifications, is idle and healthy, so that the
/// server's limit for idle ones does not hold for it.
const SETTINGS: &str = "SELECT pg_is_in_recovery(), \
     set_config('statement_timeout', '30s', false), \
     set_config('lock_timeout', '10s', false), \
     set_config('idle_in_transaction_session_timeout', '10s', false), \
     set_config('idle_session_timeout', '0', false), \
     set_config('default_transaction_read_only', 'off', false), \
     set_config('TimeZone', 'UTC', false), \
     set_config('client_encoding', 'UTF8', false), \
     CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END";

/// Connects, trying the hosts in turn, and sets the session's limits: 30 s for a statement, 10 s for a lock, 10 s idle
/// within a transaction. A host has the target's `connect_timeout` (5 s) from its name to the session's settings.
///
/// The connection is driven by a task on the current runtime, which ends with the client, or when the connection is
/// lost. Where `notifications` is given, the payload of each NOTIFY goes there, and its closing says that the
/// connection is gone.
///
/// # Errors
/// [`StoreError::Unreachable`] where trying again may help, [`StoreError::Open`] where it will not until somebody
/// changes something: one sentence with the place, the database and what to do, and never the password.
pub async fn connect(target: &Target, notifications: Option<UnboundedSender<String>>) -> Result<Client> {
    let mut failed: Vec<Trouble> = Vec::new();
    for endpoint in &target.endpoints {
        match host(target, endpoint, notifications.as_ref()).await {
            Ok(client) => return Ok(client),
            // A server that answers and refuses has the last word, as with libpq.
            Err(trouble) if !trouble.passing => return Err(trouble.into()),
            Err(trouble) => failed.push(trouble),
        }
    }
    let sentences: Vec<String> = failed.into_iter().map(|trouble| trouble.sentence).collect();
    Err(StoreError::Unreachable(sentences.join("; ")))
}

/// One host, at each of its addresses, within its time.
async fn host(
    target: &Target,
    endpoint: &Endpoint,
    notifications: Option<&UnboundedSender<String>>,
) -> Result<Client, Trouble> {
    let end = Instant::now() + target.timeout;
    let (password, passfile) = password(target, endpoint);
    let attempt = Attempt {
        target,
        endpoint,
        mode: match endpoint.host {
            // PostgreSQL has no TLS over sockets, and libpq overlooks that it was asked for.
            Host::Unix(_) => SslMode::Disable,
            Host::Tcp(..) => target.tls.mode,
        },
        passfile: passfile.as_deref(),
    };
    let connector = tls::connector(&target.tls).map_err(|why| attempt.never(why))?;
    let addresses = match timeout(target.timeout, addresses(endpoint)).await {
        Ok(found) => found.map_err(|error| attempt.unknown_host(&error))?,
        Err(_) => return Err(attempt.unknown_host(&std::io::ErrorKind::TimedOut.into())),
    };
    let mut config = config(target, endpoint, password.as_ref());
    let mut last = attempt.unknown_host(&std::io::Error::other("it has no address"));
    for (index, address) in addresses.iter().enumerate() {
        // An address that answers nothing must leave time for the others.
        let left = end.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - index).unwrap_or(1);
        if let Some(address) = address {
            config = self::config(target, endpoint, password.as_ref());
            config.hostaddr(*address);
        }
        last = match timeout(share, session(attempt, &mut config, &connector, notifications)).await {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(trouble)) if !trouble.passing => return Err(trouble),
            Ok(Err(trouble)) => trouble,
            Err(_) => attempt.too_slow(target.timeout),
        };
    }
    Err(last)
}

/// The addresses of a host; `None` stands for the one that is known without looking it up.
async fn addresses(endpoint: &Endpoint) -> std::io::Result<Vec<Option<IpAddr>>> {
    match &endpoint.host {
        Host::Unix(_) => Ok(vec![None]),
        Host::Tcp(_, Some(address)) => Ok(vec![Some(*address)]),
        Host::Tcp(name, None) => {
            let found = tokio::net::lookup_host((name.as_str(), endpoint.port)).await?;
            Ok(found.map(|address| Some(address.ip())).collect())
        }
    }
}

/// The password for a host, and why the password file was not used where that was so.
fn password(target: &Target, endpoint: &Endpoint) -> (Option<SecretString>, Option<String>) {
    if target.password.is_some() {
        return (target.password.clone(), None);
    }
    let Some(file) = &target.passfile else {
        return (None, None);
    };
    let host = endpoint.host.in_passfile();
    let wanted = passfile::Wanted {
        host: &host,
        port: endpoint.port,
        database: &target.database,
        user: &target.user,
    };
    match passfile::password(file, &wanted) {
        Ok(found) => (found, None),
        Err(why) => {
            tracing::warn!("{why}");
            (None, Some(why))
        }
    }
}

fn config(target: &Target, endpoint: &Endpoint, password: Option<&SecretString>) -> Config {
    let mut config = Config::new();
    match &endpoint.host {
        Host::Tcp(name, _) => config.host(name),
        Host::Unix(path) => config.host_path(path),
    };
    config
        .port(endpoint.port)
        .user(&target.user)
        .dbname(&target.database)
        .application_name(&target.application_name)
        .channel_binding(target.channel_binding)
        .connect_timeout(target.timeout)
        .keepalives(true)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES)
        .tcp_user_timeout(TCP_USER_TIMEOUT);
    if let Some(password) = password {
        config.password(password.expose_secret());
    }
    if let Some(options) = &target.options {
        config.options(options);
    }
    config
}

/// One address: a connection, encrypted as asked, and the session's settings.
async fn session(
    attempt: Attempt<'_>,
    config: &mut Config,
    connector: &MakeRustlsConnect,
    notifications: Option<&UnboundedSender<String>>,
) -> Result<Client, Trouble> {
    config.ssl_mode(match attempt.mode {
        SslMode::Disable => DriverMode::Disable,
        SslMode::Prefer => DriverMode::Prefer,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => DriverMode::Require,
    });
    let (client, connection) = match config.connect(connector.clone()).await {
        Ok(connected) => connected,
        Err(error) if attempt.mode == SslMode::Prefer && may_do_without_tls(&error) => {
            config.ssl_mode(DriverMode::Disable);
            // If it does not do without either, the first reason is the better one.
            let plain = config.connect(connector.clone()).await;
            let connected = plain.map_err(|_| attempt.explain(&error))?;
            tracing::warn!(
                "{}; the connection is not encrypted now",
                attempt.explain(&error).sentence
            );
            connected
        }
        Err(error) => return Err(attempt.explain(&error)),
    };
    // Read off what the server said of itself: an older one may not know a setting that comes next.
    let version = connection.parameter("server_version").unwrap_or_default();
    if major(version).is_some_and(|major| major < OLDEST) {
        return Err(attempt.never(too_old(version)));
    }
    drive(connection, notifications.cloned(), attempt.endpoint.to_string());
    let answer = client.simple_query(SETTINGS).await;
    let answer = answer.map_err(|error| attempt.explain(&error))?;
    let standby = answer.iter().any(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0) == Some("t"),
        _ => false,
    });
    if standby && attempt.target.session != TargetSessionAttrs::Any {
        return Err(attempt.passing(
            "the server is a standby, which takes no writes: name the primary, or name all servers with commas \
             between them",
        ));
    }
    Ok(client)
}

/// Whether libpq's `prefer` tries again without TLS: where the handshake failed, or the server lets nobody in with it.
fn may_do_without_tls(error: &tokio_postgres::Error) -> bool {
    let handshake = error.to_string() == "error performing TLS handshake";
    handshake || error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

/// The number before the dot of `15.4 (Debian 15.4-1)`, `18beta1` and the like.
fn major(version: &str) -> Option<u32> {
    let end = version
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(version.len());
    version[..end].parse().ok()
}

pub(super) fn too_old(version: &str) -> String {
    format!("the server is PostgreSQL {version}, and it must be {OLDEST} or newer: upgrade it")
}

/// Runs the connection until its client is gone or the server is.
#[expect(
    clippy::disallowed_methods,
    reason = "it ends with its client, whose owner is what a shutdown waits for; waiting for it too would be in a circle"
)]
fn drive<T>(
    mut connection: Connection<Socket, T>,
    notifications: Option<UnboundedSender<String>>,
    place: String,
) where
    T: TlsStream + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
            match message {
                Ok(AsyncMessage::Notification(notification)) => {
                    if let Some(notifications) = &notifications {
                        // Nobody listens any more: the connection may still be used.
                        let _gone = notifications.send(notification.payload().to_owned());
                    }
                }
                Ok(AsyncMessage::Notice(notice)) => tracing::debug!("PostgreSQL at {place}: {notice}"),
                Ok(_) => {}
                Err(error) => {
                    let inside = std::error::Error::source(&error).map(|inside| format!(": {inside}"));
                    let inside = inside.unwrap_or_default();
                    tracing::warn!("PostgreSQL at {place}: the connection is lost: {error}{inside}");
                    return;
                }
            }
        }
    });
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
