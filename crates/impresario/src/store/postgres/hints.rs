//! LISTEN and NOTIFY: a connection of its own, on which nothing else happens.

use std::time::Duration;

use tokio::{sync::mpsc::UnboundedSender, time::timeout};
use tokio_postgres::Client;

use super::{Target, connect};
use crate::store::error::{EngineError, Result, StoreError};

/// A hint that takes longer is of no use.
const LONGEST: Duration = Duration::from_secs(10);

/// The channel on which the nodes of one database tell each other that there is work.
#[derive(Debug)]
pub struct Hints {
    client: Client,
    channel: String,
}

impl Hints {
    /// Listens. What others, and this node itself, send goes to `heard`, which closes when the connection is lost.
    ///
    /// # Errors
    /// Where the server cannot be reached.
    pub async fn open(target: &Target, heard: UnboundedSender<String>) -> Result<Self> {
        let client = connect(target, Some(heard)).await?;
        // Channels are the whole database's; tables are a schema's. A name has 63 bytes.
        let sql = "SELECT left('impresario_' || current_schema(), 63)";
        let row = answer(client.query_one(sql, &[])).await?;
        let channel: String = row.try_get(0).map_err(refused)?;
        let quoted = channel.replace('"', "\"\"");
        answer(client.batch_execute(&format!("LISTEN \"{quoted}\""))).await?;
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
