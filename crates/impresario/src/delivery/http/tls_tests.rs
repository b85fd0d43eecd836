//! HTTPS against real handshakes, with an authority of our own and a proxy in the environment.
//!
//! Roots come from the operating system, which a test can only replace through the environment of a process, before it
//! starts: so the test starts itself a second time.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::*;
use crate::delivery::resolver::Addresses;

const FOLDER: &str = "IMPRESARIO_TLS_TEST_FOLDER";
const THIS_TEST: &str = "delivery::http::tls_tests::only_good_certificates_are_trusted_and_no_proxy_is_used";

#[expect(
    clippy::disallowed_methods,
    reason = "openssl makes the certificates; the test starts itself again"
)]
fn run(program: &str, folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let output = Command::new(program)
        .current_dir(folder)
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Makes `<name>.key` and `<name>.pem`, a certificate for `hooks.test` that has signed itself.
fn certificate(folder: &Path, name: &str, from: &str, until: &str) {
    let config = "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n\
        serial=serial\n        unique_subject=no\nx509_extensions=e\n[p]\ncommonName=supplied\n[e]\nbasicConstraints=critical,CA:FALSE\n\
        subjectAltName=DNS:hooks.test\n[req]\ndistinguished_name=n\n[n]\n";
    fs::write(folder.join("config"), config).unwrap();
    fs::write(folder.join("index"), "").unwrap();
    fs::write(folder.join("serial"), "01").unwrap();
    let (key, request, pem) = (
        format!("{name}.key"),
        format!("{name}.csr"),
        format!("{name}.pem"),
    );
    let make_request = [
        "req",
        "-new",
        "-config",
        "config",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        &key,
        "-out",
        &request,
        "-subj",
        &format!("/CN={name}"),
    ];
    run("openssl", folder, &make_request, &[]);
    let sign = [
        "ca",
        "-batch",
        "-selfsign",
        "-notext",
        "-config",
        "config",
        "-keyfile",
        &key,
        "-in",
        &request,
        "-out",
        &pem,
        "-startdate",
        from,
        "-enddate",
        until,
    ];
    run("openssl", folder, &sign, &[]);
}

/// Answers every request over TLS, and counts those that it could read.
fn receiver(folder: &Path, name: &str) -> (u16, Arc<AtomicU32>) {
    let chain = CertificateDer::pem_file_iter(folder.join(format!("{name}.pem"))).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            chain.map(Result::unwrap).collect(),
            PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let read = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&read);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = StreamOwned::new(
                ServerConnection::new(Arc::clone(&config)).unwrap(),
                stream.unwrap(),
            );
            if stream.read(&mut [0; 4096]).is_ok_and(|length| length > 0) {
                count.fetch_add(1, Ordering::SeqCst);
                let _ =
                    stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok");
            }
        }
    });
    (port, read)
}

/// A listener that speaks no TLS, or nothing at all; it counts who comes.
fn plain(greeting: &'static [u8]) -> (SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let called = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&called);
    thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
            let mut stream = stream.unwrap();
            let _ = stream.write_all(greeting);
            // Kept, so that a silent one stays open.
            open.push(stream);
        }
    });
    (address, called)
}

/// Every name is this machine.
struct ThisMachine;

impl Lookup for ThisMachine {
    fn lookup(&self, _: String) -> Addresses {
        Box::pin(async { Ok(vec![IpAddr::from(Ipv4Addr::LOCALHOST)]) })
    }
}

async fn post(url: &str) -> (bool, Option<ErrorClass>, String) {
    let limits = Limits {
        connect: Duration::from_millis(1_500),
        whole: Duration::from_secs(3),
    };
    let gate = Gate::new(vec!["127.0.0.1/32".parse().unwrap()]);
    let sender = Sender::with(gate, limits, ThisMachine).unwrap();
    let attempt = Attempt {
        url: url.to_owned(),
        webhook_id: "msg_1".to_owned(),
        event: "job.completed".to_owned(),
        body: b"{}".to_vec(),
        secret: "hunter2".to_owned(),
        old_secrets: Vec::new(),
        timestamp_secs: 1,
    };
    let result = sender.post(&attempt).await;
    let message = result
        .error
        .as_ref()
        .map(|error| error.message.clone())
        .unwrap_or_default();
    assert!(!message.contains("token"), "{message}");
    (result.delivered(), result.error.map(|error| error.class), message)
}

#[expect(
    clippy::disallowed_methods,
    reason = "how the test tells its second start from its first"
)]
fn second_start() -> Option<String> {
    std::env::var(FOLDER).ok()
}

#[tokio::test]
async fn only_good_certificates_are_trusted_and_no_proxy_is_used() {
    let Some(folder) = second_start() else {
        first_start();
        return;
    };
    let folder = Path::new(&folder);

    let (port, read) = receiver(folder, "good");
    let (delivered, _, message) = post(&format!("https://hooks.test:{port}/?token=1")).await;
    assert!(delivered, "{message}");
    let (_, class, message) = post(&format!("https://other.test:{port}/?token=1")).await;
    assert_eq!(class, Some(ErrorClass::Tls), "the name does not match: {message}");
    assert_eq!(read.load(Ordering::SeqCst), 1);

    for name in ["expired", "stranger"] {
        let (port, read) = receiver(folder, name);
        let (_, class, message) = post(&format!("https://hooks.test:{port}/?token=1")).await;
        assert_eq!(class, Some(ErrorClass::Tls), "{name}: {message}");
        assert_eq!(
            read.load(Ordering::SeqCst),
            0,
            "nothing is sent before the certificate is checked"
        );
    }

    let (address, _) = plain(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let (_, class, message) = post(&format!("https://hooks.test:{}/?token=1", address.port())).await;
    assert_eq!(class, Some(ErrorClass::Tls), "{message}");
    let (address, _) = plain(b"");
    let (_, class, message) = post(&format!("https://hooks.test:{}/?token=1", address.port())).await;
    assert_eq!(class, Some(ErrorClass::Timeout), "{message}");
}

fn first_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    certificate(path, "good", "20200101000000Z", "20991231000000Z");
    certificate(path, "stranger", "20200101000000Z", "20991231000000Z");
    certificate(path, "expired", "20200101000000Z", "20200201000000Z");
    let trusted = ["good.pem", "expired.pem"].map(|name| fs::read_to_string(path.join(name)).unwrap());
    fs::write(path.join("roots.pem"), trusted.concat()).unwrap();

    let (proxy, called) = plain(b"");
    let proxy = format!("http://{proxy}");
    let roots = path.join("roots.pem");
    let mut environment = vec![
        (FOLDER, path.to_str().unwrap()),
        ("SSL_CERT_FILE", roots.to_str().unwrap()),
        ("NO_PROXY", ""),
        ("no_proxy", ""),
    ];
    for name in [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ] {
        environment.push((name, &proxy));
    }
    let this = std::env::current_exe().unwrap();
    let output = run(
        this.to_str().unwrap(),
        path,
        &["--exact", THIS_TEST],
        &environment,
    );
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("1 passed"), "{printed}");
    assert_eq!(
        called.load(Ordering::SeqCst),
        0,
        "the proxy of the environment was used"
    );
}
