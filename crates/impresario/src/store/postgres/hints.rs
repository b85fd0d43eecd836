//! A node's own connection, on which no work is done: it shows that the node is there, and LISTEN and NOTIFY go over it.

use std::time::Duration;

use tokio::{sync::mpsc::UnboundedSender, time::timeout};
use tokio_postgres::Client;

use super::{Target, connect, pool::refuse_moved};
use crate::store::error::{EngineError, Result, StoreError};

/// A hint that takes longer is of no use.
const LONGEST: Duration = Duration::from_secs(10);

/// How long a node waits for who keeps nodes away. Well below `LONGEST`, so that the server's word on what it waits for
/// comes before the time for any answer is up.
const LONGEST_LOCK: &str = "SET lock_timeout = '5s'";

/// Held by every node as long as it is there, in a mode that they can share: the lock of the schema. Any number that
/// nobody else uses.
const PRESENCE: &str = "1230197843, hashtext(current_schema())";

/// That no node is on the database, and none can come: until it is dropped.
#[derive(Debug)]
pub struct Deserted {
    _client: Client,
}

/// Keeps nodes from a database on which there is none; nothing where there is one. A node that has lost its connection for
/// the moment does not show.
///
/// # Errors
/// Where the server cannot be reached.
pub async fn keep_deserted(target: &Target) -> Result<Option<Deserted>> {
    let client = connect(target, None).await?;
    let sql = format!("SELECT pg_try_advisory_lock({PRESENCE})");
    let row = answer(client.query_one(&sql, &[])).await?;
    let alone: bool = row.try_get(0).map_err(refused)?;
    Ok(alone.then_some(Deserted { _client: client }))
}

/// The channel on which the nodes of one database tell each other that there is work.
#[derive(Debug)]
pub struct Hints {
    client: Client,
    channel: String,
}

impl Hints {
    /// Shows that a node is there, and where it is to `listen`, listens: what others, and this node itself, send goes to
    /// `heard`, which closes when the connection is lost.
    ///
    /// # Errors
    /// Where the server cannot be reached.
    pub async fn open(target: &Target, listen: bool, heard: UnboundedSender<String>) -> Result<Self> {
        let client = connect(target, Some(heard)).await?;
        let sql = format!("{LONGEST_LOCK}; SELECT pg_advisory_lock_shared({PRESENCE})");
        answer(client.batch_execute(&sql)).await?;
        // Only now: a copy that had kept nodes away may have ended while this one waited.
        timeout(LONGEST, refuse_moved(&client, target))
            .await
            .map_err(|_| of(EngineError::NoAnswer(LONGEST)))??;
        // Channels are the whole database's; tables are a schema's. A name has 63 bytes.
        let sql = "SELECT left('impresario_' || current_schema(), 63)";
        let row = answer(client.query_one(sql, &[])).await?;
        let channel: String = row.try_get(0).map_err(refused)?;
        if listen {
            let quoted = channel.replace('"', "\"\"");
            answer(client.batch_execute(&format!("LISTEN \"{quoted}\""))).await?;
        }
        Ok(Self { client, channel })
    }

    /// Sends a hint.
    ///
    /// # Errors
    /// Where the server cannot be reached.
    pub async fn send(&self, hint: &str) -> Result<()> {
        let sql = "SELECT pg_notify($1, $2)";
        answer(self.client.execute(sql, &[&self.channel, &hint]))
            .await
            .map(|_| ())
    }
}

async fn answer<T>(asked: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T> {
    match timeout(LONGEST, asked).await {
        Ok(answer) => answer.map_err(refused),
        Err(_) => Err(of(EngineError::NoAnswer(LONGEST))),
    }
}

fn refused(source: tokio_postgres::Error) -> StoreError {
    of(source.into())
}

fn of(source: EngineError) -> StoreError {
    StoreError::Engine {
        operation: "hints",
        source,
    }
}
