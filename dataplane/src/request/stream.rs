//! What outlives its request's head - server-sent events, long answers, WebSockets - is judged again whenever what
//! decides changes, and ends when it would be refused or carries nothing for too long.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::{Authenticated, Target, authenticate, authorize};
use crate::Refusal;
use crate::server::Worker;
use crate::snapshot::Snapshot;
use crate::token::TokenError;

/// How long changes of the snapshot are gathered before a stream is judged again.
const JUDGE_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// An answer of more parts is watched.
const PARTS_OF_A_STREAM: u32 = 16;

/// What a request asked for, to be asked again.
pub(super) struct Ask {
    pub(super) caller: Authenticated,
    pub(super) target: Arc<Target>,
}

impl Ask {
    /// Whether the same request would be refused now.
    async fn again(&self, worker: &Arc<Worker>, snapshot: &Arc<Snapshot>) -> Result<(), Refusal> {
        let caller = authenticate::authenticate(worker, snapshot, self.caller.token()).await?;
        let application = self.target.application.as_ref().map(|application| application.borrow());
        authorize::authorize(worker, snapshot, &caller, &self.target.extension.settings.name, application)?;
        Ok(())
    }

    /// Ends when the request would be refused.
    pub(super) async fn refused(&self, worker: &Arc<Worker>) -> Refusal {
        let mut snapshots = worker.snapshots();
        let expires = expiry(self.caller.expires());
        tokio::pin!(expires);
        loop {
            tokio::select! {
                () = &mut expires => return Refusal::Token(TokenError::Expired),
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
            if let Err(refusal) = self.again(worker, &snapshot).await {
                return refusal;
            }
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

/// Watches over an answer. It costs nothing until the answer has to be waited for.
pub(crate) struct StreamGuard {
    state: State,
    idle_timeout: Option<Duration>,
    /// Fires when nothing came for too long.
    idle: Option<Pin<Box<Sleep>>>,
    has_moved: bool,
    parts: u32,
}

enum State {
    Resting(Option<Ask>),
    Watching(Pin<Box<dyn Future<Output = Refusal> + Send>>),
}

impl StreamGuard {
    pub(super) fn new(ask: Ask, idle_timeout: Option<Duration>) -> Self {
        Self { state: State::Resting(Some(ask)), idle_timeout, idle: None, has_moved: false, parts: 0 }
    }

    /// A part of the answer came. Whether it has become a stream, which must be watched even if it never has to be
    /// waited for.
    pub(crate) fn moved(&mut self) -> bool {
        self.has_moved = true;
        self.parts = self.parts.saturating_add(1);
        self.parts > PARTS_OF_A_STREAM || matches!(self.state, State::Watching(_))
    }

    /// Ready when the answer must end.
    pub(crate) fn poll_ended(&mut self, cx: &mut Context<'_>, worker: &Arc<Worker>) -> Poll<Refusal> {
        if let State::Resting(ask) = &mut self.state
            && let Some(ask) = ask.take()
        {
            let worker = worker.clone();
            self.state = State::Watching(Box::pin(async move { ask.refused(&worker).await }));
        }
        if let State::Watching(refused) = &mut self.state
            && let Poll::Ready(refusal) = refused.as_mut().poll(cx)
        {
            return Poll::Ready(refusal);
        }
        self.poll_idle(cx)
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Refusal> {
        let Some(timeout) = self.idle_timeout else { return Poll::Pending };
        let has_moved = std::mem::take(&mut self.has_moved);
        let idle = self.idle.get_or_insert_with(|| Box::pin(sleep(timeout)));
        if has_moved && let Some(at) = Instant::now().checked_add(timeout) {
            idle.as_mut().reset(at);
        }
        idle.as_mut().poll(cx).map(|()| Refusal::StreamIdle)
    }
}
