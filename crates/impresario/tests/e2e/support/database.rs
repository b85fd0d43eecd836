//! A schema of a server's own on PostgreSQL, where the tests are to run on it (`IMPRESARIO_TEST_ENGINE=postgres`).

use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::postgres_server;

/// A schema, gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Database {
    server: String,
    schema: String,
}

impl Database {
    /// One, where the tests are to run on PostgreSQL.
    pub(super) fn asked_for() -> Option<Self> {
        postgres_server::is_asked_for().then(Self::new)
    }

    /// One in any case, without a table.
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let server = postgres_server::shared();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let database = Self {
            server,
            schema: format!("e2e_{}_{number}", std::process::id()),
        };
        database.run(&format!("CREATE SCHEMA {}", database.schema));
        database
    }

    /// Puts every table back as if from a dump: the same rows in new tables.
    pub(crate) fn put_back(&self) {
        let sql = format!(
            "SET search_path = {0}; DO $$ BEGIN
               CREATE TABLE copy (LIKE settings INCLUDING ALL); INSERT INTO copy SELECT * FROM settings;
               DROP TABLE settings; ALTER TABLE copy RENAME TO settings; END $$",
            self.schema
        );
        self.run(&sql);
    }

    /// As it is before anybody has migrated it.
    pub(crate) fn drop_tables(&self) {
        self.run(&format!(
            "DROP SCHEMA {0} CASCADE; CREATE SCHEMA {0}",
            self.schema
        ));
    }

    /// For `--database-url`.
    pub(crate) fn url(&self) -> String {
        format!(
            "{}?options=-csearch_path%3D{}&sslmode=disable",
            self.server, self.schema
        )
    }

    /// Runs one statement with these texts in the place of `?1`, `?2`: how many rows it touched.
    pub(crate) fn execute(&self, sql: &str, params: &[&str]) -> u64 {
        let mut sql = sql.to_owned();
        for (number, param) in (1..).zip(params) {
            sql = sql.replace(&format!("?{number}"), &format!("'{}'", param.replace('\'', "''")));
        }
        self.run(&format!("SET search_path = {}; {sql}", self.schema))
    }

    fn run(&self, sql: &str) -> u64 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let ran = runtime.unwrap().block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.server, NoTls).await.unwrap();
            let run = async {
                let ran = client.simple_query(sql).await;
                drop(client);
                ran
            };
            tokio::join!(run, connection).0.unwrap()
        });
        ran.into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::CommandComplete(touched) => Some(touched),
                _ => None,
            })
            .next_back()
            .unwrap_or(0)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.run(&format!("DROP SCHEMA {} CASCADE", self.schema));
    }
}
