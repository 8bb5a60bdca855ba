//! What of a message's headers reaches the other side.

use http::StatusCode;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, FORWARDED, HeaderMap, HeaderName,
    HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};

use super::Target;
use super::client::Forwarded;
use crate::extension::ServiceSettings;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Makes a caller's headers those that the backend gets. The order matters: first everything goes that belongs to
/// the connection or that only the proxy may say, then the proxy says it, so that no header of the caller's,
/// `Connection` included, can take any of it away.
pub(super) fn request(headers: &mut HeaderMap, target: &Target, forwarded: Forwarded, is_websocket: bool) {
    let accepts_trailers = headers.get_all(TE).iter().any(|value| mentions(value, "trailers"));
    remove_hop_by_hop(headers);
    // The proxy answers an expectation itself when it reads the body.
    for name in [AUTHORIZATION, COOKIE, EXPECT, FORWARDED] {
        headers.remove(name);
    }
    remove_reserved(headers);

    if accepts_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if is_websocket {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    forwarded.write(headers);
    for (name, value) in &target.headers {
        headers.insert(name.clone(), value.clone());
    }
}

/// Makes them those that one of its services gets.
pub(super) fn for_service(headers: &mut HeaderMap, service: &ServiceSettings) {
    for (name, value) in &service.headers {
        headers.insert(name.clone(), value.clone());
    }
}

/// Makes a backend's headers those that the caller gets.
pub(super) fn response(status: StatusCode, headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    if status == StatusCode::NOT_MODIFIED {
        // About a body that is not there (RFC 9110, 15.4.5); Go's server leaves them out as well.
        headers.remove(CONTENT_TYPE);
        headers.remove(CONTENT_LENGTH);
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        PROXY_CONNECTION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        headers.remove(name);
    }
}

/// Removes what only the proxy may say. A backend may read `_` in a header's name as `-`, so both count.
fn remove_reserved(headers: &mut HeaderMap) {
    let reserved: Vec<HeaderName> = headers.keys().filter(|name| is_reserved(name.as_str())).cloned().collect();
    for name in reserved {
        headers.remove(name);
    }
}

fn is_reserved(name: &str) -> bool {
    match name.as_bytes().first() {
        Some(b'a') => {
            is_like(name, "argocd-")
                && RESERVED.iter().any(|reserved| name.len() == reserved.len() && is_like(name, reserved))
        }
        Some(b'x') => is_like(name, "x-forwarded-"),
        _ => false,
    }
}

const RESERVED: [&str; 8] = [
    "argocd-namespace",
    "argocd-application-name",
    "argocd-project-name",
    "argocd-target-cluster-name",
    "argocd-target-cluster-url",
    "argocd-user-id",
    "argocd-username",
    "argocd-user-groups",
];

/// Whether the name starts with the text, with `_` read as `-`.
fn is_like(name: &str, start: &str) -> bool {
    name.len() >= start.len() && name.bytes().zip(start.bytes()).all(|(a, b)| a == b || (a == b'_' && b == b'-'))
}

pub(super) fn mentions(value: &HeaderValue, token: &str) -> bool {
    value.to_str().is_ok_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
}
