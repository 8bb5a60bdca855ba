//! Sends a request to a service over a pooled or a new connection.

use std::sync::Arc;

use http::{Method, Request, Response, request};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::SendRequest;
use tracing::debug;

use crate::Refusal;
use crate::body::RequestBody;
use crate::extension::Service;
use crate::pool::{self, Lease};
use crate::server::Worker;

/// A backend may close a kept connection at the very moment in which it is used again. A request that was not
/// sent, and one that may be sent twice and has no body, then goes over a new connection; any other fails.
pub(super) async fn forward(
    worker: &Arc<Worker>,
    service: &Arc<Service>,
    request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Lease), Refusal> {
    let mut request = request;
    while let Some(sender) = worker.pools.take(service) {
        let copy = repeatable_head(&request);
        match send(sender, request).await {
            Ok((response, sender)) => return Ok((response, Lease::new(worker, service, sender))),
            Err(Failure { unsent: Some(unsent), .. }) => request = unsent,
            Err(Failure { error, unsent: None }) => match copy {
                Some(head) => {
                    debug!(%error, "a kept connection broke; the request is sent again over a new one");
                    request = Request::from_parts(head, RequestBody::Empty);
                    break;
                }
                None => return Err(Refusal::BackendFailed(describe(&error))),
            },
        }
    }
    let sender = pool::connect(worker, service).await?;
    let (response, sender) =
        send(sender, request).await.map_err(|failure| Refusal::BackendFailed(describe(&failure.error)))?;
    Ok((response, Lease::new(worker, service, sender)))
}

struct Failure {
    error: hyper::Error,
    unsent: Option<Request<RequestBody>>,
}

async fn send(
    mut sender: SendRequest<RequestBody>,
    request: Request<RequestBody>,
) -> Result<(Response<Incoming>, SendRequest<RequestBody>), Failure> {
    match sender.try_send_request(request).await {
        Ok(response) => Ok((response, sender)),
        Err(mut error) => {
            let unsent = error.take_message();
            Err(Failure { error: error.into_error(), unsent })
        }
    }
}

fn repeatable_head(request: &Request<RequestBody>) -> Option<request::Parts> {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
    if !safe || !request.body().is_end_stream() {
        return None;
    }
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = request.method().clone();
    head.uri = request.uri().clone();
    head.version = request.version();
    head.headers = request.headers().clone();
    Some(head)
}

fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
