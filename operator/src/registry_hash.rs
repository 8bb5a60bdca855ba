//! Tells one set of served extensions from another, across processes.

use std::fmt::Write as _;

use dataplane::Snapshot;
use dataplane::extension::{Service, ServiceSettings};
use dataplane::tls::BackendTls;

/// Characters of the hash that are shown.
const LENGTH: usize = 16;

/// Covers everything of the extensions, their headers' secret values included: keyed, so that it tells nothing of
/// them. Without Argo CD's key nothing can be called, and there is none.
pub(crate) fn registry_hash(snapshot: &Snapshot) -> String {
    let mut extensions: Vec<_> = snapshot.extensions.values().collect();
    extensions.sort_by(|a, b| a.settings.name.cmp(&b.settings.name));
    let mut text = String::new();
    for extension in extensions {
        // Writing to a String cannot fail.
        let _ = write!(text, "{:?}[", extension.settings);
        extension.services.iter().for_each(|service| describe(service, &mut text));
        text.push(']');
    }
    let key = snapshot.accounts.signing_key.as_ref();
    let hash = key.and_then(|key| key.fingerprint(text.as_bytes())).unwrap_or_default();
    hash.chars().take(LENGTH).collect()
}

fn describe(service: &Service, text: &mut String) {
    let ServiceSettings { address, cluster, headers, connection, tls, health_check } = &service.settings;
    let _ = write!(text, "{address:?}{cluster:?}{connection:?}{health_check:?}");
    if let Some(material) = tls.as_ref().map(BackendTls::material) {
        let _ = write!(text, "{:?}{:?}", material.ca, material.client);
    }
    for (name, value) in headers {
        let _ = write!(text, "{name}={:?};", value.as_bytes());
    }
}
