//! The PostgreSQL engine, for any number of nodes: 15 or newer.

mod connect;
mod hints;
mod inspect;
mod migrate;
mod parameters;
mod passfile;
mod pool;
#[cfg(test)]
pub(super) mod schema;
mod session;
mod target;
mod tls;
mod trouble;

pub use self::{
    connect::connect,
    hints::{Deserted, Hints, keep_deserted},
    inspect::{inspect, may_migrate, may_use},
    migrate::Migrated,
    target::Target,
};
pub(super) use self::{
    migrate::{has_tables, migrate},
    pool::{Lane, Postgres},
    session::{Session, cell},
};

#[cfg(test)]
#[path = "../../../tests/common/postgres.rs"]
pub(super) mod server;

/// What the tests of connections share.
#[cfg(test)]
mod testing {
    use super::{Target, connect};
    use crate::store::StoreError;

    /// A target without any of the variables.
    pub(super) fn target(url: &str) -> Target {
        Target::parse(url, &|_| None).unwrap()
    }

    /// Runs statements on a connection of their own.
    pub(super) async fn run(url: &str, statements: &str) {
        let client = connect(&target(url), None).await.unwrap();
        client.batch_execute(statements).await.unwrap();
    }

    /// What one statement returns, as text.
    pub(super) async fn text(client: &tokio_postgres::Client, statement: &str) -> String {
        let row = client.query_one(statement, &[]).await.unwrap();
        row.get::<_, Option<String>>(0).unwrap_or_default()
    }

    /// Why there is no connection, and whether it is worth another try. It has no secret in it.
    pub(super) async fn refused(target: &Target) -> (String, bool) {
        let error = connect(target, None).await.expect_err("there is a connection");
        let passing = matches!(error, StoreError::Unreachable(_));
        assert!(error.is_unavailable());
        let sentence = error.to_string();
        assert!(
            !sentence.contains('\n') && !sentence.contains("hunter"),
            "{sentence}"
        );
        (sentence, passing)
    }

    /// Checks that there is no connection for a reason that is said in these words.
    pub(super) async fn assert_refused(url: &str, is_passing: bool, parts: &[&str]) {
        let (sentence, passing) = refused(&target(url)).await;
        assert_eq!(passing, is_passing, "{sentence}");
        for part in parts {
            assert!(sentence.contains(part), "no {part} in {sentence}");
        }
    }
}
