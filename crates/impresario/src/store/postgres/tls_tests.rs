use tokio_postgres::Client;

use crate::store::postgres::{
    connect,
    server::{Postgres, shared},
    testing::{assert_refused, target, text},
};

const HBA: &str = "local all all trust\n\
                   hostssl all certified 127.0.0.1/32 cert\n\
                   hostssl all secure 127.0.0.1/32 scram-sha-256\n\
                   hostssl all encrypted 127.0.0.1/32 trust\n\
                   hostnossl all bare 127.0.0.1/32 trust\n\
                   host all postgres 127.0.0.1/32 trust\n";
const CONFIG: &str =
    "ssl = on\nssl_ca_file = 'ca.crt'\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'";
const KEY: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];

/// What `openssl ca` wants to know, which is the one command that makes a certificate of the past.
const AUTHORITY: &str = "[ca]\ndefault_ca = own\n[own]\ndatabase = index.txt\nserial = serial\nnew_certs_dir = .\n\
                         default_md = sha256\npolicy = any\ncertificate = ca.crt\nprivate_key = ca.key\n\
                         unique_subject = no\n[any]\ncommonName = supplied\n";

/// A certificate that signed itself, with its key.
fn own(server: &Postgres, name: &str, subject: &str) {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
    let mut arguments = vec!["req", "-x509", "-nodes", "-days", "2", "-subj", subject];
    arguments.extend(KEY);
    arguments.extend([
        "-addext",
        "subjectAltName=DNS:localhost",
        "-keyout",
        &key,
        "-out",
        &certificate,
    ]);
    server.openssl(&arguments);
}

/// A certificate that `ca` signed, or its own key, for a name, until a date.
fn dated(server: &Postgres, name: &str, subject: &str, until: &str, more: &[&str]) {
    let (key, request, certificate) = (
        format!("{name}.key"),
        format!("{name}.csr"),
        format!("{name}.crt"),
    );
    let subject = format!("/CN={subject}");
    let mut arguments = vec![
        "req", "-nodes", "-subj", &subject, "-keyout", &key, "-out", &request,
    ];
    arguments.extend(KEY);
    server.openssl(&arguments);
    let mut arguments = vec!["ca", "-batch", "-notext", "-config", "ca.cnf"];
    arguments.extend(["-startdate", "20200101000000Z", "-enddate", until]);
    arguments.extend(["-in", &request, "-out", &certificate]);
    arguments.extend(more);
    server.openssl(&arguments);
}

fn signed(server: &Postgres, name: &str, subject: &str, until: &str) {
    dated(server, name, subject, until, &["-extfile", "names"]);
}

fn with_tls() -> Postgres {
    let server = Postgres::start_after(CONFIG, HBA, |server| {
        for (name, content) in [
            ("ca.cnf", AUTHORITY),
            ("names", "subjectAltName = DNS:localhost\n"),
            (
                "any",
                "subjectAltName = DNS:localhost\nbasicConstraints = CA:TRUE\n",
            ),
            ("serial", "01\n"),
            ("index.txt", ""),
        ] {
            std::fs::write(server.data().join(name), content).unwrap();
            server.own(name);
        }
        // One who pretends to be the authority has its name, too.
        own(server, "ca", "/CN=authority");
        own(server, "pretender", "/CN=authority");
        own(server, "other", "/CN=other");
        own(server, "alone", "/CN=localhost");
        signed(server, "server", "localhost", "20990101000000Z");
        signed(server, "client", "certified", "20990101000000Z");
        signed(server, "past", "localhost", "20210101000000Z");
        let by_itself = ["-extfile", "any", "-selfsign", "-keyfile", "bygone.key"];
        dated(server, "bygone", "localhost", "20210101000000Z", &by_itself);
    });
    server.sql(
        "CREATE ROLE certified LOGIN; CREATE ROLE encrypted LOGIN; CREATE ROLE bare LOGIN; \
         CREATE ROLE secure LOGIN PASSWORD 'hunter2'",
    );
    server
}

/// A server, and how to name it and its files.
struct Names<'a>(&'a Postgres);

impl Names<'_> {
    fn file(&self, name: &str) -> String {
        self.0.data().join(name).display().to_string()
    }

    /// Its certificate is for `localhost`, which is looked up nowhere here.
    fn url(&self, user: &str, mode: &str) -> String {
        let port = self.0.port();
        format!("postgres://{user}@localhost:{port}/postgres?hostaddr=127.0.0.1&sslmode={mode}")
    }

    fn rooted(&self, user: &str, mode: &str, root: &str) -> String {
        format!("{}&sslrootcert={}", self.url(user, mode), self.file(root))
    }
}

async fn is_encrypted(client: &Client) -> bool {
    text(
        client,
        "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    )
    .await
        == "true"
}

#[tokio::test]
async fn each_mode_verifies_what_libpq_verifies_in_it() {
    let server = with_tls();
    let names = Names(&server);
    for (url, encrypted) in [
        (names.url("postgres", "disable"), false),
        (names.url("postgres", "allow"), true),
        (names.url("postgres", "prefer"), true),
        (names.rooted("postgres", "prefer", "other.crt"), true),
        (names.url("postgres", "require"), true),
        (names.rooted("postgres", "require", "ca.crt"), true),
        (names.rooted("postgres", "verify-ca", "ca.crt"), true),
        (names.rooted("postgres", "verify-full", "ca.crt"), true),
        // The name is the host's, whatever the address.
        (
            names
                .rooted("postgres", "verify-ca", "ca.crt")
                .replace("@localhost", "@127.0.0.1"),
            true,
        ),
        (
            names
                .rooted("postgres", "require", "ca.crt")
                .replace("@localhost", "@127.0.0.1"),
            true,
        ),
        // Where the server lets nobody in with TLS, or without.
        (names.url("bare", "prefer"), false),
        (names.url("bare", "disable"), false),
        (names.url("encrypted", "prefer"), true),
        (
            format!(
                "{}&channel_binding=require",
                names.url("secure:hunter2", "require")
            ),
            true,
        ),
    ] {
        let client = connect(&target(&url), None)
            .await
            .unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(is_encrypted(&client).await, encrypted, "{url}");
    }
    let place = format!("localhost:{}, database \"postgres\"", server.port());
    for mode in ["require", "verify-ca", "verify-full"] {
        for root in ["other.crt", "pretender.crt"] {
            let url = names.rooted("postgres", mode, root);
            assert_refused(&url, false, &["not trusted", "sslrootcert", &place]).await;
        }
    }
    for mode in ["verify-ca", "verify-full"] {
        // The system's roots, which did not sign it.
        assert_refused(&names.url("postgres", mode), false, &["not trusted"]).await;
    }
    let wrong_name = names
        .rooted("postgres", "verify-full", "ca.crt")
        .replace("@localhost", "@127.0.0.1");
    assert_refused(
        &wrong_name,
        false,
        &["another name", "subjectAltName", "verify-ca"],
    )
    .await;
    let wrong_name = wrong_name.replace("@127.0.0.1", "@db.example");
    assert_refused(&wrong_name, false, &["another name", "db.example"]).await;
    assert_refused(
        &names.url("encrypted", "disable"),
        false,
        &["pg_hba.conf", "sslmode=require"],
    )
    .await;
    assert_refused(&names.url("bare", "require"), false, &["pg_hba.conf", "\"bare\""]).await;
}

#[tokio::test]
async fn a_client_shows_its_certificate_and_keeps_its_key_to_itself() {
    let server = with_tls();
    let names = Names(&server);
    let with = |name: &str| {
        let base = names.rooted("certified", "verify-full", "ca.crt");
        format!(
            "{base}&sslcert={}&sslkey={}",
            names.file(&format!("{name}.crt")),
            names.file(&format!("{name}.key"))
        )
    };
    let client = connect(&target(&with("client")), None).await.unwrap();
    assert_eq!(text(&client, "SELECT current_user::text").await, "certified");
    assert_refused(
        &names.url("certified", "require"),
        false,
        &["certificate of the client", "sslcert"],
    )
    .await;
    // Signed by nobody that the server knows, and signed for somebody else.
    assert_refused(
        &with("other"),
        false,
        &["refuses the client's certificate", "ssl_ca_file"],
    )
    .await;
    assert_refused(&with("server"), false, &["\"certified\""]).await;
    let mixed = with("client").replace("client.key", "server.key");
    assert_refused(&mixed, false, &["cannot be used", "client.crt"]).await;
    assert_refused(&with("absent"), false, &["sslcert", "absent.crt"]).await;
    let no_key = with("client").replace("client.key", "client.crt");
    assert_refused(&no_key, false, &["sslkey", "chmod 0600"]).await;
    let no_root = names.rooted("postgres", "verify-full", "absent.crt");
    assert_refused(&no_root, false, &["sslrootcert", "absent.crt"]).await;
    let no_root = names.rooted("postgres", "verify-full", "client.key");
    assert_refused(&no_root, false, &["no certificate", "client.key"]).await;
    use std::os::unix::fs::PermissionsExt as _;
    let readable = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(server.data().join("client.key"), readable).unwrap();
    assert_refused(&with("client"), false, &["client.key", "chmod 0600"]).await;
}

#[tokio::test]
async fn a_certificate_out_of_its_time_is_refused_and_one_that_signed_itself_is_trusted_by_itself() {
    let server = with_tls();
    let names = Names(&server);
    let serve = |name: &str| {
        server.configure(&CONFIG.replace("server.", &format!("{name}.")));
        server.restart();
    };
    serve("past");
    for mode in ["require", "verify-ca", "verify-full"] {
        assert_refused(&names.rooted("postgres", mode, "ca.crt"), false, &["has expired"]).await;
    }
    connect(&target(&names.url("postgres", "require")), None)
        .await
        .unwrap();
    serve("bygone");
    let by_itself = names.rooted("postgres", "verify-full", "bygone.crt");
    assert_refused(&by_itself, false, &["has expired"]).await;
    server.configure(&format!(
        "{}\nssl_max_protocol_version = 'TLSv1.2'",
        CONFIG.replace("server.", "alone.")
    ));
    server.restart();
    for mode in ["require", "verify-ca", "verify-full"] {
        connect(&target(&names.rooted("postgres", mode, "alone.crt")), None)
            .await
            .unwrap();
        assert_refused(&names.rooted("postgres", mode, "ca.crt"), false, &["certificate"]).await;
    }
    let wrong_name = names
        .rooted("postgres", "verify-full", "alone.crt")
        .replace("@localhost", "@127.0.0.1");
    assert_refused(&wrong_name, false, &["another name"]).await;
}

#[tokio::test]
async fn a_server_without_tls_is_used_without_it_only_where_that_may_be() {
    for mode in ["disable", "allow", "prefer"] {
        let client = connect(&target(&format!("{}?sslmode={mode}", shared())), None)
            .await
            .unwrap();
        assert!(!is_encrypted(&client).await);
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        let url = format!("{}?sslmode={mode}", shared());
        assert_refused(&url, false, &["does not offer TLS", "ssl = on"]).await;
    }
}
