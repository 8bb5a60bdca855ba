//! How connections are accepted: TLS, and whom else's word counts about who called.

use std::path::PathBuf;

use clap::Args;
use dataplane::request::{IpNet, TrustedProxies};

use crate::run::{CertificateFiles, CertificateSource, Setup};

#[derive(Debug, Args)]
pub(super) struct ReceptionOptions {
    /// Secret of the type kubernetes.io/tls in Argo CD's namespace; with it TLS is spoken with callers, HTTP/2 and
    /// HTTP/1.1. A new certificate is taken over at once
    #[arg(long, value_name = "NAME", env = "ARGOCD_EXTENSION_PROXY_TLS_SECRET", conflicts_with_all = ["tls_certificate", "tls_key"])]
    tls_secret: Option<String>,
    /// PEM file of the certificate chain that callers are shown, read again when it changes; instead of --tls-secret
    #[arg(long, value_name = "FILE", env = "ARGOCD_EXTENSION_PROXY_TLS_CERTIFICATE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// PEM file of its key
    #[arg(long, value_name = "FILE", env = "ARGOCD_EXTENSION_PROXY_TLS_KEY", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Networks of proxies in front of this one, comma-separated CIDRs: their X-Forwarded-* headers are kept and
    /// extended, those of others removed
    #[arg(long, value_name = "CIDRS", env = "ARGOCD_EXTENSION_PROXY_TRUSTED_PROXIES", value_delimiter = ',')]
    trusted_proxies: Vec<IpNet>,
    /// Each connection starts with a header of the PROXY protocol, version 1 or 2. With --trusted-proxies it is
    /// accepted from those only
    #[arg(long, env = "ARGOCD_EXTENSION_PROXY_PROXY_PROTOCOL")]
    proxy_protocol: bool,
}

impl ReceptionOptions {
    pub(super) fn secret(&self) -> Option<&str> {
        self.tls_secret.as_deref()
    }

    pub(super) fn apply(&self, setup: &mut Setup) {
        setup.tls = match (&self.tls_secret, &self.tls_certificate, &self.tls_key) {
            (Some(_), ..) => Some(CertificateSource::Secret),
            (None, Some(chain), Some(key)) => {
                Some(CertificateSource::Files(CertificateFiles { chain: chain.clone(), key: key.clone() }))
            }
            _ => None,
        };
        setup.trusted_proxies = TrustedProxies(self.trusted_proxies.clone());
        setup.proxy_protocol = self.proxy_protocol;
    }
}
