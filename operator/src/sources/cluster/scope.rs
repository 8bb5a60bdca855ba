//! What is watched: no more than what is read, so that no more must be permitted.

use std::fmt;

use kube::core::ApiResource;
use kube::runtime::watcher;

use crate::objects::ObjectKind;

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Selector {
    All,
    Name(&'static str),
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
        match self.selector {
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
        match self.selector {
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

/// Everything but Applications.
pub(super) fn configuration(namespace: &str) -> Vec<Scope> {
    let scope = |kind, selector| Scope { kind, namespace: Some(namespace.to_owned()), selector };
    vec![
        scope(ObjectKind::ConfigMap, Selector::Name("argocd-cm")),
        scope(ObjectKind::ConfigMap, Selector::Name("argocd-cmd-params-cm")),
        scope(ObjectKind::ConfigMap, Selector::Name("argocd-rbac-cm")),
        scope(ObjectKind::Secret, Selector::Name("argocd-dex-server-tls")),
        scope(ObjectKind::Secret, Selector::Name("argocd-redis")),
        scope(ObjectKind::Secret, Selector::Name("argocd-secret")),
        scope(ObjectKind::Secret, Selector::Label("app.kubernetes.io/part-of=argocd")),
        scope(ObjectKind::Secret, Selector::Label("argocd.argoproj.io/secret-type=cluster")),
        scope(ObjectKind::AppProject, Selector::All),
        scope(ObjectKind::ProxyExtension, Selector::All),
    ]
}

/// Applications of Argo CD's namespace and of those that `application.namespaces` names. Where it holds a pattern
/// they are watched in all namespaces: what does not match is not served all the same.
pub(super) fn applications(namespace: &str, patterns: &str) -> Vec<Scope> {
    let scope = |namespace| Scope { kind: ObjectKind::Application, namespace, selector: Selector::All };
    let patterns: Vec<&str> = patterns.split(',').map(str::trim).filter(|pattern| !pattern.is_empty()).collect();
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

#[cfg(test)]
mod tests;
