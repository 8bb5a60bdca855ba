//! Headers that the proxy says itself.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::Refusal;

/// Those that have a value, in this order. What each says is named where it cannot be said.
///
/// The values lie in one piece of memory, which is counted once for all of them.
pub(super) fn headers(said: &[(HeaderName, &str, &'static str)]) -> Result<Vec<(HeaderName, HeaderValue)>, Refusal> {
    let mut text = String::with_capacity(said.iter().map(|(_, value, _)| value.len()).sum());
    said.iter().for_each(|(_, value, _)| text.push_str(value));
    let mut rest = Bytes::from(text);
    let mut headers = Vec::with_capacity(said.len());
    for (name, value, what) in said {
        let bytes = rest.split_to(value.len());
        if !value.is_empty() {
            let value = HeaderValue::from_maybe_shared(bytes).map_err(|_| Refusal::NotAHeaderValue(what))?;
            headers.push((name.clone(), value));
        }
    }
    Ok(headers)
}
