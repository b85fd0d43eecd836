//! A name server of the test's own: real packets over UDP and TCP, and answers as the test says.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    sync::{Arc, Mutex},
    thread,
};

use crate::namespace::NAME_SERVER;

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
/// "The name of the question", as it is abbreviated in an answer.
const QUESTION: [u8; 2] = [0xc0, 0x0c];

/// What a question is answered with.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Those of the addresses that are of the kind that was asked for.
    Addresses(Vec<IpAddr>),
    /// Another name, and the addresses of that.
    Alias(Vec<IpAddr>),
    /// The name server is broken (2).
    Failure,
    /// There is no such name (3).
    NoName,
    /// It does not want to say (5).
    Refused,
    /// Nothing comes.
    Silence,
    /// Something comes that is no DNS.
    Garbage,
    /// The number of another question, and these addresses.
    AnotherQuestion(Vec<IpAddr>),
    /// The addresses of a name that was not asked for.
    AnotherName(Vec<IpAddr>),
    /// An address of three bytes.
    Short,
    /// Ask again over TCP, where these addresses come.
    Truncated(Vec<IpAddr>),
}

impl Answer {
    pub(crate) fn of(addresses: &[&str]) -> Self {
        Self::Addresses(parsed(addresses))
    }
}

pub(crate) fn parsed(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|ip| ip.parse().unwrap()).collect()
}

#[derive(Debug, Default)]
struct State {
    /// By name: the answers to the first question for each kind of address, the second, and so on; the last is repeated.
    answers: HashMap<String, Vec<Answer>>,
    /// How often a name was asked for, by kind.
    asked: HashMap<(String, u16), usize>,
    /// Datagrams that came and went.
    datagrams: u64,
}

/// The name server that the machine's resolver asks.
#[derive(Debug, Clone)]
pub(crate) struct Dns {
    state: Arc<Mutex<State>>,
}

impl Dns {
    /// Knows no name yet: what is not told to it does not exist.
    pub(crate) fn start() -> Self {
        let dns = Self {
            state: Arc::default(),
        };
        let socket = UdpSocket::bind((NAME_SERVER, 53)).unwrap();
        let udp = dns.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                udp.state.lock().unwrap().datagrams += 1;
                if let Some(answer) = udp.answer(&buffer[..length], false) {
                    udp.state.lock().unwrap().datagrams += 1;
                    send(&socket, &answer, from);
                }
            }
        });
        let listener = TcpListener::bind((NAME_SERVER, 53)).unwrap();
        let tcp = dns.clone();
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut length = [0; 2];
                while stream.read_exact(&mut length).is_ok() {
                    let mut question = vec![0; u16::from_be_bytes(length).into()];
                    stream.read_exact(&mut question).unwrap();
                    let Some(answer) = tcp.answer(&question, true) else {
                        break;
                    };
                    let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                    stream.write_all(&[&length, answer.as_slice()].concat()).unwrap();
                }
            }
        });
        dns
    }

    /// From now on, and from the first question on, `name` is answered with these in turn.
    pub(crate) fn tell(&self, name: &str, answers: Vec<Answer>) {
        let mut state = self.state.lock().unwrap();
        state.asked.retain(|(known, _), _| known != name);
        state.answers.insert(name.to_owned(), answers);
    }

    /// How often the IPv4 addresses of a name were asked for, and how often those of IPv6.
    pub(crate) fn asked(&self, name: &str) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        let count = |kind| {
            state
                .asked
                .get(&(name.to_owned(), kind))
                .copied()
                .unwrap_or_default()
        };
        (count(A), count(AAAA))
    }

    /// Datagrams that came and went so far.
    pub(crate) fn datagrams(&self) -> u64 {
        self.state.lock().unwrap().datagrams
    }

    fn answer(&self, question: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let (name, kind, end) = parse(question);
        let answer = {
            let mut state = self.state.lock().unwrap();
            let place = *state.asked.get(&(name.clone(), kind)).unwrap_or(&0);
            // Asking again over TCP is the same question.
            if !tcp {
                state.asked.insert((name.clone(), kind), place + 1);
            }
            let answers = state.answers.get(&name);
            let place = if tcp { place.saturating_sub(1) } else { place };
            let found = answers.and_then(|answers| answers.get(place).or(answers.last()));
            found.cloned().unwrap_or(Answer::NoName)
        };
        let mut packet = Packet::to(&question[..end]);
        match answer {
            Answer::Addresses(addresses) => packet.addresses(&QUESTION, kind, &addresses),
            Answer::Alias(addresses) => {
                let alias = b"\x05alias\x04test\x00";
                packet.record(&QUESTION, CNAME, alias);
                packet.addresses(alias, kind, &addresses);
            }
            Answer::Failure => packet.code(2),
            Answer::NoName => packet.code(3),
            Answer::Refused => packet.code(5),
            Answer::Silence => return None,
            Answer::Garbage => return Some(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
            Answer::AnotherQuestion(addresses) => {
                packet.addresses(&QUESTION, kind, &addresses);
                packet.bytes[0] ^= 0xff;
            }
            Answer::AnotherName(addresses) => packet.addresses(b"\x05other\x04test\x00", kind, &addresses),
            Answer::Short => packet.record(&QUESTION, kind, &[127, 0, 0]),
            Answer::Truncated(addresses) if tcp => packet.addresses(&QUESTION, kind, &addresses),
            Answer::Truncated(_) => packet.bytes[2] |= 0x02,
        }
        Some(packet.bytes)
    }
}

fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    // Whoever asked may have given up.
    let _gone = socket.send_to(answer, to);
}

/// The name and the kind that is asked for, and where the question ends.
fn parse(question: &[u8]) -> (String, u16, usize) {
    let mut labels = Vec::new();
    let mut at = 12;
    while question[at] != 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..end]).to_lowercase());
        at = end;
    }
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    (labels.join("."), kind, at + 5)
}

struct Packet {
    bytes: Vec<u8>,
}

impl Packet {
    /// An answer without records, which repeats the question.
    fn to(question: &[u8]) -> Self {
        let mut bytes = question.to_vec();
        // An answer, recursion is available; one question, nothing else yet.
        bytes[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
        Self { bytes }
    }

    fn code(&mut self, code: u8) {
        self.bytes[3] |= code;
    }

    fn record(&mut self, name: &[u8], kind: u16, data: &[u8]) {
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(&kind.to_be_bytes());
        // Of the internet, and not to be kept.
        self.bytes.extend_from_slice(&[0, 1, 0, 0, 0, 0]);
        self.bytes
            .extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        self.bytes.extend_from_slice(data);
        self.bytes[7] += 1;
    }

    fn addresses(&mut self, name: &[u8], kind: u16, addresses: &[IpAddr]) {
        for ip in addresses {
            match ip {
                IpAddr::V4(ip) if kind == A => self.record(name, A, &ip.octets()),
                IpAddr::V6(ip) if kind == AAAA => self.record(name, AAAA, &ip.octets()),
                _ => {}
            }
        }
    }
}
