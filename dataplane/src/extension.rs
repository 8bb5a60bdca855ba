//! Extensions that are served, and the services behind them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use http::{HeaderName, HeaderValue};

use crate::cluster::Cluster;

#[derive(Debug, PartialEq)]
pub struct Extension {
    pub name: Arc<str>,
    pub services: Vec<Arc<Service>>,
}

/// One backend address. Two services are equal when they were configured alike; the connections of a service
/// belong to it alone and outlive a reload that leaves it as it is.
#[derive(Debug)]
pub struct Service {
    pub settings: ServiceSettings,
    /// Distinguishes the connection pools of services.
    pub(crate) id: u64,
    /// Connections that wait for a request, over all workers.
    pub(crate) idle_connections: AtomicUsize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ServiceSettings {
    pub address: Address,
    /// The cluster whose applications are served; `None` for all.
    pub cluster: Option<ClusterMatch>,
    /// Set on each request, after the identity.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub connection: ConnectionSettings,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Address {
    pub tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    pub port: u16,
    /// Value of the `Host` header.
    pub authority: HeaderValue,
    /// Put before the request's path; empty or `/…` without a trailing slash.
    pub path: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterMatch {
    pub name: Option<String>,
    pub server: Option<String>,
}

/// `None` means that there is no such limit, or no probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionSettings {
    pub timeout: Duration,
    pub keep_alive: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    pub max_idle: usize,
}

impl Service {
    pub fn new(settings: ServiceSettings) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { settings, id: NEXT.fetch_add(1, Ordering::Relaxed), idle_connections: AtomicUsize::new(0) }
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
    }
}

impl Extension {
    /// The service for applications of this cluster.
    pub fn service_for(&self, cluster: &Cluster) -> Option<&Arc<Service>> {
        self.services.iter().find(|service| service.settings.cluster.as_ref().is_none_or(|c| c.matches(cluster)))
    }
}

/// All served extensions, by name.
pub type Extensions = HashMap<Arc<str>, Arc<Extension>>;
