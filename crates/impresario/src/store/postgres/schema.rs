//! A schema of its own for a test, in the database that `scripts/with-postgres` starts.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::runtime::Runtime;
use tokio_postgres::NoTls;

use super::{Target, migrate, server, session::Session};

/// A migrated schema, gone when it is dropped.
pub(in crate::store) struct Schema {
    pub(in crate::store) session: Session,
    name: String,
    _runtime: Runtime,
}

impl Schema {
    /// One, where the tests are to run on PostgreSQL.
    pub(in crate::store) fn asked_for() -> Option<Self> {
        server::is_asked_for().then(Self::new)
    }

    #[expect(clippy::disallowed_methods, reason = "the connection ends with the schema")]
    pub(in crate::store) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "test_{}_{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let client = runtime.block_on(async {
            let (mut client, connection) = tokio_postgres::connect(&server::shared(), NoTls).await.unwrap();
            tokio::spawn(connection);
            // Tables of tests are too small for an index to be worth it.
            let sql = format!("CREATE SCHEMA {name}; SET search_path = {name}; SET enable_seqscan = off");
            client.batch_execute(&sql).await.unwrap();
            migrate::migrate(&mut client).await.unwrap();
            client
        });
        Self {
            session: Session::new(client, runtime.handle().clone()),
            name,
            _runtime: runtime,
        }
    }
}

impl Schema {
    /// Where it is, for a store of its own, with the server at another address perhaps.
    pub(in crate::store) fn target(&self, address: Option<std::net::SocketAddr>) -> Target {
        let mut url = url::Url::parse(&server::shared()).unwrap();
        if let Some(address) = address {
            url.set_host(Some(&address.ip().to_string())).unwrap();
            url.set_port(Some(address.port())).unwrap();
        }
        let options = format!("options=-csearch_path%3D{}&sslmode=disable", self.name);
        url.set_query(Some(&options));
        Target::parse(url.as_str(), &|_| None).unwrap()
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let _gone = self
            .session
            .batch(&format!("ROLLBACK; DROP SCHEMA {} CASCADE", self.name));
    }
}
