//! Secrets on their way from old keys to the first one. What comes in: the keys at hand and the store. What goes out: every
//! secret that opens, sealed under the first key, a batch at a time; and which keys are needed still.
//!
//! Each batch is a write of its own and each secret opens at every moment with the keys that were at hand, so it may be cut
//! off anywhere and begun again, and servers may run meanwhile if they have all of these keys.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::{
    domain::SecretId,
    ids::Ids,
    secrets::{Keyring, OpenError, sealed_under},
    store::{
        self, Store,
        ops::{
            secrets::{self, StoredSecret},
            settings,
        },
    },
    vault,
};

/// How many secrets are looked at, and perhaps written, at once.
const BATCH: u32 = 200;

/// How many secrets are sealed under which key, by its id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// By the id of the key.
    pub by_key: BTreeMap<String, u64>,
    /// Those that do not even say it.
    pub damaged: u64,
}

/// Counts what is sealed under which key.
///
/// # Errors
/// The store's.
pub async fn usage(store: &Store) -> store::Result<Usage> {
    let mut usage = Usage::default();
    for heading in store.read("secret_headings", secrets::headings).await? {
        match sealed_under(&heading.bytes) {
            Some(key) => *usage.by_key.entry(key).or_default() += heading.secrets,
            None => usage.damaged += heading.secrets,
        }
    }
    Ok(usage)
}

/// Writes down which keys no server may be without: the first one, and those at hand, or on record, that something is
/// sealed under still.
///
/// # Errors
/// The store's.
pub async fn record(store: &Store, keyring: &Keyring) -> store::Result<Vec<String>> {
    let recorded = store.read("key_state", settings::key_state).await?.recorded;
    let usage = usage(store).await?;
    let mut needed = vec![keyring.key_id()];
    for key in keyring.key_ids().into_iter().chain(recorded) {
        if usage.by_key.contains_key(&key) && !needed.contains(&key) {
            needed.push(key);
        }
    }
    for (key, secrets) in usage.by_key.iter().filter(|(key, _)| !keyring.has(key)) {
        tracing::error!(%key, secrets, "there are secrets that are sealed under a key that is not at hand: they cannot be opened");
    }
    let written = needed.clone();
    store
        .write("record_keys", move |tx| settings::record_keys(tx, &written))
        .await?;
    Ok(needed)
}

/// What became of the secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rotated {
    /// How many are sealed under the first key that were not.
    pub resealed: u64,
    /// How many cannot be opened, by the id of the key that is not at hand.
    pub without_key: BTreeMap<String, u64>,
    /// How many cannot be opened although their key is at hand: they are damaged.
    pub damaged: Vec<SecretId>,
}

/// Seals everything that opens under the first key; what does not open stays as it is. `progress` hears of each batch.
///
/// # Errors
/// The store's.
pub async fn rotate(
    store: &Store,
    (keyring, ids): (&Keyring, &Ids),
    mut progress: impl FnMut(&Rotated),
) -> store::Result<Rotated> {
    let first = keyring.key_id();
    let mut rotated = Rotated::default();
    let mut after = None;
    loop {
        let page = store
            .read("secrets_page", move |tx| secrets::page(tx, after, BATCH))
            .await?;
        let Some(last) = page.last() else {
            return Ok(rotated);
        };
        after = Some(last.id);
        let mut batch: Vec<(StoredSecret, Vec<u8>)> = Vec::new();
        for secret in page {
            if sealed_under(&secret.sealed).as_ref() == Some(&first) {
                continue;
            }
            match vault::open(keyring, secret.tenant, secret.id, &secret.sealed) {
                Ok(plain) => {
                    let id: Uuid = secret.id.0;
                    let sealed = vault::seal_again(keyring, ids, (secret.tenant, id), &plain);
                    batch.push((secret, sealed));
                }
                Err(OpenError::UnknownKey { key_id }) => *rotated.without_key.entry(key_id).or_default() += 1,
                Err(OpenError::Damaged) => rotated.damaged.push(secret.id),
            }
        }
        if batch.is_empty() {
            continue;
        }
        rotated.resealed += store
            .write("reseal_secrets", move |tx| {
                let mut changed = 0;
                for (read, sealed) in &batch {
                    changed += u64::from(secrets::reseal(tx, read, sealed)?);
                }
                Ok(changed)
            })
            .await?;
        progress(&rotated);
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::{
        domain::TenantId,
        store::{
            Access,
            ops::tenants::{self, Tenant},
        },
    };

    fn ring(keys: &[u8]) -> Keyring {
        let keys: Vec<String> = keys.iter().map(|byte| STANDARD.encode([*byte; 32])).collect();
        Keyring::from_base64(&keys.join(",")).unwrap()
    }

    struct Stage {
        store: Store,
        ids: Ids,
        tenant: TenantId,
        _dir: tempfile::TempDir,
    }

    impl Stage {
        async fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path(), Access::Server).unwrap();
            let tenant = TenantId(Uuid::from_u128(1));
            let made = store.write("test", move |tx| {
                let tenant = Tenant {
                    id: tenant,
                    name: "t".to_owned(),
                    created_at: jiff::Timestamp::UNIX_EPOCH,
                };
                tenants::create(tx, tenant)
            });
            made.await.unwrap();
            Self {
                store,
                ids: Ids::seeded(1),
                tenant,
                _dir: dir,
            }
        }

        fn id(number: u64) -> Uuid {
            Uuid::from_u128(u128::from(number))
        }

        async fn seal(&self, keyring: &Keyring, numbers: std::ops::Range<u64>) {
            let tenant = self.tenant;
            let sealed: Vec<_> = numbers
                .map(|number| {
                    let plain = format!("secret {number}");
                    vault::seal(keyring, &self.ids, tenant, Self::id(number), &plain)
                })
                .collect();
            let sealed = self.store.write("test", move |tx| {
                for secret in sealed.clone() {
                    secrets::insert(tx, tenant, secret, jiff::Timestamp::UNIX_EPOCH)?;
                }
                Ok(())
            });
            sealed.await.unwrap();
        }

        /// What each opens to with these keys.
        async fn all_open(&self, keyring: &Keyring, numbers: std::ops::Range<u64>) -> bool {
            let (tenant, mut all) = (self.tenant, true);
            for number in numbers {
                let id = SecretId(Self::id(number));
                let read = self.store.read("test", move |tx| secrets::get(tx, tenant, id));
                let sealed = read.await.unwrap().unwrap();
                let plain = vault::open(keyring, tenant, id, &sealed);
                all &= plain.is_ok_and(|plain| plain.expose_secret() == format!("secret {number}"));
            }
            all
        }
    }

    #[tokio::test]
    async fn everything_is_sealed_under_the_first_key_and_a_second_time_changes_nothing() {
        let stage = Stage::new().await;
        stage.seal(&ring(&[1]), 0..450).await;
        stage.seal(&ring(&[2]), 450..460).await;
        let keys = ring(&[3, 1, 2]);
        let mut batches = Vec::new();
        let rotated = rotate(&stage.store, (&keys, &stage.ids), |so_far| {
            batches.push(so_far.resealed);
        })
        .await;
        assert_eq!(batches, [200, 400, 460], "each a write of its own");
        assert_eq!(
            rotated.unwrap(),
            Rotated {
                resealed: 460,
                ..Rotated::default()
            }
        );
        assert!(stage.all_open(&ring(&[3]), 0..460).await);
        assert!(!stage.all_open(&ring(&[1, 2]), 0..1).await);
        let again = rotate(&stage.store, (&keys, &stage.ids), |_| {
            panic!("nothing is written")
        })
        .await;
        assert_eq!(again.unwrap(), Rotated::default());
        assert_eq!(record(&stage.store, &keys).await.unwrap(), [keys.key_id()]);
    }

    #[tokio::test]
    async fn one_that_is_cut_off_leaves_everything_readable_and_the_next_one_ends_it() {
        let stage = Stage::new().await;
        stage.seal(&ring(&[1]), 0..450).await;
        let (keys, first_batch) = (ring(&[3, 1]), tokio::sync::Notify::new());
        tokio::select! {
            biased;
            () = first_batch.notified() => {}
            rotated = rotate(&stage.store, (&keys, &stage.ids), |_| first_batch.notify_one()) => panic!("{rotated:?}"),
        }
        let half = usage(&stage.store).await.unwrap().by_key;
        assert_eq!(half.len(), 2, "{half:?}");
        assert!(stage.all_open(&keys, 0..450).await);
        let rest = rotate(&stage.store, (&keys, &stage.ids), |_| ()).await.unwrap();
        assert_eq!(rest.resealed, half[&ring(&[1]).key_id()]);
        assert!(stage.all_open(&ring(&[3]), 0..450).await);
    }

    #[tokio::test]
    async fn what_does_not_open_stays_as_it_is_and_its_key_stays_on_record() {
        let stage = Stage::new().await;
        stage.seal(&ring(&[1]), 0..3).await;
        stage.seal(&ring(&[2]), 3..5).await;
        let damaged = SecretId(Stage::id(0));
        let spoiled = stage.store.write("test", |tx| {
            let read = secrets::page(tx, None, 1)?.remove(0);
            let mut sealed = read.sealed.clone();
            if let Some(byte) = sealed.last_mut() {
                *byte ^= 1;
            }
            secrets::reseal(tx, &read, &sealed)
        });
        assert!(spoiled.await.unwrap());
        // While all keys are at hand, all of them are needed.
        let all = ring(&[3, 1, 2]);
        let ids = |keys: &[u8]| keys.iter().map(|key| ring(&[*key]).key_id()).collect::<Vec<_>>();
        assert_eq!(record(&stage.store, &all).await.unwrap(), ids(&[3, 1, 2]));
        let keys = ring(&[3, 1]);
        let rotated = rotate(&stage.store, (&keys, &stage.ids), |_| ()).await.unwrap();
        let without_key = BTreeMap::from([(ring(&[2]).key_id(), 2)]);
        assert_eq!(
            rotated,
            Rotated {
                resealed: 2,
                without_key,
                damaged: vec![damaged]
            }
        );
        assert!(
            stage.all_open(&ring(&[2]), 3..5).await,
            "nothing of it was changed"
        );
        assert!(stage.all_open(&ring(&[3]), 1..3).await);
        assert_eq!(record(&stage.store, &keys).await.unwrap(), ids(&[3, 1, 2]));
        let rest = rotate(&stage.store, (&all, &stage.ids), |_| ()).await.unwrap();
        assert_eq!(rest.resealed, 2);
    }

    #[tokio::test]
    async fn a_secret_that_is_gone_or_another_by_now_is_left_alone() {
        let stage = Stage::new().await;
        stage.seal(&ring(&[1]), 0..1).await;
        let page = stage
            .store
            .read("test", |tx| secrets::page(tx, None, 9))
            .await
            .unwrap();
        let read = page[0].clone();
        let other = StoredSecret {
            sealed: vec![0],
            ..read.clone()
        };
        let changed = stage
            .store
            .write("test", move |tx| secrets::reseal(tx, &other, &[1]));
        assert!(!changed.await.unwrap());
        assert!(stage.all_open(&ring(&[1]), 0..1).await);
    }
}
