//! One HTTP exchange over a socket of its own, written by hand: no library adds a header, follows a redirect or
//! retries.

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// Longer than any answer of the server may take: a cancel waits 8 s for the end of a process tree.
const SOCKET_TIME: Duration = Duration::from_secs(60);

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// A POST of JSON without a key.
    pub(crate) fn post(path: &str, body: &Value) -> Self {
        Self {
            method: "POST",
            path: path.to_owned(),
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: body.to_string().into_bytes(),
        }
    }

    pub(crate) fn get(path: &str) -> Self {
        Self {
            method: "GET",
            path: path.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    /// Sends it and reads the whole answer.
    ///
    /// # Errors
    /// What the socket says: the server may be down, and some tests want to know.
    pub(crate) fn send(&self, to: SocketAddr) -> std::io::Result<Answer> {
        self.send_over(TcpStream::connect(to)?, SOCKET_TIME)
    }

    /// As [`Request::send`] over a connection that is there, each step of which may take so long.
    ///
    /// # Errors
    /// What the socket says.
    pub(crate) fn send_over(&self, mut stream: TcpStream, limit: Duration) -> std::io::Result<Answer> {
        let to = stream.peer_addr()?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        let mut head = format!(
            "{} {} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n",
            self.method, self.path
        );
        for (name, value) in &self.headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        write!(head, "content-length: {}\r\n\r\n", self.body.len()).unwrap();
        stream.write_all(head.as_bytes())?;
        stream.write_all(&self.body)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        Answer::parse(&bytes).ok_or_else(|| {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                format!("not an HTTP answer: {text:?}"),
            )
        })
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let mut lines = std::str::from_utf8(&bytes[..end]).ok()?.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(String, String)> = lines
            .map(|line| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_ascii_lowercase(), value.trim().to_owned()))
            })
            .collect::<Option<_>>()?;
        let body = bytes[end + 4..].to_vec();
        let answer = Self {
            status,
            headers,
            body,
        };
        // An answer that broke off must not look like a short one.
        let length = answer.header("content-length")?.parse::<usize>().ok()?;
        (length == answer.body.len()).then_some(answer)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn value(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {}", String::from_utf8_lossy(&self.body)))
    }
}
