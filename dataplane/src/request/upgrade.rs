//! WebSockets: authorized like any request when they open, and again for as long as they live.
//!
//! No other protocol is upgraded to: an `h2c` upgrade, say, would carry requests past every check.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info};

use super::{Observation, OwnedAsk, rewrite};
use crate::Refusal;
use crate::body::Body;
use crate::server::Worker;

/// How long changes of the snapshot are gathered before a stream is judged again.
const JUDGE_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// The caller's side of a connection that is to become a WebSocket.
pub(super) struct Upgrade(OnUpgrade);

impl Upgrade {
    /// `Some` where the request asks for a WebSocket.
    pub(super) fn requested(request: &mut Request<Incoming>) -> Option<Self> {
        let is_websocket = request.version() == Version::HTTP_11
            && request.headers().get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
            && request.headers().get_all(CONNECTION).iter().any(|value| rewrite::mentions(value, "upgrade"));
        is_websocket.then(|| Self(hyper::upgrade::on(request)))
    }
}

/// Answers the caller's handshake with the backend's and joins the two connections.
pub(super) fn accept(
    worker: &Arc<Worker>,
    upgrade: Option<Upgrade>,
    mut response: Response<Incoming>,
    ask: Option<OwnedAsk>,
    observation: Observation,
) -> Result<Response<Body>, Refusal> {
    let (Some(Upgrade(caller)), Some(ask)) = (upgrade, ask) else {
        return Err(Refusal::BackendFailed("it switched protocols without being asked to".into()));
    };
    if !response.headers().get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return Err(Refusal::BackendFailed("it switched to another protocol than WebSocket".into()));
    }
    let backend = hyper::upgrade::on(&mut response);
    let task = join(worker.clone(), caller, backend, ask, observation);
    worker.streams.spawn(task);

    rewrite::response(response.status(), response.headers_mut());
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    Ok(response.map(|_| Body::empty()))
}

async fn join(worker: Arc<Worker>, caller: OnUpgrade, backend: OnUpgrade, ask: OwnedAsk, observation: Observation) {
    let _open = worker.metrics.open_stream(&ask.extension);
    let (caller, backend) = match tokio::try_join!(caller, backend) {
        Ok(streams) => streams,
        Err(error) => return debug!(%error, "a WebSocket's connections could not be joined"),
    };
    tokio::select! {
        () = copy(caller, backend) => {}
        refusal = refused(&worker, &ask) => {
            worker.metrics.count_refusal(refusal.label());
            info!(check = refusal.label(), extension = ?ask.extension, application = ?ask.application.application, "closed a WebSocket: {refusal}");
        }
        () = worker.draining_ended() => debug!("closed a WebSocket: the proxy stops"),
    }
    drop(observation);
}

async fn copy(caller: Upgraded, backend: Upgraded) {
    let (mut caller, mut backend) = (TokioIo::new(caller), TokioIo::new(backend));
    // Either side may simply go away; there is nobody to tell.
    let _ = tokio::io::copy_bidirectional(&mut caller, &mut backend).await;
}

/// Ends when the request that opened the stream would be refused.
async fn refused(worker: &Arc<Worker>, ask: &OwnedAsk) -> Refusal {
    let mut snapshots = worker.snapshots();
    let expires = expiry(ask.expires);
    tokio::pin!(expires);
    loop {
        tokio::select! {
            () = &mut expires => return Refusal::Token(crate::token::TokenError::Expired),
            changed = snapshots.changed() => if changed.is_err() {
                // Nobody changes anything any more.
                return pending().await;
            },
        }
        sleep(JUDGE_AGAIN_AFTER).await;
        snapshots.mark_unchanged();
        let Some(snapshot) = worker.snapshot() else {
            continue;
        };
        if let Err(refusal) = ask.again(worker, &snapshot).await {
            return refusal;
        }
    }
}

async fn expiry(at: Option<f64>) {
    let left =
        at.map(|at| at - SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64());
    match left
        .and_then(|left| Duration::try_from_secs_f64(left.max(0.0)).ok())
        .and_then(|left| Instant::now().checked_add(left))
    {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
