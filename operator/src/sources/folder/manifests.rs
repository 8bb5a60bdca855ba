//! The objects that a file holds.

use std::path::Path;

use crds::Problem;
use serde_json::Value;

use crate::objects::{self, Interner, Object, ObjectKey, ObjectKind};
use crate::yaml;

/// One object as a file says it.
pub(crate) struct Manifest {
    pub(crate) kind: ObjectKind,
    pub(crate) key: ObjectKey,
    pub(crate) line: Option<usize>,
    pub(crate) object: Result<Object, String>,
}

/// The objects of the kinds that are read, and what is wrong with what else stands there. An error where the
/// text cannot be read at all.
pub(crate) fn parse(
    path: &Path,
    text: &[u8],
    namespace: &str,
    interner: &mut Interner,
) -> Result<(Vec<Manifest>, Vec<Problem>), Problem> {
    let text = std::str::from_utf8(text).map_err(|_| Problem::error("", "is not UTF-8 text"))?;
    let mut reader = Reader { namespace, interner, manifests: Vec::new(), problems: Vec::new() };
    if path.extension().is_some_and(|extension| extension == "json") {
        let document = serde_json::from_str(text)
            .map_err(|error| Problem::error("", format!("is no JSON: {}", classify(&error))).at(Some(error.line())))?;
        reader.document(document, None);
    } else {
        for document in yaml::each_document(text) {
            let document = document.map_err(|error| Problem::error("", error.message).at(Some(error.line)))?;
            let line = Some(document.line);
            reader.document(document.into_json(), line);
        }
    }
    Ok((reader.manifests, reader.problems))
}

/// What kind of error it is. The error's own text may quote the document, and with it a secret.
fn classify(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        _ => "a syntax error",
    }
}

struct Reader<'a> {
    namespace: &'a str,
    interner: &'a mut Interner,
    manifests: Vec<Manifest>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn document(&mut self, document: Value, line: Option<usize>) {
        let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if kind.is_empty() {
            let message = "is no Kubernetes object: kind is missing, so that it is passed over";
            return self.problems.push(Problem::warning("", message).at(line));
        }
        if kind.ends_with("List")
            && let Value::Object(mut list) = document
        {
            if let Some(Value::Array(items)) = list.remove("items") {
                for item in items {
                    self.item(item, &api_version, kind.trim_end_matches("List"), line);
                }
            }
            return;
        }
        self.object(document, &api_version, &kind, line);
    }

    /// An item of a list may leave out what the list says.
    fn item(&mut self, item: Value, api_version: &str, kind: &str, line: Option<usize>) {
        let text = |key: &str, default: &str| item.get(key).and_then(Value::as_str).unwrap_or(default).to_owned();
        let (api_version, kind) = (text("apiVersion", api_version), text("kind", kind));
        self.object(item, &api_version, &kind, line);
    }

    fn object(&mut self, object: Value, api_version: &str, kind: &str, line: Option<usize>) {
        let Some(kind) = ObjectKind::of(api_version, kind) else {
            return;
        };
        let Some(key) = objects::key_of(&object, self.namespace) else {
            let message = format!("the {} has no metadata.name", kind.as_str());
            return self.problems.push(Problem::error("metadata.name", message).at(line));
        };
        let object = objects::decode(kind, object, self.interner);
        self.manifests.push(Manifest { kind, key, line, object });
    }
}
