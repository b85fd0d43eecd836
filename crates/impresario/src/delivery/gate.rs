//! Where a callback may go: in comes an address or a URL that a tenant chose, out goes yes or a reason.
//!
//! A tenant who can make the server post anywhere can make it talk to what only the server can reach: a database on
//! loopback, a router, the metadata service that hands out a cloud's credentials. So callbacks go to public addresses
//! only. What an operator lists is open as well, exactly as listed; metadata services stay shut even then.
//!
//! The gate is asked three times: when a URL is registered or called ([`Gate::check_url`]), for every address that its
//! name resolves to, at each attempt ([`Gate::allows`], so a name that changes its mind gains nothing), and for the
//! peer that answered.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// The setting that opens networks which are not public.
pub const SETTING: &str = "IMPRESARIO_ALLOW_PRIVATE_CALLBACKS";

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(head: [u16; 3], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(head[0], head[1], head[2], 0, 0, 0, 0, 0), prefix)
}

/// IPv4 that is not public: the special-purpose registry of IANA, multicast, and what is reserved.
const NOT_PUBLIC_V4: [Ipv4Net; 17] = [
    v4(0, 0, 0, 0, 8),       // this network; 0.0.0.0 reaches loopback
    v4(10, 0, 0, 0, 8),      // private
    v4(100, 64, 0, 0, 10),   // shared by carriers (CGNAT)
    v4(127, 0, 0, 0, 8),     // loopback
    v4(169, 254, 0, 0, 16),  // link-local
    v4(172, 16, 0, 0, 12),   // private
    v4(192, 0, 0, 0, 24),    // protocol assignments
    v4(192, 0, 2, 0, 24),    // documentation
    v4(192, 31, 196, 0, 24), // AS112
    v4(192, 52, 193, 0, 24), // AMT relays
    v4(192, 88, 99, 0, 24),  // 6to4 relays
    v4(192, 168, 0, 0, 16),  // private
    v4(192, 175, 48, 0, 24), // AS112
    v4(198, 18, 0, 0, 15),   // benchmarks
    v4(198, 51, 100, 0, 24), // documentation
    v4(203, 0, 113, 0, 24),  // documentation
    v4(224, 0, 0, 0, 3),     // multicast, reserved, broadcast
];

/// The only part of IPv6 that is handed out for use on the internet. Loopback, unique local, link-local, multicast,
/// NAT64 and the v4-mapped addresses all lie outside.
const PUBLIC_V6: Ipv6Net = v6([0x2000, 0, 0], 3);

/// What is not public inside [`PUBLIC_V6`].
const NOT_PUBLIC_V6: [Ipv6Net; 5] = [
    v6([0x2001, 0, 0], 23),         // protocol assignments: Teredo, benchmarks, ORCHID
    v6([0x2001, 0xdb8, 0], 32),     // documentation
    v6([0x2002, 0, 0], 16),         // 6to4, which embeds any IPv4
    v6([0x2620, 0x4f, 0x8000], 48), // AS112
    v6([0x3fff, 0, 0], 20),         // documentation
];

/// Metadata and credential services of the clouds. No list opens these: whoever allows 169.254.0.0/16 to reach one
/// device did not mean to hand out the machine's identity.
const METADATA_V4: [Ipv4Net; 7] = [
    v4(169, 254, 169, 0, 24), // 169.254.169.254 almost everywhere; Amazon's time and name services beside it
    v4(169, 254, 170, 0, 24), // Amazon's credentials for containers and pods
    v4(169, 254, 42, 42, 32), // Scaleway
    v4(169, 254, 0, 23, 32),  // Tencent
    v4(100, 100, 100, 200, 32), // Alibaba
    v4(192, 0, 0, 192, 32),   // Oracle
    v4(168, 63, 129, 16, 32), // Azure, on an address that looks public
];

const METADATA_V6: [Ipv6Net; 5] = [
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 64), // Amazon: ::254, ::23, ::123, ::253
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 128), // Google
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42), 128), // Scaleway
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe), 128), // Oracle
    Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe), 128), // OpenStack
];

/// Why a callback may not go to a URL. The messages are for the person who registers it, and repeat neither its user
/// information nor its path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// It does not parse, or has no host.
    #[error("is not a URL: {0}")]
    Malformed(url::ParseError),
    /// Its scheme is something else than http or https.
    #[error("must be an http or https URL, not `{0}:`")]
    Scheme(String),
    /// It carries a user name or a password.
    #[error("must not contain a user name or a password: callbacks are authenticated by their signature")]
    Userinfo,
    /// Its host is an address that is not public, in whatever notation.
    #[error("{0} is not a public address; an operator can allow it with {SETTING}={0}")]
    Address(IpAddr),
    /// Its host names the machine itself.
    #[error("`{0}` is this machine itself; an operator can allow it with {SETTING}=127.0.0.1,::1")]
    LocalName(String),
    /// Its host is a metadata service, or an address that embeds one.
    #[error(
        "{0} belongs to a cloud's metadata service, which callbacks never reach, whatever {SETTING} says"
    )]
    Metadata(IpAddr),
}

/// Decides where callbacks may go.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    allowed: Vec<IpNet>,
}

impl Gate {
    /// A gate that is open to public addresses and to the networks in `allowed`.
    #[must_use]
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed }
    }

    /// Whether a callback may connect to `ip`.
    ///
    /// An address that only wraps an IPv4 one (v4-mapped, 6to4, NAT64) is not public, and listing the inner address
    /// does not open the outer: the list means what it says.
    ///
    /// ```
    /// use impresario::delivery::gate::Gate;
    ///
    /// let gate = Gate::new(vec!["10.1.0.0/16".parse()?]);
    /// assert!(gate.allows("93.184.215.14".parse()?));
    /// assert!(gate.allows("10.1.2.3".parse()?));
    /// assert!(!gate.allows("10.2.2.3".parse()?));
    /// assert!(!gate.allows("::ffff:10.1.2.3".parse()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn allows(&self, ip: IpAddr) -> bool {
        self.judge(ip).is_ok()
    }

    /// Checks what can be known of a URL without asking a name server, and parses it. Addresses count in every
    /// notation: `http://0x7f.1/` is loopback. A host name still has to pass at each attempt, when it is resolved.
    ///
    /// # Errors
    /// [`GateError`], a sentence for the person who registers the URL.
    pub fn check_url(&self, url: &str) -> Result<Url, GateError> {
        let url = Url::parse(url).map_err(GateError::Malformed)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(GateError::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(GateError::Userinfo);
        }
        match url.host() {
            Some(Host::Ipv4(ip)) => self.judge(ip.into())?,
            Some(Host::Ipv6(ip)) => self.judge(ip.into())?,
            Some(Host::Domain(name)) => {
                let bare = name.trim_end_matches('.');
                let local = bare == "localhost" || bare.ends_with(".localhost");
                let open =
                    || self.allows(Ipv4Addr::LOCALHOST.into()) || self.allows(Ipv6Addr::LOCALHOST.into());
                if local && !open() {
                    return Err(GateError::LocalName(name.to_owned()));
                }
            }
            None => return Err(GateError::Malformed(url::ParseError::EmptyHost)),
        }
        Ok(url)
    }

    fn judge(&self, ip: IpAddr) -> Result<(), GateError> {
        if is_metadata(ip) {
            return Err(GateError::Metadata(ip));
        }
        if is_public(ip) || self.allowed.iter().any(|net| net.contains(&ip)) {
            return Ok(());
        }
        Err(GateError::Address(ip))
    }
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !NOT_PUBLIC_V4.iter().any(|net| net.contains(&ip)),
        IpAddr::V6(ip) => PUBLIC_V6.contains(&ip) && !NOT_PUBLIC_V6.iter().any(|net| net.contains(&ip)),
    }
}

fn is_metadata(ip: IpAddr) -> bool {
    let v4 = |ip: Ipv4Addr| METADATA_V4.iter().any(|net| net.contains(&ip));
    match ip {
        IpAddr::V4(ip) => v4(ip),
        IpAddr::V6(ip) => METADATA_V6.iter().any(|net| net.contains(&ip)) || embedded(ip).into_iter().any(v4),
    }
}

/// The IPv4 addresses that a translator or a tunnel on the way could make of an IPv6 one.
fn embedded(ip: Ipv6Addr) -> Vec<Ipv4Addr> {
    let o = ip.octets();
    let last = Ipv4Addr::new(o[12], o[13], o[14], o[15]);
    match ip.segments() {
        // v4-compatible, v4-mapped, v4-translated
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => vec![last],
        // 6to4
        [0x2002, ..] => vec![Ipv4Addr::new(o[2], o[3], o[4], o[5])],
        // Teredo: the client's address, inverted
        [0x2001, 0, ..] => vec![Ipv4Addr::new(!o[12], !o[13], !o[14], !o[15])],
        // NAT64, well known
        [0x64, 0xff9b, 0, ..] => vec![last],
        // NAT64, for local use: RFC 6052 places the address after a prefix of 48, 56, 64 or 96 bits, around octet 8
        [0x64, 0xff9b, 1, ..] => vec![
            Ipv4Addr::new(o[6], o[7], o[9], o[10]),
            Ipv4Addr::new(o[7], o[9], o[10], o[11]),
            Ipv4Addr::new(o[9], o[10], o[11], o[12]),
            last,
        ],
        _ => vec![],
    }
}

#[cfg(test)]
mod tests;
