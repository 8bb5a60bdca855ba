//! Connections to services, kept by each worker for itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tracing::debug;

use crate::Refusal;
use crate::body::RequestBody;
use crate::extension::{ConnectionSettings, Extensions, Service, ServiceSettings};
use crate::server::{MAX_HEADERS, Worker};

/// How often connections are looked at that nobody used for long.
pub(crate) const REAP_INTERVAL: Duration = Duration::from_secs(1);

/// The connections of one worker that wait for a request, by service.
#[derive(Default)]
pub(crate) struct Pools(Mutex<HashMap<u64, Pool>>);

struct Pool {
    service: Arc<Service>,
    idle: Vec<Idle>,
}

struct Idle {
    sender: SendRequest<RequestBody>,
    since: Instant,
}

impl Pools {
    /// The connection that was used last, if one is ready.
    pub(crate) fn take(&self, service: &Service) -> Option<SendRequest<RequestBody>> {
        let mut pools = self.0.lock();
        let pool = pools.get_mut(&service.id)?;
        let mut i = pool.idle.len();
        while i > 0 {
            i -= 1;
            if pool.idle[i].sender.is_ready() {
                return Some(pool.remove(i).sender);
            }
            if pool.idle[i].sender.is_closed() {
                pool.remove(i);
            }
        }
        None
    }

    fn put(&self, service: &Arc<Service>, sender: SendRequest<RequestBody>) {
        if sender.is_closed() {
            return;
        }
        if service.idle_connections.fetch_add(1, Ordering::Relaxed) >= service.settings.connection.max_idle {
            service.idle_connections.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let mut pools = self.0.lock();
        let pool = pools.entry(service.id).or_insert_with(|| Pool { service: service.clone(), idle: Vec::new() });
        pool.idle.push(Idle { sender, since: Instant::now() });
    }

    /// Closes what was unused for too long or was closed by the other side.
    pub(crate) fn reap(&self) {
        for pool in self.0.lock().values_mut() {
            let limit = pool.service.settings.connection.idle_timeout;
            let expired = |idle: &Idle| limit.is_some_and(|limit| idle.since.elapsed() >= limit);
            let mut i = 0;
            while i < pool.idle.len() {
                if pool.idle[i].sender.is_closed() || expired(&pool.idle[i]) {
                    pool.remove(i);
                } else {
                    i += 1;
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

/// A connection whose answer is being read.
pub(crate) struct Lease {
    worker: Arc<Worker>,
    service: Arc<Service>,
    sender: SendRequest<RequestBody>,
}

impl Lease {
    pub(crate) fn new(worker: &Arc<Worker>, service: &Arc<Service>, sender: SendRequest<RequestBody>) -> Self {
        Self { worker: worker.clone(), service: service.clone(), sender }
    }

    pub(crate) fn give_back(self) {
        self.worker.pools.put(&self.service, self.sender);
    }
}

/// A new connection, within the service's time limit.
pub(crate) async fn connect(worker: &Worker, service: &Service) -> Result<SendRequest<RequestBody>, Refusal> {
    match tokio::time::timeout(service.settings.connection.timeout, establish(worker, &service.settings)).await {
        Ok(Ok(sender)) => Ok(sender),
        Ok(Err(error)) => Err(Refusal::BackendUnreachable(error)),
        Err(_) => Err(Refusal::BackendTimeout),
    }
}

async fn establish(worker: &Worker, settings: &ServiceSettings) -> Result<SendRequest<RequestBody>, String> {
    let stream = dial(settings).await?;
    if settings.address.tls {
        let stream = worker.tls.connect(&settings.address.host, stream).await?;
        handshake(TokioIo::new(stream)).await
    } else {
        handshake(TokioIo::new(stream)).await
    }
}

/// Tries the host's addresses in turn.
async fn dial(settings: &ServiceSettings) -> Result<TcpStream, String> {
    let address = &settings.address;
    let addresses = lookup_host((address.host.as_str(), address.port))
        .await
        .map_err(|error| format!("looking up {}: {error}", address.host))?;
    let mut last = format!("{} has no address", address.host);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                tune(&stream, &settings.connection);
                return Ok(stream);
            }
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(last)
}

/// What cannot be set only costs speed or time.
fn tune(stream: &TcpStream, settings: &ConnectionSettings) {
    let _ = stream.set_nodelay(true);
    if let Some(interval) = settings.keep_alive {
        let probes = TcpKeepalive::new().with_time(interval).with_interval(interval);
        let _ = SockRef::from(stream).set_tcp_keepalive(&probes);
    }
}

async fn handshake<T: Read + Write + Unpin + Send + 'static>(io: T) -> Result<SendRequest<RequestBody>, String> {
    let (sender, connection) =
        http1::Builder::new().max_headers(MAX_HEADERS).handshake(io).await.map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        // Whoever waits for an answer over it is told as well.
        if let Err(error) = connection.with_upgrades().await {
            debug!(%error, "a connection to a backend ended");
        }
    });
    Ok(sender)
}
