//! Inputs in; a snapshot for the data plane and a verdict for every entry out. Nothing is read or written here.
//!
//! ```text
//! Inputs ──► settings, accounts, provider, policy, projects, clusters, applications, extensions ──► Snapshot
//!                 │                                                                            └──► Vec<Verdict>
//!            Memory: the last readable version of what cannot be read now, and the last snapshot,
//!                    whose parts are kept where they come out equal
//! ```

mod accounts;
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

use crate::inputs::Inputs;
use crate::objects::{self, ObjectKey, ObjectKind};
use crate::verdict::Verdict;
use extension_config::ReadableTexts;
use references::References;

const CONFIG: &str = "argocd-cm";
const RBAC_CONFIG: &str = "argocd-rbac-cm";
const SECRET: &str = "argocd-secret";

/// What the reconcile remembers from one run to the next.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    snapshot: Option<Arc<Snapshot>>,
    extension_texts: ReadableTexts,
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
    pub verdicts: Vec<Verdict>,
    pub memory: Memory,
}

/// `namespace` is Argo CD's own.
pub fn reconcile(inputs: &Inputs, namespace: &str, memory: &Memory) -> Outcome {
    let before = memory.snapshot.as_deref();
    let mut verdicts = Vec::new();
    let references = References::new(inputs, namespace);
    let settings = settings::read(inputs, namespace, &mut verdicts);
    let accounts = accounts::read(inputs, namespace, &mut verdicts);
    let provider = provider::read(inputs, namespace, &references, before, &mut verdicts);
    let policy = policy::read(inputs, namespace, before, &mut verdicts);
    let mode = policy.as_ref().map(|policy| policy.mode()).unwrap_or_default();
    let projects = projects::read(inputs, namespace, mode, before, &mut verdicts);
    let clusters = clusters::read(inputs, namespace, &mut verdicts);
    let mut extension_texts = memory.extension_texts.clone();
    let extensions = extensions::read(inputs, namespace, &references, &mut extension_texts, before, &mut verdicts);
    let snapshot = Arc::new(Snapshot {
        settings: kept(before.map(|b| &b.settings), settings),
        accounts: kept(before.map(|b| &b.accounts), accounts),
        provider,
        policy,
        projects,
        clusters: kept(before.map(|b| &b.clusters), clusters),
        applications: inputs.applications.clone(),
        extensions: kept(before.map(|b| &b.extensions), extensions),
        revoked: inputs.revoked.clone(),
    });
    let memory = Memory { snapshot: Some(snapshot.clone()), extension_texts };
    Outcome { snapshot, verdicts, memory }
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
