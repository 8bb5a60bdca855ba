//! Which replicas run and what each of them serves: every one has a Lease of its own that says so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crds::ReplicaStatus;
use futures_util::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{interval, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::{MANAGER, StatusOptions};
use crate::controller::ReportReceiver;
use crate::kube_error;

const DURATION: Duration = Duration::from_secs(15);
const RENEW_EVERY: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(4);
const LABEL: &str = "extensions.argoproj.io/replica-of";
const HASH: &str = "extensions.argoproj.io/registry-hash";
const SINCE: &str = "extensions.argoproj.io/since";

fn lease_name(identity: &str) -> String {
    format!("{MANAGER}-{}", identity.to_ascii_lowercase())
}

/// Keeps this replica's Lease, for as long as the task lives.
pub(super) async fn announce(client: Client, options: Arc<StatusOptions>, mut reports: ReportReceiver) {
    let leases: Api<Lease> = Api::namespaced(client, &options.namespace);
    let mut said: Option<(String, Timestamp)> = None;
    let mut renew = interval(RENEW_EVERY);
    let mut is_failing = false;
    loop {
        let is_due = tokio::select! {
            _ = renew.tick() => true,
            changed = reports.changed() => match changed {
                Ok(()) => false,
                Err(_) => return,
            },
        };
        let Some(report) = reports.borrow_and_update().clone() else { continue };
        let is_said = said.as_ref().is_some_and(|(hash, _)| *hash == report.hash);
        if is_said && !is_due {
            continue;
        }
        let now = said.take().filter(|_| is_said).unwrap_or_else(|| (report.hash.clone(), report.reconciled_at));
        let (hash, since) = said.insert(now);
        let outcome = timeout(PATIENCE, say(&leases, &options.identity, hash, *since)).await;
        let error = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(kube_error::describe(&error)),
            Err(_) => Some("no answer in time".into()),
        };
        match error {
            None => is_failing = false,
            Some(error) if !std::mem::replace(&mut is_failing, true) => {
                warn!(error, "this replica cannot say that it runs: it is missing from the ExtensionRegistry");
            }
            Some(error) => debug!(error, "this replica still cannot say that it runs"),
        }
    }
}

async fn say(leases: &Api<Lease>, identity: &str, hash: &str, since: Timestamp) -> Result<(), kube::Error> {
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": lease_name(identity),
            "labels": {LABEL: MANAGER},
            "annotations": {HASH: hash, SINCE: since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()},
        },
        "spec": {
            "holderIdentity": identity,
            "leaseDurationSeconds": DURATION.as_secs(),
            "renewTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
        },
    });
    leases.patch(&lease_name(identity), &PatchParams::apply(MANAGER).force(), &Patch::Apply(lease)).await.map(drop)
}

/// Takes this replica's Lease away.
pub(super) async fn leave(client: &Client, options: &StatusOptions) {
    let leases: Api<Lease> = Api::namespaced(client.clone(), &options.namespace);
    let name = lease_name(&options.identity);
    let gone = timeout(PATIENCE, leases.delete(&name, &DeleteParams::default())).await;
    if !matches!(gone, Ok(Ok(_))) {
        debug!("this replica's lease was not taken away");
    }
}

/// What the Leases of all replicas say.
pub(super) struct Replicas {
    leases: Api<Lease>,
    changes: watch::Receiver<BTreeMap<String, Seen>>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Clone)]
pub(super) struct Seen {
    replica: ReplicaStatus,
    version: Option<String>,
    at: Instant,
}

impl Replicas {
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        let leases: Api<Lease> = Api::namespaced(client, namespace);
        let (sender, changes) = watch::channel(BTreeMap::new());
        let task = tokio::spawn(follow(leases.clone(), sender));
        Self { leases, changes, _task: AbortOnDropHandle::new(task) }
    }

    /// Resolves when a Lease changed.
    pub(super) async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The replicas that run. The Leases of those that do not are taken away.
    pub(super) async fn running(&mut self) -> Vec<ReplicaStatus> {
        let seen = self.changes.borrow_and_update().clone();
        let mut running = Vec::with_capacity(seen.len());
        for (name, seen) in seen {
            if seen.at.elapsed() < DURATION {
                running.push(seen.replica);
            } else if let Err(error) = self.leases.delete(&name, &DeleteParams::default()).await {
                debug!(%error, name, "a dead replica's lease was not taken away");
            }
        }
        running
    }
}

async fn follow(leases: Api<Lease>, seen: watch::Sender<BTreeMap<String, Seen>>) {
    let events = kube::runtime::watcher(leases, watcher::Config::default().labels(&format!("{LABEL}={MANAGER}")));
    let mut events = std::pin::pin!(events.default_backoff());
    let mut listed: Option<Vec<String>> = None;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed = Some(Vec::new()),
            Ok(Event::InitApply(lease) | Event::Apply(lease)) => {
                let name = lease.metadata.name.clone().unwrap_or_default();
                if let Some(listed) = &mut listed {
                    listed.push(name.clone());
                }
                seen.send_modify(|seen| see(seen, name, &lease));
            }
            Ok(Event::Delete(lease)) => {
                seen.send_modify(|seen| drop(seen.remove(&lease.metadata.name.unwrap_or_default())));
            }
            Ok(Event::InitDone) => {
                if let Some(listed) = listed.take() {
                    seen.send_modify(|seen| seen.retain(|name, _| listed.contains(name)));
                }
            }
            Err(error) => debug!(%error, "the leases of the replicas cannot be watched"),
        }
    }
}

/// A list may bring a Lease again that did not change: its replica is not alive for that.
fn see(seen: &mut BTreeMap<String, Seen>, name: String, lease: &Lease) {
    let version = lease.metadata.resource_version.clone();
    if seen.get(&name).is_some_and(|known| known.version == version) {
        return;
    }
    let annotation = |name: &str| {
        let annotations = lease.metadata.annotations.as_ref();
        annotations.and_then(|annotations| annotations.get(name)).cloned().unwrap_or_default()
    };
    let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
    let replica = ReplicaStatus { name: holder, hash: annotation(HASH), since: annotation(SINCE) };
    seen.insert(name, Seen { replica, version, at: Instant::now() });
}
