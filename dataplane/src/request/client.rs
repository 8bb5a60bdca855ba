//! Who is at the other end, and what a known proxy before this one says about it.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::{HOST, HeaderName, HeaderValue};
use http::request::Parts;
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Networks of proxies whose word counts (`--trusted-proxies`).
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(pub Vec<IpNet>);

impl TrustedProxies {
    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    shown: HeaderValue,
    is_trusted: bool,
    is_tls: bool,
}

impl Peer {
    pub(crate) fn new(address: IpAddr, trusted: &TrustedProxies, is_tls: bool) -> Self {
        Self { shown: shown(address.to_canonical()), is_trusted: trusted.contain(address), is_tls }
    }

    /// Who called: the peer, or whom a chain of known proxies names.
    pub(super) fn client(&self, headers: &HeaderMap, trusted: &TrustedProxies) -> HeaderValue {
        if !self.is_trusted {
            return self.shown.clone();
        }
        let mut client = self.shown.clone();
        let values: Vec<&HeaderValue> = headers.get_all(X_FORWARDED_FOR).iter().collect();
        let hops = values.iter().rev().filter_map(|value| value.to_str().ok()).flat_map(|value| value.rsplit(','));
        for hop in hops {
            // What is no address ends the chain: nobody knows who wrote what stands before it.
            let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
            client = shown(address.to_canonical());
            if !trusted.contain(address) {
                break;
            }
        }
        client
    }
}

/// What the backend is told about where the request comes from.
pub(super) struct Forwarded {
    chain: HeaderValue,
    host: Option<HeaderValue>,
    proto: HeaderValue,
    /// What a known proxy says besides, `X-Forwarded-Port` for one.
    others: Vec<(HeaderName, HeaderValue)>,
}

impl Forwarded {
    /// Of a request as it came.
    pub(super) fn read(peer: &Peer, headers: &HeaderMap, host: Option<HeaderValue>) -> Self {
        let proto = HeaderValue::from_static(if peer.is_tls { "https" } else { "http" });
        let own = Self { chain: peer.shown.clone(), host, proto, others: Vec::new() };
        if peer.is_trusted { own.extended(headers) } else { own }
    }

    fn extended(self, headers: &HeaderMap) -> Self {
        let mut chain: Vec<u8> = Vec::new();
        for value in headers.get_all(X_FORWARDED_FOR).iter().chain(std::iter::once(&self.chain)) {
            if !chain.is_empty() {
                chain.extend_from_slice(b", ");
            }
            chain.extend_from_slice(value.as_bytes());
        }
        let is_other = |name: &&HeaderName| {
            name.as_str().starts_with("x-forwarded-")
                && ![X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO].contains(name)
        };
        let others =
            headers.keys().filter(is_other).filter_map(|name| Some((name.clone(), headers.get(name)?.clone())));
        Self {
            chain: HeaderValue::from_bytes(&chain).unwrap_or(self.chain),
            host: headers.get(X_FORWARDED_HOST).cloned().or(self.host),
            proto: headers.get(X_FORWARDED_PROTO).cloned().unwrap_or(self.proto),
            others: others.collect(),
        }
    }

    pub(super) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(X_FORWARDED_FOR, self.chain.clone());
        if let Some(host) = &self.host {
            headers.insert(X_FORWARDED_HOST, host.clone());
        }
        headers.insert(X_FORWARDED_PROTO, self.proto.clone());
        for (name, value) in &self.others {
            headers.insert(name.clone(), value.clone());
        }
    }
}

/// The host that a request is for, in whichever way its protocol says it.
pub(super) fn host(head: &Parts) -> Option<HeaderValue> {
    match head.headers.get(HOST) {
        Some(host) => Some(host.clone()),
        None => head.uri.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok()),
    }
}

fn shown(address: IpAddr) -> HeaderValue {
    // An address is always a valid header value; an empty one would only hide it.
    HeaderValue::from_str(&address.to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests;
