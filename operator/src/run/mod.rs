//! Puts the parts together, and takes them apart again when the process is told to end.

mod certificate_files;
mod folder;

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dataplane::access_log::AccessLog;
use dataplane::metrics::{Metrics, Served};
use dataplane::request::TrustedProxies;
use dataplane::server::Common;
use dataplane::snapshot::SnapshotReceiver;
use dataplane::telemetry::Tracing;
use dataplane::{Server, ServerOptions};
use prometheus_client::registry::Registry;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info};

use crate::admin::Admin;
use crate::controller::{Controller, Report};
use crate::log::LogLevel;
use crate::look;
use crate::metrics::{ControllerMetrics, SourceMetrics};
use crate::reconcile::ReconcileOptions;
use crate::sources::cluster::{Cluster, ClusterOptions};
use crate::status::{Status, StatusOptions};
use crate::verdict::{State, Verdict};
pub(crate) use certificate_files::CertificateFiles;
use folder::FolderThread;

/// Where the configuration comes from.
pub(crate) enum SourceOptions<'a> {
    Folder(&'a Path),
    Cluster { cluster: Box<ClusterOptions>, identity: String },
}

/// What the data plane and its surroundings are started with.
pub(crate) struct Setup {
    pub(crate) listeners: Listeners,
    pub(crate) reconcile: ReconcileOptions,
    pub(crate) log_level: LogLevel,
    pub(crate) workers: usize,
    pub(crate) shutdown_delay: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) tls: Option<CertificateSource>,
    pub(crate) proxy_protocol: bool,
    pub(crate) trusted_proxies: TrustedProxies,
    /// Requests that one extension may have open.
    pub(crate) most_open: usize,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) tracing: Option<Tracing>,
}

/// Where the certificate comes from that callers are shown.
pub(crate) enum CertificateSource {
    Files(CertificateFiles),
    /// The reconcile reads it.
    Secret,
}

pub(crate) struct Listeners {
    pub(crate) extensions: TcpListener,
    pub(crate) admin: TcpListener,
}

pub(crate) fn run(source: SourceOptions<'_>, setup: Setup) -> Result<()> {
    runtime()?.block_on(async {
        let proxy = match source {
            SourceOptions::Folder(folder) => {
                let (proxy, report) = Proxy::on_folder(folder, setup)?;
                print(&report.summary(&folder.display().to_string()));
                proxy
            }
            SourceOptions::Cluster { cluster, identity } => Proxy::on_cluster(*cluster, identity, setup).await?,
        };
        print(&format!("{}\n", proxy.addresses()));
        proxy.serve().await
    })
}

/// `:8080` is every address of the machine, IPv6 or IPv4.
pub(crate) fn bind(address: &str, option: &str) -> Result<TcpListener> {
    let hint = || format!("{option} {address}: is no address to listen on; write for example 127.0.0.1:8080");
    let addresses: Vec<SocketAddr> = match address.strip_prefix(':') {
        Some(port) => {
            let port = port.parse().with_context(hint)?;
            vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
        }
        None => address.to_socket_addrs().with_context(hint)?.collect(),
    };
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
    parts: Parts,
    source: Source,
}

enum Source {
    Folder(FolderThread),
    Cluster { task: AbortOnDropHandle<()>, status: Status },
}

impl Proxy {
    /// Reads the folder and serves what it says. Fails where the folder cannot be read at all.
    pub(crate) fn on_folder(folder: &Path, setup: Setup) -> Result<(Self, Arc<Report>)> {
        let (parts, controller) = Parts::start(setup)?;
        let (thread, report) = FolderThread::start(folder, controller)?;
        Ok((Self { parts, source: Source::Folder(thread) }, report))
    }

    /// Serves what the cluster says as soon as it has been read once.
    async fn on_cluster(options: ClusterOptions, identity: String, setup: Setup) -> Result<Self> {
        let (mut parts, controller) = Parts::start(setup)?;
        let metrics = SourceMetrics::default();
        metrics.register(&mut parts.admin.metrics);
        let client = look::client().await?;
        let status = StatusOptions { namespace: controller.options().namespace.clone(), identity };
        let health = parts.server.health().subscribe();
        let status = Status::start(&client, status, controller.reports(), health, &metrics);
        let cluster = Cluster::new(client, options, controller, metrics);
        let source = Source::Cluster { task: AbortOnDropHandle::new(tokio::spawn(cluster.run())), status };
        Ok(Self { parts, source })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.parts.server.address()
    }

    pub(crate) fn snapshots(&self) -> SnapshotReceiver {
        self.parts.admin.snapshots.clone()
    }

    /// With their scheme.
    pub(crate) fn base(&self) -> String {
        let scheme = if self.parts.admin.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address())
    }

    pub(crate) fn addresses(&self) -> String {
        format!(
            "Extensions   {}/extensions/<name>/\nAdmin        http://{}  (/healthz /readyz /metrics /status)",
            self.base(),
            self.parts.admin_address
        )
    }

    /// Serves until the process is told to end, then lets what runs finish.
    pub(crate) async fn serve(mut self) -> Result<()> {
        let Parts {
            server, admin, admin_listener, access_log, shutdown_delay, drain_timeout, _certificate_files, ..
        } = self.parts;
        let mut signals = Signals::new()?;
        let admin = tokio::spawn(admin.serve(admin_listener));
        let outcome = tokio::select! {
            name = signals.next() => {
                info!(seconds = drain_timeout.as_secs(), "{name}: open requests may finish");
                Ok(())
            }
            () = self.source.ended() => Err("the source of the configuration ended"),
        };
        tokio::select! {
            () = server.drain(shutdown_delay, drain_timeout) => {}
            name = signals.next() => info!("{name} again: not waiting any longer"),
        }
        admin.abort();
        self.source.stop().await;
        if let Some(access_log) = access_log {
            access_log.flush();
        }
        info!("ended");
        match outcome {
            Ok(()) => Ok(()),
            Err(message) => bail!(message),
        }
    }
}

impl Source {
    /// Resolves when nothing follows the configuration any more.
    async fn ended(&mut self) {
        match self {
            Self::Folder(thread) => thread.ended().await,
            Self::Cluster { task, .. } => {
                if let Err(error) = task.await {
                    error!(%error, "the task that follows the cluster ended abnormally");
                }
            }
        }
    }

    async fn stop(self) {
        match self {
            Self::Folder(thread) => thread.stop(),
            Self::Cluster { task, status } => {
                drop(task);
                status.stop().await;
            }
        }
    }
}

/// What is the same for every source.
struct Parts {
    server: Server,
    admin: Admin,
    admin_listener: TcpListener,
    admin_address: SocketAddr,
    access_log: Option<Arc<AccessLog>>,
    shutdown_delay: Duration,
    drain_timeout: Duration,
    _certificate_files: Option<AbortOnDropHandle<()>>,
}

impl Parts {
    fn start(setup: Setup) -> Result<(Self, Controller)> {
        let (metrics, controller_metrics) = (Arc::new(Metrics::default()), ControllerMetrics::default());
        let controller = Controller::new(setup.reconcile, setup.log_level, controller_metrics.clone());
        let access_log = setup.access_log.map(Arc::new);
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        controller_metrics.register(&mut registry);
        registry.register_collector(Box::new(Served(controller.snapshots())));
        if let Some(access_log) = &access_log {
            access_log.register(&mut registry);
        }
        let (certificate, certificate_files) = match setup.tls {
            None => (None, None),
            Some(CertificateSource::Secret) => (Some(controller.certificate().clone()), None),
            Some(CertificateSource::Files(files)) => {
                let (certificate, task) = files.follow()?;
                (Some(certificate), Some(task))
            }
        };
        let leaving = Arc::new(AtomicBool::new(false));
        let common = Common {
            metrics,
            access_log: access_log.clone(),
            tracing: setup.tracing.map(Arc::new),
            trusted_proxies: setup.trusted_proxies,
            most_open: setup.most_open,
            leaving: leaving.clone(),
        };
        let options = ServerOptions {
            listener: setup.listeners.extensions,
            workers: setup.workers,
            certificate: certificate.clone(),
            proxy_protocol: setup.proxy_protocol,
            common,
        };
        let server = Server::start(&options, &controller.snapshots()).context("starting the data plane")?;
        let (snapshots, reports) = (controller.snapshots(), controller.reports());
        let admin_listener = setup.listeners.admin;
        let parts = Self {
            server,
            admin: Admin { snapshots, reports, metrics: registry, certificate, leaving },
            admin_address: admin_listener.local_addr()?,
            admin_listener,
            access_log,
            shutdown_delay: setup.shutdown_delay,
            drain_timeout: setup.drain_timeout,
            _certificate_files: certificate_files,
        };
        Ok((parts, controller))
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

impl Report {
    /// What is served and what is not, for a person.
    pub(crate) fn summary(&self, source: &str) -> String {
        let counts = self.counts();
        let not_served = counts.invalid + counts.conflicted;
        let mut text = format!("{source}: {} extensions are served, {not_served} are not\n", counts.accepted);
        // What needs attention comes last, where it is seen.
        let (bad, good): (Vec<&Verdict>, Vec<&Verdict>) =
            self.verdicts.iter().map(|verdict| &**verdict).partition(|verdict| verdict.state != State::Accepted);
        for line in good.into_iter().chain(bad).flat_map(Verdict::lines) {
            let _ = writeln!(text, "  {line}");
        }
        text
    }
}
