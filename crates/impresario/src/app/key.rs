//! Which secret key the server uses, and that it is the one its database needs.
//!
//! The database keeps the id of the key that its secrets are sealed under. Without it, a lost key file would be made
//! anew in silence, and nobody would notice before the first callback that cannot be signed.

use anyhow::{Context, bail};
use secrecy::ExposeSecret as _;

use crate::{
    config::Settings,
    ids::Ids,
    secrets::Keyring,
    store::{Store, ops::settings},
};

/// The keys that were set, else those of the key file, which is made where nothing is sealed yet.
///
/// Where several nodes share the database they share the key: none makes one of its own once another has.
///
/// # Errors
/// Where a key is malformed or the file cannot be used, and where the key that the database needs is missing.
pub(super) async fn keyring(settings: &Settings, ids: &Ids, store: &Store) -> anyhow::Result<Keyring> {
    let state = store.read("key_state", settings::key_state).await?;
    let shared = store.is_shared();
    let needed = state.recorded.clone().filter(|_| state.has_secrets || shared);
    let path = settings.secret_key_path();
    let keyring = match &settings.secret_key {
        Some(keys) => Keyring::from_base64(keys.expose_secret()).context("secret_key")?,
        None => match (Keyring::load(&path)?, &needed) {
            (Some(keyring), _) => keyring,
            (None, None) => Keyring::load_or_create(&path, ids)?,
            (None, Some(id)) if shared => bail!(
                "the nodes on this database seal secrets under the key {id}, and this one has no key: give it the same \
                 IMPRESARIO_SECRET_KEY, or copy the file secret.key from the data directory of a node that has it to {}",
                path.display()
            ),
            (None, Some(id)) => bail!(
                "the database holds secrets that are sealed under the key {id}, and the key file {} is gone: put it \
                 back from a backup, or set IMPRESARIO_SECRET_KEY to that key",
                path.display()
            ),
        },
    };
    let first = keyring.key_id();
    if let Some(id) = needed {
        check(&keyring, &id, settings)?;
    } else {
        let mine = first.clone();
        let claimed = store.write("claim_key", move |tx| settings::claim_key(tx, &mine));
        // Another node may have been a moment faster. On an embedded database nothing is sealed under what is on record.
        if let (Some(id), true) = (claimed.await?, shared) {
            check(&keyring, &id, settings)?;
        }
    }
    if state.recorded.as_deref() != Some(&*first) {
        let recorded = store.write("record_key", move |tx| settings::record_key(tx, &first));
        recorded.await?;
    }
    Ok(keyring)
}

/// Refuses a keyring without the key that the database needs.
fn check(keyring: &Keyring, id: &str, settings: &Settings) -> anyhow::Result<()> {
    if keyring.has(id) {
        return Ok(());
    }
    let place = match &settings.secret_key {
        Some(_) => "among IMPRESARIO_SECRET_KEY".to_owned(),
        None => format!("in the key file {}", settings.secret_key_path().display()),
    };
    bail!(
        "the database holds secrets that are sealed under the key {id}, which is not {place} (the first there is {}): \
         add that key to the list, after a comma",
        keyring.key_id()
    );
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;
    use crate::store::Access;

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

    async fn seal_something(store: &Store) {
        let sealed = store.write("test", |tx| {
            tx.execute(
                "INSERT INTO tenants (id, name, created_at) VALUES ('t', 't', 0)",
                &[],
            )?;
            let secret =
                "INSERT INTO secrets (id, tenant_id, sealed, created_at) VALUES ('1', 't', x'00', 0)";
            tx.execute(secret, &[])
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
        seal_something(&store).await;
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
    async fn a_key_is_changed_by_putting_the_new_one_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Access::Server).unwrap();
        let old = start(&store, &with(folder.path(), Some(&[key(1)])))
            .await
            .unwrap();
        seal_something(&store).await;
        let error = start(&store, &with(folder.path(), Some(&[key(2)])))
            .await
            .unwrap_err();
        assert!(error.contains(&old), "{error}");
        let new = start(&store, &with(folder.path(), Some(&[key(2), key(1)])))
            .await
            .unwrap();
        assert_ne!(old, new);
        // From now on it is the new one that must not be missing.
        let error = start(&store, &with(folder.path(), Some(&[key(1)])))
            .await
            .unwrap_err();
        assert!(error.contains(&new), "{error}");
    }
}
