//! Whether the store takes writes. In come questions, as many as anybody likes to ask without a key; out goes an answer
//! that is a few seconds old at the most.
//!
//! To read is not enough: on a full or a read-only disk everything can still be read. And to look at the last commit
//! alone is not enough either: a server that is taken out of service because one failed gets no more writes by which it
//! could show that it is well again. So a tiny write is made, but seldom, whoever asks however often.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::store::{Store, ops::settings};

/// How old the last tiny write may be.
const INTERVAL: Duration = Duration::from_secs(10);
/// A write that takes longer does not count as one.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the last tiny write showed.
#[derive(Debug, Default)]
pub struct Writable {
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    began: Option<Instant>,
    failed: bool,
}

impl Writable {
    /// Whether the store takes writes.
    pub async fn check(&self, store: &Store) -> bool {
        self.check_at(store, Instant::now()).await
    }

    async fn check_at(&self, store: &Store, now: Instant) -> bool {
        // Whoever asks while another one's write is under way is told what the one before showed.
        if self.begins(now) {
            let written = tokio::time::timeout(PATIENCE, store.write("write_check", settings::check_write));
            let failed = match written.await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("{:#}", anyhow::Error::from(error))),
                Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
            };
            if let Some(error) = &failed {
                tracing::error!(error, "the store takes no writes");
            }
            self.last().failed = failed.is_some();
        }
        !self.last().failed && store.last_commit_failure().is_none()
    }

    /// Whether it is time for another write; the caller then makes it.
    fn begins(&self, now: Instant) -> bool {
        let mut last = self.last();
        let due = last
            .began
            .is_none_or(|began| now.saturating_duration_since(began) >= INTERVAL);
        if due {
            last.began = Some(now);
        }
        due
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Access, Result};

    async fn run(store: &Store, sql: &'static str) -> Result<u64> {
        store.write("test", |tx| tx.execute(sql, &[])).await
    }

    #[tokio::test]
    async fn a_store_that_only_reads_is_noticed_and_is_well_again_after_repair() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Access::Server).unwrap();
        let writable = Writable::default();
        let start = Instant::now();
        assert!(writable.check_at(&store, start).await);
        let broken = "CREATE TRIGGER broken BEFORE INSERT ON settings BEGIN SELECT RAISE(ABORT, 'disk'); END";
        run(&store, broken).await.unwrap();
        // Within the interval nobody makes it write again.
        assert!(writable.check_at(&store, start + INTERVAL / 2).await);
        assert!(!writable.check_at(&store, start + INTERVAL).await);
        run(&store, "DROP TRIGGER broken").await.unwrap();
        assert!(!writable.check_at(&store, start + INTERVAL * 3 / 2).await);
        assert!(writable.check_at(&store, start + INTERVAL * 2).await);
    }

    #[tokio::test]
    async fn a_commit_that_failed_is_noticed_at_once_and_a_later_one_makes_up_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Access::Server).unwrap();
        let writable = Writable::default();
        let start = Instant::now();
        assert!(writable.check_at(&store, start).await);
        let failed = store.write("test", |tx| {
            tx.query("PRAGMA defer_foreign_keys = ON", &[], |_| Ok(()))?;
            let orphan =
                "INSERT INTO secrets (id, tenant_id, sealed, created_at) VALUES ('1', 'x', x'00', 0)";
            tx.execute(orphan, &[])
        });
        assert!(failed.await.is_err());
        assert!(store.last_commit_failure().is_some());
        assert!(!writable.check_at(&store, start).await);
        // Nobody else writes to a server that is out of service: the check itself does.
        assert!(writable.check_at(&store, start + INTERVAL).await);
    }
}
