//! The port for probes, metrics and people who want to know the state.

use std::convert::Infallible;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dataplane::snapshot::SnapshotReceiver;
use dataplane::tls::ServingCertificate;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::controller::{Counts, Report, ReportReceiver};
use crate::verdict::Verdict;

const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// What the port tells of.
pub struct Admin {
    pub snapshots: SnapshotReceiver,
    pub reports: ReportReceiver,
    pub metrics: Registry,
    /// What callers are shown, where TLS is spoken with them.
    pub certificate: Option<Arc<ServingCertificate>>,
    /// Set when the process is about to end.
    pub leaving: Arc<AtomicBool>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    version: &'static str,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reconciled_at: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    hash: &'a str,
    extensions: Counts,
    entries: Vec<Verdict>,
}

impl Admin {
    /// Serves until the task is dropped.
    pub async fn serve(self, listener: StdListener) -> std::io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let admin = Arc::new(self);
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(serve_connection(admin.clone(), stream));
                }
                Err(error) => {
                    warn!(%error, "connections to the admin port cannot be accepted; trying again");
                    sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let answer: fn(&Self) -> Response<Full<Bytes>> = match request.uri().path() {
            "/healthz" => |_| response(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" => Self::readiness,
            "/metrics" => Self::metrics,
            "/status" => Self::status,
            _ => {
                let message = "Not found. There are /healthz, /readyz, /metrics and /status.\n";
                return response(StatusCode::NOT_FOUND, TEXT, message);
            }
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Only GET and HEAD are allowed.\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        answer(self)
    }

    /// Why no request should be sent here.
    fn unreadiness(&self) -> Option<&'static str> {
        if self.leaving.load(Ordering::Relaxed) {
            return Some("the process is about to end");
        }
        if self.snapshots.borrow().is_none() {
            return Some("the configuration has not been read completely yet");
        }
        let lacks_certificate = self.certificate.as_ref().is_some_and(|certificate| !certificate.is_set());
        lacks_certificate.then_some("there is no usable certificate to show to callers")
    }

    fn readiness(&self) -> Response<Full<Bytes>> {
        match self.unreadiness() {
            None => response(StatusCode::OK, TEXT, "ready\n"),
            Some(why) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready: {why}\n")),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut text = String::new();
        match encode(&mut text, &self.metrics) {
            Ok(()) => response(StatusCode::OK, OPEN_METRICS, text),
            Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        }
    }

    fn status(&self) -> Response<Full<Bytes>> {
        let report = self.reports.borrow().clone();
        let report = report.as_deref();
        let status = Status {
            version: env!("CARGO_PKG_VERSION"),
            ready: self.unreadiness().is_none(),
            reconciled_at: report.map(|report| report.reconciled_at.to_string()),
            hash: report.map(|report| report.hash.as_str()).unwrap_or_default(),
            extensions: report.map(Report::counts).unwrap_or_default(),
            entries: report.map(Report::current).unwrap_or_default(),
        };
        match serde_json::to_vec_pretty(&status) {
            Ok(mut json) => {
                json.push(b'\n');
                response(StatusCode::OK, JSON, json)
            }
            Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        }
    }
}

async fn serve_connection(admin: Arc<Admin>, stream: tokio::net::TcpStream) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let service = service_fn(|request| {
        let answer = admin.answer(&request);
        async move { Ok::<_, Infallible>(answer) }
    });
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        debug!(%error, "a connection to the admin port ended");
    }
}

fn response(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
