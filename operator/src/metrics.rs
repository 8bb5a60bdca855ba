//! Metrics of the operator, beside those of the data plane.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use rustix::time::{ClockId, clock_gettime};

use crate::controller::Counts;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Debug, Clone)]
pub struct ControllerMetrics {
    reconciles: Family<ResultLabels, Counter>,
    duration: Histogram,
    cpu: Counter<f64, AtomicU64>,
    extensions: Family<StateLabels, Gauge>,
    snapshot_at: Gauge<f64, AtomicU64>,
}

impl Default for ControllerMetrics {
    fn default() -> Self {
        Self {
            reconciles: Family::default(),
            duration: Histogram::new([0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0]),
            cpu: Counter::default(),
            extensions: Family::default(),
            snapshot_at: Gauge::default(),
        }
    }
}

/// What something takes that runs on one thread from its start to its end.
pub(crate) struct Stopwatch {
    started: Instant,
    cpu: Duration,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), cpu: thread_cpu() }
    }
}

/// How long this thread has had a processor.
fn thread_cpu() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

impl ControllerMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "argocd_extension_proxy_reconciles",
            "Reconciles, by whether what is served changed",
            self.reconciles.clone(),
        );
        registry.register_with_unit(
            "argocd_extension_proxy_reconcile_duration",
            "Time that a reconcile took",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register_with_unit(
            "argocd_extension_proxy_reconcile_cpu",
            "Time that reconciles had a processor",
            Unit::Seconds,
            self.cpu.clone(),
        );
        registry.register(
            "argocd_extension_proxy_extensions",
            "Configured extensions, by their state",
            self.extensions.clone(),
        );
        registry.register_with_unit(
            "argocd_extension_proxy_snapshot_timestamp",
            "When what is served changed last, since 1970",
            Unit::Seconds,
            self.snapshot_at.clone(),
        );
    }

    pub(crate) fn reconciled(&self, changed: bool, took: &Stopwatch) {
        let result = if changed { "changed" } else { "unchanged" };
        self.reconciles.get_or_create(&ResultLabels { result }).inc();
        self.duration.observe(took.started.elapsed().as_secs_f64());
        self.cpu.inc_by(thread_cpu().saturating_sub(took.cpu).as_secs_f64());
    }

    pub(crate) fn published(&self, now: SystemTime) {
        self.snapshot_at.set(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64());
    }

    pub(crate) fn counted(&self, counts: Counts) {
        for (state, count) in
            [("accepted", counts.accepted), ("invalid", counts.invalid), ("conflicted", counts.conflicted)]
        {
            self.extensions.get_or_create(&StateLabels { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    source: &'static str,
}

/// How the sources in a cluster do.
#[derive(Debug, Clone, Default)]
pub struct SourceMetrics {
    failing: Family<SourceLabels, Gauge>,
    failures: Family<SourceLabels, Counter>,
}

impl SourceMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "argocd_extension_proxy_source_failing",
            "Whether a source cannot be read now, so that what it said last stays in effect",
            self.failing.clone(),
        );
        registry.register(
            "argocd_extension_proxy_source_failures",
            "Times that a source could not be read",
            self.failures.clone(),
        );
    }

    pub(crate) fn failed(&self, source: &'static str) {
        self.failures.get_or_create(&SourceLabels { source }).inc();
        self.failing.get_or_create(&SourceLabels { source }).set(1);
    }

    pub(crate) fn works(&self, source: &'static str) {
        self.failing.get_or_create(&SourceLabels { source }).set(0);
    }
}
