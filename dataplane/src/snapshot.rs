//! Everything that decides a request, at one moment.
//!
//! Immutable. Parts are shared between snapshots: a part that did not change is the same `Arc`, which is how
//! what was remembered under an older snapshot stays valid under a newer one.

use std::sync::Arc;

use hashbrown::HashSet;
use http::HeaderValue;
use tokio::sync::watch;

use crate::account::Accounts;
use crate::application::Applications;
use crate::cluster::Clusters;
use crate::extension::Extensions;
use crate::namespace::NamespacePatterns;
use crate::project::Projects;
use crate::rbac::Policy;
use crate::token::oidc::Provider;

#[derive(Debug, Clone)]
pub struct Snapshot {
    pub settings: Arc<Settings>,
    pub accounts: Arc<Accounts>,
    /// The identity provider, where single sign-on is configured.
    pub provider: Option<Arc<Provider>>,
    /// `None` while no readable policy was ever seen: everything is refused.
    pub policy: Option<Arc<Policy>>,
    pub projects: Arc<Projects>,
    pub clusters: Arc<Clusters>,
    pub applications: Applications,
    pub extensions: Arc<Extensions>,
    /// Ids of tokens that were revoked.
    pub revoked: Arc<HashSet<Box<str>>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Argo CD's own namespace.
    pub namespace: String,
    /// `server.rootpath` without slashes at its ends, or empty.
    pub root_path: String,
    /// Namespaces besides Argo CD's own whose applications count.
    pub application_namespaces: NamespacePatterns,
}

impl Settings {
    /// Whether applications in this namespace count.
    pub fn watches(&self, namespace: &str) -> bool {
        namespace == self.namespace || self.application_namespaces.matches(namespace)
    }

    pub(crate) fn namespace_header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.namespace).ok()
    }
}

/// How snapshots reach the data plane. `None` until every source has been read once.
pub type SnapshotReceiver = watch::Receiver<Option<Arc<Snapshot>>>;
