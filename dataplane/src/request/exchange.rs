//! A request from its head to the end of its answer: what is logged, counted and traced of it.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use opentelemetry::global::BoxedSpan;
use opentelemetry::trace::{Span, Status};
use opentelemetry::{KeyValue, StringValue};
use tracing::{debug, info, warn};

use super::application::OwnedApplicationRef;
use super::client::Peer;
use super::{Authenticated, Target};
use crate::Refusal;
use crate::access_log::Line;
use crate::body::RequestBody;
use crate::extension::{AtService, Entered};
use crate::pool::Sender;
use crate::server::Worker;

/// Tells of itself when it is dropped.
pub(crate) struct Exchange {
    worker: Arc<Worker>,
    started: Instant,
    client: HeaderValue,
    /// The extension's name as the path has it.
    pub(super) name: Option<Arc<str>>,
    pub(super) user: Option<Authenticated>,
    /// The application that it was refused for.
    pub(super) refused_application: Option<OwnedApplicationRef>,
    served: Option<Served>,
    status: Option<StatusCode>,
    check: Option<&'static str>,
    sent: u64,
    told: Option<Box<Told>>,
}

/// What it takes at the extension.
struct Served {
    target: Arc<Target>,
    _entered: Entered,
    at: Option<AtService>,
}

/// What nobody needs to know unless it is written down.
struct Told {
    at: SystemTime,
    method: Method,
    path: String,
    version: Version,
    span: Option<BoxedSpan>,
}

impl Exchange {
    pub(super) fn start(worker: &Arc<Worker>, peer: &Peer, head: &Parts) -> Self {
        let common = &worker.common;
        let client = peer.client(&head.headers, &common.trusted_proxies);
        let is_told = common.access_log.is_some() || common.tracing.is_some();
        let told = is_told.then(|| {
            Box::new(Told {
                at: SystemTime::now(),
                method: head.method.clone(),
                path: head.uri.path().to_owned(),
                version: head.version,
                span: common.tracing.as_ref().map(|tracing| tracing.start(head, &client)),
            })
        });
        Self {
            worker: worker.clone(),
            started: Instant::now(),
            client,
            name: None,
            user: None,
            refused_application: None,
            served: None,
            status: None,
            check: None,
            sent: 0,
            told,
        }
    }

    /// From here on it counts as a request to the extension.
    pub(super) fn enter(&mut self, target: &Arc<Target>) -> Result<(), Refusal> {
        let Some(entered) = target.extension.enter(self.worker.common.most_open) else {
            self.refused_application = target.application.as_deref().cloned();
            return Err(Refusal::TooManyRequests);
        };
        self.served = Some(Served { target: target.clone(), _entered: entered, at: None });
        Ok(())
    }

    pub(super) fn is_at(&mut self, at: AtService) {
        if let Some(served) = &mut self.served {
            served.at = Some(at);
        }
    }

    pub(crate) fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }

    /// The connection over which the answer came is free again.
    pub(crate) fn give_back(&self, connection: Sender<RequestBody>) {
        if let Some(at) = self.at() {
            self.worker.pools.put(at.service(), connection);
        }
    }

    fn at(&self) -> Option<&AtService> {
        self.served.as_ref().and_then(|served| served.at.as_ref())
    }

    fn application(&self) -> Option<&OwnedApplicationRef> {
        let served = self.served.as_ref().and_then(|served| served.target.application.as_deref());
        served.or(self.refused_application.as_ref())
    }

    /// The status that the caller gets.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
        if let Some(served) = &self.served {
            self.worker.metrics.count_request(&served.target.extension, status);
        }
    }

    /// Part of the answer's body goes to the caller.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Says why it is refused, or ended.
    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        self.check = Some(refusal.label());
        self.worker.metrics.count_refusal(refusal.label());
        self.log(refusal);
    }

    fn log(&self, refusal: &Refusal) {
        let extension = self.name.as_deref().unwrap_or_default();
        let user = self.user.as_ref().map(Authenticated::username).unwrap_or_default();
        let (application, project) =
            self.application().map(|a| (a.application.as_str(), a.project.as_str())).unwrap_or_default();
        let (check, client) = (refusal.label(), self.client.to_str().unwrap_or_default());
        match refusal {
            Refusal::BackendUnreachable(_) | Refusal::BackendTimeout | Refusal::BackendFailed(_) => {
                warn!(check, ?extension, ?user, ?application, ?project, client, "{refusal}");
            }
            Refusal::NoSuchPath | Refusal::Method | Refusal::NoCookie => {
                debug!(check, ?extension, client, "request refused: {refusal}");
            }
            _ if self.status.is_some() => {
                info!(check, ?extension, ?user, ?application, ?project, client, "closed a stream: {refusal}");
            }
            _ => info!(check, ?extension, ?user, ?application, ?project, client, "request refused: {refusal}"),
        }
    }

    /// Tells the backend of the trace that the request belongs to.
    pub(super) fn carry_trace(&self, headers: &mut HeaderMap) {
        let span = self.told.as_ref().and_then(|told| told.span.as_ref());
        if let (Some(span), Some(tracing)) = (span, &self.worker.common.tracing) {
            tracing.inject(span, headers);
        }
    }

    fn end_span(&self, mut span: BoxedSpan, method: &Method) {
        if let Some(served) = &self.served {
            let route = format!("/extensions/{}/", served.target.extension.settings.name);
            span.update_name(format!("{method} {route}"));
            span.set_attribute(KeyValue::new("http.route", route));
            if let Some(at) = self.at() {
                let address = &at.service().settings.address;
                span.set_attribute(KeyValue::new("server.address", address.host.clone()));
                span.set_attribute(KeyValue::new("server.port", i64::from(address.port)));
            }
        }
        let text = |text: &str| StringValue::from(text.to_owned());
        if let Some(user) = &self.user {
            span.set_attribute(KeyValue::new("enduser.id", text(user.username())));
        }
        if let Some(application) = self.application() {
            span.set_attribute(KeyValue::new("argocd.application", text(&application.application)));
            span.set_attribute(KeyValue::new("argocd.project", text(&application.project)));
        }
        if let Some(status) = self.status {
            span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
            if status.is_server_error() {
                span.set_status(Status::error(self.check.unwrap_or_default()));
            }
        }
        if let Some(check) = self.check {
            span.set_attribute(KeyValue::new("error.type", check));
        }
        span.end();
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        if let Some(served) = &self.served {
            self.worker.metrics.observe_duration(&served.target.extension, took);
        }
        let Some(mut told) = self.told.take() else { return };
        let trace = told.span.as_ref().map(|span| span.span_context().trace_id().to_string());
        if let Some(span) = told.span.take() {
            self.end_span(span, &told.method);
        }
        let Some(access_log) = &self.worker.common.access_log else { return };
        access_log.write(&Line {
            time: told.at,
            client: self.client.to_str().unwrap_or_default(),
            method: told.method.as_str(),
            path: &told.path,
            protocol: told.version,
            status: self.status.map(|status| status.as_u16()),
            check: self.check,
            duration: took,
            bytes: self.sent,
            extension: self.name.as_deref(),
            application: self.application().map(|a| a.application.as_str()),
            project: self.application().map(|a| a.project.as_str()),
            user: self.user.as_ref().map(Authenticated::username),
            backend: self.at().map(|at| at.service().settings.address.url()),
            trace,
        });
    }
}
