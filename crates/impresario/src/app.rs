//! What every part of a running server shares.

mod instance;
pub(crate) mod key;
mod machine;
mod writable;

use std::{sync::Arc, time::Duration};

use anyhow::Context;

pub use self::{machine::Machine, writable::Writable};
use crate::{
    api::{key_uses::KeyUses, rate::Rate},
    background::{Pulse, Signals},
    builds::ActiveBuilds,
    clock::{self, DatabaseClock, SharedClock, SystemClock},
    config::{Role, Settings},
    delivery::{gate::Gate, http::Sender, lanes::Lanes},
    ids::Ids,
    metrics::Metrics,
    runner::NodeRunner,
    secrets::Keyring,
    store::{Access, Store},
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
    /// How often each API key may ask this node.
    pub rate: Rate,
    /// Which uses of API keys were written down lately.
    pub key_uses: KeyUses,
    /// Wakes the loops.
    pub signals: Signals,
    /// Shows that the loops come round.
    pub pulse: Arc<Pulse>,
    /// What builds and runs workflows here; nothing where other nodes do.
    pub machine: Option<Machine>,
    /// What is counted of all this.
    pub metrics: Metrics,
    /// The jobs that run here.
    pub running: RunningJobs,
    /// The deployments that are being built here.
    pub active_builds: ActiveBuilds,
    /// Where callbacks may go.
    pub gate: Gate,
    /// Sends them.
    pub sender: Sender,
    /// A permit for each delivery attempt that may be under way.
    pub lanes: Lanes,
}

impl App {
    /// Opens the store, and where this node is to run workflows, finds Node and Chromium and installs the runner's packages
    /// where they are missing.
    ///
    /// # Errors
    /// Sentences that say what is missing and what to do about it.
    pub async fn open(settings: Settings) -> anyhow::Result<Self> {
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
        let data_dir = std::path::absolute(&settings.data_dir).context("the data directory's path")?;
        let machine = match settings.roles.has(Role::Worker) {
            true => Some(Machine::open((&settings, &data_dir), &store, (&clock, &ids)).await?),
            false => None,
        };
        let gate = Gate::new(settings.allow_private_callbacks.clone());
        let sender = Sender::new(gate.clone())?;
        let rate = Rate::new(settings.requests_per_second, settings.request_burst);
        let lanes = Lanes::new(settings.deliveries_at_once);
        let settings = Settings { data_dir, ..settings };
        Ok(Self {
            settings,
            store,
            writable: Writable::default(),
            clock,
            shared_clock,
            ids,
            keyring,
            rate,
            key_uses: KeyUses::default(),
            signals: Signals::default(),
            pulse: Arc::default(),
            metrics: Metrics::default(),
            machine,
            running: RunningJobs::default(),
            active_builds: ActiveBuilds::default(),
            gate,
            sender,
            lanes,
        })
    }

    /// Runs workflows; nothing where other nodes do.
    #[must_use]
    pub fn runner(&self) -> Option<&NodeRunner> {
        self.machine.as_ref().map(|machine| &machine.runner)
    }

    /// How long what this node holds stays its own unless it says that it is alive.
    #[must_use]
    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.settings.lease_seconds)
    }
}

#[cfg(test)]
mod tests;
