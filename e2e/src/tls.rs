//! A certificate authority for servers on `localhost`.

use std::sync::Arc;

use anyhow::Result;
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Result<Self> {
        let mut parameters = CertificateParams::new(Vec::new())?;
        parameters.distinguished_name.push(DnType::CommonName, "the tests' authority");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?))
    }

    /// The authority's certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// The server's side, with a certificate for `localhost`.
    pub fn acceptor(&self) -> Result<TlsAcceptor> {
        let (certificate, key) = self.certificate()?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// A certificate for `localhost` and its key, PEM.
    pub fn pair(&self) -> Result<(String, String)> {
        let (certificate, key) = self.certificate()?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    fn certificate(&self) -> Result<(Certificate, KeyPair)> {
        let key = KeyPair::generate()?;
        let mut parameters = CertificateParams::new(vec!["localhost".to_owned()])?;
        parameters.distinguished_name.push(DnType::CommonName, "localhost");
        let certificate = parameters.signed_by(&key, &self.0)?;
        Ok((certificate, key))
    }
}
