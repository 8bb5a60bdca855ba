//! `validate`: what is wrong with manifests that are not in effect yet, for a pull request's checks.
//!
//! The files are read and reconciled as a folder's would be. Each problem is told with the line of the file that it is
//! about.

mod locate;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use crds::{Problem, Reason};
use serde::Serialize;

use crate::inputs::Inputs;
use crate::objects::{self, Interner, ObjectKey, ObjectKind};
use crate::reconcile::{Memory, ReconcileOptions, reconcile};
use crate::sources::folder::{manifest_files, manifests};
use crate::verdict::Verdict;
use crate::yaml::{self, Kind, Node};

/// Standard input's name.
const STDIN: &str = "-";

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<usize>,
    pub(crate) severity: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) object: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) entry: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) field: String,
    pub(crate) message: String,
}

impl Finding {
    pub(crate) fn is_error(&self) -> bool {
        self.severity == "error"
    }
}

/// A text with the name that findings have for it.
struct Source {
    name: String,
    path: PathBuf,
    text: Vec<u8>,
}

/// Where an object stands.
struct Place {
    file: String,
    /// None of a JSON document.
    document: Option<Node>,
}

/// Findings about the files, and how many extensions would be served. What is referred to and is not among the files
/// is a warning unless it is asked for strictly: Secrets seldom are.
pub(crate) fn validate(
    paths: &[PathBuf],
    options: &ReconcileOptions,
    is_strict: bool,
) -> Result<(Vec<Finding>, usize)> {
    let mut findings = Vec::new();
    let mut inputs = Inputs::default();
    let mut places: BTreeMap<String, Place> = BTreeMap::new();
    let mut interner = Interner::default();
    for source in read(paths)? {
        let parsed = manifests::parse(&source.path, &source.text, &options.namespace, &mut interner);
        let (manifests, problems) = match parsed {
            Ok(parsed) => parsed,
            Err(problem) => (Vec::new(), vec![problem]),
        };
        findings.extend(problems.iter().map(|problem| finding(&source.name, problem.line, "", "", problem)));
        let mut documents = documents(&source);
        for manifest in manifests {
            let object = objects::describe(manifest.kind, &manifest.key);
            let document = documents.iter().position(|document| is_of(document, manifest.kind, &manifest.key));
            let document = document.map(|i| documents.swap_remove(i));
            match manifest.object {
                Ok(decoded) => {
                    if !inputs.insert(manifest.key, decoded) {
                        let problem = Problem::error("", "stands more than once among the files");
                        findings.push(finding(&source.name, manifest.line, &object, "", &problem));
                    }
                    places.insert(object, Place { file: source.name.clone(), document });
                }
                Err(message) => {
                    let (field, message) = message.split_once(": ").unwrap_or(("", &message));
                    let problem = Problem::error(field, message);
                    let line = document.as_ref().and_then(|document| locate::field(document, field)).or(manifest.line);
                    findings.push(finding(&source.name, line, &object, "", &problem));
                }
            }
        }
    }
    let outcome = reconcile(&inputs, options, &Memory::default());
    for verdict in &outcome.verdicts {
        // What is said about objects that are not among the files is not these files' affair.
        if let Some(place) = places.get(&verdict.place.object) {
            findings.extend(verdict.problems.iter().map(|problem| about(place, verdict, problem, is_strict)));
        }
    }
    findings.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    Ok((findings, outcome.snapshot.extensions.len()))
}

fn about(place: &Place, verdict: &Verdict, problem: &Problem, is_strict: bool) -> Finding {
    let document = place.document.as_ref();
    let line = document.and_then(|document| locate::problem(document, &verdict.place.entry, problem));
    let mut finding = finding(&place.file, line, &verdict.place.object, &verdict.place.entry, problem);
    if problem.reason == Reason::RefNotFound && !is_strict {
        finding.severity = "warning";
        finding.message.push_str(" (not among these files; --strict makes this an error)");
    }
    finding
}

fn finding(file: &str, line: Option<usize>, object: &str, entry: &str, problem: &Problem) -> Finding {
    Finding {
        file: file.to_owned(),
        line,
        severity: if problem.is_error() { "error" } else { "warning" },
        object: object.to_owned(),
        entry: entry.to_owned(),
        field: problem.field.clone(),
        message: problem.message.clone(),
    }
}

/// The objects of a file, those of lists one by one.
fn documents(source: &Source) -> Vec<Node> {
    let text = std::str::from_utf8(&source.text).ok().filter(|_| !is_json(&source.path));
    let documents = text.and_then(|text| yaml::documents(text).ok()).unwrap_or_default();
    documents.into_iter().flat_map(objects_of).collect()
}

fn objects_of(document: Node) -> Vec<Node> {
    let is_list = document.get("kind").and_then(Node::text).is_some_and(|kind| kind.ends_with("List"));
    match document.kind {
        Kind::Mapping(fields) if is_list => {
            let items = fields.into_iter().find(|(name, _)| name.text() == Some("items"));
            match items.map(|(_, items)| items.kind) {
                Some(Kind::Sequence(items)) => items,
                _ => Vec::new(),
            }
        }
        _ => vec![document],
    }
}

fn is_of(document: &Node, kind: ObjectKind, key: &ObjectKey) -> bool {
    let name = document.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Node::text);
    let is_kind = document.get("kind").and_then(Node::text).is_none_or(|text| text == kind.as_str());
    is_kind && name == Some(key.name.as_str())
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

fn read(paths: &[PathBuf]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in paths {
        if path == Path::new(STDIN) {
            let mut text = Vec::new();
            std::io::stdin().read_to_end(&mut text).context("reading standard input")?;
            sources.push(Source { name: "<stdin>".into(), path: path.clone(), text });
            continue;
        }
        let files = if path.is_dir() {
            manifest_files(path).with_context(|| format!("reading {}", path.display()))?
        } else {
            vec![path.clone()]
        };
        for file in files {
            let text = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
            sources.push(Source { name: file.display().to_string(), path: file, text });
        }
    }
    Ok(sources)
}

/// For people: `file:line: severity: object entry field: message`.
pub(crate) fn as_text(finding: &Finding) -> String {
    let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
    let what: Vec<&str> = [&finding.object, &finding.entry, &finding.field]
        .into_iter()
        .map(String::as_str)
        .filter(|part| !part.is_empty())
        .collect();
    let what = if what.is_empty() { String::new() } else { format!("{}: ", what.join(" ")) };
    format!("{}{line}: {}: {what}{}", finding.file, finding.severity, finding.message)
}

/// For GitHub, which shows it beside the line.
pub(crate) fn as_github(finding: &Finding) -> String {
    let escaped = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| escaped(text).replace(':', "%3A").replace(',', "%2C");
    let line = finding.line.map(|line| format!(",line={line}")).unwrap_or_default();
    let title = property(&format!("{} {}", finding.object, finding.entry));
    let field = if finding.field.is_empty() { String::new() } else { format!("{}: ", finding.field) };
    let message = escaped(&format!("{field}{}", finding.message));
    format!("::{} file={}{line},title={}::{message}", finding.severity, property(&finding.file), title.trim())
}
