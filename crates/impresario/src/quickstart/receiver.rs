//! Somebody who waits for callbacks and believes only what is signed.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use sha2::Sha256;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{api, store::hex};

/// A callback that came.
#[derive(Debug)]
pub(super) struct Received {
    /// Its body.
    pub(super) body: Value,
    /// `x-webhook-signature`, as it came.
    pub(super) signature: String,
    /// Whether that is the HMAC-SHA256 of the body under the secret both sides know.
    pub(super) genuine: bool,
}

#[derive(Debug)]
struct Receiver {
    secret: SecretString,
    seen: mpsc::Sender<Received>,
}

/// Waits for callbacks on a free port of loopback.
pub(super) async fn serve(
    secret: String,
    (shutdown, tasks): (&CancellationToken, &TaskTracker),
) -> anyhow::Result<(SocketAddr, mpsc::Receiver<Received>)> {
    let (seen, received) = mpsc::channel(64);
    let router = Router::new()
        .route("/callback", post(receive))
        .with_state(Arc::new(Receiver {
            secret: secret.into(),
            seen,
        }));
    let listener = TcpListener::bind(("127.0.0.1", 0))
        .await
        .context("a port for the callback receiver")?;
    let address = listener.local_addr()?;
    tasks.spawn(api::serve(listener, router, shutdown.clone(), tasks.clone()));
    Ok((address, received))
}

async fn receive(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let signature = headers
        .get("x-webhook-signature")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let genuine = Hmac::<Sha256>::new_from_slice(receiver.secret.expose_secret().as_bytes())
        .map(|mac| hex(&mac.chain_update(&body).finalize().into_bytes()) == signature)
        .unwrap_or(false);
    let Ok(value) = serde_json::from_slice(&body) else {
        return StatusCode::BAD_REQUEST;
    };
    let received = Received {
        body: value,
        signature: signature.to_owned(),
        genuine,
    };
    // Once the story is told nobody reads any more, and the schedule goes on: what comes then is taken all the same.
    let _told = receiver.seen.try_send(received);
    if genuine {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::UNAUTHORIZED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_show_its_secret() {
        let (seen, _) = mpsc::channel(1);
        let secret = "hunter2".into();
        let shown = format!("{:?}", Receiver { secret, seen });
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
