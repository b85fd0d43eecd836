//! A schema of a server's own on PostgreSQL, where the tests are to run on it (`IMPRESARIO_TEST_ENGINE=postgres`).

use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::NoTls;

/// A schema, gone when it is dropped.
#[derive(Debug)]
pub(super) struct Database {
    server: String,
    schema: String,
}

#[expect(
    clippy::disallowed_methods,
    reason = "settings of the tests, not of the program"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl Database {
    /// One, where the tests are to run on PostgreSQL.
    pub(super) fn asked_for() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if variable("IMPRESARIO_TEST_ENGINE")? != "postgres" {
            return None;
        }
        let server = variable("IMPRESARIO_TEST_DATABASE_URL")
            .expect("no PostgreSQL for the tests: run them with `scripts/with-postgres cargo test`");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let database = Self {
            server,
            schema: format!("e2e_{}_{number}", std::process::id()),
        };
        database.run(&format!("CREATE SCHEMA {}", database.schema));
        Some(database)
    }

    /// For `--database-url`.
    pub(super) fn url(&self) -> String {
        format!(
            "{}?options=-csearch_path%3D{}&sslmode=disable",
            self.server, self.schema
        )
    }

    fn run(&self, sql: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.server, NoTls).await.unwrap();
            let (ran, _) = tokio::join!(
                async {
                    let ran = client.batch_execute(sql).await;
                    drop(client);
                    ran
                },
                connection
            );
            ran.unwrap();
        });
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.run(&format!("DROP SCHEMA {} CASCADE", self.schema));
    }
}
