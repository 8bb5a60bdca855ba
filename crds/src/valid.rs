//! The checks that turn a draft into a backend that can serve.

use std::collections::HashSet;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::draft::{BackendDraft, ClusterDraft, HeaderDraft, ServiceDraft, Text};
use crate::proxy_extension::SecretKeySelector;
use crate::{BackendUrl, Problem, RESERVED_HEADERS, duration};

pub const DEFAULT_CONNECTION_TIMEOUT: Duration = Duration::from_secs(2);
pub const DEFAULT_KEEP_ALIVE: Duration = Duration::from_secs(15);
pub const DEFAULT_IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
pub const DEFAULT_MAX_IDLE_CONNECTIONS: usize = 30;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    pub connection: Connection,
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub url: BackendUrl,
    /// `None`: answers for every cluster.
    pub cluster: Option<Cluster>,
    pub headers: Vec<Header>,
}

/// At least one of the two is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    pub name: Option<String>,
    pub server: Option<String>,
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
    if draft.services.is_empty() {
        problems.push(Problem::error("backend.services", "at least one service must be given"));
    }
    let services: Vec<Option<Service>> = draft
        .services
        .iter()
        .enumerate()
        .map(|(i, service)| check_service(service, &format!("backend.services[{i}]"), origin, &mut problems))
        .collect();
    check_clusters(&draft.services, &mut problems);
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
    (Some(Backend { connection, services }), problems)
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
    let url = check_url(draft.url.as_ref(), &format!("{field}.url"), origin, problems);
    let cluster = check_cluster(draft.cluster.as_ref(), &format!("{field}.cluster"), problems);
    let mut headers: Vec<Header> = Vec::with_capacity(draft.headers.len());
    for (i, header) in draft.headers.iter().enumerate() {
        let Some(header) = check_header(header, &format!("{field}.headers[{i}]"), problems) else {
            continue;
        };
        if let Some(earlier) = headers.iter_mut().find(|h| h.name == header.name) {
            problems.push(Problem::warning(
                format!("{field}.headers[{i}]"),
                format!("{:?} is given more than once; the last value is sent", header.name.as_str()),
            ));
            *earlier = header;
        } else {
            headers.push(header);
        }
    }
    Some(Service { url: url?, cluster, headers })
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

fn check_cluster(draft: Option<&ClusterDraft>, field: &str, problems: &mut Vec<Problem>) -> Option<Cluster> {
    let draft = draft?;
    let given = |text: &Option<Text>| text.as_ref().map(|t| t.value.clone()).filter(|v| !v.is_empty());
    let cluster = Cluster { name: given(&draft.name), server: given(&draft.server) };
    if cluster.name.is_none() && cluster.server.is_none() {
        problems.push(Problem::error(field, "name or server must be given"));
        return None;
    }
    Some(cluster)
}

/// With several services each names its cluster, and none names another's.
fn check_clusters(services: &[ServiceDraft], problems: &mut Vec<Problem>) {
    if services.len() < 2 {
        return;
    }
    let (mut names, mut servers) = (HashSet::new(), HashSet::new());
    for (i, service) in services.iter().enumerate() {
        let Some(cluster) = &service.cluster else {
            problems.push(Problem::error(
                format!("backend.services[{i}].cluster"),
                "must be given when there is more than one service",
            ));
            continue;
        };
        for (kind, text, seen) in [("name", &cluster.name, &mut names), ("server", &cluster.server, &mut servers)] {
            let Some(text) = text.as_ref().filter(|t| !t.value.is_empty()) else {
                continue;
            };
            if !seen.insert(text.value.as_str()) {
                let message = format!("{:?} is named by an earlier service already", text.shown());
                problems.push(Problem::error(format!("backend.services[{i}].cluster.{kind}"), message).at(text.line));
            }
        }
    }
}

fn check_header(draft: &HeaderDraft, field: &str, problems: &mut Vec<Problem>) -> Option<Header> {
    let name = check_header_name(draft.name.as_ref(), &format!("{field}.name"), problems);
    let value = match (&draft.value, &draft.secret) {
        (Some(_), Some(_)) => {
            problems.push(Problem::error(field, "value and valueFrom exclude each other; give one of them"));
            None
        }
        (None, Some(secret)) => Some(HeaderSource::Secret(secret.clone())),
        (Some(text), None) if !text.value.is_empty() => {
            check_header_value(text, &format!("{field}.value"), problems).map(HeaderSource::Value)
        }
        _ => {
            problems.push(Problem::error(format!("{field}.value"), "must be given"));
            None
        }
    };
    Some(Header { name: name?, value: value? })
}

fn check_header_name(text: Option<&Text>, field: &str, problems: &mut Vec<Problem>) -> Option<HeaderName> {
    let Some(text) = text.filter(|t| !t.value.is_empty()) else {
        problems.push(Problem::error(field, "must be given"));
        return None;
    };
    let Ok(name) = HeaderName::from_bytes(text.value.as_bytes()) else {
        problems.push(Problem::error(field, format!("{:?} is no valid header name", text.shown())).at(text.line));
        return None;
    };
    if RESERVED_HEADERS.contains(&name.as_str()) {
        let message =
            format!("{:?} is reserved for the caller's identity and the application; it is ignored", name.as_str());
        problems.push(Problem::warning(field, message).at(text.line));
        return None;
    }
    if is_connection_header(&name) {
        let message = format!("{:?} is managed by the proxy; it is ignored", name.as_str());
        problems.push(Problem::warning(field, message).at(text.line));
        return None;
    }
    Some(name)
}

/// Headers of the connection or of the message's framing: to set one would break the request.
fn is_connection_header(name: &HeaderName) -> bool {
    const MANAGED: [&str; 9] = [
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    MANAGED.contains(&name.as_str())
}

fn check_header_value(text: &Text, field: &str, problems: &mut Vec<Problem>) -> Option<HeaderValue> {
    let value = header_value(&text.value);
    if value.is_none() {
        problems.push(
            Problem::error(field, "holds a line break or another control character, which no header can carry")
                .at(text.line),
        );
    }
    value
}

/// A header value that prints as `Sensitive`, since any configured value may be a credential.
pub fn header_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(text.as_bytes()).ok()?;
    value.set_sensitive(true);
    Some(value)
}
