//! One request, from its head to its answer.
//!
//! The order is Argo CD's, and it matters: nothing about extensions or applications is said to a caller who is
//! not signed in, and whether an extension exists only to one who may invoke it.

mod application;
mod authenticate;
mod authorize;
mod cookie;
mod forward;
mod path;
mod rewrite;
mod upgrade;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::header::{CONTENT_TYPE, HOST, HeaderValue, LOCATION};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tracing::{debug, info, warn};

use crate::Refusal;
use crate::body::{Body, Proxied, RequestBody};
use crate::metrics::Metrics;
use crate::server::Worker;
use crate::snapshot::Snapshot;
use application::ApplicationRef;
pub use authenticate::Authenticated;
pub use authorize::Target;
use path::ExtensionPath;

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    address: HeaderValue,
}

impl Peer {
    pub(crate) fn new(address: IpAddr) -> Self {
        // An address is always a valid header value; an empty one would only hide it.
        let address = HeaderValue::from_str(&address.to_canonical().to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        Self { address }
    }
}

/// Counts a proxied request when its answer has been sent or dropped.
pub(crate) struct Observation {
    metrics: Arc<Metrics>,
    extension: Arc<str>,
    started: Instant,
}

impl Drop for Observation {
    fn drop(&mut self) {
        self.metrics.observe_duration(&self.extension, self.started.elapsed());
    }
}

pub(crate) async fn handle(worker: Arc<Worker>, peer: Peer, request: Request<Incoming>) -> Response<Body> {
    let started = Instant::now();
    let mut seen = Seen { path: None, user: None, application: None };
    match serve(&worker, &peer, request, started, &mut seen).await {
        Ok(response) => response,
        Err(refusal) => {
            worker.metrics.count_refusal(refusal.label());
            seen.log(&peer, &refusal);
            refusal.into_response()
        }
    }
}

async fn serve(
    worker: &Arc<Worker>,
    peer: &Peer,
    request: Request<Incoming>,
    started: Instant,
    seen: &mut Seen,
) -> Result<Response<Body>, Refusal> {
    let snapshot = worker.snapshot().ok_or(Refusal::NotReady)?;
    if request.method() == Method::CONNECT {
        return Err(Refusal::Method);
    }
    let raw = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    if let Some(location) = path::redirect(&snapshot.settings.root_path, raw) {
        return Ok(redirect(request.method(), &location));
    }
    let path = ExtensionPath::parse(&snapshot.settings.root_path, raw)?;
    seen.path = Some(path.name.clone().into_owned());
    let token = cookie::token(request.headers())?;
    let caller = authenticate::authenticate(worker, &snapshot, &token).await?;
    seen.user = Some(caller.clone());
    if path.name.is_empty() {
        return Err(Refusal::NoExtensionName);
    }
    let application = ApplicationRef::read(request.headers())?;
    seen.application = Some(application.to_owned());
    let target = authorize::authorize(worker, &snapshot, &caller, &path.name, application)?;

    let uri = path.at_backend(&target.service.settings.address.path)?;
    let token = token.into_owned();
    proxy(worker, peer, request, uri, target, started, Ask { token, seen }).await
}

/// Rewrites the request and hands it to the backend.
async fn proxy(
    worker: &Arc<Worker>,
    peer: &Peer,
    mut request: Request<Incoming>,
    uri: http::Uri,
    target: Arc<Target>,
    started: Instant,
    ask: Ask<'_>,
) -> Result<Response<Body>, Refusal> {
    let upgrade = upgrade::Upgrade::requested(&mut request);
    let host = match request.headers().get(HOST) {
        Some(host) => Some(host.clone()),
        None => request.uri().authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok()),
    };
    let (mut head, body) = request.into_parts();
    head.uri = uri;
    head.version = http::Version::HTTP_11;
    rewrite::request(&mut head.headers, &target, peer.address.clone(), host, upgrade.is_some());

    let observation = Observation { metrics: worker.metrics.clone(), extension: target.extension.clone(), started };
    let outgoing = Request::from_parts(head, RequestBody::Incoming(body));
    let answered = forward::forward(worker, &target.service, outgoing).await;
    let status = answered.as_ref().map_or_else(Refusal::status, |(response, _)| response.status());
    worker.metrics.count_request(&target.extension, status);
    let (mut response, lease) = answered?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return upgrade::accept(worker, upgrade, response, ask.into_owned(&target), observation);
    }
    *response.version_mut() = http::Version::HTTP_11;
    rewrite::response(response.status(), response.headers_mut());
    Ok(response.map(|incoming| {
        Body::Proxied(Box::new(Proxied { incoming, lease: Some(lease), observation: Some(observation) }))
    }))
}

/// What a request asked for, to be asked again while its stream lives.
struct Ask<'s> {
    token: String,
    seen: &'s Seen,
}

pub(crate) struct OwnedAsk {
    token: String,
    extension: Arc<str>,
    application: application::OwnedApplicationRef,
    expires: Option<f64>,
}

impl Ask<'_> {
    fn into_owned(self, target: &Target) -> Option<OwnedAsk> {
        Some(OwnedAsk {
            token: self.token,
            extension: target.extension.clone(),
            application: self.seen.application.clone()?,
            expires: self.seen.user.as_ref()?.expires(),
        })
    }
}

impl OwnedAsk {
    /// Whether the same request would be refused now.
    async fn again(&self, worker: &Arc<Worker>, snapshot: &Arc<Snapshot>) -> Result<(), Refusal> {
        let caller = authenticate::authenticate(worker, snapshot, &self.token).await?;
        authorize::authorize(worker, snapshot, &caller, &self.extension, self.application.borrow())?;
        Ok(())
    }
}

/// What is known of a request, for the log.
struct Seen {
    path: Option<String>,
    user: Option<Authenticated>,
    application: Option<application::OwnedApplicationRef>,
}

impl Seen {
    fn log(&self, peer: &Peer, refusal: &Refusal) {
        let extension = self.path.as_deref().unwrap_or_default();
        let user = self.user.as_ref().map(Authenticated::username).unwrap_or_default();
        let (application, project) =
            self.application.as_ref().map(|a| (a.application.as_str(), a.project.as_str())).unwrap_or_default();
        let (check, client) = (refusal.label(), peer.address.to_str().unwrap_or_default());
        match refusal {
            Refusal::BackendUnreachable(_) | Refusal::BackendTimeout | Refusal::BackendFailed(_) => {
                warn!(check, ?extension, ?user, ?application, ?project, client, "{refusal}");
            }
            Refusal::NoSuchPath | Refusal::Method | Refusal::NoCookie => {
                debug!(check, ?extension, client, "request refused: {refusal}");
            }
            _ => info!(check, ?extension, ?user, ?application, ?project, client, "request refused: {refusal}"),
        }
    }
}

/// What Go's request multiplexer answers to a path that is not clean.
fn redirect(method: &Method, location: &str) -> Response<Body> {
    let escaped = location
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;");
    let body = match *method {
        Method::GET => Body::text(format!("<a href=\"{escaped}\">Temporary Redirect</a>.\n\n")),
        _ => Body::empty(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    if matches!(*method, Method::GET | Method::HEAD) {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    }
    response
}
