//! An OpenID Connect provider: discovery and keys. It counts what it is asked, and its keys can be rotated.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::http1::Head;
use crate::jws::Key;

/// Ends when dropped.
pub struct Provider {
    pub address: SocketAddr,
    pub issuer: String,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    issuer: String,
    published: Mutex<BTreeMap<String, Value>>,
    keys: Mutex<BTreeMap<String, Arc<Key>>>,
    discoveries: AtomicUsize,
    delay: Mutex<Duration>,
}

impl Provider {
    pub async fn start() -> Result<Self> {
        Self::start_on(TcpListener::bind("127.0.0.1:0").await?, None)
    }

    /// With the keys `rs256` and `es256`, and `rogue`, which it does not publish.
    pub fn start_on(listener: TcpListener, tls: Option<TlsAcceptor>) -> Result<Self> {
        let address = listener.local_addr()?;
        let issuer = match tls {
            None => format!("http://{address}"),
            Some(_) => format!("https://localhost:{}", address.port()),
        };
        Self::start_as(issuer, listener, tls)
    }

    /// The same for an issuer at another address, whose path it answers below: as Argo CD's Dex does.
    pub fn start_as(issuer: String, listener: TcpListener, tls: Option<TlsAcceptor>) -> Result<Self> {
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            issuer: issuer.clone(),
            published: Mutex::default(),
            keys: Mutex::default(),
            discoveries: AtomicUsize::new(0),
            delay: Mutex::default(),
        });
        let served = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, tls) = (served.clone(), tls.clone());
                tokio::spawn(async move {
                    // Whoever called went away.
                    let _ = match tls {
                        None => serve(stream, &state).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, &state).await,
                            Err(error) => Err(error),
                        },
                    };
                });
            }
        });
        let provider = Self { address, issuer, state, task };
        provider.add_key("rs256", Key::rsa()?);
        provider.add_key("es256", Key::ec()?);
        provider.add_key("rogue", Key::rsa()?);
        provider.retire("rogue");
        Ok(provider)
    }

    /// Publishes a key.
    pub fn add_key(&self, id: &str, key: Key) {
        lock(&self.state.published).insert(id.to_owned(), key.jwk(id));
        lock(&self.state.keys).insert(id.to_owned(), Arc::new(key));
    }

    /// Publishes the key no longer.
    pub fn retire(&self, id: &str) {
        lock(&self.state.published).remove(id);
    }

    pub fn key(&self, id: &str) -> Result<Arc<Key>> {
        lock(&self.state.keys).get(id).cloned().with_context(|| format!("no key {id}"))
    }

    /// How often the discovery document was asked for.
    pub fn discoveries(&self) -> usize {
        self.state.discoveries.load(Ordering::SeqCst)
    }

    /// Makes every answer wait.
    pub fn set_delay(&self, delay: Duration) {
        *lock(&self.state.delay) = delay;
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, state: &State) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(head) = Head::read(&mut stream).await? {
        let delay = *lock(&state.delay);
        tokio::time::sleep(delay).await;
        let issuer = &state.issuer;
        let base = issuer.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap_or_default();
        let path = head.start_line.split(' ').nth(1).unwrap_or_default();
        let document = match path.strip_prefix(base.as_str()).unwrap_or_default() {
            "/.well-known/openid-configuration" => {
                state.discoveries.fetch_add(1, Ordering::SeqCst);
                Some(json!({
                    "issuer": issuer,
                    "authorization_endpoint": format!("{issuer}/auth"),
                    "token_endpoint": format!("{issuer}/token"),
                    "jwks_uri": format!("{issuer}/keys"),
                    "response_types_supported": ["code"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["RS256", "ES256"],
                }))
            }
            "/keys" => Some(json!({"keys": lock(&state.published).values().collect::<Vec<_>>()})),
            _ => None,
        };
        let answer = match document.map(|document| document.to_string()) {
            Some(body) => format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
            None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
        };
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}
