//! Whoever is called: a listener on every address, at every port of the corpus, that keeps what it hears.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use crate::support::{PATIENCE, wait_for};

/// The ports that the corpus names, and those of the tests' own receivers and proxies.
pub(crate) const PORTS: [u16; 12] = [1, 22, 25, 80, 443, 988, 3128, 6379, 8080, 8443, 9200, 65535];
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nheard";

/// A connection that came.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    /// Who it was meant for.
    pub(crate) to: SocketAddr,
    /// The head of the request, as far as it came.
    pub(crate) head: String,
}

/// Hears everything.
#[derive(Debug, Clone)]
pub(crate) struct Canary {
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Canary {
    /// Answers 200 to everybody.
    pub(crate) fn start() -> Self {
        Self::answering(|_| OK.as_bytes().to_vec())
    }

    /// Answers what is made of the head of the request.
    pub(crate) fn answering(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        // Both protocols: the kernel maps IPv4 into IPv6 for a wildcard listener.
        Self::on(PORTS.map(|port| (Ipv6Addr::UNSPECIFIED, port).into()), answer)
    }

    /// Is at these addresses alone, and answers 200.
    pub(crate) fn only_at<const N: usize>(addresses: [SocketAddr; N]) -> Self {
        Self::on(addresses, |_| OK.as_bytes().to_vec())
    }

    fn on<const N: usize>(
        addresses: [SocketAddr; N],
        answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let canary = Self {
            heard: Arc::default(),
        };
        let answer = Arc::new(answer);
        for address in addresses {
            let listener = TcpListener::bind(address).unwrap();
            let (heard, answer) = (Arc::clone(&canary.heard), Arc::clone(&answer));
            thread::spawn(move || {
                for stream in listener.incoming() {
                    hear(&mut stream.unwrap(), &heard, &*answer);
                }
            });
        }
        canary
    }

    /// What it has heard so far.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// Waits until it has heard so many, and gives where they were meant to go, and forgets them.
    #[track_caller]
    pub(crate) fn take(&self, count: usize) -> Vec<SocketAddr> {
        let heard = wait_for(&format!("{count} connections"), PATIENCE, || {
            let heard = self.heard();
            let whole = heard.iter().all(|heard| !heard.head.is_empty());
            (whole && heard.len() >= count)
                .then_some(heard.clone())
                .ok_or_else(|| format!("{heard:?}"))
        });
        assert_eq!(heard.len(), count, "{heard:?}");
        self.heard.lock().unwrap().clear();
        heard.into_iter().map(|heard| heard.to).collect()
    }

    /// Fails if it has heard anything.
    #[track_caller]
    pub(crate) fn assert_silence(&self, what: &str) {
        let heard = self.heard();
        assert!(heard.is_empty(), "{what}: {heard:?}");
    }
}

/// Keeps what comes over one connection, and answers it.
fn hear(stream: &mut TcpStream, heard: &Mutex<Vec<Heard>>, answer: impl Fn(&str) -> Vec<u8>) {
    let local = stream.local_addr().unwrap();
    // Kept before it is read: a connection counts, whatever is then said on it.
    let place = {
        let mut heard = heard.lock().unwrap();
        heard.push(Heard {
            to: SocketAddr::new(local.ip().to_canonical(), local.port()),
            head: String::new(),
        });
        heard.len() - 1
    };
    let head = read_head(stream);
    let _gone = stream.write_all(&answer(&head));
    if let Some(entry) = heard.lock().unwrap().get_mut(place) {
        entry.head = head;
    }
}

/// Reads the head of a request and what there is of its body; what came by then where the peer says no more.
fn read_head(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut bytes: Vec<u8> = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        // A handshake is no request, and waits for an answer.
        if bytes.first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
            return "no request".to_owned();
        }
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse::<usize>().unwrap());
            // A connection that is closed with something unread is reset, and the answer with it.
            if bytes.len() >= end + 4 + length {
                return head;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return format!("no request: {}", String::from_utf8_lossy(&bytes)),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

/// An address of the internet that nobody forbids.
pub(crate) const PUBLIC_V4: &str = "93.184.215.14";
pub(crate) const PUBLIC_V6: &str = "2606:4700::1111";

/// An address and a port as the canary tells them.
pub(crate) fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port)
}
