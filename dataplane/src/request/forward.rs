//! Sends a request to one of its services, over a pooled or a new connection.

use std::borrow::Cow;
use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::request::Parts;
use http::{Method, Request, Response};
use hyper::body::{Body as _, Incoming};
use tracing::debug;

use super::client::Forwarded;
use super::{Authenticated, Exchange, Target, path, rewrite};
use crate::Refusal;
use crate::body::RequestBody;
use crate::extension::{AtService, Service, ServiceSettings};
use crate::pool::{self, Sender};
use crate::server::Worker;

/// A caller's request, from which those are made that its services get.
pub(super) struct Outgoing<'a> {
    pub(super) head: &'a Parts,
    /// What follows the extension's name in the path.
    pub(super) rest: &'a str,
    pub(super) target: &'a Target,
    pub(super) caller: &'a Authenticated,
    pub(super) forwarded: Forwarded,
    pub(super) exchange: &'a Exchange,
    pub(super) is_websocket: bool,
}

impl Outgoing<'_> {
    fn to(&self, service: &ServiceSettings, body: RequestBody) -> Result<Request<RequestBody>, Refusal> {
        let mut headers =
            rewrite::request(&self.head.headers, self.target, self.caller, &self.forwarded, self.is_websocket);
        self.exchange.carry_trace(&mut headers);
        rewrite::for_service(&mut headers, service);
        let mut request = Request::new(body);
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = path::at_backend(&service.address.path, self.rest)?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// With the connection over which it comes.
type Answer = (Response<Incoming>, Sender<RequestBody>, AtService);

/// [`forward`], within a time limit.
pub(super) async fn within(
    limit: Option<Duration>,
    worker: &Arc<Worker>,
    outgoing: &Outgoing<'_>,
    body: RequestBody,
) -> Result<Answer, Refusal> {
    match limit {
        None => forward(worker, outgoing, body).await,
        Some(limit) => {
            let answer = tokio::time::timeout(limit, forward(worker, outgoing, body));
            answer.await.unwrap_or(Err(Refusal::BackendTimeout))
        }
    }
}

/// A backend may close a kept connection at the very moment in which it is used again. A request that was not
/// sent, and one that may be sent twice and has no body, then goes over another connection; any other fails.
async fn forward(worker: &Arc<Worker>, outgoing: &Outgoing<'_>, body: RequestBody) -> Result<Answer, Refusal> {
    let too_large = body.limit_exceeded();
    let only_http1 = outgoing.is_websocket;
    let (at, mut sender, mut is_kept) = connection(worker, &outgoing.target.services, only_http1).await?;
    let service = at.service();
    let mut request = outgoing.to(&service.settings, body)?;
    let is_repeatable = is_repeatable(&request);
    loop {
        sender.prepare(&service.settings.address, &mut request);
        let mut failure = match sender.send(request).await {
            Ok(response) => return Ok((response, sender, at)),
            Err(failure) => failure,
        };
        let (unsent, error) = (failure.take_message(), failure.into_error());
        let kept = match unsent {
            Some(unsent) if is_kept => {
                request = unsent;
                worker.pools.take(service, only_http1)
            }
            _ if is_kept && is_repeatable => {
                debug!(%error, "a kept connection broke; the request is sent again over a new one");
                request = outgoing.to(&service.settings, RequestBody::Empty)?;
                None
            }
            _ if too_large.is_some_and(|exceeded| exceeded.load(Ordering::Relaxed)) => {
                return Err(Refusal::BodyTooLarge);
            }
            _ => return Err(Refusal::BackendFailed(describe(&error))),
        };
        is_kept = kept.is_some();
        sender = match kept {
            Some(kept) => kept,
            None => pool::open(worker, service, only_http1).await?,
        };
    }
}

/// A connection to the service that has the fewest requests open, or to the next one where it cannot be reached; and
/// whether it was used before.
async fn connection(
    worker: &Arc<Worker>,
    services: &[Arc<Service>],
    only_http1: bool,
) -> Result<(AtService, Sender<RequestBody>, bool), Refusal> {
    let mut why = Refusal::BackendDown;
    for service in candidates(services).iter() {
        // While it is connected to it counts already.
        let at = AtService::new(service.clone());
        if let Some(kept) = worker.pools.take(service, only_http1) {
            return Ok((at, kept, true));
        }
        match pool::open(worker, service, only_http1).await {
            Ok(sender) => return Ok((at, sender, false)),
            Err(refusal) => why = refusal,
        }
    }
    Err(why)
}

/// Whom to try, in this order: those that are not known to be down, else those that refuse connections, which is soon
/// found out.
fn candidates(services: &[Arc<Service>]) -> Cow<'_, [Arc<Service>]> {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    if let [only] = services
        && !only.health.is_down()
    {
        return Cow::Borrowed(services);
    }
    let mut candidates: Vec<_> = services.iter().filter(|service| !service.health.is_down()).cloned().collect();
    if candidates.is_empty() {
        candidates = services.iter().filter(|service| service.health.fails_at_once()).cloned().collect();
    }
    if candidates.len() > 1 {
        // Among equals each has its turn.
        let turn = TURN.fetch_add(1, Ordering::Relaxed) % candidates.len();
        candidates.rotate_left(turn);
        candidates.sort_by_key(|service| service.open());
    }
    Cow::Owned(candidates)
}

fn is_repeatable(request: &Request<RequestBody>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
        && request.body().is_end_stream()
}

fn describe(error: &hyper::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
