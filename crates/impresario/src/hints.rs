//! What nodes on one database tell each other: that there is work. A hint only: whoever hears nothing finds the same work a
//! second later, because every loop looks by itself.
//!
//! NOTIFY takes a lock of the whole server at its commit, so it is never part of a transaction that does work, and a node
//! sends a few in a second at the most, each for all that was rung meanwhile.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{app::App, store};

/// The shortest time between two hints of one node.
const BETWEEN: Duration = Duration::from_millis(100);

/// How long a lost connection is left alone before it is made again.
const AFTER_FAULT: Duration = Duration::from_secs(2);

/// Tells and hears until `shutdown`. Nothing where the database is this node's alone, or where hints are turned off.
pub async fn run(app: &App, shutdown: &CancellationToken) {
    let Some(target) = app
        .settings
        .database
        .as_ref()
        .filter(|_| app.settings.database_hints)
    else {
        return;
    };
    let node = app.ids.uuid(app.clock.now());
    while !shutdown.is_cancelled() {
        let (sender, hints) = mpsc::unbounded_channel();
        let session = store::Hints::open(target, sender).await;
        // Whatever was rung elsewhere while nobody listened.
        app.signals.heard_nothing();
        let ended = match session {
            Ok(session) => tokio::select! {
                ended = tell(app, &session, node) => ended,
                () = hear(app, hints, node) => Ok(()),
                () = shutdown.cancelled() => return,
            },
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::warn!(%error, "other nodes are not heard for a while; work is found by looking");
        }
        tokio::select! {
            () = tokio::time::sleep(AFTER_FAULT) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

async fn tell(app: &App, session: &store::Hints, node: Uuid) -> store::Result<()> {
    loop {
        let rung = app.signals.rung().await;
        session.send(&format!("{node} {rung}")).await?;
        tokio::time::sleep(BETWEEN).await;
    }
}

/// Ends when the connection does.
async fn hear(app: &App, mut hints: mpsc::UnboundedReceiver<String>, node: Uuid) {
    while let Some(hint) = hints.recv().await {
        let Some((from, rung)) = hint.split_once(' ') else {
            continue;
        };
        if let (Ok(from), Ok(rung)) = (from.parse::<Uuid>(), rung.parse::<u8>())
            && from != node
        {
            app.signals.heard(rung);
        }
    }
}
