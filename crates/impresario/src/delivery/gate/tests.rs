use proptest::prelude::*;

use super::*;

fn gate(allowed: &[&str]) -> Gate {
    Gate::new(allowed.iter().map(|net| net.parse().unwrap()).collect())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn public_addresses_pass() {
    for public in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "192.175.47.255",
        "192.175.49.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2606:4700::1111",
        "2a00:1450::1",
        "2001:200::1",
        "2400::1",
        "2620:fe::fe",
    ] {
        assert!(gate(&[]).allows(ip(public)), "{public}");
    }
}

#[test]
fn everything_else_does_not() {
    for refused in [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.0.1",
        "169.254.169.254",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "192.175.48.6",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "100.100.100.200",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::ffff:0:8.8.8.8",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:2::1",
        "2001:10::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:808:808::1",
        "3fff::1",
        "5f00::1",
        "4000::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ] {
        assert!(!gate(&[]).allows(ip(refused)), "{refused}");
    }
}

#[test]
fn a_list_opens_exactly_what_it_names() {
    let gate = gate(&["127.0.0.1/32", "10.1.0.0/16", "fd12::/16"]);
    for open in ["127.0.0.1", "10.1.0.0", "10.1.255.255", "fd12::1", "8.8.8.8"] {
        assert!(gate.allows(ip(open)), "{open}");
    }
    for shut in [
        "127.0.0.2",
        "10.0.255.255",
        "10.2.0.0",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "fd13::1",
    ] {
        assert!(!gate.allows(ip(shut)), "{shut}");
    }
}

#[test]
fn no_list_opens_a_metadata_service() {
    let gate = gate(&["0.0.0.0/0", "::/0"]);
    assert!(gate.allows(ip("127.0.0.1")) && gate.allows(ip("::1")));
    for shut in [
        "169.254.169.254",
        "169.254.169.253",
        "169.254.170.2",
        "169.254.170.23",
        "169.254.42.42",
        "169.254.0.23",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fd00:42::42",
        "fd00:c1::a9fe:a9fe",
        "fe80::a9fe:a9fe",
        "::a9fe:a9fe",
        "::ffff:169.254.169.254",
        "::ffff:0:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "2001:0:1:2:3:4:5601:5601",
        "64:ff9b:1::a9fe:a9fe",
        "64:ff9b:1:a9fe:a9:fe00::",
        "64:ff9b:1:a9:fe:a9fe::",
        "64:ff9b:1:0:a9:fea9:fe00:0",
    ] {
        assert!(
            matches!(gate.judge(ip(shut)), Err(GateError::Metadata(_))),
            "{shut}"
        );
    }
}

#[test]
fn literals_are_judged_in_every_notation() {
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "0177.0.0.1",
        "0x7f.0.0.0x1",
        "127.0.0.1.",
        "0",
        "0.0.0.0",
        "%31%32%37.0.0.1",
        "127。0。0。1",
        "①②⑦.⓪.⓪.①",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fc00::1]",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "a.localhost",
        "①②⑦.1",
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "[::ffff:a9fe:a9fe]",
        "[fd00:ec2::254]",
        "10.0.0.1",
        "192.168.1.1",
        "100.64.0.1",
    ] {
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{host}:8080/hook?q=1");
            let refused = gate(&[]).check_url(&url);
            assert!(
                matches!(
                    refused,
                    Err(GateError::Address(_) | GateError::LocalName(_) | GateError::Metadata(_))
                ),
                "{url}: {refused:?}"
            );
        }
    }
}

#[test]
fn what_is_no_callback_url_is_refused_with_a_reason() {
    let refuse = |url| gate(&[]).check_url(url).unwrap_err();
    for url in [
        "",
        "hook",
        "//example.com/",
        "http://",
        "http:///",
        "http://[::1",
        "http://1.2.3.4.5/",
        "http://a b/",
    ] {
        assert!(matches!(refuse(url), GateError::Malformed(_)), "{url}");
    }
    for url in [
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "data:,x",
        "javascript:1",
    ] {
        assert!(matches!(refuse(url), GateError::Scheme(_)), "{url}");
    }
    for url in [
        "http://user@example.com/",
        "https://:hunter2@example.com/",
        "http://u:p@127.0.0.1/",
    ] {
        assert_eq!(refuse(url), GateError::Userinfo, "{url}");
        assert!(!refuse(url).to_string().contains("hunter2"));
    }
}

#[test]
fn a_refusal_says_how_to_allow_it_and_that_then_works() {
    for (url, nets) in [
        ("http://0x7f.1/", vec!["127.0.0.1/32"]),
        ("http://localhost:9/", vec!["127.0.0.1/32", "::1/128"]),
    ] {
        let told = gate(&[]).check_url(url).unwrap_err().to_string();
        let bare: Vec<_> = nets.iter().filter_map(|net| net.split('/').next()).collect();
        assert!(told.contains(&format!("{SETTING}={}", bare.join(","))), "{told}");
        assert!(gate(&nets).check_url(url).is_ok());
    }
    let told = gate(&["169.254.0.0/16"])
        .check_url("http://169.254.169.254/")
        .unwrap_err()
        .to_string();
    assert!(told.contains("never"), "{told}");
}

#[test]
fn an_ordinary_url_comes_back_parsed() {
    let url = gate(&[]).check_url("https://Hooks.Example.com/a?b=c").unwrap();
    assert_eq!(url.as_str(), "https://hooks.example.com/a?b=c");
}

proptest! {
    /// What wraps an IPv4 address is never public, and what wraps a refused one opens for no reason of its own.
    #[test]
    fn no_wrapping_makes_an_address_public(bits: u32) {
        let [a, b] = [(bits >> 16) as u16, (bits & 0xffff) as u16];
        for wrapped in [
            Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, a, b),
            Ipv6Addr::new(0, 0, 0, 0, 0, 0, a, b),
            Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, a, b),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a, b),
            Ipv6Addr::new(0x2002, a, b, 0, 0, 0, 0, 0),
        ] {
            prop_assert!(!gate(&["0.0.0.0/0"]).allows(wrapped.into()), "{}", wrapped);
        }
    }

    /// A URL passes only if the address that a client would read in it passes.
    #[test]
    fn every_number_is_judged_as_the_address_it_is(bits: u32) {
        let ip = Ipv4Addr::from(bits);
        for text in [format!("{bits}"), format!("{bits:#x}"), format!("0{bits:o}"), ip.to_string()] {
            let passed = gate(&[]).check_url(&format!("http://{text}/")).is_ok();
            prop_assert_eq!(passed, gate(&[]).allows(ip.into()), "{}", text);
        }
    }

    #[test]
    fn check_url_never_panics(url in "(https?://)?\\PC{0,80}") {
        let _ = gate(&[]).check_url(&url);
    }
}
