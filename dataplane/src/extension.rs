//! Extensions that are served, and the services behind them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hashbrown::HashMap;
use http::{HeaderName, HeaderValue};
use tokio::sync::Semaphore;

use crate::application::Destination;
use crate::cluster::Cluster;
use crate::effort::Effort;
use crate::glob::Glob;
use crate::health::Health;
use crate::metrics::ExtensionMetrics;
use crate::tls::BackendTls;

/// Host names of one service that are looked up at one time.
const LOOKUPS: usize = 4;

/// What is open belongs to the extension's name: it survives a reload.
#[derive(Debug)]
pub struct Extension {
    pub settings: ExtensionSettings,
    pub services: Vec<Arc<Service>>,
    pub(crate) metrics: OnceLock<ExtensionMetrics>,
    /// Requests and streams, over all workers.
    open: Arc<AtomicUsize>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ExtensionSettings {
    pub name: Arc<str>,
    pub scope: Scope,
    /// `None` for all.
    pub projects: Option<ProjectPatterns>,
    pub limits: Limits,
}

/// Whether a request must name an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    #[default]
    Application,
    Global,
}

/// Globs of projects' names.
#[derive(Debug, Clone)]
pub struct ProjectPatterns {
    source: Vec<String>,
    compiled: Vec<Glob>,
}

/// `None` means that there is no such limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// From the request's head to the answer's.
    pub request_timeout: Option<Duration>,
    /// Between two parts of an answer, or of a WebSocket.
    pub stream_idle_timeout: Option<Duration>,
    pub max_request_body_bytes: Option<u64>,
    pub max_concurrent_requests: Option<usize>,
}

/// One backend address. Two services are equal when they were configured alike; the connections and the health of a
/// service belong to it alone and outlive a reload that leaves it as it is.
#[derive(Debug)]
pub struct Service {
    pub settings: ServiceSettings,
    pub health: Health,
    /// Distinguishes the connection pools of services.
    pub(crate) id: u64,
    /// Connections that wait for a request, over all workers.
    pub(crate) idle_connections: AtomicUsize,
    /// So that a name that cannot be looked up keeps no other service's from being so.
    pub(crate) lookups: Arc<Semaphore>,
    /// Requests and streams, over all workers.
    open: AtomicUsize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ServiceSettings {
    pub address: Address,
    /// The clusters whose applications are served; `None` for all.
    pub cluster: Option<ClusterMatch>,
    /// Set on each request, after the identity.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub connection: ConnectionSettings,
    /// `None`: what the system trusts, and no certificate of one's own.
    pub tls: Option<BackendTls>,
    pub health_check: Option<HealthCheck>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Address {
    pub tls: bool,
    /// Name or address to connect to, without brackets.
    pub host: String,
    pub port: u16,
    /// Value of the `Host` header.
    pub authority: HeaderValue,
    /// Whom the certificate must be for.
    pub server_name: String,
    /// Put before the request's path; empty or `/…` without a trailing slash.
    pub path: String,
    /// Whether HTTP/2 is spoken without TLS. With TLS the backend chooses.
    pub is_h2c: bool,
}

/// A cluster is meant when one of the three applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterMatch {
    pub name: Option<String>,
    pub server: Option<String>,
    pub selector: Option<SelectedClusters>,
}

/// A label selector, and the servers of the clusters that it selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectedClusters {
    pub selector: String,
    pub servers: BTreeSet<String>,
}

/// `None` means that there is no such limit, or no probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionSettings {
    pub timeout: Duration,
    pub keep_alive: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    pub max_idle: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// Path and query.
    pub target: String,
    pub interval: Duration,
    pub timeout: Duration,
    pub unhealthy_threshold: u32,
}

/// Why no service answers for a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoService {
    None,
    /// Several services that were not configured for the same clusters answer for it.
    Ambiguous,
}

impl ProjectPatterns {
    pub fn new(patterns: impl IntoIterator<Item = String>) -> Self {
        let source: Vec<String> = patterns.into_iter().collect();
        let compiled = source.iter().map(|pattern| Glob::new(pattern)).collect();
        Self { source, compiled }
    }

    pub fn matches(&self, project: &str) -> bool {
        let mut effort = Effort::default();
        self.compiled.iter().any(|glob| glob.evaluate(project, &mut effort).unwrap_or(false))
    }
}

impl PartialEq for ProjectPatterns {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Address {
    /// As a URL, for people.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority.to_str().unwrap_or_default(), self.path)
    }
}

impl Service {
    pub fn new(settings: ServiceSettings) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            settings,
            health: Health::default(),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            idle_connections: AtomicUsize::new(0),
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
            open: AtomicUsize::new(0),
        }
    }

    /// Requests and streams that are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl PartialEq for Service {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl ClusterMatch {
    fn matches(&self, cluster: &Cluster) -> bool {
        self.name.as_ref().is_some_and(|name| *name == cluster.name)
            || self.server.as_ref().is_some_and(|server| server.trim_end_matches('/') == cluster.server)
            || self.selector.as_ref().is_some_and(|selected| selected.servers.contains(&cluster.server))
    }

    /// Whether it names the cluster by the words of the application's destination.
    fn is_written_as(&self, destination: &Destination) -> bool {
        let server = destination.server.trim_end_matches('/');
        self.name.as_ref().is_some_and(|name| *name == destination.name)
            || self.server.as_ref().is_some_and(|own| !server.is_empty() && own.trim_end_matches('/') == server)
    }
}

impl Extension {
    /// `before` is the extension that had this name.
    pub fn new(settings: ExtensionSettings, services: Vec<Arc<Service>>, before: Option<&Self>) -> Self {
        let open = before.map(|before| before.open.clone()).unwrap_or_default();
        Self { settings, services, metrics: OnceLock::new(), open }
    }

    /// The services that share the requests for applications of this cluster. Where several answer for it, those
    /// count that name it as the application's destination does, as in Argo CD; which of the others is meant is
    /// never guessed.
    pub fn services_for(&self, cluster: &Cluster, destination: &Destination) -> Result<Vec<Arc<Service>>, NoService> {
        let matching = self.matching(cluster);
        if are_alike(&matching) {
            return Ok(matching.into_iter().cloned().collect());
        }
        let is_written = |service: &&Arc<Service>| {
            service.settings.cluster.as_ref().is_some_and(|cluster| cluster.is_written_as(destination))
        };
        let written: Vec<&Arc<Service>> = matching.iter().copied().filter(is_written).collect();
        match (matching.is_empty(), are_alike(&written)) {
            (true, _) => Err(NoService::None),
            (_, true) => Ok(written.into_iter().cloned().collect()),
            (_, false) => Err(NoService::Ambiguous),
        }
    }

    /// Whether services that were not configured for the same clusters answer for this one.
    pub fn is_ambiguous_for(&self, cluster: &Cluster) -> bool {
        let matching = self.matching(cluster);
        !matching.is_empty() && !are_alike(&matching)
    }

    fn matching(&self, cluster: &Cluster) -> Vec<&Arc<Service>> {
        let matches = |service: &&Arc<Service>| service.settings.cluster.as_ref().is_none_or(|c| c.matches(cluster));
        self.services.iter().filter(matches).collect()
    }

    /// Requests and streams that are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// A place among the requests that may be open at one time; `None` where all are taken. No extension may have
    /// more than `most`.
    pub(crate) fn enter(&self, most: usize) -> Option<Entered> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let entered = Entered(self.open.clone());
        let limit = self.settings.limits.max_concurrent_requests.map_or(most, |limit| limit.min(most));
        (before < limit).then_some(entered)
    }
}

/// Some, and all for the same clusters.
fn are_alike(services: &[&Arc<Service>]) -> bool {
    services.first().is_some_and(|first| services.iter().all(|s| s.settings.cluster == first.settings.cluster))
}

impl PartialEq for Extension {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings && self.services == other.services
    }
}

/// A request that is open until this is dropped.
pub(crate) struct Entered(Arc<AtomicUsize>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The same at one service.
pub(crate) struct AtService(Arc<Service>);

impl AtService {
    pub(crate) fn new(service: Arc<Service>) -> Self {
        service.open.fetch_add(1, Ordering::Relaxed);
        Self(service)
    }

    pub(crate) fn service(&self) -> &Arc<Service> {
        &self.0
    }
}

impl Drop for AtService {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All served extensions, by name.
pub type Extensions = HashMap<Arc<str>, Arc<Extension>>;
