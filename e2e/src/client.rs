//! A client that sends exactly what it is told to.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http1::{Head, Headers, Message, latin1, read_chunked, read_exactly, to_latin1};

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Headers,
    pub body: Vec<u8>,
    pub chunked: bool,
}

#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
    pub trailers: Headers,
    /// The connection ended before the body did.
    pub is_cut_short: bool,
}

impl Request {
    pub fn get(target: &str) -> Self {
        Self {
            method: "GET".into(),
            target: target.into(),
            headers: vec![("Host".into(), "argocd.example.com".into())],
            body: Vec::new(),
            chunked: false,
        }
    }

    /// For the application `argocd:guestbook` of the project `default`.
    pub fn signed_in(target: &str, token: &str) -> Self {
        Self::get(target)
            .header("Cookie", &format!("argocd.token={token}"))
            .header("Argocd-Application-Name", "argocd:guestbook")
            .header("Argocd-Project-Name", "default")
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    fn is(&self, name: &str) -> bool {
        self.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.chunked {
            text.push_str("Transfer-Encoding: chunked\r\n");
        } else if !self.body.is_empty() || matches!(self.method.as_str(), "POST" | "PUT" | "PATCH") {
            text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        text.push_str("\r\n");
        let mut bytes = to_latin1(&text);
        if self.chunked {
            for chunk in self.body.chunks(1000) {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        } else {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        latin1(&self.body)
    }

    /// What a backend says that it saw.
    pub fn seen(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("{}: {}", self.status, self.text()))
    }
}

/// Sends a request over a connection of its own.
pub async fn send(to: SocketAddr, request: Request) -> Result<Response> {
    let request = if request.is("Connection") { request } else { request.header("Connection", "close") };
    Connection::open(to).await?.send(&request).await
}

/// A connection over which the answer to a request has begun, to be read bit by bit.
pub async fn begin(to: SocketAddr, request: &Request) -> Result<Connection> {
    let mut connection = Connection::open(to).await?;
    connection.write(&request.to_bytes()).await?;
    let head = connection.read_head().await?;
    ensure!(status(&head)? == 200, "{}", head.start_line);
    Ok(connection)
}

/// A connection that is kept.
pub struct Connection<S = TcpStream>(BufReader<S>);

impl Connection {
    pub async fn open(to: SocketAddr) -> Result<Self> {
        let stream = timeout(PATIENCE, TcpStream::connect(to)).await??;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub fn over(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    pub async fn send(&mut self, request: &Request) -> Result<Response> {
        self.write(&request.to_bytes()).await?;
        self.read(request.method == "HEAD").await
    }

    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.get_mut().write_all(bytes).await?;
        Ok(())
    }

    /// The next answer's head; interim answers come back as well.
    pub async fn read_head(&mut self) -> Result<Head> {
        match timeout(PATIENCE, Head::read(&mut self.0)).await.context("no answer in time")? {
            Ok(Some(head)) => Ok(head),
            Ok(None) => bail!("closed"),
            Err(error) => bail!("{error}"),
        }
    }

    /// The next answer.
    pub async fn read(&mut self, is_head_only: bool) -> Result<Response> {
        let mut head = self.read_head().await?;
        while status(&head)? == 100 {
            head = self.read_head().await?;
        }
        let status = status(&head)?;
        let mut message = Message::default();
        let has_body = !is_head_only && !matches!(status, 101 | 204 | 304);
        let read = match (has_body, head.is_chunked(), head.content_length()) {
            (false, ..) => Ok(()),
            (_, true, _) => timeout(PATIENCE, read_chunked(&mut self.0, &mut message)).await?,
            (_, _, Some(length)) => timeout(PATIENCE, read_exactly(&mut self.0, length, &mut message)).await?,
            _ => timeout(PATIENCE, self.0.read_to_end(&mut message.body)).await?.map(drop),
        };
        let Message { body, trailers } = message;
        Ok(Response { status, headers: head.headers, body, trailers, is_cut_short: read.is_err() })
    }

    pub fn into_stream(self) -> BufReader<S> {
        self.0
    }

    pub fn stream(&mut self) -> &mut BufReader<S> {
        &mut self.0
    }
}

pub fn status(head: &Head) -> Result<u16> {
    let status = head.start_line.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.with_context(|| format!("no status line: {:?}", head.start_line))
}
