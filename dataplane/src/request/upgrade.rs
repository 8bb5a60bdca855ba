//! WebSockets: authorized like any request when they open, and again for as long as they live.
//!
//! No other protocol is upgraded to: an `h2c` upgrade, say, would carry requests past every check.

use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::request::Parts;
use http::{Response, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::exchange::Exchange;
use super::relay::relay;
use super::rewrite;
use super::stream::Ask;
use crate::Refusal;
use crate::body::Body;
use crate::server::Worker;

/// The caller's side of a connection that is to become a WebSocket.
pub(super) struct Upgrade(OnUpgrade);

impl Upgrade {
    /// `Some` where the request asks for a WebSocket.
    pub(super) fn requested(head: &mut Parts) -> Option<Self> {
        let is_websocket = head.version == Version::HTTP_11
            && head.headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
            && head.headers.get_all(CONNECTION).iter().any(|value| rewrite::mentions(value, "upgrade"));
        if is_websocket { head.extensions.remove().map(Self) } else { None }
    }
}

/// Two connections that are to become one.
pub(super) struct Tunnel {
    caller: OnUpgrade,
    backend: OnUpgrade,
    ask: Ask,
    idle_timeout: Option<Duration>,
}

/// Answers the caller's handshake with the backend's.
pub(super) fn accept(
    upgrade: Option<Upgrade>,
    mut response: Response<Incoming>,
    ask: Ask,
    idle_timeout: Option<Duration>,
) -> Result<(Response<Body>, Tunnel), Refusal> {
    let Some(Upgrade(caller)) = upgrade else {
        return Err(Refusal::BackendFailed("it switched protocols without being asked to".into()));
    };
    if !response.headers().get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return Err(Refusal::BackendFailed("it switched to another protocol than WebSocket".into()));
    }
    let backend = hyper::upgrade::on(&mut response);
    rewrite::response(response.status(), response.headers_mut());
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    Ok((response.map(|_| Body::empty()), Tunnel { caller, backend, ask, idle_timeout }))
}

impl Tunnel {
    /// Joins the two. The exchange lives as long as they do.
    pub(super) fn open(self, exchange: Exchange) {
        let worker = exchange.worker().clone();
        worker.streams.spawn(join(worker.clone(), self, exchange));
    }
}

async fn join(worker: Arc<Worker>, tunnel: Tunnel, mut exchange: Exchange) {
    let Tunnel { caller, backend, ask, idle_timeout } = tunnel;
    let _open = worker.metrics.open_stream(&ask.target.extension);
    let (caller, backend) = match tokio::try_join!(caller, backend) {
        Ok(streams) => streams,
        Err(error) => return debug!(%error, "a WebSocket's connections could not be joined"),
    };
    let activity = Activity::new();
    let mut caller = Watched { stream: TokioIo::new(caller), activity: &activity };
    let mut backend = Watched { stream: TokioIo::new(backend), activity: &activity };
    let refusal = tokio::select! {
        // Either side may simply go away; there is nobody to tell.
        _ = relay(&mut caller, &mut backend) => return,
        () = worker.draining_ended() => return debug!("closed a WebSocket: the proxy stops"),
        refusal = ask.refused(&worker) => refusal,
        () = activity.ceases_for(idle_timeout) => Refusal::StreamIdle,
    };
    exchange.refused(&refusal);
}

/// When something went through last.
struct Activity {
    since: Instant,
    /// Milliseconds after `since`.
    last: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self { since: Instant::now(), last: AtomicU64::new(0) }
    }

    fn note(&self) {
        self.last.store(u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    async fn ceases_for(&self, timeout: Option<Duration>) {
        let Some(timeout) = timeout else { return pending().await };
        loop {
            let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
            let Some(end) = self.since.checked_add(last).and_then(|last| last.checked_add(timeout)) else {
                return pending().await;
            };
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}

/// A stream that says when something is read from it.
struct Watched<'a, T> {
    stream: T,
    activity: &'a Activity,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<'_, T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() {
            self.activity.note();
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<'_, T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
