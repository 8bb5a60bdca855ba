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
pub mod explain;
mod forward;
mod path;
mod relay;
mod rewrite;
mod said;
mod stream;
mod upgrade;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, LOCATION};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;

use crate::Refusal;
use crate::body::{Body, Proxied, RequestBody};
use crate::extension::Scope;
use crate::pool::Sender;
use crate::server::Worker;
use crate::snapshot::Snapshot;
use application::ApplicationRef;
pub(crate) use application::OwnedApplicationRef;
pub use authenticate::Authenticated;
pub use authorize::Target;
use client::Forwarded;
pub(crate) use client::Peer;
pub use client::TrustedProxies;
pub(crate) use exchange::Exchange;
use forward::Outgoing;
pub use ipnet::IpNet;
use path::ExtensionPath;
use stream::Ask;
pub(crate) use stream::StreamGuard;
use upgrade::{Tunnel, Upgrade};

pub(crate) async fn handle(
    worker: Arc<Worker>,
    peer: Peer,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    // It stays where it is, because it is large: what is awaited on its way holds no copy of it.
    let (mut head, body) = request.into_parts();
    let mut exchange = Exchange::start(&worker, &peer, &head);
    let is_http1 = head.version < Version::HTTP_2;
    let mut response = match serve(&worker, &peer, &mut head, body, &mut exchange).await {
        Ok(answer) => answer.deliver(exchange),
        Err(refusal) => {
            exchange.refused(&refusal);
            exchange.answered(refusal.status());
            refusal.into_response()
        }
    };
    let is_kept = is_http1 && response.status() != StatusCode::SWITCHING_PROTOCOLS;
    if is_kept && worker.common.leaving.load(Ordering::Relaxed) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// What a request came to.
enum Answer {
    Redirect(Response<Body>),
    Backend { response: Response<Incoming>, connection: Sender<RequestBody>, guard: StreamGuard },
    WebSocket { response: Response<Body>, tunnel: Tunnel },
}

impl Answer {
    /// The exchange lives as long as the answer does.
    fn deliver(self, mut exchange: Exchange) -> Response<Body> {
        match self {
            Self::Redirect(response) => {
                exchange.answered(response.status());
                response
            }
            Self::Backend { response, connection, guard } => {
                exchange.answered(response.status());
                let (connection, exchange) = (Some(connection), Some(exchange));
                response.map(|incoming| Body::Proxied(Box::new(Proxied { incoming, connection, exchange, guard })))
            }
            Self::WebSocket { response, tunnel } => {
                exchange.answered(response.status());
                tunnel.open(exchange);
                response
            }
        }
    }
}

async fn serve(
    worker: &Arc<Worker>,
    peer: &Peer,
    head: &mut Parts,
    body: Incoming,
    exchange: &mut Exchange,
) -> Result<Answer, Refusal> {
    let snapshot = worker.snapshot().ok_or(Refusal::NotReady)?;
    if head.method == Method::CONNECT {
        return Err(Refusal::Method);
    }
    let raw = raw_path(&head.uri);
    if let Some(location) = path::redirect(&snapshot.settings.root_path, raw) {
        return Ok(Answer::Redirect(redirect(&head.method, &location)));
    }
    let permitted = permit(worker, &snapshot, &head.headers, raw, exchange).await?;
    proxy(worker, peer, head, body, permitted, exchange).await
}

/// Path and query, as they came.
fn raw_path(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", PathAndQuery::as_str)
}

/// A request that may go on, and how.
struct Permitted {
    caller: Authenticated,
    target: Arc<Target>,
    /// Where in the path and query that begins which follows the extension's name.
    rest_at: usize,
}

/// Every check, in Argo CD's order.
async fn permit(
    worker: &Arc<Worker>,
    snapshot: &Arc<Snapshot>,
    headers: &HeaderMap,
    raw_path: &str,
    exchange: &mut Exchange,
) -> Result<Permitted, Refusal> {
    let path = ExtensionPath::parse(&snapshot.settings.root_path, raw_path)?;
    let extension = snapshot.extensions.get(&*path.name);
    let name = extension.map_or_else(|| Arc::from(&*path.name), |extension| extension.settings.name.clone());
    exchange.name = Some(name);
    let token = cookie::token(headers)?;
    let caller = authenticate::authenticate(worker, snapshot, &token).await?;
    exchange.user = Some(caller.clone());
    if path.name.is_empty() {
        return Err(Refusal::NoExtensionName);
    }
    let scope = extension.map(|extension| extension.settings.scope).unwrap_or_default();
    let application = match scope {
        Scope::Global if !ApplicationRef::is_named(headers) => None,
        _ => Some(ApplicationRef::read(headers)?),
    };
    let target = authorize::authorize(worker, snapshot, &caller, &path.name, application)
        .inspect_err(|_| exchange.refused_application = application.map(ApplicationRef::to_owned))?;
    Ok(Permitted { caller, target, rest_at: raw_path.len() - path.rest().len() })
}

/// Rewrites the request and hands it to the backend.
async fn proxy(
    worker: &Arc<Worker>,
    peer: &Peer,
    head: &mut Parts,
    body: Incoming,
    permitted: Permitted,
    exchange: &mut Exchange,
) -> Result<Answer, Refusal> {
    let Permitted { caller, target, rest_at } = permitted;
    let limits = &target.extension.settings.limits;
    let idle_timeout = limits.stream_idle_timeout;
    exchange.enter(&target)?;
    let upgrade = Upgrade::requested(head);
    let body = RequestBody::within(body, limits.max_request_body_bytes)?;
    let outgoing = Outgoing {
        head,
        rest: &raw_path(&head.uri)[rest_at..],
        target: &target,
        caller: &caller,
        forwarded: Forwarded::read(peer, &head.headers, client::host(head)),
        exchange,
        is_websocket: upgrade.is_some(),
    };
    let (mut response, connection, at) = forward::within(limits.request_timeout, worker, &outgoing, body).await?;
    exchange.is_at(at);
    let ask = Ask { caller, target };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (response, tunnel) = upgrade::accept(upgrade, response, ask, idle_timeout)?;
        return Ok(Answer::WebSocket { response, tunnel });
    }
    rewrite::response(response.status(), response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    let guard = StreamGuard::new(ask, idle_timeout);
    Ok(Answer::Backend { response, connection, guard })
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
