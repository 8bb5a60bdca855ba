//! Bodies of requests and answers: streamed, never buffered.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use crate::pool::Lease;
use crate::request::Observation;

/// An answer's body.
pub(crate) enum Body {
    Text(Option<Bytes>),
    Proxied(Box<Proxied>),
}

/// A backend's answer. Its connection goes back to the pool once the body has been read to its end.
pub(crate) struct Proxied {
    pub(crate) incoming: Incoming,
    pub(crate) lease: Option<Lease>,
    pub(crate) observation: Option<Observation>,
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
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
        self.observation.take();
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Proxied(proxied) => {
                let frame = Pin::new(&mut proxied.incoming).poll_frame(cx);
                match &frame {
                    Poll::Ready(None) => proxied.finish(),
                    Poll::Ready(Some(Ok(_))) if proxied.incoming.is_end_stream() => proxied.finish(),
                    // A broken answer takes its connection with it.
                    Poll::Ready(Some(Err(_))) => drop(proxied.lease.take()),
                    _ => {}
                }
                frame
            }
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

/// A request's body on its way to a backend.
pub(crate) enum RequestBody {
    Incoming(Incoming),
    Empty,
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Incoming(incoming) => Pin::new(incoming).poll_frame(cx),
            Self::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Incoming(incoming) => incoming.is_end_stream(),
            Self::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Incoming(incoming) => incoming.size_hint(),
            Self::Empty => SizeHint::with_exact(0),
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
