//! Receivers that do not answer as they should.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener},
    thread,
    time::{Duration, Instant},
};

use impresario::delivery::http::ErrorClass;
use tokio::io::AsyncReadExt as _;

use super::{LIMITS, Receiver, SECRET, class, post};

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
        excerpt.starts_with("\\x1f\u{fffd}") && !excerpt.contains("aaaa"),
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

#[tokio::test]
async fn a_reset_after_the_request_was_read_is_a_failure_and_nothing_is_sent_twice() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let receiver = async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        stream.set_zero_linger().unwrap();
        drop(stream);
        tokio::time::timeout(Duration::from_millis(500), listener.accept())
            .await
            .is_err()
    };
    let (result, once) = tokio::join!(post(&url), receiver);
    assert_eq!(
        (result.status, class(&result)),
        (None, Some(ErrorClass::Protocol)),
        "{result:?}"
    );
    assert!(
        result.error.unwrap().message.contains("reset"),
        "it says what happened"
    );
    assert!(once, "it came again");
}
