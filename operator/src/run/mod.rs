//! Puts the parts together, and takes them apart again when the process is told to end.

mod folder;

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use dataplane::metrics::{IdleConnections, Metrics};
use dataplane::{Server, ServerOptions};
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info};

use crate::admin::Admin;
use crate::cli::ServingOptions;
use crate::controller::{Controller, Report};
use crate::metrics::{ControllerMetrics, SourceMetrics};
use crate::sources::cluster::{Cluster, ClusterOptions};
use crate::status::{Status, StatusOptions};
use crate::verdict::{State, Verdict};
use folder::FolderThread;

/// Where the configuration comes from.
pub(crate) enum SourceOptions<'a> {
    Folder { folder: &'a Path, namespace: &'a str },
    Cluster { cluster: Box<ClusterOptions>, identity: String },
}

pub(crate) fn run(source: SourceOptions<'_>, listeners: Listeners, serving: &ServingOptions) -> Result<()> {
    runtime()?.block_on(async {
        let proxy = match source {
            SourceOptions::Folder { folder, namespace } => {
                let (proxy, report) = Proxy::on_folder(folder, namespace, listeners, serving)?;
                print(&report.summary(&folder.display().to_string()));
                proxy
            }
            SourceOptions::Cluster { cluster, identity } => {
                Proxy::on_cluster(*cluster, identity, listeners, serving).await?
            }
        };
        print(&format!("{}\n", proxy.addresses()));
        proxy.serve(serving).await
    })
}

pub(crate) struct Listeners {
    pub(crate) extensions: TcpListener,
    pub(crate) admin: TcpListener,
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
    pub(crate) address: SocketAddr,
    admin_address: SocketAddr,
    server: Server,
    admin: Admin,
    admin_listener: TcpListener,
    source: Source,
}

enum Source {
    Folder(FolderThread),
    Cluster { task: AbortOnDropHandle<()>, status: Status },
}

impl Proxy {
    /// Reads the folder and serves what it says. Fails where the folder cannot be read at all.
    pub(crate) fn on_folder(
        folder: &Path,
        namespace: &str,
        listeners: Listeners,
        serving: &ServingOptions,
    ) -> Result<(Self, Arc<Report>)> {
        let parts = Parts::start(namespace, listeners, serving)?;
        let (thread, report) = FolderThread::start(folder, namespace, parts.controller)?;
        let source = Source::Folder(thread);
        Ok((Self::new(parts.server, parts.admin, parts.admin_listener, source)?, report))
    }

    /// Serves what the cluster says as soon as it has been read once.
    pub(crate) async fn on_cluster(
        options: ClusterOptions,
        identity: String,
        listeners: Listeners,
        serving: &ServingOptions,
    ) -> Result<Self> {
        let mut parts = Parts::start(&options.namespace, listeners, serving)?;
        let metrics = SourceMetrics::default();
        metrics.register(&mut parts.admin.metrics);
        let client = Client::try_default()
            .await
            .context("neither a kubeconfig nor a service account was found; without a cluster use --from-dir DIR")?;
        let status = StatusOptions { namespace: options.namespace.clone(), identity };
        let status = Status::start(&client, status, parts.controller.reports(), &metrics);
        let cluster = Cluster::new(client, options, parts.controller, metrics);
        let source = Source::Cluster { task: AbortOnDropHandle::new(tokio::spawn(cluster.run())), status };
        Self::new(parts.server, parts.admin, parts.admin_listener, source)
    }

    fn new(server: Server, admin: Admin, admin_listener: TcpListener, source: Source) -> Result<Self> {
        let (address, admin_address) = (server.address(), admin_listener.local_addr()?);
        Ok(Self { address, admin_address, server, admin, admin_listener, source })
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
            () = self.source.ended() => Err("the source of the configuration ended"),
        };
        tokio::select! {
            () = self.server.drain(serving.drain_timeout()) => {}
            name = signals.next() => info!("{name} again: not waiting any longer"),
        }
        admin.abort();
        self.source.stop().await;
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
    controller: Controller,
    server: Server,
    admin: Admin,
    admin_listener: TcpListener,
}

impl Parts {
    fn start(namespace: &str, listeners: Listeners, serving: &ServingOptions) -> Result<Self> {
        let (metrics, controller_metrics) = (Arc::new(Metrics::default()), ControllerMetrics::default());
        let controller = Controller::new(namespace, controller_metrics.clone());
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        controller_metrics.register(&mut registry);
        registry.register_collector(Box::new(IdleConnections(controller.snapshots())));
        let admin = Admin { snapshots: controller.snapshots(), reports: controller.reports(), metrics: registry };
        let options = ServerOptions { listener: listeners.extensions, workers: serving.workers() };
        let server = Server::start(&options, &controller.snapshots(), &metrics).context("starting the data plane")?;
        Ok(Self { controller, server, admin, admin_listener: listeners.admin })
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
            self.verdicts.iter().partition(|verdict| verdict.state != State::Accepted);
        for line in good.into_iter().chain(bad).flat_map(Verdict::lines) {
            let _ = writeln!(text, "  {line}");
        }
        text
    }
}
