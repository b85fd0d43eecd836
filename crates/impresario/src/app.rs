//! What every part of a running server shares.

mod key;
mod writable;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;

pub use self::writable::Writable;
use crate::{
    background::{Pulse, Signals},
    builds::ActiveBuilds,
    clock::{self, DatabaseClock, SharedClock, SystemClock},
    config::Settings,
    delivery::{gate::Gate, http::Sender, outbox},
    ids::Ids,
    runner::{self, Limits, Located, NodeRunner, RunnerSettings},
    secrets::Keyring,
    store::{Access, Store, ops},
    worker::RunningJobs,
};

/// A server's parts, put together once at the start.
#[derive(Debug)]
pub struct App {
    /// As they were given.
    pub settings: Settings,
    /// Where everything is kept.
    pub store: Store,
    /// Shows whether the store takes writes.
    pub writable: Writable,
    /// Where the time comes from.
    pub clock: SharedClock,
    /// The same, where it follows the database's.
    pub shared_clock: Option<DatabaseClock>,
    /// Where ids and random bytes come from.
    pub ids: Arc<Ids>,
    /// Seals and opens secrets.
    pub keyring: Keyring,
    /// Wakes the loops.
    pub signals: Signals,
    /// Shows that the loops come round.
    pub pulse: Arc<Pulse>,
    /// Runs workflows.
    pub runner: NodeRunner,
    /// What was found on this machine to run them with.
    pub located: Located,
    /// The jobs that run here.
    pub running: RunningJobs,
    /// The deployments that are being built here.
    pub active_builds: ActiveBuilds,
    /// Where callbacks may go.
    pub gate: Gate,
    /// Sends them.
    pub sender: Sender,
    /// A permit for each delivery attempt that may be under way.
    pub deliveries_in_flight: Arc<Semaphore>,
}

impl App {
    /// Opens the store, finds Node and Chromium, and installs the runner's packages where they are missing.
    ///
    /// # Errors
    /// Sentences that say what is missing and what to do about it.
    pub async fn open(settings: Settings) -> anyhow::Result<Self> {
        check_proxies(&settings)?;
        let store = Store::of(settings.database.as_ref(), &settings.data_dir, Access::Server).await?;
        let ids = Arc::new(Ids::from_os());
        let keyring = key::keyring(&settings, &ids, &store).await?;
        let mut shared_clock = None;
        let clock: SharedClock = match &settings.clock_file {
            Some(path) => Arc::new(
                clock::follow_file(path.clone())
                    .with_context(|| format!("clock_file: {}", path.display()))?,
            ),
            None => match store.shared_time().await? {
                Some((asked, now, heard)) => {
                    let clock = DatabaseClock::new(asked, now, heard);
                    shared_clock = Some(clock.clone());
                    Arc::new(clock)
                }
                None => Arc::new(SystemClock),
            },
        };
        let located = runner::locate(settings.node.as_deref(), settings.chromium.as_deref())?;
        let data_dir = std::path::absolute(&settings.data_dir).context("the data directory's path")?;
        let modules = match &settings.runner_dir {
            Some(dir) => runner_dir(dir)?,
            None => runner::provision(&data_dir.join("runner"), &located.node).await?,
        };
        let host = runner::write_host(&data_dir)?;
        let new = ids.uuid(clock.now()).to_string();
        let instance = store
            .write("instance", move |tx| ops::settings::instance(tx, &new))
            .await?;
        let runner = NodeRunner::new(
            RunnerSettings {
                node: located.node.clone(),
                chromium: located.chromium.clone(),
                modules,
                host,
                work_dir: data_dir.join("runs"),
                residential_proxy: exposed(settings.residential_proxy.as_ref()),
                default_proxy: exposed(settings.default_proxy.as_ref()),
                instance,
                limits: Limits::default(),
            },
            clock.clone(),
        );
        let gate = Gate::new(settings.allow_private_callbacks.clone());
        let sender = Sender::new(gate.clone())?;
        let settings = Settings { data_dir, ..settings };
        Ok(Self {
            settings,
            store,
            writable: Writable::default(),
            clock,
            shared_clock,
            ids,
            keyring,
            signals: Signals::default(),
            pulse: Arc::default(),
            runner,
            located,
            running: RunningJobs::default(),
            active_builds: ActiveBuilds::default(),
            gate,
            sender,
            deliveries_in_flight: Arc::new(Semaphore::new(outbox::MOST_IN_FLIGHT)),
        })
    }
}

/// The directory that was named, if the runner's packages are in it.
fn runner_dir(dir: &Path) -> anyhow::Result<PathBuf> {
    let dir = std::path::absolute(dir).context("runner_dir")?;
    let package = dir.join("node_modules/playwright-core/package.json");
    anyhow::ensure!(
        package.is_file(),
        "runner_dir: {} has no node_modules with playwright-core: run `npm ci --ignore-scripts` there, or leave the \
         setting out",
        dir.display()
    );
    Ok(dir)
}

/// Proxies that no run could use are refused at the start, not at the first run that needs one.
fn check_proxies(settings: &Settings) -> anyhow::Result<()> {
    if let Some(template) = &settings.residential_proxy {
        let wrong = |reason| anyhow::anyhow!("residential_proxy: {reason}");
        runner::proxy::check_template(template.expose_secret()).map_err(wrong)?;
    }
    if let Some(proxy) = &settings.default_proxy {
        let wrong = |reason| anyhow::anyhow!("default_proxy: {reason}");
        runner::proxy::parse(proxy.expose_secret()).map_err(wrong)?;
    }
    Ok(())
}

/// For the runner, whose settings show no proxy either.
fn exposed(secret: Option<&SecretString>) -> Option<String> {
    secret.map(|secret| secret.expose_secret().to_owned())
}
