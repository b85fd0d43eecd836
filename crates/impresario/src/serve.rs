//! A server's life: start, serve, and end without losing anything.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{api, app::App, builds, config::Settings, delivery::outbox, restored, scheduler, worker};

/// How long the rest may take to write down where it stands once the runs have ended.
const LAST_WRITES: Duration = Duration::from_secs(10);

/// A server that answers.
#[derive(Debug)]
pub struct Server {
    /// Its parts.
    pub app: Arc<App>,
    /// Where it listens.
    pub address: SocketAddr,
    soft: CancellationToken,
    tasks: TaskTracker,
}

/// How long an address may still be taken by a server that has just been killed, and how often it is tried.
const ADDRESS_WAIT: (Duration, u32) = (Duration::from_millis(100), 20);

/// Takes the address, with patience where somebody has it: what a killed server was about to start may keep its
/// sockets for a moment.
async fn bind(listen: SocketAddr) -> std::io::Result<TcpListener> {
    let (pause, tries) = ADDRESS_WAIT;
    for _ in 1..tries {
        match TcpListener::bind(listen).await {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => tokio::time::sleep(pause).await,
            bound => return bound,
        }
    }
    TcpListener::bind(listen).await
}

impl Server {
    /// Binds, settles what an earlier server left, and starts every loop.
    ///
    /// # Errors
    /// Sentences that say what is in the way.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        let listen = settings.listen;
        let listener = bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen}"))?;
        let address = listener.local_addr().context("the address that was taken")?;
        let app = Arc::new(App::open(settings).await?);
        // First: by then nothing may fire or run that may have before.
        restored::settle(&app).await?;
        worker::recover(&app).await?;
        outbox::recover(&app).await?;

        let (soft, tasks) = (CancellationToken::new(), TaskTracker::new());
        let router = api::router(Arc::clone(&app), tasks.clone());
        tasks.spawn(api::server::serve(listener, router, soft.clone(), tasks.clone()));
        let parts = || (Arc::clone(&app), tasks.clone(), soft.clone());
        let (for_loop, _, stop) = parts();
        tasks.spawn(async move { scheduler::run(&for_loop, &stop).await });
        let (for_loop, tracker, stop) = parts();
        tasks.spawn(async move { worker::run(&for_loop, &tracker, &stop).await });
        let (for_loop, tracker, stop) = parts();
        tasks.spawn(async move { builds::run(&for_loop, &tracker, &stop).await });
        let (for_loop, tracker, stop) = parts();
        tasks.spawn(async move { outbox::run(&for_loop, &tracker, &stop).await });
        Ok(Self {
            app,
            address,
            soft,
            tasks,
        })
    }

    /// Where it is reached.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends when the server begins to end: for what is served beside it.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.soft.clone()
    }

    /// The tasks it waits for when it ends.
    #[must_use]
    pub fn tasks(&self) -> TaskTracker {
        self.tasks.clone()
    }

    /// Ends it: nothing new is begun; runs may finish within the grace period, or until `hurry` ends; what has not
    /// started by then goes back to the queue, what has is ended as lost.
    pub async fn stop(self, hurry: impl Future<Output = ()>) {
        self.soft.cancel();
        self.tasks.close();
        let grace = Duration::from_secs(self.app.settings.shutdown_grace_seconds);
        tokio::select! {
            () = self.tasks.wait() => return,
            () = tokio::time::sleep(grace) => tracing::warn!("the grace period is over"),
            () = hurry => tracing::warn!("told to hurry"),
        }
        self.app.running.stop_all();
        if tokio::time::timeout(LAST_WRITES, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::error!("some tasks did not end in time; what they held is settled at the next start");
        }
    }
}

/// Serves until SIGTERM or SIGINT; a second one ends the runs at once.
///
/// # Errors
/// Where the server cannot start.
pub async fn serve(settings: Settings, ready: impl FnOnce(&Server)) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    // The first start may install packages for minutes: it can be told to end as well.
    let server = tokio::select! {
        server = Server::start(settings) => server?,
        () = signals.next() => return Ok(()),
    };
    ready(&server);
    signals.next().await;
    tracing::info!("ending: nothing new is begun, runs may finish");
    server.stop(signals.next()).await;
    tracing::info!("ended");
    Ok(())
}

/// The signals that ask for the end.
#[derive(Debug)]
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Starts to listen for them.
    ///
    /// # Errors
    /// Where the operating system refuses.
    pub fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Ends at the next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_comes_free_soon_is_taken_and_one_that_does_not_is_refused() {
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = other.local_addr().unwrap();
        let refused = bind(address).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse);
        let (bound, ()) = tokio::join!(bind(address), async {
            tokio::task::yield_now().await;
            drop(other);
        });
        assert_eq!(bound.unwrap().local_addr().unwrap(), address);
    }
}
