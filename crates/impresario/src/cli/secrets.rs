//! `secrets …`: which keys secrets are sealed under, and how they come to be sealed under another. They work on the database
//! itself, also while servers run on it.

use std::io::Write as _;

use anyhow::{Context, bail};
use clap::Subcommand;

use super::{admin, say};
use crate::{
    app::key,
    config::Flags,
    ids::Ids,
    rotation::{self, Rotated, Usage},
    secrets::Keyring,
    store::{Store, ops::settings},
};

#[derive(Debug, Subcommand)]
pub(super) enum SecretsCommand {
    /// Show how many secrets are sealed under which key, and which keys are at hand
    Status,
    /// Seal everything under the first key, so that the others are not needed any more
    Rotate,
}

pub(super) async fn secrets(flags: &Flags, command: SecretsCommand) -> anyhow::Result<()> {
    let (settings, store) = admin::open(flags, false).await?;
    let keyring = key::at_hand(&settings)?;
    match command {
        SecretsCommand::Status => status(&store, keyring.as_ref()).await,
        SecretsCommand::Rotate => {
            let keyring = keyring.with_context(|| {
                format!(
                    "there is no secret key: set IMPRESARIO_SECRET_KEY, or put the key file at {}",
                    settings.secret_key_path().display()
                )
            })?;
            rotate(&store, &keyring).await
        }
    }
}

async fn status(store: &Store, keyring: Option<&Keyring>) -> anyhow::Result<()> {
    let Usage { by_key, damaged } = rotation::usage(store).await?;
    let at_hand = keyring.map(Keyring::key_ids).unwrap_or_default();
    for (place, key) in at_hand.iter().enumerate() {
        let part = match place {
            0 => "seals",
            _ => "opens",
        };
        let secrets = by_key.get(key).copied().unwrap_or(0);
        say(&format!("{key}  at hand, {part}  {}", counted(secrets)))?;
    }
    for (key, secrets) in by_key.iter().filter(|(key, _)| !at_hand.contains(key)) {
        say(&format!("{key}  missing         {}", counted(*secrets)))?;
    }
    if damaged > 0 {
        say(&format!("none      damaged         {}", counted(damaged)))?;
    }
    Ok(())
}

fn counted(secrets: u64) -> String {
    match secrets {
        1 => "1 secret".to_owned(),
        many => format!("{many} secrets"),
    }
}

async fn rotate(store: &Store, keyring: &Keyring) -> anyhow::Result<()> {
    let first = keyring.key_id();
    let ids = keyring.key_ids();
    if ids.iter().skip(1).any(|id| *id == first) {
        bail!(
            "the first key and another one of the list have the same id, {first}: leave the second out if they are the same \
             key, and else make a new key in its place (`openssl rand -base64 32`)"
        );
    }
    let recorded = store.read("key_state", settings::key_state).await?.recorded;
    if recorded.first().is_some_and(|recorded| *recorded != first) {
        bail!(
            "no server has been started with the key {first} in front (the newest one seals under {}), so those that run \
             could not open what is sealed under it: put it in front of the others on every node and start each again, then \
             rotate",
            recorded[0]
        );
    }
    let outcome = rotation::rotate(store, (keyring, &Ids::from_os()), |so_far| {
        let _closed = writeln!(
            std::io::stderr(),
            "impresario: {} sealed under {first} so far",
            counted(so_far.resealed)
        );
    })
    .await?;
    let needed = rotation::record(store, keyring).await?;
    let Rotated {
        resealed,
        without_key,
        damaged,
    } = outcome;
    if let Some(faults) = faults(&without_key, damaged.len()) {
        bail!(
            "{} sealed under {first}; {faults}. What cannot be opened is as it was: give this command the list with the \
             missing key, and remove no key before",
            counted(resealed)
        );
    }
    let left: Vec<String> = needed.into_iter().skip(1).collect();
    if !left.is_empty() {
        bail!(
            "{} sealed under {first}, and meanwhile others were sealed under {}: a server runs that has not the key {first} \
             in front. Start it again with the same list, then rotate once more",
            counted(resealed),
            left.join(", ")
        );
    }
    say(&format!(
        "{} sealed under {first} now, all of them",
        counted(resealed)
    ))?;
    if ids.len() == 1 {
        return Ok(());
    }
    say("the old keys can be removed now, if every server has been started with this one in front")?;
    Ok(())
}

/// What could not be opened, in one sentence.
fn faults(without_key: &std::collections::BTreeMap<String, u64>, damaged: usize) -> Option<String> {
    let mut faults: Vec<String> = without_key
        .iter()
        .map(|(key, secrets)| {
            format!(
                "{} cannot be opened: the key {key} is not at hand",
                counted(*secrets)
            )
        })
        .collect();
    if damaged > 0 {
        faults.push(format!("{} cannot be opened: damaged", counted(damaged as u64)));
    }
    (!faults.is_empty()).then(|| faults.join("; "))
}
