//! A backend's address: what of a URL the proxy uses, checked once.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BackendUrl {
    pub scheme: Scheme,
    /// Host name or address to connect to, without the brackets of an IPv6 address.
    pub host: String,
    pub port: u16,
    /// Value of the `Host` header: the host as a URL writes it, with the port unless it is the scheme's own.
    pub authority: String,
    /// Path without a trailing slash; empty for the root.
    pub path: String,
    /// Whether the text also held user information, a query or a fragment, which no request uses.
    pub has_unused_parts: bool,
}

impl BackendUrl {
    /// Reads an absolute `http` or `https` URL. The error says what to write, without repeating the text,
    /// which may have come out of a secret.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const ABSOLUTE: &str = "must be an absolute URL such as http://backend.example.com:8080";
        let (scheme, rest) = text.split_once("://").ok_or(ABSOLUTE)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err("must start with http:// or https://"),
        };
        if rest.starts_with(['/', '?', '#']) || rest.is_empty() {
            return Err("has no host; write http://host:port");
        }
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err("holds a space or a control character");
        }
        if !escapes_are_valid(text) {
            return Err("holds a % that is not followed by two hexadecimal digits");
        }
        // `\` would be read as `/` by browsers' rules and as part of the host by others.
        if text.contains('\\') {
            return Err("holds a backslash");
        }
        let parsed = url::Url::parse(text).map_err(|_| "has an invalid host or port; write http://host:port")?;
        let host = match parsed.host() {
            Some(url::Host::Domain(name)) if is_host_name(name) => name.to_owned(),
            Some(url::Host::Ipv4(ip)) => ip.to_string(),
            Some(url::Host::Ipv6(ip)) => ip.to_string(),
            Some(url::Host::Domain(_)) | None => return Err("has an invalid host name"),
        };
        let port = parsed.port_or_known_default().filter(|p| *p != 0).ok_or("has port 0")?;
        let shown_host = parsed.host_str().unwrap_or_default();
        let authority = match parsed.port() {
            Some(port) => format!("{shown_host}:{port}"),
            None => shown_host.to_owned(),
        };
        Ok(Self {
            scheme,
            host,
            port,
            authority,
            path: parsed.path().trim_end_matches('/').to_owned(),
            has_unused_parts: !parsed.username().is_empty()
                || parsed.password().is_some()
                || parsed.query().is_some()
                || parsed.fragment().is_some(),
        })
    }
}

impl fmt::Display for BackendUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.authority, self.path)
    }
}

pub(crate) fn is_host_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Everywhere but in the query, whose escapes nobody decodes.
pub(crate) fn escapes_are_valid(text: &str) -> bool {
    let (before_query, fragment) = match text.split_once('#') {
        Some((head, fragment)) => (head.split('?').next().unwrap_or_default(), fragment),
        None => (text.split('?').next().unwrap_or_default(), ""),
    };
    [before_query, fragment].iter().all(|part| {
        part.split('%').skip(1).all(|after| after.len() >= 2 && after.bytes().take(2).all(|b| b.is_ascii_hexdigit()))
    })
}
