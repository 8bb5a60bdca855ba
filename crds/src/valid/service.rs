//! What only a `ProxyExtension` can say of a service.

use std::time::Duration;

use super::{
    DEFAULT_HEALTH_INTERVAL, DEFAULT_HEALTH_TIMEOUT, DEFAULT_UNHEALTHY_THRESHOLD, Endpoint, HealthCheck, ServiceRef,
    positive,
};
use crate::draft::Text;
use crate::proxy_extension::{self as crd, BackendTls, ServiceScheme};
use crate::url::{escapes_are_valid, is_host_name};
use crate::{Problem, Scheme};

/// A service that is asked more often would be asked little else.
const SHORTEST_HEALTH_INTERVAL: Duration = Duration::from_millis(100);

pub(super) fn check_reference(draft: &crd::ServiceRef, field: &str, problems: &mut Vec<Problem>) -> Option<Endpoint> {
    let path = draft.path.as_deref().unwrap_or_default();
    if !path.is_empty() && !is_path(path) {
        let message = "must start with / and hold neither spaces, ?, # nor incomplete escapes";
        problems.push(Problem::error(format!("{field}.path"), message));
        return None;
    }
    Some(Endpoint::Service(ServiceRef {
        name: draft.name.clone(),
        namespace: draft.namespace.clone(),
        port: draft.port.clone(),
        scheme: match draft.scheme.unwrap_or_default() {
            ServiceScheme::Http => Scheme::Http,
            ServiceScheme::Https => Scheme::Https,
        },
        path: path.trim_end_matches('/').to_owned(),
    }))
}

pub(super) fn check_tls(
    draft: Option<&BackendTls>,
    endpoint: Option<&Endpoint>,
    field: &str,
    problems: &mut Vec<Problem>,
) -> Option<BackendTls> {
    let draft = draft?;
    let scheme = match endpoint? {
        Endpoint::Url(url) => url.scheme,
        Endpoint::Service(reference) => reference.scheme,
    };
    if scheme == Scheme::Http {
        problems.push(Problem::error(field, "has no effect without https; change the scheme, or remove it"));
        return None;
    }
    if let Some(name) = draft.server_name.as_deref().filter(|name| !is_host_name(name)) {
        problems.push(Problem::error(format!("{field}.serverName"), format!("{name:?} is no valid host name")));
        return None;
    }
    Some(draft.clone())
}

pub(super) fn check_health(draft: &crd::HealthCheck, field: &str, problems: &mut Vec<Problem>) -> Option<HealthCheck> {
    let errors = problems.len();
    if !is_path(draft.path.split('?').next().unwrap_or_default()) || !is_target(&draft.path) {
        let message = "must be a path that starts with / and holds neither spaces, # nor incomplete escapes";
        problems.push(Problem::error(format!("{field}.path"), message));
    }
    let mut duration = |text: &Option<String>, name: &str, default| {
        let text = text.as_deref().map(Text::from);
        positive(text.as_ref(), &format!("{field}.{name}"), problems).unwrap_or(default)
    };
    let interval = duration(&draft.interval, "interval", DEFAULT_HEALTH_INTERVAL);
    let timeout = duration(&draft.timeout, "timeout", DEFAULT_HEALTH_TIMEOUT);
    if interval < SHORTEST_HEALTH_INTERVAL {
        problems.push(Problem::error(format!("{field}.interval"), "is shorter than 100ms"));
    }
    let unhealthy_threshold = match draft.unhealthy_threshold {
        None => DEFAULT_UNHEALTHY_THRESHOLD,
        Some(threshold) => u32::try_from(threshold).ok().filter(|n| (1..=100).contains(n)).unwrap_or_else(|| {
            problems.push(Problem::error(format!("{field}.unhealthyThreshold"), "must be from 1 to 100"));
            DEFAULT_UNHEALTHY_THRESHOLD
        }),
    };
    let is_valid = problems.len() == errors;
    is_valid.then(|| HealthCheck { path: draft.path.clone(), interval, timeout, unhealthy_threshold })
}

fn is_path(text: &str) -> bool {
    is_target(text) && !text.contains('?')
}

fn is_target(text: &str) -> bool {
    text.starts_with('/')
        && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'#' | b'\\'))
        && escapes_are_valid(text)
}
