//! Where callbacks must not go: a table of addresses times the notations in which a URL can have them, and what does
//! not fit a table ([`oddities`](crate::oddities)).

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::Stdio,
};

use url::{Host, Url};

use crate::{
    canary::{PORTS, PUBLIC_V4},
    oddities,
    support::process,
};

/// What becomes of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Refused, and an operator can open it.
    Shut,
    /// Refused, and nobody can open it.
    Metadata,
    /// As [`Shut`](Self::Shut) for the sender, but written in a way that the API refuses before it looks at the address.
    Slip,
    /// No callback URL at all.
    NotAUrl,
    /// A name of which only a name server can tell: the API takes it, and it is refused at each attempt.
    Name,
}

/// A URL and what becomes of it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) url: String,
    pub(crate) verdict: Verdict,
}

impl Case {
    pub(crate) fn new(url: impl Into<String>, verdict: Verdict) -> Self {
        Self {
            url: url.into(),
            verdict,
        }
    }
}

/// IPv4 that is not public, with both ends of what is forbidden where that has ends.
const V4: [&str; 42] = [
    "0.0.0.0", // this network; reaches loopback
    "0.255.255.255",
    "10.0.0.0", // private
    "10.20.30.40",
    "10.255.255.255",
    "100.64.0.0", // shared by carriers
    "100.127.255.255",
    "127.0.0.1", // loopback
    "127.0.0.53",
    "127.255.255.254",
    "169.254.0.1", // link-local
    "169.254.255.255",
    "172.16.0.1", // private
    "172.17.0.1",
    "172.31.255.255",
    "192.0.0.1", // protocol assignments
    "192.0.0.170",
    "192.0.2.1",    // documentation
    "192.31.196.1", // AS112
    "192.175.48.1",
    "192.52.193.1", // AMT relays
    "192.88.99.1",  // 6to4 relays
    "192.168.0.1",  // private
    "192.168.255.255",
    "198.18.0.1", // benchmarks
    "198.19.255.255",
    "198.51.100.7", // documentation
    "203.0.113.9",
    "224.0.0.1", // multicast
    "239.255.255.250",
    "240.0.0.1",       // reserved
    "255.255.255.255", // everybody
    // Metadata services.
    "169.254.169.254",
    "169.254.169.253",
    "169.254.170.2",
    "169.254.170.23",
    "169.254.42.42",
    "169.254.0.23",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "169.254.169.250",
];
/// The last so many of [`V4`] are metadata services.
const METADATA_V4: usize = 10;

/// IPv6 that is not public and embeds nothing.
const V6: [&str; 33] = [
    "::",
    "::1",
    "100::1",       // discard only
    "100:0:0:1::1", // dummy
    "200::1",       // once NSAP
    "400::1",
    "1fff:ffff::1",  // the last before what is handed out
    "2001:1::1",     // protocol assignments
    "2001:2::1",     // benchmarks
    "2001:3::1",     // AMT
    "2001:4:112::1", // AS112
    "2001:10::1",    // ORCHID
    "2001:20::1",
    "2001:30::1", // drones
    "2001:1ff:ffff::1",
    "2001:db8::1",     // documentation
    "2620:4f:8000::1", // AS112
    "3fff::1",         // documentation
    "4000::1",         // the first after what is handed out
    "5f00::1",         // segment routing
    "8000::1",
    "fc00::1", // unique local
    "fd12:3456:789a::1",
    "fe80::1", // link-local
    "fe80::5efe:10.0.0.1",
    "fec0::1", // site-local
    "ff02::1", // multicast
    "ff0e::1",
    // Metadata services.
    "fd00:ec2::254",
    "fd20:ce::254",
    "fd00:42::42",
    "fd00:c1::a9fe:a9fe",
    "fe80::a9fe:a9fe",
];
/// The last so many of [`V6`] are metadata services.
const METADATA_V6: usize = 5;

/// Every forbidden address, and whether it is a metadata service.
pub(crate) fn addresses() -> Vec<(IpAddr, bool)> {
    let mut all = Vec::new();
    for (place, text) in V4.iter().enumerate() {
        let metadata = place >= V4.len() - METADATA_V4;
        let ip: Ipv4Addr = text.parse().unwrap();
        all.push((ip.into(), metadata));
        all.extend(wrappings(ip).map(|wrapped| (wrapped.into(), metadata)));
    }
    // What wraps a public address is none: where it ends is for whoever unwraps it to say.
    for text in [PUBLIC_V4, "8.8.8.8"] {
        all.extend(wrappings(text.parse().unwrap()).map(|wrapped| (wrapped.into(), false)));
    }
    for (place, text) in V6.iter().enumerate() {
        all.push((text.parse().unwrap(), place >= V6.len() - METADATA_V6));
    }
    // `::0.0.0.0` and the like are in both tables.
    let mut seen = std::collections::HashSet::new();
    all.retain(|(ip, _)| seen.insert(*ip));
    all
}

/// The addresses of IPv6 that mean this one to a stack, a translator or a tunnel.
fn wrappings(ip: Ipv4Addr) -> [Ipv6Addr; 10] {
    let bits = ip.to_bits();
    let [a, b] = [(bits >> 16) as u16, (bits & 0xffff) as u16];
    let [o0, o1, o2, o3] = ip.octets().map(u16::from);
    [
        // v4-mapped, v4-compatible, v4-translated
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, a, b),
        Ipv6Addr::new(0, 0, 0, 0, 0, 0, a, b),
        Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, a, b),
        // 6to4, Teredo
        Ipv6Addr::new(0x2002, a, b, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0x2001, 0, 0x4136, 0xe378, 0x8000, 0x63bf, !a, !b),
        // NAT64, well known; and for local use, with prefixes of 96, 64, 56 and 48 bits
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a, b),
        Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, a, b),
        Ipv6Addr::new(0x64, 0xff9b, 1, 0, o0, o1 << 8 | o2, o3 << 8, 0),
        Ipv6Addr::new(0x64, 0xff9b, 1, o0, o1, o2 << 8 | o3, 0, 0),
        Ipv6Addr::new(0x64, 0xff9b, 1, a, o2, o3 << 8, 0, 0),
    ]
}

/// Every notation of an IPv4 address that the URL standard reads as one.
fn v4_notations(ip: Ipv4Addr) -> Vec<String> {
    let bits = ip.to_bits();
    let [a, b, c, d] = ip.octets();
    let dotted = ip.to_string();
    let digits = |zero: char| -> String {
        let digit = |c: char| match c.to_digit(10) {
            Some(digit) => char::from_u32(u32::from(zero) + digit).unwrap(),
            None => c,
        };
        dotted.chars().map(digit).collect()
    };
    let percent = |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02X}")).collect() };
    vec![
        dotted.clone(),
        format!("{dotted}."),
        format!("{bits}"),
        format!("{bits:#x}"),
        format!("0X{bits:016X}"),
        format!("0{bits:o}"),
        format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}."),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("0000000{a:o}.{b}.0{c:o}.{d:#04x}"),
        format!("{a:#x}.0{b:o}.{}", bits & 0xffff),
        format!("{a}.{:#x}", bits & 0xff_ffff),
        percent(&dotted),
        digits('０').replace('.', "。"),
        digits('𝟎').replace('.', "｡"),
        percent(&digits('０').replace('.', "．")),
        // A circled nought is apart from the other circled digits.
        dotted
            .chars()
            .map(|c| match c {
                '0' => '⓪',
                '1'..='9' => char::from_u32(u32::from('①') + u32::from(c) - u32::from('1')).unwrap(),
                c => c,
            })
            .collect(),
    ]
}

fn v6_notations(ip: Ipv6Addr) -> Vec<String> {
    let segments = ip.segments();
    let whole = segments.map(|segment| format!("{segment:04X}")).join(":");
    let head = segments[..6].iter().map(|segment| format!("{segment:x}"));
    let head = head.collect::<Vec<_>>().join(":");
    let [.., a, b, c, d] = ip.octets();
    vec![
        format!("[{ip}]"),
        format!("[{whole}]"),
        format!("[{head}:{a}.{b}.{c}.{d}]"),
    ]
}

/// The whole corpus. The ports and the schemes go round, so that each address meets several.
pub(crate) fn corpus() -> Vec<Case> {
    let mut all = Vec::new();
    for (ip, metadata) in addresses() {
        let notations = match ip {
            IpAddr::V4(ip) => v4_notations(ip),
            IpAddr::V6(ip) => v6_notations(ip),
        };
        for host in notations {
            let (scheme, port) = AUTHORITIES[all.len() % AUTHORITIES.len()];
            let verdict = if metadata {
                Verdict::Metadata
            } else {
                Verdict::Shut
            };
            all.push(Case::new(format!("{scheme}://{host}{port}/hook?n=1"), verdict));
        }
    }
    all.extend(oddities::oddities());
    all
}

/// Schemes in every case, and ports that the canary has.
const AUTHORITIES: [(&str, &str); 13] = [
    ("http", ""),
    ("https", ""),
    ("HTTP", ":8080"),
    ("http", ":22"),
    ("hTTps", ":8443"),
    ("http", ":6379"),
    ("http", ":1"),
    ("https", ":25"),
    ("http", ":65535"),
    ("http", ":9200"),
    ("http", ":00988"),
    ("http", ":"),
    ("https", ":80"),
];

#[test]
fn the_corpus_is_large_and_says_what_it_seems_to_say() {
    let corpus = corpus();
    let different: std::collections::HashSet<_> = corpus.iter().map(|case| &case.url).collect();
    println!(
        "{} different URLs, {} addresses",
        different.len(),
        addresses().len()
    );
    assert!(different.len() >= 500 && different.len() == corpus.len());
    let mut urls = corpus.iter();
    for (ip, _) in addresses() {
        let count = if ip.is_ipv4() { 16 } else { 3 };
        for case in urls.by_ref().take(count) {
            let url = Url::parse(&case.url).unwrap();
            let host: IpAddr = match url.host().unwrap() {
                Host::Ipv4(ip) => ip.into(),
                Host::Ipv6(ip) => ip.into(),
                Host::Domain(name) => panic!("{} is read as the name {name}", case.url),
            };
            assert_eq!(host, ip, "{}", case.url);
        }
    }
    // The canary has to be where a callback would go.
    for case in corpus.iter().filter(|case| case.verdict != Verdict::NotAUrl) {
        let url = Url::parse(&case.url).unwrap_or_else(|error| panic!("{:?}: {error}", case.url));
        let port = url.port_or_known_default().unwrap();
        assert!(port == 0 || PORTS.contains(&port), "{:?}", case.url);
    }
}

/// Node's is another implementation of the URL standard. What one of the two takes for an address and the other for
/// something else would be a way around the gate for whoever checks with the one and connects with the other.
#[test]
fn node_reads_the_same_hosts() {
    let corpus = corpus();
    let urls: Vec<&str> = corpus.iter().map(|case| case.url.as_str()).collect();
    let script = r#"
        const urls = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
        const read = (url) => { try { return new URL(url).host; } catch { return null; } };
        console.log(JSON.stringify(urls.map(read)));
    "#;
    let mut node = process::command(crate::support::server::node())
        .args(["-e", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = node.stdin.take().unwrap();
    stdin
        .write_all(serde_json::to_string(&urls).unwrap().as_bytes())
        .unwrap();
    drop(stdin);
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success());
    let theirs: Vec<Option<String>> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(theirs.len(), urls.len());
    for (url, theirs) in urls.iter().zip(theirs) {
        let ours = Url::parse(url).ok().map(|url| {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            format!("{}{port}", url.host_str().unwrap_or_default())
        });
        assert_eq!(ours, theirs, "{url:?}");
    }
}
