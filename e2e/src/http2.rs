//! A backend that speaks nothing but HTTP/2, and a client that does.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Answers with what it saw. Ends when dropped.
pub struct Http2Backend {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Http2Backend {
    /// Over TLS where an acceptor is given, in plain text where not.
    pub async fn start(tls: Option<TlsAcceptor>) -> Result<Self> {
        Self::start_on(TcpListener::bind("127.0.0.1:0").await?, tls)
    }

    pub fn start_on(listener: TcpListener, tls: Option<TlsAcceptor>) -> Result<Self> {
        let address = listener.local_addr()?;
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let tls = tls.clone();
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream).await;
                            }
                        }
                    }
                });
            }
        });
        Ok(Self { address, connections, task })
    }

    /// Connections that were accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Http2Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    // Whoever called went away.
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service_fn(echo))
        .await;
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let headers: Vec<(&str, String)> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    let seen = json!({
        "version": format!("{:?}", head.version),
        "method": head.method.as_str(),
        "scheme": head.uri.scheme_str(),
        "authority": head.uri.authority().map(ToString::to_string),
        "target": head.uri.path_and_query().map(ToString::to_string),
        "headers": headers,
        "bodyBytes": body.len(),
    });
    Ok(Response::new(Full::from(seen.to_string())))
}

/// A client's side of a connection.
pub async fn client(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<SendRequest<Full<Bytes>>> {
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// A signed-in caller's request; each part of the cookie in a header of its own, as browsers send it.
pub fn signed_in(target: &str, token: &str) -> Result<Request<Full<Bytes>>> {
    let mut headers = HeaderMap::new();
    headers.append("cookie", "theme=dark".parse()?);
    headers.append("cookie", format!("argocd.token={token}").parse()?);
    headers.insert("argocd-application-name", "argocd:guestbook".parse()?);
    headers.insert("argocd-project-name", "default".parse()?);
    let mut request = Request::get(format!("https://argocd.example.com{target}")).body(Full::default())?;
    *request.headers_mut() = headers;
    Ok(request)
}
