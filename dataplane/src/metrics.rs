//! Metrics of the data plane. Labels come from the configuration or from fixed sets, never from a client.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::extension::Extension;
use crate::snapshot::SnapshotReceiver;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    extension: Arc<str>,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExtensionLabels {
    extension: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    reason: &'static str,
}

impl RequestLabels {
    fn new(extension: &Extension, status: StatusCode) -> Self {
        Self { extension: extension.settings.name.clone(), status: status.as_u16() }
    }
}

impl ExtensionLabels {
    fn new(extension: &Extension) -> Self {
        Self { extension: extension.settings.name.clone() }
    }
}

/// What nearly every request of an extension counts up, looked up once.
#[derive(Debug)]
pub(crate) struct ExtensionMetrics {
    succeeded: Counter,
    durations: Histogram,
}

/// The counters that the workers share.
#[derive(Debug)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<ExtensionLabels, Histogram, fn() -> Histogram>,
    refusals: Family<RefusalLabels, Counter>,
    connections: Gauge,
    streams: Family<ExtensionLabels, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| {
                Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
            }),
            refusals: Family::default(),
            connections: Gauge::default(),
            streams: Family::default(),
        }
    }
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "argocd_proxy_extension_request",
            "Requests sent to the backend of an extension, by the status that the caller got",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "argocd_proxy_extension_request_duration",
            "Time from a request's head to the end of its answer",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register(
            "argocd_extension_proxy_refusals",
            "Requests and live streams that a check refused or whose backend failed, by the reason",
            self.refusals.clone(),
        );
        registry.register(
            "argocd_extension_proxy_connections",
            "Open connections of callers",
            self.connections.clone(),
        );
        registry.register("argocd_extension_proxy_streams", "Open WebSockets", self.streams.clone());
    }

    pub(crate) fn count_request(&self, extension: &Extension, status: StatusCode) {
        if status == StatusCode::OK {
            self.of(extension).succeeded.inc();
        } else {
            self.requests.get_or_create(&RequestLabels::new(extension, status)).inc();
        }
    }

    pub(crate) fn observe_duration(&self, extension: &Extension, duration: Duration) {
        self.of(extension).durations.observe(duration.as_secs_f64());
    }

    fn of<'a>(&self, extension: &'a Extension) -> &'a ExtensionMetrics {
        extension.metrics.get_or_init(|| ExtensionMetrics {
            succeeded: self.requests.get_or_create(&RequestLabels::new(extension, StatusCode::OK)).clone(),
            durations: self.durations.get_or_create(&ExtensionLabels::new(extension)).clone(),
        })
    }

    pub(crate) fn count_refusal(&self, reason: &'static str) {
        self.refusals.get_or_create(&RefusalLabels { reason }).inc();
    }

    pub(crate) fn open_connection(&self) -> Open {
        Open::new(self.connections.clone())
    }

    pub(crate) fn open_stream(&self, extension: &Extension) -> Open {
        Open::new(self.streams.get_or_create(&ExtensionLabels::new(extension)).clone())
    }
}

/// Counts as open until it is dropped.
pub(crate) struct Open(Gauge<i64, AtomicI64>);

impl Open {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabels {
    extension: Arc<str>,
    backend: String,
}

/// Tells how the extensions that are served now do.
#[derive(Debug)]
pub struct Served(pub SnapshotReceiver);

impl Collector for Served {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let snapshot = self.0.borrow().clone();
        let (idle, open) = (Family::<ExtensionLabels, Gauge>::default(), Family::<ExtensionLabels, Gauge>::default());
        let healthy = Family::<BackendLabels, Gauge>::default();
        let gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        for extension in snapshot.iter().flat_map(|snapshot| snapshot.extensions.values()) {
            let waiting = extension.services.iter().map(|service| service.idle_connections.load(Relaxed)).sum();
            let labels = ExtensionLabels::new(extension);
            idle.get_or_create(&labels).set(gauge(waiting));
            open.get_or_create(&labels).set(gauge(extension.open()));
            for service in &extension.services {
                let backend = service.settings.address.url();
                let labels = BackendLabels { extension: extension.settings.name.clone(), backend };
                healthy.get_or_create(&labels).set(i64::from(!service.health.is_down()));
            }
        }
        let mut write = |name: &str, help: &str, gauges: &dyn EncodeMetric| {
            gauges.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        let help = "HTTP/1.1 connections to an extension's backends that wait for a request";
        write("argocd_extension_proxy_idle_connections", help, &idle)?;
        let help = "Requests and streams of an extension that are open";
        write("argocd_extension_proxy_open_requests", help, &open)?;
        let help = "Whether a backend is not known to be down";
        write("argocd_extension_proxy_backend_healthy", help, &healthy)
    }
}
