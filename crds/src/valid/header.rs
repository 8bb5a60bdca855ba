//! Headers that are set on the way to a service.

use http::{HeaderName, HeaderValue};

use super::{Header, HeaderSource};
use crate::draft::{HeaderDraft, Text};
use crate::{Problem, RESERVED_HEADERS};

pub(super) fn check_all(drafts: &[HeaderDraft], field: &str, problems: &mut Vec<Problem>) -> Vec<Header> {
    let mut headers: Vec<Header> = Vec::with_capacity(drafts.len());
    for (i, header) in drafts.iter().enumerate() {
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
    headers
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
