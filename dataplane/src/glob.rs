//! Globs as Argo CD's policies and projects use them: `*`, `?`, `[a-c]`, `[!a]`, `{a,b}` and `\`.
//!
//! A star crosses every character, `/` included. A pattern that cannot be read matches nothing.

use std::fmt::Write as _;

use regex::{Regex, RegexBuilder};

/// Memory that one compiled pattern may take. A pattern past it is an error where it is evaluated.
const SIZE_LIMIT: usize = 1 << 20;
/// Depth of nested braces, so that no input can exhaust the stack.
const MAX_DEPTH: usize = 16;

#[derive(Debug, Clone)]
pub struct Glob(Matcher);

#[derive(Debug, Clone)]
enum Matcher {
    Any,
    Literal(Box<str>),
    Prefix(Box<str>),
    /// `prefix*suffix`. The two may overlap in the text (`a/*/b` matches `a/b`), as in Argo CD.
    Around(Box<str>, Box<str>),
    Regex(Regex),
    Nothing,
    TooLarge,
}

/// The pattern is too large to be evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

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
            nodes => to_regex(nodes),
        })
    }

    /// Whether the whole text matches; a pattern that is too large to be evaluated never does.
    pub fn matches(&self, text: &str) -> bool {
        self.evaluate(text).unwrap_or(false)
    }

    pub fn evaluate(&self, text: &str) -> Result<bool, TooLarge> {
        Ok(match &self.0 {
            Matcher::Any => true,
            Matcher::Literal(literal) => **literal == *text,
            Matcher::Prefix(prefix) => text.starts_with(&**prefix),
            Matcher::Around(prefix, suffix) => text.starts_with(&**prefix) && text.ends_with(&**suffix),
            Matcher::Regex(regex) => regex.is_match(text),
            Matcher::Nothing => false,
            Matcher::TooLarge => return Err(TooLarge),
        })
    }

    /// Whether the pattern could be read at all.
    pub fn is_valid(&self) -> bool {
        !matches!(self.0, Matcher::Nothing | Matcher::TooLarge)
    }
}

enum Node {
    Text(String),
    Star,
    AnyChar,
    Class { negated: bool, items: Class },
    Alternatives(Vec<Vec<Node>>),
}

enum Class {
    Range(char, char),
    List(String),
}

fn to_regex(nodes: &[Node]) -> Matcher {
    let mut source = String::from(r"\A(?s:");
    write_nodes(nodes, &mut source);
    source.push_str(r")\z");
    RegexBuilder::new(&source)
        .size_limit(SIZE_LIMIT)
        .dfa_size_limit(SIZE_LIMIT)
        .build()
        .map_or(Matcher::TooLarge, Matcher::Regex)
}

fn write_nodes(nodes: &[Node], out: &mut String) {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(&regex::escape(text)),
            Node::Star => out.push_str(".*"),
            Node::AnyChar => out.push('.'),
            Node::Class { negated, items } => {
                out.push_str(if *negated { "[^" } else { "[" });
                match items {
                    Class::Range(low, high) => write_range(*low, *high, out),
                    Class::List(list) => list.chars().for_each(|c| write_range(c, c, out)),
                }
                out.push(']');
            }
            Node::Alternatives(alternatives) => {
                out.push_str("(?:");
                for (i, alternative) in alternatives.iter().enumerate() {
                    if i > 0 {
                        out.push('|');
                    }
                    write_nodes(alternative, out);
                }
                out.push(')');
            }
        }
    }
}

fn write_range(low: char, high: char, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = write!(out, r"\x{{{:x}}}-\x{{{:x}}}", low as u32, high as u32);
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
