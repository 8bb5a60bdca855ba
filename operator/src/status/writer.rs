//! Writes what differs from what stands there, while this replica leads.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crds::{ExtensionRegistry, ExtensionRegistryStatus, ProxyExtension, ProxyExtensionStatus, ServiceStatus};
use dataplane::health::HealthReceiver;
use futures_util::StreamExt;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::leadership::Leads;
use super::replicas::Replicas;
use super::{MANAGER, StatusOptions, conditions, events, registry};
use crate::controller::{Report, ReportReceiver};
use crate::kube_error;
use crate::metrics::SourceMetrics;
use crate::objects::{ObjectKey, ProxyExtensionObject};
use crate::verdict::Verdict;

/// The one object of its kind.
const REGISTRY: &str = "argocd";
const API_VERSION: &str = "extensions.argoproj.io/v1alpha1";
const SOURCE: &str = "Status";
/// Changes that follow each other more closely are written together.
const GATHER: Duration = Duration::from_millis(20);
/// Looks for replicas that died, and tries again what failed.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

pub(super) struct Writer {
    client: Client,
    options: Arc<StatusOptions>,
    registries: Api<ExtensionRegistry>,
    recorder: Recorder,
    reports: ReportReceiver,
    health: HealthReceiver,
    leads: Leads,
    replicas: Replicas,
    current: watch::Receiver<Known>,
    metrics: SourceMetrics,
    /// What was written over which current status: it is on its way back.
    written: HashMap<ObjectKey, (ProxyExtensionStatus, Option<ProxyExtensionStatus>)>,
    /// Those whose status says what there is to say.
    settled: HashMap<ObjectKey, Settled>,
    written_registry: Option<(ExtensionRegistryStatus, Known)>,
    is_failing: bool,
    _watch: AbortOnDropHandle<()>,
}

/// An object, and what there was to say of it.
struct Settled {
    object: Arc<ProxyExtensionObject>,
    verdict: Arc<Verdict>,
    services: Vec<ServiceStatus>,
}

impl Settled {
    fn is(&self, object: &Arc<ProxyExtensionObject>, verdict: &Arc<Verdict>, services: &[ServiceStatus]) -> bool {
        Arc::ptr_eq(&self.object, object) && Arc::ptr_eq(&self.verdict, verdict) && self.services == services
    }
}

/// The registry object as it stands.
#[derive(Clone, PartialEq)]
enum Known {
    NotYet,
    Missing,
    Found(Option<Box<ExtensionRegistryStatus>>),
}

impl Writer {
    pub(super) fn new(
        client: Client,
        options: Arc<StatusOptions>,
        reports: ReportReceiver,
        health: HealthReceiver,
        leads: Leads,
        replicas: Replicas,
        metrics: SourceMetrics,
    ) -> Self {
        let registries: Api<ExtensionRegistry> = Api::namespaced(client.clone(), &options.namespace);
        let (sender, current) = watch::channel(Known::NotYet);
        let watch = tokio::spawn(follow(registries.clone(), sender));
        let reporter = Reporter { controller: MANAGER.into(), instance: Some(options.identity.clone()) };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            options,
            registries,
            reports,
            health,
            leads,
            replicas,
            current,
            metrics,
            written: HashMap::new(),
            settled: HashMap::new(),
            written_registry: None,
            is_failing: false,
            _watch: AbortOnDropHandle::new(watch),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let changed = tokio::select! {
                changed = self.reports.changed() => changed.is_ok(),
                changed = self.health.changed() => changed.is_ok(),
                changed = self.leads.changed() => changed.is_ok(),
                changed = self.current.changed() => changed.is_ok(),
                () = self.replicas.changed() => true,
                () = sleep(LOOK_AGAIN) => true,
            };
            if !changed {
                return;
            }
            sleep(GATHER).await;
            let until = *self.leads.borrow_and_update();
            let Some(left) = until.and_then(|until| until.checked_duration_since(Instant::now())) else {
                self.written.clear();
                self.settled.clear();
                self.written_registry = None;
                continue;
            };
            // Nothing is written after the lease ended, however slow the API server is.
            let outcome = timeout(left, self.write()).await;
            let error = match outcome {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(kube_error::describe(&error)),
                Err(_) => Some("no answer while this replica was the one to write".into()),
            };
            self.note(error);
        }
    }

    fn note(&mut self, error: Option<String>) {
        match error {
            None => {
                if std::mem::take(&mut self.is_failing) {
                    self.metrics.works(SOURCE);
                }
            }
            Some(error) => {
                self.metrics.failed(SOURCE);
                if std::mem::replace(&mut self.is_failing, true) {
                    debug!(error, "status still cannot be written");
                } else {
                    warn!(error, "status cannot be written; requests are served all the same");
                }
            }
        }
    }

    async fn write(&mut self) -> Result<(), kube::Error> {
        let Some(report) = self.reports.borrow_and_update().clone() else { return Ok(()) };
        for (key, verdict, object) in report.proxy_extensions() {
            let services = report.services(verdict);
            if self.settled.get(key).is_some_and(|settled| settled.is(object, verdict, &services)) {
                continue;
            }
            // Others may have written anything there.
            let current: Option<ProxyExtensionStatus> = serde_json::from_value(object.status.clone()).ok();
            let now = Timestamp::now();
            let desired = conditions::desired(verdict, services.clone(), object.generation, current.as_ref(), now);
            if conditions::is_same(&desired, current.as_ref()) {
                let settled = Settled { object: object.clone(), verdict: verdict.clone(), services };
                self.settled.insert(key.clone(), settled);
                continue;
            }
            let is_on_its_way = |(written, over): &(_, _)| *over == current && is_alike(&desired, written);
            if self.written.get(key).is_some_and(is_on_its_way) {
                continue;
            }
            let extensions: Api<ProxyExtension> = Api::namespaced(self.client.clone(), &key.namespace);
            match apply(&extensions, "ProxyExtension", &key.name, &desired).await {
                Ok(()) => drop(self.written.insert(key.clone(), (desired, current))),
                // It was removed meanwhile.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        self.settled.retain(|key, _| report.is_about(key));
        self.write_registry(&report).await
    }

    async fn write_registry(&mut self, report: &Report) -> Result<(), kube::Error> {
        let current = self.current.borrow_and_update().clone();
        let before = match &current {
            Known::NotYet => return Ok(()),
            Known::Missing => {
                let object = json!({"apiVersion": API_VERSION, "kind": "ExtensionRegistry", "metadata": {"name": REGISTRY}, "spec": {}});
                let how = PatchParams::apply(MANAGER).force();
                self.registries.patch(REGISTRY, &how, &Patch::Apply(object)).await?;
                None
            }
            Known::Found(status) => status.as_deref(),
        };
        let desired = registry::desired(report, self.replicas.running().await);
        if before == Some(&desired) {
            return Ok(());
        }
        if self.written_registry.as_ref().is_some_and(|(written, over)| *written == desired && *over == current) {
            return Ok(());
        }
        let last_said = self.written_registry.as_ref().map(|(written, _)| written).or(before);
        let transitions = events::transitions(last_said, &desired, report);
        apply(&self.registries, "ExtensionRegistry", REGISTRY, &desired).await?;
        self.written_registry = Some((desired, current));
        for transition in transitions {
            if let Err(error) = self.recorder.publish(&transition.event, &transition.about).await {
                debug!(%error, namespace = self.options.namespace, "an Event was not written");
            }
        }
        Ok(())
    }
}

/// The same but for the times of transitions, which were made up anew.
fn is_alike(a: &ProxyExtensionStatus, b: &ProxyExtensionStatus) -> bool {
    let timeless = |status: &ProxyExtensionStatus| {
        let mut status = status.clone();
        for condition in &mut status.conditions {
            condition.last_transition_time.0 = Timestamp::UNIX_EPOCH;
        }
        status
    };
    timeless(a) == timeless(b)
}

async fn apply<K>(api: &Api<K>, kind: &str, name: &str, status: &impl Serialize) -> Result<(), kube::Error>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let status =
        json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "status": status_of(status)});
    api.patch_status(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(status)).await.map(drop)
}

fn status_of(status: &impl Serialize) -> Value {
    serde_json::to_value(status).unwrap_or_default()
}

async fn follow(registries: Api<ExtensionRegistry>, known: watch::Sender<Known>) {
    let config = watcher::Config::default().fields(&format!("metadata.name={REGISTRY}"));
    let mut events = std::pin::pin!(kube::runtime::watcher(registries, config).default_backoff());
    let mut is_listed = false;
    let publish = |now: Known| {
        known.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => is_listed = false,
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                is_listed = true;
                publish(Known::Found(object.status.map(Box::new)));
            }
            Ok(Event::InitDone) if is_listed => {}
            Ok(Event::InitDone | Event::Delete(_)) => publish(Known::Missing),
            Err(error) => debug!(%error, "the ExtensionRegistry cannot be watched"),
        }
    }
}
