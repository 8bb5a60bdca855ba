//! What would be served, looked at once: out of a folder or out of the cluster.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dataplane::Snapshot;
use kube::Client;
use tokio_util::task::AbortOnDropHandle;

use crate::controller::Controller;
use crate::log::LogLevel;
use crate::metrics::{ControllerMetrics, SourceMetrics};
use crate::reconcile::{Memory, ReconcileOptions, reconcile};
use crate::sources::cluster::{Cluster, ClusterOptions};
use crate::sources::folder::Folder;
use crate::verdict::Verdict;

/// The cluster may take so long until all of it has been read.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is served, and what became of every entry.
pub(crate) struct Sight {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) verdicts: Vec<Arc<Verdict>>,
}

pub(crate) fn folder(folder: &Path, options: &ReconcileOptions) -> Result<Sight> {
    let mut reader = Folder::new(folder, &options.namespace);
    let (inputs, verdicts) =
        reader.read().with_context(|| format!("the folder {} cannot be read", folder.display()))?;
    let outcome = reconcile(inputs, options, &Memory::default());
    let verdicts = verdicts.into_iter().map(Arc::new).chain(outcome.verdicts).collect();
    Ok(Sight { snapshot: outcome.snapshot, verdicts })
}

pub(crate) async fn cluster(
    options: ClusterOptions,
    reconcile: ReconcileOptions,
    log_level: LogLevel,
) -> Result<Sight> {
    let client = client().await?;
    let controller = Controller::new(reconcile, log_level, ControllerMetrics::default());
    let (mut reports, snapshots) = (controller.reports(), controller.snapshots());
    let cluster = Cluster::new(client, options, controller, SourceMetrics::default());
    let _task = AbortOnDropHandle::new(tokio::spawn(cluster.run()));
    let read = tokio::time::timeout(PATIENCE, reports.wait_for(Option::is_some)).await;
    let Ok(Ok(report)) = read else {
        bail!("the cluster could not be read within {PATIENCE:?}; the lines above say what is missing");
    };
    let verdicts = report.iter().flat_map(|report| report.verdicts.clone()).collect();
    let snapshot = snapshots.borrow().clone().context("nothing is served")?;
    Ok(Sight { snapshot, verdicts })
}

pub(crate) async fn client() -> Result<Client> {
    Client::try_default()
        .await
        .context("neither a kubeconfig nor a service account was found; without a cluster use --from-dir DIR")
}
