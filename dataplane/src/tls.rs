//! TLS towards backends.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Trusts what the system trusts. The certificates are read when the first connection needs them.
#[derive(Default)]
pub(crate) struct ClientTls(OnceLock<Result<TlsConnector, String>>);

impl ClientTls {
    pub(crate) async fn connect(&self, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
        let connector = self.0.get_or_init(connector).as_ref().map_err(Clone::clone)?;
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| format!("{host:?} is no valid TLS server name"))?;
        connector.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))
    }
}

fn connector() -> Result<TlsConnector, String> {
    let native = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(native.certs);
    if usable == 0 {
        return Err("no trusted certificates were found on this system; set SSL_CERT_FILE".into());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
