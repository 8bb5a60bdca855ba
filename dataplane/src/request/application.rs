//! The headers in which a caller names the application that it speaks of.

use http::HeaderMap;

use crate::Refusal;
use crate::refusal::HeaderError;

pub(super) const APPLICATION: &str = "Argocd-Application-Name";
pub(super) const PROJECT: &str = "Argocd-Project-Name";

/// An application as the caller names it: well-formed, not known to exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ApplicationRef<'a> {
    /// `<namespace>:<name>`.
    pub(super) application: &'a str,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) project: &'a str,
}

/// The same, to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OwnedApplicationRef {
    pub(super) application: String,
    pub(super) project: String,
}

impl<'a> ApplicationRef<'a> {
    pub(super) fn read(headers: &'a HeaderMap) -> Result<Self, Refusal> {
        Self::parse(headers).map_err(Refusal::Headers)
    }

    /// Whether one of the headers is there.
    pub(super) fn is_named(headers: &HeaderMap) -> bool {
        headers.contains_key(APPLICATION) || headers.contains_key(PROJECT)
    }

    fn parse(headers: &'a HeaderMap) -> Result<Self, HeaderError> {
        let application = single(headers, APPLICATION)?;
        let (namespace, name) = split(application)?;
        // Argo CD names a missing project only after it has read the application.
        let project = single(headers, PROJECT)?;
        if !is_dns_label(namespace) {
            return Err(HeaderError::Namespace);
        }
        if !is_dns_subdomain(name) {
            return Err(HeaderError::ApplicationName);
        }
        if !is_dns_subdomain(project) {
            return Err(HeaderError::ProjectName);
        }
        Ok(Self { application, namespace, name, project })
    }

    pub(super) fn to_owned(self) -> OwnedApplicationRef {
        OwnedApplicationRef { application: self.application.to_owned(), project: self.project.to_owned() }
    }
}

impl OwnedApplicationRef {
    pub(super) fn borrow(&self) -> ApplicationRef<'_> {
        let (namespace, name) = self.application.split_once(':').unwrap_or_default();
        ApplicationRef { application: &self.application, namespace, name, project: &self.project }
    }
}

fn split(application: &str) -> Result<(&str, &str), HeaderError> {
    let (namespace, name) = application.split_once(':').ok_or(HeaderError::Format)?;
    if name.contains(':') { Err(HeaderError::Format) } else { Ok((namespace, name)) }
}

fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, HeaderError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(HeaderError::Missing(name))?;
    if values.next().is_some() {
        return Err(HeaderError::Repeated(name));
    }
    match value.to_str() {
        Ok("") => Err(HeaderError::Missing(name)),
        Ok(value) => Ok(value),
        // No name of an object holds such a character.
        Err(_) if name == PROJECT => Err(HeaderError::ProjectName),
        Err(_) => Err(HeaderError::ApplicationName),
    }
}

/// RFC 1123 label: what a namespace can be called.
fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && is_label(text)
}

/// RFC 1123 subdomain: what an object can be called.
fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    bytes.iter().all(inner) && bytes.first().is_some_and(|b| *b != b'-') && bytes.last().is_some_and(|b| *b != b'-')
}
