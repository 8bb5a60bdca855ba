//! The certificate that callers are shown, out of two files that are read again when they change.
//!
//! They are looked at from time to time rather than watched: a mounted Secret is exchanged as a whole behind links, and
//! one file may be there before the other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use dataplane::tls::{CertifiedKey, ServingCertificate};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub(crate) struct CertificateFiles {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

/// What the files hold.
type Texts = (Vec<u8>, Vec<u8>);

impl CertificateFiles {
    /// Reads them now, and again while the task lives. Fails where they cannot be used now.
    pub(super) fn follow(self) -> Result<(Arc<ServingCertificate>, AbortOnDropHandle<()>)> {
        let certificate = Arc::new(ServingCertificate::default());
        let texts = self.read().with_context(|| self.describe())?;
        certificate.set(Some(parse(&texts).map_err(anyhow::Error::msg).with_context(|| self.describe())?));
        let task = tokio::spawn(self.read_again(certificate.clone(), texts));
        Ok((certificate, AbortOnDropHandle::new(task)))
    }

    async fn read_again(self, certificate: Arc<ServingCertificate>, mut seen: Texts) {
        let mut is_missing = false;
        loop {
            sleep(LOOK_AGAIN).await;
            let texts = match self.read() {
                Ok(texts) => texts,
                Err(error) => {
                    if !std::mem::replace(&mut is_missing, true) {
                        warn!(%error, "the last certificate stays in effect");
                    }
                    continue;
                }
            };
            is_missing = false;
            if texts == seen {
                continue;
            }
            match parse(&texts) {
                Ok(key) => {
                    certificate.set(Some(key));
                    info!("{}: a new certificate is in effect", self.describe());
                }
                Err(error) => warn!(error, "{}: the last certificate stays in effect", self.describe()),
            }
            seen = texts;
        }
    }

    fn describe(&self) -> String {
        format!("--tls-certificate {} --tls-key {}", self.chain.display(), self.key.display())
    }

    fn read(&self) -> Result<Texts> {
        let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
        Ok((read(&self.chain)?, read(&self.key)?))
    }
}

fn parse((chain, key): &Texts) -> Result<Arc<CertifiedKey>, String> {
    ServingCertificate::read(chain, key)
}
