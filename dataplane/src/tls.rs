//! TLS towards backends, and towards callers.

use std::fmt;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
pub use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

/// What is trusted of a backend, and who the proxy is to it. Two are equal when they were made of the same texts.
#[derive(Clone)]
pub struct BackendTls(Arc<Connectors>);

/// The texts that one is made of, PEM.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct TlsMaterial {
    /// `None`: what the system trusts.
    pub ca: Option<Vec<u8>>,
    /// Certificate chain and key.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

/// A text that cannot be used. Never holds any of it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TlsError {
    #[error("{0}")]
    Ca(String),
    #[error("{0}")]
    Certificate(String),
}

struct Connectors {
    material: TlsMaterial,
    /// Offers HTTP/2 and HTTP/1.1.
    any: TlsConnector,
    /// For what only HTTP/1.1 can: WebSockets.
    http1: TlsConnector,
}

impl BackendTls {
    pub fn new(material: TlsMaterial) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        match &material.ca {
            Some(pem) => {
                for certificate in certificates(pem).map_err(TlsError::Ca)? {
                    roots
                        .add(certificate)
                        .map_err(|error| TlsError::Ca(format!("holds no usable certificate: {error}")))?;
                }
            }
            None => {
                let native = rustls_native_certs::load_native_certs();
                let (usable, _) = roots.add_parsable_certificates(native.certs);
                if usable == 0 {
                    let message = "no trusted certificates were found on this system; set SSL_CERT_FILE, or a caRef";
                    return Err(TlsError::Ca(message.into()));
                }
            }
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| TlsError::Ca(error.to_string()))?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Ca(error.to_string()))?
            .with_webpki_verifier(verifier);
        let config = match &material.client {
            Some((chain, key)) => {
                let (chain, key) = pair(chain, key).map_err(TlsError::Certificate)?;
                let unusable = |error: rustls::Error| TlsError::Certificate(format!("cannot be used: {error}"));
                builder.with_client_auth_cert(chain, key).map_err(unusable)?
            }
            None => builder.with_no_client_auth(),
        };
        let offering = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            TlsConnector::from(Arc::new(config))
        };
        let (any, http1) = (offering(&[HTTP_2, HTTP_1]), offering(&[HTTP_1]));
        Ok(Self(Arc::new(Connectors { material, any, http1 })))
    }

    /// Read when the first connection needs it.
    pub(crate) fn of_the_system() -> Result<&'static Self, String> {
        static SYSTEM: OnceLock<Result<BackendTls, TlsError>> = OnceLock::new();
        SYSTEM.get_or_init(|| Self::new(TlsMaterial::default())).as_ref().map_err(ToString::to_string)
    }

    pub fn material(&self) -> &TlsMaterial {
        &self.0.material
    }

    /// The stream, and whether HTTP/2 is spoken over it.
    pub(crate) async fn connect(
        &self,
        server_name: &str,
        stream: TcpStream,
        only_http1: bool,
    ) -> Result<(TlsStream<TcpStream>, bool), String> {
        let name = ServerName::try_from(server_name.to_owned())
            .map_err(|_| format!("{server_name:?} is no valid TLS server name"))?;
        let connector = if only_http1 { &self.0.http1 } else { &self.0.any };
        let stream = connector.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP_2);
        Ok((stream, is_http2))
    }
}

impl PartialEq for BackendTls {
    fn eq(&self, other: &Self) -> bool {
        self.0.material == other.0.material
    }
}

/// Keys never print.
impl fmt::Debug for BackendTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendTls").finish_non_exhaustive()
    }
}

/// The certificate that callers are shown, changed while connections go on.
#[derive(Debug, Default)]
pub struct ServingCertificate(ArcSwapOption<CertifiedKey>);

impl ServingCertificate {
    /// Reads a certificate chain and its key. The error says what is wrong with them.
    pub fn read(chain: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, String> {
        let (chain, key) = pair(chain, key)?;
        CertifiedKey::from_der(chain, key, &provider())
            .map(Arc::new)
            .map_err(|error| format!("the certificate and the key cannot be used together: {error}"))
    }

    pub fn set(&self, certificate: Option<Arc<CertifiedKey>>) {
        self.0.store(certificate);
    }

    pub fn is_set(&self) -> bool {
        self.0.load().is_some()
    }

    pub(crate) fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())).clone()
}

fn pair(chain: &[u8], key: &[u8]) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain = certificates(chain)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "the key is no PEM private key".to_owned())?;
    Ok((chain, key))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err("holds no PEM certificate".into()),
    }
}
