//! The HTTP front over real sockets: what a client sees that is slow, wrong, hostile or unlucky.
//!
//! The requests are written byte by byte, because no HTTP library sends what these tests must send. The answers'
//! framing is read by hand for the same reason.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test fail like the test"
)]

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Extension, Router, response::Response, routing::post};
use impresario::{
    api::{
        ApiError, BodyLimit, Fields, Front, front, ok,
        server::{Limits, serve_with},
    },
    clock::SystemClock,
    ids::Ids,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Nothing here takes longer than this unless it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
    entered: Arc<Notify>,
    go_on: Arc<Notify>,
    finished: Arc<Notify>,
}

struct Answer {
    status: u16,
    head: String,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn message(&self) -> &str {
        self.body["json"]["message"].as_str().expect("a message")
    }

    /// What the contract promises of every error.
    fn assert_error(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status, &self.body["json"]["code"]),
            (status, &json!(code)),
            "{}",
            self.body
        );
        assert_eq!(self.body["json"]["status"], json!(status));
        assert_eq!(self.body["json"]["defined"], json!(false));
        assert!(!self.message().is_empty());
        self.assert_headers();
    }

    fn assert_headers(&self) {
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert_eq!(self.header("cache-control"), Some("no-store"));
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"));
        assert!(self.header("x-request-id").is_some());
    }
}

async fn echo(mut input: Fields) -> Result<Response, ApiError> {
    let name = input.required_string("name", 1..=10);
    let count = input.optional_int("count", 1..=5);
    let deep = input.optional_object("deep");
    let (name, count) = input.finish_with(|| Some((name?, count.unwrap_or(1))))?;
    Ok(ok(json!({"name": name, "count": count, "deep": deep})))
}

#[expect(clippy::disallowed_methods, reason = "the test's own task, joined by it")]
async fn start(limits: Limits) -> Server {
    let (entered, go_on, finished) = (
        Arc::new(Notify::new()),
        Arc::new(Notify::new()),
        Arc::new(Notify::new()),
    );
    let gate = (entered.clone(), go_on.clone(), finished.clone());
    let short = BodyLimit {
        bytes: 100,
        time: Duration::from_millis(200),
    };
    let router = Router::new()
        .route("/v1/test/echo", post(echo))
        .route("/v1/test/small", post(echo).layer(Extension(short)))
        .route(
            "/v1/test/large",
            post(echo).layer(Extension(BodyLimit::of(3 << 20))),
        )
        .route(
            "/v1/test/panic",
            post(async || -> Response { panic!("the password is 1234") }),
        )
        .route(
            "/v1/test/internal",
            post(async || ApiError::internal(anyhow::anyhow!("disk 1234 full"))),
        )
        .route(
            "/v1/test/plain",
            post(async || (axum::http::StatusCode::IM_A_TEAPOT, "<html>")),
        )
        .route(
            "/v1/test/gate",
            post(async move || {
                gate.0.notify_one();
                gate.1.notified().await;
                gate.2.notify_one();
                ok(json!({"done": true}))
            }),
        );
    let tasks = TaskTracker::new();
    let layers = Front {
        clock: Arc::new(SystemClock),
        ids: Arc::new(Ids::seeded(1)),
        tasks: tasks.clone(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(serve_with(
        listener,
        front(router, layers),
        shutdown.clone(),
        tasks,
        limits,
    ));
    Server {
        address,
        shutdown,
        serving,
        entered,
        go_on,
        finished,
    }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn send(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        read_answer(&mut stream).await
    }

    async fn post(&self, path: &str, body: &[u8]) -> Answer {
        self.send(&request("POST", path, "content-type: application/json\r\n", body))
            .await
    }
}

fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Reads one answer, and not a byte of the next.
async fn read_answer(stream: &mut TcpStream) -> Answer {
    let read = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("an answer's head"));
        }
        let head = String::from_utf8(head).unwrap();
        let mut answer = Answer {
            status: head[9..12].parse().unwrap(),
            head,
            body: Value::Null,
        };
        let length: usize = answer
            .header("content-length")
            .expect("a length")
            .parse()
            .unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        answer.body = serde_json::from_slice(&body).expect("a JSON body");
        answer
    };
    tokio::time::timeout(PATIENCE, read)
        .await
        .expect("an answer in time")
}

/// Waits until the server closes the connection without a further byte.
async fn assert_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset closes it as well.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest))
        .await
        .expect("closed in time");
    assert_eq!(String::from_utf8_lossy(&rest), "");
}

fn short_limits() -> Limits {
    Limits {
        header_time: Duration::from_millis(300),
        drain_time: Duration::from_millis(300),
        ..Limits::default()
    }
}

#[tokio::test]
async fn an_answer_has_the_envelope_and_the_headers() {
    let server = start(Limits::default()).await;
    let answer = server
        .post("/v1/test/echo", br#"{"json":{"name":"x","count":5.0}}"#)
        .await;
    assert_eq!(
        (answer.status, &answer.body),
        (200, &json!({"json": {"name": "x", "count": 5, "deep": null}}))
    );
    answer.assert_headers();
}

#[tokio::test]
async fn all_issues_come_at_once() {
    let server = start(Limits::default()).await;
    let answer = server
        .post("/v1/test/echo", br#"{"json":{"count":6,"nmae":"x","deep":[]}}"#)
        .await;
    answer.assert_error(400, "BAD_REQUEST");
    assert_eq!(answer.message(), "name: is required (and 3 more)");
    let issues = answer.body["json"]["data"]["issues"].as_array().unwrap().clone();
    let paths: Vec<&Value> = issues.iter().map(|issue| &issue["path"]).collect();
    assert_eq!(json!(paths), json!([["name"], ["count"], ["deep"], []]));
    assert!(
        issues[3]["message"]
            .as_str()
            .unwrap()
            .contains("\"nmae\" (did you mean \"name\"?)")
    );
    for nothing in [&b""[..], b"{}", br#"{"json":{}}"#] {
        assert_eq!(
            server.post("/v1/test/echo", nothing).await.message(),
            "name: is required"
        );
    }
    // No body needs no content type.
    let bare = server.send(&request("POST", "/v1/test/echo", "", b"")).await;
    assert_eq!(bare.message(), "name: is required");
}

#[tokio::test]
async fn routes_and_methods_that_are_not_there() {
    let server = start(Limits::default()).await;
    for path in [
        "/",
        "/v1/schedules/lits",
        "/v1/test/echo/",
        "/v1/%00",
        "/v1/test/echo%2f..",
        "/favicon.ico",
    ] {
        server.post(path, b"{}").await.assert_error(404, "NOT_FOUND");
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        let answer = server.send(&request(method, "/v1/test/echo", "", b"")).await;
        answer.assert_error(405, "METHOD_NOT_SUPPORTED");
        assert_eq!(answer.header("allow"), Some("POST"), "{method}");
    }
}

#[tokio::test]
async fn targets_that_are_no_paths() {
    let server = start(Limits::default()).await;
    for (method, target) in [
        ("OPTIONS", "*"),
        ("CONNECT", "example.com:443"),
        ("POST", "http://example.com"),
        ("POST", "/v1//test/echo"),
        ("POST", "/v1/../v1/test/echo"),
        ("POST", "//"),
        ("POST", "/?x=%zz"),
        ("GET", "/.git/config"),
    ] {
        let answer = server.send(&request(method, target, "", b"")).await;
        answer.assert_error(404, "NOT_FOUND");
    }
    let absolute = server
        .post("http://example.com/v1/test/echo?a=b", br#"{"json":{"name":"x"}}"#)
        .await;
    assert_eq!(absolute.status, 200);
}

#[tokio::test]
async fn bodies_that_are_refused() {
    let server = start(Limits::default()).await;
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin1",
    ] {
        let headers = format!("content-type: {kind}\r\n");
        let answer = server
            .send(&request("POST", "/v1/test/echo", &headers, b"{}"))
            .await;
        answer.assert_error(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    server
        .send(&request("POST", "/v1/test/echo", "", b"{}"))
        .await
        .assert_error(415, "UNSUPPORTED_MEDIA_TYPE");

    let bomb = "[".repeat(10_000);
    let nested_bomb = format!(
        "{{\"json\":{{\"name\":\"x\",\"deep\":{}}}}}",
        "{\"a\":".repeat(10_000)
    );
    for (body, message) in [
        (&b"{\"json\": {\n \"name\": \"x\",}}"[..], "line 2 column 14"),
        (b"{\"json\":{\"name\":\"\xff\xfe\"}}", "not valid UTF-8"),
        (
            b"{\"json\":{\"name\":\"x\",\"count\":1e400}}",
            "number out of range",
        ),
        (b"{\"json\":{\"name\":\"x\",\"name\":\"y\"}}", "given twice"),
        (b"{\"json\":{\"name\":\"x\"", "EOF"),
        (b"{\"json\":5}", "must be an object, got 5"),
        (b"{\"name\":\"x\"}", "goes inside"),
        (b"\"json\"", "must be an object"),
        (bomb.as_bytes(), "levels deep"),
        (nested_bomb.as_bytes(), "levels deep"),
    ] {
        let answer = server.post("/v1/test/echo", body).await;
        answer.assert_error(400, "BAD_REQUEST");
        assert!(
            answer.message().contains(message),
            "{message}: {}",
            answer.message()
        );
    }
}

#[tokio::test]
async fn the_size_of_a_body_is_the_route_s() {
    let server = start(Limits::default()).await;
    let sized = |bytes: usize| {
        let frame = br#"{"json":{"name":"x","deep":{"a":""}}}"#.len();
        format!(
            r#"{{"json":{{"name":"x","deep":{{"a":"{}"}}}}}}"#,
            "a".repeat(bytes - frame)
        )
        .into_bytes()
    };
    for (path, limit) in [
        ("/v1/test/echo", 1 << 20),
        ("/v1/test/small", 100),
        ("/v1/test/large", 3 << 20),
    ] {
        assert_eq!(server.post(path, &sized(limit)).await.status, 200, "{path}");
        let refused = server.post(path, &sized(limit + 1)).await;
        refused.assert_error(413, "PAYLOAD_TOO_LARGE");
    }
    // Twenty times the limit, all of it sent: the client still sees the answer rather than a broken pipe.
    server
        .post("/v1/test/echo", &sized(20 << 20))
        .await
        .assert_error(413, "PAYLOAD_TOO_LARGE");
    // Without a length, in chunks.
    let mut chunked = b"POST /v1/test/small HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
        transfer-encoding: chunked\r\n\r\n"
        .to_vec();
    for _ in 0..3 {
        chunked.extend_from_slice(format!("28\r\n{}\r\n", " ".repeat(40)).as_bytes());
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    server.send(&chunked).await.assert_error(413, "PAYLOAD_TOO_LARGE");
    // A length that is a lie, from a client that waits for leave to send: refused at once.
    let waiting = b"POST /v1/test/echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
        content-length: 99999999999\r\nexpect: 100-continue\r\n\r\n";
    server.send(waiting).await.assert_error(413, "PAYLOAD_TOO_LARGE");
}

#[tokio::test]
async fn a_slow_header_is_cut_and_a_slow_body_is_told() {
    let server = start(short_limits()).await;
    let mut idle = server.connect().await;
    let mut slow = server.connect().await;
    slow.write_all(b"POST /v1/test/echo HTTP/1.1\r\nhost:")
        .await
        .unwrap();
    let started = Instant::now();
    assert_closed(&mut idle).await;
    assert_closed(&mut slow).await;
    assert!(started.elapsed() < Duration::from_secs(5));

    let mut body = server.connect().await;
    let head = b"POST /v1/test/small HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{";
    body.write_all(head).await.unwrap();
    read_answer(&mut body).await.assert_error(408, "TIMEOUT");
    assert_closed(&mut body).await;
}

#[tokio::test]
async fn a_client_that_takes_no_answer_loses_its_slot() {
    let limits = Limits {
        connections: 1,
        write_stall: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = start(limits).await;
    let mut greedy = server.connect().await;
    let body = json!({"json": {"name": "x", "deep": {"a": "a".repeat(2 << 20)}}}).to_string();
    let ask = request(
        "POST",
        "/v1/test/large",
        "content-type: application/json\r\n",
        body.as_bytes(),
    );
    // It asks for megabytes until the server no longer takes its requests either, and reads nothing.
    let asking = async { while greedy.write_all(&ask).await.is_ok() {} };
    let _ = tokio::time::timeout(Duration::from_secs(2), asking).await;
    server.post("/v1/none", b"").await.assert_error(404, "NOT_FOUND");
    drop(greedy);
}

#[tokio::test]
async fn a_panic_and_an_internal_error_tell_nothing_but_the_request_id() {
    let server = start(Limits::default()).await;
    for path in ["/v1/test/panic", "/v1/test/internal"] {
        let answer = server.post(path, b"").await;
        answer.assert_error(500, "INTERNAL_SERVER_ERROR");
        assert!(!answer.body.to_string().contains("1234"));
        assert!(
            answer.message().contains(answer.header("x-request-id").unwrap()),
            "{}",
            answer.message()
        );
    }
    let foreign = server.post("/v1/test/plain", b"").await;
    assert_eq!(foreign.body["json"]["code"], json!("BAD_REQUEST"));
    assert_eq!(
        server
            .post("/v1/test/echo", br#"{"json":{"name":"x"}}"#)
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_sane_request_id_is_kept() {
    let server = start(Limits::default()).await;
    let with = async |id: &str| {
        let answer = server
            .send(&request(
                "POST",
                "/v1/none",
                &format!("x-request-id: {id}\r\n"),
                b"",
            ))
            .await;
        answer.header("x-request-id").unwrap().to_owned()
    };
    for kept in ["abc-123", "~!{}", &"x".repeat(128)] {
        assert_eq!(with(kept).await, kept);
    }
    for replaced in ["", "two words", "caf\u{e9}", &"x".repeat(129)] {
        let id = with(replaced).await;
        assert_eq!(id.len(), 36, "{replaced:?} became {id:?}");
    }
    assert_ne!(with("").await, with("").await);
}

#[tokio::test]
async fn requests_share_a_connection_one_after_another_or_at_once() {
    let server = start(Limits::default()).await;
    let mut stream = server.connect().await;
    let named = |name: &str| {
        let body = json!({"json": {"name": name}}).to_string();
        request(
            "POST",
            "/v1/test/echo",
            "content-type: application/json\r\n",
            body.as_bytes(),
        )
    };
    for name in ["a", "b"] {
        stream.write_all(&named(name)).await.unwrap();
        assert_eq!(read_answer(&mut stream).await.body["json"]["name"], json!(name));
    }
    // An error does not end the connection either.
    let batch = [
        named("c"),
        named("far too long a name"),
        request("GET", "/v1/test/echo", "", b""),
        named("d"),
    ]
    .concat();
    stream.write_all(&batch).await.unwrap();
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(read_answer(&mut stream).await.status);
    }
    assert_eq!(statuses, [200, 400, 405, 200]);
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_for_their_turn() {
    let server = start(Limits {
        connections: 1,
        ..Limits::default()
    })
    .await;
    let mut first = server.connect().await;
    first
        .write_all(&request("POST", "/v1/test/gate", "", b""))
        .await
        .unwrap();
    server.entered.notified().await;
    let mut second = server.connect().await;
    second
        .write_all(&request("POST", "/v1/none", "", b""))
        .await
        .unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), second.read_u8()).await;
    assert!(
        early.is_err(),
        "the second connection was served beside the first"
    );
    server.go_on.notify_one();
    assert_eq!(read_answer(&mut first).await.status, 200);
    drop(first);
    assert_eq!(read_answer(&mut second).await.status, 404);
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_nothing() {
    let server = start(Limits {
        connections: 1,
        ..Limits::default()
    })
    .await;
    let mut stream = server.connect().await;
    stream
        .write_all(&request("POST", "/v1/test/gate", "", b""))
        .await
        .unwrap();
    server.entered.notified().await;
    drop(stream);
    // The only slot is free again, so the connection is gone, and with it whatever it would have cancelled.
    assert_eq!(server.post("/v1/none", b"").await.status, 404);
    server.go_on.notify_one();
    tokio::time::timeout(PATIENCE, server.finished.notified())
        .await
        .expect("the handler goes on to its end");
}

#[tokio::test]
async fn a_shutdown_answers_what_has_begun_and_takes_nothing_new() {
    // No other limit may do what the shutdown must.
    let hour = Duration::from_secs(3600);
    let server = start(Limits {
        header_time: hour,
        drain_time: hour,
        ..Limits::default()
    })
    .await;
    let mut idle = server.connect().await;
    let mut busy = server.connect().await;
    busy.write_all(&request("POST", "/v1/test/gate", "", b""))
        .await
        .unwrap();
    server.entered.notified().await;
    server.shutdown.cancel();
    assert_closed(&mut idle).await;
    assert!(!server.serving.is_finished());
    server.go_on.notify_one();
    let answer = read_answer(&mut busy).await;
    assert_eq!(answer.status, 200);
    assert_closed(&mut busy).await;
    tokio::time::timeout(PATIENCE, server.serving)
        .await
        .expect("serve ends")
        .unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_shutdown_ends_at_its_deadline() {
    let server = start(short_limits()).await;
    let mut busy = server.connect().await;
    busy.write_all(&request("POST", "/v1/test/gate", "", b""))
        .await
        .unwrap();
    server.entered.notified().await;
    server.shutdown.cancel();
    tokio::time::timeout(PATIENCE, server.serving)
        .await
        .expect("serve ends")
        .unwrap();
    assert_closed(&mut busy).await;
}
