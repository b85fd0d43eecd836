//! Connections and transactions, and what is done when one of them is lost.
//!
//! An operation runs on a thread of its own between BEGIN and COMMIT, where nothing can cancel it: a request that goes away
//! leaves no transaction open. It runs again where another transaction was in its way, or where the connection was lost
//! before its COMMIT was sent. Where the answer to the COMMIT was lost, the server is asked what became of the transaction:
//! "did my commit arrive?" has one answer, and a write is never made twice.

use std::{
    fs::File,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, sync::Semaphore};
use tokio_postgres::Client;

use super::{Target, connect, inspect, may_use, migrate, session::Session};
use crate::store::{
    directory,
    engine::{Access, guarded},
    error::{EngineError, Result, StoreError},
    ops::moving::{self, Mark},
    tx::{self, Tx},
};

/// For whom an operation is. Each kind has places of its own, so that none waits for a crowd of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Lane {
    /// A request, which does not wait for its place for ever.
    Request,
    /// A loop, or what one started.
    Loop,
    /// What must come in time and waits for no row for long.
    First,
}

/// How many operations of each lane read and write at once. Together they are the most connections of one node, but for
/// the one that shows that it is there.
#[derive(Debug)]
struct Places {
    requests: Arc<Semaphore>,
    loops: Arc<Semaphore>,
    first: Arc<Semaphore>,
}

impl Places {
    fn for_writes() -> Self {
        Self {
            requests: Arc::new(Semaphore::new(4)),
            loops: Arc::new(Semaphore::new(4)),
            first: Arc::new(Semaphore::new(2)),
        }
    }

    /// No read waits for a row, so that what must come in time reads beside the loops.
    fn for_reads() -> Self {
        let loops = Arc::new(Semaphore::new(4));
        Self {
            requests: Arc::new(Semaphore::new(4)),
            first: Arc::clone(&loops),
            loops,
        }
    }

    /// The places of a lane, and how long one of them is waited for.
    fn of(&self, lane: Lane) -> (&Arc<Semaphore>, Option<Duration>) {
        match lane {
            Lane::Request => (&self.requests, Some(LONGEST_WAIT)),
            Lane::Loop => (&self.loops, None),
            Lane::First => (&self.first, None),
        }
    }
}

/// How long a start may look at the database.
const LONGEST_CHECK: Duration = Duration::from_secs(30);

/// How long an operation is tried for while the server cannot be reached or others are in its way.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long the fate of a lost COMMIT is asked for: longer than the server takes to give up a transaction whose owner has
/// gone silent (`idle_in_transaction_session_timeout`).
const FATE_PATIENCE: Duration = Duration::from_secs(30);

/// Between two tries.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How often an operation is run again because a row that it makes was just made by somebody else.
const MOST_DUPLICATES: u32 = 10;

/// Each statement sees what was committed last; whatever an operation decides on, it locks first
/// ([`Dialect::lock`](crate::store::Dialect::lock)). The transaction's id comes along, because it is what a lost COMMIT is asked
/// for by.
const BEGIN_WRITE: &str =
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT pg_current_xact_id()::text";
const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const BEGIN_REQUEST: &str =
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '10s'";

/// How long a request may wait for its place.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The open database.
#[derive(Debug, Clone)]
pub(in crate::store) struct Postgres {
    pool: Arc<Pool>,
}

struct Pool {
    target: Target,
    runtime: Handle,
    idle: Mutex<Vec<Session>>,
    readers: Places,
    writers: Places,
    /// Why the last write could not be made.
    failure: Mutex<Option<String>>,
    /// The lock of the node's data directory, held for the process's life.
    _lock: Option<File>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Postgres {
    /// Connects to a database that is migrated. A server takes the lock of its data directory, where what it runs and what
    /// it has unpacked is.
    ///
    /// # Errors
    /// Where it cannot be reached or used, as a sentence that says what to do.
    pub(in crate::store) async fn open(target: &Target, dir: &Path, access: Access) -> Result<Self> {
        let lock = match access {
            Access::Server => Some(directory::hold(dir)?),
            Access::Tool | Access::Mover => None,
        };
        let client = connect(target, None).await?;
        let check = async {
            inspect(&client, target).await?;
            // Before it is read: a role without any right is told which it needs.
            may_use(&client, target, &["schema_migrations"]).await?;
            let tables = migrate::check_version(&client, &target.shown()).await?;
            let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
            may_use(&client, target, &tables).await?;
            if access == Access::Mover {
                return Ok(());
            }
            refuse_moved(&client, target).await
        };
        tokio::time::timeout(LONGEST_CHECK, check).await.map_err(|_| {
            StoreError::Unreachable(format!(
                "{}: the server has not answered within {} s",
                target.shown(),
                LONGEST_CHECK.as_secs()
            ))
        })??;
        let first = Session::new(client, Handle::current());
        let pool = Pool {
            target: target.clone(),
            runtime: Handle::current(),
            idle: Mutex::new(vec![first]),
            readers: Places::for_reads(),
            writers: Places::for_writes(),
            failure: Mutex::default(),
            _lock: lock,
        };
        Ok(Self { pool: Arc::new(pool) })
    }

    /// Runs `body` in a write transaction and returns once it is durable.
    pub(in crate::store) async fn write<T, F>(&self, lane: Lane, name: &'static str, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let run = move |pool: &Pool| pool.write(name, &body);
        self.blocking(name, self.pool.writers.of(lane), run).await
    }

    /// Runs `body` on a snapshot: for a request, which is stopped after a while, or for a loop.
    pub(in crate::store) async fn read<T, F>(&self, lane: Lane, name: &'static str, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let begin = match lane {
            Lane::Request => BEGIN_REQUEST,
            Lane::Loop | Lane::First => BEGIN_READ,
        };
        let run = move |pool: &Pool| pool.read(name, begin, &body);
        self.blocking(name, self.pool.readers.of(lane), run).await
    }

    pub(in crate::store) fn last_commit_failure(&self) -> Option<String> {
        unpoisoned(&self.pool.failure).clone()
    }

    /// The place is given back by the thread, not by the caller, who may go away.
    async fn blocking<T: Send + 'static>(
        &self,
        name: &'static str,
        (places, patience): (&Arc<Semaphore>, Option<Duration>),
        run: impl FnOnce(&Pool) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let place = Arc::clone(places).acquire_owned();
        let place = match patience {
            None => place.await,
            Some(patience) => tokio::time::timeout(patience, place)
                .await
                .map_err(|_| StoreError::TooSlow { operation: name })?,
        };
        let place = place.map_err(|_| StoreError::Closed { operation: name })?;
        let pool = Arc::clone(&self.pool);
        let run = move || {
            let _place = place;
            run(&pool)
        };
        tokio::task::spawn_blocking(run)
            .await
            .map_err(|error| StoreError::Panicked {
                operation: name,
                message: error.to_string(),
            })?
    }
}

/// Refuses a database whose rows have gone to another one.
pub(super) async fn refuse_moved(client: &Client, target: &Target) -> Result<()> {
    let sql = "SELECT value FROM settings WHERE name = $1";
    let asked = client.query_opt(sql, &[&moving::MOVED_TO]).await;
    let mark: Option<String> = asked
        .and_then(|row| row.map(|row| row.try_get(0)).transpose())
        .map_err(|error| StoreError::Open(format!("{}: {error}", target.shown())))?;
    match mark {
        None => Ok(()),
        Some(mark) => {
            let shown = target.shown();
            Err(StoreError::Moved(Mark::read(&mark).refusal(&shown, &shown)))
        }
    }
}

/// What came of one try of an operation.
enum Tried<T> {
    Done(Result<T>),
    /// Nothing of it was written, and it may go through next time.
    Again(StoreError),
    /// The COMMIT of the transaction of this id was sent and not answered; what the operation said, should it have
    /// arrived.
    Unanswered(String, T, EngineError),
}

/// What became of a transaction whose COMMIT was not answered.
enum Fate {
    Committed,
    Undone,
    /// Nobody can say, and why.
    Unknown(String),
}

impl Pool {
    /// A connection, one that is there already if possible.
    fn checkout(&self) -> Result<Session> {
        loop {
            let idle = unpoisoned(&self.idle).pop();
            match idle {
                Some(session) if session.is_good() => return Ok(session),
                Some(_) => {}
                None => return self.connect(),
            }
        }
    }

    fn connect(&self) -> Result<Session> {
        let client = self.runtime.block_on(connect(&self.target, None))?;
        Ok(Session::new(client, self.runtime.clone()))
    }

    fn give_back(&self, session: Session) {
        if session.is_good() {
            session.forgive();
            unpoisoned(&self.idle).push(session);
        }
    }

    fn write<T>(&self, name: &'static str, body: &impl Fn(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        let outcome = self.persist(name, || self.try_write(name, body));
        let failure = match &outcome {
            // That somebody holds a row for long says nothing of the server.
            Err(error) if error.is_unavailable() && !error.is_conflict() => Some(error.to_string()),
            _ => None,
        };
        if let (Some(_), Err(error)) = (&failure, &outcome) {
            tracing::error!(operation = name, cause = ?error, "a write could not be made");
        }
        *unpoisoned(&self.failure) = failure;
        outcome
    }

    fn read<T>(
        &self,
        name: &'static str,
        begin: &str,
        body: &impl Fn(&mut Tx<'_>) -> Result<T>,
    ) -> Result<T> {
        let read = self.persist(name, || self.try_read(name, begin, body));
        match read {
            Err(StoreError::Engine { operation, source }) if source.is_interrupted() => {
                Err(StoreError::TooSlow { operation })
            }
            read => read,
        }
    }

    /// Tries until it is done, or until patience is at its end.
    fn persist<T>(&self, operation: &'static str, attempt: impl Fn() -> Tried<T>) -> Result<T> {
        let until = Instant::now() + PATIENCE;
        let (mut pause, mut duplicates) = (SHORTEST_PAUSE, 0);
        loop {
            let error = match attempt() {
                Tried::Done(outcome) => return outcome,
                Tried::Again(error) => error,
                Tried::Unanswered(transaction, value, source) => {
                    let reason = source.to_string();
                    match self.fate(&transaction) {
                        Fate::Committed => return Ok(value),
                        Fate::Undone => StoreError::Commit { operation, reason },
                        Fate::Unknown(why) => {
                            return Err(StoreError::Unknown {
                                operation,
                                reason: format!("{reason}: {why}"),
                            });
                        }
                    }
                }
            };
            if let StoreError::Engine { source, .. } = &error
                && source.is_duplicate()
            {
                duplicates += 1;
                if duplicates > MOST_DUPLICATES {
                    return Err(error);
                }
            }
            if Instant::now() + pause > until {
                return Err(error);
            }
            tracing::debug!(%error, cause = ?error, "an operation is tried again");
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn try_write<T>(&self, name: &'static str, body: &impl Fn(&mut Tx<'_>) -> Result<T>) -> Tried<T> {
        let engine = |source| StoreError::Engine {
            operation: name,
            source,
        };
        let session = match self.checkout() {
            Ok(session) => session,
            Err(error) => return Tried::of(error),
        };
        let transaction = match session.text(BEGIN_WRITE) {
            Ok(transaction) => transaction.unwrap_or_default(),
            Err(source) => return Tried::of(engine(source)),
        };
        let outcome = guarded(name, || body(&mut Tx::new(tx::Session::Postgres(&session), name)));
        let value = match outcome {
            Ok(value) if !session.has_failed() => value,
            outcome => {
                self.roll_back(session);
                // An operation that goes on after a statement has failed cannot be kept: COMMIT would undo it in silence.
                return Tried::of(outcome.err().unwrap_or_else(|| engine(EngineError::GivenUp)));
            }
        };
        match session.batch("COMMIT") {
            Ok(()) => {
                self.give_back(session);
                Tried::Done(Ok(value))
            }
            Err(source) if source.is_unavailable() => Tried::Unanswered(transaction, value, source),
            Err(source) => {
                self.roll_back(session);
                Tried::of(engine(source))
            }
        }
    }

    fn try_read<T>(
        &self,
        name: &'static str,
        begin: &str,
        body: &impl Fn(&mut Tx<'_>) -> Result<T>,
    ) -> Tried<T> {
        let session = match self.checkout() {
            Ok(session) => session,
            Err(error) => return Tried::of(error),
        };
        if let Err(source) = session.batch(begin) {
            return Tried::of(StoreError::Engine {
                operation: name,
                source,
            });
        }
        let outcome = guarded(name, || body(&mut Tx::new(tx::Session::Postgres(&session), name)));
        self.roll_back(session);
        match outcome {
            Ok(value) => Tried::Done(Ok(value)),
            Err(error) => Tried::of(error),
        }
    }

    /// A connection whose transaction cannot be ended is closed, and the server ends it.
    fn roll_back(&self, session: Session) {
        if session.is_good() && session.batch("ROLLBACK").is_ok() {
            self.give_back(session);
        }
    }

    /// Asks the server what became of a transaction, on another connection.
    fn fate(&self, transaction: &str) -> Fate {
        let until = Instant::now() + FATE_PATIENCE;
        let mut pause = SHORTEST_PAUSE;
        // The id is a number that the server has given.
        let ask = format!("SELECT pg_xact_status('{transaction}'::xid8)");
        loop {
            let answer = self.checkout().and_then(|session| {
                let answer = session.text(&ask);
                self.give_back(session);
                answer.map_err(|source| StoreError::Engine {
                    operation: "fate",
                    source,
                })
            });
            let why = match answer {
                Ok(Some(status)) if status == "committed" => return Fate::Committed,
                Ok(Some(status)) if status == "aborted" => return Fate::Undone,
                Ok(Some(status)) => format!("it is {status}"),
                Ok(None) => return Fate::Unknown("the server does not remember it".to_owned()),
                Err(error) if error.is_unavailable() => error.to_string(),
                Err(error) => return Fate::Unknown(error.to_string()),
            };
            if Instant::now() + pause > until {
                return Fate::Unknown(why);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl<T> Tried<T> {
    /// Nothing was written. Whether it is tried again is a matter of the error: a fault of the connection, another
    /// transaction that was in the way, or a row that was made at the same time.
    fn of(error: StoreError) -> Self {
        let again = match &error {
            StoreError::Engine { source, .. } => {
                source.is_unavailable() || source.is_conflict() || source.is_duplicate()
            }
            other => matches!(other, StoreError::Unreachable(_)),
        };
        if again {
            Self::Again(error)
        } else {
            Self::Done(Err(error))
        }
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
