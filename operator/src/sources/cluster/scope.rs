//! What is watched: no more than what is read, so that no more must be permitted.

use std::fmt;

use crds::{CaKind, Header, ProxyExtensionSpec};
use kube::core::ApiResource;
use kube::runtime::watcher;

use crate::objects::{ObjectKey, ObjectKind};
use crate::reconcile::ReconcileOptions;

/// Objects in a page, where lists come in pages.
const PAGE: u32 = 200;

/// One watch. Their order is the one in which an object that several of them see is taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Scope {
    pub(super) kind: ObjectKind,
    /// `None`: all of them.
    pub(super) namespace: Option<String>,
    selector: Selector,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Selector {
    All,
    Name(String),
    Label(&'static str),
}

impl Scope {
    pub(super) fn resource(&self) -> ApiResource {
        let (group, version, plural) = match self.kind {
            ObjectKind::ConfigMap => ("", "v1", "configmaps"),
            ObjectKind::Secret => ("", "v1", "secrets"),
            ObjectKind::AppProject => ("argoproj.io", "v1alpha1", "appprojects"),
            ObjectKind::Application => ("argoproj.io", "v1alpha1", "applications"),
            ObjectKind::ProxyExtension => ("extensions.argoproj.io", "v1alpha1", "proxyextensions"),
            ObjectKind::Service => ("", "v1", "services"),
        };
        ApiResource {
            group: group.into(),
            version: version.into(),
            api_version: if group.is_empty() { version.into() } else { format!("{group}/{version}") },
            kind: self.kind.as_str().into(),
            plural: plural.into(),
        }
    }

    /// Lists come as a stream, one object at a time, however many there are.
    pub(super) fn watch(&self) -> watcher::Config {
        self.paged_watch().streaming_lists()
    }

    pub(super) fn paged_watch(&self) -> watcher::Config {
        let config = watcher::Config::default().page_size(PAGE);
        match &self.selector {
            Selector::All => config,
            Selector::Name(name) => config.fields(&format!("metadata.name={name}")),
            Selector::Label(label) => config.labels(label),
        }
    }

    /// For metrics: a fixed set.
    pub(super) fn label(&self) -> &'static str {
        self.kind.as_str()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        match &self.selector {
            Selector::All => f.write_str("s")?,
            Selector::Name(name) => write!(f, " {name}")?,
            Selector::Label(label) => write!(f, "s labelled {label}")?,
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in {namespace}"),
            None => f.write_str(" in all namespaces"),
        }
    }
}

/// Everything but Applications and what extensions refer to.
pub(super) fn configuration(options: &ReconcileOptions) -> Vec<Scope> {
    let scope = |kind, selector| Scope { kind, namespace: Some(options.namespace.clone()), selector };
    let named = |kind, name: &str| scope(kind, Selector::Name(name.to_owned()));
    let certificate = options.certificate_secret.as_deref().map(|name| named(ObjectKind::Secret, name));
    [
        named(ObjectKind::ConfigMap, "argocd-cm"),
        named(ObjectKind::ConfigMap, "argocd-cmd-params-cm"),
        named(ObjectKind::ConfigMap, "argocd-rbac-cm"),
        named(ObjectKind::Secret, "argocd-dex-server-tls"),
        named(ObjectKind::Secret, "argocd-redis"),
        named(ObjectKind::Secret, "argocd-secret"),
        scope(ObjectKind::Secret, Selector::Label("app.kubernetes.io/part-of=argocd")),
        scope(ObjectKind::Secret, Selector::Label("argocd.argoproj.io/secret-type=cluster")),
        scope(ObjectKind::AppProject, Selector::All),
    ]
    .into_iter()
    .chain(certificate)
    .chain(in_namespaces(ObjectKind::ProxyExtension, &options.namespace, options.extension_namespaces.source()))
    .collect()
}

/// Applications of Argo CD's namespace and of those that `application.namespaces` names.
pub(super) fn applications(namespace: &str, patterns: &str) -> Vec<Scope> {
    let patterns: Vec<&str> = patterns.split(',').map(str::trim).filter(|pattern| !pattern.is_empty()).collect();
    in_namespaces(ObjectKind::Application, namespace, &patterns)
}

/// Argo CD's namespace and others. Where one of them is a pattern, all namespaces are watched: what does not match
/// does not count all the same.
fn in_namespaces<S: AsRef<str>>(kind: ObjectKind, namespace: &str, patterns: &[S]) -> Vec<Scope> {
    let scope = |namespace| Scope { kind, namespace, selector: Selector::All };
    let patterns: Vec<&str> = patterns.iter().map(AsRef::as_ref).collect();
    let is_name = |pattern: &&str| pattern.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !patterns.iter().all(is_name) {
        return vec![scope(None)];
    }
    let mut scopes: Vec<Scope> =
        std::iter::once(namespace).chain(patterns).map(|namespace| scope(Some(namespace.to_owned()))).collect();
    scopes.sort();
    scopes.dedup();
    scopes
}

/// What an extension refers to and is not watched anyway: each object by its name, so that no more must be permitted.
pub(super) fn references(options: &ReconcileOptions, key: &ObjectKey, spec: &ProxyExtensionSpec) -> Vec<Scope> {
    if !options.admits(&key.namespace) {
        return Vec::new();
    }
    let is_own = key.namespace == options.namespace;
    let named = |kind, namespace: &str, name: &str| Scope {
        kind,
        namespace: Some(namespace.to_owned()),
        selector: Selector::Name(name.to_owned()),
    };
    let mut scopes = Vec::new();
    for service in &spec.backend.services {
        if let Some(reference) = &service.service_ref {
            let namespace = reference.namespace.as_deref().unwrap_or(&key.namespace);
            if is_own || namespace == key.namespace {
                scopes.push(named(ObjectKind::Service, namespace, &reference.name));
            }
        }
        let ca = service.tls.as_ref().and_then(|tls| tls.ca_ref.as_ref());
        let ca_is_secret = ca.is_some_and(|ca| ca.kind == Some(CaKind::Secret));
        if let Some(ca) = ca.filter(|_| !ca_is_secret) {
            scopes.push(named(ObjectKind::ConfigMap, &key.namespace, &ca.name));
        }
        // In Argo CD's namespace they are watched by their label.
        if !is_own {
            let client = service.tls.as_ref().and_then(|tls| tls.client_certificate_ref.as_ref());
            let header =
                |header: &Header| header.value_from.as_ref()?.secret_key_ref.as_ref().map(|secret| secret.name.clone());
            let secrets = service.headers.iter().filter_map(header);
            let secrets = secrets.chain(ca.filter(|_| ca_is_secret).map(|ca| ca.name.clone()));
            let secrets = secrets.chain(client.map(|client| client.name.clone()));
            scopes.extend(secrets.map(|name| named(ObjectKind::Secret, &key.namespace, &name)));
        }
    }
    scopes
}

impl Scope {
    /// The one object that it is about, where it is about one.
    pub(super) fn object(&self) -> Option<ObjectKey> {
        match (&self.selector, &self.namespace) {
            (Selector::Name(name), Some(namespace)) => Some(ObjectKey::new(namespace, name)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
