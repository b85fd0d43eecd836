//! What a client of PostgreSQL says, as far as one must understand it to know a COMMIT from anything else.

use std::collections::HashSet;

/// A message of the client's, whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    pub(crate) commits: bool,
}

/// Cuts the client's stream into messages.
#[derive(Debug, Default)]
pub(crate) struct Frontend {
    buffer: Vec<u8>,
    /// Whether the startup message has gone by: from then on each message begins with its type.
    started: bool,
    /// What a new session is called, whatever the client calls it.
    name: String,
    /// Prepared statements whose text is COMMIT, and portals of those.
    statements: HashSet<Vec<u8>>,
    portals: HashSet<Vec<u8>>,
}

/// The protocol's version 3.0: any other number in its place asks for something before the session (encryption) or
/// instead of it (a cancel).
const VERSION: u32 = 196_608;

impl Frontend {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, once all of it is there.
    pub(crate) fn next(&mut self) -> Option<Message> {
        let head = usize::from(self.started);
        let length = number(self.buffer.get(head..head + 4)?) as usize + head;
        if self.buffer.len() < length {
            return None;
        }
        let rest = self.buffer.split_off(length);
        let bytes = std::mem::replace(&mut self.buffer, rest);
        if self.started {
            let commits = self.commits(&bytes);
            return Some(Message { bytes, commits });
        }
        self.started = bytes.len() >= 8 && number(&bytes[4..8]) == VERSION;
        let bytes = if self.started { self.renamed(bytes) } else { bytes };
        Some(Message {
            bytes,
            commits: false,
        })
    }

    /// The startup message with an `application_name` of ours at its end, where it wins over any other.
    fn renamed(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let end = bytes.pop();
        debug_assert_eq!(end, Some(0), "a startup message ends with an empty name");
        bytes.extend_from_slice(b"application_name\0");
        bytes.extend_from_slice(self.name.as_bytes());
        bytes.extend_from_slice(b"\0\0");
        let length = u32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        bytes
    }

    fn commits(&mut self, message: &[u8]) -> bool {
        let mut parts = message[5..].split(|byte| *byte == 0);
        let mut part = || parts.next().unwrap_or_default().to_vec();
        match message[0] {
            b'Q' => is_commit(&part()),
            b'P' => {
                let (name, text) = (part(), part());
                self.statements.remove(&name);
                if is_commit(&text) {
                    self.statements.insert(name);
                }
                false
            }
            b'B' => {
                let (portal, statement) = (part(), part());
                self.portals.remove(&portal);
                if self.statements.contains(&statement) {
                    self.portals.insert(portal);
                }
                false
            }
            b'E' => self.portals.contains(&part()),
            _ => false,
        }
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().unwrap())
}

fn is_commit(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let text = text.trim().trim_end_matches(';').trim_end().to_ascii_uppercase();
    ["COMMIT", "END", "COMMIT TRANSACTION", "COMMIT WORK"].contains(&text.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn startup() -> Vec<u8> {
        let body = b"user\0postgres\0application_name\0node\0\0";
        let mut bytes = u32::try_from(body.len() + 8).unwrap().to_be_bytes().to_vec();
        bytes.extend(VERSION.to_be_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_commit_is_known_however_it_is_sent_and_however_the_stream_is_cut() {
        let sent = [
            (message(b'Q', b"BEGIN\0"), false),
            (message(b'Q', b"COMMIT\0"), true),
            (message(b'Q', b" commit ;\0"), true),
            (message(b'Q', b"SELECT 'COMMIT'\0"), false),
            (message(b'P', b"s1\0COMMIT\0\0\0"), false),
            (message(b'B', b"\0s1\0\0\0\0\0\0\0"), false),
            (message(b'E', b"\0\0\0\0\0"), true),
            (message(b'P', b"\0SELECT 1\0\0\0"), false),
            (message(b'B', b"\0\0\0\0\0\0\0\0"), false),
            (message(b'E', b"\0\0\0\0\0"), false),
            (message(b'X', b""), false),
        ];
        let stream: Vec<u8> = startup()
            .into_iter()
            .chain(sent.iter().flat_map(|(bytes, _)| bytes.clone()))
            .collect();
        for size in [1, 3, 7, stream.len()] {
            let (mut frontend, mut found) = (Frontend::new("node 1"), Vec::new());
            for piece in stream.chunks(size) {
                frontend.push(piece);
                found.extend(std::iter::from_fn(|| frontend.next()));
            }
            let first = found.remove(0).bytes;
            assert_eq!(number(&first[..4]) as usize, first.len());
            assert!(first.ends_with(b"application_name\0node 1\0\0"), "{first:?}");
            let found: Vec<_> = found.into_iter().map(|one| (one.bytes, one.commits)).collect();
            assert_eq!(found, sent, "in pieces of {size}");
        }
    }

    #[test]
    fn what_comes_before_a_session_is_passed_on_as_it_is() {
        let mut frontend = Frontend::new("n");
        let mut ask = 8_u32.to_be_bytes().to_vec();
        ask.extend(80_877_103_u32.to_be_bytes());
        frontend.push(&ask);
        assert_eq!(frontend.next().unwrap().bytes, ask);
        frontend.push(&startup());
        assert!(frontend.next().unwrap().bytes.ends_with(b"n\0\0"));
    }
}
