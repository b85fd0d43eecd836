//! One attempt at a time against real receivers on loopback, most of them hostile.

#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::Output,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use impresario::delivery::{
    gate::Gate,
    http::{Attempt, AttemptResult, ErrorClass, Limits, Sender},
    resolver::{Addresses, Lookup, SystemLookup},
    sign,
};

#[path = "delivery_parts/hostile.rs"]
mod hostile;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// Short enough to wait for, long enough for a busy machine.
const LIMITS: Limits = Limits {
    connect: Duration::from_millis(1_500),
    whole: Duration::from_millis(2_000),
};

/// A listener that reads one request and then does with the connection as it likes. What it read, byte for byte, comes
/// out of the channel; nobody who never connects puts anything in.
struct Receiver {
    address: SocketAddr,
    requests: mpsc::Receiver<Vec<u8>>,
}

impl Receiver {
    fn start(answer: impl Fn(&mut TcpStream) -> io::Result<()> + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, requests) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                if seen.send(read_request(&mut stream)).is_err() {
                    return;
                }
                // A sender that hangs up is what several tests are about.
                let _ = answer(&mut stream);
            }
        });
        Self { address, requests }
    }

    fn answering(answer: &'static [u8]) -> Self {
        Self::start(move |stream| stream.write_all(answer))
    }

    fn url(&self) -> String {
        format!("http://{}/hook?token=in-the-query", self.address)
    }

    fn head_and_body(&self) -> (String, Vec<u8>) {
        let request = self.requests.recv_timeout(Duration::from_secs(5)).unwrap();
        let end = request
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .unwrap();
        let head = String::from_utf8(request[..end].to_vec()).unwrap();
        (head, request[end + 4..].to_vec())
    }

    fn was_called(&self) -> bool {
        self.requests.recv_timeout(Duration::from_millis(50)).is_ok()
    }
}

/// Reads a head and as much body as its content-length says; less where the peer hangs up.
fn read_request(stream: &mut impl Read) -> Vec<u8> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
            let length = head
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.lines().next());
            if request.len() >= end + 4 + length.map_or(0, |length| length.parse().unwrap()) {
                return request;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return request,
            Ok(count) => request.extend_from_slice(&buffer[..count]),
        }
    }
}

fn attempt(url: &str) -> Attempt {
    Attempt {
        url: url.to_owned(),
        webhook_id: "msg_0198".to_owned(),
        event: "job.completed".to_owned(),
        body: r#"{"event":"job.completed","result":"größe \u0000"}"#.as_bytes().to_vec(),
        secret: SECRET.to_owned(),
        old_secrets: Vec::new(),
        timestamp_secs: 1_835_438_400,
    }
}

fn loopback() -> Gate {
    Gate::new(vec!["127.0.0.1/32".parse().unwrap()])
}

async fn post(url: &str) -> AttemptResult {
    let sender = Sender::with(loopback(), LIMITS, SystemLookup).unwrap();
    sender.post(&attempt(url)).await
}

fn class(result: &AttemptResult) -> Option<ErrorClass> {
    result.error.as_ref().map(|error| error.class)
}

/// The outside programs that check what we compute.
#[expect(
    clippy::disallowed_methods,
    reason = "an independent implementation has to be a program of its own"
)]
fn run(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    std::process::Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

#[tokio::test]
async fn a_delivery_carries_the_documented_headers_and_the_exact_body() {
    let receiver = Receiver::answering(OK);
    let result = post(&receiver.url()).await;
    assert!(result.delivered(), "{result:?}");
    assert_eq!(result.status, Some(200));
    assert_eq!(result.response_excerpt.as_deref(), Some("ok"));
    let sent = attempt("");
    let (head, body) = receiver.head_and_body();
    assert_eq!(body, sent.body);
    let signed = sign::sign(SECRET, &sent.webhook_id, sent.timestamp_secs, &sent.body);
    let mut lines: Vec<_> = head.lines().skip(1).map(str::to_owned).collect();
    lines.sort();
    let mut expected = vec![
        "accept: */*".to_owned(),
        format!("content-length: {}", sent.body.len()),
        "content-type: application/json".to_owned(),
        format!("host: {}", receiver.address),
        format!("user-agent: Impresario/{}", env!("CARGO_PKG_VERSION")),
        "webhook-id: msg_0198".to_owned(),
        format!("webhook-signature: {}", signed.webhook_signature),
        "webhook-timestamp: 1835438400".to_owned(),
        "x-event-type: job.completed".to_owned(),
        format!("x-webhook-signature: {}", signed.x_webhook_signature),
    ];
    expected.sort();
    assert_eq!(
        lines, expected,
        "no more and no less: no cookies, no accept-encoding, no referer"
    );
    assert!(
        head.starts_with("POST /hook?token=in-the-query HTTP/1.1"),
        "{head}"
    );
}

#[test]
fn openssl_and_node_compute_the_same_signatures() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    let sent = attempt("");
    std::fs::write(&file, &sent.body).unwrap();
    let signed = sign::sign(SECRET, &sent.webhook_id, sent.timestamp_secs, &sent.body);

    let output = run(
        "openssl",
        &["dgst", "-sha256", "-hmac", SECRET, file.to_str().unwrap()],
        &[],
    );
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        printed.trim().rsplit(' ').next(),
        Some(signed.x_webhook_signature.as_str())
    );

    let script = r#"
        const { createHmac } = require("node:crypto");
        const [file, secret, id, time] = process.argv.slice(1);
        const body = require("node:fs").readFileSync(file);
        const key = Buffer.from(secret.slice("whsec_".length), "base64");
        const plain = createHmac("sha256", secret).update(body).digest("hex");
        const standard = createHmac("sha256", key).update(`${id}.${time}.`).update(body).digest("base64");
        console.log(`${plain} v1,${standard}`);
    "#;
    let time = sent.timestamp_secs.to_string();
    let output = run(
        "node",
        &[
            "-e",
            script,
            file.to_str().unwrap(),
            SECRET,
            &sent.webhook_id,
            &time,
        ],
        &[],
    );
    let expected = format!("{} {}\n", signed.x_webhook_signature, signed.webhook_signature);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = Receiver::answering(OK);
    for status in [301, 302, 303, 307, 308] {
        let location = format!("http://u:hunter2@{}/secret-path?x=1", target.address);
        let answer = format!("HTTP/1.1 {status} Moved\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        let receiver = Receiver::start(move |stream| stream.write_all(answer.as_bytes()));
        let result = post(&receiver.url()).await;
        assert!(!result.delivered());
        assert_eq!(
            (result.status, class(&result)),
            (Some(status), Some(ErrorClass::Redirect))
        );
        let message = result.error.unwrap().message;
        assert!(message.contains(&target.address.to_string()), "{message}");
        assert!(
            !message.contains("hunter2") && !message.contains("secret-path"),
            "{message}"
        );
    }
    assert!(!target.was_called());
}

/// Answers every name with the same addresses.
struct Fixed(Vec<IpAddr>);

impl Lookup for Fixed {
    fn lookup(&self, _: String) -> Addresses {
        let found = self.0.clone();
        Box::pin(async { Ok(found) })
    }
}

#[tokio::test]
async fn nothing_reaches_an_address_that_is_not_open() {
    let canary = Receiver::answering(OK);
    let port = canary.address.port();
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "0",
        "127.0.0.1.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "localhost",
        "localhost.",
    ] {
        let sender = Sender::with(Gate::default(), LIMITS, SystemLookup).unwrap();
        let result = sender.post(&attempt(&format!("http://{host}:{port}/"))).await;
        assert_eq!(
            class(&result),
            Some(ErrorClass::RefusedAddress),
            "{host}: {result:?}"
        );
        assert_eq!((result.status, result.response_excerpt), (None, None));
    }
    for found in [
        "127.0.0.1",
        "0.0.0.0",
        "::1",
        "::ffff:127.0.0.1",
        "169.254.169.254",
    ] {
        let sender = Sender::with(Gate::default(), LIMITS, Fixed(vec![found.parse().unwrap()])).unwrap();
        let result = sender
            .post(&attempt(&format!("http://hooks.example.com:{port}/")))
            .await;
        assert_eq!(
            class(&result),
            Some(ErrorClass::RefusedAddress),
            "{found}: {result:?}"
        );
    }
    assert!(!canary.was_called());
}

#[tokio::test]
async fn of_several_addresses_only_the_open_ones_are_tried() {
    let receiver = Receiver::answering(OK);
    let port = receiver.address.port();
    // Had the first been tried, 127.0.0.2 would have refused or answered: it is this machine as well.
    let canary = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), port)).unwrap();
    canary.set_nonblocking(true).unwrap();
    let found = ["127.0.0.2", "::1", "127.0.0.1"]
        .map(|ip| ip.parse().unwrap())
        .to_vec();
    let sender = Sender::with(loopback(), LIMITS, Fixed(found)).unwrap();
    let result = sender
        .post(&attempt(&format!("http://hooks.example.com:{port}/")))
        .await;
    assert!(result.delivered(), "{result:?}");
    assert_eq!(canary.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

/// A name service that never answers.
struct Hanging;

impl Lookup for Hanging {
    fn lookup(&self, _: String) -> Addresses {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_hanging_name_service_ends_at_the_deadline_for_the_connection() {
    let sender = Sender::with(loopback(), LIMITS, Hanging).unwrap();
    let start = Instant::now();
    let result = sender.post(&attempt("http://hooks.example.com/")).await;
    assert_eq!(class(&result), Some(ErrorClass::Timeout), "{result:?}");
    assert!(start.elapsed() < LIMITS.whole, "{:?}", start.elapsed());
}

// Two threads: this one blocks until the other has hung up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_attempt_resolves_and_connects_anew() {
    let (seen, hung_up) = mpsc::channel();
    let receiver = Receiver::start(move |stream| {
        stream.write_all(OK)?;
        // Whoever keeps the connection for the next attempt sends on it; the others hang up.
        let _ = seen.send(!matches!(stream.read(&mut [0]), Ok(1)));
        Ok(())
    });
    let sender = Sender::with(loopback(), LIMITS, SystemLookup).unwrap();
    for _ in 0..2 {
        assert!(sender.post(&attempt(&receiver.url())).await.delivered());
        assert!(hung_up.recv_timeout(Duration::from_secs(5)).unwrap());
    }
}

#[tokio::test]
async fn what_is_no_callback_url_is_a_failure_of_its_own() {
    for url in ["", "ftp://example.com/", "http://user:hunter2@example.com/"] {
        let result = post(url).await;
        assert_eq!(class(&result), Some(ErrorClass::Protocol), "{url}");
        assert!(!result.error.unwrap().message.contains("hunter2"));
    }
}
