//! A real HTTP receiver of callbacks: keeps the exact bytes, and answers as it is told.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::Value;

use super::{PATIENCE, wait_for};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        let first = found.next();
        assert!(found.next().is_none(), "{name} came twice: {:?}", self.headers);
        first.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What a request is answered with.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Status(u16),
    Redirect(String),
    /// 503 with a `Retry-After` of so many seconds.
    Busy(u32),
    /// A status with this body.
    Body(u16, &'static [u8]),
    /// The connection stays open and nothing comes.
    Hang,
}

#[derive(Debug, Default)]
struct State {
    received: Vec<Received>,
    /// What the next requests are answered with, in order; then 204.
    replies: VecDeque<Reply>,
    /// Connections that wait for good.
    hanging: Vec<TcpStream>,
}

#[derive(Debug)]
pub(crate) struct Receiver {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                thread::spawn(move || serve(stream, &state));
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        self.at("callback?of=test")
    }

    /// Another URL of it.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Answers the next requests like this, and all later ones with 204.
    pub(crate) fn reply(&self, replies: impl IntoIterator<Item = Reply>) {
        self.state.lock().unwrap().replies.extend(replies);
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.state.lock().unwrap().received.clone()
    }

    /// Answers those that hang.
    pub(crate) fn answer_hanging(&self, status: u16) {
        for mut stream in self.state.lock().unwrap().hanging.drain(..) {
            let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    }

    /// Closes the connections that hang.
    pub(crate) fn release(&self) {
        let mut state = self.state.lock().unwrap();
        state.replies.clear();
        state.hanging.clear();
    }

    #[track_caller]
    pub(crate) fn wait_at_least(&self, count: usize) {
        wait_for(&format!("{count} callbacks or more"), PATIENCE, || {
            let seen = self.received().len();
            if seen >= count {
                Ok(())
            } else {
                Err(seen.to_string())
            }
        });
    }

    /// Waits until so many requests came, and fails if there are more.
    #[track_caller]
    pub(crate) fn wait(&self, count: usize) -> Vec<Received> {
        self.wait_within(count, PATIENCE)
    }

    #[track_caller]
    pub(crate) fn wait_within(&self, count: usize, limit: Duration) -> Vec<Received> {
        let received = wait_for(&format!("{count} callbacks"), limit, || {
            let received = self.received();
            let bodies = || {
                received
                    .iter()
                    .map(|one| String::from_utf8_lossy(&one.body).into_owned())
            };
            if received.len() < count {
                return Err(format!(
                    "{} of them: {:?}",
                    received.len(),
                    bodies().collect::<Vec<_>>()
                ));
            }
            Ok(received)
        });
        assert_eq!(
            received.len(),
            count,
            "more callbacks than there should be: {received:?}"
        );
        received
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let Some(received) = read(&stream) else { return };
    let mut state = state.lock().unwrap();
    state.received.push(received);
    let reply = state.replies.pop_front().unwrap_or(Reply::Status(204));
    let body = match &reply {
        Reply::Body(_, body) => *body,
        _ => b"",
    };
    let head = match &reply {
        Reply::Status(status) | Reply::Body(status, _) => format!("HTTP/1.1 {status} x\r\n"),
        Reply::Redirect(to) => format!("HTTP/1.1 302 x\r\nlocation: {to}\r\n"),
        Reply::Busy(seconds) => format!("HTTP/1.1 503 x\r\nretry-after: {seconds}\r\n"),
        Reply::Hang => {
            state.hanging.push(stream);
            return;
        }
    };
    drop(state);
    // A sender that has gone away is no concern of the receiver.
    let head = format!(
        "{head}content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let _gone = (&stream).write_all(&[head.as_bytes(), body].concat());
}

fn read(stream: &TcpStream) -> Option<Received> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        Some(line.trim_end_matches(['\r', '\n']).to_owned())
    };
    let first = line()?;
    let (method, rest) = first.split_once(' ')?;
    let path = rest.split(' ').next()?.to_owned();
    let mut headers = Vec::new();
    loop {
        let line = line()?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")?
        .1
        .parse()
        .ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Received {
        method: method.to_owned(),
        path,
        headers,
        body,
    })
}
