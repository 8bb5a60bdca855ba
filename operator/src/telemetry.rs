//! Traces, sent by OTLP where the standard `OTEL_*` variables ask for it.

use anyhow::{Context, Result, bail};
use dataplane::telemetry::Tracing;
use opentelemetry::global::BoxedTracer;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{debug, info};

const NAME: &str = "argocd-extension-proxy";
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];

/// Sends what is left when it is dropped.
pub(crate) struct Exporter(SdkTracerProvider);

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown() {
            debug!(%error, "the last traces could not be sent");
        }
    }
}

/// Starts where an endpoint is named. Not to be called from within a runtime: the exporter has its own thread.
pub(crate) fn start() -> Result<Option<(Tracing, Exporter)>> {
    let is_off = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || set("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
    let Some(endpoint) = ENDPOINTS.iter().find_map(|name| set(name)).filter(|_| !is_off) else { return Ok(None) };
    if let Some(protocol) = PROTOCOLS.iter().find_map(|name| set(name)).filter(|protocol| protocol != "http/protobuf") {
        bail!(
            "OTEL_EXPORTER_OTLP_PROTOCOL {protocol:?} is not supported; use http/protobuf and the collector's port for it, 4318"
        );
    }
    let exporter = SpanExporter::builder().with_http().build().context("setting up the export of traces")?;
    let resource = match set("OTEL_SERVICE_NAME") {
        Some(_) => Resource::builder().build(),
        None => Resource::builder().with_service_name(NAME).build(),
    };
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
    info!(endpoint, "traces are sent");
    let tracer = BoxedTracer::new(Box::new(provider.tracer(NAME)));
    let tracing = Tracing::new(tracer, Box::new(TraceContextPropagator::new()));
    Ok(Some((tracing, Exporter(provider))))
}

/// A variable that is not empty.
fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
