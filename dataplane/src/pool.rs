//! Connections to services, kept by each worker for itself.

use std::error::Error;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use http::header::HOST;
use http::uri::{Authority, Parts, Scheme};
use http::{Request, Response, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::either::Either;
use tracing::debug;

use crate::Refusal;
use crate::body::RequestBody;
use crate::extension::{Address, ConnectionSettings, Extensions, Service};
use crate::health::HealthChanges;
use crate::server::Worker;
use crate::small_writes::SmallWrites;
use crate::tls::BackendTls;

/// How often connections are looked at that nobody used for long.
pub(crate) const REAP_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of one answer that may come before they are read. A connection may hold many answers, so that one whose
/// caller is slow does not stop the others.
const HTTP2_STREAM_WINDOW: u32 = 256 << 10;
const HTTP2_CONNECTION_WINDOW: u32 = 64 << 20;

/// The connections of one worker that wait for a request, by service.
#[derive(Default)]
pub(crate) struct Pools(Mutex<HashMap<u64, Pool>>);

struct Pool {
    service: Arc<Service>,
    idle: Vec<Idle>,
    shared: Option<Shared>,
}

/// An HTTP/1.1 connection that waits.
struct Idle {
    sender: http1::SendRequest<RequestBody>,
    since: Instant,
}

/// An HTTP/2 connection, which carries many requests at one time.
struct Shared {
    sender: http2::SendRequest<RequestBody>,
    /// One for each request that it carries, and one of its own.
    users: Arc<()>,
    since: Instant,
}

/// Sends a request over a connection.
pub(crate) enum Sender<B> {
    Http1(http1::SendRequest<B>),
    Http2(http2::SendRequest<B>, Arc<()>),
}

impl<B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static> Sender<B> {
    /// Gives the request the form that the connection's protocol has, whatever form it has.
    pub(crate) fn prepare(&self, address: &Address, request: &mut Request<B>) {
        let (version, authority) = match self {
            Self::Http1(_) => (Version::HTTP_11, None),
            Self::Http2(..) => (Version::HTTP_2, Authority::try_from(address.authority.as_bytes()).ok()),
        };
        *request.version_mut() = version;
        if authority.is_some() {
            request.headers_mut().remove(HOST);
        } else {
            request.headers_mut().insert(HOST, address.authority.clone());
        }
        if authority.is_some() || request.uri().authority().is_some() {
            let mut parts = Parts::from(std::mem::take(request.uri_mut()));
            let scheme = if address.tls { Scheme::HTTPS } else { Scheme::HTTP };
            parts.scheme = authority.is_some().then_some(scheme);
            parts.authority = authority;
            // The parts were a URI's.
            *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        }
    }

    /// The answer's head. A request that was not sent comes back with the error.
    pub(crate) fn send(
        &mut self,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<B>>>> {
        match self {
            Self::Http1(sender) => Either::Left(sender.try_send_request(request)),
            Self::Http2(sender, _) => Either::Right(sender.try_send_request(request)),
        }
    }
}

impl Pools {
    /// The connection that was used last, if one is ready.
    pub(crate) fn take(&self, service: &Service, only_http1: bool) -> Option<Sender<RequestBody>> {
        let mut pools = self.0.lock();
        let pool = pools.get_mut(&service.id)?;
        if let Some(shared) = pool.shared.as_ref().filter(|_| !only_http1) {
            if !shared.sender.is_closed() {
                return Some(Sender::Http2(shared.sender.clone(), shared.users.clone()));
            }
            pool.shared = None;
        }
        let mut i = pool.idle.len();
        while i > 0 {
            i -= 1;
            if pool.idle[i].sender.is_ready() {
                return Some(Sender::Http1(pool.remove(i).sender));
            }
            if pool.idle[i].sender.is_closed() {
                pool.remove(i);
            }
        }
        None
    }

    /// Keeps a connection whose answer has been read.
    pub(crate) fn put(&self, service: &Arc<Service>, sender: Sender<RequestBody>) {
        // One of HTTP/2 is kept already.
        let Sender::Http1(sender) = sender else { return };
        if sender.is_closed() || service.settings.connection.max_idle == 0 {
            return;
        }
        service.idle_connections.fetch_add(1, Ordering::Relaxed);
        let mut pools = self.0.lock();
        Self::pool(&mut pools, service).idle.push(Idle { sender, since: Instant::now() });
    }

    /// Lets others use the connection as well.
    fn share(&self, service: &Arc<Service>, sender: http2::SendRequest<RequestBody>, users: Arc<()>) {
        if !sender.is_closed() {
            let mut pools = self.0.lock();
            Self::pool(&mut pools, service).shared = Some(Shared { sender, users, since: Instant::now() });
        }
    }

    fn pool<'a>(pools: &'a mut HashMap<u64, Pool>, service: &Arc<Service>) -> &'a mut Pool {
        pools.entry(service.id).or_insert_with(|| Pool { service: service.clone(), idle: Vec::new(), shared: None })
    }

    /// Closes what was unused for too long, is one too many, or was closed by the other side. What is too much is
    /// closed here and not at once: under load connections come and go faster than they can be made.
    pub(crate) fn reap(&self) {
        for pool in self.0.lock().values_mut() {
            let ConnectionSettings { idle_timeout: limit, max_idle, .. } = pool.service.settings.connection;
            let expired = |since: Instant| limit.is_some_and(|limit| since.elapsed() >= limit);
            let mut i = 0;
            while i < pool.idle.len() {
                if pool.idle[i].sender.is_closed() || expired(pool.idle[i].since) {
                    pool.remove(i);
                } else {
                    i += 1;
                }
            }
            // Those come first that were not used for longest. One that was used just now will be again.
            let is_unused = |pool: &Pool| pool.idle.first().is_some_and(|idle| idle.since.elapsed() >= REAP_INTERVAL);
            while is_unused(pool) && pool.service.idle_connections.load(Ordering::Relaxed) > max_idle {
                pool.remove(0);
            }
            if let Some(shared) = &mut pool.shared {
                if Arc::strong_count(&shared.users) > 1 {
                    shared.since = Instant::now();
                }
                if shared.sender.is_closed() || expired(shared.since) {
                    pool.shared = None;
                }
            }
        }
    }

    /// Closes the connections of services that are not served any more.
    pub(crate) fn retain(&self, extensions: &Extensions) {
        let served: HashSet<u64> =
            extensions.values().flat_map(|extension| &extension.services).map(|service| service.id).collect();
        self.0.lock().retain(|id, _| served.contains(id));
    }
}

impl Pool {
    fn remove(&mut self, i: usize) -> Idle {
        self.service.idle_connections.fetch_sub(1, Ordering::Relaxed);
        self.idle.remove(i)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.service.idle_connections.fetch_sub(self.idle.len(), Ordering::Relaxed);
    }
}

/// A new connection for a worker's requests.
pub(crate) async fn open(
    worker: &Worker,
    service: &Arc<Service>,
    only_http1: bool,
) -> Result<Sender<RequestBody>, Refusal> {
    // Boxed, because it is large and most requests need none: they carry it around all the same.
    let sender = Box::pin(connect(service, &worker.health, only_http1)).await?;
    if let Sender::Http2(sender, users) = &sender {
        worker.pools.share(service, sender.clone(), users.clone());
    }
    Ok(sender)
}

/// A new connection, within the service's time limit.
pub(crate) async fn connect(
    service: &Service,
    health: &HealthChanges,
    only_http1: bool,
) -> Result<Sender<RequestBody>, Refusal> {
    let limit = service.settings.connection.timeout;
    match tokio::time::timeout(limit, establish(service, only_http1)).await {
        Ok(Ok(sender)) => {
            health.connected(service);
            Ok(sender)
        }
        Ok(Err(error)) => {
            health.not_connected(service, &error, false);
            Err(Refusal::BackendUnreachable(error))
        }
        Err(_) => {
            health.not_connected(service, &format!("no connection within {limit:?}"), true);
            Err(Refusal::BackendTimeout)
        }
    }
}

pub(crate) async fn establish<B>(service: &Service, only_http1: bool) -> Result<Sender<B>, String>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
{
    let address = &service.settings.address;
    let stream = dial(service).await?;
    if !address.tls {
        return handshake(stream, address.is_h2c && !only_http1).await;
    }
    let tls = match &service.settings.tls {
        Some(tls) => tls,
        None => BackendTls::of_the_system()?,
    };
    let (stream, is_http2) = tls.connect(&address.server_name, stream, only_http1).await?;
    handshake(stream, is_http2).await
}

/// Tries the host's addresses in turn.
async fn dial(service: &Service) -> Result<TcpStream, String> {
    let address = &service.settings.address;
    let mut last = format!("{} has no address", address.host);
    for address in look_up(service).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                tune(&stream, &service.settings.connection);
                return Ok(stream);
            }
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(last)
}

async fn look_up(service: &Service) -> Result<Vec<SocketAddr>, String> {
    let Address { host, port, .. } = &service.settings.address;
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, *port)]);
    }
    let failed = |error: &dyn std::fmt::Display| format!("looking up {host}: {error}");
    let permit = service.lookups.clone().acquire_owned().await.map_err(|error| failed(&error))?;
    let asked = (host.clone(), *port);
    // The permit is held until the system's resolver gives up, however long nobody waits for it any more.
    let addresses = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        asked.to_socket_addrs().map(Iterator::collect)
    });
    addresses.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}

/// What cannot be set only costs speed or time.
fn tune(stream: &TcpStream, settings: &ConnectionSettings) {
    let _ = stream.set_nodelay(true);
    if let Some(interval) = settings.keep_alive {
        keep_alive(stream, interval);
    }
}

pub(crate) fn keep_alive(stream: &TcpStream, interval: Duration) {
    let probes = TcpKeepalive::new().with_time(interval).with_interval(interval);
    let _ = SockRef::from(stream).set_tcp_keepalive(&probes);
}

async fn handshake<B, T>(stream: T, is_http2: bool) -> Result<Sender<B>, String>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(SmallWrites(stream));
    // Whoever waits for an answer over a connection is told of its end as well.
    let ended = |error: hyper::Error| debug!(%error, "a connection to a backend ended");
    if is_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new());
        builder.initial_stream_window_size(HTTP2_STREAM_WINDOW);
        builder.initial_connection_window_size(HTTP2_CONNECTION_WINDOW);
        let (sender, connection) = builder.handshake(io).await.map_err(|error| error.to_string())?;
        tokio::spawn(async move { connection.await.unwrap_or_else(ended) });
        return Ok(Sender::Http2(sender, Arc::new(())));
    }
    // With room for 100 headers of an answer, which hyper has on its stack.
    let (sender, connection) = http1::handshake(io).await.map_err(|error| error.to_string())?;
    tokio::spawn(async move { connection.with_upgrades().await.unwrap_or_else(ended) });
    Ok(Sender::Http1(sender))
}
