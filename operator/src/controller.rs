//! Takes inputs whenever they changed, reconciles them, and publishes what came of it: the snapshot to the data
//! plane, the verdicts to whoever reports them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use dataplane::Snapshot;
use dataplane::snapshot::SnapshotReceiver;
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::inputs::Inputs;
use crate::metrics::ControllerMetrics;
use crate::reconcile::{Memory, reconcile};
use crate::verdict::{Place, State, Verdict};

/// What became of every entry at the last reconcile.
#[derive(Debug)]
pub struct Report {
    pub reconciled_at: Timestamp,
    pub verdicts: Vec<Verdict>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    pub accepted: usize,
    pub invalid: usize,
    pub conflicted: usize,
}

pub type ReportReceiver = watch::Receiver<Option<Arc<Report>>>;

pub struct Controller {
    namespace: String,
    memory: Memory,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    reports: watch::Sender<Option<Arc<Report>>>,
    metrics: ControllerMetrics,
}

impl Controller {
    /// `namespace` is Argo CD's own.
    pub fn new(namespace: &str, metrics: ControllerMetrics) -> Self {
        Self {
            namespace: namespace.to_owned(),
            memory: Memory::default(),
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

    /// Reconciles. `source_verdicts` are about what could not even be read.
    pub fn apply(&mut self, inputs: &Inputs, source_verdicts: Vec<Verdict>) -> Arc<Report> {
        let started = Instant::now();
        let outcome = reconcile(inputs, &self.namespace, &self.memory);
        let mut verdicts = source_verdicts;
        verdicts.extend(outcome.verdicts);
        self.memory = outcome.memory;
        let changed = self.publish(outcome.snapshot);
        let report = Arc::new(Report { reconciled_at: Timestamp::now(), verdicts });
        self.metrics.reconciled(changed, started.elapsed());
        self.metrics.counted(report.counts());
        if let Some(before) = &*self.reports.borrow() {
            report.log_changes(before);
        }
        self.reports.send_replace(Some(report.clone()));
        report
    }

    /// The same where nothing changed but applications and revocations: no verdict depends on them.
    pub fn apply_lookups(&mut self, inputs: &Inputs) {
        let started = Instant::now();
        if let Some(snapshot) = self.memory.with_lookups(inputs).cloned() {
            let changed = self.publish(snapshot);
            self.metrics.reconciled(changed, started.elapsed());
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

    /// Logs every entry that came, went or is judged otherwise than before.
    pub fn log_changes(&self, before: &Self) {
        let known: HashMap<&Place, &Verdict> = before.verdicts.iter().map(|v| (&v.place, v)).collect();
        for verdict in self.verdicts.iter().filter(|v| known.get(&v.place).is_none_or(|known| known != v)) {
            let lines = verdict.lines();
            let lines: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
            match verdict.problems.is_empty() {
                true => info!("{}", lines.join("; ")),
                false => warn!("{}", lines.join("; ")),
            }
        }
        let now: HashMap<&Place, &Verdict> = self.verdicts.iter().map(|v| (&v.place, v)).collect();
        for verdict in before.verdicts.iter().filter(|v| !now.contains_key(&v.place)) {
            match (&verdict.extension, verdict.problems.is_empty()) {
                (Some(extension), _) => info!("removed   {}  ({})", extension.name, verdict.place),
                (None, false) => info!("resolved  {}", verdict.place),
                (None, true) => {}
            }
        }
    }
}
