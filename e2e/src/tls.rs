//! A certificate authority, and both sides of TLS with its certificates.

use std::sync::Arc;

use anyhow::Result;
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// How a server speaks TLS.
#[derive(Default)]
pub struct Server<'a> {
    /// `localhost` where there is none.
    pub names: &'a [&'a str],
    /// Whose certificates clients must have.
    pub clients: Option<&'a Authority>,
    pub protocols: &'a [&'a str],
}

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

    fn roots(&self) -> Result<Arc<RootCertStore>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem().as_bytes())?)?;
        Ok(Arc::new(roots))
    }

    /// The server's side, with a certificate for `localhost`.
    pub fn acceptor(&self) -> Result<TlsAcceptor> {
        self.acceptor_with(&Server::default())
    }

    pub fn acceptor_with(&self, server: &Server<'_>) -> Result<TlsAcceptor> {
        let names = if server.names.is_empty() { &["localhost"] } else { server.names };
        let (certificate, key) = self.certificate(names)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder = match server.clients {
            Some(authority) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(authority.roots()?, provider).build()?,
            ),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(vec![certificate.der().clone()], key)?;
        config.alpn_protocols = server.protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// The client's side: trusts this authority. The certificate that the server showed comes as well.
    pub async fn connect(
        &self,
        to: std::net::SocketAddr,
        protocols: &[&str],
    ) -> Result<(TlsStream<TcpStream>, CertificateDer<'static>)> {
        self.connect_over(TcpStream::connect(to).await?, protocols).await
    }

    pub async fn connect_over(
        &self,
        stream: TcpStream,
        protocols: &[&str],
    ) -> Result<(TlsStream<TcpStream>, CertificateDer<'static>)> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots()?)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(ServerName::try_from("localhost")?, stream).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).cloned();
        let shown = shown.ok_or_else(|| anyhow::anyhow!("no certificate was shown"))?;
        Ok((stream, shown.into_owned()))
    }

    /// A certificate for `localhost` and its key, PEM.
    pub fn pair(&self) -> Result<(String, String)> {
        let (certificate, key) = self.certificate(&["localhost"])?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    fn certificate(&self, names: &[&str]) -> Result<(Certificate, KeyPair)> {
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let common_name = names.first().cloned().unwrap_or_default();
        let mut parameters = CertificateParams::new(names)?;
        parameters.distinguished_name.push(DnType::CommonName, common_name);
        let certificate = parameters.signed_by(&key, &self.0)?;
        Ok((certificate, key))
    }
}
