//! One line of JSON for each request. A thread of its own writes, so that no request waits for a slow disk; where it
//! cannot keep up, lines are lost and counted.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Version;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tracing::warn;

/// Lines that may wait.
const QUEUE: usize = 8_192;
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// Which requests are written down. Those that were refused or failed always are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample(f64);

impl Sample {
    /// A share from 0 to 1.
    pub fn new(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then_some(Self(share))
    }
}

#[derive(Debug)]
pub struct AccessLog {
    sample: Sample,
    requests: AtomicU64,
    lost: Counter,
    queue: SyncSender<Message>,
}

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// What is told of a request. Neither headers nor the query: they hold tokens.
pub(crate) struct Line<'a> {
    pub(crate) time: SystemTime,
    pub(crate) client: &'a str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) protocol: Version,
    /// None where the caller went away before there was one.
    pub(crate) status: Option<u16>,
    pub(crate) check: Option<&'static str>,
    pub(crate) duration: Duration,
    pub(crate) bytes: u64,
    pub(crate) extension: Option<&'a str>,
    pub(crate) application: Option<&'a str>,
    pub(crate) project: Option<&'a str>,
    pub(crate) user: Option<&'a str>,
    pub(crate) backend: Option<String>,
    pub(crate) trace: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    /// Seconds since 1970.
    time: f64,
    client: &'a str,
    method: &'a str,
    path: &'a str,
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<&'static str>,
    duration_seconds: f64,
    response_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    extension: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    application: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
}

impl AccessLog {
    pub fn start(sample: Sample, writer: impl Write + Send + 'static) -> std::io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE);
        std::thread::Builder::new().name("access-log".into()).spawn(move || write(writer, &lines))?;
        Ok(Self { sample, requests: AtomicU64::new(0), lost: Counter::default(), queue })
    }

    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "argocd_extension_proxy_access_log_lost_lines",
            "Lines of the access log that were lost because it could not be written fast enough",
            self.lost.clone(),
        );
    }

    /// Waits until what was told so far is written.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.queue.send(Message::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(FLUSH_PATIENCE);
        }
    }

    pub(crate) fn write(&self, line: &Line<'_>) {
        let is_good = line.check.is_none() && line.status.is_some_and(|status| status < 500);
        if is_good && !self.is_sampled() {
            return;
        }
        let written = Written {
            time: line.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            client: line.client,
            method: line.method,
            path: line.path,
            protocol: if line.protocol == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" },
            status: line.status,
            check: line.check,
            duration_seconds: line.duration.as_secs_f64(),
            response_bytes: line.bytes,
            extension: line.extension,
            application: line.application,
            project: line.project,
            user: line.user,
            backend: line.backend.as_deref(),
            trace_id: line.trace.as_deref(),
        };
        let Ok(mut json) = serde_json::to_vec(&written) else { return };
        json.push(b'\n');
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Message::Line(json)) {
            self.lost.inc();
        }
    }

    /// Every so many requests one, so that the share holds exactly.
    fn is_sampled(&self) -> bool {
        let n = self.requests.fetch_add(1, Ordering::Relaxed) as f64;
        ((n + 1.0) * self.sample.0).floor() > (n * self.sample.0).floor()
    }
}

fn write(mut writer: impl Write, lines: &Receiver<Message>) {
    let mut is_failing = false;
    while let Ok(message) = lines.recv() {
        let outcome = match message {
            Message::Line(line) => writer.write_all(&line),
            Message::Flush(done) => {
                let flushed = writer.flush();
                let _ = done.send(());
                flushed
            }
        };
        match outcome {
            Ok(()) => is_failing = false,
            Err(error) if !std::mem::replace(&mut is_failing, true) => {
                warn!(%error, "the access log cannot be written");
            }
            Err(_) => {}
        }
    }
}
