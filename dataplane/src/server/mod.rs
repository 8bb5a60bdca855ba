//! Workers: one thread each, with its own runtime, connections and memory, so that nothing is shared on a
//! request's way but the snapshot and the counters. Beside them a thread watches over the health of backends.

mod connection;
mod proxy_protocol;
mod pulse;

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

use crate::access_log::AccessLog;
use crate::health::{self, HealthChanges};
use crate::memo::Memo;
use crate::metrics::Metrics;
use crate::pool::{Pools, REAP_INTERVAL};
use crate::request::TrustedProxies;
use crate::snapshot::{Snapshot, SnapshotReceiver};
use crate::telemetry::Tracing;
use crate::tls::ServingCertificate;
use pulse::Pulse;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// Tasks that run before it is looked again who has sent something. More than tokio's 61: they are short, and to look
/// costs as much as some of them.
const TASKS_IN_A_ROW: u32 = 128;
/// Of those who have sent something so many are served together: every step of all of them comes before the next step
/// of any, so that the first would wait for many.
const SENDERS_AT_ONCE: usize = 32;

pub struct ServerOptions {
    pub listener: StdListener,
    pub workers: usize,
    /// `None`: TLS is not spoken with callers.
    pub certificate: Option<Arc<ServingCertificate>>,
    /// Whether each connection starts with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    pub common: Common,
}

/// What every request meets, whichever worker serves it.
#[derive(Default, Clone)]
pub struct Common {
    pub metrics: Arc<Metrics>,
    pub access_log: Option<Arc<AccessLog>>,
    pub tracing: Option<Arc<Tracing>>,
    pub trusted_proxies: TrustedProxies,
    /// Requests and streams that one extension may have open, so that it leaves room for others.
    pub most_open: usize,
    /// Set when the process is about to end: callers are asked to come over another connection.
    pub leaving: Arc<AtomicBool>,
}

/// How connections are accepted.
#[derive(Clone)]
struct Reception {
    tls: Option<TlsAcceptor>,
    proxy_protocol: bool,
}

/// The running data plane.
pub struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    force: CancellationToken,
    threads: Vec<JoinHandle<()>>,
    health: HealthChanges,
    leaving: Arc<AtomicBool>,
}

/// What one worker thread's requests share.
pub(crate) struct Worker {
    current: Mutex<Current>,
    pub(crate) memo: Mutex<Memo>,
    pub(crate) pools: Pools,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) common: Common,
    pub(crate) health: HealthChanges,
    pub(crate) streams: TaskTracker,
    pulse: Arc<Pulse>,
    force: CancellationToken,
}

struct Current {
    receiver: SnapshotReceiver,
    snapshot: Option<Arc<Snapshot>>,
}

impl Worker {
    fn new(receiver: SnapshotReceiver, common: Common, health: HealthChanges, force: CancellationToken) -> Self {
        let mut receiver = receiver;
        receiver.mark_changed();
        Self {
            current: Mutex::new(Current { receiver, snapshot: None }),
            memo: Mutex::new(Memo::new()),
            pools: Pools::default(),
            metrics: common.metrics.clone(),
            common,
            health,
            streams: TaskTracker::new(),
            pulse: Arc::default(),
            force,
        }
    }

    /// The newest snapshot. What is remembered and pooled follows it first.
    pub(crate) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        let mut current = self.current.lock();
        // Without a sender there is no newer one.
        if current.receiver.has_changed().unwrap_or(false) {
            let newest = current.receiver.borrow_and_update().clone();
            if let Some(newest) = &newest {
                self.memo.lock().follow(newest);
                self.pools.retain(&newest.extensions);
            }
            current.snapshot = newest;
        }
        current.snapshot.clone()
    }

    /// Tells of snapshots that come after now.
    pub(crate) fn snapshots(&self) -> SnapshotReceiver {
        self.current.lock().receiver.clone()
    }

    /// Ends when what still runs must end.
    pub(crate) async fn draining_ended(&self) {
        self.force.cancelled().await;
    }
}

/// Listens on the first of the addresses that can be listened on.
pub fn bind(addresses: &[SocketAddr]) -> io::Result<StdListener> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match listen(*address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn listen(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // IPv4 as well, where it is every address.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

impl Server {
    /// Starts the workers on a listener that is bound already.
    pub fn start(options: &ServerOptions, snapshots: &SnapshotReceiver) -> io::Result<Self> {
        options.listener.set_nonblocking(true)?;
        let address = options.listener.local_addr()?;
        let tls =
            options.certificate.as_ref().map(ServingCertificate::acceptor).transpose().map_err(io::Error::other)?;
        let reception = Reception { tls, proxy_protocol: options.proxy_protocol };
        let (stop, force) = (CancellationToken::new(), CancellationToken::new());
        let health = HealthChanges::default();
        let mut threads = Vec::with_capacity(options.workers + 1);
        for i in 0..options.workers.max(1) {
            let listener = options.listener.try_clone()?;
            let worker = Worker::new(snapshots.clone(), options.common.clone(), health.clone(), force.clone());
            let (worker, reception) = (Arc::new(worker), reception.clone());
            let (stop, force) = (stop.clone(), force.clone());
            threads.push(thread(&format!("worker-{i}"), async move {
                run(&worker, listener, &reception, &stop, &force).await;
            })?);
        }
        let monitor = health::monitor(snapshots.clone(), health.clone());
        let stopped = stop.clone();
        threads.push(thread("health", async move {
            tokio::select! {
                () = monitor => {}
                () = stopped.cancelled() => {}
            }
        })?);
        Ok(Self { address, stop, force, threads, health, leaving: options.common.leaving.clone() })
    }

    /// Tells when a backend goes down or comes back.
    pub fn health(&self) -> &HealthChanges {
        &self.health
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves on for `delay`, until nobody sends it requests any more, but keeps no connection after its answer. Then
    /// stops accepting, lets requests and streams finish for as long as `grace`, and ends them.
    pub async fn drain(self, delay: Duration, grace: Duration) {
        self.leaving.store(true, Ordering::Relaxed);
        sleep(delay).await;
        self.stop.cancel();
        let force = self.force.clone();
        let forced = tokio::spawn(async move {
            sleep(grace).await;
            force.cancel();
        });
        for thread in self.threads {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                error!("a worker ended abnormally");
            }
        }
        forced.abort();
    }
}

/// A thread with a runtime of its own.
fn thread(name: &str, task: impl Future<Output = ()> + Send + 'static) -> io::Result<JoinHandle<()>> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(TASKS_IN_A_ROW)
        .max_io_events_per_tick(SENDERS_AT_ONCE)
        .build()?;
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        runtime.block_on(task);
        // A lookup that hangs in the system's resolver must not keep the process.
        runtime.shutdown_background();
    })
}

async fn run(
    worker: &Arc<Worker>,
    listener: StdListener,
    reception: &Reception,
    stop: &CancellationToken,
    force: &CancellationToken,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return error!(%error, "the listener cannot be used"),
    };
    let reaper = tokio::spawn(reap(worker.clone()));
    let pulse = tokio::spawn(beat(worker.pulse.clone()));
    tokio::select! {
        () = accept(worker, &listener, reception, stop) => {}
        () = stop.cancelled() => {}
    }
    drop(listener);
    // Connections find out with it that it is time to stop.
    worker.pulse.beat();
    worker.streams.close();
    tokio::select! {
        () = worker.streams.wait() => {}
        () = force.cancelled() => {
            // Streams have just been told; this is for them to go.
            let _ = timeout(ACCEPT_BACKOFF, worker.streams.wait()).await;
        }
    }
    reaper.abort();
    pulse.abort();
}

async fn beat(pulse: Arc<Pulse>) {
    loop {
        sleep(pulse::BEAT).await;
        pulse.beat();
    }
}

async fn reap(worker: Arc<Worker>) {
    loop {
        sleep(REAP_INTERVAL).await;
        worker.pools.reap();
        // Without requests a worker would hold on to an old snapshot and its connections.
        worker.snapshot();
    }
}

async fn accept(worker: &Arc<Worker>, listener: &TcpListener, reception: &Reception, stop: &CancellationToken) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let connection = connection::serve(worker.clone(), stream, peer.ip(), reception.clone(), stop.clone());
                worker.streams.spawn(connection);
            }
            Err(error) if is_of_one_connection(&error) => {
                debug!(%error, "a connection was gone before it was accepted");
            }
            Err(error) => {
                warn!(%error, "connections cannot be accepted; trying again");
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | ConnectionRefused)
}
