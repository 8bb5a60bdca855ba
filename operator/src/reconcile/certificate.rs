//! The certificate that callers are shown, out of a Secret.

use std::sync::Arc;

use crds::{Problem, Reason};
use dataplane::tls::{CertifiedKey, ServingCertificate};

use super::{ReconcileOptions, secret};
use crate::inputs::Inputs;
use crate::verdict::{Place, Verdict};

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// A usable one, and the texts that it was made of.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    source: Source,
    key: Arc<CertifiedKey>,
}

/// Keys never print.
#[derive(Clone, PartialEq)]
struct Source {
    chain: Vec<u8>,
    key: Vec<u8>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl Certificate {
    pub(super) fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }
}

/// One that cannot be used leaves the last one that could.
pub(super) fn read(
    inputs: &Inputs,
    options: &ReconcileOptions,
    before: Option<&Certificate>,
    verdicts: &mut Vec<Verdict>,
) -> Option<Certificate> {
    let name = options.certificate_secret.as_ref()?;
    match try_read(inputs, &options.namespace, name, before) {
        Ok(certificate) => Some(certificate),
        Err((field, message)) => {
            let effect = match before {
                Some(_) => "the last usable certificate stays in effect",
                None => "no TLS connection is accepted until it is corrected",
            };
            let problem = Problem::error(field, format!("{message}; {effect}")).because(Reason::InvalidCertificateRef);
            verdicts.push(Verdict::on(Place::new(secret(&options.namespace, name), ""), vec![problem]));
            before.cloned()
        }
    }
}

fn try_read(
    inputs: &Inputs,
    namespace: &str,
    name: &str,
    before: Option<&Certificate>,
) -> Result<Certificate, (&'static str, String)> {
    let missing =
        || ("", "does not exist (--tls-secret); create it as a Secret of the type kubernetes.io/tls".to_owned());
    let secret = inputs.secret(namespace, name).ok_or_else(missing)?;
    let part = |key: &'static str| {
        secret.data.get(key).cloned().ok_or_else(|| (key, "is missing from the Secret; add it".to_owned()))
    };
    let source = Source { chain: part(CERTIFICATE)?, key: part(KEY)? };
    if let Some(before) = before.filter(|before| before.source == source) {
        return Ok(before.clone());
    }
    let key = ServingCertificate::read(&source.chain, &source.key).map_err(|message| (CERTIFICATE, message))?;
    Ok(Certificate { source, key })
}
