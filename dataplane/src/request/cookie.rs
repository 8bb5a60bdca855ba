//! The `argocd.token` cookie, whole or in the chunks that Argo CD cuts a long token into:
//! `argocd.token=3:<first>; argocd.token-1=<second>; argocd.token-2=<third>`.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::COOKIE;
use memchr::{memchr, memchr3};

use crate::Refusal;

const NAME: &str = "argocd.token";

/// The caller's token, not verified.
pub(super) fn token(headers: &HeaderMap) -> Result<Cow<'_, str>, Refusal> {
    // Of two cookies of one name the last counts, as in Argo CD.
    let value = find(headers, NAME).ok_or(Refusal::NoCookie)?;
    let Some(colon) = memchr(b':', value.as_bytes()) else { return Ok(Cow::Borrowed(value)) };
    let (count, first) = (&value[..colon], &value[colon + 1..]);
    if first.contains(':') {
        return Err(Refusal::NoCookie);
    }
    join(headers, count.parse().map_err(|_| Refusal::NoCookie)?, first)
}

/// A missing chunk counts as empty, which no signature survives.
fn join<'a>(headers: &'a HeaderMap, count: i64, first: &'a str) -> Result<Cow<'a, str>, Refusal> {
    let mut chunks = cookies(headers, |name| name.starts_with(NAME.as_bytes())).count();
    let mut token = first.to_owned();
    for i in 1..count {
        if chunks == 0 {
            break;
        }
        chunks -= 1;
        token.push_str(find(headers, &format!("{NAME}-{i}")).unwrap_or_default());
    }
    Ok(Cow::Owned(token))
}

fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    cookies(headers, |n| n == name.as_bytes()).last()
}

/// The values of cookies of some names. What cannot be one is passed over, and takes no other cookie along: whatever
/// else the browser sends may be written in any encoding.
fn cookies(headers: &HeaderMap, is_wanted: impl Fn(&[u8]) -> bool) -> impl Iterator<Item = &str> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|value| pairs(value.as_bytes()));
    pairs
        .filter_map(|pair| split_at(trim(pair), b'='))
        .filter(move |(name, _)| is_wanted(name))
        .filter_map(|(_, value)| text(value))
}

/// What stands between semicolons.
fn pairs(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest.take()?;
        let Some((pair, after)) = split_at(bytes, b';') else { return Some(bytes) };
        rest = Some(after);
        Some(pair)
    })
}

/// It pays to look well: a token is long.
fn split_at(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let i = memchr(at, bytes)?;
    Some((&bytes[..i], &bytes[i + 1..]))
}

fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// A cookie's value, which may stand in quotes. A header's value holds no control character but the tab.
fn text(value: &[u8]) -> Option<&str> {
    let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    let is_valid = value.is_ascii() && memchr3(b'"', b'\\', b'\t', value).is_none();
    std::str::from_utf8(value).ok().filter(|_| is_valid)
}

#[cfg(test)]
mod tests;
