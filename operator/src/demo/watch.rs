//! `--watch`: each request as it was answered, with every check.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};

use anyhow::Result;
use dataplane::access_log::{AccessLog, Sample};
use dataplane::request::explain::{Call, Who, explain};
use dataplane::snapshot::SnapshotReceiver;
use futures_util::FutureExt;
use serde::Deserialize;

use crate::explain::checks;
use crate::run::Setup;

/// Reads the access log instead of a person.
pub(crate) struct Watcher(Arc<OnceLock<Watched>>);

struct Watched {
    snapshots: SnapshotReceiver,
    /// Of whoever is signed in.
    groups: Vec<String>,
}

impl Watcher {
    /// Takes the place of the access log.
    pub(crate) fn start(setup: &mut Setup) -> Result<Self> {
        let watched = Arc::new(OnceLock::new());
        let every = Sample::new(1.0);
        let reader = Reader(watched.clone());
        setup.access_log = every.map(|every| AccessLog::start(every, reader)).transpose()?;
        Ok(Self(watched))
    }

    pub(crate) fn watch(self, snapshots: SnapshotReceiver, groups: &[String]) {
        // There is one proxy.
        let _ = self.0.set(Watched { snapshots, groups: groups.to_vec() });
    }
}

struct Reader(Arc<OnceLock<Watched>>);

/// What of a line is shown.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    method: String,
    path: String,
    #[serde(default)]
    status: Option<u16>,
    #[serde(default)]
    check: Option<String>,
    duration_seconds: f64,
    #[serde(default)]
    extension: Option<String>,
    #[serde(default)]
    application: Option<String>,
    #[serde(default)]
    project: Option<String>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    backend: Option<String>,
}

impl Reader {
    fn tell(&self, line: &Line) -> String {
        let status = line.status.map_or_else(|| "gone".to_owned(), |status| status.to_string());
        let milliseconds = line.duration_seconds * 1000.0;
        let to = line.backend.as_ref().map(|backend| format!("  {backend}")).unwrap_or_default();
        let check = line.check.as_ref().map(|check| format!("  [{check}]")).unwrap_or_default();
        let head = format!("{} {}  {status}  {milliseconds:.1} ms{to}{check}\n", line.method, line.path);
        head + &self.checks(line).unwrap_or_default()
    }

    /// What decides such a request now, where it was found out who asks.
    fn checks(&self, line: &Line) -> Option<String> {
        let Watched { snapshots, groups } = self.0.get()?;
        let snapshot = snapshots.borrow().clone()?;
        let who = Who::User { name: line.user.as_deref()?, groups };
        let application = line.application.as_deref().zip(line.project.as_deref());
        let call = Call { extension: line.extension.as_deref()?, application };
        // Nobody has to be asked about somebody who has no token.
        explain(&snapshot, who, call).now_or_never().map(|explanation| checks(&explanation))
    }
}

impl Write for Reader {
    /// The access log writes whole lines.
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if let Ok(line) = serde_json::from_slice::<Line>(text) {
            writeln!(io::stdout(), "{}", self.tell(&line))?;
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}
