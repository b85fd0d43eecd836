//! Which secret keys the server uses, and that they are the ones its database needs.
//!
//! The database keeps the ids of the keys that its secrets are sealed under. Without them, a lost key file would be made
//! anew in silence, and an old key taken away before its time: nobody would notice before the first callback that cannot
//! be signed.

use anyhow::{Context, bail};
use secrecy::ExposeSecret as _;

use crate::{
    config::Settings,
    ids::Ids,
    rotation,
    secrets::Keyring,
    store::{Store, ops::settings},
};

/// The keys that were set, else those of the key file, which is made where nothing is sealed yet.
///
/// Where several nodes share the database they share the key: none makes one of its own once another has.
///
/// # Errors
/// Where a key is malformed or the file cannot be used, and where a key that the database needs is missing.
pub(super) async fn keyring(settings: &Settings, ids: &Ids, store: &Store) -> anyhow::Result<Keyring> {
    let state = store.read("key_state", settings::key_state).await?;
    let shared = store.is_shared();
    let needed = match state.has_secrets || shared {
        true => state.recorded.clone(),
        false => Vec::new(),
    };
    let path = settings.secret_key_path();
    let keyring = match (at_hand(settings)?, needed.first()) {
        (Some(keyring), _) => keyring,
        (None, None) => Keyring::load_or_create(&path, ids)?,
        (None, Some(_)) if shared => bail!(
            "the nodes on this database seal secrets under the key {}, and this one has no key: give it the same \
             IMPRESARIO_SECRET_KEY, or copy the file secret.key from the data directory of a node that has it to {}",
            needed.join(", "),
            path.display()
        ),
        (None, Some(_)) => bail!(
            "the database holds secrets that are sealed under the key {}, and the key file {} is gone: put it \
             back from a backup, or set IMPRESARIO_SECRET_KEY to that key",
            needed.join(", "),
            path.display()
        ),
    };
    if needed.is_empty() {
        let mine = keyring.key_id();
        let claimed = store.write("claim_key", move |tx| settings::claim_key(tx, &mine));
        // Another node may have been a moment faster. On an embedded database nothing is sealed under what is on record.
        let claimed = claimed.await?;
        if shared {
            check(&keyring, &claimed, settings)?;
        }
    } else {
        check(&keyring, &needed, settings)?;
    }
    // What is on record may be short of what a server sealed that was not started again in time.
    let used: Vec<String> = rotation::usage(store).await?.by_key.into_keys().collect();
    check(&keyring, &used, settings)?;
    if state.recorded != [keyring.key_id()] {
        rotation::record(store, &keyring).await?;
    }
    Ok(keyring)
}

/// The keys that were set, else those of the key file; nothing where there is none.
///
/// # Errors
/// Where a key is malformed or the file cannot be used.
pub(crate) fn at_hand(settings: &Settings) -> anyhow::Result<Option<Keyring>> {
    match &settings.secret_key {
        Some(keys) => Ok(Some(
            Keyring::from_base64(keys.expose_secret()).context("secret_key")?,
        )),
        None => Ok(Keyring::load(&settings.secret_key_path())?),
    }
}

/// Refuses a keyring without a key that the database needs.
fn check(keyring: &Keyring, needed: &[String], settings: &Settings) -> anyhow::Result<()> {
    let Some(id) = needed.iter().find(|id| !keyring.has(id)) else {
        return Ok(());
    };
    let place = match &settings.secret_key {
        Some(_) => "among IMPRESARIO_SECRET_KEY".to_owned(),
        None => format!("in the key file {}", settings.secret_key_path().display()),
    };
    let hint = match needed.first() == Some(id) {
        true => "",
        false => "; `impresario secrets rotate` makes it needless",
    };
    bail!(
        "the database holds secrets that are sealed under the key {id}, which is not {place} (the first there is {}): \
         add that key to the list, after a comma{hint}",
        keyring.key_id()
    );
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;
    use crate::{
        domain::TenantId,
        store::{
            Access,
            ops::{
                secrets,
                tenants::{self, Tenant},
            },
        },
        vault,
    };

    fn key(byte: u8) -> String {
        STANDARD.encode([byte; 32])
    }

    fn with(dir: &Path, keys: Option<&[String]>) -> Settings {
        Settings {
            data_dir: dir.to_owned(),
            secret_key: keys.map(|keys| keys.join(",").into()),
            ..Settings::default()
        }
    }

    async fn start(store: &Store, settings: &Settings) -> Result<String, String> {
        let keyring = keyring(settings, &Ids::seeded(1), store).await;
        keyring.map(|ring| ring.key_id()).map_err(|e| format!("{e:#}"))
    }

    /// With these keys.
    async fn seal_something(store: &Store, keyring: &Keyring) {
        let (ids, now) = (Ids::seeded(1), jiff::Timestamp::UNIX_EPOCH);
        let tenant = Tenant {
            id: TenantId(ids.uuid(now)),
            name: "t".to_owned(),
            created_at: now,
        };
        let secret = vault::seal(keyring, &ids, tenant.id, ids.uuid(now), "x");
        let sealed = store.write("test", move |tx| {
            tenants::create(tx, tenant.clone())?;
            secrets::insert(tx, tenant.id, secret.clone(), now)
        });
        sealed.await.unwrap();
    }

    #[tokio::test]
    async fn a_lost_key_file_is_not_made_anew_once_something_is_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Access::Server).unwrap();
        let settings = with(folder.path(), None);
        let path = settings.secret_key_path();
        start(&store, &settings).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        // Nothing is sealed yet: a new key is as good.
        let id = start(&store, &settings).await.unwrap();
        seal_something(&store, &Keyring::load(&path).unwrap().unwrap()).await;
        assert_eq!(start(&store, &settings).await.unwrap(), id);
        let backup = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let error = start(&store, &settings).await.unwrap_err();
        assert!(error.contains(&id) && error.contains("is gone"), "{error}");
        assert!(!path.exists());
        // Another key is no better, wherever it stands, and no error shows one.
        let error = start(&store, &with(folder.path(), Some(&[key(1)])))
            .await
            .unwrap_err();
        assert!(
            error.contains(&id) && error.contains("IMPRESARIO_SECRET_KEY"),
            "{error}"
        );
        assert!(!error.contains(&key(1)), "{error}");
        let kept = String::from_utf8(backup).unwrap();
        let both = [key(1), kept.trim().to_owned()];
        start(&store, &with(folder.path(), Some(&both))).await.unwrap();
    }

    #[tokio::test]
    async fn what_was_sealed_under_an_old_key_after_all_is_found_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Access::Server).unwrap();
        start(&store, &with(folder.path(), Some(&[key(2)])))
            .await
            .unwrap();
        // By a server that was not started again in time.
        let late = Keyring::from_base64(&key(1)).unwrap();
        seal_something(&store, &late).await;
        let error = start(&store, &with(folder.path(), Some(&[key(2)])))
            .await
            .unwrap_err();
        assert!(error.contains(&late.key_id()), "{error}");
        start(&store, &with(folder.path(), Some(&[key(2), key(1)])))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_key_is_changed_by_putting_the_new_one_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Access::Server).unwrap();
        let old = start(&store, &with(folder.path(), Some(&[key(1)])))
            .await
            .unwrap();
        seal_something(&store, &Keyring::from_base64(&key(1)).unwrap()).await;
        let error = start(&store, &with(folder.path(), Some(&[key(2)])))
            .await
            .unwrap_err();
        assert!(error.contains(&old), "{error}");
        let new = start(&store, &with(folder.path(), Some(&[key(2), key(1)])))
            .await
            .unwrap();
        assert_ne!(old, new);
        // From now on it is the new one that must not be missing, and the old one as long as anything is sealed under it.
        let error = start(&store, &with(folder.path(), Some(&[key(1)])))
            .await
            .unwrap_err();
        assert!(error.contains(&new), "{error}");
        let error = start(&store, &with(folder.path(), Some(&[key(2)])))
            .await
            .unwrap_err();
        assert!(
            error.contains(&old) && error.contains("secrets rotate"),
            "{error}"
        );
        let gone = store.write("test", |tx| tx.execute("DELETE FROM secrets", &[]));
        gone.await.unwrap();
        start(&store, &with(folder.path(), Some(&[key(2)])))
            .await
            .unwrap();
    }
}
