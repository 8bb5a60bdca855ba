//! YAML as a tree that keeps what was written: the text of every scalar, and the line where it stands.
//!
//! Aliases and merge keys are resolved, within a bound on the size of the result, so that a few lines cannot
//! grow into gigabytes.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};
use serde_json::{Map, Number, Value};
use thiserror::Error;

/// Nodes that one document may have after its aliases are resolved.
const MAX_NODES: usize = 5_000_000;
/// The same for what aliases alone add, of all documents of a text.
const MAX_ALIASED_NODES: usize = 100_000;
const MAX_DEPTH: usize = 100;

#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub line: usize,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Scalar {
        text: String,
        /// Neither quoted nor a block: `null`, `5` and `true` then have their own meaning.
        plain: bool,
    },
    Sequence(Vec<Node>),
    /// Keys are unique and in the order in which they are written.
    Mapping(Vec<(Node, Node)>),
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {message}")]
pub struct YamlError {
    pub line: usize,
    pub message: String,
}

impl YamlError {
    fn new(line: usize, message: impl Into<String>) -> Self {
        Self { line, message: message.into() }
    }
}

/// The documents of a text, each with the line where it starts. Empty documents are left out.
pub fn documents(text: &str) -> Result<Vec<Node>, YamlError> {
    each_document(text).collect()
}

/// The same one after the other, since a tree takes many times the memory of its text. Ends with the first error.
pub fn each_document(text: &str) -> impl Iterator<Item = Result<Node, YamlError>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut loader = Loader { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0, aliased: 0 };
    let mut control_character = find_control_character(text);
    let mut is_broken = false;
    std::iter::from_fn(move || {
        if is_broken {
            return None;
        }
        let document = control_character.take().map_or_else(|| loader.document(), Err);
        is_broken = document.is_err();
        document.transpose()
    })
}

fn find_control_character(text: &str) -> Option<YamlError> {
    let at = text.find(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{85}'))?;
    let line = text[..at].matches('\n').count() + 1;
    Some(YamlError::new(line, "holds a control character"))
}

fn line(span: Span) -> usize {
    span.start.line().max(1)
}

struct Loader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    aliased: usize,
}

impl<'a> Loader<'a> {
    /// The next document that is not empty, if there is one more.
    fn document(&mut self) -> Result<Option<Node>, YamlError> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(None),
                Event::DocumentStart(_) => {
                    self.anchors.clear();
                    self.nodes = 0;
                    let (event, span) = self.next()?;
                    if event != Event::DocumentEnd {
                        return self.node(event, span, 0).map(Some);
                    }
                }
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                _ => {
                    return Err(YamlError::new(line(span), "has content outside of a document"));
                }
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), YamlError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(YamlError::new(error.marker().line().max(1), error.info())),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, YamlError> {
        let line = line(span);
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(YamlError::new(line, "is too large"));
        }
        if depth > MAX_DEPTH {
            return Err(YamlError::new(line, "is nested too deeply"));
        }
        let (kind, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => (scalar(&text, style, tag.as_deref(), line)?, anchor),
            Event::SequenceStart(anchor, _) => (self.sequence(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.mapping(line, depth)?, anchor),
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or_else(|| YamlError::new(line, "an alias names no anchor that is complete"))?;
                self.aliased += size(&node);
                if self.aliased > MAX_ALIASED_NODES {
                    return Err(YamlError::new(line, "aliases make the document too large"));
                }
                return Ok(Node { line, ..node });
            }
            _ => return Err(YamlError::new(line, "ends unexpectedly")),
        };
        let node = Node { line, kind };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn sequence(&mut self, depth: usize) -> Result<Kind, YamlError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Kind::Sequence(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, start: usize, depth: usize) -> Result<Kind, YamlError> {
        let mut entries: Vec<(Node, Node)> = Vec::new();
        let mut merged: Vec<Node> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            match &key.kind {
                Kind::Scalar { text, plain: true } if text == "<<" => merged.push(value),
                Kind::Scalar { text, .. } => {
                    if let Some((earlier, _)) = entries.iter().find(|(k, _)| k.text() == Some(text)) {
                        let message = format!("the key {text:?} stands already at line {}", earlier.line);
                        return Err(YamlError::new(key.line, message));
                    }
                    entries.push((key, value));
                }
                _ => return Err(YamlError::new(key.line, "a key must be text")),
            }
        }
        merge(&mut entries, merged, start)?;
        Ok(Kind::Mapping(entries))
    }
}

/// Adds what `<<` names: the mapping's own keys come first, earlier merges before later ones.
fn merge(entries: &mut Vec<(Node, Node)>, merged: Vec<Node>, line: usize) -> Result<(), YamlError> {
    for node in merged {
        let sources = match node.kind {
            Kind::Sequence(items) => items,
            kind => vec![Node { line: node.line, kind }],
        };
        for source in sources {
            let Kind::Mapping(more) = source.kind else {
                return Err(YamlError::new(line, "the merge key << must name a mapping"));
            };
            for (key, value) in more {
                if !entries.iter().any(|(k, _)| k.text() == key.text()) {
                    entries.push((key, value));
                }
            }
        }
    }
    Ok(())
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, line: usize) -> Result<Kind, YamlError> {
    let core = tag.filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix.as_str());
    if core == Some("binary") {
        let packed: String = text.split_whitespace().collect();
        let decoded = STANDARD.decode(packed).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let text = decoded.ok_or_else(|| YamlError::new(line, "!!binary holds no base64 of a text"))?;
        return Ok(Kind::Scalar { text, plain: false });
    }
    let plain = style == ScalarStyle::Plain && core != Some("str");
    Ok(Kind::Scalar { text: text.to_owned(), plain })
}

fn size(node: &Node) -> usize {
    1 + match &node.kind {
        Kind::Scalar { .. } => 0,
        Kind::Sequence(items) => items.iter().map(size).sum(),
        Kind::Mapping(entries) => entries.iter().map(|(_, value)| 1 + size(value)).sum(),
    }
}

impl Node {
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Mapping(entries) => entries.iter().find(|(k, _)| k.text() == Some(key)).map(|(_, value)| value),
            _ => None,
        }
    }

    /// For messages: what stands here.
    pub fn describe(&self) -> &'static str {
        match self.kind {
            Kind::Scalar { .. } if self.is_null() => "nothing",
            Kind::Scalar { .. } => "a text",
            Kind::Sequence(_) => "a list",
            Kind::Mapping(_) => "a mapping",
        }
    }

    /// As JSON, with plain scalars read by YAML's core schema.
    pub fn into_json(self) -> Value {
        match self.kind {
            Kind::Scalar { text, plain } => scalar_json(text, plain),
            Kind::Sequence(items) => Value::Array(items.into_iter().map(Node::into_json).collect()),
            Kind::Mapping(entries) => {
                let pair = |(key, value): (Node, Node)| match key.kind {
                    Kind::Scalar { text, .. } => Some((text, value.into_json())),
                    _ => None,
                };
                Value::Object(entries.into_iter().filter_map(pair).collect::<Map<_, _>>())
            }
        }
    }
}

fn scalar_json(text: String, plain: bool) -> Value {
    if !plain {
        return Value::String(text);
    }
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => number(&text).map_or(Value::String(text), Value::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    if let Ok(integer) = text.parse::<i64>() {
        return Some(integer.into());
    }
    if let Ok(integer) = text.parse::<u64>() {
        return Some(integer.into());
    }
    text.parse::<f64>().ok().and_then(Number::from_f64)
}

#[cfg(test)]
mod tests;
