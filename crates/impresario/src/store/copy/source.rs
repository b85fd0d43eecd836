//! The database that is copied: that nobody serves it, that nothing in it is held, and its mark.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use jiff::Timestamp;

use super::{
    Place,
    end::{Opened, shown},
};
use crate::{
    ids::Ids,
    store::{
        Access, Store, Tx,
        error::{Result, StoreError},
        ops::{
            Moment, deliveries, deployments, fires, jobs,
            moving::{self, Mark},
            settings,
        },
        postgres::{self, Deserted},
    },
};

pub(super) struct Source {
    place: Place,
    store: Store,
    /// Keeps nodes away until the copy has ended.
    deserted: OnceLock<Deserted>,
}

/// Other sessions that may be a node's: by the name that nodes give themselves, or by the role.
const OTHERS: &str = "SELECT count(*) AS others, string_agg(format('%s (pid %s)', COALESCE(NULLIF(application_name, ''), \
       'no name'), pid), ', ') AS names \
     FROM pg_stat_activity \
     WHERE datname = current_database() \
       AND (application_name = current_setting('application_name') OR usename = current_user) \
       AND pid <> pg_backend_pid()";

impl Source {
    /// Opens it, which brings an embedded database to this program's schema. No server can start on its directory
    /// meanwhile.
    pub(super) async fn open(place: &Place) -> Result<Self> {
        let store = match place {
            Place::Sqlite(dir) => Store::open(dir, Access::Mover)?,
            Place::Postgres(target) => Store::of(Some(target), Path::new(""), Access::Mover).await?,
        };
        let place = place.clone();
        Ok(Self {
            place,
            store,
            deserted: OnceLock::new(),
        })
    }

    /// Makes the mark that it goes to `to`, or finds the one that an earlier command has left, and says whether it is new.
    /// From now on no server starts on it.
    pub(super) async fn begin(&self, to: &str, copy: String) -> Result<(Mark, bool)> {
        let (shown, new) = (
            self.place.shown(),
            Mark {
                copy,
                to: to.to_owned(),
                done: false,
            },
        );
        let begun = self.store.write("begin_copy", move |tx| {
            if settings::restored_from(tx)?.is_some() || !settings::is_at_home(tx)? {
                return Err(StoreError::Open(format!(
                    "{shown} was put back from a backup and is not settled: start a server on it once, end it, and copy it \
                     then"
                )));
            }
            match moving::mark(tx)? {
                None => {
                    moving::set_mark(tx, &new)?;
                    Ok((new.clone(), true))
                }
                Some(mark) if !mark.done && mark.to == new.to => Ok((mark, false)),
                Some(mark) => Err(StoreError::Open(mark.refusal(&shown, &shown))),
            }
        });
        let begun = begun.await?;
        if let Err(error) = self.must_be_alone().await {
            return Err(match begun.1 {
                true => self.undo(error).await,
                false => error,
            });
        }
        Ok(begun)
    }

    /// A node that starts after the mark was made refuses to; one that started before is connected.
    async fn must_be_alone(&self) -> Result<()> {
        let Place::Postgres(target) = &self.place else {
            return Ok(());
        };
        // On the store's one connection: it does one thing after the other.
        let others = |tx: &mut Tx<'_>| {
            tx.query_opt(OTHERS, &[], |row| {
                Ok((row.get::<i64>("others")?, row.get::<Option<String>>("names")?))
            })
        };
        let (count, names) = self.store.write("others", others).await?.unwrap_or_default();
        match names {
            None => self.keep_nodes_away(target).await,
            Some(names) => Err(StoreError::Open(format!(
                "{} is in use: {count} other connections, {names}. Stop all nodes on it, and end what else is connected as \
                 this role",
                target.shown()
            ))),
        }
    }

    /// Nodes show that they are there whatever role they have. One that comes, or comes back, waits until the copy has ended.
    async fn keep_nodes_away(&self, target: &postgres::Target) -> Result<()> {
        match postgres::keep_deserted(target).await? {
            Some(deserted) => {
                self.deserted.get_or_init(|| deserted);
                Ok(())
            }
            None => Err(StoreError::Open(format!(
                "{} is in use: nodes run on it. Stop them all",
                target.shown()
            ))),
        }
    }

    /// Settles what an ended server has left in its hands, as the next start of one would: nobody at the target could know
    /// that nobody has it any more, because the embedded database's leases have no end.
    pub(super) async fn settle(&self, now: Timestamp, ids: &Arc<Ids>) -> Result<()> {
        let ids = Arc::clone(ids);
        self.store
            .write("settle_copy", move |tx| {
                fires::wake_all(tx)?;
                jobs::recover(tx, &Moment::at(now, &ids))?;
                deployments::recover(tx)?;
                deliveries::recover(tx, now)?;
                Ok(())
            })
            .await
    }

    /// What its rows are read from.
    pub(super) async fn reading(&self) -> Result<Opened> {
        Ok(match &self.place {
            // This one holds the directory's lock.
            Place::Sqlite(dir) => Opened::Sqlite(dir.clone(), None),
            Place::Postgres(target) => {
                let client = postgres::connect(target, None).await?;
                let shown = shown(&client, target).await?;
                Opened::Postgres(Box::new(client), shown)
            }
        })
    }

    /// Writes down that all of it has arrived.
    pub(super) async fn end(&self, mark: Mark) -> Result<()> {
        let write = move |tx: &mut Tx<'_>| moving::set_mark(tx, &mark);
        self.store.write("end_copy", write).await
    }

    /// Takes the mark back, because of this error, which it returns.
    pub(super) async fn undo(&self, error: StoreError) -> StoreError {
        match self.store.write("undo_copy", moving::take_mark_back).await {
            Ok(()) => error,
            Err(also) => StoreError::Open(format!(
                "{error}; and no server starts on {} now, because the mark could not be taken off it ({also}): run \
                 `impresario copy --undo`",
                self.place.shown()
            )),
        }
    }

    /// Takes the mark off, because somebody asked for it. What was served from the other database since is not known here,
    /// as with a backup that was put back; so it is marked as one, and nothing fires or runs a second time.
    pub(super) async fn take_back(&self, now: Timestamp) -> Result<Option<Mark>> {
        self.store
            .write("undo_copy", move |tx| {
                let mark = moving::mark(tx)?;
                moving::take_mark_back(tx)?;
                if mark.as_ref().is_some_and(|mark| mark.done) {
                    settings::mark_restored(tx, now)?;
                }
                Ok(mark)
            })
            .await
    }
}
