//! `backup` and `restored`: a copy of the database, and what is said of one that was put back.

use std::{io::Write as _, path::PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use jiff::Timestamp;

use super::say;
use crate::{
    clock::{self, SharedClock, SystemClock},
    config::{Flags, Settings},
    domain::rfc3339,
    store::{self, Access, Store, ops},
};

#[derive(Debug, Args)]
pub(super) struct BackupOptions {
    /// The file to make; it must not be there yet
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct RestoredOptions {
    /// Only say that the database on PostgreSQL was moved, and that nothing has fired elsewhere since: what it owes fires
    #[arg(long)]
    only_moved: bool,
}

/// The settings, where they name a database.
fn settings(flags: &Flags) -> anyhow::Result<Settings> {
    let settings = Settings::load(flags, None).map_err(anyhow::Error::msg)?;
    if settings.database.is_none() && !settings.database_path().exists() {
        bail!(
            "there is no database in {}: is --data-dir right?",
            settings.data_dir.display()
        );
    }
    Ok(settings)
}

/// The clock that the server goes by: the backup's instant is compared with it when the backup is put back.
pub(super) fn clock(settings: &Settings) -> anyhow::Result<SharedClock> {
    Ok(match &settings.clock_file {
        Some(path) => std::sync::Arc::new(
            clock::follow_file(path.clone()).with_context(|| format!("clock_file: {}", path.display()))?,
        ),
        None => std::sync::Arc::new(SystemClock),
    })
}

pub(super) async fn backup(flags: &Flags, options: BackupOptions) -> anyhow::Result<()> {
    let settings = settings(flags)?;
    if let Some(target) = &settings.database {
        bail!(
            "this copies the embedded database, and the settings name {}: use `pg_dump`, and `impresario restored` before \
             the first start on a database that it was put back into",
            target.shown()
        );
    }
    let clock = clock(&settings)?;
    let (source, target) = (settings.database_path(), options.file.clone());
    let copied =
        tokio::task::spawn_blocking(move || store::backup::copy(&source, &target, &*clock)).await??;
    say(&format!(
        "{}  {} bytes, schema version {}, as of {}",
        options.file.display(),
        copied.bytes,
        copied.schema,
        rfc3339(copied.at)
    ))?;
    let key = match &settings.secret_key {
        Some(_) => {
            "the secret key is not in it: keep what IMPRESARIO_SECRET_KEY is set to as well".to_owned()
        }
        None => format!(
            "the secret key is not in it: keep {} as well, in another place",
            settings.secret_key_path().display()
        ),
    };
    let _closed = writeln!(
        std::io::stderr(),
        "impresario: {key}; without it the secrets in the backup cannot be opened"
    );
    Ok(())
}

pub(super) async fn restored(flags: &Flags, options: RestoredOptions) -> anyhow::Result<()> {
    let settings = settings(flags)?;
    // As a server, for its lock: what is settled at a start must not change under one that runs. A database that nodes share
    // has no such lock.
    let access = match settings.database {
        Some(_) => Access::Tool,
        None => Access::Server,
    };
    let store = Store::of(settings.database.as_ref(), &settings.data_dir, access)
        .await
        .context("only a database on which no server runs can be marked as restored")?;
    // Kept to the end: a node that starts meanwhile waits until what is said here is written down.
    let _deserted = match &settings.database {
        None => None,
        Some(target) => match store::keep_deserted(target).await? {
            Some(deserted) => Some(deserted),
            None => bail!(
                "nodes run on {}: stop them all first, what is settled at a start must not change under one that runs",
                target.shown()
            ),
        },
    };
    if options.only_moved {
        if settings.database.is_none() {
            bail!("--only-moved is for a database on PostgreSQL: an embedded one is not known by its place");
        }
        let marked = store.read("restored_from", ops::settings::restored_from).await?;
        if marked.is_some() {
            bail!(
                "this database is marked as put back from an older backup already, and that stays: start a node on it"
            );
        }
        store.write("settle_down", ops::settings::settle_down).await?;
        say(
            "noted that the database was moved and that nothing has fired elsewhere since: nodes go on where it stands",
        )?;
        return Ok(());
    }
    let now = match store.shared_time().await? {
        // By the clock that the nodes go by.
        Some((_, millisecond, _)) if settings.clock_file.is_none() => {
            Timestamp::from_millisecond(millisecond).context("the database's clock")?
        }
        _ => clock(&settings)?.now(),
    };
    store
        .write("mark_restored", move |tx| {
            ops::settings::settle_down(tx)?;
            ops::settings::mark_restored(tx, now)
        })
        .await?;
    say(
        "marked as restored: the next start writes down what has come due by then as missed, and fails the jobs that are \
         unfinished; none of it fires or runs",
    )?;
    Ok(())
}
