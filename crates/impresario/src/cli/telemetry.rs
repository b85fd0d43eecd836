//! The server's own log: to stderr, for people on a terminal, as JSON lines otherwise.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config;

/// Starts logging at `default` level, or as `IMPRESARIO_LOG` says (e.g. `debug` or `impresario::scheduler=debug`).
pub(super) fn init(default: &str) {
    let filter = config::variable("IMPRESARIO_LOG").unwrap_or_else(|| default.to_owned());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::builder().parse_lossy(filter))
        .with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        subscriber.init();
    } else {
        subscriber.json().flatten_event(true).init();
    }
}
