//! The headers in which a caller names the application that it speaks of.

use http::{HeaderMap, HeaderName};
use memchr::memchr_iter;

use crate::Refusal;
use crate::refusal::HeaderError;

pub(super) const APPLICATION: HeaderName = HeaderName::from_static("argocd-application-name");
pub(super) const PROJECT: HeaderName = HeaderName::from_static("argocd-project-name");
/// As people write them.
pub(super) const APPLICATION_SHOWN: &str = "Argocd-Application-Name";
const PROJECT_SHOWN: &str = "Argocd-Project-Name";

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
pub(crate) struct OwnedApplicationRef {
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
        let application = single(headers, &APPLICATION, APPLICATION_SHOWN, HeaderError::ApplicationName)?;
        let (namespace, name) = split(application)?;
        // Argo CD names a missing project only after it has read the application.
        let project = single(headers, &PROJECT, PROJECT_SHOWN, HeaderError::ProjectName)?;
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
    pub(super) fn is(&self, other: ApplicationRef<'_>) -> bool {
        self.application == other.application && self.project == other.project
    }

    pub(super) fn borrow(&self) -> ApplicationRef<'_> {
        let (namespace, name) = self.application.split_once(':').unwrap_or_default();
        ApplicationRef { application: &self.application, namespace, name, project: &self.project }
    }
}

fn split(application: &str) -> Result<(&str, &str), HeaderError> {
    let mut colons = memchr_iter(b':', application.as_bytes());
    match (colons.next(), colons.next()) {
        (Some(colon), None) => Ok((&application[..colon], &application[colon + 1..])),
        _ => Err(HeaderError::Format),
    }
}

fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    shown: &'static str,
    no_name: HeaderError,
) -> Result<&'a str, HeaderError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(HeaderError::Missing(shown))?;
    if values.next().is_some() {
        return Err(HeaderError::Repeated(shown));
    }
    match value.to_str() {
        Ok("") => Err(HeaderError::Missing(shown)),
        Ok(value) => Ok(value),
        // No name of an object holds such a character.
        Err(_) => Err(no_name),
    }
}

/// RFC 1123 label: what a namespace can be called.
fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && !text.contains('.') && are_labels(text)
}

/// RFC 1123 subdomain: what an object can be called.
fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && are_labels(text)
}

/// Labels with a dot between them: none is empty or has a hyphen at one of its ends.
fn are_labels(text: &str) -> bool {
    let mut before = b'.';
    for b in text.bytes() {
        let fits = match b {
            b'a'..=b'z' | b'0'..=b'9' => true,
            b'-' => before != b'.',
            b'.' => !matches!(before, b'.' | b'-'),
            _ => false,
        };
        if !fits {
            return false;
        }
        before = b;
    }
    !matches!(before, b'.' | b'-')
}

#[cfg(test)]
mod tests;
