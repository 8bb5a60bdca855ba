//! One request, from its head to its answer.
//!
//! The order is Argo CD's, and it matters: nothing about extensions or applications is said to a caller who is
//! not signed in, and whether an extension exists only to one who may invoke it.

mod application;
mod authenticate;
mod authorize;
mod client;
mod cookie;
mod exchange;
mod forward;
mod path;
mod rewrite;
mod stream;
mod upgrade;

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::Refusal;
use crate::body::{Body, Proxied, RequestBody};
use crate::extension::Scope;
use crate::server::Worker;
use crate::snapshot::Snapshot;
use application::ApplicationRef;
pub use authenticate::Authenticated;
pub use authorize::Target;
pub(crate) use client::Peer;
pub use client::TrustedProxies;
pub(crate) use exchange::Exchange;
use forward::Outgoing;
pub use ipnet::IpNet;
use path::ExtensionPath;
pub(crate) use stream::StreamGuard;

pub(crate) async fn handle(worker: Arc<Worker>, peer: Peer, request: Request<Incoming>) -> Response<Body> {
    let exchange = Exchange::start(&worker, &peer, &request);
    match serve(&worker, &peer, request, exchange).await {
        Ok(response) => response,
        Err((mut exchange, refusal)) => {
            exchange.refused(&refusal);
            exchange.answered(refusal.status());
            refusal.into_response()
        }
    }
}

/// A request that may go on, and how.
struct Permitted {
    target: Arc<Target>,
    token: String,
    /// What follows the extension's name in the path.
    rest: String,
}

async fn serve(
    worker: &Arc<Worker>,
    peer: &Peer,
    request: Request<Incoming>,
    mut exchange: Exchange,
) -> Result<Response<Body>, (Exchange, Refusal)> {
    let Some(snapshot) = worker.snapshot() else { return Err((exchange, Refusal::NotReady)) };
    if request.method() == Method::CONNECT {
        return Err((exchange, Refusal::Method));
    }
    let raw = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    if let Some(location) = path::redirect(&snapshot.settings.root_path, raw) {
        exchange.answered(StatusCode::TEMPORARY_REDIRECT);
        return Ok(redirect(request.method(), &location));
    }
    match permit(worker, &snapshot, &request, raw, &mut exchange).await {
        Ok(permitted) => proxy(worker, peer, request, permitted, exchange).await,
        Err(refusal) => Err((exchange, refusal)),
    }
}

/// Every check, in Argo CD's order.
async fn permit(
    worker: &Arc<Worker>,
    snapshot: &Arc<Snapshot>,
    request: &Request<Incoming>,
    raw_path: &str,
    exchange: &mut Exchange,
) -> Result<Permitted, Refusal> {
    let path = ExtensionPath::parse(&snapshot.settings.root_path, raw_path)?;
    exchange.name = Some(path.name.clone().into_owned());
    let token = cookie::token(request.headers())?;
    let caller = authenticate::authenticate(worker, snapshot, &token).await?;
    exchange.user = Some(caller.clone());
    if path.name.is_empty() {
        return Err(Refusal::NoExtensionName);
    }
    let extension = snapshot.extensions.get(&*path.name);
    let scope = extension.map(|extension| extension.settings.scope).unwrap_or_default();
    let application = match scope {
        Scope::Global if !ApplicationRef::is_named(request.headers()) => None,
        _ => Some(ApplicationRef::read(request.headers())?),
    };
    exchange.application = application.map(|application| Arc::new(application.to_owned()));
    let target = authorize::authorize(worker, snapshot, &caller, &path.name, application)?;
    Ok(Permitted { target, token: token.into_owned(), rest: path.rest().to_owned() })
}

/// Rewrites the request and hands it to the backend.
async fn proxy(
    worker: &Arc<Worker>,
    peer: &Peer,
    mut request: Request<Incoming>,
    permitted: Permitted,
    mut exchange: Exchange,
) -> Result<Response<Body>, (Exchange, Refusal)> {
    let Permitted { target, token, rest } = permitted;
    let limits = &target.extension.settings.limits;
    if let Err(refusal) = exchange.enter(&target.extension) {
        return Err((exchange, refusal));
    }
    let upgrade = upgrade::Upgrade::requested(&mut request);
    let forwarded = client::Forwarded::read(peer, request.headers(), client::host(&request));
    let (mut head, body) = request.into_parts();
    rewrite::request(&mut head.headers, &target, forwarded, upgrade.is_some());
    exchange.carry_trace(&mut head.headers);
    let body = match RequestBody::within(body, limits.max_request_body_bytes) {
        Ok(body) => body,
        Err(refusal) => return Err((exchange, refusal)),
    };

    let outgoing = Outgoing { head, body, rest: &rest, only_http1: upgrade.is_some() };
    let (mut response, lease) = match forward::within(limits.request_timeout, worker, &target, outgoing).await {
        Ok((response, lease, at)) => {
            exchange.is_at(at);
            (response, lease)
        }
        Err(refusal) => return Err((exchange, refusal)),
    };
    let ask = stream::Ask {
        token,
        extension: target.extension.settings.name.clone(),
        application: exchange.application.clone(),
        expires: exchange.user.as_ref().and_then(Authenticated::expires),
    };
    let idle_timeout = limits.stream_idle_timeout;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        exchange.answered(response.status());
        return upgrade::accept(upgrade, response, ask, idle_timeout, exchange);
    }
    exchange.answered(response.status());
    rewrite::response(response.status(), response.headers_mut());
    *response.version_mut() = http::Version::HTTP_11;
    let guard = StreamGuard::new(worker.clone(), ask, idle_timeout);
    Ok(response.map(|incoming| {
        Body::Proxied(Box::new(Proxied { incoming, lease: Some(lease), exchange: Some(exchange), guard }))
    }))
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
