//! The `argocd.token` cookie, whole or in the chunks that Argo CD cuts a long token into:
//! `argocd.token=3:<first>; argocd.token-1=<second>; argocd.token-2=<third>`.

use std::borrow::Cow;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use memchr::{memchr, memchr3};

use crate::Refusal;

const NAME: &str = "argocd.token";

/// The caller's token, not verified.
pub(super) fn token(headers: &HeaderMap) -> Result<Cow<'_, str>, Refusal> {
    // Of two cookies of one name the last counts, as in Argo CD.
    let value = find(headers, NAME).ok_or(Refusal::NoCookie)?;
    let Some((count, first)) = split_at(value, b':') else { return Ok(Cow::Borrowed(value)) };
    if first.contains(':') {
        return Err(Refusal::NoCookie);
    }
    join(headers, count.parse().map_err(|_| Refusal::NoCookie)?, first)
}

/// A missing chunk counts as empty, which no signature survives.
fn join<'a>(headers: &'a HeaderMap, count: i64, first: &'a str) -> Result<Cow<'a, str>, Refusal> {
    let mut chunks = cookies(headers, |name| name.starts_with(NAME)).count();
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
    cookies(headers, |n| n == name).last().map(|(_, value)| value)
}

/// Cookies of some names. Those whose value is none are passed over.
fn cookies(headers: &HeaderMap, is_wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(text)
        .flat_map(pairs)
        .filter_map(|pair| pair.trim_matches([' ', '\t']).split_once('='))
        .filter(move |(name, _)| is_wanted(name))
        .filter_map(|(name, value)| {
            let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
            memchr3(b'"', b'\\', b'\t', value.as_bytes()).is_none().then_some((name, value))
        })
}

/// What stands between semicolons.
fn pairs(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let Some((pair, after)) = split_at(text, b';') else { return Some(text) };
        rest = Some(after);
        Some(pair)
    })
}

/// [`str::split_once`] at an ASCII character, for a text that is long: it pays to look for it well.
fn split_at(text: &str, at: u8) -> Option<(&str, &str)> {
    let i = memchr(at, text.as_bytes())?;
    Some((&text[..i], &text[i + 1..]))
}

/// What [`HeaderValue::to_str`] says, faster: a header's value holds no control character but the tab.
fn text(value: &HeaderValue) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()).ok().filter(|text| text.is_ascii())
}

#[cfg(test)]
mod tests;
