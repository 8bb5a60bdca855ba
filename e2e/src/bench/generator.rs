//! Callers who send requests over kept connections: as fast as they are answered, or so many a second.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

const READ: usize = 64 << 10;
const MAX_HEADERS: usize = 64;
/// How finely a pace is kept.
const BEAT: Duration = Duration::from_micros(100);

/// Writes the n-th request.
pub type Requests = Arc<dyn Fn(usize, &mut Vec<u8>) + Send + Sync>;

/// Always the same one.
pub fn same(request: String) -> Requests {
    Arc::new(move |_, bytes| bytes.extend_from_slice(request.as_bytes()))
}

pub struct Load {
    pub to: SocketAddr,
    pub requests: Requests,
    pub connections: usize,
    pub pace: Pace,
    /// Whether refusals count as answers as well.
    pub may_be_refused: bool,
}

#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// As fast as they are answered, for so long.
    For(Duration),
    /// As fast as they are answered, so many.
    Count(usize),
    /// So many a second, whether they are answered or not.
    PerSecond(f64, Duration),
}

#[derive(Debug, Default)]
pub struct Outcome {
    pub requests: u64,
    /// Bytes of bodies.
    pub bytes: u64,
    pub elapsed: Duration,
    /// Sorted. With a pace they count from when a request was due, so that nobody is spared who lets callers wait.
    latencies: Vec<Duration>,
}

impl Outcome {
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// The time within which so many of a thousand requests were answered.
    pub fn within(&self, per_mille: usize) -> Duration {
        let at = (self.latencies.len() * per_mille).div_ceil(1000).saturating_sub(1);
        self.latencies.get(at).copied().unwrap_or_default()
    }
}

impl Load {
    /// In a thread of its own. Any answer but those that may come fails it.
    pub async fn run(self) -> Result<Outcome> {
        let thread = tokio::task::spawn_blocking(move || {
            runtime::Builder::new_current_thread().enable_all().build()?.block_on(self.send())
        });
        thread.await?
    }

    async fn send(self) -> Result<Outcome> {
        let mut callers = Vec::with_capacity(self.connections);
        for _ in 0..self.connections {
            let mut caller = Caller::connect(&self).await?;
            if matches!(self.pace, Pace::PerSecond(..)) {
                // It is accepted by then: how late answers are is not about new connections.
                caller.ask(0).await?;
            }
            callers.push(caller);
        }
        let started = Instant::now();
        let mut calls = JoinSet::new();
        let taken = Arc::new(AtomicUsize::new(0));
        let mut queues = Vec::new();
        for caller in callers {
            let turns = match self.pace {
                Pace::For(time) => Turns::Until(started + time, taken.clone()),
                Pace::Count(count) => Turns::Count(count, taken.clone()),
                Pace::PerSecond(..) => {
                    let (sender, receiver) = unbounded_channel();
                    queues.push(sender);
                    Turns::Due(receiver)
                }
            };
            calls.spawn(caller.call(turns));
        }
        if let Pace::PerSecond(rate, time) = self.pace {
            thread::spawn(move || beat(rate, time, &queues));
        }
        let mut outcome = Outcome::default();
        while let Some(call) = calls.join_next().await {
            let one = call??;
            outcome.requests += one.requests;
            outcome.bytes += one.bytes;
            outcome.latencies.extend(one.latencies);
        }
        outcome.elapsed = started.elapsed();
        outcome.latencies.sort_unstable();
        Ok(outcome)
    }
}

/// When a caller sends.
enum Turns {
    Until(Instant, Arc<AtomicUsize>),
    Count(usize, Arc<AtomicUsize>),
    Due(UnboundedReceiver<(usize, Instant)>),
}

impl Turns {
    /// The number of the request to send, and when it was due.
    async fn next(&mut self) -> Option<(usize, Instant)> {
        let now = Instant::now();
        match self {
            Self::Until(end, taken) => (now < *end).then(|| (taken.fetch_add(1, Ordering::Relaxed), now)),
            Self::Count(count, taken) => {
                let turn = taken.fetch_add(1, Ordering::Relaxed);
                (turn < *count).then_some((turn, now))
            }
            Self::Due(queue) => queue.recv().await,
        }
    }
}

/// Gives callers their turns, one after the other. The runtime's own timers are too coarse for it.
fn beat(rate: f64, time: Duration, callers: &[UnboundedSender<(usize, Instant)>]) {
    let started = Instant::now();
    let mut turns = (0_usize..).map(|turn| (turn, started + Duration::from_secs_f64(turn as f64 / rate))).peekable();
    while started.elapsed() < time {
        thread::sleep(BEAT);
        while let Some((turn, due)) = turns.next_if(|(_, due)| *due <= Instant::now()) {
            // One who failed says so itself.
            let _ = callers[turn % callers.len()].send((turn, due));
        }
    }
}

struct Caller {
    to: SocketAddr,
    stream: TcpStream,
    requests: Requests,
    accepted: Range<u16>,
    request: Vec<u8>,
    /// What was read and not looked at yet, at its front.
    buffer: Vec<u8>,
    filled: usize,
}

impl Caller {
    async fn connect(load: &Load) -> Result<Self> {
        Ok(Self {
            to: load.to,
            stream: connect(load.to).await?,
            requests: load.requests.clone(),
            accepted: if load.may_be_refused { 200..500 } else { 200..300 },
            request: Vec::new(),
            buffer: vec![0; READ],
            filled: 0,
        })
    }

    async fn call(mut self, mut turns: Turns) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        while let Some((turn, due)) = turns.next().await {
            outcome.bytes += self.ask(turn).await?;
            outcome.requests += 1;
            outcome.latencies.push(due.elapsed());
        }
        Ok(outcome)
    }

    /// Sends a request and reads its answer: the bytes of its body.
    async fn ask(&mut self, turn: usize) -> Result<u64> {
        self.request.clear();
        (self.requests)(turn, &mut self.request);
        self.stream.write_all(&self.request).await?;
        let (bytes, is_kept) = self.answer().await?;
        if !is_kept {
            self.stream = connect(self.to).await?;
            self.filled = 0;
        }
        Ok(bytes)
    }

    /// Reads an answer: the bytes of its body, and whether the connection may be used again.
    async fn answer(&mut self) -> Result<(u64, bool)> {
        let head = loop {
            if let Some(head) = Head::parse(&self.buffer[..self.filled])? {
                break head;
            }
            ensure!(self.filled < self.buffer.len(), "the answer's head is too large");
            self.read(self.filled).await?;
        };
        ensure!(self.accepted.contains(&head.status), "status {}", head.status);
        let mut left = head.body.saturating_sub((self.filled - head.length) as u64);
        self.filled = 0;
        while left > 0 {
            self.read(0).await?;
            left = left.saturating_sub(self.filled as u64);
            self.filled = 0;
        }
        Ok((head.body, head.is_kept))
    }

    async fn read(&mut self, at: usize) -> Result<()> {
        let read = self.stream.read(&mut self.buffer[at..]).await?;
        ensure!(read > 0, "closed before the answer's end");
        self.filled = at + read;
        Ok(())
    }
}

async fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(to).await.with_context(|| format!("connecting to {to}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

struct Head {
    status: u16,
    length: usize,
    body: u64,
    is_kept: bool,
}

impl Head {
    /// `None` while there is more to come of it.
    fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(length) = response.parse(bytes)? else { return Ok(None) };
        let header = |name: &str| response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        let Some(body) = header("content-length") else { bail!("an answer without a length") };
        let body = std::str::from_utf8(body.value)?.parse()?;
        let is_kept = header("connection").is_none_or(|header| !header.value.eq_ignore_ascii_case(b"close"));
        Ok(Some(Self { status: response.code.unwrap_or_default(), length, body, is_kept }))
    }
}
