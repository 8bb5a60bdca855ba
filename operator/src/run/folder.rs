//! The thread that reads the folder again whenever it changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use tokio::sync::oneshot;
use tracing::error;

use crate::controller::{Controller, Report};
use crate::sources::folder::{Folder, LONGEST_WRITE, StopWatch, Watch};

pub(super) struct FolderThread {
    stop: StopWatch,
    /// Resolves when the thread is gone, for whatever reason.
    ended: oneshot::Receiver<()>,
    thread: std::thread::JoinHandle<()>,
}

impl FolderThread {
    /// Reads the folder once, then follows it. Fails where it cannot be read at all.
    pub(super) fn start(folder: &Path, mut controller: Controller) -> Result<(Self, Arc<Report>)> {
        // The watch comes first: no change between reading and watching is missed.
        let (watch, stop) = Watch::new(folder);
        let mut reader = Folder::new(folder, &controller.options().namespace);
        let (inputs, verdicts) =
            reader.read().with_context(|| format!("the folder {} cannot be read", folder.display()))?;
        let report = controller.apply(inputs, verdicts);
        let (held_while_alive, ended) = oneshot::channel::<()>();
        let mut follower = Follower { folder: folder.to_owned(), reader, controller };
        let thread = std::thread::Builder::new().name("folder".into()).spawn(move || {
            let _alive = held_while_alive;
            follower.follow(watch);
        })?;
        Ok((Self { stop, ended, thread }, report))
    }

    pub(super) async fn ended(&mut self) {
        let _ = (&mut self.ended).await;
    }

    pub(super) fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            error!("the thread that reads the folder ended abnormally");
        }
    }
}

struct Follower {
    folder: PathBuf,
    reader: Folder,
    controller: Controller,
}

impl Follower {
    fn follow(&mut self, mut watch: Watch) {
        while watch.changed(self.reader.read_again_after()) {
            let started = Instant::now();
            let mut reading = self.reader.read();
            // What was read while it was written may be half of it.
            while watch.changes_still() && started.elapsed() < LONGEST_WRITE {
                reading = self.reader.read();
            }
            match reading {
                Ok((inputs, verdicts)) => {
                    self.controller.apply(inputs, verdicts);
                }
                Err(error) => {
                    let folder = self.folder.display();
                    error!(%folder, %error, "the folder cannot be read; what was read last stays in effect");
                }
            }
        }
    }
}
