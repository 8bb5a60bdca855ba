//! Tells one set of served extensions from another, across processes.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use dataplane::account::Accounts;
use dataplane::extension::{Extension, Service, ServiceSettings};
use dataplane::tls::BackendTls;

/// Characters of the hash that are shown.
const LENGTH: usize = 16;
const BYTES: usize = 32;

/// Of extensions, in whatever order. It covers everything of them, their headers' secret values included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Digest([u8; BYTES]);

impl Digest {
    pub(crate) fn of(extension: &Extension) -> Self {
        // Writing to a String cannot fail.
        let mut text = format!("{:?}", extension.settings);
        extension.services.iter().for_each(|service| describe(service, &mut text));
        let mut bytes = [0; BYTES];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
        Self(bytes)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(own, other)| *own ^= other);
    }

    /// Keyed, so that it tells nothing of them. Without Argo CD's key nothing can be called, and there is none.
    pub(crate) fn registry_hash(&self, accounts: &Accounts) -> String {
        let hash = accounts.signing_key.as_ref().and_then(|key| key.fingerprint(&self.0)).unwrap_or_default();
        hash.chars().take(LENGTH).collect()
    }
}

fn describe(service: &Service, text: &mut String) {
    let ServiceSettings { address, cluster, headers, connection, tls, health_check } = &service.settings;
    let _ = write!(text, "[{address:?}{cluster:?}{connection:?}{health_check:?}");
    if let Some(material) = tls.as_ref().map(BackendTls::material) {
        let _ = write!(text, "{:?}{:?}", material.ca, material.client);
    }
    for (name, value) in headers {
        let _ = write!(text, "{name}={:?};", value.as_bytes());
    }
    text.push(']');
}
