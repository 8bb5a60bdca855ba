//! A backend that answers any path with what it saw, as JSON. Some paths do more:
//!
//! `/status/N`, `/redirect`, `/cookie`, `/hop`, `/sse?n=&gap=`, `/gzip`, `/slow?s=`, `/truncate`, `/reset`,
//! `/big?n=BYTES`, `/empty`, `/trailers`, `/duplex` (sends every chunk back as it comes), `/close` (answers, then
//! closes the connection that it seemed to keep), `/ws` (a WebSocket that echoes), `/healthz` (what it was told to).
//! All but `/duplex` and `/healthz` do it under `/base` as well.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::http1::{Head, Headers, Message, latin1, read_chunk, read_chunked, read_exactly};

/// Ends when dropped.
pub struct Backend {
    pub address: SocketAddr,
    counters: Arc<Counters>,
    tls: Arc<Mutex<Option<TlsAcceptor>>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Counters {
    connections: AtomicUsize,
    requests: AtomicUsize,
    checks: AtomicUsize,
    is_ill: AtomicBool,
}

impl Backend {
    pub async fn start(name: &'static str) -> Result<Self> {
        Self::start_on(TcpListener::bind("127.0.0.1:0").await?, name, None)
    }

    pub async fn start_tls(name: &'static str, tls: TlsAcceptor) -> Result<Self> {
        Self::start_on(TcpListener::bind("127.0.0.1:0").await?, name, Some(tls))
    }

    pub fn start_on(listener: TcpListener, name: &'static str, tls: Option<TlsAcceptor>) -> Result<Self> {
        let address = listener.local_addr()?;
        let counters = Arc::new(Counters::default());
        let counted = counters.clone();
        let tls = Arc::new(Mutex::new(tls));
        let current_tls = tls.clone();
        let task = tokio::spawn(async move {
            // They end with this task.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                counted.connections.fetch_add(1, Ordering::SeqCst);
                let _ = stream.set_nodelay(true);
                let counters = counted.clone();
                let tls = current_tls.lock().unwrap_or_else(PoisonError::into_inner).clone();
                connections.spawn(async move {
                    // Whoever called went away, or was meant to be disappointed.
                    let _: io::Result<()> = match tls {
                        None => {
                            let reset = |stream: &BufReader<tokio::net::TcpStream>| {
                                SockRef::from(stream.get_ref()).set_linger(Some(Duration::ZERO))
                            };
                            serve(BufReader::new(stream), name, &counters, reset).await
                        }
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(BufReader::new(stream), name, &counters, |_| Ok(())).await,
                            Err(error) => Err(error),
                        },
                    };
                });
            }
        });
        Ok(Self { address, counters, tls, task })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections from now on are spoken with otherwise.
    pub fn set_tls(&self, tls: TlsAcceptor) {
        *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = Some(tls);
    }

    /// What it answers to whoever asks for its health.
    pub fn set_ill(&self, is_ill: bool) {
        self.counters.is_ill.store(is_ill, Ordering::SeqCst);
    }

    /// How often it was asked for its health, which counts as no request.
    pub fn checks(&self) -> usize {
        self.counters.checks.load(Ordering::SeqCst)
    }

    /// Connections that were accepted so far.
    pub fn connections(&self) -> usize {
        self.counters.connections.load(Ordering::SeqCst)
    }

    /// Requests that came so far.
    pub fn requests(&self) -> usize {
        self.counters.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A request as the backend saw it.
struct Seen {
    name: &'static str,
    method: String,
    target: String,
    headers: Headers,
    message: Message,
}

impl Seen {
    fn path(&self) -> &str {
        let path = self.target.split('?').next().unwrap_or_default();
        path.strip_prefix("/base").unwrap_or(path)
    }

    fn query<T: std::str::FromStr>(&self, key: &str, default: T) -> T {
        let query = self.target.split_once('?').map(|(_, query)| query).unwrap_or_default();
        let value = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(k, _)| *k == key);
        value.and_then(|(_, value)| value.parse().ok()).unwrap_or(default)
    }

    fn json(&self) -> Vec<u8> {
        let body = &self.message.body;
        let body = if body.len() < 4096 {
            latin1(body)
        } else {
            let sum: String =
                digest::digest(&digest::SHA256, body).as_ref().iter().map(|b| format!("{b:02x}")).collect();
            format!("sha256:{sum}:{}", body.len())
        };
        let seen = json!({
            "backend": self.name,
            "method": self.method,
            "target": self.target,
            "headers": self.headers,
            "body": body,
            "trailers": self.message.trailers,
        });
        seen.to_string().into_bytes()
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: BufReader<S>,
    name: &'static str,
    counters: &Counters,
    reset: impl Fn(&BufReader<S>) -> io::Result<()>,
) -> io::Result<()> {
    while let Some(head) = Head::read(&mut stream).await? {
        if head.start_line.starts_with("GET /healthz ") {
            counters.checks.fetch_add(1, Ordering::SeqCst);
            let status = if counters.is_ill.load(Ordering::SeqCst) { 500 } else { 200 };
            stream.write_all(format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n").as_bytes()).await?;
            continue;
        }
        counters.requests.fetch_add(1, Ordering::SeqCst);
        if head.header("Upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
            return websocket(stream, &head).await;
        }
        if head.header("Expect").is_some() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        if head.start_line.contains(" /duplex ") {
            duplex(&mut stream).await?;
            continue;
        }
        let seen = read(&mut stream, head, name).await?;
        match seen.path() {
            "/close" => return answer(&mut stream, &seen).await,
            "/reset" => return reset(&stream),
            "/truncate" => {
                return stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\npartial").await;
            }
            "/sse" => events(&mut stream, &seen).await?,
            "/trailers" => {
                let head = "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n";
                let body = seen.json();
                let mut answer = format!("{head}{:x}\r\n", body.len()).into_bytes();
                answer.extend_from_slice(&body);
                answer.extend_from_slice(b"\r\n0\r\nX-Sum: 42\r\n\r\n");
                stream.write_all(&answer).await?;
            }
            _ => answer(&mut stream, &seen).await?,
        }
    }
    Ok(())
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    head: Head,
    name: &'static str,
) -> io::Result<Seen> {
    let mut message = Message::default();
    if head.is_chunked() {
        read_chunked(stream, &mut message).await?;
    } else {
        read_exactly(stream, head.content_length().unwrap_or_default(), &mut message).await?;
    }
    let mut line = head.start_line.split(' ');
    let mut next = || line.next().unwrap_or_default().to_owned();
    Ok(Seen { name, method: next(), target: next(), headers: head.headers, message })
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>, seen: &Seen) -> io::Result<()> {
    let mut status = 200;
    let mut headers = vec![("Content-Type", "application/json")];
    let mut body = seen.json();
    match seen.path() {
        "/redirect" => {
            status = 302;
            headers.push(("Location", "/elsewhere"));
        }
        "/cookie" => headers.extend([("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2")]),
        "/hop" => {
            headers.extend([("Connection", "X-Gone"), ("X-Gone", "1"), ("Keep-Alive", "timeout=5"), ("X-Stays", "1")]);
        }
        "/gzip" => {
            body = gzip(&body);
            headers.push(("Content-Encoding", "gzip"));
        }
        "/slow" => tokio::time::sleep(Duration::from_secs_f64(seen.query("s", 1.0))).await,
        "/empty" => status = 204,
        "/big" => {
            body = vec![b'x'; seen.query("n", 0)];
            headers = vec![("Content-Type", "application/octet-stream")];
        }
        path => {
            if let Some(wanted) = path.strip_prefix("/status/") {
                status = wanted.parse().unwrap_or(200);
            }
        }
    }
    let mut head = format!("HTTP/1.1 {status} {status}\r\nServer: echo/1\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let has_body = !matches!(status, 204 | 304);
    if has_body {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    let mut bytes = format!("{head}\r\n").into_bytes();
    if has_body && seen.method != "HEAD" {
        bytes.extend_from_slice(&body);
    }
    stream.write_all(&bytes).await
}

async fn duplex<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
    while let Some(chunk) = read_chunk(stream).await? {
        stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
        stream.write_all(&chunk).await?;
        stream.write_all(b"\r\n").await?;
    }
    stream.write_all(b"0\r\n\r\n").await
}

async fn events<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>, seen: &Seen) -> io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let gap = Duration::from_secs_f64(seen.query("gap", 0.3));
    for i in 0..seen.query("n", 3) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let event = format!("data: {i} {now}\n\n");
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
        tokio::time::sleep(gap).await;
    }
    stream.write_all(b"0\r\n\r\n").await
}

/// Sends the handshake's headers as its first message, then echoes.
async fn websocket<S: AsyncRead + AsyncWrite + Unpin>(mut stream: BufReader<S>, head: &Head) -> io::Result<()> {
    let key = head.header("Sec-WebSocket-Key").unwrap_or_default();
    let accepted = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accepted = STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, accepted.as_bytes()));
    let protocol = head.header("Sec-WebSocket-Protocol");
    let protocol = protocol.map(|protocol| format!("Sec-WebSocket-Protocol: {protocol}\r\n")).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accepted}\r\n{protocol}\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    let headers = json!(head.headers).to_string();
    let gone = |_| io::Error::from(io::ErrorKind::ConnectionReset);
    socket.send(headers.into()).await.map_err(gone)?;
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() || message.is_binary() {
            socket.send(message).await.map_err(gone)?;
        }
    }
    Ok(())
}

/// The simplest gzip file: stored blocks.
fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut chunks = data.chunks(0xffff).peekable();
    while let Some(chunk) = chunks.next() {
        let length = u16::try_from(chunk.len()).unwrap_or(u16::MAX);
        out.push(u8::from(chunks.peek().is_none()));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(chunk);
    }
    out.extend_from_slice(&crc32(data).to_le_bytes());
    out.extend_from_slice(&u32::try_from(data.len()).unwrap_or(0).to_le_bytes());
    out
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

/// What [`gzip`] packed.
pub fn gunzip(packed: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    let mut rest = packed.get(10..).unwrap_or_default();
    while let [last, low, high, _, _, blocks @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(blocks.len());
        data.extend_from_slice(&blocks[..length]);
        rest = if *last == 1 { &[] } else { &blocks[length..] };
    }
    data
}
