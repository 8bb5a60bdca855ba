//! Inputs in; a snapshot for the data plane and a verdict for every entry out. Nothing is read or written here.
//!
//! ```text
//! Inputs ──► settings, accounts, provider, policy, projects, clusters, applications, extensions ──► Snapshot
//!                 │                                                                            └──► Vec<Verdict>
//!            Memory: the last readable version of what cannot be read now, and the last snapshot,
//!                    whose parts are kept where they come out equal
//! ```

mod accounts;
mod backend;
mod certificate;
mod clusters;
mod extension_config;
mod extensions;
mod policy;
mod projects;
mod provider;
mod references;
mod settings;

use std::sync::Arc;

use dataplane::Snapshot;
use dataplane::namespace::NamespacePatterns;
use dataplane::tls::CertifiedKey;

use crate::inputs::Inputs;
use crate::objects::{self, ObjectKey, ObjectKind};
use crate::verdict::Verdict;
use certificate::Certificate;
use clusters::ClusterLabels;
use dataplane::cluster::Clusters;
use extension_config::ReadableTexts;
use extensions::Judged;
use references::References;

const CONFIG: &str = "argocd-cm";
const RBAC_CONFIG: &str = "argocd-rbac-cm";
const SECRET: &str = "argocd-secret";

/// What the program was started with.
#[derive(Debug, Clone, Default)]
pub struct ReconcileOptions {
    /// Argo CD's own namespace.
    pub namespace: String,
    /// Namespaces besides it whose ProxyExtensions count.
    pub extension_namespaces: NamespacePatterns,
    /// The Secret in Argo CD's namespace that holds the certificate that callers are shown.
    pub certificate_secret: Option<String>,
}

impl ReconcileOptions {
    pub fn new(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..Self::default() }
    }

    /// Whether ProxyExtensions in this namespace count.
    pub fn admits(&self, namespace: &str) -> bool {
        namespace == self.namespace || self.extension_namespaces.matches(namespace)
    }
}

/// What the reconcile remembers from one run to the next.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    snapshot: Option<Arc<Snapshot>>,
    extension_texts: ReadableTexts,
    extensions: Judged,
    certificate: Option<Certificate>,
}

impl Memory {
    /// Takes over applications and revocations, which decide nothing but themselves, and leaves the rest.
    pub fn with_lookups(&mut self, inputs: &Inputs) -> Option<&Arc<Snapshot>> {
        let before = self.snapshot.as_ref()?;
        let now = Snapshot {
            applications: inputs.applications.clone(),
            revoked: inputs.revoked.clone(),
            ..Snapshot::clone(before)
        };
        Some(self.snapshot.insert(Arc::new(now)))
    }
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    pub snapshot: Arc<Snapshot>,
    pub verdicts: Vec<Arc<Verdict>>,
    /// Of the extensions that are served, to be told from others.
    pub registry_hash: String,
    pub memory: Memory,
}

impl Outcome {
    /// What callers are shown, where a Secret holds it.
    pub fn certificate(&self) -> Option<&Arc<CertifiedKey>> {
        self.memory.certificate.as_ref().map(Certificate::key)
    }
}

pub fn reconcile(inputs: &Inputs, options: &ReconcileOptions, memory: &Memory) -> Outcome {
    let namespace = options.namespace.as_str();
    let before = memory.snapshot.as_deref();
    let mut verdicts = Vec::new();
    let references = References::new(inputs, namespace);
    let settings = settings::read(inputs, namespace, &mut verdicts);
    let accounts = accounts::read(inputs, namespace, &mut verdicts);
    let provider = provider::read(inputs, namespace, &references, before, &mut verdicts);
    let policy = policy::read(inputs, namespace, before, &mut verdicts);
    let mode = policy.as_ref().map(|policy| policy.mode()).unwrap_or_default();
    let projects = projects::read(inputs, namespace, mode, before, &mut verdicts);
    let (clusters, labels) = clusters::read(inputs, namespace, &mut verdicts);
    let certificate = certificate::read(inputs, options, memory.certificate.as_ref(), &mut verdicts);
    let mut extension_texts = memory.extension_texts.clone();
    let world = World { inputs, options, references: &references, clusters: &clusters, labels: &labels };
    let read = extensions::read(&world, &mut extension_texts, before, &memory.extensions);
    let mut verdicts: Vec<Arc<Verdict>> = verdicts.into_iter().map(Arc::new).collect();
    verdicts.extend(read.verdicts);
    let snapshot = Arc::new(Snapshot {
        settings: kept(before.map(|b| &b.settings), settings),
        accounts: kept(before.map(|b| &b.accounts), accounts),
        provider,
        policy,
        projects,
        clusters: kept(before.map(|b| &b.clusters), clusters),
        applications: inputs.applications.clone(),
        extensions: read.extensions,
        revoked: inputs.revoked.clone(),
    });
    let registry_hash = read.digest.registry_hash(&snapshot.accounts);
    let memory = Memory { snapshot: Some(snapshot.clone()), extension_texts, extensions: read.judged, certificate };
    Outcome { snapshot, verdicts, registry_hash, memory }
}

/// What extensions may refer to.
struct World<'a> {
    inputs: &'a Inputs,
    options: &'a ReconcileOptions,
    references: &'a References<'a>,
    clusters: &'a Clusters,
    labels: &'a ClusterLabels<'a>,
}

/// The part as it was, where nothing about it changed.
fn kept<T: PartialEq>(before: Option<&Arc<T>>, now: T) -> Arc<T> {
    match before {
        Some(before) if **before == now => before.clone(),
        _ => Arc::new(now),
    }
}

/// `true`/`false` as Go's `strconv.ParseBool` reads them.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn config_map(namespace: &str, name: &str) -> String {
    objects::describe(ObjectKind::ConfigMap, &ObjectKey::new(namespace, name))
}

fn secret(namespace: &str, name: &str) -> String {
    objects::describe(ObjectKind::Secret, &ObjectKey::new(namespace, name))
}

#[cfg(test)]
mod tests;
