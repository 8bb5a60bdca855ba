//! Puts the parts together, and takes them apart again when the process is told to end.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use dataplane::metrics::{IdleConnections, Metrics};
use dataplane::{Server, ServerOptions};
use prometheus_client::registry::Registry;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{error, info};

use crate::admin::Admin;
use crate::cli::ServingOptions;
use crate::controller::{Controller, Report};
use crate::metrics::ControllerMetrics;
use crate::sources::folder::{Folder, LONGEST_WRITE, StopWatch, Watch};
use crate::verdict::{State, Verdict};

pub(crate) fn run(
    folder: &Path,
    namespace: &str,
    listener: TcpListener,
    admin_listener: TcpListener,
    serving: &ServingOptions,
) -> Result<()> {
    let proxy = Proxy::start(folder, namespace, listener, admin_listener, serving)?;
    print(&format!("{}\n{}\n", proxy.report.summary(&folder.display().to_string()), proxy.addresses()));
    runtime()?.block_on(proxy.serve(serving))
}

pub(crate) fn bind(address: &str, option: &str) -> Result<TcpListener> {
    let addresses: Vec<SocketAddr> = address
        .to_socket_addrs()
        .with_context(|| format!("{option} {address}: is no address to listen on; write for example 127.0.0.1:8080"))?
        .collect();
    dataplane::server::bind(&addresses).with_context(|| format!("{option} {address}: cannot be listened on"))
}

/// For what is not on a request's way: the admin port, signals.
pub(crate) fn runtime() -> Result<runtime::Runtime> {
    runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")
}

/// Standard output may be gone, which is no reason to end.
pub(crate) fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// The running program.
pub(crate) struct Proxy {
    /// Of the first reading.
    pub(crate) report: Arc<Report>,
    pub(crate) address: SocketAddr,
    admin_address: SocketAddr,
    server: Server,
    admin: Admin,
    admin_listener: TcpListener,
    source: SourceThread,
}

impl Proxy {
    /// Reads the folder and serves what it says. Fails where the folder cannot be read at all.
    pub(crate) fn start(
        folder: &Path,
        namespace: &str,
        listener: TcpListener,
        admin_listener: TcpListener,
        serving: &ServingOptions,
    ) -> Result<Self> {
        let (metrics, controller_metrics) = (Arc::new(Metrics::default()), ControllerMetrics::default());
        let mut controller = Controller::new(namespace, controller_metrics.clone());
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        controller_metrics.register(&mut registry);
        registry.register_collector(Box::new(IdleConnections(controller.snapshots())));
        let admin = Admin { snapshots: controller.snapshots(), reports: controller.reports(), metrics: registry };
        let options = ServerOptions { listener, workers: serving.workers() };
        let server = Server::start(&options, &controller.snapshots(), &metrics).context("starting the data plane")?;

        // The watch comes first: no change between reading and watching is missed.
        let (watch, stop) = Watch::new(folder);
        let mut reader = Folder::new(folder, namespace);
        let (inputs, verdicts) =
            reader.read().with_context(|| format!("the folder {} cannot be read", folder.display()))?;
        let report = controller.apply(inputs, verdicts);
        let source = SourceThread::start(folder, watch, stop, reader, controller, report.clone())?;
        Ok(Self {
            report,
            address: server.address(),
            admin_address: admin_listener.local_addr()?,
            server,
            admin,
            admin_listener,
            source,
        })
    }

    pub(crate) fn addresses(&self) -> String {
        format!(
            "Extensions   http://{}/extensions/<name>/\nAdmin        http://{}  (/healthz /readyz /metrics /status)",
            self.address, self.admin_address
        )
    }

    /// Serves until the process is told to end, then lets what runs finish.
    pub(crate) async fn serve(mut self, serving: &ServingOptions) -> Result<()> {
        let mut signals = Signals::new()?;
        let admin = tokio::spawn(self.admin.serve(self.admin_listener));
        let outcome = tokio::select! {
            name = signals.next() => {
                info!(seconds = serving.drain_timeout().as_secs(), "{name}: open requests may finish");
                Ok(())
            }
            _ = &mut self.source.ended => Err("the thread that reads the folder ended"),
        };
        tokio::select! {
            () = self.server.drain(serving.drain_timeout()) => {}
            name = signals.next() => info!("{name} again: not waiting any longer"),
        }
        admin.abort();
        self.source.stop();
        info!("ended");
        match outcome {
            Ok(()) => Ok(()),
            Err(message) => bail!(message),
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("listening for signals");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The thread that reads the folder again whenever it changes.
struct SourceThread {
    stop: StopWatch,
    /// Resolves when the thread is gone, for whatever reason.
    ended: oneshot::Receiver<()>,
    thread: std::thread::JoinHandle<()>,
}

impl SourceThread {
    fn start(
        folder: &Path,
        watch: Watch,
        stop: StopWatch,
        reader: Folder,
        controller: Controller,
        report: Arc<Report>,
    ) -> Result<Self> {
        let (held_while_alive, ended) = oneshot::channel::<()>();
        let mut source = Source { folder: folder.to_owned(), reader, controller, report };
        let thread = std::thread::Builder::new().name("folder".into()).spawn(move || {
            let _alive = held_while_alive;
            source.follow(watch);
        })?;
        Ok(Self { stop, ended, thread })
    }

    fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            error!("the thread that reads the folder ended abnormally");
        }
    }
}

struct Source {
    folder: PathBuf,
    reader: Folder,
    controller: Controller,
    report: Arc<Report>,
}

impl Source {
    fn follow(&mut self, mut watch: Watch) {
        while watch.changed() {
            let started = Instant::now();
            let mut reading = self.reader.read();
            // What was read while it was written may be half of it.
            while watch.changes_still() && started.elapsed() < LONGEST_WRITE {
                reading = self.reader.read();
            }
            match reading {
                Ok((inputs, verdicts)) => {
                    let report = self.controller.apply(inputs, verdicts);
                    report.log_changes(&self.report);
                    self.report = report;
                }
                Err(error) => {
                    let folder = self.folder.display();
                    error!(%folder, %error, "the folder cannot be read; what was read last stays in effect");
                }
            }
        }
    }
}

impl Report {
    /// What is served and what is not, for a person.
    pub(crate) fn summary(&self, source: &str) -> String {
        let counts = self.counts();
        let not_served = counts.invalid + counts.conflicted;
        let mut text = format!("{source}: {} extensions are served, {not_served} are not\n", counts.accepted);
        // What needs attention comes last, where it is seen.
        let (bad, good): (Vec<&Verdict>, Vec<&Verdict>) =
            self.verdicts.iter().partition(|verdict| verdict.state != State::Accepted);
        for line in good.into_iter().chain(bad).flat_map(Verdict::lines) {
            let _ = writeln!(text, "  {line}");
        }
        text
    }
}
