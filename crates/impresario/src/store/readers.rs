//! The readers. What comes in: operations that only look. What goes out: their answers, each from a snapshot.
//!
//! There are two ways in. A request waits for one of a few places, and is stopped when it takes too long or when nobody
//! waits for its answer any more. The loops, and the runs, builds and deliveries that they start, have places of their
//! own: however many requests look at however much, the next fire is found at once.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    engine::guarded,
    error::{EngineError, Result, StoreError},
    sqlite::connect,
    tx::{Session, Tx},
};

/// Requests that read at once.
const REQUESTS: usize = 4;

/// Loops, runs, builds and deliveries that read at once: more than there are loops, because a build may read a large
/// archive.
const LOOPS: usize = 8;

/// How long a request may wait for its place and read, together.
pub(super) const LONGEST: Duration = Duration::from_secs(10);

/// After how many steps of SQLite's virtual machine it is asked whether to go on: tens of microseconds.
const STEPS: u16 = 1000;

pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    requests: Arc<Semaphore>,
    loops: Arc<Semaphore>,
    longest: Duration,
}

/// When a read is to stop.
struct Limit {
    at: Instant,
    /// Nobody waits for the answer.
    gone: Arc<AtomicBool>,
}

/// Says so when it is dropped.
struct Caller(Arc<AtomicBool>);

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Readers {
    pub(super) fn new(path: PathBuf, longest: Duration) -> Self {
        Self {
            path,
            idle: Mutex::new(Vec::new()),
            requests: Arc::new(Semaphore::new(REQUESTS)),
            loops: Arc::new(Semaphore::new(LOOPS)),
            longest,
        }
    }

    /// Reads for a request.
    pub(super) async fn read<T, F>(self: &Arc<Self>, name: &'static str, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let gone = Arc::new(AtomicBool::new(false));
        let _caller = Caller(Arc::clone(&gone));
        let at = Instant::now() + self.longest;
        let place = tokio::time::timeout_at(at.into(), Arc::clone(&self.requests).acquire_owned())
            .await
            .map_err(|_| StoreError::TooSlow { operation: name })?
            .map_err(|_| StoreError::Closed { operation: name })?;
        self.with(place, name, Some(Limit { at, gone }), body).await
    }

    /// Reads for a loop, or for what one started.
    pub(super) async fn read_now<T, F>(self: &Arc<Self>, name: &'static str, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let place = Arc::clone(&self.loops).acquire_owned().await;
        let place = place.map_err(|_| StoreError::Closed { operation: name })?;
        self.with(place, name, None, body).await
    }

    /// The place is given back by the thread that reads, not by its caller: one that goes away would otherwise let in
    /// another beside a read that still goes on.
    async fn with<T, F>(
        self: &Arc<Self>,
        place: OwnedSemaphorePermit,
        name: &'static str,
        limit: Option<Limit>,
        body: F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let readers = Arc::clone(self);
        let read = move || {
            let _place = place;
            readers.run(name, limit, body)
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| StoreError::Panicked {
                operation: name,
                message: error.to_string(),
            })?
    }

    fn run<T>(
        &self,
        name: &'static str,
        limit: Option<Limit>,
        body: impl FnOnce(&mut Tx<'_>) -> Result<T>,
    ) -> Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => connect(&self.path, true)?,
        };
        let engine = |source| StoreError::Engine {
            operation: name,
            source: EngineError::Sqlite(source),
        };
        let handler =
            limit.map(|limit| move || limit.gone.load(Ordering::Relaxed) || Instant::now() >= limit.at);
        connection
            .progress_handler(STEPS.into(), handler)
            .map_err(engine)?;
        let snapshot = connection
            .transaction_with_behavior(TransactionBehavior::Deferred)
            .map_err(engine)?;
        let outcome = guarded(name, || body(&mut Tx::new(Session::Sqlite(&snapshot), name)));
        snapshot.finish().map_err(engine)?;
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
        match outcome {
            Err(StoreError::Engine { operation, source }) if source.is_interrupted() => {
                Err(StoreError::TooSlow { operation })
            }
            outcome => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::{sync::oneshot, task::JoinSet};

    use super::*;
    use crate::store::{Access, Store};

    const LONG: Duration = Duration::from_secs(3600);
    /// Only reached where a test fails.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn readers(longest: Duration) -> (tempfile::TempDir, Arc<Readers>) {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path(), Access::Server).unwrap());
        let path = dir.path().join("impresario.db");
        (dir, Arc::new(Readers::new(path, longest)))
    }

    /// Far longer than any limit here, but not for ever: a test fails where nothing stops it.
    fn endless(tx: &mut Tx<'_>) -> Result<()> {
        let sql = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000000)
                   SELECT MAX(i) FROM n";
        tx.query_opt(sql, &[], |_| Ok(())).map(|_| ())
    }

    fn short(tx: &mut Tx<'_>) -> Result<i64> {
        let found = tx.query_opt("SELECT 1 AS one", &[], |row| row.get("one"))?;
        Ok(found.unwrap_or(0))
    }

    #[tokio::test]
    async fn a_request_that_takes_too_long_is_stopped_and_its_reader_lives_on() {
        let (_dir, readers) = readers(Duration::from_millis(20));
        for _ in 0..2 {
            let stopped = readers.read("endless", endless).await;
            assert!(
                matches!(stopped, Err(StoreError::TooSlow { operation: "endless" })),
                "{stopped:?}"
            );
        }
        assert_eq!(readers.read_now("short", short).await.unwrap(), 1);
        assert_eq!(readers.idle.lock().unwrap().len(), 1, "one connection did it all");
    }

    #[tokio::test]
    async fn requests_that_take_every_place_do_not_hold_up_a_loop() {
        let (_dir, readers) = readers(Duration::from_millis(20));
        let (mut requests, mut hold) = (JoinSet::new(), Vec::new());
        for _ in 0..REQUESTS {
            let ((begun, has_begun), (release, held)) = (oneshot::channel(), mpsc::channel::<()>());
            let readers = Arc::clone(&readers);
            requests.spawn(async move {
                let body = move |_: &mut Tx<'_>| {
                    begun.send(()).unwrap();
                    let _released = held.recv();
                    Ok(())
                };
                readers.read("held", body).await
            });
            has_begun.await.unwrap();
            hold.push(release);
        }
        let now = tokio::time::timeout(PATIENCE, readers.read_now("short", short)).await;
        assert_eq!(now.expect("a place of its own").unwrap(), 1);
        let refused = readers.read("short", short).await;
        assert!(matches!(refused, Err(StoreError::TooSlow { .. })), "{refused:?}");
        drop(hold);
        while let Some(done) = requests.join_next().await {
            done.unwrap().unwrap();
        }
        assert_eq!(readers.read("short", short).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_read_that_nobody_waits_for_is_stopped() {
        let (_dir, readers) = readers(LONG);
        let finished = Arc::new(AtomicBool::new(false));
        for _ in 0..REQUESTS {
            let (begun, has_begun) = oneshot::channel();
            let finished = Arc::clone(&finished);
            let read = readers.read("endless", move |tx| {
                begun.send(()).unwrap();
                endless(tx)?;
                finished.store(true, Ordering::Relaxed);
                Ok(())
            });
            tokio::select! {
                outcome = read => panic!("{outcome:?}"),
                begun = has_begun => begun.unwrap(),
            }
        }
        assert_eq!(readers.read("short", short).await.unwrap(), 1);
        assert!(!finished.load(Ordering::Relaxed), "it was stopped");
    }
}
