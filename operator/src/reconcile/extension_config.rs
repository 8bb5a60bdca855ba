//! `extension.config` and `extension.config.<name>` of `argocd-cm`, read into drafts.

use std::collections::BTreeMap;

use crds::draft::{BackendDraft, ClusterDraft, HeaderDraft, ServiceDraft, Text};
use crds::{Problem, Reason, check_name};

use super::references::References;
use crate::yaml::{self, Kind, Node};

const KEY: &str = "extension.config";

/// The last text of each key that was readable YAML.
pub(super) type ReadableTexts = BTreeMap<String, String>;

/// One entry, whatever became of it.
pub(super) struct Entry {
    /// Key and position: `extension.config[2]`.
    pub(super) place: String,
    /// Empty where it has none.
    pub(super) name: String,
    pub(super) backend: BackendDraft,
    pub(super) problems: Vec<Problem>,
}

/// A finding about a key as a whole.
pub(super) struct KeyFinding {
    pub(super) key: String,
    pub(super) problem: Problem,
}

/// Reads every key. A key whose text cannot be read keeps the entries of its last readable text.
pub(super) fn read(
    config: &BTreeMap<String, String>,
    references: &References<'_>,
    readable: &mut ReadableTexts,
) -> (Vec<Entry>, Vec<KeyFinding>) {
    let (mut entries, mut findings) = (Vec::new(), Vec::new());
    readable.retain(|key, _| config.contains_key(key));
    for (key, text) in config {
        let Some(suffix) = key.strip_prefix(KEY) else {
            continue;
        };
        let document = match document(text) {
            Ok(document) => {
                readable.insert(key.clone(), text.clone());
                document
            }
            Err(mut problem) => {
                let last = readable.get(key).and_then(|text| document_of(text));
                problem.message.push_str(match last {
                    Some(_) => "; the last readable version stays in effect",
                    None => "; nothing of this key is served until it is corrected",
                });
                findings.push(KeyFinding { key: key.clone(), problem });
                let Some(last) = last else { continue };
                last
            }
        };
        let reader = Reader { references };
        if suffix.is_empty() {
            reader.main(key, &document, &mut entries, &mut findings);
        } else {
            entries.push(reader.named(key, suffix, &document));
        }
    }
    (entries, findings)
}

/// The mapping that a text holds; an empty one where it holds nothing.
fn document(text: &str) -> Result<Node, Problem> {
    let documents = yaml::documents(text).map_err(|error| Problem::error("", error.message).at(Some(error.line)))?;
    match documents.into_iter().next() {
        None => Ok(Node { line: 1, kind: Kind::Mapping(Vec::new()) }),
        Some(node) if node.is_null() => Ok(Node { line: node.line, kind: Kind::Mapping(Vec::new()) }),
        Some(node) if matches!(node.kind, Kind::Mapping(_)) => Ok(node),
        Some(node) => {
            Err(Problem::error("", format!("must be a mapping, not {}", node.describe())).at(Some(node.line)))
        }
    }
}

fn document_of(text: &str) -> Option<Node> {
    document(text).ok()
}

struct Reader<'a> {
    references: &'a References<'a>,
}

impl Reader<'_> {
    fn main(&self, key: &str, document: &Node, entries: &mut Vec<Entry>, findings: &mut Vec<KeyFinding>) {
        let mut problems = Vec::new();
        let [list] = fields(document, ["extensions"], "", &mut problems);
        match list.map(|list| (&list.kind, list)) {
            None => {}
            Some((Kind::Sequence(items), _)) => {
                entries.extend(items.iter().enumerate().map(|(i, item)| self.entry(&format!("{key}[{i}]"), item)));
            }
            Some((_, list)) => problems.push(
                Problem::error("extensions", format!("must be a list, not {}", list.describe())).at(Some(list.line)),
            ),
        }
        findings.extend(problems.into_iter().map(|problem| KeyFinding { key: key.to_owned(), problem }));
    }

    /// An item of `extensions`: a name and a backend.
    fn entry(&self, place: &str, node: &Node) -> Entry {
        let mut problems = Vec::new();
        let mut entry =
            Entry { place: place.into(), name: String::new(), backend: BackendDraft::default(), problems: vec![] };
        if !is_mapping(node, "", &mut problems) {
            return Entry { problems, ..entry };
        }
        let [name, backend] = fields(node, ["name", "backend"], "", &mut problems);
        if let Some(name) = name.and_then(|node| self.text(node, "name", &mut problems)) {
            if let Err(error) = check_name(&name.value) {
                problems.push(Problem::error("name", format!("{:?}: {error}", name.shown())).at(name.line));
            }
            entry.name = if name.reference.is_some() && check_name(&name.value).is_err() {
                name.shown().into()
            } else {
                name.value
            };
        } else if !problems.iter().any(|problem| problem.field == "name" && problem.is_error()) {
            problems.push(Problem::error("name", "must be given").at(Some(node.line)));
        }
        if let Some(backend) = backend {
            entry.backend = self.backend(backend, &mut problems);
        }
        Entry { problems, ..entry }
    }

    /// `extension.config.<name>`: the backend itself.
    fn named(&self, key: &str, suffix: &str, document: &Node) -> Entry {
        let mut problems = Vec::new();
        let name = suffix.strip_prefix('.').unwrap_or(suffix).to_owned();
        if let Err(error) = check_name(&name) {
            problems.push(Problem::error("", format!("the name {name:?} in the key: {error}")));
        }
        if !suffix.starts_with('.') {
            problems.push(Problem::warning("", format!("the key should be {KEY}.{name}")));
        }
        let backend = self.backend(document, &mut problems);
        Entry { place: key.into(), name, backend, problems }
    }

    fn backend(&self, node: &Node, problems: &mut Vec<Problem>) -> BackendDraft {
        if !is_mapping(node, "backend", problems) {
            return BackendDraft::default();
        }
        let [timeout, keep_alive, idle_timeout, max_idle, services, nested] = fields(
            node,
            [
                "connectionTimeout",
                "keepAlive",
                "idleConnectionTimeout",
                "maxIdleConnections",
                "services",
                "proxyconfig",
            ],
            "backend",
            problems,
        );
        let nested = nested.filter(|node| is_mapping(node, "backend.proxyconfig", problems));
        let nested_names = ["connectionTimeout", "keepAlive", "idleConnectionTimeout", "maxIdleConnections"];
        let [nested_timeout, nested_keep_alive, nested_idle_timeout, nested_max_idle] =
            nested.map_or([None; 4], |node| fields(node, nested_names, "backend.proxyconfig", problems));
        BackendDraft {
            connection_timeout: self.optional(timeout.or(nested_timeout), "backend.connectionTimeout", problems),
            keep_alive: self.optional(keep_alive.or(nested_keep_alive), "backend.keepAlive", problems),
            idle_connection_timeout: self.optional(
                idle_timeout.or(nested_idle_timeout),
                "backend.idleConnectionTimeout",
                problems,
            ),
            max_idle_connections: self.number(max_idle.or(nested_max_idle), problems),
            services: self.services(services, problems),
            ..BackendDraft::default()
        }
    }

    fn services(&self, node: Option<&Node>, problems: &mut Vec<Problem>) -> Vec<ServiceDraft> {
        let items = list(node, "backend.services", problems);
        let read = |(i, item)| self.service(item, &format!("backend.services[{i}]"), problems);
        items.iter().enumerate().map(read).collect()
    }

    fn service(&self, node: &Node, path: &str, problems: &mut Vec<Problem>) -> ServiceDraft {
        if !is_mapping(node, path, problems) {
            return ServiceDraft::default();
        }
        let [url, cluster, headers] = fields(node, ["url", "cluster", "headers"], path, problems);
        let headers_path = format!("{path}.headers");
        let header_nodes = list(headers, &headers_path, problems);
        ServiceDraft {
            url: self.optional(url, &format!("{path}.url"), problems),
            cluster: cluster.and_then(|node| self.cluster(node, &format!("{path}.cluster"), problems)),
            headers: header_nodes
                .iter()
                .enumerate()
                .map(|(i, node)| self.header(node, &format!("{headers_path}[{i}]"), problems))
                .collect(),
            ..ServiceDraft::default()
        }
    }

    fn cluster(&self, node: &Node, path: &str, problems: &mut Vec<Problem>) -> Option<ClusterDraft> {
        if !is_mapping(node, path, problems) {
            return None;
        }
        let [name, server] = fields(node, ["name", "server"], path, problems);
        Some(ClusterDraft {
            name: self.optional(name, &format!("{path}.name"), problems),
            server: self.optional(server, &format!("{path}.server"), problems),
            selector: None,
        })
    }

    fn header(&self, node: &Node, path: &str, problems: &mut Vec<Problem>) -> HeaderDraft {
        if !is_mapping(node, path, problems) {
            return HeaderDraft::default();
        }
        let [name, value] = fields(node, ["name", "value"], path, problems);
        HeaderDraft {
            name: self.optional(name, &format!("{path}.name"), problems),
            value: self.optional(value, &format!("{path}.value"), problems),
            secret: None,
        }
    }

    fn number(&self, node: Option<&Node>, problems: &mut Vec<Problem>) -> Option<Text> {
        let node = node?;
        if matches!(&node.kind, Kind::Scalar { plain: false, .. }) {
            problems.push(
                Problem::error("backend.maxIdleConnections", "must be a number without quotes").at(Some(node.line)),
            );
            return None;
        }
        self.optional(Some(node), "backend.maxIdleConnections", problems)
    }

    fn optional(&self, node: Option<&Node>, path: &str, problems: &mut Vec<Problem>) -> Option<Text> {
        node.and_then(|node| self.text(node, path, problems))
    }

    /// A scalar's text, or the value that it refers to.
    fn text(&self, node: &Node, path: &str, problems: &mut Vec<Problem>) -> Option<Text> {
        let Some(text) = node.text() else {
            problems.push(Problem::error(path, format!("must be a text, not {}", node.describe())).at(Some(node.line)));
            return None;
        };
        let line = Some(node.line);
        match self.references.resolve(text) {
            None => Some(Text { value: text.to_owned(), reference: None, line }),
            Some(Ok(value)) => Some(Text { value, reference: Some(text.to_owned()), line }),
            Some(Err(why)) => {
                problems.push(Problem::error(path, format!("{text:?}: {why}")).at(line).because(Reason::RefNotFound));
                None
            }
        }
    }
}

fn is_mapping(node: &Node, path: &str, problems: &mut Vec<Problem>) -> bool {
    let is_mapping = matches!(node.kind, Kind::Mapping(_));
    if !is_mapping && !node.is_null() {
        problems.push(Problem::error(path, format!("must be a mapping, not {}", node.describe())).at(Some(node.line)));
    }
    is_mapping
}

fn list<'n>(node: Option<&'n Node>, path: &str, problems: &mut Vec<Problem>) -> &'n [Node] {
    match node.map(|node| (&node.kind, node)) {
        None => &[],
        Some((Kind::Sequence(items), _)) => items,
        Some((_, node)) => {
            problems.push(Problem::error(path, format!("must be a list, not {}", node.describe())).at(Some(node.line)));
            &[]
        }
    }
}

/// The values of the known fields, nothing where they are null; every other field is a warning.
fn fields<'n, const N: usize>(
    node: &'n Node,
    known: [&str; N],
    path: &str,
    problems: &mut Vec<Problem>,
) -> [Option<&'n Node>; N] {
    let Kind::Mapping(entries) = &node.kind else {
        return [None; N];
    };
    for (key, _) in entries {
        let name = key.text().unwrap_or_default();
        if known.contains(&name) {
            continue;
        }
        let meant = known.iter().find(|known| known.eq_ignore_ascii_case(name));
        let message = match meant {
            Some(meant) => {
                format!("the field {name:?} is not known and has no effect; {meant:?} is meant?")
            }
            None => format!("the field {name:?} is not known and has no effect"),
        };
        problems.push(Problem::warning(path, message).at(Some(key.line)));
    }
    known.map(|name| node.get(name).filter(|node| !node.is_null()))
}
