//! Workers: one thread each, with its own runtime, connections and memory, so that nothing is shared on a
//! request's way but the snapshot and the counters.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

use crate::memo::Memo;
use crate::metrics::Metrics;
use crate::pool::{Pools, REAP_INTERVAL};
use crate::request::{self, Peer};
use crate::snapshot::{Snapshot, SnapshotReceiver};
use crate::tls::ClientTls;

/// Headers that one message may have.
pub(crate) const MAX_HEADERS: usize = 256;
/// A caller has this long to send a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

pub struct ServerOptions {
    pub listener: StdListener,
    pub workers: usize,
}

/// The running data plane.
pub struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    force: CancellationToken,
    threads: Vec<JoinHandle<()>>,
}

/// What one worker thread's requests share.
pub(crate) struct Worker {
    current: Mutex<Current>,
    pub(crate) memo: Mutex<Memo>,
    pub(crate) pools: Pools,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tls: Arc<ClientTls>,
    pub(crate) streams: TaskTracker,
    force: CancellationToken,
}

struct Current {
    receiver: SnapshotReceiver,
    snapshot: Option<Arc<Snapshot>>,
}

impl Worker {
    fn new(receiver: SnapshotReceiver, metrics: Arc<Metrics>, tls: Arc<ClientTls>, force: CancellationToken) -> Self {
        let mut receiver = receiver;
        receiver.mark_changed();
        Self {
            current: Mutex::new(Current { receiver, snapshot: None }),
            memo: Mutex::new(Memo::new()),
            pools: Pools::default(),
            metrics,
            tls,
            streams: TaskTracker::new(),
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
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

impl Server {
    /// Starts the workers on a listener that is bound already.
    pub fn start(options: &ServerOptions, snapshots: &SnapshotReceiver, metrics: &Arc<Metrics>) -> io::Result<Self> {
        options.listener.set_nonblocking(true)?;
        let address = options.listener.local_addr()?;
        let (stop, force) = (CancellationToken::new(), CancellationToken::new());
        let tls = Arc::new(ClientTls::default());
        let mut threads = Vec::with_capacity(options.workers);
        for i in 0..options.workers.max(1) {
            let listener = options.listener.try_clone()?;
            let worker = Arc::new(Worker::new(snapshots.clone(), metrics.clone(), tls.clone(), force.clone()));
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            let (stop, force) = (stop.clone(), force.clone());
            threads.push(std::thread::Builder::new().name(format!("worker-{i}")).spawn(move || {
                runtime.block_on(run(&worker, listener, &stop, &force));
                // A lookup that hangs in the system's resolver must not keep the process.
                runtime.shutdown_background();
            })?);
        }
        Ok(Self { address, stop, force, threads })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, lets requests and streams finish for as long as `grace`, then ends them.
    pub async fn drain(self, grace: Duration) {
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

async fn run(worker: &Arc<Worker>, listener: StdListener, stop: &CancellationToken, force: &CancellationToken) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return error!(%error, "the listener cannot be used"),
    };
    let reaper = tokio::spawn(reap(worker.clone()));
    tokio::select! {
        () = accept(worker, &listener, stop) => {}
        () = stop.cancelled() => {}
    }
    drop(listener);
    worker.streams.close();
    tokio::select! {
        () = worker.streams.wait() => {}
        () = force.cancelled() => {
            // Streams have just been told; this is for them to go.
            let _ = timeout(ACCEPT_BACKOFF, worker.streams.wait()).await;
        }
    }
    reaper.abort();
}

async fn reap(worker: Arc<Worker>) {
    loop {
        sleep(REAP_INTERVAL).await;
        worker.pools.reap();
        // Without requests a worker would hold on to an old snapshot and its connections.
        worker.snapshot();
    }
}

async fn accept(worker: &Arc<Worker>, listener: &TcpListener, stop: &CancellationToken) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                worker.streams.spawn(serve(worker.clone(), stream, Peer::new(peer.ip()), stop.clone()));
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

async fn serve(worker: Arc<Worker>, stream: TcpStream, peer: Peer, stop: CancellationToken) {
    let _open = worker.metrics.open_connection();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_headers(MAX_HEADERS);
    builder.http2().timer(TokioTimer::new());
    let service = service_fn(|request| {
        let (worker, peer) = (worker.clone(), peer.clone());
        async move { Ok::<_, std::convert::Infallible>(request::handle(worker, peer, request).await) }
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                outcome = connection.as_mut() => outcome,
                () = worker.draining_ended() => return,
            }
        }
    };
    if let Err(error) = outcome {
        debug!(%error, "a caller's connection ended");
    }
}
