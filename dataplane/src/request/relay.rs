//! Two streams that become one. A stream that waits takes no memory for what may come: there may be thousands.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are taken at one time.
const READ: usize = 16 << 10;

/// Passes on what comes from either side until both have nothing more to say, or one fails.
pub(super) async fn relay<A, B>(a: &mut A, b: &mut B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut there, mut back) = (Way::default(), Way::default());
    poll_fn(|cx| {
        let there = there.poll(cx, a, b)?;
        let back = back.poll(cx, b, a)?;
        if there.is_ready() && back.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// One of the two directions.
#[derive(Default)]
struct Way {
    /// What the other side could not take yet, from its front on.
    waiting: Vec<u8>,
    written: usize,
    is_flushed: bool,
    is_at_end: bool,
    is_shut: bool,
}

impl Way {
    /// Ready when its end has come and has been told to the other side.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            ready!(self.write_waiting(cx, to))?;
            if self.is_shut {
                return Poll::Ready(Ok(()));
            }
            if self.is_at_end {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.is_shut = true;
                continue;
            }
            if self.read(cx, from, to)?.is_pending() {
                if !self.is_flushed {
                    ready!(Pin::new(&mut *to).poll_flush(cx))?;
                    self.is_flushed = true;
                }
                return Poll::Pending;
            }
        }
    }

    fn write_waiting<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<io::Result<()>> {
        while self.written < self.waiting.len() {
            self.written += taken(ready!(Pin::new(&mut *to).poll_write(cx, &self.waiting[self.written..]))?)?;
        }
        (self.waiting, self.written) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    /// Reads once, and keeps what cannot be written at once.
    fn read<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> io::Result<Poll<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut bytes = [0; READ];
        let mut read = ReadBuf::new(&mut bytes);
        if Pin::new(from).poll_read(cx, &mut read)?.is_pending() {
            return Ok(Poll::Pending);
        }
        let read = read.filled();
        if read.is_empty() {
            self.is_at_end = true;
            return Ok(Poll::Ready(()));
        }
        self.is_flushed = false;
        let written = match Pin::new(to).poll_write(cx, read)? {
            Poll::Ready(written) => taken(written)?,
            Poll::Pending => 0,
        };
        self.waiting = read[written..].to_vec();
        Ok(Poll::Ready(()))
    }
}

fn taken(bytes: usize) -> io::Result<usize> {
    if bytes == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests;
