//! One connection of a caller: who it is from, TLS, then HTTP.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::pulse::PulseTimer;
use super::{Reception, Worker, proxy_protocol};
use crate::pool::keep_alive;
use crate::request::{self, Peer};
use crate::small_writes::SmallWrites;

/// A caller has this long to send a request's head, and up to two [beats](super::pulse::BEAT) more.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// And this long for what comes before HTTP.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Finds out that a caller is gone who did not say so, and keeps an idle WebSocket from being forgotten on the way.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Requests that one HTTP/2 connection may carry at one time, and bytes of each that may wait for its backend. The
/// connection holds them all, so that one whose backend does not read stops no other.
const HTTP2_STREAMS: u32 = 128;
const HTTP2_STREAM_WINDOW: u32 = 128 << 10;
/// Of a request. hyper reserves room for them with each, so that more would cost every request.
const MAX_HEADERS: usize = 200;
/// A token with many groups fills many cookies.
const HTTP2_HEADER_BYTES: u32 = 256 << 10;

pub(super) async fn serve(
    worker: Arc<Worker>,
    stream: TcpStream,
    address: IpAddr,
    reception: Reception,
    stop: CancellationToken,
) {
    let _open = worker.metrics.open_connection();
    let _ = stream.set_nodelay(true);
    keep_alive(&stream, KEEP_ALIVE);
    if !reception.proxy_protocol {
        return secure(&worker, stream, address, &reception, &stop).await;
    }
    // Whoever else could claim to be anybody.
    let trusted = &worker.common.trusted_proxies;
    if !trusted.0.is_empty() && !trusted.contain(address) {
        return debug!(%address, "a connection with the PROXY protocol comes from no trusted proxy");
    }
    let read = tokio::select! {
        read = timeout(HANDSHAKE_TIMEOUT, proxy_protocol::read(stream)) => read,
        () = stop.cancelled() => return,
    };
    match read {
        Ok(Ok((stream, source))) => secure(&worker, stream, source.unwrap_or(address), &reception, &stop).await,
        Ok(Err(error)) => debug!(%address, %error, "no header of the PROXY protocol could be read"),
        Err(_) => debug!(%address, "no header of the PROXY protocol came in time"),
    }
}

async fn secure<S>(worker: &Arc<Worker>, stream: S, address: IpAddr, reception: &Reception, stop: &CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = Peer::new(address, &worker.common.trusted_proxies, reception.tls.is_some());
    let Some(tls) = &reception.tls else { return exchange(worker, stream, peer, stop).await };
    let accepted = tokio::select! {
        accepted = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)) => accepted,
        () = stop.cancelled() => return,
    };
    match accepted {
        Ok(Ok(stream)) => exchange(worker, stream, peer, stop).await,
        Ok(Err(error)) => debug!(%address, %error, "a TLS handshake failed"),
        Err(_) => debug!(%address, "a TLS handshake took too long"),
    }
}

async fn exchange<S>(worker: &Arc<Worker>, stream: S, peer: Peer, stop: &CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let pulse = &worker.pulse;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let timer = PulseTimer(pulse.clone());
    builder.http1().timer(timer).header_read_timeout(HEADER_TIMEOUT).max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_header_list_size(HTTP2_HEADER_BYTES)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_STREAM_WINDOW * HTTP2_STREAMS);
    let has_asked = AtomicBool::new(false);
    let service = service_fn(|request| {
        has_asked.store(true, Ordering::Relaxed);
        request::handle(worker.clone(), peer.clone(), request)
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(SmallWrites(stream)), service);
    tokio::pin!(connection);
    let opened = pulse.now();
    let outcome = loop {
        // Of what stops from here on it is told with a beat.
        let beat = pulse.next();
        let is_stopping = stop.is_cancelled();
        if is_stopping {
            connection.as_mut().graceful_shutdown();
        }
        tokio::select! {
            outcome = connection.as_mut() => break outcome,
            () = beat => {}
            () = worker.draining_ended(), if is_stopping => return,
        }
        if !has_asked.load(Ordering::Relaxed) && pulse.last() >= opened + HEADER_TIMEOUT {
            return debug!("a caller never asked anything");
        }
    };
    if let Err(error) = outcome {
        debug!(%error, "a caller's connection ended");
    }
}
