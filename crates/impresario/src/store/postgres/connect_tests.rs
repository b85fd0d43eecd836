use std::os::unix::fs::PermissionsExt as _;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc::unbounded_channel,
};

use super::*;
use crate::store::postgres::{
    inspect,
    server::{Postgres, Stop, free_port, shared, unique},
    testing::{assert_refused, refused, target, text},
};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// The shared server's URL with another user.
fn shared_as(user: &str) -> String {
    shared().replace("postgres@", &format!("{user}@"))
}

#[tokio::test]
async fn a_session_has_its_limits_whatever_the_role_has_as_its_default() {
    let admin = connect(&target(&shared()), None).await.unwrap();
    let role = unique("limits");
    let with = |setting: &str| format!("ALTER ROLE {role} SET {setting};");
    let defaults: String = [
        "statement_timeout = 0",
        "lock_timeout = 0",
        "idle_in_transaction_session_timeout = 0",
        "idle_session_timeout = '1h'",
        "default_transaction_read_only = on",
        "TimeZone = 'Asia/Tokyo'",
        "client_encoding = LATIN1",
        "synchronous_commit = off",
    ]
    .map(with)
    .concat();
    admin
        .batch_execute(&format!("CREATE ROLE {role} LOGIN; {defaults}"))
        .await
        .unwrap();
    let of_role = target(&shared_as(&role));
    let client = connect(&of_role, None).await.unwrap();
    for (setting, value) in [
        ("statement_timeout", "30s"),
        ("lock_timeout", "10s"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("idle_session_timeout", "0"),
        ("default_transaction_read_only", "off"),
        ("transaction_read_only", "off"),
        ("TimeZone", "UTC"),
        ("client_encoding", "UTF8"),
        ("application_name", "impresario"),
        ("synchronous_commit", "on"),
    ] {
        let statement = format!("SELECT current_setting('{setting}')");
        assert_eq!(text(&client, &statement).await, value, "{setting}");
    }
    // What is stronger, or is a deliberate choice, stays.
    for level in ["local", "remote_write", "on", "remote_apply"] {
        admin
            .batch_execute(&with(&format!("synchronous_commit = {level}")))
            .await
            .unwrap();
        let client = connect(&of_role, None).await.unwrap();
        assert_eq!(text(&client, "SHOW synchronous_commit").await, level);
    }
    let url = format!("{}?application_name=night&options=-c%20work_mem%3D5MB", shared());
    let client = connect(&target(&url), None).await.unwrap();
    assert_eq!(text(&client, "SHOW application_name").await, "night");
    assert_eq!(text(&client, "SHOW work_mem").await, "5MB");
}

#[tokio::test]
async fn notifications_arrive_until_the_connection_is_lost() {
    let admin = connect(&target(&shared()), None).await.unwrap();
    let (sender, mut heard) = unbounded_channel();
    let listener = connect(&target(&shared()), Some(sender)).await.unwrap();
    let channel = unique("bell");
    listener
        .batch_execute(&format!("LISTEN {channel}"))
        .await
        .unwrap();
    for payload in ["one", "", "drei ä"] {
        admin
            .batch_execute(&format!("NOTIFY {channel}, '{payload}'"))
            .await
            .unwrap();
        assert_eq!(
            timeout(PATIENCE, heard.recv()).await.unwrap().as_deref(),
            Some(payload)
        );
    }
    let pid = text(&listener, "SELECT pg_backend_pid()::text").await;
    admin
        .batch_execute(&format!("SELECT pg_terminate_backend({pid})"))
        .await
        .unwrap();
    assert_eq!(timeout(PATIENCE, heard.recv()).await.unwrap(), None);
    assert!(listener.is_closed());
}

#[test]
fn a_connection_that_nothing_comes_back_on_is_given_up() {
    let target = target("postgres://me:hunter2@127.0.0.1/app");
    let config = config(&target, &target.endpoints[0], target.password.as_ref());
    assert!(config.get_keepalives());
    assert_eq!(config.get_keepalives_idle(), Duration::from_secs(10));
    assert_eq!(config.get_keepalives_interval(), Some(Duration::from_secs(3)));
    assert_eq!(config.get_keepalives_retries(), Some(3));
    assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_secs(15)));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let port = free_port();
    let url = format!("postgres://me:hunter2@127.0.0.1:{port}/app");
    let place = format!("127.0.0.1:{port}, database \"app\"");
    assert_refused(&url, true, &["refused", "is the server running", &place]).await;
    assert_refused(
        "postgres://me@nobody.invalid/app",
        true,
        &["nobody.invalid:5432", "cannot be resolved"],
    )
    .await;
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("postgres://me@/app?host={}", folder.path().display());
    assert_refused(&socket, true, &["no such socket", "s.PGSQL.5432", "\"app\""]).await;
}

/// Takes connections on a port of its own and does with each what it is told to.
async fn stranger(answer: &'static [u8], keeps: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    spawned(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 1024];
            let _read = stream.read(&mut buffer).await;
            let _written = stream.write_all(answer).await;
            if keeps {
                kept.push(stream);
            }
        }
    });
    port
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test's own task: it ends with the test's runtime"
)]
fn spawned(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}

#[tokio::test]
async fn what_is_no_postgresql_or_answers_nothing_is_given_up_in_time() {
    for (answer, mode) in [
        (&b""[..], "prefer"),
        (b"", "disable"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "require"),
    ] {
        let port = stranger(answer, false).await;
        let url = format!("postgres://me:hunter2@127.0.0.1:{port}/app?sslmode={mode}");
        let (sentence, _) = refused(&target(&url)).await;
        assert!(sentence.contains(&format!("127.0.0.1:{port}")), "{sentence}");
    }
    let silent = stranger(b"", true).await;
    let url = format!("postgres://me:hunter2@127.0.0.1:{silent}/app?connect_timeout=1");
    let begun = Instant::now();
    assert_refused(&url, true, &["no connection within 1 s", "firewall"]).await;
    assert!(begun.elapsed() < Duration::from_secs(4));
    // The next host has its own time.
    let both = shared().replace("@", &format!("@127.0.0.1:{silent},"));
    let client = connect(&target(&format!("{both}?connect_timeout=1")), None)
        .await
        .unwrap();
    assert_eq!(text(&client, "SHOW transaction_read_only").await, "off");
}

#[tokio::test]
async fn an_older_version_is_refused_before_it_is_asked_anything() {
    // Authentication is done, parameter `server_version`, key, ready.
    let port = stranger(
        b"R\0\0\0\x08\0\0\0\0S\0\0\0\x18server_version\x0014.9\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I",
        true,
    )
    .await;
    let url = format!("postgres://me:hunter2@127.0.0.1:{port}/app?sslmode=disable");
    assert_refused(&url, false, &["PostgreSQL 14.9", "15 or newer"]).await;
    for (version, expected) in [
        ("15.4 (Debian 15.4-1)", Some(15)),
        ("18beta1", Some(18)),
        ("", None),
        ("x", None),
    ] {
        assert_eq!(major(version), expected);
    }
}

/// Roles with passwords and without, and who may come from where.
fn guarded() -> Postgres {
    let hba = "local all all trust\n\
               host all postgres,plain,limited,sleeper,nobody 127.0.0.1/32 trust\n\
               host all banned 127.0.0.1/32 reject\n\
               host all old 127.0.0.1/32 md5\n\
               host all me,ghost 127.0.0.1/32 scram-sha-256\n";
    let server = Postgres::start_with("max_connections = 20", hba);
    server.sql(
        "CREATE ROLE me LOGIN PASSWORD 'hunter2'; CREATE ROLE plain LOGIN; CREATE ROLE banned LOGIN; \
         CREATE ROLE stranger LOGIN; CREATE ROLE sleeper; CREATE ROLE limited LOGIN CONNECTION LIMIT 1; \
         SET password_encryption = md5; CREATE ROLE old LOGIN PASSWORD 'hunter3'",
    );
    server.sql("CREATE DATABASE closed");
    server.sql("REVOKE CONNECT ON DATABASE closed FROM PUBLIC");
    server
}

#[tokio::test]
async fn a_refusal_of_the_server_says_what_to_do() {
    let server = guarded();
    let port = server.port();
    let url = |user: &str, database: &str| format!("postgres://{user}@127.0.0.1:{port}/{database}");
    for user in ["me:hunter2", "old:hunter3", "plain", "plain:hunter2"] {
        let client = connect(&target(&url(user, "postgres")), None).await.unwrap();
        assert!(user.starts_with(&text(&client, "SELECT current_user::text").await));
    }
    let place = format!("127.0.0.1:{port}, database \"postgres\"");
    for (user, database, parts) in [
        (
            "me:hunter9",
            "postgres",
            &["password of the role \"me\"", &place][..],
        ),
        ("old:hunter9", "postgres", &["password of the role \"old\""]),
        ("ghost:hunter2", "postgres", &["\"ghost\"", "no such role"]),
        (
            "me",
            "postgres",
            &["asks for the password", "PGPASSWORD", "~/.pgpass"],
        ),
        ("old", "postgres", &["asks for the password", "\"old\""]),
        (
            "nobody",
            "postgres",
            &["no role \"nobody\"", "createuser --pwprompt nobody"],
        ),
        ("sleeper", "postgres", &["ALTER ROLE \"sleeper\" LOGIN"]),
        ("banned", "postgres", &["pg_hba.conf", "\"banned\""]),
        ("stranger", "postgres", &["pg_hba.conf", "\"stranger\""]),
        (
            "plain",
            "absent",
            &["no such database", "createdb --owner=plain", "\"absent\""],
        ),
        (
            "plain",
            "closed",
            &["GRANT CONNECT ON DATABASE \"closed\" TO \"plain\""],
        ),
    ] {
        assert_refused(&url(user, database), false, parts).await;
    }
    let _only = connect(&target(&url("limited", "postgres")), None).await.unwrap();
    assert_refused(
        &url("limited", "postgres"),
        true,
        &["no connection left", "max_connections"],
    )
    .await;
    // Over the socket as well, where nobody needs a password and TLS is no question.
    let socket = format!(
        "postgres://me@/postgres?host={}&port={port}&sslmode=require",
        server.sockets().display()
    );
    assert_eq!(
        text(
            &connect(&target(&socket), None).await.unwrap(),
            "SELECT current_user::text"
        )
        .await,
        "me"
    );
    // A server that answers has the last word: the host after it is not asked.
    let both = format!("postgres://me:hunter9@127.0.0.1,127.0.0.1/postgres?port={port},1");
    let (sentence, passing) = refused(&target(&both)).await;
    assert!(
        !passing && sentence.matches("PostgreSQL at").count() == 1,
        "{sentence}"
    );
}

#[tokio::test]
async fn a_password_comes_from_the_password_file_for_each_host() {
    let server = guarded();
    let port = server.port();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pgpass");
    std::fs::write(
        &file,
        format!("other:*:*:*:hunter9\n127.0.0.1:{port}:postgres:me:hunter2\n"),
    )
    .unwrap();
    let set_mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    set_mode(0o600);
    let url = format!(
        "postgres://me@127.0.0.1:{port}/postgres?passfile={}",
        file.display()
    );
    let closed = free_port();
    let both = url.replace(
        &format!("127.0.0.1:{port}"),
        &format!("127.0.0.1:{closed},127.0.0.1:{port}"),
    );
    for url in [&url, &both] {
        connect(&target(url), None).await.unwrap();
    }
    // A password that was given goes before it.
    assert_refused(
        &format!("{url}&password=hunter8"),
        false,
        &["refuses the password"],
    )
    .await;
    set_mode(0o644);
    assert_refused(&url, false, &["asks for the password", "chmod 0600"]).await;
}

#[tokio::test]
async fn a_server_that_stops_starts_or_stands_by_is_tried_again_later() {
    let server = Postgres::start_with("", "");
    let url = server.url();
    let client = connect(&target(&url), None).await.unwrap();
    server.begin_to_stop(Stop::Smart);
    assert_refused_soon(&url, "shutting down").await;
    drop(client);
    assert_refused_soon(&url, "refused").await;
    server.wait_for_its_end();

    std::fs::write(server.data().join("standby.signal"), "").unwrap();
    server.configure("hot_standby = off");
    server.start();
    assert_refused(&url, true, &["starting up or shutting down"]).await;
    server.stop(Stop::Fast);
    server.configure("hot_standby = on");
    server.start();
    assert_refused_soon(&url, "is a standby").await;
    // Whoever asked for any server gets it, and is told at the start.
    let any = target(&format!("{url}?target_session_attrs=any"));
    let standby = connect(&any, None).await.unwrap();
    let error = inspect(&standby, &any).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Unreachable(why) if why.contains("is a standby")),
        "{error}"
    );
    // With the others named, the one that takes writes is found.
    let both = shared().replace("@", &format!("@127.0.0.1:{},", server.port()));
    let client = connect(&target(&both), None).await.unwrap();
    assert_eq!(text(&client, "SELECT pg_is_in_recovery()::text").await, "false");

    server.kill9();
    let lost = async {
        while !standby.is_closed() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, lost).await.unwrap();
    assert_refused(&url, true, &["refused"]).await;
    server.start();
    assert_refused_soon(&url, "is a standby").await;
}

/// Waits until a new connection is refused with these words.
async fn assert_refused_soon(url: &str, part: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let last = match connect(&target(url), None).await {
            Ok(_) => "connected".to_owned(),
            Err(error) if error.to_string().contains(part) => {
                assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
                return;
            }
            Err(error) => error.to_string(),
        };
        assert!(Instant::now() < end, "no {part} in {last}");
    }
}
