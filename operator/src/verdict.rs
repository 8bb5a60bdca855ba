//! What became of every entry of the configuration. Logs, `/status` and the start's report all read the same.

use std::fmt;

use crds::{Problem, ServiceStatus};
use serde::Serialize;

/// Where an entry stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place {
    /// `ConfigMap argocd/argocd-cm`, or a file.
    pub object: String,
    /// Key and position within the object; empty for the object as a whole.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub entry: String,
}

impl Place {
    pub fn new(object: impl Into<String>, entry: impl Into<String>) -> Self {
        Self { object: object.into(), entry: entry.into() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.object)?;
        if self.entry.is_empty() { Ok(()) } else { write!(f, " {}", self.entry) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// In effect.
    Accepted,
    /// Not in effect, because of itself.
    Invalid,
    /// Not in effect, because another extension has its name.
    Conflicted,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub place: Place,
    pub state: State,
    /// The extension that the entry is about, where it is about one.
    pub extension: Option<ExtensionReport>,
    pub problems: Vec<Problem>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExtensionReport {
    pub name: String,
    pub services: Vec<ServiceStatus>,
}

impl Verdict {
    /// About something that is no extension: accepted unless a problem is an error.
    pub fn on(place: Place, problems: Vec<Problem>) -> Self {
        let state = if problems.iter().any(Problem::is_error) { State::Invalid } else { State::Accepted };
        Self { place, state, extension: None, problems }
    }

    /// Lines for a person: one, or one for each problem.
    pub fn lines(&self) -> Vec<String> {
        let name = self.extension.as_ref().map(|extension| extension.name.as_str()).unwrap_or_default();
        let head = match (self.state, name) {
            (State::Accepted, "") => format!("ok        {}", self.place),
            (State::Accepted, name) => format!("serving   {name}  ({})", self.place),
            (State::Invalid, "") => format!("INVALID   {}", self.place),
            (State::Invalid, name) => format!("INVALID   {name}  ({})", self.place),
            (State::Conflicted, name) => format!("CONFLICT  {name}  ({})", self.place),
        };
        let services = self.extension.iter().flat_map(|extension| &extension.services).map(|service| {
            let cluster = service.cluster.as_ref().map(|c| format!("  for cluster {c}")).unwrap_or_default();
            format!("            -> {}{cluster}", service.url)
        });
        let problems = self.problems.iter().map(|problem| {
            let severity = if problem.is_error() { "error" } else { "warning" };
            format!("            {severity}: {problem}")
        });
        std::iter::once(head).chain(services).chain(problems).collect()
    }
}

impl Serialize for Verdict {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            severity: &'static str,
            #[serde(skip_serializing_if = "str::is_empty")]
            field: &'a str,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            line: Option<usize>,
        }
        #[derive(Serialize)]
        struct Shown<'a> {
            #[serde(flatten)]
            place: &'a Place,
            state: State,
            #[serde(flatten)]
            extension: Option<&'a ExtensionReport>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            problems: Vec<Line<'a>>,
        }
        let problems = self.problems.iter().map(|problem| Line {
            severity: if problem.is_error() { "error" } else { "warning" },
            field: &problem.field,
            message: &problem.message,
            line: problem.line,
        });
        let shown = Shown {
            place: &self.place,
            state: self.state,
            extension: self.extension.as_ref(),
            problems: problems.collect(),
        };
        shown.serialize(serializer)
    }
}
