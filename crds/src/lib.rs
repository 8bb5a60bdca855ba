//! Resource types of `extensions.argoproj.io` and the one validation that every source goes through.
//!
//! ```text
//! argocd-cm entry ──► draft::BackendDraft ──┐
//!                                           ├─► valid::check ──► valid::Backend + Vec<Problem>
//! ProxyExtension  ──► draft::BackendDraft ──┘
//! ```
//! A *draft* is what somebody wrote, still text; a *valid* backend is what the data plane can serve.
//! Nothing here reads a cluster or a secret: references stay references.

#[cfg(test)]
mod checked_in;
pub mod draft;
pub mod duration;
mod extension_registry;
mod manifest;
mod name;
mod problem;
mod proxy_extension;
mod reference;
mod url;
pub mod valid;

pub use extension_registry::{
    ExtensionRegistry, ExtensionRegistrySpec, ExtensionRegistryStatus, RegistryEntry, ReplicaStatus,
};
pub use manifest::{manifests, yaml};
pub use name::{InvalidName, check_name};
pub use problem::{Problem, Reason, Severity};
pub use proxy_extension::{
    Backend, BackendTls, CaKind, CaRef, ClientCertificateRef, ClusterMatch, Header, HealthCheck, PortRef,
    ProxyExtension, ProxyExtensionSpec, ProxyExtensionStatus, Scope, SecretKeySelector, Service, ServiceRef,
    ServiceScheme, ServiceStatus, ValueSource,
};
pub use reference::reference;
pub use url::{BackendUrl, Scheme};

/// Headers that carry the caller's identity and the application to the backend. Only the proxy sets them.
pub const RESERVED_HEADERS: [&str; 8] = [
    "argocd-namespace",
    "argocd-application-name",
    "argocd-project-name",
    "argocd-target-cluster-name",
    "argocd-target-cluster-url",
    "argocd-user-id",
    "argocd-username",
    "argocd-user-groups",
];
