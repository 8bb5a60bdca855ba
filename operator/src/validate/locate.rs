//! The line of a file that a problem is about.

use crds::Problem;

use crate::yaml::{Kind, Node};

/// Within a key of a ConfigMap, or at a field.
pub(super) fn problem(document: &Node, entry: &str, problem: &Problem) -> Option<usize> {
    // `extension.config[2]` is an entry of the key `extension.config`.
    let key = entry.split('[').next().unwrap_or_default();
    let text = document.get("data").and_then(|data| data.get(key)).filter(|_| !key.is_empty());
    match (text, problem.line) {
        // A text's node stands where its first line does.
        (Some(text), Some(line)) => Some(text.line + line.saturating_sub(1)),
        (Some(text), None) => Some(text.line),
        (None, _) => field(document, &problem.field).or(Some(document.line)),
    }
}

/// The node of a path such as `spec.backend.services[0].url`, or what of it is there.
pub(super) fn field(document: &Node, path: &str) -> Option<usize> {
    if path.is_empty() {
        return None;
    }
    let is_rooted = path.starts_with("spec") || path.starts_with("metadata") || path.starts_with("data");
    let mut node = if is_rooted { document } else { document.get("spec")? };
    let mut line = None;
    for part in path.split(['.', '[']) {
        let part = part.trim_end_matches(']');
        let next = match (&node.kind, part.parse::<usize>()) {
            (Kind::Sequence(items), Ok(i)) => items.get(i),
            (Kind::Sequence(items), Err(_)) => {
                items.iter().find(|item| item.get("name").and_then(Node::text) == Some(part))
            }
            _ => node.get(part),
        };
        let Some(next) = next else { break };
        node = next;
        line = Some(next.line);
    }
    line
}
