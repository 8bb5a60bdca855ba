//! Bodies of requests and answers: streamed, never buffered.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use thiserror::Error;

use crate::Refusal;
use crate::pool::Sender;
use crate::request::{Exchange, StreamGuard};

const LINGER: Duration = Duration::from_secs(5);

/// Why a body ends before its end.
#[derive(Debug, Error)]
pub(crate) enum BodyError {
    #[error(transparent)]
    Connection(#[from] hyper::Error),
    /// A request's body is larger than the extension permits.
    #[error("the body is too large")]
    TooLarge,
    /// A stream that would be refused now, or that is idle for too long.
    #[error("{0}")]
    Ended(Refusal),
}

/// An answer's body.
pub(crate) enum Body {
    Text(Option<Bytes>),
    Proxied(Box<Proxied>),
}

/// A backend's answer. Its connection goes back to the pool once the body has been read to its end.
pub(crate) struct Proxied {
    pub(crate) incoming: Incoming,
    /// Over which it comes.
    pub(crate) connection: Option<Sender<RequestBody>>,
    pub(crate) exchange: Option<Exchange>,
    /// Ends the answer before its end.
    pub(crate) guard: StreamGuard,
}

impl Body {
    pub(crate) fn empty() -> Self {
        Self::Text(None)
    }

    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        Self::Text(Some(text.into()))
    }
}

impl Proxied {
    fn finish(&mut self) {
        if let (Some(exchange), Some(connection)) = (self.exchange.take(), self.connection.take()) {
            exchange.give_back(connection);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = Pin::new(&mut self.incoming).poll_frame(cx);
        let is_stream = match &frame {
            Poll::Pending => true,
            Poll::Ready(None) => {
                self.finish();
                false
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(exchange), Some(data)) = (&mut self.exchange, frame.data_ref()) {
                    exchange.sent(data.remaining());
                }
                let is_stream = self.guard.moved();
                if self.incoming.is_end_stream() {
                    self.finish();
                }
                is_stream
            }
            // A broken answer takes its connection with it.
            Poll::Ready(Some(Err(_))) => {
                drop(self.connection.take());
                false
            }
        };
        if is_stream
            && let Some(exchange) = &self.exchange
            && let Poll::Ready(refusal) = self.guard.poll_ended(cx, exchange.worker())
        {
            return Poll::Ready(Some(Err(self.end(refusal))));
        }
        frame.map_err(BodyError::Connection)
    }

    /// Ends the answer before its end.
    fn end(&mut self, refusal: Refusal) -> BodyError {
        drop(self.connection.take());
        if let Some(mut exchange) = self.exchange.take() {
            exchange.refused(&refusal);
        }
        BodyError::Ended(refusal)
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Proxied(proxied) => proxied.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_none(),
            Self::Proxied(proxied) => proxied.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |t| t.len() as u64)),
            Self::Proxied(proxied) => proxied.incoming.size_hint(),
        }
    }
}

impl Drop for Proxied {
    /// An answer without a body is never read; its connection is as good as after reading.
    fn drop(&mut self) {
        if self.incoming.is_end_stream() {
            self.finish();
        }
    }
}

/// A request's body on its way to a backend.
pub(crate) enum RequestBody {
    Incoming(Incoming),
    Limited(Limited),
    Empty,
}

/// A body of unknown length of which so many bytes may still come.
pub(crate) struct Limited {
    /// `None` once more came than may.
    incoming: Option<Incoming>,
    left: u64,
    /// Whoever waits for the answer learns here why there is none.
    is_exceeded: Arc<AtomicBool>,
}

impl RequestBody {
    /// A body that must not be larger than the limit. Fails where it says itself that it is.
    pub(crate) fn within(incoming: Incoming, limit: Option<u64>) -> Result<Self, Refusal> {
        match limit {
            Some(limit) if incoming.size_hint().lower() > limit => {
                tokio::spawn(linger(incoming));
                Err(Refusal::BodyTooLarge)
            }
            Some(left) if incoming.size_hint().exact().is_none() => {
                Ok(Self::Limited(Limited { incoming: Some(incoming), left, is_exceeded: Arc::default() }))
            }
            _ => Ok(Self::Incoming(incoming)),
        }
    }

    /// Set when more came than may come.
    pub(crate) fn limit_exceeded(&self) -> Option<Arc<AtomicBool>> {
        match self {
            Self::Limited(limited) => Some(limited.is_exceeded.clone()),
            _ => None,
        }
    }
}

/// Reads on for a while what nobody wants: a caller whose connection is closed while it still sends may never see
/// the answer.
async fn linger(mut incoming: Incoming) {
    let rest = async { while let Some(Ok(_)) = incoming.frame().await {} };
    let _ = tokio::time::timeout(LINGER, rest).await;
}

impl Limited {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(Some(Err(BodyError::TooLarge))) };
        let frame = ready!(Pin::new(incoming).poll_frame(cx));
        let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref);
        match self.left.checked_sub(data.map_or(0, |data| data.len() as u64)) {
            Some(left) => self.left = left,
            None => {
                self.is_exceeded.store(true, Ordering::Relaxed);
                self.incoming.take().map(|incoming| tokio::spawn(linger(incoming)));
                return Poll::Ready(Some(Err(BodyError::TooLarge)));
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Connection)))
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Incoming(incoming) => Pin::new(incoming).poll_frame(cx).map_err(BodyError::Connection),
            Self::Limited(limited) => limited.poll(cx),
            Self::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Incoming(incoming) | Self::Limited(Limited { incoming: Some(incoming), .. }) => {
                incoming.is_end_stream()
            }
            Self::Limited(_) => false,
            Self::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Incoming(incoming) | Self::Limited(Limited { incoming: Some(incoming), .. }) => incoming.size_hint(),
            Self::Limited(_) => SizeHint::default(),
            Self::Empty => SizeHint::with_exact(0),
        }
    }
}
