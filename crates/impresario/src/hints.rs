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

/// A connection for hints, and what comes over it.
pub type Line = (store::Hints, mpsc::UnboundedReceiver<String>);

/// Shows that this node is there; nothing where the database is its alone.
///
/// # Errors
/// Where the server cannot be reached.
pub async fn open(app: &App) -> store::Result<Option<Line>> {
    let Some(target) = &app.settings.database else {
        return Ok(None);
    };
    let (sender, hints) = mpsc::unbounded_channel();
    let session = store::Hints::open(target, app.settings.database_hints, sender).await?;
    Ok(Some((session, hints)))
}

/// Tells and hears until `shutdown`, first over `line`; only shows that this node is there where hints are turned off.
/// Nothing where the database is this node's alone.
pub async fn run(app: &App, line: Option<Line>, shutdown: &CancellationToken) {
    let Some(mut line) = line else { return };
    let node = app.ids.uuid(app.clock.now());
    loop {
        let (session, hints) = line;
        let ended = tokio::select! {
            ended = tell(app, &session, node), if app.settings.database_hints => ended,
            () = hear(app, hints, node) => Ok(()),
            () = shutdown.cancelled() => return stay(session),
        };
        if let Err(error) = ended {
            tracing::warn!(%error, "other nodes are not heard for a while; work is found by looking");
        }
        drop(session);
        line = loop {
            tokio::select! {
                () = tokio::time::sleep(AFTER_FAULT) => {}
                () = shutdown.cancelled() => return,
            }
            match open(app).await {
                Ok(Some(line)) => break line,
                Ok(None) => return,
                Err(error @ store::StoreError::Moved(_)) => {
                    // It was away when the others were ended. What it did now, the new place would do as well.
                    tracing::error!(%error, "this node stops: nothing fires or runs here any more");
                    shutdown.cancel();
                    return;
                }
                Err(error) => tracing::debug!(%error, "the connection for hints cannot be made yet"),
            }
        };
        // Whatever was rung elsewhere while nobody listened.
        app.signals.heard_nothing();
    }
}

/// Shows that this node is there until its process has ended: what it runs may go on for a while.
#[expect(
    clippy::disallowed_methods,
    reason = "nobody waits for it: it ends with the runtime, after everything that is tracked"
)]
fn stay(session: store::Hints) {
    tokio::spawn(async move {
        let _there = session;
        std::future::pending::<()>().await;
    });
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
