//! The checks that turn a draft into a backend that can serve.

mod cluster;
mod header;
mod service;

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use kube::core::Selector;

use crate::draft::{BackendDraft, ServiceDraft, Text};
use crate::proxy_extension::{BackendTls, PortRef, ProxyExtensionSpec, Scope, SecretKeySelector};
use crate::{BackendUrl, Problem, Scheme, duration};
pub use header::header_value;

pub const DEFAULT_CONNECTION_TIMEOUT: Duration = Duration::from_secs(2);
pub const DEFAULT_KEEP_ALIVE: Duration = Duration::from_secs(15);
pub const DEFAULT_IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
pub const DEFAULT_MAX_IDLE_CONNECTIONS: usize = 30;
pub const DEFAULT_HEALTH_INTERVAL: Duration = Duration::from_secs(10);
pub const DEFAULT_HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
pub const DEFAULT_UNHEALTHY_THRESHOLD: u32 = 3;

#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    pub connection: Connection,
    pub limits: Limits,
    pub services: Vec<Service>,
}

/// How connections are made and kept. `None` means that there is no such limit, or no probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    pub timeout: Duration,
    pub keep_alive: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    pub max_idle: usize,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            timeout: DEFAULT_CONNECTION_TIMEOUT,
            keep_alive: Some(DEFAULT_KEEP_ALIVE),
            idle_timeout: Some(DEFAULT_IDLE_CONNECTION_TIMEOUT),
            max_idle: DEFAULT_MAX_IDLE_CONNECTIONS,
        }
    }
}

/// What an extension's requests may take. `None` means that there is no such limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    pub request_timeout: Option<Duration>,
    pub stream_idle_timeout: Option<Duration>,
    pub max_request_body_bytes: Option<u64>,
    pub max_concurrent_requests: Option<usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    pub endpoint: Endpoint,
    /// `None`: answers for every cluster.
    pub cluster: Option<Cluster>,
    pub headers: Vec<Header>,
    pub tls: Option<BackendTls>,
    pub health_check: Option<HealthCheck>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Url(BackendUrl),
    Service(ServiceRef),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRef {
    pub name: String,
    pub namespace: Option<String>,
    pub port: Option<PortRef>,
    pub scheme: Scheme,
    /// Without a trailing slash; empty for the root.
    pub path: String,
}

/// At least one of the three is there.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    pub name: Option<String>,
    pub server: Option<String>,
    pub selector: Option<Selector>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    pub path: String,
    pub interval: Duration,
    pub timeout: Duration,
    pub unhealthy_threshold: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub name: HeaderName,
    pub value: HeaderSource,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderSource {
    Value(HeaderValue),
    Secret(SecretKeySelector),
}

/// Where a draft comes from: what Argo CD ignores in its own configuration counts in a `ProxyExtension`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    ArgoCdConfigMap,
    ProxyExtension,
}

/// Checks a draft. `None` when at least one problem is an error.
pub fn check(draft: &BackendDraft, origin: Origin) -> (Option<Backend>, Vec<Problem>) {
    let mut problems = Vec::new();
    let connection = check_connection(draft, &mut problems);
    let limits = check_limits(draft, &mut problems);
    if draft.services.is_empty() {
        problems.push(Problem::error("backend.services", "at least one service must be given"));
    }
    let services: Vec<Option<Service>> = draft
        .services
        .iter()
        .enumerate()
        .map(|(i, service)| check_service(service, &format!("backend.services[{i}]"), origin, &mut problems))
        .collect();
    cluster::check_all(&draft.services, origin, &mut problems);
    if problems.iter().any(Problem::is_error) {
        return (None, problems);
    }
    let mut services: Vec<Service> = services.into_iter().flatten().collect();
    if let ([only], Origin::ArgoCdConfigMap) = (services.as_mut_slice(), origin)
        && only.cluster.take().is_some()
    {
        let message = "has no effect with a single service, which answers for every cluster, as in Argo CD";
        problems.push(Problem::warning("backend.services[0].cluster", message));
    }
    (Some(Backend { connection, limits, services }), problems)
}

/// What a `ProxyExtension` says besides its backend.
pub fn check_scope(spec: &ProxyExtensionSpec) -> Vec<Problem> {
    if spec.scope.unwrap_or_default() == Scope::Application {
        return Vec::new();
    }
    let why = "it can be called without an application; remove it or use the scope Application";
    let projects = spec
        .projects
        .iter()
        .map(|_| Problem::error("spec.projects", format!("has no place in a Global extension: {why}")));
    let services = spec.backend.services.iter().enumerate().filter(|(_, service)| service.cluster.is_some());
    let clusters = services.map(|(i, _)| {
        Problem::error(
            format!("backend.services[{i}].cluster"),
            format!("cannot be chosen by in a Global extension: {why}"),
        )
    });
    projects.chain(clusters).collect()
}

fn check_limits(draft: &BackendDraft, problems: &mut Vec<Problem>) -> Limits {
    let mut limits = Limits {
        request_timeout: positive(draft.request_timeout.as_ref(), "backend.requestTimeout", problems),
        stream_idle_timeout: positive(draft.stream_idle_timeout.as_ref(), "backend.streamIdleTimeout", problems),
        ..Limits::default()
    };
    if let Some(bytes) = draft.max_request_body_bytes {
        limits.max_request_body_bytes = u64::try_from(bytes).ok();
        if limits.max_request_body_bytes.is_none() {
            problems.push(Problem::error(
                "backend.maxRequestBodyBytes",
                "is negative; write how many bytes a body may have",
            ));
        }
    }
    if let Some(requests) = draft.max_concurrent_requests {
        limits.max_concurrent_requests = usize::try_from(requests).ok().filter(|requests| *requests > 0);
        if limits.max_concurrent_requests.is_none() {
            let message = "must be at least 1; to have no limit, leave it out";
            problems.push(Problem::error("backend.maxConcurrentRequests", message));
        }
    }
    limits
}

/// A duration of which zero means that there is none.
fn positive(text: Option<&Text>, field: &str, problems: &mut Vec<Problem>) -> Option<Duration> {
    let duration = u64::try_from(nanos(text, field, problems)?);
    if duration.is_err() {
        problems.push(Problem::error(field, "is negative; write a positive duration such as 30s"));
    }
    duration.ok().map(Duration::from_nanos)
}

fn check_connection(draft: &BackendDraft, problems: &mut Vec<Problem>) -> Connection {
    let mut connection = Connection::default();
    if let Some(nanos) = nanos(draft.connection_timeout.as_ref(), "backend.connectionTimeout", problems) {
        match u64::try_from(nanos) {
            Ok(nanos) => connection.timeout = Duration::from_nanos(nanos),
            Err(_) => problems.push(
                Problem::error(
                    "backend.connectionTimeout",
                    "is negative, so that no connection could be made; write a positive duration such as 2s",
                )
                .at(draft.connection_timeout.as_ref().and_then(|t| t.line)),
            ),
        }
    }
    if let Some(nanos) = nanos(draft.keep_alive.as_ref(), "backend.keepAlive", problems) {
        connection.keep_alive = u64::try_from(nanos).ok().map(Duration::from_nanos);
    }
    if let Some(nanos) = nanos(draft.idle_connection_timeout.as_ref(), "backend.idleConnectionTimeout", problems) {
        connection.idle_timeout = u64::try_from(nanos).ok().map(Duration::from_nanos);
    }
    if let Some(text) = &draft.max_idle_connections {
        let whole = text.value.split_once('.').filter(|(_, fraction)| fraction.bytes().all(|b| b == b'0'));
        match whole.map_or(text.value.as_str(), |(whole, _)| whole).parse::<i64>() {
            Ok(0) => {}
            Ok(n) => connection.max_idle = usize::try_from(n).unwrap_or(0),
            Err(_) => problems.push(
                Problem::error("backend.maxIdleConnections", format!("{:?} is not a whole number", text.shown()))
                    .at(text.line),
            ),
        }
    }
    connection
}

/// The duration's nanoseconds; none where nothing, or zero, asks for the default.
fn nanos(text: Option<&Text>, field: &str, problems: &mut Vec<Problem>) -> Option<i64> {
    let text = text?;
    match duration::parse(&text.value) {
        Ok(0) => None,
        Ok(nanos) => Some(nanos),
        Err(error) => {
            problems.push(Problem::error(field, format!("{:?} {error}", text.shown())).at(text.line));
            None
        }
    }
}

fn check_service(draft: &ServiceDraft, field: &str, origin: Origin, problems: &mut Vec<Problem>) -> Option<Service> {
    let endpoint = match (&draft.url, &draft.service_ref) {
        (Some(_), Some(_)) => {
            problems.push(Problem::error(field, "url and serviceRef exclude each other; give one of them"));
            None
        }
        (None, None) if origin == Origin::ProxyExtension => {
            problems.push(Problem::error(field, "url or serviceRef must be given"));
            None
        }
        (None, Some(reference)) => service::check_reference(reference, &format!("{field}.serviceRef"), problems),
        (url, None) => check_url(url.as_ref(), &format!("{field}.url"), origin, problems).map(Endpoint::Url),
    };
    let cluster = cluster::check(draft.cluster.as_ref(), &format!("{field}.cluster"), problems);
    let headers = header::check_all(&draft.headers, field, problems);
    let tls = service::check_tls(draft.tls.as_ref(), endpoint.as_ref(), &format!("{field}.tls"), problems);
    let health = draft.health_check.as_ref();
    let health_check = health.and_then(|draft| service::check_health(draft, &format!("{field}.healthCheck"), problems));
    Some(Service { endpoint: endpoint?, cluster, headers, tls, health_check })
}

fn check_url(text: Option<&Text>, field: &str, origin: Origin, problems: &mut Vec<Problem>) -> Option<BackendUrl> {
    let Some(text) = text.filter(|t| !t.value.is_empty()) else {
        problems.push(Problem::error(field, "must be given"));
        return None;
    };
    let mut url = match BackendUrl::parse(&text.value) {
        Ok(url) => url,
        Err(message) => {
            problems.push(Problem::error(field, message).at(text.line));
            return None;
        }
    };
    if url.has_unused_parts {
        let message = "user information, query and fragment of the URL are ignored; send credentials with headers";
        problems.push(Problem::warning(field, message).at(text.line));
    }
    if origin == Origin::ArgoCdConfigMap && !url.path.is_empty() {
        url.path.clear();
        let message =
            "the path of the URL is ignored here, as Argo CD does; a ProxyExtension's is put before the request's path";
        problems.push(Problem::warning(field, message).at(text.line));
    }
    Some(url)
}
