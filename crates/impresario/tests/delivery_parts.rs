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

#[tokio::test]
async fn other_statuses_fail_and_retry_after_is_read() {
    let receiver =
        Receiver::answering(b"HTTP/1.1 429 Slow Down\r\nretry-after: 120\r\ncontent-length: 4\r\n\r\nlate");
    let result = post(&receiver.url()).await;
    assert_eq!(
        (result.status, class(&result)),
        (Some(429), Some(ErrorClass::Status))
    );
    assert_eq!(result.retry_after, Some(Duration::from_secs(120)));
    assert_eq!(result.response_excerpt.as_deref(), Some("late"));

    let receiver = Receiver::answering(
        b"HTTP/1.1 503 Down\r\nretry-after: Tue, 29 Feb 2028 12:01:30 GMT\r\ncontent-length: 0\r\n\r\n",
    );
    let result = post(&receiver.url()).await;
    assert_eq!(
        (result.retry_after, result.response_excerpt),
        (Some(Duration::from_secs(90)), None)
    );

    for (answer, delivered) in [
        (
            b"HTTP/1.1 204 No Content\r\nretry-after: 9\r\n\r\n".as_slice(),
            true,
        ),
        (b"HTTP/1.1 299 Odd\r\ncontent-length: 0\r\n\r\n", true),
        (b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n", false),
        (b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n", false),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            true,
        ),
    ] {
        let result = post(&Receiver::answering(answer).url()).await;
        assert_eq!(result.delivered(), delivered, "{result:?}");
        assert_eq!(result.retry_after, None);
    }
}

#[tokio::test]
async fn a_receiver_that_never_answers_ends_at_the_deadline() {
    let hanging = Receiver::start(|stream| stream.read_exact(&mut [0]));
    let slow_head = Receiver::start(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        loop {
            stream.write_all(b"x-more: 1\r\n")?;
            thread::sleep(Duration::from_millis(100));
        }
    });
    for receiver in [&hanging, &slow_head] {
        let start = Instant::now();
        let result = post(&receiver.url()).await;
        assert_eq!(
            (result.status, class(&result)),
            (None, Some(ErrorClass::Timeout)),
            "{result:?}"
        );
        assert!(start.elapsed() >= LIMITS.whole && start.elapsed() < LIMITS.whole * 2);
        assert!(u128::from(result.latency_ms) >= LIMITS.whole.as_millis());
    }
}

#[tokio::test]
async fn an_endless_body_is_cut_and_a_dripping_one_ends_at_the_deadline() {
    let endless = Receiver::start(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        loop {
            stream.write_all(&[b'a'; 4096])?;
        }
    });
    let start = Instant::now();
    let result = post(&endless.url()).await;
    assert!(result.delivered(), "{result:?}");
    assert_eq!(result.response_excerpt, Some("a".repeat(1024)));
    assert!(
        start.elapsed() < LIMITS.whole,
        "it does not wait for the deadline"
    );

    let dripping = Receiver::start(|stream| {
        stream.write_all(b"HTTP/1.1 500 Oh\r\ncontent-length: 1000\r\n\r\n")?;
        loop {
            stream.write_all(b"a")?;
            thread::sleep(Duration::from_millis(100));
        }
    });
    let start = Instant::now();
    let result = post(&dripping.url()).await;
    assert_eq!(
        (result.status, class(&result)),
        (Some(500), Some(ErrorClass::Status))
    );
    assert!(result.response_excerpt.unwrap().starts_with("aaa"));
    assert!(start.elapsed() >= LIMITS.whole && start.elapsed() < LIMITS.whole * 2);
    assert!(result.latency_ms < 1_000, "the head came at once");
}

#[tokio::test]
async fn a_compressed_body_is_left_alone() {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(&[b'a'; 10_000_000]).unwrap();
    let bomb = packer.finish().unwrap();
    let receiver = Receiver::start(move |stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length";
        write!(stream, "{head}: {}\r\n\r\n", bomb.len())?;
        stream.write_all(&bomb)
    });
    let result = post(&receiver.url()).await;
    assert!(result.delivered());
    let excerpt = result.response_excerpt.unwrap();
    assert!(
        excerpt.starts_with('\u{fffd}') && !excerpt.contains("aaaa"),
        "{excerpt:?}"
    );
}

#[tokio::test]
async fn broken_connections_and_broken_answers_have_their_class() {
    for answer in [
        b"".as_slice(),
        b"HTTP/1.1 200",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    ] {
        let receiver = Receiver::answering(answer);
        let result = post(&receiver.url()).await;
        assert_eq!(class(&result), Some(ErrorClass::Protocol), "{result:?}");
        assert!(
            receiver.was_called() && !receiver.was_called(),
            "the client sends nothing twice by itself"
        );
        let message = result.error.unwrap().message;
        assert!(
            !message.contains("token") && !message.contains(SECRET),
            "{message}"
        );
    }
    let endless_head = Receiver::start(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nx: ")?;
        loop {
            stream.write_all(&[b'a'; 4096])?;
        }
    });
    assert_eq!(
        class(&post(&endless_head.url()).await),
        Some(ErrorClass::Protocol)
    );

    let unused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let result = post(&format!("http://{unused}/hook?token=in-the-query")).await;
    assert_eq!(class(&result), Some(ErrorClass::Connect));
    let message = result.error.unwrap().message;
    assert!(
        message.contains(&unused.to_string()) && !message.contains("token"),
        "{message}"
    );

    // `invalid` never resolves (RFC 6761), with or without a network.
    let result = post("http://hooks.invalid/?token=in-the-query").await;
    assert_eq!(class(&result), Some(ErrorClass::Dns), "{result:?}");
    let message = result.error.unwrap().message;
    assert!(
        message.contains("hooks.invalid") && !message.contains("token"),
        "{message}"
    );
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
