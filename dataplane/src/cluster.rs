//! Clusters that Argo CD knows, and which of them an application's destination means.

use std::sync::Arc;

use hashbrown::HashMap;
use thiserror::Error;

use crate::application::Destination;

pub const IN_CLUSTER_SERVER: &str = "https://kubernetes.default.svc";
pub const IN_CLUSTER_NAME: &str = "in-cluster";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    pub name: String,
    /// API server address, without a trailing slash.
    pub server: String,
    /// The project that the cluster is scoped to; empty for none.
    pub project: String,
}

/// All clusters, indexed as destinations name them.
#[derive(Debug, PartialEq, Eq)]
pub struct Clusters {
    by_server: HashMap<String, Arc<Cluster>>,
    by_name: HashMap<String, Vec<Arc<Cluster>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DestinationError {
    #[error("the application's destination gives both a name and a server")]
    Both,
    #[error("the application has no destination")]
    Missing,
    #[error("no cluster of that name is known")]
    UnknownName,
    #[error("more than one cluster has that name")]
    AmbiguousName,
    #[error("no cluster with that server is known")]
    UnknownServer,
}

impl Clusters {
    /// Indexes the clusters of the cluster Secrets. Of two with one server the first counts.
    /// The cluster that Argo CD runs in is always there, unless it is disabled.
    pub fn new(configured: impl IntoIterator<Item = Cluster>, in_cluster_enabled: bool) -> Self {
        let mut clusters = Self { by_server: HashMap::new(), by_name: HashMap::new() };
        for cluster in configured {
            if in_cluster_enabled || cluster.server != IN_CLUSTER_SERVER {
                clusters.add(cluster);
            }
        }
        if in_cluster_enabled && !clusters.by_server.contains_key(IN_CLUSTER_SERVER) {
            clusters.add(Cluster {
                name: IN_CLUSTER_NAME.into(),
                server: IN_CLUSTER_SERVER.into(),
                project: String::new(),
            });
        }
        clusters
    }

    fn add(&mut self, cluster: Cluster) {
        let cluster = Arc::new(cluster);
        self.by_name.entry_ref(cluster.name.as_str()).or_default().push(cluster.clone());
        self.by_server.entry(cluster.server.clone()).or_insert(cluster);
    }

    /// The one cluster that a destination means.
    pub fn resolve(&self, destination: &Destination) -> Result<&Arc<Cluster>, DestinationError> {
        match (destination.name.as_str(), destination.server.as_str()) {
            ("", "") => Err(DestinationError::Missing),
            ("", server) => self.by_server.get(server.trim_end_matches('/')).ok_or(DestinationError::UnknownServer),
            (name, "") => match self.by_name.get(name).map(Vec::as_slice) {
                None | Some([]) => Err(DestinationError::UnknownName),
                Some([cluster]) => Ok(cluster),
                Some(_) => Err(DestinationError::AmbiguousName),
            },
            _ => Err(DestinationError::Both),
        }
    }

    /// Whether a cluster of this project has the name or the server.
    pub fn is_scoped_to(&self, project: &str, cluster: &Cluster) -> bool {
        self.by_name
            .values()
            .flatten()
            .any(|c| c.project == project && (c.name == cluster.name || c.server == cluster.server))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Cluster> {
        self.by_server.values().map(|cluster| &**cluster)
    }

    pub fn len(&self) -> usize {
        self.by_server.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_server.is_empty()
    }
}
