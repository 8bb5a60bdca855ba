//! Tells when a folder changed and nobody is writing to it any more.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tracing::warn;

use super::{is_hidden, manifest_files};

/// Changes that follow each other more closely are read together.
const QUIET: Duration = Duration::from_millis(10);
/// A file that was modified so recently may be written to still, whatever was noticed of it.
const FRESH: Duration = Duration::from_millis(25);
/// However many follow.
const LONGEST_GATHERING: Duration = Duration::from_millis(50);
/// A file that is being written is waited for, but not for ever.
pub const LONGEST_WRITE: Duration = Duration::from_millis(200);
/// What the system's notices cannot show is looked for as often: links whose targets lie elsewhere, network drives.
const POLL: Duration = Duration::from_secs(2);

enum Signal {
    Changed(notify::Result<notify::Event>),
    Stop,
}

/// Ends the watch when dropped.
pub struct StopWatch(Sender<Signal>);

impl Drop for StopWatch {
    fn drop(&mut self) {
        let _ = self.0.send(Signal::Stop);
    }
}

pub struct Watch {
    root: PathBuf,
    watcher: Option<RecommendedWatcher>,
    signals: Receiver<Signal>,
    sender: Sender<Signal>,
    fingerprint: Vec<Fingerprint>,
    /// Files that were written to and not closed yet, and since when.
    being_written: HashMap<PathBuf, Instant>,
    stopped: bool,
}

/// What tells one state of a file from another.
#[derive(PartialEq)]
struct Fingerprint {
    path: PathBuf,
    file: (u64, u64),
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Fingerprint {
    fn is_fresh(&self) -> bool {
        let (seconds, nanos) = self.modified;
        let since_1970 = u64::try_from(seconds).unwrap_or(0);
        let modified = UNIX_EPOCH + Duration::new(since_1970, u32::try_from(nanos).unwrap_or(0));
        // A time in the future comes from another machine's clock.
        SystemTime::now().duration_since(modified).is_ok_and(|age| age < FRESH)
    }
}

impl Watch {
    pub fn new(root: &Path) -> (Self, StopWatch) {
        let (sender, signals) = mpsc::channel();
        let stop = StopWatch(sender.clone());
        let mut watch = Self {
            root: root.to_owned(),
            watcher: None,
            signals,
            sender,
            fingerprint: fingerprint(root),
            being_written: HashMap::new(),
            stopped: false,
        };
        watch.look_again();
        (watch, stop)
    }

    /// Waits for a change and until it is complete, or for as long as `at_most`. `false` once stopped.
    pub fn changed(&mut self, at_most: Option<Duration>) -> bool {
        while !self.stopped {
            match self.signals.recv_timeout(at_most.unwrap_or(POLL)) {
                Ok(signal) => {
                    if self.note(signal) {
                        self.settle();
                        return !self.stopped;
                    }
                }
                Err(RecvTimeoutError::Timeout) if at_most.is_some() => return true,
                Err(RecvTimeoutError::Timeout) => {
                    let now = fingerprint(&self.root);
                    if now != self.fingerprint {
                        // The notices did not show it: they come from a place that is not this folder any more.
                        self.look_again();
                        self.fingerprint = now;
                        return true;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        false
    }

    /// Whether something changes still, so that what was read since [`Self::changed`] returned may be half of it.
    /// Notices come late: a file that was modified just now counts as well.
    pub fn changes_still(&mut self) -> bool {
        let mut changes = false;
        while let Ok(signal) = self.signals.try_recv() {
            changes |= self.note(signal);
        }
        self.fingerprint = fingerprint(&self.root);
        if changes || self.fingerprint.iter().any(Fingerprint::is_fresh) {
            self.settle();
            return !self.stopped;
        }
        false
    }

    fn settle(&mut self) {
        let started = Instant::now();
        while !self.stopped {
            self.being_written.retain(|_, since| since.elapsed() < LONGEST_WRITE);
            let gathering = started.elapsed();
            let wait = if !self.being_written.is_empty() {
                QUIET
            } else if gathering < LONGEST_GATHERING {
                QUIET.min(LONGEST_GATHERING - gathering)
            } else {
                return;
            };
            match self.signals.recv_timeout(wait) {
                Ok(signal) => {
                    self.note(signal);
                }
                Err(_) if self.being_written.is_empty() => return,
                Err(_) => {}
            }
        }
    }

    /// Whether the signal tells of a change.
    fn note(&mut self, signal: Signal) -> bool {
        let event = match signal {
            Signal::Stop => {
                self.stopped = true;
                return false;
            }
            Signal::Changed(Ok(event)) => event,
            Signal::Changed(Err(error)) => {
                warn!(folder = %self.root.display(), %error, "changes of the folder may be seen late");
                return true;
            }
        };
        match event.kind {
            // What was written under another name is complete when it gets its own.
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Remove(_) => {
                for path in &event.paths {
                    self.being_written.remove(path);
                }
                true
            }
            EventKind::Access(_) => false,
            EventKind::Modify(ModifyKind::Data(_)) => {
                for path in event.paths.into_iter().filter(|path| !is_hidden(path)) {
                    self.being_written.entry(path).or_insert_with(Instant::now);
                }
                true
            }
            _ => true,
        }
    }

    fn look_again(&mut self) {
        self.watcher = None;
        self.being_written.clear();
        let sender = self.sender.clone();
        let watcher = notify::recommended_watcher(move |event| {
            // Without a receiver nobody wants to know any more.
            let _ = sender.send(Signal::Changed(event));
        })
        .and_then(|mut watcher| watcher.watch(&self.root, RecursiveMode::Recursive).map(|()| watcher));
        match watcher {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => {
                let every = POLL.as_secs();
                warn!(folder = %self.root.display(), %error, "the system cannot tell of changes; looking every {every} s");
            }
        }
    }
}

/// Follows links, as the notices do not.
fn fingerprint(root: &Path) -> Vec<Fingerprint> {
    let files = manifest_files(root).unwrap_or_default();
    let of = |path: PathBuf| {
        let metadata = std::fs::metadata(&path).ok()?;
        Some(Fingerprint {
            path,
            file: (metadata.dev(), metadata.ino()),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    };
    files.into_iter().filter_map(of).collect()
}
