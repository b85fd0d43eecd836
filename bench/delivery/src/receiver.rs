//! The receivers: one listener, a path for each endpoint. Those that are dead take a request and never answer it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Instant,
};

use anyhow::Result;
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::http;

/// Which endpoints do not answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Dead {
    All,
    /// So many of a thousand, spread evenly.
    PerMille(usize),
}

impl Dead {
    pub fn has(self, endpoint: usize) -> bool {
        match self {
            Self::All => true,
            Self::PerMille(share) => (endpoint + 1) * share / 1000 > endpoint * share / 1000,
        }
    }
}

pub struct Receivers {
    /// Where they listen.
    pub port: u16,
    dead: watch::Sender<Dead>,
    arrived: Arc<Mutex<HashMap<String, Instant>>>,
}

impl Receivers {
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let receivers = Self {
            port: listener.local_addr()?.port(),
            dead: watch::Sender::new(Dead::PerMille(0)),
            arrived: Arc::default(),
        };
        let (dead, arrived) = (receivers.dead.subscribe(), Arc::clone(&receivers.arrived));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, dead.clone(), Arc::clone(&arrived)));
            }
        });
        Ok(receivers)
    }

    /// Which are dead from now on. Those that are not any more answer what they were still asked.
    pub fn set(&self, dead: Dead) {
        self.dead.send_replace(dead);
    }

    /// When each delivery first arrived, since this was last asked for.
    pub fn take(&self) -> HashMap<String, Instant> {
        std::mem::take(&mut *self.arrived.lock().expect("no holder panics"))
    }

    /// How many have arrived since.
    pub fn count(&self) -> usize {
        self.arrived.lock().expect("no holder panics").len()
    }
}

async fn answer(
    stream: TcpStream,
    mut dead: watch::Receiver<Dead>,
    arrived: Arc<Mutex<HashMap<String, Instant>>>,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let request = http::read(&mut stream).await.ok()??;
    let now = Instant::now();
    let id = request.header("webhook-id")?.to_owned();
    arrived.lock().expect("no holder panics").entry(id).or_insert(now);
    let path = request.start.split(' ').nth(1)?;
    let endpoint: usize = path.trim_start_matches('/').parse().ok()?;
    dead.wait_for(|dead| !dead.has(endpoint)).await.ok()?;
    let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
    stream.write_all(answer).await.ok()
}
