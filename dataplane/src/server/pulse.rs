//! One clock for all of a worker's connections, which goes on every few seconds. It is exact enough to part with
//! callers who send nothing, and costs a request less than a timer of its own, set and removed each time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// How often it goes on.
pub(super) const BEAT: Duration = Duration::from_secs(5);

pub(super) struct Pulse {
    started: Instant,
    /// Milliseconds from the start to the last beat.
    elapsed: AtomicU64,
    beats: Notify,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { started: Instant::now(), elapsed: AtomicU64::new(0), beats: Notify::new() }
    }
}

impl Pulse {
    pub(super) fn beat(&self) {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.elapsed.store(elapsed, Ordering::Relaxed);
        self.beats.notify_waiters();
    }

    /// Ready with the first beat from now on.
    pub(super) fn next(&self) -> Notified<'_> {
        self.beats.notified()
    }

    /// The time of the last beat.
    pub(super) fn last(&self) -> Instant {
        self.started + Duration::from_millis(self.elapsed.load(Ordering::Relaxed))
    }

    /// What it may be by now at the latest, so that nobody gets less time than is said.
    pub(super) fn now(&self) -> Instant {
        self.last() + BEAT
    }
}

/// For those who are polled with each beat, whatever they wait for.
pub(super) struct PulseTimer(pub(super) Arc<Pulse>);

impl Timer for PulseTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Wait { pulse: self.0.clone(), deadline })
    }

    fn now(&self) -> Instant {
        self.0.now()
    }
}

struct Wait {
    pulse: Arc<Pulse>,
    deadline: Instant,
}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.pulse.last() >= self.deadline { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Sleep for Wait {}
