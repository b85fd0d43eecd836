//! What a node with the role `worker` needs of its machine: Node, the runner's packages, and a Chromium if there is one.

use std::path::{Path, PathBuf};

use anyhow::Context;
use secrecy::{ExposeSecret as _, SecretString};

use super::instance;
use crate::{
    clock::SharedClock,
    config::Settings,
    ids::Ids,
    runner::{self, Limits, Located, NodeRunner, RunnerSettings},
    store::{Store, ops},
};

/// What runs workflows here.
#[derive(Debug)]
pub struct Machine {
    /// Runs workflows.
    pub runner: NodeRunner,
    /// What was found on this machine to run them with.
    pub located: Located,
}

impl Machine {
    /// Finds Node and Chromium, and installs the runner's packages where they are missing.
    ///
    /// # Errors
    /// Sentences that say what is missing and what to do about it.
    pub(super) async fn open(
        (settings, data_dir): (&Settings, &Path),
        store: &Store,
        (clock, ids): (&SharedClock, &Ids),
    ) -> anyhow::Result<Self> {
        check_proxies(settings)?;
        let located = runner::locate(settings.node.as_deref(), settings.chromium.as_deref())?;
        let modules = match &settings.runner_dir {
            Some(dir) => runner_dir(dir)?,
            None => runner::provision(&data_dir.join("runner"), &located.node).await?,
        };
        let host = runner::write_host(data_dir)?;
        let earlier = match instance::known(data_dir)? {
            // Where the database was this directory's alone, earlier versions kept the mark in it.
            None if !store.is_shared() => store.read_now("instance", ops::settings::instance).await?,
            _ => None,
        };
        let new = || earlier.unwrap_or_else(|| ids.uuid(clock.now()).to_string());
        let instance = instance::mark(data_dir, new)?;
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
        Ok(Self { runner, located })
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
