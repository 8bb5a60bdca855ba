//! What administrators see in the cluster: conditions, the ExtensionRegistry, Events.
//!
//! ```text
//! controller ──► Report ─┐
//! leases of replicas ────┼──► desired (pure) ──► differs from what stands there? ──► server-side apply, Events
//! what stands there ─────┘                                                          (the leader only)
//! ```

mod conditions;
mod events;
mod leadership;
mod registry;
mod replicas;
mod writer;

use std::sync::Arc;

use dataplane::health::HealthReceiver;
use kube::Client;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::controller::ReportReceiver;
use crate::metrics::SourceMetrics;
use leadership::Leadership;
use replicas::Replicas;
use writer::Writer;

/// The name under which everything is written: field manager, lease, controller of Events.
pub(crate) const MANAGER: &str = "argocd-extension-proxy";

pub(crate) struct StatusOptions {
    /// Argo CD's own.
    pub(crate) namespace: String,
    /// This replica's: the name of its pod.
    pub(crate) identity: String,
}

/// The tasks that report. Stopping gives the lease back.
pub(crate) struct Status {
    leadership: AbortOnDropHandle<()>,
    replica: AbortOnDropHandle<()>,
    _writer: AbortOnDropHandle<()>,
    client: Client,
    options: Arc<StatusOptions>,
}

impl Status {
    pub(crate) fn start(
        client: &Client,
        options: StatusOptions,
        reports: ReportReceiver,
        health: HealthReceiver,
        metrics: &SourceMetrics,
    ) -> Self {
        let options = Arc::new(options);
        let (until, leads) = watch::channel(None);
        let leadership = Leadership::new(client.clone(), &options.namespace, &options.identity);
        let replicas = Replicas::new(client.clone(), &options.namespace);
        let announce = replicas::announce(client.clone(), options.clone(), reports.clone());
        let writer = Writer::new(client.clone(), options.clone(), reports, health, leads, replicas, metrics.clone());
        Self {
            leadership: AbortOnDropHandle::new(tokio::spawn(leadership.hold(until))),
            replica: AbortOnDropHandle::new(tokio::spawn(announce)),
            _writer: AbortOnDropHandle::new(tokio::spawn(writer.run())),
            client: client.clone(),
            options,
        }
    }

    /// Takes this replica's traces away, so that another one need not wait until they expire.
    pub(crate) async fn stop(self) {
        let Self { leadership, replica, _writer: writer, client, options } = self;
        for task in [writer, leadership, replica] {
            task.abort();
            let _ = task.await;
        }
        leadership::release(&client, &options.namespace, &options.identity).await;
        replicas::leave(&client, &options).await;
    }
}
