//! The receiver of callbacks: checks each signature as it comes, refuses some first attempts, and remembers what was
//! told under which id.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// What was told under one `webhook-id`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    pub(crate) bodies: Vec<String>,
    pub(crate) times: usize,
    /// How often it was answered that it has arrived.
    pub(crate) taken: usize,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Heard {
    pub(crate) by_id: BTreeMap<String, Told>,
    pub(crate) wrong: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Ears {
    address: SocketAddr,
    heard: Arc<Mutex<Heard>>,
}

/// One id in so many is refused the first time.
const REFUSED: u8 = 24;
const PATIENCE: Duration = Duration::from_secs(20);

impl Ears {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let shared = heard.clone();
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let heard = shared.clone();
                thread::spawn(move || {
                    // A sender that was killed on the way has told nothing.
                    let _cut = hear(&stream, &heard);
                });
            }
        });
        Self { address, heard }
    }

    /// A URL whose callbacks must be signed with `secret`.
    pub(crate) fn url(&self, secret: &str) -> String {
        format!("http://{}/{secret}", self.address)
    }

    pub(crate) fn heard(&self) -> Heard {
        self.heard.lock().unwrap().clone()
    }
}

fn hear(stream: &TcpStream, heard: &Mutex<Heard>) -> Option<()> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        Some(line.trim_end().to_owned())
    };
    let secret = line()?.split(' ').nth(1)?.trim_start_matches('/').to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let line = line()?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
    let id = header("webhook-id");
    let status = {
        let mut heard = heard.lock().unwrap();
        if header("x-webhook-signature") != signature(&secret, &body) {
            heard
                .wrong
                .push(format!("a callback with a wrong signature, id {id}"));
        }
        if id.is_empty() {
            heard.wrong.push("a callback without webhook-id".to_owned());
        }
        let body = String::from_utf8_lossy(&body).into_owned();
        let told = heard.by_id.entry(id.clone()).or_default();
        told.times += 1;
        if !told.bodies.contains(&body) {
            told.bodies.push(body);
        }
        let refuse = told.times == 1 && id.bytes().fold(0, u8::wrapping_add) % REFUSED == 0;
        told.taken += usize::from(!refuse);
        if refuse { 503 } else { 204 }
    };
    let head = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let mut answer = stream;
    answer.write_all(head.as_bytes()).ok()
}

/// The lowercase hexadecimal HMAC-SHA256 of the exact bytes.
fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    let bytes = mac.finalize().into_bytes();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_callback_is_known_by_its_signature() {
    // RFC 4231, test case 2.
    assert_eq!(
        signature("Jefe", b"what do ya want for nothing?"),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
}
