use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::domain::JobId;
use crate::store::{
    ops::{jobs, settings},
    postgres::{Hints, keep_deserted, schema::Schema},
    tx::params,
};

/// A store on a schema of its own. The schema has a runtime of its own, which must not end within another.
struct Stage {
    schema: Option<Schema>,
    postgres: Postgres,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let schema = self.schema.take();
        std::thread::spawn(move || drop(schema)).join().unwrap();
    }
}

async fn stage() -> Stage {
    let schema = tokio::task::spawn_blocking(Schema::new).await.unwrap();
    let target = schema.target(None);
    let postgres = Postgres::open(&target, Path::new("/nonexistent"), Access::Tool)
        .await
        .unwrap();
    Stage {
        schema: Some(schema),
        postgres,
    }
}

impl Stage {
    async fn count(&self, sql: &'static str) -> i64 {
        let read = self.postgres.read(Lane::Loop, "count", move |tx| {
            tx.query_opt(sql, &[], |row| row.get("n"))
        });
        read.await.unwrap().unwrap()
    }
}

const TENANTS: &str = "SELECT COUNT(*) AS n FROM tenants";

fn add_tenant(tx: &mut Tx<'_>, name: &str) -> Result<()> {
    tx.execute_one(
        "INSERT INTO tenants (id, name, created_at) VALUES ($1, $1, 0)",
        params![name],
    )
}

#[tokio::test]
async fn an_operation_is_kept_whole_or_not_at_all() {
    let stage = stage().await;
    let failed = stage.postgres.write(Lane::Request, "test", |tx| {
        add_tenant(tx, "one")?;
        Err::<(), _>(StoreError::Closed { operation: "test" })
    });
    assert!(matches!(failed.await, Err(StoreError::Closed { .. })));
    let panicked = stage.postgres.write(Lane::Request, "test", |tx| -> Result<()> {
        add_tenant(tx, "one")?;
        panic!("a bug");
    });
    assert!(matches!(panicked.await, Err(StoreError::Panicked { .. })));
    // One that goes on after a statement has failed: COMMIT would undo it and say nothing.
    let swallowed = stage.postgres.write(Lane::Request, "test", |tx| {
        add_tenant(tx, "one")?;
        let _refused = tx.execute("SELECT 1 / 0", &[]);
        Ok(())
    });
    let swallowed = swallowed.await.unwrap_err();
    assert!(
        matches!(
            &swallowed,
            StoreError::Engine {
                source: EngineError::GivenUp,
                ..
            }
        ),
        "{swallowed:?}"
    );
    assert_eq!(stage.count(TENANTS).await, 0);
    // What is isolated costs the rest nothing.
    let isolated = stage.postgres.write(Lane::Request, "test", |tx| {
        add_tenant(tx, "one")?;
        let inner = tx.isolated(|tx| add_tenant(tx, "one"))?;
        assert!(inner.unwrap_err().is_of_the_row());
        add_tenant(tx, "two")
    });
    isolated.await.unwrap();
    assert_eq!(stage.count(TENANTS).await, 2);
}

#[tokio::test]
async fn what_another_transaction_is_in_the_way_of_is_tried_again() {
    let stage = stage().await;
    for name in ["a", "b"] {
        stage
            .postgres
            .write(Lane::Request, "test", move |tx| add_tenant(tx, name))
            .await
            .unwrap();
    }
    // Each takes a row and then the other's: the server ends one of them, and it is run again.
    let both = Arc::new(std::sync::Barrier::new(2));
    let runs = Arc::new(AtomicU32::new(0));
    let cross = |first: &'static str, second: &'static str| {
        let (both, runs) = (Arc::clone(&both), Arc::clone(&runs));
        stage.postgres.write(Lane::Request, "cross", move |tx| {
            let sql = "UPDATE tenants SET created_at = created_at + 1 WHERE id = $1";
            tx.execute_one(sql, params![first])?;
            if runs.fetch_add(1, Ordering::Relaxed) < 2 {
                both.wait();
            }
            tx.execute_one(sql, params![second])
        })
    };
    let (one, other) = tokio::join!(cross("a", "b"), cross("b", "a"));
    one.unwrap();
    other.unwrap();
    assert_eq!(runs.load(Ordering::Relaxed), 3);
    assert_eq!(
        stage
            .count("SELECT CAST(SUM(created_at) AS BIGINT) AS n FROM tenants")
            .await,
        4
    );
}

#[tokio::test]
async fn of_two_that_make_the_same_row_the_second_sees_the_first_s() {
    let stage = stage().await;
    let both = Arc::new(std::sync::Barrier::new(2));
    let make = || {
        let both = Arc::clone(&both);
        let first = AtomicU32::new(0);
        stage.postgres.write(Lane::Request, "make", move |tx| {
            let sql = "SELECT id FROM tenants WHERE id = 'one'";
            if tx.query_opt(sql, &[], |_| Ok(()))?.is_some() {
                return Ok(false);
            }
            if first.fetch_add(1, Ordering::Relaxed) == 0 {
                both.wait();
            }
            add_tenant(tx, "one").map(|()| true)
        })
    };
    let (one, other) = tokio::join!(make(), make());
    assert_ne!(one.unwrap(), other.unwrap());
    // A key that is taken for good is the caller's error.
    let taken = stage
        .postgres
        .write(Lane::Request, "taken", |tx| add_tenant(tx, "one"))
        .await
        .unwrap_err();
    assert!(taken.is_of_the_row(), "{taken:?}");
}

#[tokio::test]
async fn a_connection_that_is_lost_in_the_middle_costs_a_second_try() {
    let stage = stage().await;
    let runs = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&runs);
    let write = stage.postgres.write(Lane::Request, "lost", move |tx| {
        add_tenant(tx, "one")?;
        if count.fetch_add(1, Ordering::Relaxed) == 0 {
            let sql = "SELECT pg_terminate_backend(pg_backend_pid())::text AS gone";
            tx.query_opt(sql, &[], |_| Ok(()))?;
        }
        Ok(())
    });
    write.await.unwrap();
    assert_eq!(runs.load(Ordering::Relaxed), 2);
    assert_eq!(stage.count(TENANTS).await, 1);
    assert_eq!(stage.postgres.last_commit_failure(), None);
}

/// What happens to the first COMMIT that comes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Before,
    After,
}

#[expect(clippy::disallowed_methods, reason = "it ends with the test")]
/// A way to the server that is cut at the first COMMIT, and whole afterwards.
async fn way(cut: Cut) -> SocketAddr {
    let url = url::Url::parse(&super::super::server::shared()).unwrap();
    let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cuts = Arc::new(AtomicU32::new(0));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.unwrap();
            let cuts = Arc::clone(&cuts);
            tokio::spawn(async move { carry(client, server, cut, &cuts).await });
        }
    });
    address
}

async fn carry(
    mut client: TcpStream,
    mut server: TcpStream,
    cut: Cut,
    cuts: &AtomicU32,
) -> std::io::Result<()> {
    let (mut asked, mut answered) = ([0; 8192], [0; 8192]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let part = &asked[..read?];
                let commit = part.windows(7).any(|window| window == b"COMMIT\0");
                if part.is_empty() {
                    return Ok(());
                }
                if commit && cuts.fetch_add(1, Ordering::Relaxed) == 0 {
                    if cut == Cut::After {
                        server.write_all(part).await?;
                        // Its answer says that it has happened; nobody hears it.
                        let _heard = server.read(&mut answered).await?;
                    }
                    return Ok(());
                }
                server.write_all(part).await?;
            }
            read = server.read(&mut answered) => {
                let part = &answered[..read?];
                if part.is_empty() {
                    return Ok(());
                }
                client.write_all(part).await?;
            }
        }
    }
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_asked_for_and_never_made_twice() {
    for (cut, expected) in [(Cut::Before, 2), (Cut::After, 1)] {
        let stage = stage().await;
        let address = way(cut).await;
        let target = stage.schema.as_ref().unwrap().target(Some(address));
        let postgres = Postgres::open(&target, Path::new("/nonexistent"), Access::Tool)
            .await
            .unwrap();
        let runs = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&runs);
        let write = postgres.write(Lane::Request, "lost", move |tx| {
            let run = count.fetch_add(1, Ordering::Relaxed);
            // A second run would make a second row.
            add_tenant(tx, &format!("tenant {run}")).map(|()| run)
        });
        let kept = write.await.unwrap();
        assert_eq!(runs.load(Ordering::Relaxed), expected, "{cut:?}");
        assert_eq!(kept, expected - 1, "{cut:?}");
        assert_eq!(stage.count(TENANTS).await, 1, "{cut:?}");
    }
}

#[tokio::test]
async fn a_request_that_reads_for_too_long_is_stopped() {
    let stage = stage().await;
    let slow = stage.postgres.read(Lane::Request, "slow", |tx| {
        tx.execute("SET LOCAL statement_timeout = '50ms'", &[])?;
        tx.query_opt("SELECT pg_sleep(20)::text AS slept", &[], |_| Ok(()))
    });
    let slow = slow.await.unwrap_err();
    assert!(
        matches!(slow, StoreError::TooSlow { operation: "slow" }),
        "{slow:?}"
    );
    let checked = stage
        .postgres
        .write(Lane::Request, "check", settings::check_write);
    checked.await.unwrap();
}

#[tokio::test]
async fn a_text_with_a_nul_is_stored_with_a_sign_for_it() {
    let stage = stage().await;
    stage
        .postgres
        .write(Lane::Request, "nul", |tx| add_tenant(tx, "a\0b"))
        .await
        .unwrap();
    let found = stage.postgres.read(Lane::Loop, "nul", |tx| {
        tx.query_opt("SELECT name FROM tenants", &[], |row| row.get::<String>("name"))
    });
    assert_eq!(found.await.unwrap().unwrap(), "a\u{fffd}b");
}

/// A tenant with two jobs that run under the token `held`.
fn two_running(tx: &mut Tx<'_>) -> Result<()> {
    for sql in [
        "INSERT INTO tenants (id, name, created_at) VALUES ('t', 't', 0)",
        "INSERT INTO bundles (sha256, archive, created_at) VALUES ('00', '', 0)",
        "INSERT INTO deployments (id, tenant_id, bundle_sha256, entry_point, status, created_at)
         VALUES ('d', 't', '00', 'index.js', 'ready', 0)",
    ] {
        tx.execute(sql, &[])?;
    }
    for id in RUNNING {
        tx.execute_one(
            "INSERT INTO jobs (id, tenant_id, workflow_id, workflow, deployment_id, params, launch, skip_callbacks, status,
               created_at, lease_token, lease_until)
             VALUES ($1, 't', 'w', 'w', 'd', '{}', '{}', 0, 'running', 0, 'held', 0)",
            params![id],
        )?;
    }
    Ok(())
}

const RUNNING: [JobId; 2] = [JobId(uuid::Uuid::from_u128(1)), JobId(uuid::Uuid::from_u128(2))];

#[tokio::test]
async fn a_row_that_somebody_holds_costs_no_other_job_its_lease() {
    let stage = stage().await;
    stage
        .postgres
        .write(Lane::Loop, "jobs", two_running)
        .await
        .unwrap();
    let (held, done) = (
        Arc::new(std::sync::Barrier::new(2)),
        Arc::new(std::sync::Barrier::new(2)),
    );
    let (holding, until) = (Arc::clone(&held), Arc::clone(&done));
    let hold = stage.postgres.write(Lane::Request, "hold", move |tx| {
        tx.query(
            "SELECT id FROM jobs WHERE id = $1 FOR UPDATE",
            params![RUNNING[0]],
            |_| Ok(()),
        )?;
        holding.wait();
        until.wait();
        Ok(())
    });
    let beat = async {
        tokio::task::spawn_blocking(move || held.wait()).await.unwrap();
        let all = RUNNING.map(|id| (id, "held".to_owned()));
        let beat = stage.postgres.write(Lane::First, "heartbeat", move |tx| {
            jobs::heartbeat(tx, &all, Duration::from_secs(30))
        });
        let beat = beat.await;
        tokio::task::spawn_blocking(move || done.wait()).await.unwrap();
        beat.unwrap()
    };
    let (hold, beat) = tokio::join!(hold, beat);
    hold.unwrap();
    assert_eq!(
        (beat.lost, beat.in_use),
        (vec![], vec![(RUNNING[0], "held".to_owned())])
    );
    let extended = "SELECT COUNT(*) AS n FROM jobs WHERE lease_until > 0";
    assert_eq!(stage.count(extended).await, 1);
}

#[tokio::test]
async fn a_database_is_deserted_once_the_last_node_has_gone_and_none_comes_while_that_is_kept() {
    let stage = stage().await;
    let target = stage.schema.as_ref().unwrap().target(None);
    let line = || tokio::sync::mpsc::unbounded_channel().0;
    let node = Hints::open(&target, true, line()).await.unwrap();
    assert!(keep_deserted(&target).await.unwrap().is_none());
    drop(node);
    // The server notices the end of a connection a moment later.
    let end = Instant::now() + Duration::from_secs(20);
    let kept = loop {
        match keep_deserted(&target).await.unwrap() {
            Some(kept) => break kept,
            None => assert!(Instant::now() < end, "the node is still there"),
        }
    };
    let refused = Hints::open(&target, true, line()).await.unwrap_err();
    assert!(refused.is_conflict(), "{refused:?}");
    drop(kept);
    Hints::open(&target, true, line()).await.unwrap();
    // What was copied elsewhere has no nodes any more.
    let moved = stage.postgres.write(Lane::Loop, "moved", |tx| {
        let mark = Mark {
            copy: "c".to_owned(),
            to: "there".to_owned(),
            done: true,
        };
        moving::set_mark(tx, &mark)
    });
    moved.await.unwrap();
    let refused = Hints::open(&target, true, line()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Moved(_)), "{refused:?}");
}
