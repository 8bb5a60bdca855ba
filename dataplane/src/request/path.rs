//! `<rootpath>/extensions/<name>/<rest>`: the rest and the query are forwarded byte for byte.

use std::borrow::Cow;

use bytes::Bytes;
use http::Uri;
use http::uri::PathAndQuery;
use memchr::{memchr, memchr_iter, memchr2, memchr3};
use percent_encoding::percent_decode_str;

use crate::Refusal;

const PREFIX: &str = "/extensions";

/// The path of a request to an extension.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ExtensionPath<'a> {
    /// The extension's name, decoded; empty where none is given.
    pub(super) name: Cow<'a, str>,
    /// What follows the name, with the query: empty, or it starts with `/` or `?`.
    rest: &'a str,
}

impl<'a> ExtensionPath<'a> {
    /// Reads a clean path with its query.
    pub(super) fn parse(root: &str, path_and_query: &'a str) -> Result<Self, Refusal> {
        let below =
            strip_prefix(root, path_and_query).and_then(|path| path.strip_prefix('/')).ok_or(Refusal::NoSuchPath)?;
        let (name, rest) = below.split_at(memchr2(b'/', b'?', below.as_bytes()).unwrap_or(below.len()));
        let path = &rest[..memchr(b'?', rest.as_bytes()).unwrap_or(rest.len())];
        check_escapes(&below[..name.len() + path.len()])?;
        if climbs(path) {
            return Err(Refusal::Path("an encoded dot segment is not allowed"));
        }
        let name =
            percent_decode_str(name).decode_utf8().map_err(|_| Refusal::Path("the extension name is not UTF-8"))?;
        Ok(Self { name, rest })
    }

    pub(super) fn rest(&self) -> &'a str {
        self.rest
    }
}

/// Where a request goes at a backend whose own path is `base`; `rest` is what follows the extension's name.
pub(super) fn at_backend(base: &str, rest: &str) -> Result<Uri, Refusal> {
    let slash = if rest.starts_with('/') { "" } else { "/" };
    let path = PathAndQuery::from_maybe_shared(Bytes::from([base, slash, rest].concat()));
    path.map(Uri::from).map_err(|_| Refusal::Path("it holds characters that no URL can"))
}

/// The path below `<root>/extensions`, where it is one.
fn strip_prefix<'a>(root: &str, path: &'a str) -> Option<&'a str> {
    let path = match root {
        "" => path,
        root => path.strip_prefix('/')?.strip_prefix(root)?,
    };
    path.strip_prefix(PREFIX)
}

fn check_escapes(path: &str) -> Result<(), Refusal> {
    let path = path.as_bytes();
    let is_valid =
        |at: usize| matches!(path.get(at + 1..at + 3), Some([a, b]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    if memchr_iter(b'%', path).all(is_valid) {
        Ok(())
    } else {
        Err(Refusal::Path("a % is not followed by two hexadecimal digits"))
    }
}

/// Whether a backend that decodes the path could see a `.` or `..` segment in it. A clean path has none that is
/// not encoded. `\` counts as a separator and `;` ends a segment's name, since some backends read them so.
fn climbs(path: &str) -> bool {
    if memchr3(b'%', b';', b'\\', path.as_bytes()).is_none() {
        return false;
    }
    let decoded = percent_decode_str(path).collect::<Vec<u8>>();
    decoded
        .split(|b| matches!(b, b'/' | b'\\'))
        .map(|segment| segment.split(|b| *b == b';').next().unwrap_or_default())
        .any(|segment| segment == b"." || segment == b"..")
}

/// Where a path that is not clean, or `/extensions` itself, is redirected to: with its query.
pub(super) fn redirect(root: &str, path_and_query: &str) -> Option<String> {
    let (path, query) =
        path_and_query.split_at(memchr(b'?', path_and_query.as_bytes()).unwrap_or(path_and_query.len()));
    let clean = clean(path);
    let target = clean.as_deref().unwrap_or(path);
    // Whatever is no path of an extension even when clean is not ours to redirect.
    let below = strip_prefix(root, target)?;
    let mut location = match (below, &clean) {
        ("", _) => format!("{target}/"),
        (below, Some(clean)) if below.starts_with('/') => clean.clone(),
        _ => return None,
    };
    location.push_str(query);
    Some(location)
}

/// The path without empty, `.` and `..` segments; `None` where it has none. A trailing slash stays.
fn clean(path: &str) -> Option<String> {
    if is_clean(path.as_bytes()) {
        return None;
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let mut clean = String::with_capacity(path.len());
    for segment in &segments {
        clean.push('/');
        clean.push_str(segment);
    }
    if path.ends_with('/') || clean.is_empty() {
        clean.push('/');
    }
    Some(clean)
}

fn is_clean(path: &[u8]) -> bool {
    // A trailing slash begins no segment.
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let mut segments = path.split(|b| *b == b'/');
    segments.next().is_some_and(<[u8]>::is_empty) && segments.all(|segment| !matches!(segment, b"" | b"." | b".."))
}

#[cfg(test)]
mod tests;
