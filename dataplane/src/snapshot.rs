//! Everything that decides a request, at one moment.
//!
//! Immutable. Parts are shared between snapshots: a part that did not change is the same `Arc`, which is how
//! what was remembered under an older snapshot stays valid under a newer one.

use std::sync::Arc;

use hashbrown::HashSet;
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

impl Snapshot {
    /// Whether the other one is made of the very same parts, so that nothing can be decided otherwise.
    pub fn is_same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.settings, &other.settings)
            && Arc::ptr_eq(&self.accounts, &other.accounts)
            && same(self.provider.as_ref(), other.provider.as_ref())
            && same(self.policy.as_ref(), other.policy.as_ref())
            && Arc::ptr_eq(&self.projects, &other.projects)
            && Arc::ptr_eq(&self.clusters, &other.clusters)
            && self.applications.ptr_eq(&other.applications)
            && Arc::ptr_eq(&self.extensions, &other.extensions)
            && Arc::ptr_eq(&self.revoked, &other.revoked)
    }
}

/// Whether two parts are the very same, or both missing.
pub(crate) fn same<T>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
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
}

/// How snapshots reach the data plane. `None` until every source has been read once.
pub type SnapshotReceiver = watch::Receiver<Option<Arc<Snapshot>>>;
