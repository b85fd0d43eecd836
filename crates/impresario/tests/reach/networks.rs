//! Networks that swallow, forbid or lose what is sent into them: each attempt ends in time, with the class it should have.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use impresario::delivery::http::{ErrorClass, Limits};

use crate::{
    canary::{Canary, at},
    dns::{Answer, Dns},
    namespace::{inside, ip},
    sending::{attempt, block_on, class, with_limits},
};

const CONNECT: Duration = Duration::from_millis(2_000);
const LIMITS: Limits = Limits {
    connect: CONNECT,
    whole: Duration::from_millis(5_000),
};

/// Somebody who never answers a SYN: a listener whose queue is full, of which the kernel drops every further one.
struct Silent {
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Silent {
    fn at(address: &str) -> Self {
        own(address);
        fs::write("/proc/sys/net/core/somaxconn", "0").unwrap();
        let listener = TcpListener::bind(address).unwrap();
        let to: SocketAddr = address.parse().unwrap();
        let mut waiting = Vec::new();
        for _ in 0..8 {
            match TcpStream::connect_timeout(&to, Duration::from_millis(200)) {
                Ok(stream) => waiting.push(stream),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{address}");
                    return Self {
                        _listener: listener,
                        _waiting: waiting,
                    };
                }
            }
        }
        panic!("{address} has room for more than 8 connections");
    }
}

/// Makes an address the machine's own where that takes more than a route: a listener at an address of IPv6.
fn own(address: &str) -> SocketAddr {
    let address: SocketAddr = address.parse().unwrap();
    if address.is_ipv6() {
        ip(&format!("-6 addr add {}/128 dev lo nodad", address.ip()));
    }
    address
}

#[test]
fn a_network_without_a_way_is_a_failed_connection_at_once() {
    inside(
        "networks::a_network_without_a_way_is_a_failed_connection_at_once",
        || {
            let dns = Dns::start();
            for (kind, place) in [
                ("blackhole", 1),
                ("prohibit", 2),
                ("unreachable", 3),
                ("throw", 4),
            ] {
                ip(&format!("route add {kind} 93.184.{place}.0/24 table local"));
                ip(&format!("-6 route add {kind} 2606:4700:{place}::/48 table local"));
            }
            let sender = with_limits(&[], LIMITS);
            block_on(async {
                for place in 1..=5 {
                    // The fifth has a way, and nobody listens.
                    let (v4, v6) = (format!("93.184.{place}.1"), format!("2606:4700:{place}::1"));
                    dns.tell("hooks.test", vec![Answer::of(&[&v4, &v6])]);
                    for url in [
                        format!("http://{v4}:8080/?token=in-the-query"),
                        format!("http://[{v6}]:8080/?token=in-the-query"),
                        format!("https://{v4}:8443/?token=in-the-query"),
                        "http://hooks.test:8080/?token=in-the-query".to_owned(),
                    ] {
                        let start = Instant::now();
                        let result = sender.post(&attempt(&url)).await;
                        assert_eq!(class(&result), Some(ErrorClass::Connect), "{url}: {result:?}");
                        assert!(start.elapsed() < CONNECT, "{url}: {:?}", start.elapsed());
                        let message = result.error.unwrap().message;
                        assert!(!message.contains("token"), "{message}");
                    }
                }
            });
        },
    );
}

#[test]
fn a_network_that_swallows_everything_ends_at_the_deadline() {
    inside(
        "networks::a_network_that_swallows_everything_ends_at_the_deadline",
        || {
            let dns = Dns::start();
            let addresses = ["93.184.1.1", "93.184.1.2", "2606:4700:1::1", "2606:4700:1::2"];
            let _silent = [
                Silent::at("93.184.1.1:8080"),
                Silent::at("93.184.1.2:8080"),
                Silent::at("[2606:4700:1::1]:8080"),
                Silent::at("[2606:4700:1::2]:8080"),
            ];
            dns.tell("hooks.test", vec![Answer::of(&addresses)]);
            let sender = with_limits(&[], LIMITS);
            let urls = [
                "http://93.184.1.1:8080/",
                "https://93.184.1.1:8080/",
                "http://[2606:4700:1::1]:8080/",
                // However many addresses a name has, they share one deadline.
                "http://hooks.test:8080/",
            ];
            block_on(async {
                let attempts = urls.map(|url| {
                    let sender = &sender;
                    async move {
                        let start = Instant::now();
                        let result = sender.post(&attempt(url)).await;
                        (url, result, start.elapsed())
                    }
                });
                for (url, result, took) in futures_util::future::join_all(attempts).await {
                    assert_eq!(class(&result), Some(ErrorClass::Timeout), "{url}: {result:?}");
                    assert!(
                        (CONNECT * 9 / 10..LIMITS.whole).contains(&took),
                        "{url}: {took:?}"
                    );
                }
            });
        },
    );
}

#[test]
fn an_address_that_does_not_answer_keeps_nobody_from_the_next() {
    inside(
        "networks::an_address_that_does_not_answer_keeps_nobody_from_the_next",
        || {
            // Before the queues are made short.
            let canary = Canary::only_at(["93.184.3.1:8080", "[2606:4700:3::1]:8080"].map(own));
            let dns = Dns::start();
            ip("route add unreachable 93.184.2.0/24 table local");
            let _silent = [Silent::at("93.184.1.1:8080"), Silent::at("[2606:4700:1::1]:8080")];
            let sender = with_limits(&[], LIMITS);
            for (addresses, good) in [
                (vec!["93.184.2.1", "93.184.3.1"], "93.184.3.1"),
                (vec!["93.184.1.1", "93.184.3.1"], "93.184.3.1"),
                (vec!["2606:4700:1::1", "93.184.3.1"], "93.184.3.1"),
                (vec!["93.184.1.1", "2606:4700:3::1"], "2606:4700:3::1"),
            ] {
                dns.tell("hooks.test", vec![Answer::of(&addresses)]);
                block_on(async {
                    let start = Instant::now();
                    let result = sender.post(&attempt("http://hooks.test:8080/")).await;
                    assert!(result.delivered(), "{addresses:?}: {result:?}");
                    assert!(start.elapsed() < CONNECT, "{addresses:?}: {:?}", start.elapsed());
                });
                assert_eq!(canary.take(1), [at(good, 8080)]);
            }
        },
    );
}

/// A handshake belongs to the connection: whoever accepts and then says nothing has no longer than whoever does not accept.
#[test]
fn a_handshake_that_hangs_ends_at_the_deadline_for_the_connection() {
    inside(
        "networks::a_handshake_that_hangs_ends_at_the_deadline_for_the_connection",
        || {
            let _listener = TcpListener::bind("93.184.1.1:8443").unwrap();
            let sender = with_limits(&[], LIMITS);
            block_on(async {
                let start = Instant::now();
                let result = sender.post(&attempt("https://93.184.1.1:8443/")).await;
                assert_eq!(class(&result), Some(ErrorClass::Timeout), "{result:?}");
                assert!(
                    (CONNECT * 9 / 10..LIMITS.whole).contains(&start.elapsed()),
                    "{:?}",
                    start.elapsed()
                );
            });
        },
    );
}
