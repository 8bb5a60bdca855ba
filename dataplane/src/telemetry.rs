//! Traces: one span for each request, which the backend is told of.

use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use opentelemetry::global::{BoxedSpan, BoxedTracer};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Span, SpanKind, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};

pub struct Tracing {
    tracer: BoxedTracer,
    propagator: Box<dyn TextMapPropagator + Send + Sync>,
}

impl Tracing {
    pub fn new(tracer: BoxedTracer, propagator: Box<dyn TextMapPropagator + Send + Sync>) -> Self {
        Self { tracer, propagator }
    }

    /// A span that belongs to the trace that the caller tells of. Neither headers nor the query are told: they hold
    /// tokens.
    pub(crate) fn start(&self, head: &Parts, client: &HeaderValue) -> BoxedSpan {
        let parent = self.propagator.extract_with_context(&Context::new(), &HeaderExtractor(&head.headers));
        let method = head.method.as_str().to_owned();
        self.tracer
            .span_builder(method.clone())
            .with_kind(SpanKind::Server)
            .with_attributes([
                KeyValue::new("http.request.method", method),
                KeyValue::new("url.path", head.uri.path().to_owned()),
                KeyValue::new("client.address", client.to_str().unwrap_or_default().to_owned()),
            ])
            .start_with_context(&self.tracer, &parent)
    }

    pub(crate) fn inject(&self, span: &BoxedSpan, headers: &mut HeaderMap) {
        let context = Context::new().with_remote_span_context(span.span_context().clone());
        self.propagator.inject_context(&context, &mut HeaderInjector(headers));
    }
}
