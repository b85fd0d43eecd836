//! A server's life: start, serve, and end without losing anything.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    api,
    app::App,
    builds,
    config::{Role, Settings},
    delivery::{keeping, outbox},
    hints::{self, Line},
    reaper, restored, scheduler, worker,
};

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

/// How many files and sockets are enough for all connections and attempts that there may be.
const ENOUGH_FILES: u64 = 16_384;

/// Raises the limit of open files and sockets to what is enough, as far as this process may: systems begin with 1,024, which
/// is for programs that use `select`.
fn raise_file_limit() {
    let before = getrlimit(Resource::Nofile);
    let wanted = before.maximum.map_or(ENOUGH_FILES, |most| most.min(ENOUGH_FILES));
    if before.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = Rlimit {
        current: Some(wanted),
        ..before
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, wanted, "the limit of open files could not be raised");
    }
}

/// How often the clock that the nodes share is asked for.
const TIME_CHECK: Duration = Duration::from_secs(5);

/// Follows the clock that the nodes share, where there is one, until `shutdown`. While it cannot be asked, the one here
/// goes on by itself.
async fn keep_time(app: &App, shutdown: &CancellationToken) {
    let Some(clock) = &app.shared_clock else { return };
    loop {
        tokio::select! {
            () = tokio::time::sleep(TIME_CHECK) => {}
            () = shutdown.cancelled() => return,
        }
        match app.store.shared_time().await {
            Ok(Some((asked, now, heard))) => clock.hear(asked, now, heard),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the database's clock cannot be asked"),
        }
    }
}

/// What this node leaves to others must have others.
fn check_roles(settings: &Settings) -> anyhow::Result<()> {
    anyhow::ensure!(
        settings.database.is_some() || settings.roles.are_all(),
        "roles is {}: on the embedded database there is no other node to do the rest; leave the setting out, or share a \
         database on PostgreSQL",
        settings.roles
    );
    Ok(())
}

/// Starts the loops of this node's roles, and what every node has.
fn start_loops(app: &Arc<App>, line: Option<Line>, (tasks, soft): (&TaskTracker, &CancellationToken)) {
    let roles = &app.settings.roles;
    let parts = || (Arc::clone(app), tasks.clone(), soft.clone());
    let (node, _, stop) = parts();
    tasks.spawn(async move { hints::run(&node, line, &stop).await });
    let (node, _, stop) = parts();
    tasks.spawn(async move { keep_time(&node, &stop).await });
    if roles.has(Role::Scheduler) {
        let (app, _, stop) = parts();
        tasks.spawn(async move { scheduler::run(&app, &stop).await });
    }
    if roles.has(Role::Worker) {
        let (app, tracker, stop) = parts();
        tasks.spawn(async move { worker::run(&app, &tracker, &stop).await });
        let (app, tracker, stop) = parts();
        tasks.spawn(async move { builds::run(&app, &tracker, &stop).await });
    }
    if roles.has(Role::Delivery) {
        let (app, tracker, stop) = parts();
        tasks.spawn(async move { outbox::run(&app, &tracker, &stop).await });
        let (app, _, stop) = parts();
        tasks.spawn(async move { keeping::run(&app, &stop).await });
    }
    // Whoever does any of the work also settles what others leave of it: there may be no other.
    let works = [Role::Scheduler, Role::Worker, Role::Delivery];
    if app.store.is_shared() && works.iter().any(|role| roles.has(*role)) {
        let (app, _, stop) = parts();
        tasks.spawn(async move { reaper::run(&app, &stop).await });
    }
}

impl Server {
    /// Binds, settles what an earlier server left, and starts the loops of this node's roles.
    ///
    /// # Errors
    /// Sentences that say what is in the way.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        raise_file_limit();
        let listen = settings.listen;
        let listener = bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen}"))?;
        let address = listener.local_addr().context("the address that was taken")?;
        check_roles(&settings)?;
        let app = Arc::new(App::open(settings).await?);
        // Before anything is looked at: from here on nobody takes the database for one that no node runs on.
        let line = hints::open(&app).await?;
        // First: by then nothing may fire or run that may have before.
        restored::settle(&app).await?;
        worker::recover(&app).await?;
        builds::recover(&app).await?;
        outbox::recover(&app).await?;

        let (soft, tasks) = (CancellationToken::new(), TaskTracker::new());
        let router = api::router(Arc::clone(&app), tasks.clone());
        tasks.spawn(api::server::serve(listener, router, soft.clone(), tasks.clone()));
        start_loops(&app, line, (&tasks, &soft));
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
    async fn the_one_server_of_an_embedded_database_has_every_role() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            data_dir: folder.path().to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            roles: crate::config::Roles::parse("api,worker").unwrap(),
            ..Settings::default()
        };
        let error = Server::start(settings).await.unwrap_err().to_string();
        for part in ["roles is api,worker", "embedded", "PostgreSQL"] {
            assert!(error.contains(part), "{error}");
        }
    }

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

    #[test]
    fn the_limit_of_open_files_is_raised_as_far_as_it_may_be() {
        let before = getrlimit(Resource::Nofile);
        let low = Rlimit {
            current: Some(before.current.unwrap_or(1_024).min(1_024)),
            ..before
        };
        setrlimit(Resource::Nofile, low).unwrap();
        raise_file_limit();
        let raised = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, before).unwrap();
        let enough = before.maximum.map_or(ENOUGH_FILES, |most| most.min(ENOUGH_FILES));
        assert_eq!((raised.current, raised.maximum), (Some(enough), before.maximum));
    }
}
