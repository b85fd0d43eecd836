//! As much of HTTP/1.1 as both sides of the server need: a head, and a body whose length the head tells.

use std::{io, sync::Mutex};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

/// A request or an answer.
pub struct Message {
    /// The first line.
    pub start: String,
    headers: Vec<(String, String)>,
    /// What follows the head.
    pub body: Vec<u8>,
}

impl Message {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Reads one; nothing where the peer has closed the connection.
pub async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Message>> {
    let (mut start, mut headers) = (String::new(), Vec::new());
    if stream.read_line(&mut start).await? == 0 {
        return Ok(None);
    }
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let mut message = Message {
        start: start.trim_end().to_owned(),
        headers,
        body: Vec::new(),
    };
    let length = message
        .header("content-length")
        .and_then(|text| text.parse().ok());
    message.body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut message.body).await?;
    Ok(Some(message))
}

/// Asks the API, over connections that are kept.
pub struct Client {
    address: String,
    idle: Mutex<Vec<BufReader<TcpStream>>>,
}

impl Client {
    pub fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            idle: Mutex::default(),
        }
    }

    /// Posts to an operation: the status, and what was answered.
    pub async fn post(&self, path: &str, key: &str, input: &Value) -> Result<(u16, Value)> {
        let body = json!({ "json": input }).to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\nx-api-key: {key}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let mut answer = None;
        // The server closes connections that nobody uses.
        while answer.is_none()
            && let Some(stream) = self.take_idle()
        {
            answer = self.exchange(stream, &request).await.ok().flatten();
        }
        if answer.is_none() {
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            answer = self.exchange(BufReader::new(stream), &request).await?;
        }
        let answer = answer.context("the server closed the connection")?;
        let status = answer.start.split(' ').nth(1).and_then(|text| text.parse().ok());
        let status = status.with_context(|| format!("no status: {}", answer.start))?;
        let mut said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        Ok((status, said["json"].take()))
    }

    fn take_idle(&self) -> Option<BufReader<TcpStream>> {
        self.idle.lock().expect("no holder panics").pop()
    }

    async fn exchange(&self, mut stream: BufReader<TcpStream>, request: &str) -> io::Result<Option<Message>> {
        stream.write_all(request.as_bytes()).await?;
        let answer = read(&mut stream).await?;
        if answer
            .as_ref()
            .is_some_and(|answer| answer.header("connection") != Some("close"))
        {
            self.idle.lock().expect("no holder panics").push(stream);
        }
        Ok(answer)
    }

    /// The same, where anything but success is the end.
    pub async fn must(&self, path: &str, key: &str, input: &Value) -> Result<Value> {
        let (status, answer) = self.post(path, key, input).await?;
        ensure!(status == 200, "{path}: {status} {answer}");
        Ok(answer)
    }
}
