//! Globs as Argo CD's policies and projects use them: `*`, `?`, `[a-c]`, `[!a]`, `{a,b}` and `\`.
//!
//! A star crosses every character, `/` included. A pattern that cannot be read matches nothing.
//!
//! A text is matched by the set of places in it that the pattern may have reached, one node of the pattern after the
//! other: no pattern takes more steps than it has nodes times the text has characters.

use std::sync::Arc;

use crate::effort::{Effort, Exhausted};

/// Depth of nested braces, so that no input can exhaust the stack.
const MAX_DEPTH: usize = 16;
/// Bytes that are compared in one step.
const BYTES_IN_A_STEP: usize = 16;

#[derive(Debug, Clone)]
pub struct Glob(Matcher);

#[derive(Debug, Clone)]
enum Matcher {
    Any,
    Literal(Box<str>),
    Prefix(Box<str>),
    /// `prefix*suffix`. The two may overlap in the text (`a/*/b` matches `a/b`), as in Argo CD.
    Around(Box<str>, Box<str>),
    Nodes(Arc<[Node]>),
    Nothing,
}

impl Glob {
    pub fn new(pattern: &str) -> Self {
        let Some(nodes) = Parser::new(pattern).parse() else {
            return Self(Matcher::Nothing);
        };
        Self(match nodes.as_slice() {
            [] => Matcher::Literal("".into()),
            [Node::Text(text)] => Matcher::Literal(text.as_str().into()),
            [Node::Star] => Matcher::Any,
            [Node::Text(text), Node::Star] => Matcher::Prefix(text.as_str().into()),
            [Node::Text(prefix), Node::Star, Node::Text(suffix)] => {
                Matcher::Around(prefix.as_str().into(), suffix.as_str().into())
            }
            _ => Matcher::Nodes(nodes.into()),
        })
    }

    /// What every text that it matches begins with.
    pub(crate) fn literal_start(&self) -> &str {
        match &self.0 {
            Matcher::Literal(start) | Matcher::Prefix(start) | Matcher::Around(start, _) => start,
            Matcher::Nodes(nodes) => match nodes.first() {
                Some(Node::Text(start)) => start,
                _ => "",
            },
            Matcher::Any | Matcher::Nothing => "",
        }
    }

    /// Whether the whole text matches.
    pub(crate) fn evaluate(&self, text: &str, effort: &mut Effort) -> Result<bool, Exhausted> {
        effort.spend(1)?;
        Ok(match &self.0 {
            Matcher::Any => true,
            Matcher::Literal(literal) => **literal == *text,
            Matcher::Prefix(prefix) => text.starts_with(&**prefix),
            Matcher::Around(prefix, suffix) => text.starts_with(&**prefix) && text.ends_with(&**suffix),
            Matcher::Nodes(nodes) => reach(nodes, text, vec![0], effort)?.last() == Some(&text.len()),
            Matcher::Nothing => false,
        })
    }
}

#[derive(Debug)]
enum Node {
    Text(String),
    Star,
    AnyChar,
    Class { negated: bool, items: Class },
    Alternatives(Vec<Vec<Node>>),
}

#[derive(Debug)]
enum Class {
    Range(char, char),
    List(String),
}

impl Class {
    fn contains(&self, c: char) -> bool {
        match self {
            Self::Range(low, high) => (*low..=*high).contains(&c),
            Self::List(list) => list.contains(c),
        }
    }
}

/// Where in the text the nodes may end when they start at one of these places. Places are in order.
fn reach(nodes: &[Node], text: &str, from: Vec<usize>, effort: &mut Effort) -> Result<Vec<usize>, Exhausted> {
    let mut places = from;
    for node in nodes {
        let Some(first) = places.first().copied() else { break };
        let steps = match node {
            Node::Text(literal) => places.len() * (1 + literal.len() / BYTES_IN_A_STEP),
            Node::Star => text.len() - first,
            Node::AnyChar => places.len(),
            Node::Class { items: Class::List(list), .. } => places.len() * (1 + list.len()),
            Node::Class { .. } | Node::Alternatives(_) => places.len(),
        };
        effort.spend(1 + steps)?;
        let after_char = |place: usize, is_wanted: &dyn Fn(char) -> bool| {
            text[place..].chars().next().filter(|c| is_wanted(*c)).map(|c| place + c.len_utf8())
        };
        places = match node {
            Node::Text(literal) => {
                let starts = places.into_iter().filter(|place| text[*place..].starts_with(literal.as_str()));
                starts.map(|place| place + literal.len()).collect()
            }
            Node::Star => (first..=text.len()).filter(|place| text.is_char_boundary(*place)).collect(),
            Node::AnyChar => places.into_iter().filter_map(|place| after_char(place, &|_| true)).collect(),
            Node::Class { negated, items } => {
                let is_wanted = |c| items.contains(c) != *negated;
                places.into_iter().filter_map(|place| after_char(place, &is_wanted)).collect()
            }
            Node::Alternatives(alternatives) => {
                let mut all = Vec::new();
                for alternative in alternatives {
                    all.extend(reach(alternative, text, places.clone(), effort)?);
                }
                all.sort_unstable();
                all.dedup();
                all
            }
        };
    }
    Ok(places)
}

struct Parser<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
}

impl<'a> Parser<'a> {
    fn new(pattern: &'a str) -> Self {
        Self { rest: pattern.chars().peekable() }
    }

    fn parse(mut self) -> Option<Vec<Node>> {
        self.sequence(0)
    }

    /// Nodes up to the end of the pattern or, within braces, up to the `,` or `}` that ends this alternative.
    fn sequence(&mut self, depth: usize) -> Option<Vec<Node>> {
        let mut nodes: Vec<Node> = Vec::new();
        while let Some(&c) = self.rest.peek() {
            if depth > 0 && (c == ',' || c == '}') {
                break;
            }
            self.rest.next();
            match c {
                '*' if matches!(nodes.last(), Some(Node::Star)) => {}
                '*' => nodes.push(Node::Star),
                '?' => nodes.push(Node::AnyChar),
                '[' => nodes.push(self.class()?),
                '{' if depth < MAX_DEPTH => nodes.push(self.alternatives(depth + 1)?),
                '{' => return None,
                // A trailing backslash stands for nothing.
                '\\' => self.rest.next().into_iter().for_each(|c| push_text(&mut nodes, c)),
                // Argo CD's matcher skips NUL characters; no name holds one.
                '\0' => {}
                c => push_text(&mut nodes, c),
            }
        }
        Some(nodes)
    }

    fn alternatives(&mut self, depth: usize) -> Option<Node> {
        let mut alternatives = Vec::new();
        loop {
            alternatives.push(self.sequence(depth)?);
            if self.rest.next()? == '}' {
                return Some(Node::Alternatives(alternatives));
            }
        }
    }

    /// After `[`: a range `a-c` or a list of characters, never both.
    fn class(&mut self) -> Option<Node> {
        let negated = self.rest.next_if_eq(&'!').is_some();
        let first = self.rest.next()?;
        if self.rest.next_if_eq(&'-').is_some() {
            let high = self.rest.next()?;
            let closed = self.rest.next()? == ']';
            return (closed && first <= high).then_some(Node::Class { negated, items: Class::Range(first, high) });
        }
        let mut list = String::new();
        let mut next = Some(first);
        loop {
            match next? {
                ']' => break,
                '\\' => list.push(self.rest.next()?),
                c => list.push(c),
            }
            next = self.rest.next();
        }
        (!list.is_empty()).then_some(Node::Class { negated, items: Class::List(list) })
    }
}

fn push_text(nodes: &mut Vec<Node>, c: char) {
    if let Some(Node::Text(text)) = nodes.last_mut() {
        text.push(c);
    } else {
        nodes.push(Node::Text(c.into()));
    }
}

#[cfg(test)]
mod tests;
