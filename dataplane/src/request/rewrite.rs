//! What of a message's headers reaches the other side.

use http::StatusCode;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE, UPGRADE};

use super::client::Forwarded;
use super::{Authenticated, Target};
use crate::extension::ServiceSettings;

/// A caller's headers as a backend gets them. Whatever belongs to the connection or only the proxy may say is left
/// out, and then the proxy says it, so that no header of the caller's, `Connection` included, can take any of it away.
pub(super) fn request(
    headers: &HeaderMap,
    target: &Target,
    caller: &Authenticated,
    forwarded: &Forwarded,
    is_websocket: bool,
) -> HeaderMap {
    // About as many are left out as the proxy adds besides.
    let mut sent = HeaderMap::with_capacity(headers.len() + target.headers(caller).count());
    let (mut named, mut takes_trailers) = (Vec::new(), false);
    for (name, value) in headers {
        let text = name.as_str();
        if !is_hop_by_hop(text) && !is_for_the_proxy(text) && !is_reserved(text) {
            sent.append(name.clone(), value.clone());
        } else if *name == CONNECTION {
            named.extend(named_by(value));
        } else if *name == TE {
            takes_trailers |= mentions(value, "trailers");
        }
    }
    for name in named {
        sent.remove(name);
    }
    if takes_trailers {
        sent.insert(TE, HeaderValue::from_static("trailers"));
    }
    if is_websocket {
        sent.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        sent.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    forwarded.write(&mut sent);
    for (name, value) in target.headers(caller) {
        sent.insert(name.clone(), value.clone());
    }
    sent
}

/// Makes them those that one of its services gets.
pub(super) fn for_service(headers: &mut HeaderMap, service: &ServiceSettings) {
    for (name, value) in &service.headers {
        headers.insert(name.clone(), value.clone());
    }
}

/// Makes a backend's headers those that the caller gets.
pub(super) fn response(status: StatusCode, headers: &mut HeaderMap) {
    let mut named = Vec::new();
    while let Some(name) = headers.keys().find(|name| is_hop_by_hop(name.as_str())).cloned() {
        if name == CONNECTION {
            named.extend(headers.get_all(CONNECTION).iter().flat_map(named_by));
        }
        headers.remove(name);
    }
    for name in named {
        headers.remove(name);
    }
    if status == StatusCode::NOT_MODIFIED {
        // About a body that is not there (RFC 9110, 15.4.5); Go's server leaves them out as well.
        headers.remove(CONTENT_TYPE);
        headers.remove(CONTENT_LENGTH);
    }
}

/// What belongs to the connection because this value of `Connection` says so.
fn named_by(connection: &HeaderValue) -> impl Iterator<Item = HeaderName> {
    let names = Some(connection).filter(|value| !names_no_header(value.as_bytes()));
    names
        .and_then(|value| value.to_str().ok())
        .into_iter()
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
}

/// The most frequent values of `Connection` name no header, or one that goes anyway.
fn names_no_header(connection: &[u8]) -> bool {
    [&b"keep-alive"[..], b"close", b"upgrade"].iter().any(|usual| connection.eq_ignore_ascii_case(usual))
}

fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// The proxy answers an expectation itself when it reads the body.
fn is_for_the_proxy(name: &str) -> bool {
    matches!(name, "authorization" | "cookie" | "expect" | "forwarded")
}

/// What only the proxy may say. A backend may read `_` in a header's name as `-`, so both count.
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
    // Nearly every name that does is written so.
    name.starts_with(start)
        || name.len() >= start.len() && name.bytes().zip(start.bytes()).all(|(a, b)| a == b || (a == b'_' && b == b'-'))
}

pub(super) fn mentions(value: &HeaderValue, token: &str) -> bool {
    value.to_str().is_ok_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
}
