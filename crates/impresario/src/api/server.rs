//! The sockets: the accept loop, its limits, and its end.
//!
//! What comes in: a listener and a router. What goes out: answers, until the shutdown token is cancelled; then nothing
//! more is accepted, requests that have begun are answered, and what is left at the deadline is cut.
//!
//! The framework's own `serve` has no time limit for headers, so a few thousand sockets that send a byte a minute would
//! hold it for good. Here a connection has a time for its headers (idle ones included), [`BodyLimit`] gives one for the
//! body, and a client that does not take its answer is dropped.
//!
//! [`BodyLimit`]: super::BodyLimit

use std::{
    convert::Infallible,
    future::Future as _,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    response::Response,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

/// Times and sizes of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a request's headers may take, waiting for its first byte included.
    pub header_time: Duration,
    /// How long a client may take nothing of an answer.
    pub write_stall: Duration,
    /// How many connections are open at once; more wait to be accepted. 1 to 2^32 - 1.
    pub connections: usize,
    /// How long requests that have begun may go on after the shutdown began.
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_time: Duration::from_secs(10),
            write_stall: Duration::from_secs(30),
            connections: 1024,
            drain_time: Duration::from_secs(5),
        }
    }
}

/// The largest request line and headers together, in bytes; it also bounds what one connection buffers.
const BUFFER_MAX: usize = 64 * 1024;
/// How long to wait when the system has no socket to give; accepting at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Serves `router` until `shutdown`, with the default [`Limits`]. Ends when the last connection has.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken, tasks: TaskTracker) {
    serve_with(listener, router, shutdown, tasks, Limits::default()).await;
}

/// Serves `router` until `shutdown`. Ends when the last connection has.
pub async fn serve_with(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    limits: Limits,
) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let cut = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let Some((stream, peer, slot)) = accepted else {
            break;
        };
        let connection = Connection {
            peer,
            limits,
            shutdown: shutdown.clone(),
            cut: cut.clone(),
            _slot: slot,
        };
        tasks.spawn(connection.run(stream, router.clone()));
    }
    drop(listener);
    // Each connection holds one slot: to have them all is to know that every connection has ended.
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    if tokio::time::timeout(limits.drain_time, slots.acquire_many(all))
        .await
        .is_err()
    {
        let left = limits.connections - slots.available_permits();
        tracing::warn!(
            connections = left,
            "requests were still unanswered at the end of the shutdown: cut"
        );
        cut.cancel();
        // It fails only when the semaphore is closed, which nobody does.
        let _ = slots.acquire_many(all).await;
    }
}

/// The next connection, once there is a slot for it.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return Some((stream, peer, slot)),
            // The client was gone before it was accepted.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) => {}
            Err(e) => {
                tracing::warn!(error = %e, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

struct Connection {
    peer: SocketAddr,
    limits: Limits,
    shutdown: CancellationToken,
    cut: CancellationToken,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: TcpStream, router: Router) {
        // Answers are written whole; waiting to fill a packet only delays them. Without it they still arrive.
        let _ = stream.set_nodelay(true);
        let peer = self.peer;
        let service =
            service_fn(move |request: hyper::Request<Incoming>| answer(router.clone(), peer, request));
        let io = TokioIo::new(StallGuard {
            stream,
            limit: self.limits.write_stall,
            stalled: None,
        });
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(self.limits.header_time)
                .max_buf_size(BUFFER_MAX)
                .serve_connection(io, service)
        );
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = self.cut.cancelled() => return,
                }
            }
        };
        if let Err(e) = ended {
            // The client's doing: it hung up, was too slow, or speaks no HTTP.
            tracing::debug!(peer = %peer, error = %e, "a connection ended early");
        }
    }
}

async fn answer(
    router: Router,
    peer: SocketAddr,
    request: hyper::Request<Incoming>,
) -> Result<Response, Infallible> {
    let mut request: Request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    router.oneshot(request).await
}

/// A stream that fails when the other side takes nothing for too long: neither the framework nor the system's defaults
/// would ever let go of it.
struct StallGuard {
    stream: TcpStream,
    limit: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl StallGuard {
    fn judge<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.limit;
        let timer = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for StallGuard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for StallGuard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.judge(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.judge(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.judge(closed, cx)
    }
}
