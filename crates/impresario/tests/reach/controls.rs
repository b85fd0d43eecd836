//! That the rest means something: the canary hears, the kernel counts, and what is open is reached.

use std::net::{SocketAddr, TcpStream};

use crate::{
    canary::{Canary, PUBLIC_V4, PUBLIC_V6, at},
    counters::Counters,
    dns::{Answer, Dns},
    namespace::{inside, inside_with},
    sending::{assert_refused, post, sender},
};

#[test]
fn the_canary_and_the_kernel_notice_what_is_connected_to() {
    inside(
        "controls::the_canary_and_the_kernel_notice_what_is_connected_to",
        || {
            let canary = Canary::start();
            for (ip, port) in [
                ("169.254.169.254", 80),
                ("fd00:ec2::254", 80),
                ("10.20.30.40", 443),
                ("168.63.129.16", 8080),
                ("127.0.0.1", 22),
                ("240.0.0.1", 6379),
                ("64:ff9b::7f00:1", 65535),
                (PUBLIC_V4, 1),
                (PUBLIC_V6, 9200),
            ] {
                let before = Counters::read();
                let stream = TcpStream::connect(at(ip, port)).unwrap();
                drop(stream);
                assert_eq!(canary.take(1), [at(ip, port)]);
                let sent = before.since();
                assert_eq!((sent.opens, sent.datagrams), (1, 0));
                assert!(sent.packets >= 3, "{sent:?}");
            }
            let before = Counters::read();
            let socket = std::net::UdpSocket::bind("[::]:0").unwrap();
            for to in ["169.254.169.254:443", "[fd00:ec2::254]:443"] {
                let to: SocketAddr = to.parse().unwrap();
                let mapped = match to {
                    SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
                    SocketAddr::V6(_) => to,
                };
                socket.send_to(b"x", mapped).unwrap();
            }
            assert_eq!(before.since().datagrams, 2);
            canary.assert_silence("datagrams are for the kernel to count");
        },
    );
}

#[test]
fn what_is_public_is_reached() {
    inside("controls::what_is_public_is_reached", || {
        let (canary, dns) = (Canary::start(), Dns::start());
        let sender = sender(&[]);
        for (url, to) in [
            ("http://93.184.215.14/", at(PUBLIC_V4, 80)),
            ("http://0x5db8d70e:8080/", at(PUBLIC_V4, 8080)),
            ("http://[2606:4700::1111]:9200/", at(PUBLIC_V6, 9200)),
        ] {
            let before = Counters::read();
            let result = post(&sender, url);
            assert!(result.delivered(), "{url}: {result:?}");
            assert_eq!(canary.take(1), [to]);
            assert_eq!(before.since().opens, 1, "{url}");
        }
        for public in [PUBLIC_V4, PUBLIC_V6] {
            for answer in [
                Answer::of(&[public]),
                Answer::Alias(vec![public.parse().unwrap()]),
            ] {
                dns.tell("hooks.test", vec![answer]);
                let result = post(&sender, "http://hooks.test:8080/");
                assert!(result.delivered(), "{public}: {result:?}");
                assert_eq!(result.response_excerpt.as_deref(), Some("heard"));
                assert_eq!(canary.take(1), [at(public, 8080)]);
            }
        }
    });
}

#[test]
fn a_list_opens_what_it_names_and_no_more() {
    inside("controls::a_list_opens_what_it_names_and_no_more", || {
        let (canary, dns) = (Canary::start(), Dns::start());
        let by_name = |ip: &str| {
            dns.tell("hooks.test", vec![Answer::of(&[ip])]);
            "http://hooks.test:8080/".to_owned()
        };
        let literal = |ip: &str| match ip.contains(':') {
            true => format!("http://[{ip}]:8080/"),
            false => format!("http://{ip}:8080/"),
        };
        let expect = |allowed: &[&str], open: &[&str], shut: &[&str]| {
            let sender = sender(allowed);
            for ip in open {
                for url in [literal(ip), by_name(ip)] {
                    let result = post(&sender, &url);
                    assert!(result.delivered(), "{ip}: {result:?}");
                    assert_eq!(canary.take(1), [at(ip, 8080)]);
                }
            }
            for ip in shut {
                for url in [literal(ip), by_name(ip)] {
                    let before = Counters::read();
                    assert_refused(&post(&sender, &url), ip);
                    assert_eq!(before.since().opens, 0, "{ip}");
                }
            }
            canary.assert_silence("what is shut");
        };
        let loopback = ["127.0.0.1", "127.0.0.2", "127.255.255.254", PUBLIC_V4, PUBLIC_V6];
        let others = [
            "10.0.0.1",
            "126.0.0.0",
            "128.0.0.0",
            "169.254.169.254",
            "::1",
            "::ffff:127.0.0.1",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::1",
        ];
        // The two beside 127.0.0.0/8 are public.
        let (beside, others): (Vec<_>, Vec<_>) = others.iter().partition(|ip| ip.ends_with(".0.0.0"));
        expect(&["127.0.0.0/8"], &[&loopback[..], &beside].concat(), &others);
        let metadata = [
            "169.254.169.254",
            "169.254.170.2",
            "168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd20:ce::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
        ];
        expect(
            &["169.254.0.0/16"],
            &["169.254.1.1"],
            &[&metadata[..], &["127.0.0.1"]].concat(),
        );
        expect(
            &["0.0.0.0/0", "::/0"],
            &[
                "127.0.0.1",
                "10.0.0.1",
                "169.254.1.1",
                "::1",
                "fd12::1",
                "64:ff9b::7f00:1",
            ],
            &metadata,
        );
    });
}

/// The kernel takes 0.0.0.0 for 127.0.0.1. Whoever opened the one did not open the other, so what that says is not shown.
#[test]
fn a_peer_that_is_another_than_was_asked_for_is_not_shown() {
    inside(
        "controls::a_peer_that_is_another_than_was_asked_for_is_not_shown",
        || {
            let (canary, dns) = (Canary::start(), Dns::start());
            let sender = sender(&["0.0.0.0/32"]);
            dns.tell("hooks.test", vec![Answer::of(&["0.0.0.0"])]);
            for url in ["http://0.0.0.0:8080/", "http://hooks.test:8080/"] {
                assert_refused(&post(&sender, url), url);
                assert_eq!(canary.take(1), [at("127.0.0.1", 8080)]);
            }
        },
    );
}

/// A proxy would connect to whatever it is asked for, with no gate between.
#[test]
fn no_proxy_of_the_environment_is_used() {
    let proxy = "http://10.9.8.7:3128";
    let variables = [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ]
    .map(|name| (name, proxy));
    inside_with(
        "controls::no_proxy_of_the_environment_is_used",
        &variables,
        || {
            let (canary, dns) = (Canary::start(), Dns::start());
            let sender = sender(&[]);
            dns.tell("hooks.test", vec![Answer::of(&[PUBLIC_V4])]);
            for (url, to) in [
                ("http://hooks.test:8080/", at(PUBLIC_V4, 8080)),
                ("http://[2606:4700::1111]:8080/", at(PUBLIC_V6, 8080)),
            ] {
                let before = Counters::read();
                let result = post(&sender, url);
                assert!(result.delivered(), "{url}: {result:?}");
                assert_eq!(canary.take(1), [to], "not the proxy");
                assert_eq!(before.since().opens, 1);
            }
            // No TLS comes about with the canary, which is all the same: where it went is what counts.
            let result = post(&sender, "https://hooks.test:8443/");
            assert!(!result.delivered(), "{result:?}");
            assert_eq!(canary.take(1), [at(PUBLIC_V4, 8443)]);
        },
    );
}
