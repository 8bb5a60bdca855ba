//! A folder of ordinary manifests.
//!
//! ```text
//! Watch (notify, polled as well) ──► "it changed and nobody is writing" ──► Folder::read ──► Inputs + verdicts
//! ```
//! A file or an object that cannot be read leaves its last readable version in effect, as an API server would
//! that refuses a bad manifest, and is reported.

pub(crate) mod manifests;
mod watch;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crds::Problem;

use crate::inputs::Inputs;
use crate::objects::{self, Interner};
use crate::verdict::{Place, Verdict};
use manifests::{Manifest, parse};
pub use watch::{LONGEST_WRITE, StopWatch, Watch};

/// A file that held objects and is empty is taken for one that is being written for so long.
const LONGEST_EMPTY: Duration = Duration::from_secs(1);
/// Folders within folders that are followed; more is a loop of links.
const MAX_DEPTH: usize = 16;

pub struct Folder {
    root: PathBuf,
    /// Of objects that name none: Argo CD's own.
    namespace: String,
    files: BTreeMap<PathBuf, File>,
    inputs: Inputs,
    interner: Interner,
    hasher: RandomState,
}

/// A file as it was read last.
#[derive(Default)]
struct File {
    /// Of the text that was seen last, readable or not.
    hash: Option<u64>,
    manifests: Vec<Manifest>,
    /// Why the text that was seen last, or a part of it, could not be read.
    problems: Vec<Problem>,
    /// Since when it is empty while what it held before stays in effect.
    emptied: Option<Instant>,
}

impl Folder {
    pub fn new(root: &Path, namespace: &str) -> Self {
        Self {
            root: root.to_owned(),
            namespace: namespace.to_owned(),
            files: BTreeMap::new(),
            inputs: Inputs::default(),
            interner: Interner::default(),
            hasher: RandomState::new(),
        }
    }

    /// Reads what changed since the last time. Fails only where the folder itself cannot be read.
    pub fn read(&mut self) -> io::Result<(&Inputs, Vec<Verdict>)> {
        let paths = manifest_files(&self.root)?;
        self.files.retain(|path, _| paths.contains(path));
        for path in paths {
            let file = self.files.entry(path.clone()).or_default();
            match std::fs::read(&path) {
                Ok(text) if file.may_be_about_to_be_written(&text) => {}
                Ok(text) => {
                    let hash = self.hasher.hash_one(&text);
                    if file.hash != Some(hash) {
                        file.hash = Some(hash);
                        file.take(&path, &text, &self.namespace, &mut self.interner);
                    }
                }
                // It went away since the folder was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.files.remove(&path);
                }
                Err(error) => {
                    file.hash = None;
                    file.problems = vec![file.unreadable(Problem::error("", error.to_string()))];
                }
            }
        }
        Ok(self.assemble())
    }

    /// When to read again although nothing may change until then.
    pub fn read_again_after(&self) -> Option<Duration> {
        let is_emptied = |file: &File| file.emptied.is_some() && !file.manifests.is_empty();
        self.files.values().any(is_emptied).then_some(LONGEST_EMPTY)
    }

    fn assemble(&mut self) -> (&Inputs, Vec<Verdict>) {
        let mut inputs = Inputs::default();
        let mut verdicts = Vec::new();
        for (path, file) in &self.files {
            let path = path.strip_prefix(&self.root).unwrap_or(path).display();
            if !file.problems.is_empty() {
                verdicts.push(Verdict::on(Place::new(format!("file {path}"), ""), file.problems.clone()));
            }
            for manifest in &file.manifests {
                let place = || {
                    let object = objects::describe(manifest.kind, &manifest.key);
                    Place::new(
                        object,
                        format!("({path}{})", manifest.line.map(|l| format!(":{l}")).unwrap_or_default()),
                    )
                };
                let object = match &manifest.object {
                    Ok(object) => Some(object.clone()),
                    Err(message) => {
                        let last = self.inputs.get(manifest.kind, &manifest.key);
                        let remedy = match last {
                            Some(_) => "; its last readable version stays in effect",
                            None => "; it is not in effect until this is corrected",
                        };
                        verdicts.push(Verdict::on(place(), vec![Problem::error("", format!("{message}{remedy}"))]));
                        last
                    }
                };
                if object.is_some_and(|object| !inputs.insert(manifest.key.clone(), object)) {
                    let message = "stands more than once in the folder; the last one counts";
                    verdicts.push(Verdict::on(place(), vec![Problem::warning("", message)]));
                }
            }
        }
        inputs.share_with(&self.inputs);
        self.inputs = inputs;
        (&self.inputs, verdicts)
    }
}

impl File {
    /// Most programs empty a file before they write it.
    fn may_be_about_to_be_written(&mut self, text: &[u8]) -> bool {
        if self.manifests.is_empty() || !text.trim_ascii().is_empty() {
            self.emptied = None;
            return false;
        }
        self.emptied.get_or_insert_with(Instant::now).elapsed() < LONGEST_EMPTY
    }

    fn take(&mut self, path: &Path, text: &[u8], namespace: &str, interner: &mut Interner) {
        match parse(path, text, namespace, interner) {
            Ok((manifests, problems)) => {
                self.manifests = manifests;
                self.problems = problems;
            }
            Err(problem) => self.problems = vec![self.unreadable(problem)],
        }
    }

    fn unreadable(&self, mut problem: Problem) -> Problem {
        problem.message.push_str(if self.manifests.is_empty() {
            "; nothing of this file is in effect until it is corrected"
        } else {
            "; its last readable version stays in effect"
        });
        problem
    }
}

/// Files named `*.yaml`, `*.yml` and `*.json` below the folder, links followed. Names that start with a dot are
/// passed over: so Kubernetes names the folders behind the links of a mounted ConfigMap.
pub(crate) fn manifest_files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    collect(root, 0, &mut files)?;
    files.sort();
    Ok(files)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if is_hidden(&path) {
            continue;
        }
        let is_manifest =
            path.extension().is_some_and(|extension| matches!(extension.to_str(), Some("yaml" | "yml" | "json")));
        if path.is_dir() {
            // One folder that cannot be listed must not hide the others.
            if depth < MAX_DEPTH
                && let Err(error) = collect(&path, depth + 1, files)
            {
                tracing::warn!(folder = %path.display(), %error, "a folder cannot be listed; its files do not count");
            }
        } else if is_manifest {
            files.push(path);
        }
    }
    Ok(())
}
