//! What the kernel counts in a network namespace: whether anything was sent or tried at all.

use std::fs;

/// A reading, or the difference of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counters {
    /// TCP connections that were begun, whether or not anybody answered.
    pub(crate) opens: u64,
    /// UDP datagrams that were sent.
    pub(crate) datagrams: u64,
    /// Packets of any protocol that were sent, answers included.
    pub(crate) packets: u64,
    /// What was to be sent and had no route.
    pub(crate) no_routes: u64,
}

impl Counters {
    /// What the namespace has counted so far.
    pub(crate) fn read() -> Self {
        let v4 = fs::read_to_string("/proc/net/snmp").unwrap();
        let v6 = fs::read_to_string("/proc/net/snmp6").unwrap();
        Self {
            // Connections over IPv6 are counted here as well.
            opens: of_v4(&v4, "Tcp:", "ActiveOpens"),
            datagrams: of_v4(&v4, "Udp:", "OutDatagrams") + of_v6(&v6, "Udp6OutDatagrams"),
            packets: of_v4(&v4, "Ip:", "OutRequests") + of_v6(&v6, "Ip6OutRequests"),
            no_routes: of_v4(&v4, "Ip:", "OutNoRoutes") + of_v6(&v6, "Ip6OutNoRoutes"),
        }
    }

    /// What was counted since this reading.
    pub(crate) fn since(self) -> Self {
        let now = Self::read();
        Self {
            opens: now.opens - self.opens,
            datagrams: now.datagrams - self.datagrams,
            packets: now.packets - self.packets,
            no_routes: now.no_routes - self.no_routes,
        }
    }

    /// Fails if anything at all was sent or tried since this reading.
    #[track_caller]
    pub(crate) fn assert_silence(self, what: &str) {
        let nothing = Self {
            opens: 0,
            datagrams: 0,
            packets: 0,
            no_routes: 0,
        };
        assert_eq!(self.since(), nothing, "{what}");
    }
}

/// A pair of lines holds the names and the values, in the same order.
fn of_v4(text: &str, protocol: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter(|line| line.starts_with(protocol));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut pairs = names.split(' ').zip(values.split(' '));
    let found = pairs.find(|(known, _)| *known == name);
    found
        .unwrap_or_else(|| panic!("no {protocol} {name}"))
        .1
        .parse()
        .unwrap()
}

fn of_v6(text: &str, name: &str) -> u64 {
    let mut lines = text
        .lines()
        .filter_map(|line| line.split_once(char::is_whitespace));
    let found = lines.find(|(known, _)| *known == name);
    found
        .unwrap_or_else(|| panic!("no {name}"))
        .1
        .trim()
        .parse()
        .unwrap()
}
