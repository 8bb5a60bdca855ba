//! Takes inputs whenever they changed, reconciles them, and publishes what came of it: the snapshot to the data
//! plane, the verdicts to whoever reports them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use crds::ServiceStatus;
use dataplane::Snapshot;
use dataplane::extension::Extensions;
use dataplane::snapshot::SnapshotReceiver;
use dataplane::tls::ServingCertificate;
use hashbrown::{HashMap, HashSet};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use serde::Serialize;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::inputs::{Inputs, ProxyExtensions};
use crate::log::LogLevel;
use crate::metrics::{ControllerMetrics, Stopwatch};
use crate::objects::{self, ObjectKey, ObjectKind, ProxyExtensionObject};
use crate::reconcile::{Memory, ReconcileOptions, reconcile};
use crate::verdict::{Place, State, Verdict};

/// What became of every entry at the last reconcile.
#[derive(Debug)]
pub struct Report {
    pub reconciled_at: Timestamp,
    pub verdicts: Vec<Arc<Verdict>>,
    /// Of the extensions that are served.
    pub hash: String,
    /// Those that are served, with their health.
    pub extensions: Arc<Extensions>,
    /// The objects that the verdicts are about, for those who write to them.
    proxy_extensions: ProxyExtensions,
    config_maps: BTreeMap<ObjectKey, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    pub accepted: usize,
    pub invalid: usize,
    pub conflicted: usize,
}

pub type ReportReceiver = watch::Receiver<Option<Arc<Report>>>;

pub struct Controller {
    options: ReconcileOptions,
    memory: Memory,
    certificate: Arc<ServingCertificate>,
    log_level: LogLevel,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    reports: watch::Sender<Option<Arc<Report>>>,
    metrics: ControllerMetrics,
}

impl Controller {
    pub(crate) fn new(options: ReconcileOptions, log_level: LogLevel, metrics: ControllerMetrics) -> Self {
        Self {
            options,
            memory: Memory::default(),
            certificate: Arc::default(),
            log_level,
            snapshots: watch::Sender::new(None),
            reports: watch::Sender::new(None),
            metrics,
        }
    }

    pub fn snapshots(&self) -> SnapshotReceiver {
        self.snapshots.subscribe()
    }

    pub fn reports(&self) -> ReportReceiver {
        self.reports.subscribe()
    }

    pub(crate) fn options(&self) -> &ReconcileOptions {
        &self.options
    }

    /// What callers are shown, where a Secret holds it.
    pub(crate) fn certificate(&self) -> &Arc<ServingCertificate> {
        &self.certificate
    }

    /// Reconciles. `source_verdicts` are about what could not even be read.
    pub fn apply(&mut self, inputs: &Inputs, source_verdicts: Vec<Verdict>) -> Arc<Report> {
        let took = Stopwatch::start();
        let outcome = reconcile(inputs, &self.options, &self.memory);
        if self.options.certificate_secret.is_some() {
            self.certificate.set(outcome.certificate().cloned());
        }
        let mut verdicts: Vec<Arc<Verdict>> = source_verdicts.into_iter().map(Arc::new).collect();
        verdicts.extend(outcome.verdicts);
        verdicts.extend(self.log_level.follow(inputs, &self.options.namespace).map(Arc::new));
        self.memory = outcome.memory;
        let extensions = outcome.snapshot.extensions.clone();
        let changed = self.publish(outcome.snapshot);
        let report = Arc::new(Report {
            reconciled_at: Timestamp::now(),
            verdicts,
            hash: outcome.registry_hash,
            extensions,
            proxy_extensions: inputs.proxy_extensions.clone(),
            config_maps: inputs.config_maps.iter().map(|(key, map)| (key.clone(), map.uid.clone())).collect(),
        });
        self.metrics.counted(report.counts());
        if let Some(before) = &*self.reports.borrow() {
            report.log_changes(&before.verdicts);
        }
        self.metrics.reconciled(changed, &took);
        self.reports.send_replace(Some(report.clone()));
        report
    }

    /// The same where nothing changed but applications and revocations: no verdict depends on them.
    pub fn apply_lookups(&mut self, inputs: &Inputs) {
        let took = Stopwatch::start();
        if let Some(snapshot) = self.memory.with_lookups(inputs).cloned() {
            let changed = self.publish(snapshot);
            self.metrics.reconciled(changed, &took);
        }
    }

    fn publish(&self, snapshot: Arc<Snapshot>) -> bool {
        let changed = self.snapshots.send_if_modified(|current| {
            let changed = current.as_ref().is_none_or(|current| !current.is_same_as(&snapshot));
            if changed {
                *current = Some(snapshot);
            }
            changed
        });
        if changed {
            self.metrics.published(SystemTime::now());
        }
        changed
    }
}

impl Report {
    /// Counts of the entries that are extensions.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for verdict in self.verdicts.iter().filter(|verdict| verdict.extension.is_some()) {
            match verdict.state {
                State::Accepted => counts.accepted += 1,
                State::Invalid => counts.invalid += 1,
                State::Conflicted => counts.conflicted += 1,
            }
        }
        counts
    }

    /// Where an extension's requests go, or would go, with how that does now.
    pub(crate) fn services(&self, verdict: &Verdict) -> Vec<ServiceStatus> {
        let Some(extension) = &verdict.extension else { return Vec::new() };
        let mut services = extension.services.clone();
        if verdict.state == State::Accepted
            && let Some(served) = self.extensions.get(extension.name.as_str())
        {
            for (status, service) in services.iter_mut().zip(&served.services) {
                status.healthy = Some(!service.health.is_down());
                status.last_error = service.health.last_error();
            }
        }
        services
    }

    /// The verdicts with how backends do now.
    pub(crate) fn current(&self) -> Vec<Verdict> {
        let current = |verdict: &Arc<Verdict>| {
            let mut current = Verdict::clone(verdict);
            if let Some(extension) = &mut current.extension {
                extension.services = self.services(verdict);
            }
            current
        };
        self.verdicts.iter().map(current).collect()
    }

    /// The ProxyExtensions with what became of them.
    pub(crate) fn proxy_extensions(
        &self,
    ) -> impl Iterator<Item = (&ObjectKey, &Arc<Verdict>, &Arc<ProxyExtensionObject>)> {
        let about_extensions = self.verdicts.iter().filter(|verdict| verdict.extension.is_some());
        let by_object: HashMap<&str, &Arc<Verdict>> =
            about_extensions.map(|verdict| (verdict.place.object.as_str(), verdict)).collect();
        self.proxy_extensions.iter().filter_map(move |(key, object)| {
            let place = objects::describe(ObjectKind::ProxyExtension, key);
            by_object.get(place.as_str()).map(|verdict| (key, *verdict, object))
        })
    }

    /// Whether there is such a ProxyExtension.
    pub(crate) fn is_about(&self, key: &ObjectKey) -> bool {
        self.proxy_extensions.contains_key(key)
    }

    /// A reference to an object by the name that it has in verdicts.
    pub(crate) fn object(&self, name: &str) -> Option<ObjectReference> {
        let reference = |kind: ObjectKind, api_version: &str, key: &ObjectKey, uid: &str| ObjectReference {
            api_version: Some(api_version.into()),
            kind: Some(kind.as_str().into()),
            namespace: Some(key.namespace.clone()),
            name: Some(key.name.clone()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        let is_named = |kind, key: &ObjectKey| objects::describe(kind, key) == name;
        let config_map = self.config_maps.iter().find(|(key, _)| is_named(ObjectKind::ConfigMap, key));
        let extension = || self.proxy_extensions.iter().find(|(key, _)| is_named(ObjectKind::ProxyExtension, key));
        config_map.map(|(key, uid)| reference(ObjectKind::ConfigMap, "v1", key, uid)).or_else(|| {
            let (key, object) = extension()?;
            Some(reference(ObjectKind::ProxyExtension, "extensions.argoproj.io/v1alpha1", key, &object.uid))
        })
    }

    /// Logs every entry that came, went or is judged otherwise than before.
    pub(crate) fn log_changes(&self, before: &[Arc<Verdict>]) {
        let (new, old) = (not_among(&self.verdicts, before), not_among(before, &self.verdicts));
        let known: HashMap<&Place, &Verdict> = old.iter().map(|v| (&v.place, *v)).collect();
        for verdict in new.iter().filter(|v| known.get(&v.place).is_none_or(|known| known != *v)) {
            let lines = verdict.lines();
            let lines: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
            match verdict.problems.is_empty() {
                true => info!("{}", lines.join("; ")),
                false => warn!("{}", lines.join("; ")),
            }
        }
        let now: HashSet<&Place> = new.iter().map(|v| &v.place).collect();
        for verdict in old.iter().filter(|v| !now.contains(&v.place)) {
            match (&verdict.extension, verdict.problems.is_empty()) {
                (Some(extension), _) => info!("removed   {}  ({})", extension.name, verdict.place),
                (None, false) => info!("resolved  {}", verdict.place),
                (None, true) => {}
            }
        }
    }
}

/// Those that are not the very same as one of the others.
fn not_among<'a>(verdicts: &'a [Arc<Verdict>], others: &[Arc<Verdict>]) -> Vec<&'a Verdict> {
    let others: HashSet<*const Verdict> = others.iter().map(Arc::as_ptr).collect();
    verdicts.iter().filter(|verdict| !others.contains(&Arc::as_ptr(verdict))).map(|verdict| &**verdict).collect()
}
